//! fork(): callouts, timers and the registry stay usable in the child, which has
//! the forking thread alone. What other threads were doing inside other engines
//! at that moment stays undone there; stick tables rest.

use super::core_state::{core, life, life_lock};
use super::registry;
use crate::sync::atomic::Ordering;
use crate::sys::fork::{self, Handlers};
use crate::sys::thread;

static HANDLERS: Handlers = Handlers {
    prepare,
    parent,
    child,
};

/// From now on: false for lack of memory.
pub(super) fn install() -> bool {
    fork::install(&HANDLERS)
}

fn prepare() {
    core::mem::forget(life());
    if let Some(core) = core() {
        core.tasks.before_fork();
        core.callouts.before_fork();
    }
}

fn parent() {
    // SAFETY: prepare took them.
    unsafe {
        if let Some(core) = core() {
            core.callouts.after_fork();
            core.tasks.after_fork(false);
        }
        life_lock().force_unlock(false);
    }
}

fn child() {
    // SAFETY: prepare took them.
    unsafe {
        if let Some(core) = core() {
            let me = registry::tid();
            core.callouts.after_fork_in_child(thread::identity(), me);
            core.tasks.after_fork(true);
            let mine = me.map_or(0, |tid| 1 << tid);
            let gone = core.registered.fetch_and(mine, Ordering::Relaxed) & !mine;
            core.vanished.fetch_or(gone, Ordering::Relaxed);
            if gone != 0 {
                super::tables::lose();
            }
            core.dedicated.forget();
            core.isolation.only(me);
            core.tasks.lookout.nobody_sleeps();
        }
        life_lock().force_unlock(true);
    }
}
