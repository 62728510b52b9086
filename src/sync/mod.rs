//! The only door to atomics, locks, fences and cells.
//!
//! Everything here is `core`'s in a normal build, loom's under `cfg(loom)` and
//! shuttle's under `cfg(shuttle)`, so that a model explores the code that ships.
//! `cfg(model)` is either: build.rs sets it.

mod asymmetric;
mod cell;
mod counter;
mod inbox;
mod lock;
mod model;
#[cfg(not(model))]
mod rw_lock;
mod thread_set;

pub use asymmetric::{heavy_fence, light_fence, prepare};
pub use cell::UnsafeCell;
pub use counter::Counter;
pub use inbox::{Inbox, Link};
pub use lock::{Mutex, MutexGuard};
pub use model::{model_point, sleep_on, wake_sleepers};
#[cfg(not(model))]
pub use rw_lock::RwLock;
pub use thread_set::ThreadSet;

#[cfg(any(loom, tsan))]
pub mod weaken;
#[cfg(any(loom, tsan))]
pub use weaken as atomic;
/// The atomic types and [`Ordering`](atomic::Ordering).
#[cfg(not(any(loom, tsan)))]
pub mod atomic {
    #[cfg(not(shuttle))]
    pub use core::sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    #[cfg(shuttle)]
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

/// A sequentially consistent fence: every access before it is ordered with
/// every access after it, on all threads that use it.
///
/// ThreadSanitizer does not model fences, so under `cfg(tsan)` a
/// read-modify-write on one static word stands in: it is totally ordered and
/// both acquires and releases, which is at least as strong. Shuttle runs one
/// thread at a time, each of whose accesses all see at once.
#[inline]
#[cfg_attr(any(loom, tsan), track_caller)]
pub fn full_fence() {
    #[cfg(any(loom, tsan))]
    if weaken::no_fence(core::panic::Location::caller()) {
        return;
    }
    #[cfg(loom)]
    loom::sync::atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(all(not(model), tsan))]
    {
        static ORDER: atomic::AtomicU32 = atomic::AtomicU32::new(0);
        ORDER.fetch_add(1, atomic::Ordering::SeqCst);
    }
    #[cfg(all(not(model), not(tsan)))]
    core::sync::atomic::fence(atomic::Ordering::SeqCst);
}

/// One turn of a bounded wait: tells the processor, or lets a model run
/// the thread that is waited for.
#[inline]
pub fn spin_hint() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(model))]
    core::hint::spin_loop();
}
