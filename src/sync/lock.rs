//! A lock for short critical sections: spins a little, then sleeps in the
//! kernel. Two words; no allocation; works in a C library without std.
//!
//! Freeing it is a plain store and a look for sleepers, half the price of an
//! exchange. The look may miss somebody who is just going to sleep, since a
//! later load can overtake a store; that is why nobody sleeps for long.

use super::UnsafeCell;
#[cfg(not(model))]
use super::atomic::{AtomicU32, Ordering};
#[cfg(model)]
use super::model::explorer;
use core::ops::{Deref, DerefMut};

#[cfg(not(model))]
const FREE: u32 = 0;
#[cfg(not(model))]
const HELD: u32 = 1;
#[cfg(not(model))]
const SPINS: u32 = 100;
/// The longest sleep, ns.
#[cfg(not(model))]
const NAP: u64 = 1_000_000;

/// Data behind a lock.
#[derive(Debug)]
pub struct Mutex<T> {
    #[cfg(not(model))]
    word: AtomicU32,
    /// Who sleeps on the word, or is about to.
    #[cfg(not(model))]
    sleepers: AtomicU32,
    #[cfg(model)]
    word: explorer::sync::Mutex<()>,
    data: UnsafeCell<T>,
}

// SAFETY: the lock hands its data to one thread at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: as for any owned value.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock around `data`.
    #[cfg(not(model))]
    pub const fn new(data: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            sleepers: AtomicU32::new(0),
            data: UnsafeCell::new(data),
        }
    }

    /// A free lock around `data`.
    #[cfg(model)]
    pub fn new(data: T) -> Self {
        Self {
            word: explorer::sync::Mutex::new(()),
            data: UnsafeCell::new(data),
        }
    }

    /// Waits for the lock and takes it.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(model)]
        {
            MutexGuard {
                mutex: self,
                _held: self.word.lock().unwrap(),
            }
        }
        #[cfg(not(model))]
        {
            // PAIRS: MutexGuard::drop's Release; what the last holder wrote.
            if self
                .word
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                self.lock_slow();
            }
            MutexGuard { mutex: self }
        }
    }

    #[cfg(not(model))]
    #[inline]
    fn try_take(&self) -> bool {
        // PAIRS: MutexGuard::drop's Release; what the last holder wrote.
        self.word.load(Ordering::Relaxed) == FREE
            && self
                .word
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Frees the lock for a holder who has forgotten the guard; `alone`: all
    /// who slept on it are gone, as after a fork.
    ///
    /// # Safety
    /// This thread holds the lock.
    #[cfg(not(model))]
    pub unsafe fn force_unlock(&self, alone: bool) {
        if alone {
            self.sleepers.store(0, Ordering::Relaxed);
        }
        drop(MutexGuard { mutex: self });
    }

    #[cfg(not(model))]
    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            if self.try_take() {
                return;
            }
            super::spin_hint();
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        while !self.try_take() {
            // WINDOW(mutex-nap): the holder has looked for sleepers before it
            // could see this one, and its store is not visible yet: nobody
            // wakes us. The nap ends by itself.
            crate::sys::futex::wait_for(&self.word, HELD, NAP);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to the data of a [`Mutex`]; dropping it frees the lock.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    #[cfg(model)]
    _held: explorer::sync::MutexGuard<'a, ()>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this thread holds the lock.
        self.mutex.data.with(|p| unsafe { &*p })
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists, so this thread holds the lock, and the
        // exclusive borrow of the guard makes this the only reference.
        self.mutex.data.with_mut(|p| unsafe { &mut *p })
    }
}

#[cfg(not(model))]
impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // PAIRS: lock's Acquire; publishes what this holder wrote.
        self.mutex.word.store(FREE, Ordering::Release);
        // WINDOW(mutex-nap): as in lock_slow.
        if self.mutex.sleepers.load(Ordering::Relaxed) != 0 {
            crate::sys::futex::wake_one(&self.mutex.word);
        }
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// A holder that has seen nobody asleep wakes nobody.
    /// SHOWS: WINDOW(mutex-nap)
    #[test]
    fn who_was_not_seen_wakes_up_by_itself() {
        let mutex = Mutex::new(());
        core::mem::forget(mutex.lock());
        let (done, is_done) = channel();
        std::thread::scope(|s| {
            s.spawn(|| {
                drop(mutex.lock());
                done.send(()).unwrap();
            });
            while mutex.sleepers.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            // Until it sleeps, most likely.
            std::thread::sleep(Duration::from_millis(20));
            // PAIRS: lock's Acquire.
            mutex.word.store(FREE, Ordering::Release);
            let awake = is_done.recv_timeout(Duration::from_secs(20));
            if awake.is_err() {
                crate::sys::futex::wake_one(&mutex.word);
            }
            assert_eq!(awake, Ok(()));
        });
    }
}
