//! Frequency counters: how many events in the last period, as a linear sliding
//! window over two counts.
//!
//! The start date is the word that rules the others. Even: events are added to
//! the current count by whoever comes. Odd: one thread rotates the counts, and
//! nobody else begins to. Additions need no lock, since the rotation takes the
//! current count by one exchange: what is added before it counts in the
//! previous period, what is added after it in the new one (INV-121).
//!
//! Dates are milliseconds that wrap. Threads may know them a little late, so a
//! late one adds, but the common clock alone decides that a period is over; it
//! is read after the start date, and therefore never before it (INV-120).
//! Zeroed memory is an empty counter.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{model_point, spin_hint};

/// In the start date: the counts are being rotated.
const ROTATING: u32 = 1;
/// Shorter periods count as this one: start dates are even.
const MIN_PERIOD: u32 = 2;

/// Where counters take the date from.
pub trait Clock {
    /// The calling thread's date, where it keeps one; others' may be later.
    fn near(&self) -> Option<u32>;

    /// The process's date. Not before any that this thread has seen another
    /// one use, nor before [`near`](Self::near).
    fn common(&self) -> u32;
}

/// A counter. The period is its user's to remember, and must not change.
#[derive(Debug)]
#[repr(C)]
pub struct FreqCtr {
    /// When the current period began.
    start: AtomicU32,
    /// Events since then.
    current: AtomicU32,
    /// Events of the period before.
    previous: AtomicU32,
}

/// What [`FreqCtr::begin`] found.
#[must_use]
enum Rotation {
    /// The caller rotates, and must [`finish`](FreqCtr::finish).
    Ours,
    /// Somebody does, or has just begun to.
    Theirs,
}

impl FreqCtr {
    /// Without events.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            start: AtomicU32::new(0),
            current: AtomicU32::new(0),
            previous: AtomicU32::new(0),
        }
    }

    /// With these contents.
    pub fn with(values: Values) -> Self {
        Self {
            start: AtomicU32::new(values.start),
            current: AtomicU32::new(values.current),
            previous: AtomicU32::new(values.previous),
        }
    }

    /// Counts `events`: the events of the current period, these included.
    #[inline]
    pub fn update(&self, period: u32, events: u32, clock: impl Clock) -> u32 {
        if let Some(now) = clock.near() {
            // PAIRS: finish's Release: who knows the new period adds to it.
            // UNSEEN: to loom an addition never comes before an earlier look.
            let start = self.start.load(Ordering::Acquire);
            if now.wrapping_sub(start & !ROTATING) < period {
                return self.add(events);
            }
        }
        model_point();
        self.update_slow(period, events, clock)
    }

    // Relaxed: the count is all there is to it, and an addition carries on
    // what the last rotation released.
    #[inline]
    fn add(&self, events: u32) -> u32 {
        self.current
            .fetch_add(events, Ordering::Relaxed)
            .wrapping_add(events)
    }

    // The period may be over. Out of line, for the fast path to need no frame.
    // KEEPS: INV-120
    #[cold]
    #[inline(never)]
    fn update_slow(&self, period: u32, events: u32, clock: impl Clock) -> u32 {
        let period = period.max(MIN_PERIOD);
        let mut patience = Patience::new();
        loop {
            // PAIRS: finish's Release: the date below is not before this one,
            // and the previous count is stored over theirs.
            let start = self.start.load(Ordering::Acquire);
            let now = clock.common();
            if now.wrapping_sub(start & !ROTATING) < period {
                return self.add(events);
            }
            match self.begin(start) {
                Rotation::Ours => {
                    self.finish(start, period, events, now);
                    return events;
                }
                Rotation::Theirs => patience.wait(self, start),
            }
        }
    }

    // KEEPS: INV-121
    #[inline]
    fn begin(&self, start: u32) -> Rotation {
        if start & ROTATING != 0 {
            return Rotation::Theirs;
        }
        let locked = start | ROTATING;
        // Relaxed: the caller has acquired what stands there.
        match self
            .start
            .compare_exchange(start, locked, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Rotation::Ours,
            Err(_) => Rotation::Theirs,
        }
    }

    // KEEPS: INV-120, INV-121
    #[inline]
    fn finish(&self, start: u32, period: u32, events: u32, now: u32) {
        // PAIRS: snapshot's Acquire: who sees this count, or the next store's,
        // sees that the start date is locked or new.
        let mut previous = self.current.swap(events, Ordering::Release);
        let mut next = start.wrapping_add(period);
        if now.wrapping_sub(next) >= period {
            previous = 0;
            next = now;
        }
        // PAIRS: snapshot's Acquire, as above.
        self.previous.store(previous, Ordering::Release);
        // WINDOW(patience-ended): it fails where somebody's patience ended. Then the counts are
        // rotated under the old date, and the next event rotates them again.
        // PAIRS: the Acquire loads of the start date: both counts.
        let _ = self.start.compare_exchange(
            start | ROTATING,
            next & !ROTATING,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// The contents at one instant.
    // KEEPS: INV-122
    pub fn snapshot(&self) -> Values {
        let mut patience = Patience::new();
        loop {
            // PAIRS: finish's Release: counts at least as new as this date.
            let start = self.start.load(Ordering::Acquire);
            if start & ROTATING == 0 {
                // PAIRS: finish's Release on either count: had they been
                // rotated by now, the last look would see it.
                let previous = self.previous.load(Ordering::Acquire);
                // PAIRS: as above.
                let current = self.current.load(Ordering::Acquire);
                if self.start.load(Ordering::Relaxed) == start {
                    return Values {
                        start,
                        current,
                        previous,
                    };
                }
            }
            patience.wait(self, start);
        }
    }

    /// The contents as they stand, of several instants perhaps; never waits.
    pub fn glance(&self) -> Values {
        // PAIRS: finish's Release: the date that is read after this is not
        // before the start.
        let start = self.start.load(Ordering::Acquire) & !ROTATING;
        Values {
            start,
            current: self.current.load(Ordering::Relaxed),
            previous: self.previous.load(Ordering::Relaxed),
        }
    }

    /// See [`Values::total`].
    pub fn total(&self, period: u32, pending: Option<u32>, clock: impl Clock) -> u64 {
        // In this order: the date is not before the start.
        let values = self.snapshot();
        values.total(period, pending, clock.common())
    }

    /// The same of a [`glance`](Self::glance).
    pub fn total_estimate(&self, period: u32, pending: Option<u32>, clock: impl Clock) -> u64 {
        let values = self.glance();
        values.total(period, pending, clock.common())
    }

    /// Events in the last period.
    pub fn rate(&self, period: u32, clock: impl Clock) -> u32 {
        saturated(self.total(period, None, clock) / u64::from(period.max(MIN_PERIOD)))
    }

    /// The same with its fraction.
    pub fn rate_flt(&self, period: u32, clock: impl Clock) -> f64 {
        self.total(period, None, clock) as f64 / f64::from(period.max(MIN_PERIOD))
    }

    /// How many events may come before there are `freq` in the last period,
    /// `pending` of them known already.
    pub fn remain(&self, period: u32, freq: u32, pending: u32, clock: impl Clock) -> u32 {
        let total = self.total(period, Some(pending), clock);
        freq.saturating_sub(saturated(total / u64::from(period.max(MIN_PERIOD))))
    }

    /// Milliseconds to wait before an event more does not exceed `freq` per
    /// period: 0 while there is room, else in proportion to the excess.
    // KEEPS: INV-126
    pub fn delay(&self, period: u32, freq: u32, pending: u32, clock: impl Clock) -> u32 {
        let total = self.total(period, Some(pending), clock);
        let allowed = u64::from(freq) * u64::from(period.max(MIN_PERIOD));
        match total.checked_sub(allowed) {
            None => 0,
            Some(excess) => saturated(excess / u64::from(freq.max(1))).max(1),
        }
    }

    /// See [`Values::overshoot`].
    pub fn overshoot(&self, period: u32, freq: u32, clock: impl Clock) -> i32 {
        let values = self.snapshot();
        values.overshoot(period, freq, clock.common())
    }
}

#[cfg(not(model))]
impl Default for FreqCtr {
    fn default() -> Self {
        Self::new()
    }
}

fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A counter's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// When the current period began; even.
    pub start: u32,
    /// Events since then.
    pub current: u32,
    /// Events of the period before.
    pub previous: u32,
}

impl Values {
    /// Events in the period that ends `now`, times the period: the past period
    /// counts as far as it still reaches into it. `pending` events are taken
    /// for current ones; without any given, a single past event does not fade,
    /// lest a rate of one per period flap.
    // KEEPS: INV-123
    pub fn total(&self, period: u32, pending: Option<u32>, now: u32) -> u64 {
        let period = u64::from(period.max(MIN_PERIOD));
        let elapsed = u64::from(now.wrapping_sub(self.start));
        // Milliseconds of the past period that the window still covers.
        let (remain, previous, current) = if elapsed <= period {
            (period - elapsed, self.previous, self.current)
        } else if elapsed <= 2 * period {
            // Nobody has rotated: the current period is the past one.
            (2 * period - elapsed, self.current, 0)
        } else {
            (0, 0, 0)
        };
        let past = u64::from(previous);
        if pending.is_none() && current == 0 && previous <= 1 {
            return past * period;
        }
        let present = u64::from(current) + u64::from(pending.unwrap_or(0));
        // Only periods of weeks at billions of events reach the limit.
        (past * remain).saturating_add(present.saturating_mul(period))
    }

    /// By how much the current count is ahead of `freq` events per period,
    /// evenly spread; negative below it, 0 where the period is over.
    // KEEPS: INV-124
    pub fn overshoot(&self, period: u32, freq: u32, now: u32) -> i32 {
        let period = period.max(MIN_PERIOD);
        let elapsed = now.wrapping_sub(self.start);
        if (self.start == 0 && self.current == 0) || elapsed > period {
            return 0;
        }
        let due = u64::from(elapsed) * u64::from(freq) / u64::from(period);
        let ahead = i64::from(self.current) - due as i64;
        ahead.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }
}

/// Waiting for the end of a rotation, which is a few instructions long. Where
/// it does not end, the program itself has written an odd date (STK-46), or
/// the rotating thread has lost its processor at a very bad moment.
#[cfg(not(model))]
struct Patience {
    /// The date that does not change.
    start: u32,
    spins: u32,
    /// When it ends, ns; 0 while it spins.
    end: u64,
}

#[cfg(not(model))]
impl Patience {
    const SPINS: u32 = 100;
    const NS: u64 = 50_000_000;

    fn new() -> Self {
        Self {
            start: 0,
            spins: 0,
            end: 0,
        }
    }

    // One turn of the wait for `start` to change.
    // KEEPS: INV-122
    #[cold]
    fn wait(&mut self, counter: &FreqCtr, start: u32) {
        if self.start != start {
            *self = Self {
                start,
                ..Self::new()
            };
        }
        if self.spins < Self::SPINS {
            self.spins += 1;
            spin_hint();
            return;
        }
        let now = crate::sys::clock::monotonic_ns();
        if self.end == 0 {
            self.end = now + Self::NS;
        }
        if now >= self.end && start & ROTATING != 0 {
            // Whoever rotates goes on when it runs again; finish says what
            // becomes of it.
            let _ = counter.start.compare_exchange(
                start,
                start & !ROTATING,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        crate::sys::thread::yield_now();
    }
}

/// Models have no clock, and nobody loses his processor for ever.
#[cfg(model)]
struct Patience;

#[cfg(model)]
impl Patience {
    fn new() -> Self {
        Self
    }

    fn wait(&mut self, _: &FreqCtr, _: u32) {
        spin_hint();
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32 as StdU32;

    /// A thread's dates: its own, the process's.
    #[derive(Clone, Copy)]
    struct At(u32, u32);

    impl Clock for At {
        fn near(&self) -> Option<u32> {
            Some(self.0)
        }
        fn common(&self) -> u32 {
            self.1
        }
    }

    fn at(now: u32) -> At {
        At(now, now)
    }

    fn holding(start: u32, current: u32, previous: u32) -> FreqCtr {
        FreqCtr::with(Values {
            start,
            current,
            previous,
        })
    }

    #[test]
    fn zeroed_memory_is_empty() {
        // SAFETY: three words.
        let c: FreqCtr = unsafe { core::mem::zeroed() };
        for now in [0, 1, 999, 1000, 1 << 31, u32::MAX] {
            assert_eq!(c.rate(1000, at(now)), 0);
            assert_eq!(c.delay(1000, 10, 0, at(now)), 0);
            assert_eq!(c.remain(1000, 10, 3, at(now)), 7);
            assert_eq!(c.overshoot(1000, 10, at(now)), 0);
        }
        assert_eq!(c.update(1000, 5, at(77_777)), 5);
        assert_eq!(c.snapshot(), holding(77_776, 5, 0).snapshot());
        assert_eq!(c.rate(1000, at(77_777)), 5);
    }

    // The figures of the specification's last section.
    // SHOWS: INV-123
    #[test]
    fn worked_values() {
        for start in [2000, u32::MAX - 499] {
            let c = holding(start, 30, 100);
            let now = |ms: u32| at(start.wrapping_add(ms));
            assert_eq!(c.total(1000, None, now(250)), 105_000);
            assert_eq!(c.rate(1000, now(250)), 105);
            assert_eq!(c.remain(1000, 120, 0, now(250)), 15);
            assert_eq!(c.remain(1000, 120, 5, now(250)), 10);
            assert_eq!(c.remain(1000, 104, 0, now(250)), 0);
            assert_eq!(c.delay(1000, 100, 0, now(250)), 50);
            assert_eq!(c.delay(1000, 105, 0, now(250)), 1);
            assert_eq!(c.delay(1000, 106, 0, now(250)), 0);
            assert_eq!(c.rate(1000, now(1000)), 30);
            assert_eq!(c.rate(1000, now(1500)), 15);
            assert_eq!(c.rate(1000, now(2001)), 0);
            assert_eq!(c.rate_flt(1000, now(333)), 96.7);
        }
    }

    #[test]
    fn one_past_event_does_not_fade() {
        for (current, previous) in [(0, 1), (1, 0)] {
            let c = holding(0, current, previous);
            let half = if current == 0 { 500 } else { 1500 };
            assert_eq!(c.total(1000, None, at(half)), 1000);
            assert_eq!(c.total(1000, Some(0), at(half)), 500);
            assert_eq!(c.total(1000, Some(2), at(half)), 2500);
        }
        assert_eq!(holding(0, 0, 2).total(1000, None, at(500)), 1000);
        assert_eq!(holding(0, 1, 0).total(1000, None, at(2001)), 0);
    }

    // SHOWS: INV-121
    #[test]
    fn rotates_once_an_edge() {
        let c = holding(2000, 10, 4);
        assert_eq!(c.update(1000, 1, at(2999)), 11);
        assert_eq!(c.update(1000, 1, at(3000)), 1);
        assert_eq!(c.snapshot(), holding(3000, 1, 11).snapshot());
        // The next edge, but not the one after it: the old start goes on.
        assert_eq!(c.update(1000, 2, at(4999)), 2);
        assert_eq!(c.snapshot(), holding(4000, 2, 1).snapshot());
        assert_eq!(c.update(1000, 3, at(6000)), 3);
        assert_eq!(c.snapshot(), holding(6000, 3, 0).snapshot());
    }

    // Dates that are odd must not look like a lock.
    // SHOWS: INV-120
    #[test]
    fn stk_46_odd_dates() {
        let c = holding(0, 0, 0);
        assert_eq!(c.update(1000, 1, at(54_321)), 1);
        // The word itself: patience would mend it.
        assert_eq!(c.start.load(Ordering::Relaxed), 54_320);
        assert_eq!(c.snapshot(), holding(54_320, 1, 0).snapshot());
        // An odd period: the next edge is odd.
        let c = holding(2000, 7, 0);
        assert_eq!(c.update(1001, 1, at(3001)), 1);
        assert_eq!(c.start.load(Ordering::Relaxed), 3000);
        assert_eq!(c.snapshot(), holding(3000, 1, 7).snapshot());
    }

    // A program wrote an odd date into the counter itself.
    // SHOWS: INV-120, INV-122
    #[test]
    fn stk_46_written_odd_date() {
        let c = holding(2001, 7, 5);
        assert_eq!(c.glance(), holding(2000, 7, 5).snapshot());
        assert_eq!(c.update(1000, 1, at(2001)), 8);
        assert_eq!(c.update(1000, 1, at(2000)), 9);
        assert_eq!(c.snapshot(), holding(2000, 9, 5).snapshot());
        let c = holding(2001, 7, 5);
        assert_eq!(c.update(1000, 1, at(3000)), 1);
        assert_eq!(c.snapshot(), holding(3000, 1, 7).snapshot());
    }

    // Who rotates loses its processor half-way. Nobody waits for it for ever,
    // and what it does when it is back is put right by the next event.
    // SHOWS: INV-122, WINDOW(patience-ended)
    #[test]
    fn a_rotation_that_does_not_end() {
        let c = holding(2000, 7, 5);
        assert!(matches!(c.begin(2000), Rotation::Ours));
        assert_eq!(c.snapshot(), holding(2000, 7, 5).snapshot());
        c.finish(2000, 1000, 1, 3000);
        assert_eq!(c.snapshot(), holding(2000, 1, 7).snapshot());
        assert_eq!(c.update(1000, 1, at(3001)), 1);
        assert_eq!(c.snapshot(), holding(3000, 1, 1).snapshot());
    }

    // Whoever's own date is behind the edge must not rotate again.
    // SHOWS: INV-120
    #[test]
    fn stk_47_clocks_apart() {
        let c = holding(2000, 10, 4);
        assert_eq!(c.update(1000, 1, At(3000, 3000)), 1);
        assert_eq!(c.update(1000, 1, At(2999, 3000)), 2);
        assert_eq!(c.update(1000, 1, At(2000, 3000)), 3);
        assert_eq!(c.update(1000, 1, At(3000, 3001)), 4);
        assert_eq!(c.snapshot(), holding(3000, 4, 10).snapshot());
        // Behind by a whole period, when that is over too.
        assert_eq!(c.update(1000, 1, At(2990, 4100)), 1);
        assert_eq!(c.snapshot(), holding(4000, 1, 4).snapshot());
    }

    // STK-47, with threads: nothing is lost while edges are few enough for
    // the last two periods to hold every event.
    // SHOWS: INV-121
    #[test]
    fn stk_47_sum_matches() {
        const EVENTS: u32 = 2000;
        for round in 0..20 {
            let c = holding(2000, 0, 0);
            let common = StdU32::new(2990);
            let begin = Barrier::new(3);
            std::thread::scope(|s| {
                for lag in 0..3 {
                    let (c, common, begin) = (&c, &common, &begin);
                    s.spawn(move || {
                        begin.wait();
                        for n in 0..EVENTS {
                            if n % 50 == 0
                                && common.load(std::sync::atomic::Ordering::Relaxed) < 3010
                            {
                                common.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            }
                            c.update(1000, 1, Lagging(common, lag));
                        }
                    });
                }
            });
            let v = c.snapshot();
            assert_eq!(v.start, 3000, "round {round}");
            assert_eq!(v.current + v.previous, 3 * EVENTS, "round {round}");
        }
    }

    struct Lagging<'a>(&'a StdU32, u32);

    impl Clock for Lagging<'_> {
        fn near(&self) -> Option<u32> {
            Some(self.common() - self.1)
        }
        fn common(&self) -> u32 {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    // Ten seconds are ten seconds.
    // SHOWS: INV-123
    #[test]
    fn stk_48_long_periods() {
        let c = holding(0, 0, 0);
        for s in 0..10 {
            assert_eq!(c.update(10_000, 1, at(50_000 + s * 1000)), s + 1);
        }
        assert_eq!(c.update(10_000, 1, at(60_000)), 1);
        assert_eq!(c.snapshot(), holding(60_000, 1, 10).snapshot());
        assert_eq!(c.rate(10_000, at(65_000)), 6);
        assert_eq!(c.rate_flt(10_000, at(62_500)), 8.5);
        // The longest.
        let c = holding(8, 3, u32::MAX);
        assert_eq!(c.rate(u32::MAX, at(7)), 3);
        assert_eq!(c.rate(u32::MAX, at(8)), u32::MAX);
    }

    // One event a millisecond is exactly that rate at any time.
    // SHOWS: INV-123
    #[test]
    fn stk_50_constant_rate() {
        for period in [2u32, 10, 250, 1000] {
            let c = holding(0, 0, 0);
            for now in 4000..4000 + 5 * period {
                c.update(period, 1, at(now));
                if now >= 4000 + period {
                    // This millisecond's event is there, but not its end.
                    let v = c.snapshot();
                    let elapsed = u64::from(now - v.start);
                    let p = u64::from(period);
                    let total = p * (p - elapsed) + (elapsed + 1) * p;
                    assert_eq!(c.total(period, None, at(now)), total, "{period} at {now}");
                    assert_eq!(c.rate(period, at(now)), period + 1);
                }
            }
        }
    }

    // More load, more waiting.
    // SHOWS: INV-126
    #[test]
    fn stk_51_delay_grows_with_the_excess() {
        let c = holding(2000, 10, 0);
        let mut last = 0;
        for pending in 1..=100 {
            let delay = c.delay(1000, 10, pending, at(2500));
            assert_eq!(delay, pending * 100);
            assert!(delay > last);
            last = delay;
        }
        // And in inverse proportion to the limit.
        assert_eq!(c.delay(1000, 0, 0, at(2500)), 10_000);
        assert_eq!(c.delay(1000, 1, 0, at(2500)), 9000);
        assert_eq!(c.delay(1000, 5, 0, at(2500)), 1000);
        assert_eq!(c.delay(1000, 10, 0, at(2500)), 1);
        assert_eq!(c.delay(1000, 11, 0, at(2500)), 0);
    }

    // Nothing is ahead of anything in an empty or idle counter.
    // SHOWS: INV-124
    #[test]
    fn stk_52_overshoot_of_nothing() {
        let empty = holding(0, 0, 0);
        let idle = holding(2000, 50, 9);
        for gone in [
            1001,
            2000,
            1 << 20,
            (1 << 31) / 10,
            1 << 31,
            u32::MAX - 2000,
        ] {
            assert_eq!(empty.overshoot(1000, 10, at(gone)), 0);
            assert_eq!(idle.overshoot(1000, 10, at(2000u32.wrapping_add(gone))), 0);
        }
        // A date to come.
        assert_eq!(idle.overshoot(1000, 10, at(1999)), 0);
        assert_eq!(idle.overshoot(1000, 10, at(2000)), 50);
        assert_eq!(idle.overshoot(1000, 10, at(2500)), 45);
        assert_eq!(idle.overshoot(1000, 100, at(3000)), -50);
    }

    // Limits above 2^31.
    // SHOWS: INV-124
    #[test]
    fn stk_53_large_limits() {
        let c = holding(2000, 1000, 0);
        assert_eq!(c.overshoot(1000, 3_000_000_000, at(2999)), i32::MIN);
        assert_eq!(c.overshoot(1000, u32::MAX, at(2001)), 1000 - 4_294_967);
        assert_eq!(c.remain(1000, u32::MAX, 0, at(2500)), u32::MAX - 1000);
        assert_eq!(c.delay(1000, 3_000_000_000, 0, at(2500)), 0);
        let full = holding(2000, u32::MAX, u32::MAX);
        assert_eq!(full.overshoot(1000, 0, at(2500)), i32::MAX);
        assert_eq!(full.rate(1000, at(2000)), u32::MAX);
        assert_eq!(full.rate_flt(1000, at(2000)), 2.0 * f64::from(u32::MAX));
        assert_eq!(full.remain(1000, u32::MAX, u32::MAX, at(2500)), 0);
        assert_eq!(full.delay(1000, u32::MAX, 0, at(2500)), 500);
        assert_eq!(full.delay(1000, 1, u32::MAX, at(2000)), u32::MAX);
        assert_eq!(full.delay(u32::MAX, 1, u32::MAX, at(2000)), u32::MAX);
    }

    // Periods that even start dates cannot tell apart, and none at all.
    #[test]
    fn too_short_periods_are_the_shortest() {
        for period in [0, 1, 2] {
            let c = holding(2000, 3, 0);
            assert_eq!(c.update(period, 1, at(2001)), 4);
            assert_eq!(c.update(period, 1, at(2003)), 1);
            assert_eq!(c.snapshot(), holding(2002, 1, 4).snapshot());
            assert_eq!(c.rate(period, at(2003)), 3);
            assert_eq!(c.rate_flt(period, at(2003)), 3.0);
            assert_eq!(c.delay(period, 1, 0, at(2003)), 4);
            assert_eq!(c.remain(period, 9, 0, at(2003)), 6);
            assert_eq!(c.overshoot(period, 0, at(2003)), 1);
        }
    }

    /// Every period since the first event, in dates that never wrap.
    struct Model {
        period: i64,
        /// When each began, and its events.
        periods: Vec<(i64, i64)>,
    }

    impl Model {
        fn update(&mut self, now: i64, events: i64) -> i64 {
            let begin = match self.periods.last() {
                Some((s, _)) if now < s + self.period => None,
                Some((s, _)) if now < s + 2 * self.period => Some(s + self.period),
                _ => Some(now),
            };
            if let Some(begin) = begin {
                // An edge is even.
                self.periods.push((begin - begin % 2, 0));
            }
            let last = self.periods.last_mut().unwrap();
            last.1 += events;
            last.1
        }

        /// Each event counts once, or as far as its period is in the window.
        fn total(&self, now: i64, pending: i64) -> i64 {
            let p = self.period;
            let Some(&(start, events)) = self.periods.last() else {
                return pending * p;
            };
            let share = |start: i64| (p - (now - start - p)).clamp(0, p);
            if now > start + p {
                return events * share(start) + pending * p;
            }
            // The period before, unless a gap came between: then its place
            // was taken by an empty one.
            let before = match self.periods.iter().rev().nth(1) {
                Some(&(s, n)) if start == s + p - (s + p) % 2 => n,
                _ => 0,
            };
            before * (p - (now - start)) + (events + pending) * p
        }
    }

    proptest! {
        #[test]
        fn like_the_model(
            period in 2u32..3000,
            origin in prop_oneof![Just(1u32), Just(u32::MAX - 2000), 1..u32::MAX],
            steps in prop::collection::vec((0u32..2, 0u32..4000, 0u32..4, 0u32..100, 0u32..50), 1..60),
        ) {
            let mut model = Model { period: period.into(), periods: Vec::new() };
            let c = holding(0, 0, 0);
            // Not before the periods that zeroed memory stands for are over.
            let mut now = i64::from(origin) + (1i64 << 32);
            let mut begun = false;
            for (far, step, lag, events, pending) in steps {
                now += i64::from(if far == 0 { step % 8 } else { step });
                let date = at(now as u32);
                if !begun && (now as u32) < 2 * period {
                    continue;
                }
                begun = true;
                let total = c.total(period, Some(pending), date);
                prop_assert_eq!(total as i64, model.total(now, pending.into()));
                let rate = total / u64::from(period);
                let free = 40u64.saturating_sub(rate);
                prop_assert_eq!(u64::from(c.remain(period, 40, pending, date)), free);
                // A thread that is behind but in the period adds to it; how
                // far behind must make no difference before an edge.
                let last = model.periods.last().map(|p| p.0);
                let late = match last {
                    Some(s) if now - i64::from(lag) >= s && now < s + i64::from(period) => lag,
                    Some(s) if now - i64::from(lag) < s => lag,
                    _ => 0,
                };
                let thread = At((now as u32).wrapping_sub(late), now as u32);
                let n = c.update(period, events, thread);
                prop_assert_eq!(i64::from(n), model.update(now, events.into()));
                let v = c.snapshot();
                prop_assert_eq!(v.start % 2, 0);
                // The start is rounded down, when that fell to an odd date.
                prop_assert!((now as u32).wrapping_sub(v.start) <= period);
            }
        }

        #[test]
        fn no_contents_overflow(
            start: u32, current: u32, previous: u32,
            period: u32, freq: u32, pending: u32, now: u32,
        ) {
            let c = holding(start & !1, current, previous);
            let exact = {
                let p = i128::from(period.max(2));
                let elapsed = i128::from(now.wrapping_sub(start & !1));
                let mut remain = p - elapsed;
                let (mut past, mut present) = (i128::from(previous), i128::from(current));
                if remain < 0 {
                    remain += p;
                    past = if remain >= 0 { present } else { 0 };
                    present = 0;
                }
                past * remain + (present + i128::from(pending)) * p
            };
            let total = c.total(period, Some(pending), at(now));
            prop_assert_eq!(i128::from(total), exact.min(u64::MAX.into()));
            let _ = c.delay(period, freq, pending, at(now));
            let _ = c.remain(period, freq, pending, at(now));
            let _ = c.rate(period, at(now));
            let elapsed = i128::from(now.wrapping_sub(start & !1));
            let p = i128::from(period.max(2));
            let ahead = if elapsed > p || (start & !1 == 0 && current == 0) {
                0
            } else {
                i128::from(current) - elapsed * i128::from(freq) / p
            };
            let ahead = ahead.clamp(i32::MIN.into(), i32::MAX.into());
            prop_assert_eq!(i128::from(c.overshoot(period, freq, at(now))), ahead);
        }
    }
}
