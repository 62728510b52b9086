//! One of those who sleep keeps a lookout: it reckons with the shared timers
//! of all threads, since any of them may be busy when its date comes.
//!
//! Whoever goes to sleep takes the office if nobody has it; whoever has it and
//! is about to run handlers, which may take long, gives it up and appoints a
//! sleeper, if anything is filed. Whoever files a date that the lookout does
//! not reckon with wakes it; if there is none, it appoints one.
//!
//! Protocol: a sleeper says that it sleeps, issues a full fence, and looks who
//! has the office. One that gives it up does so, issues a full fence, and
//! looks who sleeps. One that wakes up says so, issues a full fence, and looks
//! whether it was appointed; one that appoints does so, issues a full fence,
//! and looks whether that thread still sleeps. Whatever the interleaving, one
//! of the two sees the other. A date is published and the office looked at, or
//! the office entered and the dates looked at, in the same way.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{ThreadSet, full_fence};

const THREADS: usize = if cfg!(loom) { 3 } else { 64 };
const NOBODY: u32 = 0;

/// Who keeps the lookout.
#[derive(Debug)]
pub struct Lookout {
    /// The thread's id plus one.
    who: AtomicU32,
    /// One bit for each thread that sleeps, or is about to.
    asleep: AtomicU64,
    /// Until when each sleeps at the most, if it is the lookout; its own to
    /// write. Of one that is awake it says nothing: it will look anyway.
    until: [AtomicU64; THREADS],
}

impl Lookout {
    /// Nobody sleeps.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            who: AtomicU32::new(NOBODY),
            asleep: AtomicU64::new(0),
            until: [const { AtomicU64::new(0) }; THREADS],
        }
    }

    /// Nobody sleeps.
    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            who: AtomicU32::new(NOBODY),
            asleep: AtomicU64::new(0),
            until: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Whether thread `me` has the office.
    #[inline]
    pub fn is(&self, me: usize) -> bool {
        self.who.load(Ordering::Relaxed) == me as u32 + 1
    }

    /// Those who sleep, or are about to; stale at once.
    #[inline]
    pub fn asleep(&self) -> u64 {
        self.asleep.load(Ordering::Relaxed)
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.who
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Thread `me`, which others wake from now on where they owe it, is about
    /// to sleep. True: it keeps the lookout.
    // KEEPS: INV-46
    pub fn sleeps(&self, me: usize) -> bool {
        self.asleep.fetch_or(1 << me, Ordering::Relaxed);
        // PAIRS: the fences of give_up, reckon and appoint's loop.
        full_fence();
        self.is(me) || self.change(NOBODY, me as u32 + 1)
    }

    /// The lookout `me` will sleep until `date` at the most. Afterwards it
    /// looks at all dates once more.
    pub fn until(&self, me: usize, date: u64) {
        self.until[me].store(date, Ordering::Relaxed);
        // PAIRS: reckon's fence.
        full_fence();
    }

    /// Thread `me` is awake.
    pub fn awake(&self, me: usize) {
        self.asleep.fetch_and(!(1 << me), Ordering::Relaxed);
        // PAIRS: appoint's fence before its second look.
        full_fence();
    }

    /// Thread `me`, awake, is not going to look for a while. True: it had the
    /// office, and if any date is filed then, it owes an [`Lookout::appoint`].
    #[inline]
    #[must_use]
    pub fn give_up(&self, me: usize) -> bool {
        if !self.is(me) || !self.change(me as u32 + 1, NOBODY) {
            return false;
        }
        // PAIRS: reckon's fence: either it sees nobody, or its date is seen.
        // And sleeps', see appoint.
        full_fence();
        true
    }

    /// Gives the office, if nobody has it, to one that sleeps: whom to wake.
    /// For one that has just given it up.
    pub fn appoint(&self) -> ThreadSet {
        // The caller's fence pairs with sleeps' the first time: either a thread
        // is seen to sleep here, or it sees that nobody has the office.
        loop {
            let asleep = self.asleep.load(Ordering::Relaxed);
            if asleep == 0 {
                return ThreadSet::EMPTY;
            }
            let k = asleep.trailing_zeros();
            if !self.change(NOBODY, k + 1) {
                return ThreadSet::EMPTY;
            }
            // PAIRS: awake's fence: either it still sleeps, or it may not see
            // that it was appointed.
            full_fence();
            if self.asleep.load(Ordering::Relaxed) & (1 << k) != 0 {
                return ThreadSet::one(k as usize);
            }
            if !self.change(k + 1, NOBODY) {
                return ThreadSet::EMPTY;
            }
            // PAIRS: sleeps' fence.
            full_fence();
        }
    }

    /// For a thread that has published `date`: whom to wake for it.
    // KEEPS: INV-46
    pub fn reckon(&self, date: u64) -> ThreadSet {
        // PAIRS: until's and give_up's fence, and sleeps', see appoint.
        full_fence();
        match self.who.load(Ordering::Relaxed) {
            NOBODY => self.appoint(),
            k if date < self.until[k as usize - 1].load(Ordering::Relaxed) => {
                ThreadSet::one(k as usize - 1)
            }
            _ => ThreadSet::EMPTY,
        }
    }

    /// In the child of a fork: the thread `me` alone is there, and awake.
    #[cfg(not(model))]
    pub fn nobody_sleeps(&self) {
        self.asleep.store(0, Ordering::Relaxed);
        self.who.store(NOBODY, Ordering::Relaxed);
    }
}

impl Default for Lookout {
    fn default() -> Self {
        Self::new()
    }
}
