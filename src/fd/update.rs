//! Queues of descriptors whose polling has to be looked at again.
//!
//! A thread's bit in a slot's `update_mask` is set by test-and-set; who set
//! it adds the number to one of the thread's two queues; the thread takes the
//! number out, then clears the bit, then looks at the slot. So a number is in
//! a thread's queues at most once (INV-66), whatever happens to it meanwhile.
//!
//! A descriptor may be pending for several threads at once, so its slot cannot
//! be the link of a list: what others queue is a set of bits per thread, taken
//! out a word at a time. Nobody locks an entry, and nobody walks past others'.

use super::slot::Slot;
#[cfg(not(model))]
use crate::sync::atomic::{AtomicPtr, AtomicUsize};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(model))]
use core::ptr;

impl Slot {
    /// Marks an update pending for each thread of `targets`: those that had
    /// none, to whose queues the caller now adds the number.
    // KEEPS: INV-66
    #[inline]
    pub fn mark(&self, targets: u64) -> u64 {
        // Always a read-modify-write: either the consumer, which clears its
        // bit before it looks at the slot, comes after this and sees what
        // changed, or it came before and its bit is found clear.
        // PAIRS: serve's.
        targets & !self.update_mask.fetch_or(targets, Ordering::AcqRel)
    }

    /// The number is out of `tid`'s queue: clears its bit, then has `look`
    /// look at the slot.
    // KEEPS: INV-66
    #[inline]
    pub fn serve(&self, tid: usize, look: impl FnOnce()) {
        // PAIRS: mark's: what was changed before the bit was set is seen by
        // `look`; what is changed later sets the bit again.
        self.update_mask.fetch_and(!(1 << tid), Ordering::AcqRel);
        look();
    }
}

/// Numbers that other threads queue: one bit per descriptor, one summary bit
/// per 64 of them, and one flag above.
#[derive(Debug)]
pub struct ForeignSet {
    words: *const AtomicU64,
    summary: *const AtomicU64,
    len: usize,
    pending: AtomicU32,
}

// SAFETY: the pointers lead to atomics that live as long as the set.
unsafe impl Send for ForeignSet {}
// SAFETY: as above.
unsafe impl Sync for ForeignSet {}

impl ForeignSet {
    /// Words that a set of `numbers` needs, and words for its summary.
    pub const fn lengths(numbers: usize) -> (usize, usize) {
        let words = numbers.div_ceil(64);
        (words, words.div_ceil(64))
    }

    /// An empty set of `numbers` numbers.
    ///
    /// # Safety
    /// The areas hold as many zeroed words as [`lengths`](Self::lengths)
    /// says and outlive the set.
    pub unsafe fn new(numbers: usize, words: *const AtomicU64, summary: *const AtomicU64) -> Self {
        Self {
            words,
            summary,
            len: Self::lengths(numbers).0,
            pending: AtomicU32::new(0),
        }
    }

    /// Adds `number`.
    // KEEPS: INV-67
    pub fn add(&self, number: usize) {
        let at = number / 64;
        assert!(at < self.len, "a descriptor number out of its set");
        // SAFETY: checked just above; the summary is as long as lengths()
        // says.
        let (word, summary) = unsafe { (&*self.words.add(at), &*self.summary.add(at / 64)) };
        // From below upwards, and drain from above downwards: whoever takes a
        // mark finds what it stands for (Release here, Acquire there), and
        // whoever comes to a word after its drain marks the summary after the
        // drain of that (Release there, Acquire here).
        // PAIRS: drain's swap of the word.
        // UNSEEN: to loom read-modify-writes happen in their program's order.
        word.fetch_or(1 << (number % 64), Ordering::AcqRel);
        // PAIRS: drain's swap of the summary.
        // UNSEEN: as above.
        summary.fetch_or(1 << (at % 64), Ordering::AcqRel);
        // A read-modify-write, not a store: it must come after a concurrent
        // drain's swap or be seen by it.
        // PAIRS: drain's swap.
        self.pending.fetch_or(1, Ordering::Release);
    }

    /// Whether something may be in the set. Exact for its owner after a
    /// [`full_fence`](crate::sync::full_fence) that follows its going to sleep.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    /// Takes every number out and hands it to `f`. For the set's owner.
    // KEEPS: INV-67
    pub fn drain(&self, mut f: impl FnMut(usize)) {
        if self.is_empty() {
            return;
        }
        // PAIRS: add's.
        self.pending.swap(0, Ordering::Acquire);
        for s in 0..self.len.div_ceil(64) {
            // SAFETY: below the summary's length.
            let summary = unsafe { &*self.summary.add(s) };
            if summary.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // PAIRS: add's.
            // UNSEEN: as in add.
            let mut marks = summary.swap(0, Ordering::AcqRel);
            while marks != 0 {
                let at = s * 64 + marks.trailing_zeros() as usize;
                marks &= marks - 1;
                // SAFETY: add() only marks words that exist.
                let word = unsafe { &*self.words.add(at) };
                // PAIRS: add's.
                // UNSEEN: as in add.
                let mut numbers = word.swap(0, Ordering::AcqRel);
                while numbers != 0 {
                    f(at * 64 + numbers.trailing_zeros() as usize);
                    numbers &= numbers - 1;
                }
            }
        }
    }
}

/// Numbers that a thread queues for itself, first in first out. A ring as
/// long as there are numbers: it cannot overflow, since each is in it once.
/// One thread uses it; the atomics only keep others' mistakes defined.
#[cfg(not(model))]
#[derive(Debug)]
pub(super) struct LocalQueue {
    ring: AtomicPtr<AtomicU32>,
    capacity: usize,
    head: AtomicUsize,
    len: AtomicUsize,
}

#[cfg(not(model))]
impl LocalQueue {
    /// A queue without its ring.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ring: AtomicPtr::new(ptr::null_mut()),
            capacity,
            head: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// The ring, NULL until [`set_ring`](Self::set_ring).
    pub(super) fn ring(&self) -> *mut AtomicU32 {
        self.ring.load(Ordering::Relaxed)
    }

    /// # Safety
    /// `ring` is `capacity` long and lives as long as the queue.
    pub(super) unsafe fn set_ring(&self, ring: *mut AtomicU32) {
        self.ring.store(ring, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The entry `nth` after the oldest, which exists.
    #[inline]
    pub(super) fn peek(&self, nth: usize) -> usize {
        let mut at = self.head.load(Ordering::Relaxed) + nth;
        if at >= self.capacity {
            at -= self.capacity;
        }
        // SAFETY: below the capacity, since head and nth both are; entries
        // exist, so the ring does.
        unsafe { &*self.ring().add(at) }.load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub(super) fn push(&self, number: usize) {
        let len = self.len();
        assert!(len < self.capacity, "a descriptor is queued twice");
        let mut at = self.head.load(Ordering::Relaxed) + len;
        if at >= self.capacity {
            at -= self.capacity;
        }
        // SAFETY: as in peek(); table.rs pushes only where the ring exists.
        unsafe { &*self.ring().add(at) }.store(number as u32, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Relaxed);
    }

    /// Takes the oldest entry, which exists.
    #[inline]
    pub(super) fn pop(&self) -> usize {
        let number = self.peek(0);
        let head = self.head.load(Ordering::Relaxed) + 1;
        let head = if head == self.capacity { 0 } else { head };
        self.head.store(head, Ordering::Relaxed);
        self.len.store(self.len() - 1, Ordering::Relaxed);
        number
    }
}
