//! Who is there to serve its queues.
//!
//! A thread that leaves says so, issues a full fence, and empties its inbox
//! for the others. Whoever pushes into an inbox issues a full fence and looks
//! whether its owner has left meanwhile. One of the two finds the item.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::full_fence;

/// One bit for each thread that is there.
#[derive(Debug)]
pub struct Presence(AtomicU64);

impl Presence {
    /// Nobody.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Nobody.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The threads that are there.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Thread `tid` begins to serve its queues.
    pub fn enter(&self, tid: usize) {
        self.0.fetch_or(1 << tid, Ordering::Relaxed);
    }

    /// Thread `tid` stops. It empties its inbox afterwards.
    pub fn leave(&self, tid: usize) {
        self.0.fetch_and(!(1 << tid), Ordering::Relaxed);
        // PAIRS: others_if_left's fence.
        full_fence();
    }

    /// For a thread that has pushed something for `tid`: those who are there,
    /// if `tid` is not among them.
    // KEEPS: INV-59
    #[inline]
    pub fn others_if_left(&self, tid: usize) -> Option<u64> {
        // PAIRS: leave's fence. Either the leaving thread finds the item in
        // its inbox, or this look finds that it left.
        full_fence();
        let there = self.get();
        (there & (1 << tid) == 0).then_some(there)
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}
