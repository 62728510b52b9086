//! The one global: configuration, thread registry, clock, run loop, sleep and
//! wake, isolation, hooks.
//!
//! [`Core`] is made by `init` and holds the engines that the C functions
//! serve; pools alone exist before it. A registered thread's context is its
//! [`Thread`] record, found through one thread-local pointer; records belong
//! to ids, not to threads, and outlive those who enter under them.
//!
//! The engines return which threads they want woken; [`wake`] does it. The
//! sleep protocol is in [`sleep`], isolation in [`isolation`].

#[cfg(not(model))]
pub mod callouts;
#[cfg(not(model))]
mod common_date;
#[cfg(not(model))]
pub mod config;
#[cfg(not(model))]
mod core_state;
#[cfg(not(model))]
mod dedicated;
#[cfg(not(model))]
mod fork;
#[cfg(not(model))]
pub mod hooks;
pub mod isolation;
#[cfg(not(model))]
pub mod pollers;
#[cfg(not(model))]
mod registry;
#[cfg(not(model))]
mod run;
pub mod sleep;
#[cfg(not(model))]
pub mod tables;
#[cfg(not(model))]
mod thread;
#[cfg(not(model))]
mod turn;

#[cfg(not(model))]
pub use common_date::Dates;
#[cfg(not(model))]
pub use core_state::{Core, core, deinit, init, pools, require_core, started};
#[cfg(not(model))]
pub use dedicated::{end_threads, start_threads};
#[cfg(not(model))]
pub use registry::{enter, here, leave, pool_local, tid};
#[cfg(not(model))]
pub use run::run;
#[cfg(not(model))]
pub use thread::Thread;
#[cfg(not(model))]
pub use turn::{next_deadline_ns, poll_fd, poll_once, run_loop, run_tasks};

#[cfg(not(model))]
pub use global::*;

#[cfg(not(model))]
mod global {
    use super::hooks::Hooks;
    use super::{core, here, require_core};
    use crate::fd::FdTable;
    use crate::sync::ThreadSet;
    use crate::sync::atomic::Ordering;
    use crate::sys::clock;
    use crate::task::{Caller, Tasks};
    use core::ffi::CStr;

    pub(super) static HOOKS: Hooks = Hooks::new();

    /// The host's hooks.
    pub fn hooks() -> &'static Hooks {
        &HOOKS
    }

    /// Ends the process through the panic hook.
    pub fn panicked(file: &CStr, line: u32, message: &CStr) -> ! {
        HOOKS.panicked(file, line, message)
    }

    /// The descriptor table.
    pub fn fds() -> &'static FdTable {
        &require_core().fds
    }

    /// The task engine.
    pub fn tasks() -> &'static Tasks {
        &require_core().tasks
    }

    /// Who calls, and when: the loop's cached date on a registered thread.
    #[inline]
    pub fn caller() -> Caller<'static> {
        match here() {
            Some(t) => t.caller(),
            None => Caller {
                tid: None,
                local: None,
                now: now_of_strangers(),
            },
        }
    }

    // Who is not registered has no cached date.
    #[cold]
    #[inline(never)]
    fn now_of_strangers() -> u64 {
        require_core().now_ms()
    }

    /// Wakes those of `set` that sleep.
    #[inline(always)]
    pub fn wake(set: ThreadSet) {
        if set != ThreadSet::EMPTY {
            wake_some(set);
        }
    }

    #[inline(never)]
    fn wake_some(set: ThreadSet) {
        let core = require_core();
        set.for_each(|tid| core.threads()[tid].wake_if_asleep());
    }

    /// Wakes one thread, or makes its next sleep return at once.
    /// Async-signal-safe.
    pub fn wake_thread(tid: usize) {
        if let Some(t) = core().and_then(|c| c.threads().get(tid)) {
            t.notify();
        }
    }

    /// Ends every loop. Async-signal-safe.
    pub fn stop() {
        let Some(core) = core() else { return };
        // A loop that is notified looks at the flag; see Sleeper::notify.
        core.stopping.store(true, Ordering::Relaxed);
        for t in core.threads() {
            t.notify();
        }
    }

    /// Milliseconds of the calling thread's clock, as a tick.
    pub fn now_tick() -> u32 {
        caller().now as u32
    }

    /// CLOCK_MONOTONIC now.
    pub fn now_ns() -> u64 {
        clock::monotonic_ns()
    }
}
