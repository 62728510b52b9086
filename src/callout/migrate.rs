//! Which cpu a callout belongs to, and how it changes (CINV-1, -4, -7).
//!
//! The word holds the number of the cpu whose lock protects the callout. A
//! move needs exclusion on two cpus without holding two locks, so the callout
//! itself is blocked in between: nobody who looks at it can pick either cpu.
//!
//! All accesses are relaxed, because the locks order them. Whoever holds the
//! lock of cpu k and reads k has the callout: the store of k was made under
//! that lock, by an earlier holder, and so is the store of BLOCK that ends it.
//! A number read without the lock is only a hint which lock to take.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{sleep_on, wake_sleepers};

/// Between two cpus.
const BLOCK: u32 = u32::MAX;
/// The same, and somebody may sleep until it ends.
const BLOCK_WAITED: u32 = u32::MAX - 1;
#[cfg(not(model))]
const SPINS: u32 = 100;

/// The word.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Home(AtomicU32);

impl Home {
    /// Cpu 0.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The cpu, once there is one.
    #[inline]
    pub fn cpu(&self) -> usize {
        let word = self.0.load(Ordering::Relaxed);
        if word < BLOCK_WAITED {
            word as usize
        } else {
            self.wait()
        }
    }

    /// Whether the callout is that cpu's. The caller holds its lock.
    #[inline]
    pub fn is(&self, cpu: usize) -> bool {
        self.0.load(Ordering::Relaxed) == cpu as u32
    }

    /// The callout is nobody's from now on, until [`arrive`](Self::arrive).
    /// The caller holds the lock of its cpu, on no list of which it is, and
    /// whose slot does not name it.
    // KEEPS: CINV-4
    pub fn leave(&self) {
        self.0.store(BLOCK, Ordering::Relaxed);
    }

    /// The callout is `cpu`'s. The caller called [`leave`](Self::leave) and
    /// holds that cpu's lock.
    // KEEPS: CINV-4
    pub fn arrive(&self, cpu: usize) {
        if self.0.swap(cpu as u32, Ordering::Relaxed) == BLOCK_WAITED {
            // Before the lock is freed: nobody can free the callout yet.
            wake_sleepers(&self.0);
        }
    }

    /// A number from before the last `init`, when there were more cpus: the
    /// callout is idle, and cpu 0 is as good as any.
    #[cold]
    pub fn forget(&self, cpu: usize) {
        let _ = self
            .0
            .compare_exchange(cpu as u32, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    // The mover may have lost its processor: spin shortly, then sleep.
    #[cold]
    fn wait(&self) -> usize {
        #[cfg(not(model))]
        for _ in 0..SPINS {
            let word = self.0.load(Ordering::Relaxed);
            if word < BLOCK_WAITED {
                return word as usize;
            }
            crate::sync::spin_hint();
        }
        loop {
            let word = self.0.load(Ordering::Relaxed);
            if word < BLOCK_WAITED {
                return word as usize;
            }
            if word == BLOCK_WAITED
                || self
                    .0
                    .compare_exchange(BLOCK, BLOCK_WAITED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                sleep_on(&self.0, BLOCK_WAITED);
            }
        }
    }
}
