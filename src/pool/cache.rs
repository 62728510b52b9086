//! One thread's free objects of one pool.
//!
//! A cache is one *hot* slot and a stack of pointers; the objects themselves
//! are not touched, so giving back a cold object costs no cache miss and its
//! contents stay for inspection. The newest object is taken first: it is in
//! the hot slot, if that holds one at all. The slot makes an allocation that
//! follows a release independent of the stack's index, whose way through
//! memory would be the longest part of both.
//!
//! The first six fields are known to the inline functions of keel/pool.h,
//! which do what [`pop_fast`](Cache::pop_fast) and
//! [`push_fast`](Cache::push_fast) do here.
//!
//! How much a thread caches over all pools is bounded, yet neither of the two
//! counts anything: a cache is *charged* to its thread for as many objects as
//! it may hold before the slow path is asked again. The stack's `ceil` and a
//! closed hot slot are where it is asked.

use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::sys::memory;
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr::{self, NonNull};

/// The hot slot's value while the fast path may not use the cache. Zero, so
/// that a new pool's caches are closed.
const CLOSED: *mut u8 = ptr::null_mut();

/// The hot slot's value without an object in it.
const EMPTY: *mut u8 = ptr::without_provenance_mut(1);

const FIRST_CAPACITY: u32 = 32;
const LAST_CAPACITY: u32 = 1 << 28;

/// Its thread alone changes it; others may read its length. All-zero is a
/// closed, empty cache.
// KEEPS: INV-2, INV-6
#[repr(C, align(64))]
pub(super) struct Cache {
    hot: AtomicPtr<u8>,
    slots: Cell<*mut NonNull<u8>>,
    /// The stack: slots `floor` to `top`, the oldest object at `floor`.
    top: AtomicU32,
    floor: AtomicU32,
    /// Where the fast path stops pushing.
    ceil: Cell<u32>,
    /// The thread's clock when an object was last put on the stack.
    stamp: Cell<u32>,

    capacity: Cell<u32>,
    /// Objects that the thread is charged for: at least those inside, and as
    /// many as the fast path can make of them.
    charged: Cell<u32>,
}

const _: () = {
    const WORD: usize = size_of::<usize>();
    assert!(offset_of!(Cache, hot) == 0);
    assert!(offset_of!(Cache, slots) == WORD);
    assert!(offset_of!(Cache, top) == 2 * WORD);
    assert!(offset_of!(Cache, floor) == 2 * WORD + 4);
    assert!(offset_of!(Cache, ceil) == 2 * WORD + 8);
    assert!(offset_of!(Cache, stamp) == 2 * WORD + 12);
};

impl Cache {
    /// Objects inside; a foreign thread may see a slightly wrong number.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        let hot = self.hot.load(Ordering::Relaxed);
        self.stacked() + u32::from(hot.addr() > EMPTY.addr())
    }

    #[inline(always)]
    fn stacked(&self) -> u32 {
        let top = self.top.load(Ordering::Relaxed);
        let len = top.wrapping_sub(self.floor.load(Ordering::Relaxed));
        // A foreign look between two changes may find the ends crossed.
        if len > LAST_CAPACITY { 0 } else { len }
    }

    /// Takes the newest object of an open cache.
    #[inline(always)]
    pub(super) fn pop_fast(&self) -> Option<NonNull<u8>> {
        let hot = self.hot.load(Ordering::Relaxed);
        if hot.addr() > EMPTY.addr() {
            self.hot.store(EMPTY, Ordering::Relaxed);
            return NonNull::new(hot);
        }
        if hot == CLOSED {
            return None;
        }
        self.pop_stack()
    }

    /// Puts an object into an open cache; false if it is closed or as full as
    /// it may get.
    #[inline(always)]
    pub(super) fn push_fast(&self, object: NonNull<u8>, clock: u32) -> bool {
        let hot = self.hot.load(Ordering::Relaxed);
        if hot != EMPTY {
            let Some(older) = NonNull::new(hot) else {
                return false;
            };
            let top = self.top.load(Ordering::Relaxed);
            if top == self.ceil.get() {
                return false;
            }
            // SAFETY: `ceil` is at most the capacity.
            unsafe { *self.slots.get().add(top as usize) = older };
            self.top.store(top + 1, Ordering::Relaxed);
            self.stamp.set(clock);
        }
        self.hot.store(object.as_ptr(), Ordering::Relaxed);
        true
    }

    #[inline(always)]
    fn pop_stack(&self) -> Option<NonNull<u8>> {
        let top = self.top.load(Ordering::Relaxed);
        if top == self.floor.load(Ordering::Relaxed) {
            return None;
        }
        self.top.store(top - 1, Ordering::Relaxed);
        // SAFETY: slots between floor and top hold objects.
        Some(unsafe { *self.slots.get().add(top as usize - 1) })
    }

    /// Takes the newest object, of a closed cache too.
    pub(super) fn pop_newest(&self) -> Option<NonNull<u8>> {
        self.pop_fast().or_else(|| self.pop_stack())
    }

    /// Takes the oldest object. What the cache is charged for does not change.
    pub(super) fn pop_oldest(&self) -> Option<NonNull<u8>> {
        let floor = self.floor.load(Ordering::Relaxed);
        if floor == self.top.load(Ordering::Relaxed) {
            return self.pop_fast();
        }
        self.floor.store(floor + 1, Ordering::Relaxed);
        // SAFETY: slots between floor and top hold objects.
        Some(unsafe { *self.slots.get().add(floor as usize) })
    }

    /// As [`pop_oldest`](Self::pop_oldest), as many as there are and `batch`
    /// has room for. Says how many.
    pub(super) fn pop_oldest_of(&self, batch: &mut [*mut u8]) -> usize {
        let floor = self.floor.load(Ordering::Relaxed);
        let n = batch.len().min(self.stacked() as usize);
        if n > 0 {
            // SAFETY: slots between floor and top hold objects.
            unsafe {
                let from = self.slots.get().add(floor as usize).cast();
                ptr::copy_nonoverlapping(from, batch.as_mut_ptr(), n);
            }
            self.floor.store(floor + n as u32, Ordering::Relaxed);
        }
        match batch.get_mut(n) {
            Some(last) => match self.pop_fast() {
                Some(hot) => {
                    *last = hot.as_ptr();
                    n + 1
                }
                None => n,
            },
            None => n,
        }
    }

    /// Puts an object in as the newest, whatever the cache is charged for:
    /// [`set_room`](Self::set_room) has to follow. False without memory.
    pub(super) fn push(&self, object: NonNull<u8>, clock: u32) -> bool {
        let hot = self.hot.load(Ordering::Relaxed);
        if hot == EMPTY {
            self.hot.store(object.as_ptr(), Ordering::Relaxed);
            return true;
        }
        if !self.reserve(1) {
            return false;
        }
        let top = self.top.load(Ordering::Relaxed);
        let below = match NonNull::new(hot) {
            Some(older) => {
                self.hot.store(object.as_ptr(), Ordering::Relaxed);
                older
            }
            None => object,
        };
        // SAFETY: there is room for one more.
        unsafe { *self.slots.get().add(top as usize) = below };
        self.top.store(top + 1, Ordering::Relaxed);
        self.stamp.set(clock);
        true
    }

    /// As [`push`](Self::push), for the objects of a cluster, none of which is
    /// NULL, into an empty cache. Says how many found room: all or none.
    pub(super) fn fill<T>(&self, objects: &[*mut T]) -> usize {
        debug_assert_eq!(self.len(), 0);
        if !self.reserve(objects.len() as u32) {
            return 0;
        }
        let top = self.top.load(Ordering::Relaxed);
        // SAFETY: there is room for that many pointers.
        unsafe {
            let to = self.slots.get().add(top as usize).cast();
            ptr::copy_nonoverlapping(objects.as_ptr(), to, objects.len());
        }
        self.top
            .store(top + objects.len() as u32, Ordering::Relaxed);
        objects.len()
    }

    /// What the cache is charged for.
    pub(super) fn charged(&self) -> u32 {
        self.charged.get()
    }

    /// Lets the fast path make `total` objects of those inside, of which there
    /// are no more; none at all closes the cache. Returns the total, which is
    /// smaller where memory for the pointers lacks. `open` is false for a pool
    /// that the fast path has to leave alone.
    pub(super) fn set_room(&self, total: u32, open: bool) -> u32 {
        let total = self.arrange(total, open);
        self.charged.set(total);
        total
    }

    fn arrange(&self, total: u32, open: bool) -> u32 {
        debug_assert!(total >= self.len());
        if !open || total == 0 {
            debug_assert!(self.hot.load(Ordering::Relaxed).addr() <= EMPTY.addr());
            self.hot.store(CLOSED, Ordering::Relaxed);
            self.ceil.set(self.top.load(Ordering::Relaxed));
            return total;
        }
        // The newest object belongs into the hot slot: what the fast path can
        // add is then the room on the stack.
        if self.hot.load(Ordering::Relaxed).addr() <= EMPTY.addr() {
            let newest = self.pop_stack().map_or(EMPTY, NonNull::as_ptr);
            self.hot.store(newest, Ordering::Relaxed);
        }
        let mut room = total - 1 - self.stacked();
        if !self.reserve(room) {
            room = self.capacity.get() - self.top.load(Ordering::Relaxed);
        }
        self.ceil.set(self.top.load(Ordering::Relaxed) + room);
        self.stacked() + room + 1
    }

    /// Makes room for `more` objects on the stack; false without memory.
    #[inline(always)]
    fn reserve(&self, more: u32) -> bool {
        self.capacity.get() - self.top.load(Ordering::Relaxed) >= more || self.make_room(more)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self, more: u32) -> bool {
        let capacity = self.capacity.get();
        let want = self.stacked() + more;
        // Moving down is worth it where that frees half of the slots: then it
        // costs each object that was pushed meanwhile one copy.
        if want <= capacity / 2 || !self.grow(want) {
            if want > capacity {
                return false;
            }
            self.move_to(self.slots.get());
        }
        true
    }

    /// Doubles the room that `want` objects need; false without memory.
    fn grow(&self, want: u32) -> bool {
        let capacity = want.saturating_mul(2).max(FIRST_CAPACITY);
        if capacity > LAST_CAPACITY {
            return false;
        }
        let capacity = capacity.next_power_of_two();
        let bytes = capacity as usize * size_of::<NonNull<u8>>();
        let slots: *mut NonNull<u8> = memory::alloc(bytes, 64).cast();
        if slots.is_null() {
            return false;
        }
        let old = self.slots.get();
        self.move_to(slots);
        self.slots.set(slots);
        self.capacity.set(capacity);
        // SAFETY: the old stack is ours and no longer needed.
        unsafe { memory::free(old.cast()) };
        true
    }

    /// Copies the stack to the start of `to`, which has room for it.
    fn move_to(&self, to: *mut NonNull<u8>) {
        let len = self.stacked();
        let floor = self.floor.load(Ordering::Relaxed);
        if len > 0 {
            // SAFETY: `len` objects lie at floor; the target has room for them.
            unsafe { ptr::copy(self.slots.get().add(floor as usize), to, len as usize) };
        }
        self.floor.store(0, Ordering::Relaxed);
        self.top.store(len, Ordering::Relaxed);
        self.ceil.set(len);
    }

    /// Gives the stack of an empty cache back, and closes it.
    pub(super) fn drop_stack(&self) {
        debug_assert_eq!(self.len(), 0);
        self.hot.store(CLOSED, Ordering::Relaxed);
        self.top.store(0, Ordering::Relaxed);
        self.floor.store(0, Ordering::Relaxed);
        self.ceil.set(0);
        self.capacity.set(0);
        self.charged.set(0);
        // SAFETY: the stack is ours and holds nothing.
        unsafe { memory::free(self.slots.replace(ptr::null_mut()).cast()) };
    }

    /// How long ago, on the thread's clock, an object was last put on the
    /// stack.
    pub(super) fn age(&self, clock: u32) -> u32 {
        clock.wrapping_sub(self.stamp.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn new() -> Cache {
        // SAFETY: all-zero is a closed, empty cache.
        unsafe { core::mem::zeroed() }
    }

    fn object(n: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(n * 16)).unwrap()
    }

    /// As the slow path, then as the fast path until that is at its end.
    fn random_walk(open: bool) {
        let cache = new();
        let mut model = VecDeque::new();
        let mut seed = 1u32;
        let mut random = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % n
        };
        for i in 1..20_000 {
            let grows = i / 1000 % 3 != 2;
            match random(8) {
                0 => assert_eq!(cache.pop_oldest(), model.pop_front()),
                1 => {
                    let mut batch = [ptr::null_mut(); 8];
                    let n = cache.pop_oldest_of(&mut batch);
                    assert_eq!(n, model.len().min(8));
                    for &gone in &batch[..n] {
                        assert_eq!(NonNull::new(gone), model.pop_front());
                    }
                }
                2..=3 => assert_eq!(cache.pop_newest(), model.pop_back()),
                4 if model.is_empty() => {
                    let cluster: Vec<_> = (0..7).map(|k| object(i * 8 + k).as_ptr()).collect();
                    assert_eq!(cache.fill(&cluster), 7);
                    model.extend(cluster.into_iter().map(|o| NonNull::new(o).unwrap()));
                }
                _ if grows || model.is_empty() => {
                    assert!(cache.push(object(i * 8), i as u32));
                    model.push_back(object(i * 8));
                }
                _ => {}
            }
            assert_eq!(cache.len() as usize, model.len());
            let room = random(40);
            let total = cache.set_room(model.len() as u32 + room, open);
            assert_eq!(total, model.len() as u32 + room);
            assert_eq!(cache.charged(), total);
            if !open {
                assert_eq!(cache.pop_fast(), None);
                assert!(!cache.push_fast(object(1), 0));
                continue;
            }
            for k in 0..random(60) as usize {
                if random(3) == 0 {
                    assert_eq!(cache.pop_fast(), model.pop_back());
                } else {
                    let fits = model.len() < total as usize;
                    assert_eq!(cache.push_fast(object(i * 8 + k), 0), fits);
                    if fits {
                        model.push_back(object(i * 8 + k));
                    }
                }
                assert_eq!(cache.len() as usize, model.len());
            }
        }
        assert!(cache.capacity.get() > FIRST_CAPACITY);
        while cache.pop_oldest().is_some() {}
        cache.drop_stack();
        assert_eq!(cache.pop_newest(), None);
        assert!(!cache.push_fast(object(1), 0));
    }

    // SHOWS: INV-7
    #[test]
    fn an_open_cache_is_a_deque_that_keeps_to_its_room() {
        random_walk(true);
    }

    #[test]
    fn the_fast_path_leaves_a_closed_cache_alone() {
        random_walk(false);
    }

    #[test]
    fn a_charge_of_nothing_closes() {
        let cache = new();
        assert_eq!(cache.set_room(1, true), 1);
        assert!(cache.push_fast(object(1), 0));
        assert!(!cache.push_fast(object(2), 0));
        assert_eq!(cache.pop_fast(), Some(object(1)));
        assert_eq!(cache.set_room(0, true), 0);
        assert!(!cache.push_fast(object(1), 0));
        cache.drop_stack();
    }
}
