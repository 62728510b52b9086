//! The thread registry: who is bound to which id.

use super::core_state::{Core, core, life, pools, require_core};
use super::sleep::{Sleeper, Wake};
use super::wake;
use crate::pool;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use crate::sys::{self, epoll, file, thread};
use crate::task::Caller;

/// What belongs to an id.
#[repr(C, align(64))]
pub struct Thread {
    /// The id.
    pub tid: usize,
    /// The object caches' totals.
    pub local: pool::Local,
    sleeper: Sleeper,
    /// Wakes the thread out of its poll; -1 before the first entry.
    eventfd: AtomicI32,
    /// The cached date, ms; the owner's alone.
    now: AtomicU64,
    /// A host polls this thread's descriptor instead of running its loop.
    pub(super) hosted: AtomicBool,
}

// SAFETY: `local` keeps its own contract (only the owner uses it); the rest
// is atomic.
unsafe impl Sync for Thread {}

impl Thread {
    pub(super) const fn new(tid: usize) -> Self {
        Self {
            tid,
            local: pool::Local::new(tid),
            sleeper: Sleeper::new(),
            eventfd: AtomicI32::new(-1),
            now: AtomicU64::new(0),
            hosted: AtomicBool::new(false),
        }
    }

    /// The thread as the engines see it.
    #[inline]
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            tid: Some(self.tid),
            local: Some(&self.local),
            now: self.now.load(Ordering::Relaxed),
        }
    }

    /// Refreshes the cached date.
    #[inline]
    pub fn update_clock(&self, core: &Core) {
        self.now.store(core.now_ms(), Ordering::Relaxed);
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
        sys::file::close(new);
        rc.min(0)
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

/// The calling thread's record.
#[inline(always)]
pub fn here() -> Option<&'static Thread> {
    // SAFETY: enter stored a record there, which outlives the entry.
    unsafe { thread::get_self().cast::<Thread>().as_ref() }
}

/// The calling thread's id.
#[inline]
pub fn tid() -> Option<usize> {
    here().map(|t| t.tid)
}

/// The calling thread's object caches.
#[inline(always)]
pub fn pool_local() -> Option<&'static pool::Local> {
    here().map(|t| &t.local)
}

/// Binds the calling thread to `tid`: 0 or a negative errno.
pub fn enter(tid: usize) -> i32 {
    let _life = life();
    let Some(core) = core() else {
        return -sys::EINVAL;
    };
    if here().is_some() {
        return -sys::EALREADY;
    }
    let Some(t) = core.threads().get(tid) else {
        return -sys::EINVAL;
    };
    if core.registered.load(Ordering::Relaxed) & (1 << tid) != 0 {
        return -sys::EBUSY;
    }
    if t.eventfd() < 0 {
        let fd = epoll::eventfd();
        if fd < 0 {
            return fd;
        }
        t.eventfd.store(fd, Ordering::Relaxed);
    }
    let mut rc = core.fds.thread_enter(tid);
    if rc == 0 {
        rc = core.fds.add_internal(tid, t.eventfd());
        if rc < 0 {
            core.fds.thread_leave(tid);
        }
    }
    if rc < 0 {
        return rc;
    }
    pools().attach(&t.local);
    t.hosted.store(false, Ordering::Relaxed);
    t.update_clock(core);
    core.registered.fetch_or(1 << tid, Ordering::Relaxed);
    core.tasks.enter(tid);
    thread::set_self((&raw const *t).cast_mut().cast());
    core.isolation.busy_again(tid);
    0
}

/// Unbinds the calling thread. Its caches go back, what others may run goes to
/// them, what is bound to its id waits for the next one.
pub fn leave() {
    let Some(t) = here() else { return };
    let core = require_core();
    // SAFETY: this is that thread.
    unsafe { core.tasks.assert_outside(t.tid, "keel_thread_leave") };
    while core.isolation.isolated(Some(t.tid)) {
        core.isolation.release(Some(t.tid));
    }
    pools().flush_local(&t.local);
    wake(core.tasks.leave(t.tid));
    let _life = life();
    core.fds.thread_leave(t.tid);
    t.sleeper.awake();
    thread::set_self(core::ptr::null_mut());
    core.isolation.harmless(t.tid);
    let bit = 1 << t.tid;
    let others = core.registered.fetch_and(!bit, Ordering::Relaxed) & !bit;
    if others == 0 && !core.running.load(Ordering::Relaxed) {
        // The last one out: the next loops start afresh.
        core.stopping.store(false, Ordering::Relaxed);
    }
}
