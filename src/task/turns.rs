//! Whose turn it is, where any thread of a set would do.

use crate::sync::atomic::{AtomicU32, Ordering};

// The golden section of 2^32. By such steps around a circle all parts of it
// are met about equally often: also by who takes every other one.
const STEP: u32 = 0x9e37_79b9;

/// Which threads were last asked. Everybody writes it, so it has a cache line
/// of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Turns(AtomicU32);

impl Turns {
    /// Nobody was.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The next two of `set`, which are the same where there is but one. It
    /// is not empty.
    pub fn next_two(&self, set: u64) -> (usize, usize) {
        let place = u64::from(self.0.fetch_add(STEP, Ordering::Relaxed));
        let skip = (place * u64::from(set.count_ones())) >> 32;
        let mut rest = set;
        for _ in 0..skip {
            rest &= rest - 1;
        }
        let one = rest.trailing_zeros();
        rest &= rest - 1;
        let other = if rest != 0 { rest } else { set }.trailing_zeros();
        (one as usize, other as usize)
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of `set` comes first in `n` turns, by steps of `step`.
    fn counts(set: u64, n: u32, step: u32) -> [u32; 64] {
        let turns = Turns::new();
        let mut counts = [0; 64];
        for i in 0..n * step {
            let (one, other) = turns.next_two(set);
            assert_eq!(one == other, set.count_ones() == 1);
            assert!(set & (1 << one) != 0 && set & (1 << other) != 0);
            if i % step == 0 {
                counts[one] += 1;
            }
        }
        counts
    }

    #[test]
    fn all_of_a_set_have_their_turns() {
        for set in [1, 1 << 63, 3, 0b1010_0100, u64::MAX >> 7, u64::MAX] {
            let each = 100;
            let n = each * set.count_ones();
            for step in [1, 2, 3] {
                for (k, count) in counts(set, n, step).into_iter().enumerate() {
                    if set & (1 << k) != 0 {
                        assert!(count.abs_diff(each) <= each / 10, "{set:#x}: {k}: {count}");
                    }
                }
            }
        }
    }
}
