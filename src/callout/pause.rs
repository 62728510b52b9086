//! Pause points: where a test can hold a thread. Nothing in other builds.

use super::item::Callout;

/// The places, in the order of `c-tests/pause/pause.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Point {
    /// The slot names the callout, the cpu's lock is free again.
    Dequeued,
    /// Right before the associated lock is taken.
    Lockwait,
    /// Right before the handler.
    HandlerEnter,
    /// Right after it.
    HandlerExit,
    /// The associated lock is free again, the cpu's not yet taken.
    Unlocked,
    /// The callout belongs to no cpu.
    BetweenLocks,
    /// A drain is about to sleep.
    DrainBeforeSleep,
    /// A drain has seen the end of what it waited for.
    DrainWoken,
    /// A loop has made up its mind to sleep.
    SleepCommit,
    /// The wheel has more to file again than one pass may.
    Refile,
}

#[cfg(all(feature = "pause", not(model)))]
mod hook {
    use super::{Callout, Point};
    use crate::sync::atomic::{AtomicPtr, Ordering};

    /// What a test installs.
    pub type Hook = unsafe extern "C" fn(i32, *const core::ffi::c_void);

    static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    /// Installs the test's function.
    pub fn set(hook: Option<Hook>) {
        let hook = hook.map_or(core::ptr::null_mut(), |f| f as *mut ());
        // PAIRS: at's Acquire; publishes what the test prepared.
        HOOK.store(hook, Ordering::Release);
    }

    /// This thread is at `point` with `c`.
    pub fn at(point: Point, c: *const Callout) {
        // PAIRS: set's Release.
        let hook = HOOK.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: set stored a Hook there.
            unsafe { core::mem::transmute::<*mut (), Hook>(hook)(point as i32, c.cast()) }
        }
    }
}

#[cfg(all(feature = "pause", not(model)))]
pub use hook::{Hook, at, set};

/// Nothing, but that models try every thread here.
#[cfg(not(all(feature = "pause", not(model))))]
#[inline(always)]
pub fn at(_: Point, _: *const Callout) {
    crate::sync::model_point();
}
