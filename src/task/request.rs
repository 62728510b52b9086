//! The earliest date that others have asked for and no run has seen yet.

use super::tick;
use crate::sync::atomic::{AtomicI32, Ordering};

/// A date that any thread may bring forward: the earliest wins, and nothing
/// is lost whoever runs meanwhile (INV-39; museum pattern 2).
// KEEPS: INV-39
#[derive(Debug)]
#[repr(transparent)]
pub struct Request(AtomicI32);

impl Request {
    /// No request.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicI32::new(tick::ETERNITY))
    }

    /// No request.
    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicI32::new(tick::ETERNITY))
    }

    /// Asks for a run at `when` at the latest.
    pub fn bring_forward(&self, when: i32) {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let new = tick::first(old, when);
            if new == old {
                return;
            }
            match self
                .0
                .compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// Takes the request. The caller holds RUNNING, or cancels.
    #[inline]
    pub fn take(&self) -> Option<i32> {
        if self.0.load(Ordering::Relaxed) == tick::ETERNITY {
            return None;
        }
        match self.0.swap(tick::ETERNITY, Ordering::Relaxed) {
            tick::ETERNITY => None,
            when => Some(when),
        }
    }
}

impl Default for Request {
    fn default() -> Self {
        Self::new()
    }
}
