//! The list of free objects that all threads share, with a head that locks
//! itself.
//!
//! To take an object one has to read its link, and before that read another
//! thread may have taken the object and given it to a system that unmaps it.
//! So whoever wants to read the link first exchanges the head for [`BUSY`]:
//!
//! ```text
//!   pop, take_all:  LIST ──exchange──► BUSY ──one store──► rest of LIST, or empty
//!                   empty ─exchange──► BUSY ──one store──► empty   (lost race)
//!   push:           LIST or empty ──compare-exchange──► new LIST   (never from BUSY)
//! ```
//!
//! BUSY lasts for one load and one store, never across a call. Every way out
//! of a successful exchange stores the head again, the empty one included.
//! Since links are read by the head's holder alone, there is no ABA problem:
//! no double-width exchange, no tag, no isolation.
//!
//! Objects travel in clusters: `next` leads from the first object of a cluster
//! to the first of the next cluster, `down` to the rest of its own.

use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// The two words at the start of a free object.
#[derive(Debug)]
#[repr(C)]
pub struct Item {
    next: UnsafeCell<*mut Item>,
    down: UnsafeCell<*mut Item>,
}

impl Item {
    /// Links that lead nowhere.
    pub fn new() -> Self {
        Self {
            next: UnsafeCell::new(ptr::null_mut()),
            down: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Overwrites both links, as the system's allocator may do to memory that
    /// it got back. For models: whoever still reads them races with this.
    ///
    /// # Safety
    /// The caller owns the object.
    pub unsafe fn scribble(&self) {
        // SAFETY: by this function's contract.
        self.next.with_mut(|p| unsafe { *p = BUSY });
        // SAFETY: same.
        self.down.with_mut(|p| unsafe { *p = BUSY });
    }
}

impl Default for Item {
    fn default() -> Self {
        Self::new()
    }
}

/// The head's value while somebody reads the first link.
const BUSY: *mut Item = ptr::without_provenance_mut(1);

/// Free objects that belong to the holder of this value, and to nobody else.
#[derive(Debug)]
#[must_use = "these objects would be lost"]
pub struct Cluster {
    first: *mut Item,
}

impl Cluster {
    /// No object.
    pub const EMPTY: Self = Self {
        first: ptr::null_mut(),
    };

    /// True without objects.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Adds an object.
    ///
    /// # Safety
    /// The caller owns the object, whose links are initialised, and gives it
    /// up to the cluster.
    pub unsafe fn add(&mut self, item: *mut Item) {
        // SAFETY: the item is ours.
        unsafe { (*item).down.with_mut(|p| *p = self.first) };
        self.first = item;
    }

    /// Removes an object and hands it to the caller.
    pub fn take(&mut self) -> Option<*mut Item> {
        let item = self.first;
        if item.is_null() {
            return None;
        }
        // SAFETY: a cluster's objects belong to its holder.
        self.first = unsafe { (*item).down.with(|p| *p) };
        Some(item)
    }
}

/// The clusters of a list that was detached as a whole.
#[derive(Debug)]
#[must_use = "these objects would be lost"]
pub struct Chain {
    first: *mut Item,
}

impl Iterator for Chain {
    type Item = Cluster;

    fn next(&mut self) -> Option<Cluster> {
        let first = self.first;
        if first.is_null() {
            return None;
        }
        // SAFETY: the chain was detached, so its objects are ours; the link is
        // read before the cluster is handed out.
        self.first = unsafe { (*first).next.with(|p| *p) };
        Some(Cluster { first })
    }
}

/// The self-locked list.
#[derive(Debug)]
pub struct SharedList {
    head: AtomicPtr<Item>,
    #[cfg(loom)]
    plain_unlock: bool,
}

impl SharedList {
    /// An empty list.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// An empty list.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            plain_unlock: false,
        }
    }

    /// An empty list that is unlocked as it is outside of models, for those in
    /// which nobody finds the head BUSY.
    #[cfg(loom)]
    pub fn with_plain_unlock() -> Self {
        Self {
            plain_unlock: true,
            ..Self::new()
        }
    }

    /// Locks the head of a list that is not empty and returns its first
    /// object; the caller owes a [`publish`](Self::publish). NULL if the list
    /// is empty: then nothing is owed.
    fn hold(&self) -> *mut Item {
        let mut turns = 0;
        loop {
            let seen = self.look(turns);
            if seen.is_null() {
                return ptr::null_mut();
            }
            // Exchanging BUSY for BUSY would be harmless, but takes the cache
            // line from the holder who needs it for the store that unlocks.
            if seen != BUSY {
                // PAIRS: push's and publish's Release: the links below, and
                // what the last owner wrote into the objects.
                let first = self.head.swap(BUSY, Ordering::Acquire);
                if first.is_null() {
                    // Emptied since the look above. BUSY must not stay.
                    self.publish(ptr::null_mut());
                    return first;
                }
                if first != BUSY {
                    return first;
                }
            }
            wait(&mut turns);
        }
    }

    /// Unlocks the head that [`hold`](Self::hold) locked: `head` is the list
    /// from now on.
    fn publish(&self, head: *mut Item) {
        // Loom does not see that a store comes after the exchanges of BUSY for
        // BUSY by those who wait, and would let them wait for ever.
        #[cfg(loom)]
        if !self.plain_unlock {
            self.head.swap(head, Ordering::Release);
            return;
        }
        // PAIRS: hold's Acquire. The store ends what the pushes before it
        // released, so it has to release anew the links of those below.
        self.head.store(head, Ordering::Release);
    }

    /// What the head seems to be, after `turns` waits for it.
    fn look(&self, turns: u32) -> *mut Item {
        // Loom lets a load miss a store for ever: who has waited looks with an
        // exchange that changes nothing.
        if cfg!(loom) && turns > 0 {
            let null = ptr::null_mut();
            let relaxed = Ordering::Relaxed;
            return match self.head.compare_exchange(null, null, relaxed, relaxed) {
                Ok(seen) | Err(seen) => seen,
            };
        }
        self.head.load(Ordering::Relaxed)
    }

    /// Takes the first cluster.
    pub fn pop(&self) -> Option<Cluster> {
        let first = self.hold();
        if first.is_null() {
            return None;
        }
        // SAFETY: the head is held, so nobody else can have taken, let alone
        // freed, the object that it led to (INV-3).
        let rest = unsafe { (*first).next.with(|p| *p) };
        self.publish(rest);
        Some(Cluster { first })
    }

    /// Takes everything.
    pub fn take_all(&self) -> Chain {
        let first = self.hold();
        if !first.is_null() {
            self.publish(ptr::null_mut());
        }
        Chain { first }
    }

    /// Adds a cluster; an empty one changes nothing.
    pub fn push(&self, cluster: Cluster) {
        let first = cluster.first;
        if first.is_null() {
            return;
        }
        let mut turns = 0;
        loop {
            let seen = self.look(turns);
            if seen != BUSY {
                // SAFETY: the cluster is ours until the exchange below.
                unsafe { (*first).next.with_mut(|p| *p = seen) };
                // PAIRS: hold's Acquire. Publishes the links and what the last
                // user wrote into the objects (INV-4).
                if self
                    .head
                    .compare_exchange_weak(seen, first, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
                {
                    return;
                }
            }
            wait(&mut turns);
        }
    }
}

impl Default for SharedList {
    fn default() -> Self {
        Self::new()
    }
}

/// One turn of waiting for a head that is BUSY, or was when we looked. Its
/// holder is two instructions from the end, unless it was preempted there.
fn wait(turns: &mut u32) {
    *turns += 1;
    #[cfg(not(loom))]
    if *turns % 64 == 0 {
        crate::sys::thread::yield_now();
    }
    crate::sync::spin_hint();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cluster(items: &[&Item]) -> Cluster {
        let mut cluster = Cluster::EMPTY;
        for item in items {
            // SAFETY: the tests own their items.
            unsafe { cluster.add((*item as *const Item).cast_mut()) };
        }
        cluster
    }

    fn len(mut cluster: Cluster) -> usize {
        let mut n = 0;
        while cluster.take().is_some() {
            n += 1;
        }
        n
    }

    #[test]
    fn clusters_come_back_whole_and_newest_first() {
        let items: [Item; 5] = core::array::from_fn(|_| Item::new());
        let list = SharedList::new();
        assert!(list.pop().is_none());
        list.push(cluster(&[&items[0], &items[1], &items[2]]));
        list.push(Cluster::EMPTY);
        list.push(cluster(&[&items[3], &items[4]]));
        assert_eq!(len(list.pop().unwrap()), 2);
        assert_eq!(len(list.pop().unwrap()), 3);
        assert!(list.pop().is_none());
    }

    #[test]
    fn taking_all_leaves_a_usable_list() {
        let items: [Item; 3] = core::array::from_fn(|_| Item::new());
        let list = SharedList::new();
        assert_eq!(list.take_all().count(), 0);
        for item in &items {
            list.push(cluster(&[item]));
        }
        assert_eq!(list.take_all().map(len).sum::<usize>(), 3);
        assert!(list.pop().is_none());
        list.push(cluster(&[&items[0]]));
        assert!(list.pop().is_some());
    }
}
