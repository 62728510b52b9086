//! References to some entries of a table, for work without its locks.

use super::entry::Entry;
use super::life::Take;
use super::shard::Shard;
use crate::sys::memory;
use core::ptr;

const FIRST: usize = 64;

/// Some entries, each with a reference that has to be given back.
pub(super) struct Batch {
    area: *mut *mut Entry,
    room: usize,
    len: usize,
}

impl Batch {
    /// No entries.
    pub fn new() -> Self {
        Self {
            area: ptr::null_mut(),
            room: 0,
            len: 0,
        }
    }

    /// Whether it is worth while to work on them.
    pub fn is_large(&self) -> bool {
        self.len >= FIRST / 2
    }

    /// Adds what is in a bucket: see [`Shard::visit`]. False for lack of memory.
    pub fn add(&mut self, shard: &Shard, b: usize, then: usize) -> bool {
        loop {
            let before = self.len;
            let mut more = 0;
            shard.visit(b, then, |ts| {
                if self.len < self.room {
                    // SAFETY: stored entries live, and the area has room.
                    unsafe {
                        let taken = (*ts).life.take();
                        debug_assert_eq!(taken, Take::Held);
                        self.area.add(self.len).write(ts);
                    }
                    self.len += 1;
                } else {
                    more += 1;
                }
            });
            if more == 0 {
                return true;
            }
            // Once more, with room for all.
            while self.len > before {
                self.release();
            }
            if !self.grow(self.room + more) {
                return false;
            }
        }
    }

    fn grow(&mut self, room: usize) -> bool {
        let room = room.max(FIRST);
        let area: *mut *mut Entry =
            memory::alloc(room * size_of::<*mut Entry>(), align_of::<*mut Entry>()).cast();
        if area.is_null() {
            return false;
        }
        // SAFETY: the new area is larger than the old one.
        unsafe {
            if self.len > 0 {
                area.copy_from_nonoverlapping(self.area, self.len);
            }
            memory::free(self.area.cast());
        }
        (self.area, self.room) = (area, room);
        true
    }

    /// The last entry, whose reference is still to be given back.
    pub fn last(&self) -> Option<*mut Entry> {
        // SAFETY: below the length the area is filled.
        (self.len > 0).then(|| unsafe { *self.area.add(self.len - 1) })
    }

    /// Gives the last entry's reference back.
    pub fn release(&mut self) {
        if let Some(ts) = self.last() {
            self.len -= 1;
            // SAFETY: its reference kept it alive.
            unsafe { (*ts).life.release() };
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        while self.len > 0 {
            self.release();
        }
        // SAFETY: the batch's own.
        unsafe { memory::free(self.area.cast()) };
    }
}
