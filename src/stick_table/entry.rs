//! What a table holds: a key, its data, its date. In memory, from the bottom:
//! what an update needs (where the table has a peer), the place in the wheel,
//! the data, the [`Entry`], the rest of the key.

use super::life::Life;
#[cfg(not(model))]
use crate::sync::RwLock;
use crate::sync::atomic::AtomicPtr;
use crate::wheel::Node;
use core::mem::offset_of;

/// The part that C sees, and points to.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    /// When it expires, and who holds it. Its place in the wheel is not later
    /// than its date.
    pub life: Life,
    /// The next one in its bucket: the index's alone.
    pub(super) next: AtomicPtr<Entry>,
    /// For the data: the callers'. Beside it, the mark of the table's keys.
    // KEEPS: INV-106
    #[cfg(not(model))]
    pub lock: RwLock,
    key: [u8; 4],
}

#[cfg(not(model))]
const _: () = assert!(offset_of!(Entry, key) == 20 && size_of::<Entry>() == 24);

/// Where the parts of a table's entries are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes of an update's node.
    pub update: usize,
    /// Bytes of the data, a multiple of 8.
    pub data: usize,
    /// Bytes of the key.
    pub key: usize,
    /// What the keys are: [`Kind::mark`](super::key::Kind::mark).
    pub mark: u16,
}

impl Layout {
    // KEEPS: INV-107
    const fn below(&self) -> usize {
        self.update + size_of::<Node>() + self.data
    }

    /// Bytes of a whole entry.
    pub fn size(&self) -> usize {
        self.below() + size_of::<Entry>().max(offset_of!(Entry, key) + self.key)
    }

    /// Makes a new entry of `block`: no data, no key, held by nobody.
    ///
    /// # Safety
    /// The block has this layout's size, is aligned to 8 and the caller's own.
    // KEEPS: INV-110
    pub unsafe fn build(&self, block: *mut u8, expire: u32) -> *mut Entry {
        // SAFETY: by this function's contract.
        unsafe {
            block.write_bytes(0, self.size());
            let ts: *mut Entry = block.add(self.below()).cast();
            self.node(ts).write(Node::new(0));
            ts.write(Entry {
                life: Life::new(expire),
                next: AtomicPtr::new(core::ptr::null_mut()),
                #[cfg(not(model))]
                lock: RwLock::new(self.mark),
                key: [0; 4],
            });
            ts
        }
    }

    /// The block that `ts` was built in.
    #[inline]
    pub fn block(&self, ts: *mut Entry) -> *mut u8 {
        ts.wrapping_byte_sub(self.below()).cast()
    }

    /// The room for the update's node.
    #[inline]
    pub fn update<T>(&self, ts: *mut Entry) -> *mut T {
        self.block(ts).cast()
    }

    /// The entry around an update's node.
    #[inline]
    pub fn of_update<T>(&self, update: *mut T) -> *mut Entry {
        update.wrapping_byte_add(self.below()).cast()
    }

    /// Its place in the wheel.
    #[inline]
    pub fn node(&self, ts: *mut Entry) -> *mut Node {
        ts.wrapping_byte_sub(self.data + size_of::<Node>()).cast()
    }

    /// The entry around a place in the wheel.
    #[inline]
    pub fn of_node(&self, node: *mut Node) -> *mut Entry {
        node.wrapping_byte_add(self.data + size_of::<Node>()).cast()
    }
}

impl Entry {
    /// The first byte of the key in `ts`.
    #[inline]
    pub fn key_at(ts: *const Entry) -> *mut u8 {
        ts.wrapping_byte_add(offset_of!(Entry, key))
            .cast_mut()
            .cast()
    }
}
