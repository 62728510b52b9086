//! When is memory free of readers that hold no lock? A registered thread notes
//! the epoch while it looks something up; who has unlinked something begins a
//! new epoch, and frees it once nobody looks things up in an older one.
//!
//! A reader's note and its first look are kept in order by a pair of fences of
//! which the reader's is free: see [`light_fence`]. Threads without an id take
//! locks instead.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{heavy_fence, light_fence};

const IDS: usize = if cfg!(loom) { 3 } else { 64 };
const OUTSIDE: u64 = 0;

/// One thread's note: the epoch in which it began to look, or outside.
#[derive(Debug)]
#[repr(align(64))]
struct Note(AtomicU64);

/// All threads' notes.
#[derive(Debug)]
pub struct Readers {
    epoch: AtomicU64,
    notes: [Note; IDS],
}

/// What is older than this may still be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// The right to follow links without a lock.
#[derive(Debug)]
pub struct Looking<'a>(&'a Note);

impl Readers {
    /// Nobody looks.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(OUTSIDE + 1),
            notes: [const { Note(AtomicU64::new(OUTSIDE)) }; IDS],
        }
    }

    /// Nobody looks.
    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(OUTSIDE + 1),
            notes: core::array::from_fn(|_| Note(AtomicU64::new(OUTSIDE))),
        }
    }

    /// Thread `tid` begins to look. It does so once at a time.
    #[inline(always)]
    pub fn look(&self, tid: usize) -> Looking<'_> {
        let note = &self.notes[tid];
        // In a younger epoch what was unlinked before it is not found: the fences
        // below and in stamp see to that.
        let epoch = self.epoch.load(Ordering::Relaxed);
        // PAIRS: is_over's Acquire: whoever sees this and not the end of the
        // look before knows that it ended.
        note.0.store(epoch, Ordering::Release);
        // PAIRS: stamp's heavy_fence: either this note is seen by `is_over`,
        // or this thread sees that things were unlinked; and who saw a younger
        // epoch sees it, too.
        light_fence();
        Looking(note)
    }

    /// After unlinking: what `is_over` wants to know.
    pub fn stamp(&self) -> Stamp {
        // PAIRS: look's light_fence.
        heavy_fence();
        Stamp(self.epoch.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether nobody can see any more what was unlinked before `stamp`.
    // KEEPS: INV-90
    pub fn is_over(&self, stamp: Stamp) -> bool {
        self.notes.iter().all(|note| {
            // PAIRS: Looking::drop's Release; the look is over.
            let epoch = note.0.load(Ordering::Acquire);
            epoch == OUTSIDE || epoch > stamp.0
        })
    }
}

impl Default for Readers {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Looking<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // PAIRS: is_over's Acquire.
        self.0.0.store(OUTSIDE, Ordering::Release);
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    // SHOWS: INV-90
    #[test]
    fn a_stamp_waits_for_older_looks_only() {
        let readers = Readers::new();
        assert!(readers.is_over(readers.stamp()));
        let old = readers.look(3);
        let stamp = readers.stamp();
        let young = readers.look(5);
        assert!(!readers.is_over(stamp));
        drop(old);
        assert!(readers.is_over(stamp));
        assert!(!readers.is_over(readers.stamp()));
        drop(young);
        assert!(readers.is_over(readers.stamp()));
    }
}
