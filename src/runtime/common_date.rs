//! The process's date: the latest that any thread has read from the clock.
//!
//! Threads cache the date and may lag behind each other by a turn of their
//! loops. What all of them must agree on (when a counter's period is over) is
//! decided by this one, which none of them precedes.

use super::core_state::core;
use super::registry::here;
use super::thread::Thread;
use crate::stick_table::freq_ctr::Clock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sys::clock;

/// Milliseconds that never wrap and never go back. On a line of its own, for
/// it is written every millisecond.
#[derive(Debug)]
#[repr(align(64))]
pub struct CommonDate(AtomicU64);

impl CommonDate {
    pub(super) const fn new(ms: u64) -> Self {
        Self(AtomicU64::new(ms))
    }

    /// Relaxed, as in [`advance`](Self::advance): whoever has seen what
    /// another thread released after its look sees no earlier date.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A thread has read `ms` from the clock: the date now.
    #[inline]
    pub(super) fn advance(&self, ms: u64) -> u64 {
        let seen = self.get();
        if ms <= seen {
            return seen;
        }
        self.0.fetch_max(ms, Ordering::Relaxed).max(ms)
    }
}

/// A thread's view of the date: its own cached one, and the process's.
/// Threads that are not registered read the clock each time.
#[derive(Clone, Copy)]
pub struct Dates(Option<&'static Thread>);

impl Dates {
    /// The calling thread's.
    #[inline(always)]
    pub fn here() -> Self {
        Self(here())
    }
}

impl Clock for Dates {
    #[inline(always)]
    fn near(&self) -> Option<u32> {
        self.0.map(|t| t.now() as u32)
    }

    // Counters work before init, too: then by CLOCK_MONOTONIC's own origin.
    fn common(&self) -> u32 {
        let ms = match (core(), self.0) {
            (Some(core), Some(_)) => core.common_date.get(),
            (Some(core), None) => core.now_ms(),
            (None, _) => clock::monotonic_ns() / 1_000_000,
        };
        ms as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let date = CommonDate::new(1000);
        assert_eq!(date.advance(1001), 1001);
        // A thread that read the clock before, and comes late.
        assert_eq!(date.advance(1000), 1001);
        assert_eq!(date.get(), 1001);
    }
}
