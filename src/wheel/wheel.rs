//! The wheel: adding, removing, advancing, asking for the next date.

use super::filing::{
    FAR, FAR_LEAD, FAR_ROW, FIRST_REFILED, Filing, RINGS, ROWS, TOP, far_fire_date, file,
    final_row, fire_date, level_of, refile_row, shift, slot_at,
};
use super::list::{List, unlink};
use super::node::Node;
use core::ptr;

const WORDS: usize = ROWS * 2;

/// Nodes by date. See the [module](super) for units and rules.
///
/// About 20 KB, all zeroes but for a few words, of which only what is used
/// is ever touched.
#[derive(Debug)]
pub struct Wheel {
    pub(super) base: u64,
    /// No occupied slot has a boundary before this.
    pub(super) edge: u64,
    /// The far ring's boundary: at or before what its nodes need.
    pub(super) far_edge: u64,
    /// The first date at which a node in a slot becomes due, unless `stale`.
    pub(super) soonest: u64,
    pub(super) stale: bool,
    /// The rows with an occupied slot.
    pub(super) rows: u32,
    pub(super) len: usize,
    refilings: u64,
    /// Due, in the order in which it became so; overdue additions by date.
    pub(super) due: List,
    /// Taken from slots of the boundary `base`, to be filed again.
    pub(super) waiting: List,
    /// The occupied slots.
    pub(super) busy: [u64; WORDS],
    /// Slots to refile whose first node is perhaps not the first one due.
    pub(super) mixed: [u64; WORDS],
    pub(super) rings: [List; RINGS],
}

// SAFETY: as for List.
unsafe impl Send for Wheel {}

impl Wheel {
    /// An empty wheel at `now`.
    pub const fn new(now: u64) -> Self {
        Self {
            base: now,
            edge: u64::MAX,
            far_edge: u64::MAX,
            soonest: u64::MAX,
            stale: false,
            rows: 0,
            len: 0,
            refilings: 0,
            due: List::new(),
            waiting: List::new(),
            busy: [0; WORDS],
            mixed: [0; WORDS],
            rings: [const { List::new() }; RINGS],
        }
    }

    /// The number of nodes, due ones included.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the wheel holds no node.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The base: every date up to it is due. Short of the date last given to
    /// [`advance`](Self::advance) while that is unfinished.
    #[inline]
    pub const fn now(&self) -> u64 {
        self.base
    }

    /// How many times nodes were filed again so far.
    #[inline]
    pub const fn refilings(&self) -> u64 {
        self.refilings
    }

    /// Moves the base of an empty wheel anywhere, also back.
    // KEEPS: CINV-24
    pub fn reset(&mut self, now: u64) {
        if self.len != 0 {
            panic!("a timing wheel is reset while it holds nodes");
        }
        self.base = now;
        self.edge = u64::MAX;
    }

    /// Whether [`advance`](Self::advance) to `now` would find nothing to do,
    /// nor [`pop_due`](Self::pop_due) after it.
    #[inline]
    pub const fn has_passed(&self, now: u64) -> bool {
        self.base == now && self.due.is_empty() && self.waiting.is_empty()
    }

    /// Files `node` at `time`; it may become due up to `window` late. What is
    /// not after the base is due at once, sorted by date.
    ///
    /// # Safety
    /// The wheel's nodes are alive and nobody else's at the moment, here and
    /// in every function below. `node` is on no list, and stays in place until
    /// it is removed or popped.
    #[inline(always)]
    pub unsafe fn add(&mut self, node: *mut Node, time: u64, window: u32) {
        self.len += 1;
        // SAFETY: by this function's contract.
        unsafe {
            (*node).time = time;
            (*node).window = window;
            if time <= self.base {
                self.add_due(node);
                return;
            }
            let filing = self.put(node);
            let fire = if filing.is_final() {
                filing.edge
            } else {
                fire_date(self.base, time, window)
            };
            if fire < self.soonest {
                self.soonest = fire;
            }
        }
    }

    /// Unlinks `node`, wherever the wheel has it.
    ///
    /// # Safety
    /// As [`add`](Self::add), except that `node` is in this wheel.
    // KEEPS: CINV-25
    #[inline]
    pub unsafe fn remove(&mut self, node: *mut Node) {
        self.len -= 1;
        // SAFETY: by this function's contract.
        unsafe {
            let rest = unlink(node);
            let slot = (*node).slot;
            if self.rings[slot as usize].replace_head(node, rest) {
                if rest.is_null() {
                    self.vacate(slot);
                }
            } else if !self.due.replace_head(node, rest) {
                self.waiting.replace_head(node, rest);
            }
            // Perhaps it was the one that `soonest` is about.
            let time = (*node).time;
            if time <= self.soonest && self.soonest - time <= (*node).window as u64 {
                self.stale = true;
            }
        }
    }

    /// Moves the base to `now` and collects what is due; files again at most
    /// about `budget` nodes and visits at most as many slots on the way. True
    /// if it has to be called again to get there. A `now` before the base
    /// counts as the base.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    pub unsafe fn advance(&mut self, now: u64, budget: usize) -> bool {
        let now = now.max(self.base);
        let mut left = budget.max(1);
        loop {
            while !self.waiting.is_empty() {
                if left == 0 {
                    return true;
                }
                left -= 1;
                // SAFETY: waiting nodes are the wheel's.
                unsafe { self.refile() };
            }
            if now >= self.edge {
                self.edge = self.next_edge().unwrap_or(u64::MAX);
            }
            if now < self.edge || self.rows == 0 {
                self.base = now;
                return false;
            }
            if left == 0 {
                return true;
            }
            left -= 1;
            // SAFETY: as above; no occupied slot was passed over.
            unsafe { self.collect() };
        }
    }

    /// Unlinks and returns the earliest due node, or NULL.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    #[inline]
    pub unsafe fn pop_due(&mut self) -> *mut Node {
        // SAFETY: by this function's contract.
        let node = unsafe { self.due.pop_front() };
        self.len -= !node.is_null() as usize;
        node
    }

    /// The earliest due node, left in place, or NULL.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    #[inline]
    pub unsafe fn peek_due(&self) -> *mut Node {
        self.due.first()
    }

    /// A node that is due before nearly all others, left in place, or NULL: the
    /// first one filed of those whose slot is looked at next.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    pub unsafe fn first(&self) -> *mut Node {
        let node = self.due.first();
        if !node.is_null() {
            return node;
        }
        let node = self.waiting.first();
        if !node.is_null() {
            return node;
        }
        let Some((edge, row)) = Bits(self.rows).map(|row| (self.row_edge(row), row)).min() else {
            return ptr::null_mut();
        };
        let slot = if row == FAR_ROW {
            FAR
        } else {
            slot_at(row, edge)
        };
        self.rings[slot as usize].first()
    }

    /// Unlinks and returns any node, or NULL.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    pub unsafe fn pop_any(&mut self) -> *mut Node {
        let mut node = self.due.first();
        if node.is_null() {
            node = self.waiting.first();
        }
        if node.is_null() && self.rows != 0 {
            let row = self.rows.trailing_zeros() as usize;
            let low = self.busy[2 * row];
            let (word, map) = if low != 0 {
                (2 * row, low)
            } else {
                (2 * row + 1, self.busy[2 * row + 1])
            };
            node = self.rings[word * 64 + map.trailing_zeros() as usize].first();
        }
        if !node.is_null() {
            // SAFETY: it is in this wheel.
            unsafe { self.remove(node) };
        }
        node
    }

    /// Moves the due nodes with this tag before the others; both keep their
    /// order.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    pub unsafe fn bring_forward(&mut self, tag: u8) {
        let mut rest = List::new();
        let mut first = List::new();
        // SAFETY: due nodes are the wheel's.
        unsafe {
            loop {
                let node = self.due.pop_front();
                if node.is_null() {
                    break;
                }
                let list = if (*node).tag == tag {
                    &mut first
                } else {
                    &mut rest
                };
                list.push_back(node);
            }
            first.append(&mut rest);
        }
        self.due = first;
    }

    /// A date not after [`next`](Self::next), at no cost.
    #[inline]
    pub const fn soonest(&self) -> u64 {
        self.soonest
    }

    /// The first date at which [`advance`](Self::advance) makes something
    /// due; the base if something is due already or it is unfinished.
    // KEEPS: CINV-26
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a date, not an element")]
    pub fn next(&mut self) -> Option<u64> {
        if !self.due.is_empty() || !self.waiting.is_empty() {
            return Some(self.base);
        }
        if self.len == 0 {
            self.soonest = u64::MAX;
            self.stale = false;
            return None;
        }
        if self.stale {
            // SAFETY: the nodes are alive: they were added so.
            self.soonest = unsafe { self.find_soonest() };
            self.stale = false;
        }
        Some(self.soonest)
    }

    /// # Safety
    /// As [`add`](Self::add); `node`'s date is not after the base.
    unsafe fn add_due(&mut self, node: *mut Node) {
        // SAFETY: by this function's contract.
        unsafe {
            let mut at = self.due.last();
            if at.is_null() {
                self.due.push_back(node);
                return;
            }
            while (*at).time > (*node).time {
                if at == self.due.first() {
                    self.due.push_front(node);
                    return;
                }
                at = (*at).prev;
            }
            self.due.insert_after(at, node);
        }
    }

    /// Links `node` in the ring for its date, which is after the base.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    #[inline(always)]
    unsafe fn put(&mut self, node: *mut Node) -> Filing {
        // SAFETY: by this function's contract.
        unsafe {
            let filing = file(self.base, (*node).time, (*node).window);
            let slot = filing.slot;
            (*node).slot = slot;
            let ring = &mut self.rings[slot as usize];
            if slot >= FIRST_REFILED {
                let last = ring.last();
                let mixed = (*node).window != 0 || (!last.is_null() && (*last).time > (*node).time);
                self.mixed[slot as usize / 64] |= (mixed as u64) << (slot % 64);
                if slot == FAR && (last.is_null() || filing.edge < self.far_edge) {
                    self.far_edge = filing.edge;
                }
            }
            // Few filings change any of this, and what is not stored does not
            // wait behind the neighbours' cache misses.
            if ring.is_empty() {
                self.busy[slot as usize / 64] |= 1 << (slot % 64);
                self.rows |= 1 << (slot / 128);
            }
            if filing.edge < self.edge {
                self.edge = filing.edge;
            }
            ring.push_back(node);
            filing
        }
    }

    /// The slot's ring became empty.
    // KEEPS: CINV-25
    #[inline]
    fn vacate(&mut self, slot: u16) {
        let word = slot as usize / 64;
        self.busy[word] &= !(1 << (slot % 64));
        self.mixed[word] &= !(1 << (slot % 64));
        if self.busy[word] | self.busy[word ^ 1] == 0 {
            self.rows &= !(1 << (slot / 128));
        }
    }

    /// Files the first waiting node again.
    ///
    /// # Safety
    /// As [`add`](Self::add); one is waiting.
    unsafe fn refile(&mut self) {
        self.refilings += 1;
        // SAFETY: by this function's contract.
        unsafe {
            // After the base, since that stands where the slot was looked at.
            // When the node becomes due was settled when it was added.
            let node = self.waiting.pop_front();
            let _ = self.put(node);
        }
    }

    /// Moves the base to the edge and takes the slots of that boundary.
    ///
    /// # Safety
    /// As [`add`](Self::add); the edge is exact.
    unsafe fn collect(&mut self) {
        self.base = self.edge;
        // Coarse levels first: theirs were added from farther away, earlier.
        let coarsest = (self.base.trailing_zeros() as usize / 3).min(TOP);
        for level in (0..=coarsest).rev() {
            // SAFETY: by this function's contract.
            unsafe {
                let slot = slot_at(final_row(level), self.base);
                if self.is_busy(slot) {
                    self.due.append(&mut self.rings[slot as usize]);
                    self.vacate(slot);
                }
                if level > 0 {
                    self.take_to_refile(slot_at(refile_row(level), self.base));
                }
            }
        }
        if self.far_edge == self.base {
            // SAFETY: by this function's contract.
            unsafe { self.take_to_refile(FAR) };
        }
        self.stale |= self.soonest <= self.base;
    }

    /// # Safety
    /// As [`add`](Self::add).
    unsafe fn take_to_refile(&mut self, slot: u16) {
        if self.is_busy(slot) {
            // SAFETY: by this function's contract.
            unsafe { self.waiting.append(&mut self.rings[slot as usize]) };
            self.vacate(slot);
        }
    }

    #[inline]
    pub(super) fn is_busy(&self, slot: u16) -> bool {
        (self.busy[slot as usize / 64] >> (slot % 64)) & 1 != 0
    }

    /// The first boundary of an occupied slot of an occupied row.
    #[inline]
    fn row_edge(&self, row: usize) -> u64 {
        if row == FAR_ROW {
            return self.far_edge;
        }
        let shift = shift(level_of(row));
        let first = (self.base >> shift).wrapping_add(1);
        let map = self.busy[2 * row] as u128 | ((self.busy[2 * row + 1] as u128) << 64);
        let map = map.rotate_right((first % 128) as u32);
        (first + map.trailing_zeros() as u64) << shift
    }

    /// The first boundary of an occupied slot.
    fn next_edge(&self) -> Option<u64> {
        Bits(self.rows).map(|row| self.row_edge(row)).min()
    }

    /// The first date at which a node in a slot becomes due.
    ///
    /// The first slot of a row tells: a node is only filed again where it
    /// fires before the end of its slot.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    pub(super) unsafe fn find_soonest(&self) -> u64 {
        let mut best = u64::MAX;
        for row in Bits(self.rows) {
            let edge = self.row_edge(row);
            // SAFETY: by this function's contract.
            unsafe {
                if row == FAR_ROW {
                    if edge.saturating_add(FAR_LEAD) < best {
                        best = best.min(self.ring_soonest(FAR, far_fire_date));
                    }
                } else if edge < best {
                    let slot = slot_at(row, edge);
                    best = if slot < FIRST_REFILED {
                        edge
                    } else {
                        best.min(self.ring_soonest(slot, |t, w| fire_date(edge, t, w)))
                    };
                }
            }
        }
        best
    }

    /// The first date at which a node of an occupied slot to refile becomes due.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    unsafe fn ring_soonest(&self, slot: u16, fire_date: impl Fn(u64, u32) -> u64) -> u64 {
        let head = self.rings[slot as usize].first();
        // SAFETY: by this function's contract; a ring ends where it began.
        unsafe {
            if (self.mixed[slot as usize / 64] >> (slot % 64)) & 1 == 0 {
                return (*head).time;
            }
            let mut best = u64::MAX;
            let mut node = head;
            loop {
                best = best.min(fire_date((*node).time, (*node).window));
                node = (*node).next;
                if node == head {
                    return best;
                }
            }
        }
    }
}

/// The numbers of the set bits, lowest first.
struct Bits(u32);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (bit < 32).then_some(bit)
    }
}
