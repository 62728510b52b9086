//! What the debugging words do to objects: tags, poison, injected failures.

use super::debug::{POISON, TAG};
use super::head::Head;
use super::registry::Registry;
use crate::sync::atomic::Ordering;

impl Head {
    /// Where the tag stands: right behind the object.
    ///
    /// # Safety
    /// `object` is one of a pool with tags.
    unsafe fn tag_of(&self, object: *mut u8) -> *mut usize {
        // SAFETY: `real` has room for a word behind `size`.
        unsafe { object.add(self.size() as usize).cast() }
    }

    /// Marks an object that is about to be handed out (INV-10).
    ///
    /// # Safety
    /// `object` is one of this pool, in the caller's hands.
    pub(super) unsafe fn mark_live(&self, object: *mut u8, _from: usize) {
        if self.has(TAG) {
            let tag = core::ptr::from_ref(self).addr();
            // SAFETY: the tag is part of the object's memory.
            unsafe { self.tag_of(object).write_unaligned(tag) };
        }
    }

    /// Checks and withdraws the mark of an object that comes back (INV-9).
    ///
    /// # Safety
    /// As the caller of free promises; this is where broken promises show.
    pub(super) unsafe fn mark_free(&self, object: *mut u8, _from: usize, registry: &Registry) {
        if !self.has(TAG) {
            return;
        }
        let live = core::ptr::from_ref(self).addr();
        // SAFETY: the object has a tag if the promise was kept; if not, this
        // reads what lies there, as a debugging aid has to.
        let tag = unsafe { self.tag_of(object).read_unaligned() };
        if tag != live {
            self.wrong_tag(object, tag, registry);
        }
        // SAFETY: as above.
        unsafe { self.tag_of(object).write_unaligned(!live) };
    }

    #[cold]
    fn wrong_tag(&self, object: *mut u8, tag: usize, registry: &Registry) -> ! {
        let name = self.name();
        if tag == !core::ptr::from_ref(self).addr() {
            panic!("pool {name}: object {object:p} is freed twice");
        }
        if let Some(owner) = registry.name_of(tag) {
            panic!("pool {name}: object {object:p} was allocated from pool {owner}");
        }
        panic!(
            "pool {name}: the word behind object {object:p} was overwritten, \
             or the object was freed already or never came from this pool"
        );
    }

    /// Fills an object that is about to be handed out. Zero beats poison;
    /// both cover exactly `size` bytes (INV-23).
    ///
    /// # Safety
    /// `object` is one of this pool, in the caller's hands.
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
