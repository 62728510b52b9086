//! How many objects a pool needs, and how many free ones are worth keeping.
//! Arithmetic only.

/// How many of the objects that leave a cache stay in the pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As many as the pool is likely to need.
    Needed,
    /// As many as `minavail` asks for.
    Floor,
    /// None.
    Nothing,
}

/// The sliding average covers about this many samples.
pub(super) const SAMPLES: u64 = 1024;

/// The weight of an allocation from the system: it says more about the need
/// than a release does.
pub(super) const ALLOC_WEIGHT: u64 = SAMPLES / 4;

/// The sum after `weight` samples of `value`. The sum's share is taken off
/// before anything is added, so it can neither wrap below zero nor pass
/// `SAMPLES` times the largest value.
// KEEPS: INV-15
pub(super) fn feed(sum: u64, value: u64, weight: u64) -> u64 {
    debug_assert!(weight <= SAMPLES);
    sum - (sum * weight).div_ceil(SAMPLES) + value * weight
}

/// The average that a sum stands for.
pub(super) fn average(sum: u64) -> u64 {
    sum.div_ceil(SAMPLES)
}

/// How many objects that leave a cache may go to the shared list; the others
/// go to the system.
// KEEPS: INV-11
pub(super) fn releasable(allocated: u64, used: u64, needed_sum: u64, minavail: u64) -> u64 {
    // The two counters are not one snapshot. What is used was allocated.
    let allocated = allocated.max(used);
    let free = allocated - used;
    if allocated < average(needed_sum + needed_sum / 4) {
        used
    } else {
        minavail.saturating_sub(free).min(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHOWS: INV-11
    #[test]
    fn pool_8_releasable_follows_the_need() {
        assert_eq!(releasable(100, 60, 90 * SAMPLES, 0), 60);
        assert_eq!(releasable(100, 60, 70 * SAMPLES, 50), 10);
        assert_eq!(releasable(100, 60, 70 * SAMPLES, 0), 0);
        // A torn snapshot: allocated is raised to used, never the reverse.
        assert_eq!(releasable(60, 100, 70 * SAMPLES, 0), 0);
        assert_eq!(releasable(60, 100, 90 * SAMPLES, 0), 100);
        assert_eq!(releasable(100, 3, 0, 1000), 3);
    }

    // SHOWS: INV-15
    #[test]
    fn pool_13_the_average_never_wraps() {
        assert_eq!(feed(0, 100, 256), 25600);
        assert_eq!(average(25600), 25);
        for sum in 0..5000 {
            for weight in [1, 255, 256, 1023, 1024] {
                assert!(feed(sum, 0, weight) <= sum);
                assert!(feed(sum, 1, weight) <= sum.max(SAMPLES));
            }
        }
    }

    #[test]
    fn a_constant_need_is_found() {
        let mut sum = 0;
        for _ in 0..20_000 {
            sum = feed(sum, 100, 1);
        }
        assert!((99..=100).contains(&average(sum)), "{}", average(sum));
        for _ in 0..20_000 {
            sum = feed(sum, 0, 1);
        }
        assert_eq!(average(sum), 0);
    }
}
