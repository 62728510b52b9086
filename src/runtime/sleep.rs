//! Sleeping and waking: the one protocol of the library (INV-46, INV-47).
//!
//! The sleeper announces itself, issues a full fence, looks at all its sources
//! once more, and only then waits. A waker publishes its work, issues a full
//! fence, and looks at the announcement. Whatever the interleaving, one of the
//! two sees the other. The announcement stays up until the wait has returned.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::full_fence;

const AWAKE: u32 = 0;
const SLEEPING: u32 = 1;
/// Told to wake up and not there yet, or told before it slept.
const NOTIFIED: u32 = 2;

/// One thread's sleep word.
#[derive(Debug)]
pub struct Sleeper(AtomicU32);

/// What a waker owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wake {
    /// Make the thread's eventfd readable: it sleeps and nobody else does it.
    Signal,
    /// Nothing.
    Done,
}

impl Sleeper {
    /// An awake thread.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// An awake thread.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// Announces that this thread is about to sleep. False: it was notified
    /// since it last woke up, and must not sleep now. After true the caller
    /// looks at its sources once more.
    // KEEPS: INV-46, INV-47
    #[must_use]
    pub fn announce(&self) -> bool {
        let ok = self
            .0
            // PAIRS: notify's Acquire: what the thread has to be woken with.
            .compare_exchange(AWAKE, SLEEPING, Ordering::Release, Ordering::Relaxed)
            .is_ok();
        // KEEPS: CINV-27, INV-86
        // PAIRS: wake_if_asleep's fence. Either it sees SLEEPING, or this thread's look at its sources sees their work.
        full_fence();
        ok
    }

    /// Ends the announcement: awake again, notifications consumed.
    pub fn awake(&self) {
        // PAIRS: notify's swap: what was written before it is seen.
        self.0.swap(AWAKE, Ordering::Acquire);
    }

    /// For a thread that has published work in one of the target's sources.
    // KEEPS: INV-46
    pub fn wake_if_asleep(&self) -> Wake {
        // KEEPS: CINV-27
        // PAIRS: announce's fence.
        full_fence();
        if self.0.load(Ordering::Relaxed) != SLEEPING {
            return Wake::Done;
        }
        self.notify()
    }

    /// Wakes the thread, or makes its next sleep return at once.
    // KEEPS: INV-86
    pub fn notify(&self) -> Wake {
        // PAIRS: announce's Release; awake's Acquire, and announce's fence where
        // its exchange finds this. All are exchanges of one word, so one of the
        // two sees the other.
        match self.0.swap(NOTIFIED, Ordering::AcqRel) {
            SLEEPING => Wake::Signal,
            _ => Wake::Done,
        }
    }

    /// Whether the thread was told to wake up since it last did.
    pub fn is_notified(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTIFIED
    }
}

impl Default for Sleeper {
    fn default() -> Self {
        Self::new()
    }
}
