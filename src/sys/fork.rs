//! What has to be done around fork().

use crate::sync::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// Functions that fork() calls on the forking thread.
#[derive(Debug)]
pub struct Handlers {
    /// Before it.
    pub prepare: fn(),
    /// After it, in the parent.
    pub parent: fn(),
    /// After it, in the child, which has this thread alone.
    pub child: fn(),
}

static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(ptr::null_mut());

fn handlers() -> Option<&'static Handlers> {
    // PAIRS: install's Release.
    // UNSEEN: the handlers are a constant, here and in install.
    // SAFETY: NULL, or what install was given.
    unsafe { HANDLERS.load(Ordering::Acquire).as_ref() }
}

extern "C" fn prepare() {
    if let Some(h) = handlers() {
        (h.prepare)();
    }
}

extern "C" fn parent() {
    if let Some(h) = handlers() {
        (h.parent)();
    }
}

extern "C" fn child() {
    if let Some(h) = handlers() {
        (h.child)();
    }
}

/// Has `h` called at every fork from now on; once per process, later calls
/// change nothing. False for lack of memory.
pub fn install(h: &'static Handlers) -> bool {
    let h = (&raw const *h).cast_mut();
    if HANDLERS
        // PAIRS, UNSEEN: handlers' Acquire.
        .compare_exchange(ptr::null_mut(), h, Ordering::Release, Ordering::Relaxed)
        .is_err()
    {
        return true;
    }
    // SAFETY: the three live as long as the library, which is never unloaded.
    if unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) } == 0 {
        return true;
    }
    HANDLERS.store(ptr::null_mut(), Ordering::Relaxed);
    false
}

type Handler = Option<extern "C" fn()>;

unsafe extern "C" {
    // Not in the libc crate for every target.
    fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> i32;
}
