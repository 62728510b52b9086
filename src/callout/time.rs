//! sbintime and its granules: arithmetic only.
//!
//! sbintime counts seconds of CLOCK_MONOTONIC in 32.32 fixed point. The wheel
//! counts granules of 2^18 such units, 1/16384 s.

use crate::sys::clock;

/// Seconds since CLOCK_MONOTONIC's 0, 32.32 fixed point.
pub type Sbt = i64;

/// One second.
pub const SECOND: Sbt = 1 << 32;

/// Run during the wheel's scan, before what else is due.
pub const C_DIRECT_EXEC: i32 = 0x0001;
/// Count from the last tick.
pub const C_HARDCLOCK: i32 = 0x0100;
/// The date is absolute.
pub const C_ABSOLUTE: i32 = 0x0200;
/// Date and precision come from `when`.
pub const C_PRECALC: i32 = 0x0400;

/// log2 of a granule in units of sbintime.
const GRANULE: u32 = 18;
/// log2 of the granules in a second.
const GRANULES: u32 = 32 - GRANULE;
/// An interval tolerates this fraction of itself: a sixteenth.
const TOLERANCE: u32 = 4;
/// Intervals of so many ticks are counted from a tick.
const COARSE: i64 = 16;

/// A CLOCK_MONOTONIC date in nanoseconds, rounded down.
#[inline]
pub const fn from_ns(ns: u64) -> Sbt {
    clock::fraction(ns) as Sbt
}

/// The granule that `date` lies in.
#[inline]
pub const fn granule(date: Sbt) -> u64 {
    if date < 0 { 0 } else { date as u64 >> GRANULE }
}

/// The first nanosecond of `granule`, rounded up: one that has slept until
/// then finds itself in it.
// KEEPS: CINV-28
#[inline]
pub const fn to_ns(granule: u64) -> u64 {
    let ns = ((granule as u128) * 1_000_000_000).div_ceil(1 << GRANULES);
    if ns > u64::MAX as u128 {
        u64::MAX
    } else {
        ns as u64
    }
}

/// When a callout becomes due, in granules: not before `time`, and not later
/// than `window` after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first granule that begins at or after the date.
    pub time: u64,
    /// Granules until the last one in the first half of the precision. The other
    /// half is for the thread: to wake up, and to run what is due before.
    pub window: u32,
}

impl Window {
    /// The granules that begin between `date` and `date + precision / 2`.
    // KEEPS: CINV-10
    #[inline]
    pub const fn new(date: Sbt, precision: Sbt) -> Self {
        let date = if date < 0 { 0 } else { date as u64 };
        let precision = if precision < 0 { 0 } else { precision as u64 };
        // Neither sum leaves 64 bits: both terms are below 2^63.
        let time = (date + ((1 << GRANULE) - 1)) >> GRANULE;
        let last = (date + precision / 2) >> GRANULE;
        let window = last.saturating_sub(time);
        Self {
            time,
            window: if window > u32::MAX as u64 {
                u32::MAX
            } else {
                window as u32
            },
        }
    }
}

/// A tick's length, and what it takes to divide by it quickly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// In sbintime.
    pub length: Sbt,
    /// 2^64 / length, rounded down.
    inverse: u64,
}

impl Tick {
    /// `hz` per second, 1 to 2^31.
    pub const fn new(hz: u32) -> Self {
        let length = SECOND / hz as Sbt;
        Self {
            length,
            inverse: u64::MAX / length as u64,
        }
    }

    /// The last tick at or before `date`, which is not negative.
    #[inline]
    pub const fn before(self, date: Sbt) -> Sbt {
        let n = ((date as u128 * self.inverse as u128) >> 64) as Sbt;
        let mut tick = n * self.length;
        // The quotient is at most two too small.
        while date - tick >= self.length {
            tick += self.length;
        }
        tick
    }
}

/// The precision that an interval has by itself, or by C_PREL in `flags`.
const fn own_precision(interval: Sbt, flags: i32) -> Sbt {
    let prel = (flags >> 1) & 0x7f;
    let shift = if prel == 0 {
        TOLERANCE
    } else {
        prel as u32 - 1
    };
    if shift > 62 { 0 } else { interval >> shift }
}

/// The date and the precision that `interval`, `precision` and `flags` stand
/// for; `now` reads the clock.
#[inline]
pub fn when(
    interval: Sbt,
    precision: Sbt,
    flags: i32,
    tick: Tick,
    now: impl FnOnce() -> Sbt,
) -> (Sbt, Sbt) {
    if flags & (C_ABSOLUTE | C_PRECALC) != 0 {
        return (interval, precision);
    }
    let hardclock = flags & C_HARDCLOCK != 0;
    let interval = if hardclock {
        interval.max(tick.length)
    } else {
        interval
    };
    let now = now();
    let base = if hardclock {
        tick.before(now)
    } else if interval >= COARSE * tick.length {
        // Counted from the tick before now, so one more: never early.
        tick.before(now) + tick.length
    } else {
        now
    };
    (
        base.saturating_add(interval),
        precision.max(own_precision(interval, flags)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Sbt = SECOND / 1000;

    #[test]
    fn ticks_are_multiples() {
        for hz in [1, 3, 100, 1000, 1024, 1_000_000] {
            let t = Tick::new(hz);
            for date in [
                0,
                1,
                t.length - 1,
                t.length,
                7 * t.length,
                Sbt::MAX / 2,
                Sbt::MAX,
            ] {
                for date in [date, date - date.min(1), date.saturating_add(1)] {
                    assert_eq!(t.before(date), date - date % t.length);
                }
            }
        }
    }

    /// SHOWS: CINV-28
    #[test]
    fn a_sleeper_wakes_inside_its_granule() {
        for g in [0, 1, 2, 3, 16_383, 16_384, 1 << 30, (1 << 45) - 1] {
            let ns = to_ns(g);
            assert!(granule(from_ns(ns)) >= g);
            assert!(ns == 0 || granule(from_ns(ns - 1)) < g);
        }
    }

    /// SHOWS: CINV-10
    #[test]
    fn windows_are_never_early() {
        let dates = [
            -1,
            0,
            1,
            (1 << 18) - 1,
            1 << 18,
            SECOND,
            Sbt::MAX - 1,
            Sbt::MAX,
        ];
        for date in dates {
            for precision in [-1, 0, 1, 1 << 18, SECOND, Sbt::MAX] {
                let w = Window::new(date, precision);
                assert!((w.time as u128) << 18 >= date.max(0) as u128);
                let last = (w.time as u128 + w.window as u128) << 18;
                let end = date.max(0) as u128 + precision.max(0) as u128 / 2;
                assert!(w.window == 0 || last <= end);
            }
        }
    }

    #[test]
    fn a_tick_tolerates_a_granule() {
        let (date, precision) = when(TICK, 0, C_HARDCLOCK, Tick::new(1000), || 5 * TICK + 7);
        assert_eq!((date, precision), (6 * TICK, TICK >> 4));
        assert!(precision >= 1 << 18);
    }

    #[test]
    fn short_intervals_count_from_now_and_long_ones_from_a_tick() {
        let now = 100 * TICK + 77;
        let f = |interval, flags| when(interval, 0, flags, Tick::new(1000), || now).0;
        assert_eq!(f(15 * TICK, 0), now + 15 * TICK);
        assert_eq!(f(16 * TICK, 0), 100 * TICK + 17 * TICK);
        assert_eq!(f(0, C_HARDCLOCK), 101 * TICK);
        assert_eq!(f(-5, C_HARDCLOCK), 101 * TICK);
        assert_eq!(f(Sbt::MAX, 0), Sbt::MAX);
        assert_eq!(f(Sbt::MIN + 1, 0), now + (Sbt::MIN + 1));
    }

    #[test]
    fn precision_is_the_larger_of_two() {
        let p = |precision, flags| when(SECOND, precision, flags, Tick::new(1000), || 0).1;
        assert_eq!(p(0, 0), SECOND >> 4);
        assert_eq!(p(SECOND, 0), SECOND);
        for x in [0, 1, 5, 31] {
            assert_eq!(p(0, (x + 1) << 1), SECOND >> x);
        }
        assert_eq!(p(3, (126 + 1) << 1), 3);
        assert_eq!(p(9, C_ABSOLUTE), 9);
        assert_eq!(p(0, C_PRECALC), 0);
    }
}
