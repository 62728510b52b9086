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
use crate::sync::spin_hint;

/// In the start date: the counts are being rotated.
const ROTATING: u32 = 1;
/// Shorter periods count as this one: start dates are even.
const MIN_PERIOD: u32 = 2;

/// Where counters take the date from.
pub trait Clock {
    /// The calling thread's date; other threads' may be later.
    fn near(&self) -> u32;

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
    #[cfg(not(loom))]
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
    pub fn update(&self, period: u32, events: u32, clock: &impl Clock) -> u32 {
        // PAIRS: finish's Release: who knows the new period adds to it.
        let start = self.start.load(Ordering::Acquire);
        if clock.near().wrapping_sub(start) < period {
            return self.add(events);
        }
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

    // The period may be over.
    #[cold]
    fn update_slow(&self, period: u32, events: u32, clock: &impl Clock) -> u32 {
        let period = period.max(MIN_PERIOD);
        let mut patience = Patience::new();
        loop {
            // PAIRS: finish's Release; the date below is not before it.
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

    #[inline]
    fn begin(&self, start: u32) -> Rotation {
        if start & ROTATING != 0 {
            return Rotation::Theirs;
        }
        let locked = start | ROTATING;
        // PAIRS: finish's Release: the previous count is stored over theirs.
        match self
            .start
            .compare_exchange(start, locked, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Rotation::Ours,
            Err(_) => Rotation::Theirs,
        }
    }

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
        // WINDOW: it fails where somebody's patience ended. Then the counts are
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
    pub fn total(&self, period: u32, pending: Option<u32>, clock: &impl Clock) -> u64 {
        // In this order: the date is not before the start.
        let values = self.snapshot();
        values.total(period, pending, clock.common())
    }

    /// The same of a [`glance`](Self::glance).
    pub fn total_estimate(&self, period: u32, pending: Option<u32>, clock: &impl Clock) -> u64 {
        let values = self.glance();
        values.total(period, pending, clock.common())
    }

    /// Events in the last period.
    pub fn rate(&self, period: u32, clock: &impl Clock) -> u32 {
        saturated(self.total(period, None, clock) / u64::from(period.max(MIN_PERIOD)))
    }

    /// The same with its fraction.
    pub fn rate_flt(&self, period: u32, clock: &impl Clock) -> f64 {
        self.total(period, None, clock) as f64 / f64::from(period.max(MIN_PERIOD))
    }

    /// How many events may come before there are `freq` in the last period,
    /// `pending` of them known already.
    pub fn remain(&self, period: u32, freq: u32, pending: u32, clock: &impl Clock) -> u32 {
        let total = self.total(period, Some(pending), clock);
        freq.saturating_sub(saturated(total / u64::from(period.max(MIN_PERIOD))))
    }

    /// Milliseconds to wait before an event more does not exceed `freq` per
    /// period: 0 while there is room, else in proportion to the excess.
    pub fn delay(&self, period: u32, freq: u32, pending: u32, clock: &impl Clock) -> u32 {
        let total = self.total(period, Some(pending), clock);
        let allowed = u64::from(freq) * u64::from(period.max(MIN_PERIOD));
        match total.checked_sub(allowed) {
            None => 0,
            Some(excess) => saturated(excess / u64::from(freq.max(1))).max(1),
        }
    }

    /// See [`Values::overshoot`].
    pub fn overshoot(&self, period: u32, freq: u32, clock: &impl Clock) -> i32 {
        let values = self.snapshot();
        values.overshoot(period, freq, clock.common())
    }
}

#[cfg(not(loom))]
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
#[cfg(not(loom))]
struct Patience {
    /// The date that does not change.
    start: u32,
    spins: u32,
    /// When it ends, ns; 0 while it spins.
    end: u64,
}

#[cfg(not(loom))]
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
            // WINDOW: whoever rotates goes on when it runs again; finish says
            // what becomes of it.
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
#[cfg(loom)]
struct Patience;

#[cfg(loom)]
impl Patience {
    fn new() -> Self {
        Self
    }

    fn wait(&mut self, _: &FreqCtr, _: u32) {
        spin_hint();
    }
}
