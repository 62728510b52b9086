//! Free objects under the words `integrity` and `backup`: nobody may write to
//! them. Objects are sealed when they enter a thread's cache, and checked when
//! they leave it, whichever way (INV-24). Caches do not touch their objects, so
//! a seal covers all of `size`. The shared list does: there a seal begins
//! behind the links.
//!
//! `integrity` fills the object with a pattern that is another one each time,
//! or a stale pointer that writes what it read before would not show; a word
//! behind the object remembers which. `backup` keeps a copy behind the object.
//! With both, the pattern is what is compared, and the copy of what the object
//! held when it was freed goes into the report.

use super::debug::{BACKUP, INTEGRITY};
use super::head::Head;
use super::shared::Item;
use crate::sync::atomic::{AtomicUsize, Ordering};

const WORD: usize = size_of::<usize>();

/// From one pattern to the next: every bit changes within four steps.
const STEP: usize = usize::MAX / 3;

fn next(pattern: &AtomicUsize) -> usize {
    pattern
        .fetch_add(STEP, Ordering::Relaxed)
        .wrapping_add(STEP)
}

/// Where a free object is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Cache,
    Shared,
}

impl Place {
    /// The first byte that the place itself leaves alone.
    fn start(self) -> usize {
        match self {
            Self::Cache => 0,
            Self::Shared => size_of::<Item>(),
        }
    }
}

/// A word that changed while the object was free.
pub(super) struct Change {
    pub(super) offset: usize,
    pub(super) found: usize,
    pub(super) expected: usize,
    /// What the object held there when it was freed, if that is something else.
    pub(super) before: Option<usize>,
}

impl Head {
    /// Makes the copy of the word `backup`.
    ///
    /// # Safety
    /// The object is one of this pool, which has that word, and in our hands.
    pub(super) unsafe fn back_up(&self, object: *mut u8) {
        // SAFETY: there is room for a copy behind the object.
        unsafe {
            self.copy_of(object)
                .copy_from_nonoverlapping(object, self.size() as usize);
        }
    }

    /// Seals objects that go to `place`.
    ///
    /// # Safety
    /// The objects are this pool's, in our hands.
    // KEEPS: INV-24
    #[inline(always)]
    pub(super) unsafe fn seal(&self, objects: &[*mut u8], place: Place) {
        if self.has(INTEGRITY | BACKUP) {
            // SAFETY: by this function's contract.
            unsafe { self.seal_each(objects, place) };
        }
    }

    #[cold]
    unsafe fn seal_each(&self, objects: &[*mut u8], place: Place) {
        for &object in objects {
            // SAFETY: by the contract of seal.
            unsafe {
                match self.has(INTEGRITY) {
                    true => self.fill_pattern(object, place),
                    false => self.back_up(object),
                }
            }
        }
    }

    /// Fills an object with a new pattern.
    ///
    /// # Safety
    /// The object is one of this pool, which has the word `integrity`, and in
    /// our hands.
    unsafe fn fill_pattern(&self, object: *mut u8, place: Place) {
        let pattern = next(&self.pattern);
        let size = self.size() as usize;
        // SAFETY: the object is `size` bytes long; the pattern's word lies
        // behind it.
        unsafe {
            self.pattern_of(object).write_unaligned(pattern);
            for at in (place.start()..size).step_by(WORD) {
                let len = WORD.min(size - at);
                let bytes = (&raw const pattern).cast::<u8>();
                object.add(at).copy_from_nonoverlapping(bytes, len);
            }
        }
    }

    /// Checks objects that leave `place`; what is wrong is a panic. `from` is
    /// the return address of the call that takes them; 0: keel's own.
    ///
    /// # Safety
    /// The objects are this pool's, in our hands, and were sealed there.
    // KEEPS: INV-24
    #[inline(always)]
    pub(super) unsafe fn check_seals(&self, objects: &[*mut u8], place: Place, from: usize) {
        if self.has(INTEGRITY | BACKUP) {
            // SAFETY: by this function's contract.
            unsafe { self.check_each(objects, place, from) };
        }
    }

    #[cold]
    unsafe fn check_each(&self, objects: &[*mut u8], place: Place, from: usize) {
        for &object in objects {
            // SAFETY: by the contract of check_seals.
            if let Some(change) = unsafe { self.change_of(object, place) } {
                self.broken_seal(object, &change, from);
            }
        }
    }

    /// The first word that changed since the object was sealed.
    ///
    /// # Safety
    /// As for [`check_seals`](Self::check_seals).
    unsafe fn change_of(&self, object: *mut u8, place: Place) -> Option<Change> {
        let size = self.size() as usize;
        let patterned = self.has(INTEGRITY);
        for at in (place.start()..size).step_by(WORD) {
            let len = WORD.min(size - at);
            // SAFETY: the words lie within the object, its copy if it has one,
            // and the pattern's word if it has that.
            unsafe {
                let found = load(object.add(at), len);
                let copy = || load(self.copy_of(object).add(at), len);
                let expected = match patterned {
                    true => load(self.pattern_of(object).cast(), len),
                    false => copy(),
                };
                if found != expected {
                    return Some(Change {
                        offset: at,
                        found,
                        expected,
                        before: (patterned && self.has(BACKUP)).then(copy),
                    });
                }
            }
        }
        None
    }
}

/// The word at `at`, of which `len` bytes count.
///
/// # Safety
/// So many bytes are readable.
unsafe fn load(at: *const u8, len: usize) -> usize {
    let mut bytes = [0; WORD];
    // SAFETY: by this function's contract.
    unsafe { at.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
    usize::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{MEM_F_EXACT, Registry};
    use crate::sys::memory;
    use core::ptr::NonNull;

    fn pool(registry: &Registry, words: &str, size: u32) -> NonNull<Head> {
        assert_eq!(registry.debug(words.as_bytes()), 0);
        registry.create(b"seal", size, 0, MEM_F_EXACT).unwrap()
    }

    /// Seals an object, changes each byte of it in turn, and calls `judge`
    /// with the byte's offset and the change that was found.
    fn tamper(words: &str, size: u32, place: Place, judge: impl Fn(usize, Option<Change>)) {
        let registry = Registry::new();
        let pool = pool(&registry, words, size);
        // SAFETY: the pool exists; the object is ours, as long as the pool's
        // are, and the system's.
        unsafe {
            let pool = pool.as_ref();
            let object = memory::alloc_zeroed(pool.real.load(Ordering::Relaxed) as usize, 16);
            for at in 0..size as usize {
                object.write_bytes(0x11, size as usize);
                pool.back_up_if_asked(object);
                pool.seal(&[object], place);
                assert!(pool.change_of(object, place).is_none());
                *object.add(at) ^= 0x80;
                judge(at, pool.change_of(object, place));
            }
            memory::free(object);
            assert_eq!(registry.destroy_all(None), 0);
        }
    }

    impl Head {
        unsafe fn back_up_if_asked(&self, object: *mut u8) {
            if self.has(BACKUP) {
                // SAFETY: as the tests promise.
                unsafe { self.back_up(object) };
            }
        }
    }

    // SHOWS: INV-24
    #[test]
    fn inv_24_every_byte_of_a_cached_object_counts() {
        for words in [
            "integrity",
            "backup",
            "integrity,backup",
            "integrity,backup,tag,caller",
        ] {
            for size in 0..70 {
                tamper(words, size, Place::Cache, |at, change| {
                    let change = change.unwrap();
                    assert_eq!(change.offset, at / WORD * WORD);
                    let bit = 0x80 << (at % WORD * 8);
                    assert_eq!(change.found ^ change.expected, bit, "{words}");
                    let whole = size as usize - change.offset >= WORD;
                    if words.starts_with("integrity,backup") && whole {
                        assert_eq!(change.before, Some(usize::MAX / 0xff * 0x11));
                    }
                });
            }
        }
    }

    #[test]
    fn links_are_left_out_in_the_shared_list() {
        let links = size_of::<Item>();
        for words in ["integrity", "backup"] {
            tamper(words, links as u32 + 20, Place::Shared, |at, change| {
                assert_eq!(change.is_some(), at >= links);
            });
        }
    }

    #[test]
    fn patterns_differ() {
        let pattern = AtomicUsize::new(0);
        let mut last = 0;
        for _ in 0..100 {
            let next = next(&pattern);
            assert_ne!(next, last);
            last = next;
        }
    }
}
