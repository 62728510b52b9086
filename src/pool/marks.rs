//! What the debugging words do to objects on their way out and back: tags,
//! call sites, poison, injected failures. What happens to free ones is in
//! [`seal`](super::seal), what is said when something is wrong in
//! [`report`](super::report).

use super::debug::{BACKUP, CALLER, POISON, TAG};
use super::head::Head;
use super::registry::Registry;
use crate::sync::atomic::Ordering;

impl Head {
    /// The tag of a live object, and of a free one.
    pub(super) fn tags(&self) -> (usize, usize) {
        let live = core::ptr::from_ref(self).addr();
        (live, !live)
    }

    /// Marks an object that is about to be handed out. `from` is the
    /// return address of the call; 0: keel's own.
    ///
    /// # Safety
    /// `object` is one of this pool, in the caller's hands.
    // KEEPS: INV-9, INV-10
    pub(super) unsafe fn mark_live(&self, object: *mut u8, from: usize) {
        // SAFETY: both words are part of the object's memory.
        unsafe {
            if self.has(TAG) {
                self.tag_of(object).write_unaligned(self.tags().0);
            }
            if self.has(CALLER) {
                self.caller_of(object).write_unaligned(from);
            }
        }
    }

    /// Checks and withdraws the marks of an object that comes back.
    ///
    /// # Safety
    /// As the caller of free promises; this is where broken promises show.
    // KEEPS: INV-9
    pub(super) unsafe fn mark_free(&self, object: *mut u8, from: usize, registry: &Registry) {
        // SAFETY: the words are part of the object's memory if the promise was
        // kept; if not, this reads what lies there, as a debugging aid has to.
        unsafe {
            if self.has(TAG) {
                let (live, free) = self.tags();
                let tag = self.tag_of(object).read_unaligned();
                if tag != live {
                    self.wrong_tag(object, tag, from, registry);
                }
                self.tag_of(object).write_unaligned(free);
            }
            if let Err(found) = self.check_before(object) {
                self.underrun(object, found, from);
            }
            if self.has(CALLER) {
                self.caller_of(object).write_unaligned(from);
            }
            if self.has(BACKUP) {
                self.back_up(object);
            }
        }
    }

    /// Fills an object that is about to be handed out. Zero beats poison;
    /// both cover exactly `size` bytes.
    ///
    /// # Safety
    /// `object` is one of this pool, in the caller's hands.
    // KEEPS: INV-23
    pub(super) unsafe fn fill(&self, object: *mut u8, flags: u32) {
        let byte = if flags & super::POOL_F_MUST_ZERO != 0 {
            0
        } else if self.has(POISON) && flags & super::POOL_F_NO_POISON == 0 {
            self.poison
        } else {
            return;
        };
        // SAFETY: the object is `size` bytes long.
        unsafe { object.write_bytes(byte, self.size() as usize) };
    }
}

impl Registry {
    /// Whether this allocation is one of those that are to fail.
    pub(super) fn draw_failure(&self) -> bool {
        // A Weyl sequence through a multiplicative hash: no two threads see
        // the same draw, and no draw costs more than one addition.
        let n = self.draws.fetch_add(0x9E37_79B9, Ordering::Relaxed);
        let hash = (n ^ (n >> 15)).wrapping_mul(0x2C1B_3C6D);
        (hash >> 16) % 100 < self.settings().fail_rate
    }
}
