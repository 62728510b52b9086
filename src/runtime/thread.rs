//! What belongs to a thread id, whoever has entered under it.

use super::sleep::{Sleeper, Wake};
use crate::pool;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use crate::sys::tsc::FastClock;
use crate::sys::{epoll, file};
use crate::task::Caller;
use core::cell::Cell;

/// What belongs to an id.
#[repr(C, align(64))]
pub struct Thread {
    /// The object caches' totals; first, since every pool call wants them.
    pub local: pool::Local,
    /// The id.
    pub tid: usize,
    sleeper: Sleeper,
    /// Wakes the thread out of its poll; -1 before the first entry.
    eventfd: AtomicI32,
    /// The cached date, ms; the owner's alone.
    now: AtomicU64,
    /// When that is over, on `clock`; the owner's alone.
    pub(super) next_ms: Cell<u64>,
    /// The last wait found reports that were there before it; the owner's alone.
    pub(super) eager: Cell<bool>,
    /// For the date, and those of callouts; the owner's alone.
    pub(super) clock: FastClock,
    /// A host polls this thread's descriptor instead of running its loop.
    pub(super) hosted: AtomicBool,
}

// C's inline functions take the one for the other.
const _: () = assert!(core::mem::offset_of!(Thread, local) == 0);

// SAFETY: `local` keeps its own contract (only the owner uses it), and so do
// `clock`, `next_ms` and `eager`; the rest is atomic.
unsafe impl Sync for Thread {}

impl Thread {
    pub(super) const fn new(tid: usize) -> Self {
        Self {
            local: pool::Local::new(tid),
            tid,
            sleeper: Sleeper::new(),
            eventfd: AtomicI32::new(-1),
            now: AtomicU64::new(0),
            next_ms: Cell::new(0),
            eager: Cell::new(false),
            clock: FastClock::new(),
            hosted: AtomicBool::new(false),
        }
    }

    /// The thread as the engines see it.
    #[inline]
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            tid: Some(self.tid),
            local: Some(&self.local),
            now: self.now(),
        }
    }

    /// The cached date.
    #[inline]
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Sets the cached date.
    #[inline]
    pub fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// The sleep word.
    pub(super) fn sleeper(&self) -> &Sleeper {
        &self.sleeper
    }

    /// The descriptor behind [`Thread::notify`].
    pub(super) fn eventfd(&self) -> i32 {
        self.eventfd.load(Ordering::Relaxed)
    }

    /// In the child of a fork: another file than the parent's under the same
    /// number. 0 or a negative errno.
    pub fn renew_eventfd(&self) -> i32 {
        let new = epoll::eventfd();
        if new < 0 {
            return new;
        }
        let rc = epoll::replace(self.eventfd(), new);
        file::close(new);
        rc.min(0)
    }

    /// Opens the descriptor behind [`Thread::notify`], once: 0 or a negative
    /// errno.
    pub(super) fn open(&self) -> i32 {
        if self.eventfd() < 0 {
            let fd = epoll::eventfd();
            if fd < 0 {
                return fd;
            }
            self.eventfd.store(fd, Ordering::Relaxed);
        }
        0
    }

    fn pay(&self, owes: Wake) {
        if owes == Wake::Signal {
            epoll::eventfd_signal(self.eventfd());
        }
    }

    /// For a waker that has published work for this thread.
    #[inline]
    pub fn wake_if_asleep(&self) {
        self.pay(self.sleeper.wake_if_asleep());
    }

    /// Wakes it now, or out of its next sleep.
    pub fn notify(&self) {
        self.pay(self.sleeper.notify());
    }

    /// Closes what the id owns; nobody uses it any more.
    pub(super) fn close(&self) {
        let fd = self.eventfd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            file::close(fd);
        }
    }
}
