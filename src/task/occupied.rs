//! Whether a tasklet's handler runs: a word beside the state word.
//!
//! A task's RUNNING is a bit of its state, since wake-ups and looks at the
//! timer depend on it. A tasklet has no timer, and a wake-up queues it whether
//! it runs or not, here or elsewhere. So nobody asks but the thread that takes
//! it out of a queue next, and two plain stores do, where a bit of the state
//! word would take a read-modify-write more.
//!
//! Why that thread cannot miss a run under way (INV-30): its ticket was set by
//! a wake-up, or a kill, that found QUEUED cleared, thus after the transition
//! that began the run, before which the word here was set. All of them are
//! read-modify-writes of the state word, each of which acquires what the one
//! before released.

use super::state::{Begin, State};
use crate::sync::atomic::{AtomicU32, Ordering};

/// Written by the thread that runs the handler alone.
#[derive(Debug)]
#[repr(transparent)]
pub struct Occupied(AtomicU32);

impl Occupied {
    /// No handler runs.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// No handler runs.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Starts the run of a tasklet that the caller has unlinked. Unless it is
    /// Busy or to be freed, the caller owes an [`end`](Self::end).
    // KEEPS: INV-30
    #[inline]
    pub fn begin(&self, state: &State) -> Begin {
        // PAIRS: end's Release: what the last run wrote.
        if self.0.load(Ordering::Acquire) != 0 {
            return Begin::Busy;
        }
        self.0.store(1, Ordering::Relaxed);
        state.begin_tasklet()
    }

    /// Whether the handler runs, for who has just killed the tasklet.
    #[inline]
    pub fn is_taken(&self) -> bool {
        // PAIRS: end's Release.
        self.0.load(Ordering::Acquire) != 0
    }

    /// Ends the run. The tasklet must not be touched any more: another thread
    /// may have it.
    #[inline]
    pub fn end(&self) {
        // PAIRS: begin's Acquire.
        self.0.store(0, Ordering::Release);
    }
}

impl Default for Occupied {
    fn default() -> Self {
        Self::new()
    }
}
