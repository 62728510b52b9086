//! What was asked of a pool: the measure of merging, and what a detailed dump
//! shows. Equal requests share an entry, so that creating and destroying in
//! turns needs no more and more memory.

use super::MEM_F_EXACT;
use crate::sys::memory;
use core::ffi::c_char;
use core::mem;
use core::ptr::{self, NonNull};

/// The arguments of one creation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) name: [c_char; 12],
    pub(super) size: u32,
    pub(super) align: u32,
    pub(super) flags: u32,
}

/// A request that was made, and how often.
pub(super) struct Entry {
    next: *mut Entry,
    pub(super) request: Request,
    pub(super) times: u64,
    /// Uses whose declaration was unloaded: the next such declaration gets one.
    unclaimed: u32,
}

/// Memory for an entry, to be had before a lock is taken.
pub(super) struct Spare(*mut Entry);

impl Spare {
    /// None for lack of memory.
    pub(super) fn new() -> Option<Self> {
        let area = memory::alloc(size_of::<Entry>(), mem::align_of::<Entry>());
        (!area.is_null()).then_some(Self(area.cast()))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: NULL, or an area that no list has.
        unsafe { memory::free(self.0.cast()) }
    }
}

/// A pool's requests, oldest first. Under the registry's lock; entries stay
/// until the pool is freed.
pub(super) struct Requests {
    first: *mut Entry,
}

impl Requests {
    pub(super) const NONE: Self = Self {
        first: ptr::null_mut(),
    };

    /// Remembers one more request.
    pub(super) fn add(&mut self, request: Request, spare: &mut Spare) {
        let mut last: *mut *mut Entry = &raw mut self.first;
        // SAFETY: the list's entries are its own, and so is the spare area
        // once its owner has let go of it.
        unsafe {
            while let Some(entry) = (*last).as_mut() {
                if entry.request == request {
                    entry.times += 1;
                    return;
                }
                last = &raw mut entry.next;
            }
            let entry = mem::replace(&mut spare.0, ptr::null_mut());
            entry.write(Entry {
                next: ptr::null_mut(),
                request,
                times: 1,
                unclaimed: 0,
            });
            *last = entry;
        }
    }

    /// The entry after `entry`, or the first one.
    pub(super) fn after(&self, entry: *const Entry) -> Option<NonNull<Entry>> {
        // SAFETY: NULL, or an entry of this list.
        NonNull::new(unsafe { entry.as_ref() }.map_or(self.first, |entry| entry.next))
    }

    fn each(&self) -> impl Iterator<Item = NonNull<Entry>> + '_ {
        let mut at: *const Entry = ptr::null();
        core::iter::from_fn(move || {
            let entry = self.after(at)?;
            at = entry.as_ptr();
            Some(entry)
        })
    }

    fn of(&mut self, request: &Request) -> Option<&mut Entry> {
        // SAFETY: the list's entries are its own; the borrow is exclusive.
        self.each()
            .map(|mut entry| unsafe { entry.as_mut() })
            .find(|entry| entry.request == *request)
    }

    /// Sum and number of the sizes asked for.
    pub(super) fn sizes(&self) -> (u64, u64) {
        self.each().fold((0, 0), |(sum, n), entry| {
            // SAFETY: as above.
            let entry = unsafe { entry.as_ref() };
            let size = u64::from(entry.request.size).saturating_mul(entry.times);
            (sum.saturating_add(size), n + entry.times)
        })
    }

    /// Whether somebody asked for an exact size.
    pub(super) fn any_exact(&self) -> bool {
        // SAFETY: as above.
        self.each()
            .any(|entry| unsafe { entry.as_ref() }.request.flags & MEM_F_EXACT != 0)
    }

    /// Leaves one use to the next declaration that asks for the same.
    pub(super) fn leave(&mut self, request: &Request) {
        if let Some(entry) = self.of(request) {
            entry.unclaimed += 1;
        }
    }

    /// Takes over a use that was left, if there is one.
    pub(super) fn claim(&mut self, request: &Request) -> bool {
        match self.of(request) {
            Some(entry) if entry.unclaimed > 0 => {
                entry.unclaimed -= 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets and frees everything.
    pub(super) fn clear(&mut self) {
        let mut entry = mem::replace(&mut self.first, ptr::null_mut());
        while !entry.is_null() {
            // SAFETY: out of the list, the entry is ours.
            unsafe {
                let next = (*entry).next;
                memory::free(entry.cast());
                entry = next;
            }
        }
    }
}

/// The name as C keeps it: 11 characters and a NUL.
pub(super) fn cut(name: &[u8]) -> [c_char; 12] {
    let mut kept = [0; 12];
    for (to, &from) in kept.iter_mut().zip(name.iter().take(11)) {
        *to = from as c_char;
    }
    kept
}
