//! The table's date: by when its task will have looked at every shard.
//!
//! The date and the queueing of the task change under one lock, on both sides
//! (INV-98): who needs an earlier date lowers it and queues the task before
//! anybody else can touch either; the handler writes its next date, and its
//! task's, under the same lock. Nobody needs the lock whose date is covered:
//!
//! * the handler says that nothing is covered *before* it looks at the first
//!   shard;
//! * who files an entry does that under the shard's lock, and reads what is
//!   covered after it. If the handler looked at that shard before, it had said
//!   so before, and the reader sees that, or what came later. Else the handler
//!   finds the entry.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// No date.
pub const NEVER: u64 = u64::MAX;

/// The date, and what may be relied on without the lock.
#[derive(Debug)]
pub struct Expiry {
    covered: AtomicU64,
    date: Mutex<u64>,
}

impl Expiry {
    /// No date: the task is not queued.
    pub fn new() -> Self {
        Self {
            covered: AtomicU64::new(NEVER),
            date: Mutex::new(NEVER),
        }
    }

    /// Makes sure that the task runs by `date`, for an entry that is filed.
    /// `queue` is called under the lock, where it does not.
    // KEEPS: INV-97, INV-98
    #[inline]
    pub fn arm<R>(&self, date: u64, queue: impl FnOnce() -> R) -> Option<R> {
        // PAIRS: the shard's lock, as above.
        if self.covered.load(Ordering::Relaxed) <= date {
            return None;
        }
        let mut now = self.date.lock();
        if *now <= date {
            return None;
        }
        *now = date;
        self.covered.store(date, Ordering::Relaxed);
        Some(queue())
    }

    /// The handler begins: from now on nobody relies on the date.
    // KEEPS: INV-98
    pub fn begin(&self) {
        let mut now = self.date.lock();
        *now = NEVER;
        // PAIRS: the shards' locks, as above.
        self.covered.store(NEVER, Ordering::Relaxed);
    }

    /// The handler has looked at every shard; `next` is the first date that it
    /// found. `set` is called under the lock with the task's date, which may be
    /// earlier.
    // KEEPS: INV-97, INV-98
    pub fn finish<R>(&self, next: u64, set: impl FnOnce(u64) -> R) -> R {
        let mut now = self.date.lock();
        *now = (*now).min(next);
        self.covered.store(*now, Ordering::Relaxed);
        set(*now)
    }
}

impl Default for Expiry {
    fn default() -> Self {
        Self::new()
    }
}
