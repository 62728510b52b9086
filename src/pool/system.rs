//! Objects from the system and back: the limit, the count of what is
//! allocated, and the pages of use-after-free mode.

use super::head::Head;
use super::{debug, need};
use crate::sync::atomic::Ordering;
use crate::sys::memory::{self, PAGE};
use core::ptr;

/// Written into a dying object: a second free faults on it, if not before.
const DEAD: u32 = 0xDEAD_ADD4;

impl Head {
    /// A new object, counted as allocated and, in some bucket, used. NULL at
    /// the limit or without memory; then nothing has changed.
    // KEEPS: INV-1, INV-14
    #[cold]
    pub(super) fn obtain(&self, bucket: usize) -> *mut u8 {
        if !self.reserve() {
            return ptr::null_mut();
        }
        let object = self.system_alloc();
        if object.is_null() {
            self.counters.allocated.fetch_sub(1, Ordering::Relaxed);
            return object;
        }
        self.shared.add_used(bucket % self.buckets(), 1);
        self.feed_need(self.snapshot().1, need::ALLOC_WEIGHT);
        object
    }

    /// Counts one more allocated object unless the limit is reached.
    fn reserve(&self) -> bool {
        let allocated = &self.counters.allocated;
        let limit = u64::from(self.limit());
        if limit == 0 {
            allocated.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        allocated
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok()
    }

    /// Gives an object that is not counted as used back to the system.
    ///
    /// # Safety
    /// The caller detached the object: nobody else can reach it.
    // KEEPS: INV-5
    pub(super) unsafe fn dispose(&self, object: *mut u8) {
        self.counters.allocated.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: by this function's contract.
        unsafe { self.system_free(object) };
    }

    fn system_alloc(&self) -> *mut u8 {
        let real = self.real.load(Ordering::Relaxed) as usize;
        let align = self.align() as usize;
        if self.has(debug::UAF) {
            pages_alloc(real, align)
        } else if self.has(debug::BACKUP) {
            // Those bytes too are compared that nobody wrote, which checkers
            // of memory would report.
            memory::alloc_zeroed(real, align)
        } else {
            memory::alloc(real, align)
        }
    }

    /// The system's half of [`dispose`](Self::dispose).
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn system_free(&self, object: *mut u8) {
        if self.has(debug::UAF) {
            let real = self.real.load(Ordering::Relaxed) as usize;
            // SAFETY: the object came from pages_alloc with the same figures.
            unsafe {
                if let Err(found) = self.check_before(object) {
                    self.underrun(object, found, 0);
                }
                pages_free(object, real, self.align() as usize);
            }
        } else {
            // SAFETY: the object came from memory::alloc.
            unsafe { memory::free(object) };
        }
    }
}

impl Head {
    /// Looks whether the word before an object in pages of its own is as
    /// pages_alloc() left it: what is found there if not.
    ///
    /// # Safety
    /// The object is one of this pool.
    pub(super) unsafe fn check_before(&self, object: *mut u8) -> Result<(), usize> {
        if !self.has(debug::UAF) {
            return Ok(());
        }
        let real = self.real.load(Ordering::Relaxed) as usize;
        // SAFETY: the object came from pages_alloc with the same figures.
        unsafe { word_before(object, real, self.align() as usize) }
    }
}

/// Where an object of `real` bytes starts in its pages: as far back as the
/// alignment permits, so that what follows it faults.
fn padding(real: usize, align: usize) -> (usize, usize) {
    let span = real.next_multiple_of(PAGE);
    (span, (span - real) & !(align - 1))
}

/// Pages for one object, and one more that faults: a mapping that happens to
/// follow would hide an overrun.
// KEEPS: INV-22
fn pages_alloc(real: usize, align: usize) -> *mut u8 {
    let (span, pad) = padding(real, align);
    let whole = span + PAGE;
    let slack = if align > PAGE { align } else { 0 };
    let area = memory::map_pages(whole + slack);
    if area.is_null() {
        return area;
    }
    let skip = area.align_offset(align.max(PAGE));
    let start = area.wrapping_add(skip);
    // SAFETY: all parts lie in the mapping: around the one that is kept, that
    // one's last page, and if that fails the rest.
    unsafe {
        if skip > 0 {
            memory::unmap_pages(area, skip);
        }
        if slack > skip {
            memory::unmap_pages(start.add(whole), slack - skip);
        }
        if !memory::forbid_pages(start.add(span), PAGE) {
            memory::unmap_pages(start, whole);
            return ptr::null_mut();
        }
    }
    let object = start.wrapping_add(pad);
    if pad >= size_of::<usize>() {
        // SAFETY: there is a word of padding before the object.
        unsafe { object.cast::<usize>().sub(1).write_unaligned(object.addr()) };
    }
    object
}

/// What the word before the object is, if not what pages_alloc() wrote there.
///
/// # Safety
/// `object` came from `pages_alloc(real, align)`. If it was freed since, this
/// faults.
unsafe fn word_before(object: *mut u8, real: usize, align: usize) -> Result<(), usize> {
    if padding(real, align).1 < size_of::<usize>() {
        return Ok(());
    }
    // SAFETY: there is a word of padding before the object.
    match unsafe { object.cast::<usize>().sub(1).read_unaligned() } {
        word if word == object.addr() => Ok(()),
        word => Err(word),
    }
}

/// Unmaps an object's pages.
///
/// # Safety
/// `object` came from `pages_alloc(real, align)` and is the caller's.
// KEEPS: INV-22
unsafe fn pages_free(object: *mut u8, real: usize, align: usize) {
    let (span, pad) = padding(real, align);
    // SAFETY: the pages are mapped, unless this is a double free: then it has
    // to fault here. `real` is never less than a word.
    unsafe {
        object.cast::<u32>().write_volatile(DEAD);
        memory::unmap_pages(object.sub(pad), span + PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHOWS: INV-22
    #[test]
    fn pool_22_pages_fit_every_size_and_alignment() {
        for align in [16, 64, 4096, 8192, 65536] {
            for real in [8, 16, 17, 4000, 4096, 4097, 100_000] {
                let object = pages_alloc(real, align);
                assert!(!object.is_null());
                assert_eq!(object.addr() % align, 0, "{real} {align}");
                let end = object.addr() + real;
                assert!(end.next_multiple_of(PAGE) - end < align, "{real} {align}");
                // SAFETY: the object is `real` bytes long, and ours to free.
                unsafe {
                    object.write_bytes(0xff, real);
                    assert_eq!(word_before(object, real, align), Ok(()));
                    pages_free(object, real, align);
                }
            }
        }
    }

    // SHOWS: INV-22
    #[test]
    fn an_underflow_is_seen() {
        let object = pages_alloc(100, 16);
        // SAFETY: padding lies before the object; the pages are ours.
        unsafe {
            assert_eq!(word_before(object, 100, 16), Ok(()));
            *object.sub(1) ^= 1;
            let found = object.addr() ^ (1 << 56);
            assert_eq!(word_before(object, 100, 16), Err(found));
            pages_free(object, 100, 16);
        }
    }
}
