//! A lock for readers and writers in two bytes, for data that stands elsewhere. Spins a little, then sleeps in the kernel, as [`Mutex`] does.
//!
//! [`Mutex`]: super::Mutex

use super::atomic::{AtomicU8, AtomicU32, Ordering};
use crate::sys::futex;

const FREE: u8 = 0;
const WRITTEN: u8 = u8::MAX;
const SPINS: u32 = 100;
/// The longest sleep, ns.
const NAP: u64 = 1_000_000;

/// The lock, and two bytes of its owner's.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct RwLock {
    /// How many read, or that one writes. A byte of its own, so that a writer
    /// gives the lock back by a plain store. More readers than fit wait.
    holders: AtomicU8,
    /// Who sleeps on the word, or is about to. Should there be 256, they are
    /// not seen, and nap.
    sleepers: AtomicU8,
    /// The owner's; it does not change.
    pub beside: u16,
}

impl RwLock {
    /// A free lock.
    pub const fn new(beside: u16) -> Self {
        Self {
            holders: AtomicU8::new(FREE),
            sleepers: AtomicU8::new(0),
            beside,
        }
    }

    /// Waits until nobody reads or writes.
    #[inline]
    pub fn write(&self) {
        if !self.try_write() {
            self.wait(Self::try_write);
        }
    }

    /// Waits until nobody writes.
    #[inline]
    pub fn read(&self) {
        if !self.try_read() {
            self.wait(Self::try_read);
        }
    }

    /// Ends [`write`](Self::write).
    #[inline]
    pub fn end_write(&self) {
        // PAIRS: try_write's and try_read's Acquire; what was written.
        self.holders.store(FREE, Ordering::Release);
        self.wake();
    }

    /// Ends [`read`](Self::read).
    #[inline]
    pub fn end_read(&self) {
        // PAIRS: try_write's Acquire; the reads are over.
        if self.holders.fetch_sub(1, Ordering::Release) == 1 {
            self.wake();
        }
    }

    #[inline]
    fn try_write(&self) -> bool {
        // PAIRS: end_write's and end_read's Release.
        self.holders
            .compare_exchange(FREE, WRITTEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn try_read(&self) -> bool {
        let now = self.holders.load(Ordering::Relaxed);
        // PAIRS: end_write's Release.
        now < WRITTEN - 1
            && self
                .holders
                .compare_exchange(now, now + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    // What the kernel compares and sleeps on: all of it.
    fn word(&self) -> &AtomicU32 {
        // SAFETY: four bytes, aligned; the kernel alone reads them as a word.
        unsafe { &*(&raw const *self).cast() }
    }

    #[cold]
    fn wait(&self, tried: impl Fn(&Self) -> bool) {
        for _ in 0..SPINS {
            super::spin_hint();
            if self.holders.load(Ordering::Relaxed) != WRITTEN && tried(self) {
                return;
            }
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        while !tried(self) {
            let holders = self.holders.load(Ordering::Relaxed);
            let sleepers = self.sleepers.load(Ordering::Relaxed);
            let [a, b] = self.beside.to_ne_bytes();
            if holders != FREE {
                // WINDOW(rw-lock-nap): the holder looked for sleepers before it
                // could see this one: nobody wakes us. The nap ends by itself.
                let word = u32::from_ne_bytes([holders, sleepers, a, b]);
                futex::wait_for(self.word(), word, NAP);
            }
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    fn wake(&self) {
        // WINDOW(rw-lock-nap): as in wait.
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            futex::wake_all(self.word());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::UnsafeCell;

    struct Shared(RwLock, UnsafeCell<[u64; 2]>);
    // SAFETY: the lock guards the words.
    unsafe impl Sync for Shared {}

    /// A writer that has seen nobody asleep wakes nobody.
    /// SHOWS: WINDOW(rw-lock-nap)
    #[test]
    fn who_was_not_seen_wakes_up_by_itself() {
        let lock = RwLock::new(7);
        lock.write();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            s.spawn(|| {
                lock.read();
                lock.end_read();
                done.send(()).unwrap();
            });
            while lock.sleepers.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            // Until it sleeps, most likely.
            std::thread::sleep(std::time::Duration::from_millis(20));
            // PAIRS: try_read's Acquire.
            lock.holders.store(FREE, Ordering::Release);
            let awake = is_done.recv_timeout(std::time::Duration::from_secs(20));
            if awake.is_err() {
                futex::wake_all(lock.word());
            }
            assert_eq!(awake, Ok(()));
        });
    }

    #[test]
    fn writers_exclude_everybody_and_readers_each_other_not() {
        let lock = RwLock::new(7);
        lock.read();
        assert!(lock.try_read() && !lock.try_write());
        lock.end_read();
        lock.end_read();
        assert!(lock.try_write() && !lock.try_read() && !lock.try_write());
        lock.end_write();
        let shared = Shared(lock, UnsafeCell::new([0; 2]));
        let shared = &shared;
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(move || {
                    for _ in 0..20_000 {
                        shared.0.write();
                        // SAFETY: written under the lock.
                        unsafe { (*shared.1.get()).iter_mut().for_each(|w| *w += 1) };
                        shared.0.end_write();
                        shared.0.read();
                        // SAFETY: nobody writes.
                        let [a, b] = unsafe { *shared.1.get() };
                        shared.0.end_read();
                        assert_eq!(a, b);
                    }
                });
            }
        });
        // SAFETY: the threads are gone.
        assert_eq!(unsafe { *shared.1.get() }, [40_000; 2]);
        assert_eq!(shared.0.sleepers.load(Ordering::Relaxed), 0);
    }
}
