//! The home word: which thread's shared wait queue a task's timer is in.
//!
//! Protocol: whoever files a task that is nowhere takes the lock of the
//! queue it wants and claims the word; whoever wants to move a filed task
//! reads the word, takes that queue's lock and looks again. Only the holder
//! of the lock that the word names may change it, so once the second look
//! agrees, the place is stable (INV-36).

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard};

const NOWHERE: u32 = 0;

/// The home word.
#[derive(Debug)]
#[repr(transparent)]
pub struct Home(AtomicU32);

impl Home {
    /// In no queue.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(NOWHERE))
    }

    /// In no queue.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU32::new(NOWHERE))
    }

    /// Whether the task is in a queue; stale at once without its lock.
    #[inline]
    pub fn is_filed(&self) -> bool {
        self.get().is_some()
    }

    #[inline]
    fn get(&self) -> Option<usize> {
        // PAIRS: leave's Release: whoever sees "nowhere" sees the unlinking.
        match self.0.load(Ordering::Acquire) {
            NOWHERE => None,
            n => Some(n as usize - 1),
        }
    }

    // Whether the task is in queue `k`, whose lock the caller holds.
    #[inline]
    fn is(&self, k: usize) -> bool {
        self.0.load(Ordering::Relaxed) == k as u32 + 1
    }

    // Claims a task that is nowhere for queue `k`, whose lock the caller
    // holds. False: somebody else was first.
    #[inline]
    fn claim(&self, k: usize) -> bool {
        // PAIRS: leave's Release: the node's links are free.
        self.0
            .compare_exchange(NOWHERE, k as u32 + 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Locks the queue that holds the task: its number and the lock. `None`:
    /// it is in no queue.
    // KEEPS: INV-36
    pub fn lock<'q, Q: 'q>(
        &self,
        queue: impl Fn(usize) -> &'q Mutex<Q>,
    ) -> Option<(usize, MutexGuard<'q, Q>)> {
        loop {
            let k = self.get()?;
            let guard = queue(k).lock();
            if self.is(k) {
                return Some((k, guard));
            }
        }
    }

    /// The same, but a task that is in no queue is claimed for the one that
    /// `wanted` names. Returns whether it was in one.
    // KEEPS: INV-36
    pub fn lock_or_claim<'q, Q: 'q>(
        &self,
        wanted: impl Fn() -> usize,
        queue: impl Fn(usize) -> &'q Mutex<Q>,
    ) -> (usize, MutexGuard<'q, Q>, bool) {
        loop {
            if let Some((k, guard)) = self.lock(&queue) {
                return (k, guard, true);
            }
            let k = wanted();
            let guard = queue(k).lock();
            if self.claim(k) {
                return (k, guard, false);
            }
        }
    }

    /// The task leaves queue `k`, whose lock the caller holds and from which
    /// it has unlinked the node.
    #[inline]
    pub fn leave(&self, k: usize) {
        debug_assert!(self.is(k));
        // PAIRS: get's and claim's Acquire.
        self.0.store(NOWHERE, Ordering::Release);
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}
