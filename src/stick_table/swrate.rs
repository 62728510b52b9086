//! Sliding averages: one word holds the sum of about the last `n` samples.
//!
//! Each sample first takes a share of 1/n away, rounded up, so that a sum of
//! zero samples reaches zero. All is computed in 64 bits: sums never wrap, in
//! either direction, and reach up to 2^32 - 1 (INV-125).

use crate::sync::atomic::{AtomicU32, Ordering};

/// The sum after `times` samples of `value` at once: the n-th part is taken
/// away once for each, of the sum before them.
// KEEPS: INV-125
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

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // SHOWS: INV-125
    #[test]
    fn worked_values() {
        let sum = AtomicU32::new(0);
        assert_eq!(add_scaled(&sum, 1024, 100, 256), 25_600);
        assert_eq!(average(25_600, 1024), 25);
        assert_eq!(average(25_601, 1024), 26);
    }

    #[test]
    fn a_constant_is_its_own_average() {
        for (n, value) in [(1, 7), (16, 100), (1000, 1), (1024, 4_000_000)] {
            let sum = AtomicU32::new(0);
            for _ in 0..20 * n {
                add(&sum, n, value);
            }
            let end = sum.load(Ordering::Relaxed);
            assert_eq!(average(end, n), value, "{n} samples of {value}");
            // And zeros lead to zero.
            for _ in 0..40 * n {
                add(&sum, n, 0);
            }
            assert_eq!(sum.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn an_old_sample_decays() {
        let sum = AtomicU32::new(1_000_000_000);
        for _ in 0..1000 {
            add(&sum, 1000, 0);
        }
        let left = f64::from(sum.load(Ordering::Relaxed)) / 1e9;
        assert!((left - (-1f64).exp()).abs() < 0.001, "{left}");
    }

    // Averages of which the product with n does not fit.
    // SHOWS: INV-125
    #[test]
    fn stk_54_large_averages() {
        let sum = AtomicU32::new(0);
        for _ in 0..20 * 512 {
            add(&sum, 512, 1_000_000);
        }
        let end = sum.load(Ordering::Relaxed);
        assert_eq!(average(end, 512), 1_000_000);
        // The largest: 2^32 / n.
        let sum = AtomicU32::new(u32::MAX);
        assert_eq!(add(&sum, 512, 1 << 23), u32::MAX);
        assert_eq!(average(u32::MAX, 512), 1 << 23);
        assert_eq!(average(u32::MAX, 1), u32::MAX);
    }

    // Nothing below zero, scaled or not.
    // SHOWS: INV-125
    #[test]
    fn pool_13_sums_near_zero() {
        for start in 0..5 {
            for times in [0, 1, 2, 1000, 5000, u32::MAX] {
                let sum = AtomicU32::new(start);
                assert!(add_scaled(&sum, 1024, 0, times) <= start);
            }
        }
    }

    #[test]
    fn without_n_it_is_a_sum() {
        let sum = AtomicU32::new(5);
        assert_eq!(add(&sum, 0, 10), 15);
        assert_eq!(add(&sum, 0, u32::MAX), u32::MAX);
        assert_eq!(average(15, 0), 15);
    }

    #[test]
    fn opportunities_alone_are_taken() {
        let sum = AtomicU32::new(0);
        assert_eq!(add_scaled_opportunistic(&sum, 1024, 100, 256), 25_600);
        assert_eq!(add_scaled_opportunistic(&sum, 1024, 100, 1), 25_675);
        assert_eq!(sum.load(Ordering::Relaxed), 25_675);
    }

    // SHOWS: INV-125
    #[test]
    fn no_thread_loses_a_sample() {
        let sum = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| (0..10_000).for_each(|_| _ = add(&sum, 0, 2)));
            }
        });
        assert_eq!(sum.into_inner(), 60_000);
    }

    proptest! {
        #[test]
        fn exactly_the_formula(start: u32, n: u32, value: u32, times in prop_oneof![1u32..2000, any::<u32>()]) {
            let share = match i128::from(n) {
                0 => 0,
                n => (i128::from(start) * i128::from(times) + n - 1) / n,
            };
            let rest = (i128::from(start) - share).max(0);
            let exact = rest + i128::from(value) * i128::from(times);
            let exact = exact.min(u32::MAX.into());
            let sum = AtomicU32::new(start);
            prop_assert_eq!(i128::from(add_scaled(&sum, n, value, times)), exact);
            prop_assert_eq!(i128::from(sum.load(Ordering::Relaxed)), exact);
        }
    }
}
