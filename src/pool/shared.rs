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
//! Objects travel in clusters, and of a cluster one object is touched: its
//! first one holds, behind its links, pointers to the others, as many as it
//! has *slots* for. Where that is not enough, `down` leads to a further object
//! that does the same. `next` leads to the first object of the next cluster.

use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// The most objects in a cluster.
pub const CLUSTER_MAX: usize = 32;

/// The two words at the start of a free object. Slots may follow.
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

/// Somebody else holds the head.
#[derive(Debug)]
pub struct Busy;

/// The head's value while somebody reads the first link.
const BUSY: *mut Item = ptr::without_provenance_mut(1);

/// Free objects that belong to the holder of this value, and to nobody else.
// KEEPS: INV-2
#[derive(Debug)]
#[must_use = "these objects would be lost"]
pub struct Cluster {
    first: *mut Item,
}

impl Cluster {
    /// Ties `objects` together.
    ///
    /// # Safety
    /// The caller owns the objects and gives them up; each is aligned for an
    /// [`Item`] and has room for one and `slots` pointers.
    pub unsafe fn tie(objects: &[*mut u8], slots: usize) -> Self {
        debug_assert!(objects.len() <= CLUSTER_MAX);
        let mut first = ptr::null_mut();
        for group in objects.rchunks(slots + 1) {
            let leader: *mut Item = group[0].cast();
            let members = &group[1..];
            // SAFETY: the objects are ours; a group is one more than its slots.
            unsafe {
                (*leader).down.with_mut(|p| *p = first);
                for (i, &member) in members.iter().enumerate() {
                    (*slot(leader, i)).with_mut(|p| *p = member);
                }
                if members.len() < slots {
                    (*slot(leader, members.len())).with_mut(|p| *p = ptr::null_mut());
                }
            }
            first = leader;
        }
        Self { first }
    }

    /// Unties the cluster: its objects belong to the caller, in the order in
    /// which they were tied. Returns their number.
    ///
    /// # Safety
    /// It was tied with as many `slots`.
    pub unsafe fn untie(self, slots: usize, objects: &mut [*mut u8; CLUSTER_MAX]) -> usize {
        let mut n = 0;
        let mut leader = self.first;
        while !leader.is_null() {
            objects[n] = leader.cast();
            n += 1;
            for i in 0..slots {
                // SAFETY: a cluster's objects belong to its holder, and the
                // first of a group has that many slots.
                let member = unsafe { (*slot(leader, i)).with(|p| *p) };
                if member.is_null() {
                    break;
                }
                objects[n] = member;
                n += 1;
            }
            // SAFETY: same.
            leader = unsafe { (*leader).down.with(|p| *p) };
        }
        n
    }
}

/// The place of slot `i` behind an object's links.
///
/// # Safety
/// The object has it.
unsafe fn slot(item: *mut Item, i: usize) -> *mut UnsafeCell<*mut u8> {
    // SAFETY: by this function's contract.
    unsafe { item.add(1).cast::<UnsafeCell<*mut u8>>().add(i) }
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
            match self.try_hold(turns) {
                Ok(first) => return first,
                Err(Busy) => wait(&mut turns),
            }
        }
    }

    /// One attempt at [`hold`](Self::hold), after `turns` others.
    // KEEPS: INV-3, INV-26
    fn try_hold(&self, turns: u32) -> Result<*mut Item, Busy> {
        let seen = self.look(turns);
        // Exchanging BUSY for BUSY would be harmless, but takes the cache line
        // from the holder who needs it for the store that unlocks.
        if seen.is_null() || seen == BUSY {
            return if seen.is_null() { Ok(seen) } else { Err(Busy) };
        }
        // PAIRS: push's and publish's Release: the links below, and what the
        // last owner wrote into the objects.
        let first = self.head.swap(BUSY, Ordering::Acquire);
        if first == BUSY {
            return Err(Busy);
        }
        if first.is_null() {
            // Emptied since the look above. BUSY must not stay.
            self.publish(ptr::null_mut());
        }
        Ok(first)
    }

    /// Unlocks the head that [`hold`](Self::hold) locked: `head` is the list
    /// from now on.
    // KEEPS: INV-3, INV-4
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
        self.behead(self.hold())
    }

    /// As [`pop`](Self::pop), unless somebody else holds the head. `turns`:
    /// how often the caller has found it so.
    pub fn try_pop(&self, turns: u32) -> Result<Option<Cluster>, Busy> {
        self.try_hold(turns).map(|first| self.behead(first))
    }

    /// Ends the holding of the head by taking the cluster of `first`.
    // KEEPS: INV-3
    fn behead(&self, first: *mut Item) -> Option<Cluster> {
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
    pub fn push(&self, mut cluster: Cluster) {
        let mut turns = 0;
        while let Err(back) = self.try_push(cluster, turns) {
            cluster = back;
            wait(&mut turns);
        }
    }

    /// As [`push`](Self::push), unless somebody else holds the head or changes
    /// it meanwhile: then the cluster comes back.
    // KEEPS: INV-4, INV-26
    pub fn try_push(&self, cluster: Cluster, turns: u32) -> Result<(), Cluster> {
        let first = cluster.first;
        if first.is_null() {
            return Ok(());
        }
        let seen = self.look(turns);
        if seen == BUSY {
            return Err(cluster);
        }
        // SAFETY: the cluster is ours until the exchange below.
        unsafe { (*first).next.with_mut(|p| *p = seen) };
        // PAIRS: hold's Acquire. Publishes the links and what the last user
        // wrote into the objects (INV-4).
        self.head
            .compare_exchange(seen, first, Ordering::Release, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|_| cluster)
    }
}

impl Default for SharedList {
    fn default() -> Self {
        Self::new()
    }
}

/// One turn of waiting for a head that is BUSY, or was when we looked. Its
/// holder is two instructions from the end, unless it was preempted there.
pub(super) fn wait(turns: &mut u32) {
    *turns += 1;
    #[cfg(not(model))]
    if *turns % 64 == 0 {
        crate::sys::thread::yield_now();
    }
    crate::sync::spin_hint();
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    /// An object with as many slots as any test wants.
    #[repr(C)]
    struct Object {
        item: Item,
        slots: [UnsafeCell<*mut u8>; 4],
    }

    fn objects<const N: usize>() -> [Object; N] {
        core::array::from_fn(|_| Object {
            item: Item::new(),
            slots: core::array::from_fn(|_| UnsafeCell::new(ptr::null_mut())),
        })
    }

    fn at(object: &Object) -> *mut u8 {
        ptr::from_ref(object).cast_mut().cast()
    }

    fn tie(objects: &[Object], slots: usize) -> Cluster {
        let items: Vec<_> = objects.iter().map(at).collect();
        // SAFETY: the tests own their objects.
        unsafe { Cluster::tie(&items, slots) }
    }

    fn untie(cluster: Cluster, slots: usize) -> Vec<*mut u8> {
        let mut items = [ptr::null_mut(); CLUSTER_MAX];
        // SAFETY: tied with that many.
        let n = unsafe { cluster.untie(slots, &mut items) };
        items[..n].to_vec()
    }

    #[test]
    fn what_was_tied_comes_apart_in_order() {
        for slots in 0..=4 {
            let objects = objects::<32>();
            for n in 0..=32 {
                let items = untie(tie(&objects[..n], slots), slots);
                assert_eq!(items, objects[..n].iter().map(at).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn clusters_come_back_whole_and_newest_first() {
        let objects = objects::<5>();
        let list = SharedList::new();
        assert!(list.pop().is_none());
        list.push(tie(&objects[..3], 1));
        list.push(tie(&[], 1));
        list.push(tie(&objects[3..], 1));
        assert_eq!(untie(list.pop().unwrap(), 1).len(), 2);
        assert_eq!(untie(list.pop().unwrap(), 1).len(), 3);
        assert!(list.pop().is_none());
    }

    #[test]
    fn taking_all_leaves_a_usable_list() {
        let objects = objects::<3>();
        let list = SharedList::new();
        assert_eq!(list.take_all().count(), 0);
        for object in objects.chunks(1) {
            list.push(tie(object, 0));
        }
        assert_eq!(list.take_all().map(|c| untie(c, 0).len()).sum::<usize>(), 3);
        assert!(list.pop().is_none());
        list.push(tie(&objects[..1], 0));
        assert!(list.pop().is_some());
    }

    #[test]
    fn a_held_head_lets_nobody_in_and_nothing_get_lost() {
        let objects = objects::<2>();
        let list = SharedList::new();
        list.push(tie(&objects[..1], 0));
        let first = list.hold();
        assert!(list.try_pop(0).is_err());
        let back = list.try_push(tie(&objects[1..], 0), 0).unwrap_err();
        assert_eq!(untie(back, 0), [at(&objects[1])]);
        assert!(list.behead(first).is_some());
        assert!(list.try_pop(0).unwrap().is_none());
    }
}
