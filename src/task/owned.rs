//! A tasklet with a thread of its own: two tickets.
//!
//! Its thread wakes it and runs it more often than others do, and takes no
//! atomic step for that: it has a ticket of its own, LINKED in the word here,
//! which nobody else touches. The others' ticket is QUEUED in the state word,
//! as every item's. Who gets that one sends the tasklet's mail to the thread,
//! which keeps the ticket from when it fetches the mail until a run begins. So
//! the mail is in one place at a time, and the tasklet in one list, for either
//! ticket or for both.
//!
//! The state word stays everybody's, and a run by the own ticket alone does
//! not write it: no flag that others set is lost (INV-49).
//!
//! KILLED is set with the others' ticket, or while somebody holds that. So a
//! run that meets it without their ticket leaves the tasklet alone: the mail
//! is on its way, and the run that it causes frees it (INV-48).

use super::flags::{KILLED, QUEUED, WOKEN_OTHER};
use super::state::{Begin, State, Unqueued, Wakeup};
use crate::sync::atomic::{AtomicU32, Ordering};

const LINKED: u32 = 1;
// With LINKED only.
const FETCHED: u32 = 2;

/// The owner thread's word; every function is its own to call.
// KEEPS: INV-33, INV-52
#[derive(Debug)]
#[repr(transparent)]
pub struct Owned(AtomicU32);

impl Owned {
    /// In no list.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// In no list.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    fn replace(&self, new: u32) -> u32 {
        let old = self.0.load(Ordering::Relaxed);
        self.0.store(new, Ordering::Relaxed);
        old
    }

    /// The owner wakes its tasklet. Insert: into a list of its own.
    #[inline]
    pub fn wake(&self) -> Wakeup {
        if self.0.load(Ordering::Relaxed) != 0 {
            return Wakeup::Noted;
        }
        self.0.store(LINKED, Ordering::Relaxed);
        Wakeup::Insert
    }

    /// The others' ticket has come. Insert: into a list of the owner's.
    #[inline]
    pub fn fetched(&self) -> Wakeup {
        match self.replace(LINKED | FETCHED) {
            0 => Wakeup::Insert,
            _ => Wakeup::Noted,
        }
    }

    /// Starts the run of a tasklet that the owner has unlinked. None: it was
    /// killed, and its mail is to come.
    // KEEPS: INV-48
    #[inline]
    pub fn begin(&self, state: &State) -> Option<Begin> {
        if self.replace(0) & FETCHED != 0 {
            return Some(state.begin_tasklet());
        }
        let now = state.get();
        if now & KILLED != 0 {
            return None;
        }
        Some(Begin::Run(now | QUEUED | WOKEN_OTHER))
    }

    /// Takes the tickets of a tasklet back that the owner has unlinked without
    /// running it.
    #[inline]
    pub fn cancel(&self, state: &State) -> Unqueued {
        if self.0.load(Ordering::Relaxed) & FETCHED != 0 && state.unqueue() == Unqueued::Killed {
            return Unqueued::Killed;
        }
        self.0.store(0, Ordering::Relaxed);
        Unqueued::Out
    }
}

impl Default for Owned {
    fn default() -> Self {
        Self::new()
    }
}
