//! A pair of full fences of which one is nearly free. The thread that fences
//! often orders its own instructions only; the one that fences rarely has the
//! kernel fence every processor that runs a thread of the process.

#[cfg(not(any(model, tsan)))]
use super::atomic::{AtomicBool, Ordering};
use super::full_fence;

// Changes in `prepare` alone, before anybody fences.
#[cfg(not(any(model, tsan)))]
static READY: AtomicBool = AtomicBool::new(false);

/// Before either fence is used, by one thread: finds out whether the kernel
/// helps. Without its help both are full fences.
pub fn prepare() {
    #[cfg(not(any(model, tsan)))]
    READY.store(crate::sys::membarrier::register(), Ordering::Relaxed);
}

/// The cheap one.
#[inline(always)]
#[cfg_attr(any(loom, tsan), track_caller)]
pub fn light_fence() {
    #[cfg(not(any(model, tsan)))]
    if READY.load(Ordering::Relaxed) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        return;
    }
    full_fence();
}

/// The dear one, about a microsecond.
#[cfg_attr(any(loom, tsan), track_caller)]
pub fn heavy_fence() {
    full_fence();
    #[cfg(not(any(model, tsan)))]
    if READY.load(Ordering::Relaxed) {
        assert!(
            crate::sys::membarrier::everywhere(),
            "membarrier(2) failed, which had been registered for"
        );
    }
}
