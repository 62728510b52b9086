//! What an object's memory consists of.

use super::MEM_F_EXACT;
use super::debug;
use super::head::Head;
use super::shared::{CLUSTER_MAX, Item};
use crate::sync::atomic::Ordering;

/// What the system's allocator aligns to anyway.
const DEFAULT_ALIGN: u32 = 16;

/// Sizes of a pool's objects.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) size: u32,
    pub(super) align: u32,
    pub(super) real: u32,
}

impl Shape {
    /// None if the figures are beyond reason (a real size over 32 bits).
    // KEEPS: INV-8
    pub(super) fn new(size: u32, align: u32, flags: u32, debug: u32) -> Option<Self> {
        let word = size_of::<usize>() as u32;
        let align = match align {
            0 => DEFAULT_ALIGN,
            n => n.checked_next_power_of_two()?.max(word),
        };
        let tag = if debug & debug::TAG != 0 { word } else { 0 };
        // With a tag no more than a word: it has to notice small overruns.
        let step = if tag != 0 { word } else { 16 };
        let size = if flags & MEM_F_EXACT != 0 {
            size
        } else {
            size.max(1).checked_next_multiple_of(step)?
        };
        // A free object holds the links of the shared list (INV-8). They may
        // lie over the tag, which means something while the object is live.
        let links = match debug & debug::NO_CACHE {
            0 => size_of::<Item>() as u32,
            _ => word,
        };
        let mut real = size.checked_add(tag)?.max(links);
        let extra = extra(size, debug);
        if extra != 0 {
            real = real
                .checked_next_multiple_of(word)?
                .checked_add(u32::try_from(extra).ok()?)?;
        }
        Some(Self { size, align, real })
    }
}

/// Bytes of what is kept behind tag and links, in this order: the copy of the
/// word `backup`, the word of `integrity`, that of `caller`.
fn extra(size: u32, debug: u32) -> u64 {
    let word = size_of::<usize>() as u64;
    let mut extra = 0;
    if debug & debug::BACKUP != 0 {
        extra += u64::from(size).next_multiple_of(word);
    }
    if debug & debug::INTEGRITY != 0 {
        extra += word;
    }
    if debug & debug::CALLER != 0 {
        extra += word;
    }
    extra
}

impl Head {
    /// Where the tag stands: right behind the object.
    pub(super) fn tag_of(&self, object: *mut u8) -> *mut usize {
        object.wrapping_add(self.size() as usize).cast()
    }

    /// Where the call site stands: at the very end.
    pub(super) fn caller_of(&self, object: *mut u8) -> *mut usize {
        self.extras_for(object, debug::CALLER).cast()
    }

    /// Where the pattern of a sealed object is remembered.
    pub(super) fn pattern_of(&self, object: *mut u8) -> *mut usize {
        self.extras_for(object, debug::CALLER | debug::INTEGRITY)
            .cast()
    }

    /// Where the copy of a free object begins.
    pub(super) fn copy_of(&self, object: *mut u8) -> *mut u8 {
        self.extras_for(object, debug::CALLER | debug::INTEGRITY | debug::BACKUP)
    }

    /// Where the extras for these words of the pool's begin.
    fn extras_for(&self, object: *mut u8, words: u32) -> *mut u8 {
        let real = self.real.load(Ordering::Relaxed) as usize;
        let extra = extra(self.size(), self.debug & words) as usize;
        object.wrapping_add(real - extra)
    }

    pub(super) fn set_shape(&self, shape: Shape) {
        self.size.store(shape.size, Ordering::Relaxed);
        self.align.store(shape.align, Ordering::Relaxed);
        self.real.store(shape.real, Ordering::Relaxed);
        // At least what an object costs, or tiny ones would be cached without
        // bound.
        let links = size_of::<Item>() as u32;
        let weight = shape.size.max(links);
        self.weight.store(weight, Ordering::Relaxed);
        // More of small ones, whose way would cost more than they do.
        let cluster = (8192 / weight).clamp(8, CLUSTER_MAX as u32);
        self.cluster.store(cluster, Ordering::Relaxed);
        // Short of the debugging marks behind the object. Where objects are
        // sealed, the links alone are left out: there is no room for more.
        let slots = match self.has(debug::INTEGRITY | debug::BACKUP) {
            true => 0,
            false => shape.size.saturating_sub(links) / size_of::<*mut u8>() as u32,
        };
        let slots = slots.min(CLUSTER_MAX as u32 - 1);
        self.slots.store(slots, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHOWS: INV-8
    #[test]
    fn pool_15_16_everything_has_room_of_its_own() {
        const WORDS: [u32; 5] = [
            debug::TAG,
            debug::CALLER,
            debug::INTEGRITY,
            debug::BACKUP,
            debug::NO_CACHE,
        ];
        for mask in 0..1 << WORDS.len() {
            let debug = (0..WORDS.len())
                .filter(|i| mask & (1 << i) != 0)
                .fold(0, |all, i| all | WORDS[i]);
            let has = |word| usize::from(debug & word != 0);
            for flags in [0, MEM_F_EXACT] {
                for asked in 0..100 {
                    let shape = Shape::new(asked, 0, flags, debug).unwrap();
                    assert!(shape.size >= asked);
                    assert!(flags == 0 || shape.size == asked);
                    let size = shape.size as usize;
                    // No two of them overlap, except links and tag.
                    let links = (1 - has(debug::NO_CACHE)) * size_of::<Item>();
                    let body = links.max(size + 8 * has(debug::TAG));
                    let copy = has(debug::BACKUP) * size.next_multiple_of(8);
                    let words = 8 * (has(debug::INTEGRITY) + has(debug::CALLER));
                    assert!(shape.real as usize >= (body + copy + words).max(8));
                    assert!((shape.real as usize) < body + copy + words + 16);
                    assert_eq!(
                        extra(shape.size, debug) as usize,
                        copy + words,
                        "{debug:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn sizes_that_leave_no_room_are_refused() {
        let exact = |size, debug| Shape::new(size, 0, MEM_F_EXACT, debug).is_some();
        assert!(exact(u32::MAX, 0));
        for word in [debug::TAG, debug::CALLER, debug::INTEGRITY, debug::BACKUP] {
            assert!(!exact(u32::MAX - 7, word), "{word:#x}");
        }
        assert!(!exact(u32::MAX / 2 + 9, debug::BACKUP));
        assert!(exact(u32::MAX / 2 - 16, debug::BACKUP | debug::CALLER));
    }
}
