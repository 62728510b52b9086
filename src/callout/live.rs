//! Debug builds: callouts that are initialised anew, moved or freed while
//! they are pending or run (CINV-31).

use super::item::Callout;
use super::lock::Lock;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const MAGIC: u32 = 0x63_6c_6f_74;

/// What a callout knows of itself.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Live {
    magic: AtomicU32,
    /// Its address.
    me: AtomicUsize,
}

impl Live {
    /// Not known yet: neither initialised nor used.
    pub fn new() -> Self {
        Self {
            magic: AtomicU32::new(0),
            me: AtomicUsize::new(0),
        }
    }
}

impl Callout {
    /// Makes the memory an idle callout.
    ///
    /// # Safety
    /// The memory is the caller's, and no callout that is in use.
    pub unsafe fn init(c: *mut Self, lock: Lock, flags: u8) {
        // SAFETY: by this function's contract. What is read may be garbage,
        // which does not by chance call itself a callout at this address.
        unsafe {
            if cfg!(debug_assertions) && (*c).is_settled() && (*c).is_pending() {
                panic!("callout_init: callout {c:p} is pending");
            }
            c.write(Self::new(lock, flags));
            (*c).settle_down();
        }
    }

    /// Notes where this callout is; from then on it must stay there.
    #[inline]
    pub(super) fn settle_down(&self) {
        if cfg!(debug_assertions) {
            self.live
                .me
                .store(&raw const *self as usize, Ordering::Relaxed);
            self.live.magic.store(MAGIC, Ordering::Relaxed);
        }
    }

    /// Whether this memory holds a callout that settled down here.
    pub(super) fn is_settled(&self) -> bool {
        self.live.magic.load(Ordering::Relaxed) == MAGIC
            && self.live.me.load(Ordering::Relaxed) == &raw const *self as usize
    }

    /// Panics if this is not the callout that it was.
    #[inline]
    pub(super) fn check_live(&self, whence: &str) {
        if !cfg!(debug_assertions) {
            return;
        }
        match self.live.magic.load(Ordering::Relaxed) {
            // All zeroes, never used.
            0 => self.settle_down(),
            MAGIC if self.is_settled() => (),
            MAGIC => panic!(
                "{whence}: callout {self:p} was moved: it settled down at {:#x}",
                self.live.me.load(Ordering::Relaxed)
            ),
            _ => {
                panic!("{whence}: callout {self:p} was freed or overwritten, or never initialised")
            }
        }
    }
}
