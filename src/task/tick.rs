//! Ticks: 32-bit millisecond dates that wrap, and the 64-bit dates in which
//! the wheels count.

/// "No date".
pub const ETERNITY: i32 = 0;

/// The 64-bit date of `tick`, which lies within 2^31 ms of `now`.
// KEEPS: INV-55
#[inline]
pub fn unwrap(tick: i32, now: u64) -> u64 {
    let ahead = (tick as u32).wrapping_sub(now as u32) as i32;
    now.wrapping_add_signed(i64::from(ahead))
}

/// The tick of a 64-bit date. A date that would read as "none" becomes the
/// millisecond before: a wake-up may be early, never late.
#[inline]
pub fn wrap(date: u64) -> i32 {
    match date as u32 as i32 {
        ETERNITY => -1,
        tick => tick,
    }
}

/// The earlier of two ticks, ignoring unset ones.
// KEEPS: INV-55
#[inline]
pub fn first(a: i32, b: i32) -> i32 {
    if a == ETERNITY {
        b
    } else if b == ETERNITY || (a.wrapping_sub(b)) <= 0 {
        a
    } else {
        b
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    // SHOWS: INV-55
    #[test]
    fn dates_survive_the_wrap() {
        for now in [1u64 << 33, (1 << 33) - 5, (1 << 33) + (1 << 31) - 5] {
            for ahead in [-100_000i64, -1, 1, 5, 10, 100_000] {
                let date = now.wrapping_add_signed(ahead);
                let back = unwrap(wrap(date), now);
                assert!(back == date || (date as u32 == 0 && back == date - 1));
            }
        }
    }

    // SHOWS: INV-55
    #[test]
    fn first_ignores_unset_and_wraps() {
        assert_eq!(first(ETERNITY, 5), 5);
        assert_eq!(first(5, ETERNITY), 5);
        assert_eq!(first(ETERNITY, ETERNITY), ETERNITY);
        assert_eq!(first(-3, 4), -3);
        assert_eq!(first(i32::MAX, i32::MIN), i32::MAX);
    }
}
