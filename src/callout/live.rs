//! Debug builds: what a callout knows of itself, to find those that are
//! initialised anew, moved or freed while they are pending or run (CINV-31).

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const MAGIC: u32 = 0x63_6c_6f_74;

/// A mark, and the address at which the callout settled down.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Live {
    magic: AtomicU32,
    at: AtomicUsize,
}

impl Live {
    /// Not known yet: neither initialised nor used.
    pub fn new() -> Self {
        Self {
            magic: AtomicU32::new(0),
            at: AtomicUsize::new(0),
        }
    }

    /// Notes that the callout is at `at`; from then on it must stay there.
    #[inline]
    pub fn settle_down(&self, at: usize) {
        if cfg!(debug_assertions) {
            self.at.store(at, Ordering::Relaxed);
            self.magic.store(MAGIC, Ordering::Relaxed);
        }
    }

    /// Whether this memory holds a callout that settled down at `at`.
    pub fn is_settled(&self, at: usize) -> bool {
        self.magic.load(Ordering::Relaxed) == MAGIC && self.at.load(Ordering::Relaxed) == at
    }

    /// Panics if the callout at `at` is not the one that it was.
    // KEEPS: CINV-31
    #[inline]
    pub fn check(&self, at: usize, whence: &str) {
        if !cfg!(debug_assertions) {
            return;
        }
        match self.magic.load(Ordering::Relaxed) {
            // All zeroes, never used.
            0 => self.settle_down(at),
            MAGIC if self.is_settled(at) => (),
            MAGIC => panic!(
                "{whence}: callout {at:#x} was moved: it settled down at {:#x}",
                self.at.load(Ordering::Relaxed)
            ),
            _ => {
                panic!("{whence}: callout {at:#x} was freed or overwritten, or never initialised")
            }
        }
    }
}
