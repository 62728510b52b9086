//! What has changed, in order: for whoever replicates a table. Each touched
//! entry has one place in a ring of 2^32 numbers; touching it again moves it.
//! Local changes are numbered upwards from the table's `update`; remote ones,
//! which are only taught to peers that want everything, half a ring away.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};
use core::cell::Cell;
use intrusive_collections::{Bound, KeyAdapter, RBTree, RBTreeLink, UnsafeRef, intrusive_adapter};

/// An entry's place among the updates.
pub struct Update {
    link: RBTreeLink,
    number: Cell<u32>,
}

mod adapter {
    #![allow(missing_docs)] // the macro's
    use super::*;
    intrusive_adapter!(pub(super) ByNumber = UnsafeRef<Update>: Update { link => RBTreeLink });
}
use adapter::ByNumber;

impl KeyAdapter<'_> for ByNumber {
    type Key = u32;
    fn get_key(&self, update: &Update) -> u32 {
        update.number.get()
    }
}

impl Update {
    /// No place yet.
    pub fn new() -> Self {
        Self {
            link: RBTreeLink::new(),
            number: Cell::new(0),
        }
    }
}

impl Default for Update {
    fn default() -> Self {
        Self::new()
    }
}

/// The table's counters, which C reads; `commit` is C's to write.
#[derive(Clone, Copy)]
pub struct Counters<'a> {
    /// The number given last.
    pub update: &'a AtomicU32,
    /// The local number given last.
    pub local: &'a AtomicU32,
    /// Up to where all peers have everything.
    pub commit: &'a AtomicU32,
}

/// All places that are taken.
pub struct Updates(Mutex<RBTree<ByNumber>>);

// SAFETY: the tree and its nodes are touched under the lock alone.
unsafe impl Send for Updates {}
// SAFETY: as above.
unsafe impl Sync for Updates {}

/// Whether `a` comes after `b` in the ring.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

fn detach(tree: &mut RBTree<ByNumber>, update: &Update) {
    // SAFETY: a linked update is in its table's tree, here.
    unsafe { tree.cursor_mut_from_ptr(update).remove() };
}

// KEEPS: INV-104
fn place(tree: &mut RBTree<ByNumber>, update: &Update, number: u32) {
    // Around the ring: numbers are given once (INV-104).
    tree.find_mut(&number).remove();
    update.number.set(number);
    // SAFETY: the entry lives until it has been forgotten.
    tree.insert(unsafe { UnsafeRef::from_raw(update) });
}

fn next(counter: &AtomicU32) -> u32 {
    let number = counter.load(Ordering::Relaxed).wrapping_add(1);
    counter.store(number, Ordering::Relaxed);
    number
}

impl Updates {
    /// None.
    pub fn new() -> Self {
        Self(Mutex::new(RBTree::new(ByNumber::new())))
    }

    /// A local change: the entry is to be taught. It stays where it is if its
    /// place is a local one that not all peers have passed.
    ///
    /// # Safety
    /// `update` is of this table, and its entry held by the caller; the same
    /// below.
    // KEEPS: INV-104, INV-105
    pub unsafe fn local(&self, update: &Update, counters: Counters) {
        let mut tree = self.0.lock();
        if update.link.is_linked() {
            let number = update.number.get();
            let passed = !is_after(number, counters.commit.load(Ordering::Relaxed));
            let remote = is_after(number, counters.local.load(Ordering::Relaxed));
            if !passed && !remote {
                return;
            }
            detach(&mut tree, update);
        }
        let number = next(counters.update);
        counters.local.store(number, Ordering::Relaxed);
        place(&mut tree, update, number);
    }

    /// A change that came from a peer: keeps the place that it has.
    ///
    /// # Safety
    /// As [`local`](Self::local).
    pub unsafe fn remote(&self, update: &Update, counters: Counters) {
        let mut tree = self.0.lock();
        if !update.link.is_linked() {
            let number = next(counters.update).wrapping_add(1 << 31);
            place(&mut tree, update, number);
        }
    }

    /// The entry was buried: it has no place any more.
    ///
    /// # Safety
    /// As [`local`](Self::local).
    pub unsafe fn forget(&self, update: &Update) {
        let mut tree = self.0.lock();
        if update.link.is_linked() {
            detach(&mut tree, update);
        }
    }

    /// The first update after number `from`, up to `to`, that `take` says yes
    /// to: what it was given is alive during the call only.
    pub fn after(
        &self,
        from: u32,
        to: u32,
        mut take: impl FnMut(*mut Update) -> bool,
    ) -> Option<(*mut Update, u32)> {
        let tree = self.0.lock();
        let mut at = tree.lower_bound(Bound::Excluded(&from));
        let mut around = false;
        loop {
            let Some(update) = at.get() else {
                if around {
                    return None;
                }
                around = true;
                at = tree.front();
                continue;
            };
            let number = update.number.get();
            // Not further than the end, nor once around.
            if number.wrapping_sub(from).wrapping_sub(1) >= to.wrapping_sub(from) {
                return None;
            }
            let found = core::ptr::from_ref(update).cast_mut();
            if take(found) {
                return Some((found, number));
            }
            at.move_next();
        }
    }
}

impl Default for Updates {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    struct Table {
        updates: Updates,
        update: AtomicU32,
        local: AtomicU32,
        commit: AtomicU32,
        #[expect(clippy::vec_box, reason = "the tree knows their addresses")]
        all: Vec<Box<Update>>,
    }

    impl Table {
        fn new(at: u32) -> Self {
            Self {
                updates: Updates::new(),
                update: AtomicU32::new(at),
                local: AtomicU32::new(at),
                commit: AtomicU32::new(at),
                all: (0..4).map(|_| Box::new(Update::new())).collect(),
            }
        }

        fn counters(&self) -> Counters<'_> {
            Counters {
                update: &self.update,
                local: &self.local,
                commit: &self.commit,
            }
        }

        fn touch(&self, k: usize) {
            // SAFETY: the updates live as long as the table.
            unsafe { self.updates.local(&self.all[k], self.counters()) }
        }

        fn learn(&self, k: usize) {
            // SAFETY: as above.
            unsafe { self.updates.remote(&self.all[k], self.counters()) }
        }

        fn range(&self, mut from: u32, to: u32) -> Vec<usize> {
            let mut seen = Vec::new();
            while let Some((u, number)) = self.updates.after(from, to, |_| true) {
                seen.push(
                    self.all
                        .iter()
                        .position(|x| core::ptr::eq(&**x, u))
                        .unwrap(),
                );
                from = number;
            }
            seen
        }

        fn locals(&self, from: u32) -> Vec<usize> {
            self.range(from, self.local.load(Ordering::Relaxed))
        }
    }

    impl Drop for Table {
        fn drop(&mut self) {
            self.updates.0.lock().fast_clear();
        }
    }

    // SHOWS: INV-104
    #[test]
    fn each_entry_has_one_place_which_moves_when_it_was_passed() {
        for at in [0, u32::MAX - 2, (1 << 31) - 2] {
            let t = Table::new(at);
            (0..3).for_each(|k| t.touch(k));
            t.touch(0);
            assert_eq!(t.locals(at), [0, 1, 2], "unseen updates keep their places");
            t.commit.store(at.wrapping_add(1), Ordering::Relaxed);
            t.touch(0);
            t.touch(1);
            assert_eq!(t.locals(at), [1, 2, 0]);
            assert_eq!(t.locals(at.wrapping_add(3)), [0]);
        }
    }

    // SHOWS: INV-105
    #[test]
    fn remote_ones_are_far_away_until_they_change_here() {
        for at in [0, u32::MAX - 1, (1 << 31) - 1] {
            let t = Table::new(at);
            t.learn(2);
            t.touch(1);
            t.learn(1);
            assert_eq!(t.locals(at), [1]);
            let end = t.update.load(Ordering::Relaxed).wrapping_add(1 << 31);
            assert_eq!(t.range(t.local.load(Ordering::Relaxed), end), [2]);
            t.touch(2);
            assert_eq!(
                t.locals(at),
                [1, 2],
                "a local change is published (INV-105)"
            );
        }
    }

    // SHOWS: INV-104
    #[test]
    fn a_number_that_comes_around_is_given_once() {
        let t = Table::new(5);
        t.touch(0);
        t.update.store(5, Ordering::Relaxed);
        t.touch(1);
        assert_eq!(t.locals(5), [1]);
        // SAFETY: the updates live as long as the table.
        unsafe {
            t.updates.forget(&t.all[0]);
            t.updates.forget(&t.all[1]);
        }
        assert!(t.locals(5).is_empty());
    }
}
