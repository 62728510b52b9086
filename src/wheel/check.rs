//! The integrity walk of the tests.

use super::filing::{
    FAR, FAR_LEAD, FIRST_REFILED, RINGS, TOP, far_fire_date, fire_date, level_of, shift,
};
use super::list::List;
use super::node::Node;
use super::wheel::Wheel;

impl Wheel {
    /// Walks every ring and bitmap and panics where an invariant is broken.
    ///
    /// # Safety
    /// As [`Wheel::add`].
    #[doc(hidden)]
    pub unsafe fn check(&self) {
        let mut count = 0;
        let mut soonest = u64::MAX;
        for slot in 0..RINGS as u16 {
            let mut last_date = 0;
            let mixed = (self.mixed[slot as usize / 64] >> (slot % 64)) & 1 != 0;
            let edge = self.boundary(slot);
            let seen = each(&self.rings[slot as usize], |node| {
                assert_eq!(node.slot, slot, "a node names another slot");
                assert!(edge > self.base, "a slot was passed over");
                assert!(
                    node.time > self.base || slot < FIRST_REFILED,
                    "a slot to refile has an overdue node"
                );
                let date = if slot < FIRST_REFILED {
                    assert!(
                        edge >= node.time && edge - node.time <= node.window as u64,
                        "a final node fires outside its window"
                    );
                    edge
                } else if slot == FAR {
                    assert!(edge + FAR_LEAD <= node.time, "a far node is looked at late");
                    far_fire_date(node.time, node.window)
                } else {
                    let shift = shift(level_of(slot as usize / 128));
                    assert_eq!(edge, node.time >> shift << shift, "refiled elsewhere");
                    fire_date(edge, node.time, node.window)
                };
                assert!(mixed || date >= last_date, "a ring is not in order");
                last_date = date;
                soonest = soonest.min(date);
            });
            count += seen;
            assert_eq!(self.is_busy(slot), seen > 0, "bit of slot {slot}");
            assert!(seen > 0 || !mixed, "an empty slot is mixed");
            assert!(seen == 0 || self.edge <= edge, "the edge is late");
        }
        for (row, words) in self.busy.chunks(2).enumerate() {
            assert_eq!((self.rows >> row) & 1 != 0, words[0] | words[1] != 0);
        }
        // SAFETY: by this function's contract.
        assert_eq!(unsafe { self.find_soonest() }, soonest, "next is not exact");

        let (mut last_date, mut sorted, mut exact) = (0, true, true);
        count += each(&self.due, |node| {
            sorted &= node.time >= last_date;
            exact &= node.window == 0;
            last_date = node.time;
            assert!(node.time <= self.base, "a node is due early");
        });
        assert!(sorted || !exact, "due nodes are out of order");
        count += each(&self.waiting, |node| {
            assert!(node.time > self.base);
            soonest = soonest.min(fire_date(self.base, node.time, node.window));
        });
        assert!(self.stale || self.soonest == soonest, "the cache is wrong");
        assert_eq!(count, self.len, "the length is wrong");
    }

    /// The date at which the slot has to be looked at.
    fn boundary(&self, slot: u16) -> u64 {
        if slot == FAR {
            return self.far_edge;
        }
        let level = level_of(slot as usize / 128);
        assert!(level <= TOP);
        let first = (self.base >> shift(level)).wrapping_add(1);
        let steps = (slot as u64).wrapping_sub(first) % 128;
        first.wrapping_add(steps) << shift(level)
    }
}

/// Visits a list's nodes and counts them.
fn each(list: &List, mut visit: impl FnMut(&Node)) -> usize {
    let mut count = 0;
    let mut node = list.first();
    while !node.is_null() {
        // SAFETY: by the contract of `check`, the only caller.
        unsafe {
            assert_eq!((*(*node).next).prev, node, "links disagree");
            visit(&*node);
            node = (*node).next;
        }
        count += 1;
        if node == list.first() {
            break;
        }
    }
    count
}
