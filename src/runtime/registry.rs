//! The thread registry: who is bound to which id.

use super::callouts::now_sbt;
use super::core_state::{core, life, pools, require_core};
use super::thread::Thread;
use super::wake;
use crate::callout::time::granule;
use crate::pool;
use crate::sync::atomic::Ordering;
use crate::sys::{self, thread};

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
    let life = life();
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
    if core.vanished.fetch_and(!(1 << tid), Ordering::Relaxed) & (1 << tid) != 0 {
        // Its descriptors are the parent's too: this one makes its own.
        core.fds.forget_thread(tid);
        t.close();
        t.sleeper().awake();
    }
    let mut rc = t.open();
    if rc == 0 {
        rc = core.fds.thread_enter(tid);
    }
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
    t.set_now(core.now_ms());
    t.clock.start();
    core.registered.fetch_or(1 << tid, Ordering::Relaxed);
    core.tasks.enter(tid);
    wake(core.callouts.enter(tid, granule(now_sbt())));
    thread::set_self((&raw const *t).cast_mut().cast());
    // Waiting for an isolated thread must not keep others from leaving.
    drop(life);
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
    if let Some(inside) = core.callouts.inside(thread::identity()) {
        panic!("keel_thread_leave: called from inside {inside}");
    }
    while core.isolation.isolated(Some(t.tid)) {
        core.isolation.release(Some(t.tid));
    }
    pools().flush_local(&t.local);
    wake(core.tasks.leave(t.tid));
    let _life = life();
    wake(core.callouts.leave(t.tid));
    core.fds.thread_leave(t.tid);
    t.sleeper().awake();
    thread::set_self(core::ptr::null_mut());
    core.isolation.harmless(t.tid);
    let bit = 1 << t.tid;
    let was_dedicated = core.dedicated.give_up(bit);
    let others = core.registered.fetch_and(!bit, Ordering::Relaxed) & !bit & !core.dedicated.ids();
    if others == 0 && !was_dedicated && !core.running.load(Ordering::Relaxed) {
        // The last of the host's out: the next loops start afresh.
        core.stopping.store(false, Ordering::Relaxed);
    }
}
