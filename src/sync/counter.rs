//! A statistics counter that one thread writes and all may read.

use super::atomic::{AtomicU64, Ordering};

/// Written by its owner thread alone, with plain loads and stores; readers
/// see some recent value.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Zero.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`; only the owner thread calls this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Subtracts `n`; only the owner thread calls this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.set(self.get().wrapping_sub(n));
    }

    /// Stores `n`; only the owner thread calls this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Some recent value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}
