//! One thread's free objects of one pool, and the thread's totals.
//!
//! A cache is a ring of pointers: the newest object is taken first, the oldest
//! evicted first, and the objects themselves are not touched, so giving back a
//! cold object costs no cache miss and its contents stay for inspection.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sys::memory;
use core::cell::Cell;
use core::ptr::{self, NonNull};

/// Bytes that a thread may cache over all pools, unless configured otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 512 * 1024;

/// Objects that move between a cache and the shared list at once.
pub(super) const CLUSTER: usize = 8;

const FIRST_CAPACITY: u32 = 32;

/// A ring with one cache line of state. Its thread alone changes it; others
/// may read its length.
#[repr(C, align(64))]
pub(super) struct Cache {
    ring: Cell<*mut NonNull<u8>>,
    /// Slots: a power of two, or 0 without a ring.
    capacity: Cell<u32>,
    /// Number of the slot after the newest object; free-running.
    top: AtomicU32,
    /// Number of the oldest object's slot.
    bottom: AtomicU32,
    /// The thread's clock when an object was last put in.
    stamp: Cell<u64>,
}

impl Cache {
    /// Objects inside; a foreign thread may see a slightly wrong number.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        let top = self.top.load(Ordering::Relaxed);
        let len = top.wrapping_sub(self.bottom.load(Ordering::Relaxed));
        // A foreign look between two changes may find the ends crossed.
        if len > u32::MAX / 2 { 0 } else { len }
    }

    pub(super) fn stamp(&self) -> u64 {
        self.stamp.get()
    }

    /// Takes the newest object.
    #[inline(always)]
    pub(super) fn pop_newest(&self) -> Option<NonNull<u8>> {
        let top = self.top.load(Ordering::Relaxed);
        if top == self.bottom.load(Ordering::Relaxed) {
            return None;
        }
        let top = top.wrapping_sub(1);
        self.top.store(top, Ordering::Relaxed);
        // SAFETY: the slot number is masked to the capacity, and slots between
        // bottom and top hold objects.
        Some(unsafe { *self.slot(top) })
    }

    /// Takes the oldest object.
    pub(super) fn pop_oldest(&self) -> Option<NonNull<u8>> {
        let bottom = self.bottom.load(Ordering::Relaxed);
        if bottom == self.top.load(Ordering::Relaxed) {
            return None;
        }
        self.bottom.store(bottom.wrapping_add(1), Ordering::Relaxed);
        // SAFETY: as in pop_newest.
        Some(unsafe { *self.slot(bottom) })
    }

    /// Puts an object in as the newest; false if there is no room.
    #[inline(always)]
    pub(super) fn push(&self, object: NonNull<u8>, now: u64) -> bool {
        let top = self.top.load(Ordering::Relaxed);
        if top.wrapping_sub(self.bottom.load(Ordering::Relaxed)) == self.capacity.get() {
            return false;
        }
        // SAFETY: the slot number is masked to the capacity, which is not 0.
        unsafe { *self.slot(top) = object };
        self.top.store(top.wrapping_add(1), Ordering::Relaxed);
        self.stamp.set(now);
        true
    }

    /// The address of slot `number`; dangling without a ring.
    #[inline(always)]
    fn slot(&self, number: u32) -> *mut NonNull<u8> {
        let index = number & self.capacity.get().wrapping_sub(1);
        self.ring.get().wrapping_add(index as usize)
    }

    /// Doubles the room; false if memory lacks or it cannot grow further.
    #[cold]
    pub(super) fn grow(&self) -> bool {
        let capacity = match self.capacity.get() {
            0 => FIRST_CAPACITY,
            n => n * 2,
        };
        if capacity > 1 << 28 {
            return false;
        }
        let bytes = capacity as usize * size_of::<NonNull<u8>>();
        let ring: *mut NonNull<u8> = memory::alloc(bytes, 64).cast();
        if ring.is_null() {
            return false;
        }
        let len = self.len();
        let bottom = self.bottom.load(Ordering::Relaxed);
        for i in 0..len {
            // SAFETY: `i` is below both capacities; the old slots hold objects.
            unsafe { *ring.add(i as usize) = *self.slot(bottom.wrapping_add(i)) };
        }
        // SAFETY: the old ring is ours and no longer needed.
        unsafe { memory::free(self.ring.get().cast()) };
        self.ring.set(ring);
        self.capacity.set(capacity);
        self.bottom.store(0, Ordering::Relaxed);
        self.top.store(len, Ordering::Relaxed);
        true
    }

    /// Gives the ring of an empty cache back.
    pub(super) fn drop_ring(&self) {
        debug_assert_eq!(self.len(), 0);
        // SAFETY: the ring is ours and holds nothing.
        unsafe { memory::free(self.ring.replace(ptr::null_mut()).cast()) };
        self.capacity.set(0);
    }
}

/// What a registered thread brings to each call: its id, and the totals of its
/// caches over all pools. Belongs to that thread; nobody else may use it while
/// it is registered.
#[derive(Debug)]
#[repr(C)]
pub struct Local {
    tid: usize,
    // Counters that move together are kept apart, or the compiler makes one
    // slow vector operation of them.
    bytes: Cell<usize>,
    soft: Cell<usize>,
    count: Cell<usize>,
    limit: Cell<usize>,
    clock: Cell<u64>,
    gc_seen: Cell<u32>,
}

impl Local {
    /// The caches of thread `tid`, with the default limit.
    /// [`Registry::attach`](super::Registry::attach) sets the configured one.
    pub const fn new(tid: usize) -> Self {
        assert!(tid < super::MAX_THREADS);
        Self {
            tid,
            bytes: Cell::new(0),
            count: Cell::new(0),
            clock: Cell::new(0),
            limit: Cell::new(DEFAULT_CACHE_BYTES),
            soft: Cell::new(DEFAULT_CACHE_BYTES / 4 * 3),
            gc_seen: Cell::new(0),
        }
    }

    /// The thread's id.
    #[inline(always)]
    pub fn tid(&self) -> usize {
        self.tid
    }

    /// Bytes in the thread's caches, all pools together.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Objects in the thread's caches, all pools together.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// The most bytes that the caches hold between two calls.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    pub(super) fn reset(&self, limit: usize, gc_epoch: u32) {
        self.bytes.set(0);
        self.count.set(0);
        self.limit.set(limit);
        self.soft.set(limit / 4 * 3 + limit % 4 * 3 / 4);
        self.gc_seen.set(gc_epoch);
    }

    /// Three quarters of the limit: from here on a dominant pool gives way.
    #[inline(always)]
    pub(super) fn soft(&self) -> usize {
        self.soft.get()
    }

    /// How many objects one pool may cache when the limit is near.
    #[inline(always)]
    pub(super) fn fair_share(&self) -> usize {
        16 + self.count.get() / 8
    }

    #[inline(always)]
    pub(super) fn gc_seen(&self) -> u32 {
        self.gc_seen.get()
    }

    pub(super) fn set_gc_seen(&self, epoch: u32) {
        self.gc_seen.set(epoch);
    }

    #[inline(always)]
    pub(super) fn tick(&self) -> u64 {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        now
    }

    #[inline(always)]
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.count.set(self.count.get() + 1);
    }

    #[inline(always)]
    pub(super) fn sub(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().wrapping_sub(bytes));
        self.count.set(self.count.get().wrapping_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn empty() -> Cache {
        Cache {
            ring: Cell::new(ptr::null_mut()),
            capacity: Cell::new(0),
            top: AtomicU32::new(u32::MAX - 20),
            bottom: AtomicU32::new(u32::MAX - 20),
            stamp: Cell::new(0),
        }
    }

    #[test]
    fn a_ring_is_a_deque() {
        let cache = empty();
        let mut model = VecDeque::new();
        let mut seed = 1u32;
        for i in 1..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grows = (i / 500) % 2 == 0;
            match seed >> 29 {
                0 => assert_eq!(cache.pop_oldest(), model.pop_front()),
                1..=3 if grows => {
                    assert_eq!(cache.pop_newest(), model.pop_back());
                }
                1..=5 if !grows => {
                    assert_eq!(cache.pop_newest(), model.pop_back());
                }
                _ => {
                    let object = NonNull::new(ptr::without_provenance_mut(i)).unwrap();
                    assert!(cache.push(object, 0) || cache.grow() && cache.push(object, 0));
                    model.push_back(object);
                }
            }
            assert_eq!(cache.len() as usize, model.len());
        }
        assert!(cache.capacity.get() > FIRST_CAPACITY);
        while cache.pop_newest().is_some() {}
        cache.drop_ring();
        assert!(cache.pop_newest().is_none());
        assert!(cache.pop_oldest().is_none());
    }
}
