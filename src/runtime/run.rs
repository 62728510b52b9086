//! Starting the threads, and joining them.

use super::core_state::{Core, core};
use super::{registry, turn};
use crate::sync::atomic::{AtomicI32, Ordering};
use crate::sys;
use crate::sys::thread::Body;
use core::ffi::{c_int, c_uint, c_void};

/// A host's function that prepares a thread: 0, or what `run` shall return.
pub type Init = unsafe extern "C" fn(c_uint, *mut c_void) -> c_int;

struct Plan {
    core: &'static Core,
    init: Option<Init>,
    arg: *mut c_void,
    /// The first failure.
    result: AtomicI32,
    /// The id that the next thread takes.
    next: AtomicI32,
}

impl Plan {
    fn fail(&self, rc: i32) {
        let _ = self
            .result
            .compare_exchange(0, rc, Ordering::Relaxed, Ordering::Relaxed);
        super::stop();
    }

    // One registered thread's life.
    fn live(&self, tid: usize) {
        let rc = match self.init {
            // SAFETY: the host's function and argument.
            Some(init) => unsafe { init(tid as c_uint, self.arg) },
            None => 0,
        };
        if rc != 0 {
            self.fail(rc);
        }
        turn::run_loop();
    }
}

impl Body for Plan {
    fn run(&self) {
        let tid = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let rc = registry::enter(tid);
        if rc < 0 {
            self.fail(rc);
            return;
        }
        self.live(tid);
        registry::leave();
    }
}

// SAFETY: `arg` is the host's word; the rest is shared by design.
unsafe impl Sync for Plan {}

/// Starts all other threads, becomes thread 0, returns when the loops are
/// stopped and the others joined: 0, what an `init` returned, or a negative
/// errno.
///
/// # Safety
/// `init` and `arg` are fit for each other, on any thread.
pub unsafe fn run(init: Option<Init>, arg: *mut c_void) -> i32 {
    let Some(core) = core() else {
        return -sys::EINVAL;
    };
    let registered = match registry::tid() {
        None => false,
        Some(0) => true,
        Some(_) => return -sys::EALREADY,
    };
    // PAIRS: the store below: what the last run did is seen.
    // UNSEEN: who runs it again after another thread joined that one, or asked it.
    if core.running.swap(true, Ordering::Acquire) {
        return -sys::EALREADY;
    }
    // Before the others, so that cpu 0 is there when they come: callouts armed
    // so far stay on it.
    if !registered {
        let rc = registry::enter(0);
        if rc < 0 {
            // PAIRS, UNSEEN: the swap above.
            core.running.store(false, Ordering::Release);
            return rc;
        }
    }
    let plan = Plan {
        core,
        init,
        arg,
        result: AtomicI32::new(0),
        next: AtomicI32::new(1),
    };
    let mut handles: [Option<sys::thread::Handle>; super::config::MAX_THREADS] =
        [None; super::config::MAX_THREADS];
    for handle in &mut handles[1..plan.core.config.nbthread] {
        // SAFETY: the plan outlives the threads, which are joined below.
        match unsafe { sys::thread::spawn(&plan) } {
            Ok(h) => *handle = Some(h),
            Err(_) => {
                plan.fail(-sys::EAGAIN);
                break;
            }
        }
    }
    plan.live(0);
    if !registered {
        registry::leave();
    }
    for handle in handles.into_iter().flatten() {
        // SAFETY: each is joined once.
        unsafe { sys::thread::join(handle) };
    }
    core.stopping.store(false, Ordering::Relaxed);
    // PAIRS, UNSEEN: the swap above.
    core.running.store(false, Ordering::Release);
    plan.result.load(Ordering::Relaxed)
}
