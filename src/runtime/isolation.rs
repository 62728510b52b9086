//! Isolation: one thread runs while all others stand still somewhere
//! harmless.
//!
//! A thread is busy unless it said that it touches nothing shared. Whoever
//! wants isolation becomes its owner first, then waits until nobody is busy;
//! a thread that wants to be busy again says so first, then looks whether
//! there is an owner, and steps back if so. The owner itself does not count as
//! busy. Any number may wait, and all who wait are harmless, so two cannot
//! wait for each other.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::full_fence;

const NOBODY: u32 = 0;
/// An owner without a thread id goes by its kernel id, marked so.
#[cfg(not(model))]
const STRANGER: u32 = 1 << 31;

/// The rendez-vous of all registered threads.
#[derive(Debug)]
pub struct Isolation {
    busy: AtomicU64,
    owner: AtomicU32,
    /// How often the owner isolated itself; its alone.
    depth: AtomicU32,
}

fn name(me: Option<usize>) -> u32 {
    match me {
        Some(tid) => tid as u32 + 1,
        #[cfg(not(model))]
        None => STRANGER | crate::sys::thread::kernel_id(),
        #[cfg(model)]
        None => unreachable!("models register their threads"),
    }
}

impl Isolation {
    /// Nobody is busy, nobody isolated.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            busy: AtomicU64::new(0),
            owner: AtomicU32::new(NOBODY),
            depth: AtomicU32::new(0),
        }
    }

    /// Nobody is busy, nobody isolated.
    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            busy: AtomicU64::new(0),
            owner: AtomicU32::new(NOBODY),
            depth: AtomicU32::new(0),
        }
    }

    /// Thread `tid` touches nothing shared until [`Isolation::busy_again`].
    #[inline]
    pub fn harmless(&self, tid: usize) {
        if self.isolated(Some(tid)) {
            return;
        }
        // PAIRS: isolate's Acquire load: it sees all that this thread did.
        self.busy.fetch_and(!(1 << tid), Ordering::Release);
    }

    /// Thread `tid` goes back to work, once nobody is isolated.
    #[inline]
    pub fn busy_again(&self, tid: usize) {
        if self.isolated(Some(tid)) {
            return;
        }
        loop {
            self.busy.fetch_or(1 << tid, Ordering::Relaxed);
            // PAIRS: isolate's fence. Either it sees this thread busy, or
            // this thread sees it.
            full_fence();
            // PAIRS: release's Release: this thread sees what the isolated
            // one did.
            let owner = self.owner.load(Ordering::Acquire);
            if owner == NOBODY {
                return;
            }
            // Relaxed: nothing was done since harmless, whose Release goes on in
            // these read-modify-writes.
            self.busy.fetch_and(!(1 << tid), Ordering::Relaxed);
            self.wait_while(owner);
        }
    }

    /// For a thread that is busy and stays so: lets one that wants to be
    /// alone pass first.
    #[inline]
    pub fn step_aside(&self, tid: usize) {
        if self.owner.load(Ordering::Relaxed) != NOBODY {
            self.harmless(tid);
            self.busy_again(tid);
        }
    }

    // Waits while `owner` owns the isolation.
    #[cold]
    fn wait_while(&self, owner: u32) {
        #[cfg(not(model))]
        crate::sys::futex::wait(&self.owner, owner);
        #[cfg(model)]
        while self.owner.load(Ordering::Relaxed) == owner {
            crate::sync::spin_hint();
        }
    }

    /// Waits until this thread is alone. Nests.
    pub fn isolate(&self, me: Option<usize>) {
        if self.isolated(me) {
            let depth = self.depth.load(Ordering::Relaxed);
            self.depth.store(depth + 1, Ordering::Relaxed);
            return;
        }
        if let Some(tid) = me {
            self.harmless(tid);
        }
        // PAIRS: release's Release.
        while let Err(owner) =
            self.owner
                .compare_exchange(NOBODY, name(me), Ordering::Acquire, Ordering::Relaxed)
        {
            self.wait_while(owner);
        }
        self.depth.store(1, Ordering::Relaxed);
        // PAIRS: busy_again's fence.
        full_fence();
        // PAIRS: harmless's Release.
        while self.busy.load(Ordering::Acquire) != 0 {
            #[cfg(not(model))]
            crate::sys::thread::yield_now();
            #[cfg(model)]
            crate::sync::spin_hint();
        }
    }

    /// Ends the isolation that the last [`Isolation::isolate`] began.
    pub fn release(&self, me: Option<usize>) {
        assert!(
            self.isolated(me),
            "thread_release: the calling thread is not isolated"
        );
        let depth = self.depth.load(Ordering::Relaxed) - 1;
        self.depth.store(depth, Ordering::Relaxed);
        if depth > 0 {
            return;
        }
        // Busy before the others may be: this thread does not stop working.
        if let Some(tid) = me {
            self.busy.fetch_or(1 << tid, Ordering::Relaxed);
        }
        // PAIRS: busy_again's and isolate's Acquire. An exchange, since loom
        // lets those who wait for a plain store spin for ever.
        self.owner.swap(NOBODY, Ordering::Release);
        #[cfg(not(model))]
        crate::sys::futex::wake_all(&self.owner);
    }

    /// In the child of a fork, which has the thread `me` alone: nobody else is
    /// busy or isolated.
    #[cfg(not(model))]
    pub fn only(&self, me: Option<usize>) {
        let mine = me.map_or(0, |tid| 1 << tid);
        self.busy.fetch_and(mine, Ordering::Relaxed);
        if !self.isolated(me) {
            self.owner.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// Whether this thread is the isolated one.
    #[inline]
    pub fn isolated(&self, me: Option<usize>) -> bool {
        self.owner.load(Ordering::Relaxed) == name(me)
    }
}

impl Default for Isolation {
    fn default() -> Self {
        Self::new()
    }
}
