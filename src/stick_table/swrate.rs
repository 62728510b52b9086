//! Sliding averages: one word holds the sum of about the last `n` samples.
//!
//! Each sample first takes a share of 1/n away, rounded up, so that a sum of
//! zero samples reaches zero. All is computed in 64 bits: sums never wrap, in
//! either direction, and reach up to 2^32 - 1 (INV-125).

use crate::sync::atomic::{AtomicU32, Ordering};

/// The sum after `times` samples of `value` at once: the n-th part is taken
/// away once for each, of the sum before them.
fn after(sum: u32, n: u32, value: u32, times: u32) -> u32 {
    let times = u64::from(times);
    let share = match n {
        0 => 0,
        n => (u64::from(sum) * times).div_ceil(u64::from(n)),
    };
    // More samples at once than the average is long: nothing old is left.
    let rest = u64::from(sum).saturating_sub(share);
    let sum = rest.saturating_add(u64::from(value) * times);
    u32::try_from(sum).unwrap_or(u32::MAX)
}

/// Adds a sample to the average over `n`: the new sum. `n` may change between
/// two calls, and may be 0: then nothing is taken away.
#[inline]
pub fn add(sum: &AtomicU32, n: u32, value: u32) -> u32 {
    add_scaled(sum, n, value, 1)
}

/// Adds `times` equal samples at once: the new sum.
pub fn add_scaled(sum: &AtomicU32, n: u32, value: u32, times: u32) -> u32 {
    let mut old = sum.load(Ordering::Relaxed);
    loop {
        let new = after(old, n, value, times);
        match sum.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return new,
            Err(other) => old = other,
        }
    }
}

/// The same, unless another thread adds a sample meanwhile: then these are
/// dropped. The sum afterwards.
pub fn add_scaled_opportunistic(sum: &AtomicU32, n: u32, value: u32, times: u32) -> u32 {
    let old = sum.load(Ordering::Relaxed);
    let new = after(old, n, value, times);
    match sum.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => new,
        Err(other) => other,
    }
}

/// The average, rounded up.
pub fn average(sum: u32, n: u32) -> u32 {
    sum.div_ceil(n.max(1))
}
