//! What models need that loom and shuttle lack.

/// Who explores a model.
#[cfg(loom)]
pub(super) use loom as explorer;
#[cfg(shuttle)]
pub(super) use shuttle as explorer;

/// Where a model tries every other thread; nothing in other builds. Loom alone
/// overlooks orders: a thread's own load of a word hides earlier ones of others
/// from its search when that thread then stores.
#[inline(always)]
pub fn model_point() {
    #[cfg(loom)]
    {
        use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
        loom::lazy_static! {
            static ref POINT: AtomicU32 = AtomicU32::new(0);
        }
        // Relaxed: orders nothing.
        POINT.fetch_add(1, Relaxed);
    }
    #[cfg(shuttle)]
    super::atomic::AtomicBool::new(false).load(super::atomic::Ordering::Relaxed);
}

#[cfg(not(model))]
pub use crate::sys::futex::{wait as sleep_on, wake_all as wake_sleepers};

/// The kernel's queues. A model never ends where two threads spin on a word.
#[cfg(model)]
mod futex {
    use super::explorer;
    use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use explorer::sync::{Condvar, Mutex};

    explorer::lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// Sleeps while `word` is `value`; may return early.
    pub fn sleep_on(word: &AtomicU32, value: u32) {
        let guard = QUEUE.0.lock().unwrap();
        if word.load(Relaxed) == value {
            drop(QUEUE.1.wait(guard).unwrap());
        }
    }

    /// Wakes all who sleep on a word.
    pub fn wake_sleepers(_: &AtomicU32) {
        let _guard = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_all();
    }
}
#[cfg(model)]
pub use futex::{sleep_on, wake_sleepers};
