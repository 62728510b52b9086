//! Every edge of the wheel, by hand.

use super::*;

/// The caller's side: nodes with numbers, and a check after every step.
#[expect(clippy::vec_box, reason = "nodes stay in place as their number grows")]
struct Bench {
    wheel: Box<Wheel>,
    nodes: Vec<Box<Node>>,
}

impl Bench {
    fn new(base: u64) -> Self {
        Self {
            wheel: Box::new(Wheel::new(base)),
            nodes: Vec::new(),
        }
    }

    fn node(&mut self, i: usize) -> *mut Node {
        &raw mut *self.nodes[i]
    }

    fn check(&self) {
        // SAFETY: the nodes are the bench's, here and below.
        unsafe { self.wheel.check() };
    }

    fn add_window(&mut self, time: u64, window: u32) -> usize {
        self.nodes.push(Box::new(Node::new(0)));
        let i = self.nodes.len() - 1;
        self.add_again(i, time, window);
        i
    }

    fn add(&mut self, time: u64) -> usize {
        self.add_window(time, 0)
    }

    fn add_again(&mut self, i: usize, time: u64, window: u32) {
        let node = self.node(i);
        // SAFETY: see check.
        unsafe { self.wheel.add(node, time, window) };
        assert!(self.nodes[i].is_linked() && self.nodes[i].time() == time);
        self.check();
    }

    fn remove(&mut self, i: usize) {
        let node = self.node(i);
        // SAFETY: see check.
        unsafe { self.wheel.remove(node) };
        assert!(!self.nodes[i].is_linked());
        self.check();
    }

    fn step(&mut self, now: u64, budget: usize) -> bool {
        // SAFETY: see check.
        let unfinished = unsafe { self.wheel.advance(now, budget) };
        self.check();
        unfinished
    }

    fn pop(&mut self) -> Option<usize> {
        // SAFETY: see check.
        let (peeked, node) = unsafe { (self.wheel.peek_due(), self.wheel.pop_due()) };
        assert_eq!(peeked, node);
        self.nodes.iter().position(|n| core::ptr::eq(&**n, node))
    }

    fn pop_all(&mut self) -> Vec<usize> {
        core::iter::from_fn(|| self.pop()).collect()
    }

    /// What comes due up to `now`, in order.
    fn due(&mut self, now: u64) -> Vec<usize> {
        assert!(!self.step(now, usize::MAX));
        self.pop_all()
    }
}

const TOP_STEP: u64 = 1 << 27;
const BASES: [u64; 8] = [
    0,
    5,
    (1 << 27) - 1,
    (1 << 32) - 3,
    1 << 32,
    (1 << 63) - 100,
    1 << 63,
    u64::MAX - (1 << 45) - 7,
];

#[test]
fn due_exactly_at_its_date_at_every_level_and_distance() {
    for base in BASES {
        for level in 0..=11 {
            for steps in [1u64, 2, 15, 16, 17, 127, 128, 129] {
                for off in [-1i64, 0, 1] {
                    let delay = ((steps << (3 * level)) as i64 + off) as u64;
                    if delay == 0 {
                        continue;
                    }
                    let mut b = Bench::new(base);
                    let i = b.add(base + delay);
                    assert_eq!(b.wheel.next(), Some(base + delay));
                    assert_eq!(b.due(base + delay - 1), []);
                    assert_eq!(b.wheel.next(), Some(base + delay));
                    assert_eq!(b.due(base + delay), [i]);
                    assert!(b.wheel.is_empty() && b.wheel.next().is_none());
                    assert!(b.wheel.refilings() <= 6);
                }
            }
        }
    }
}

#[test]
fn at_most_five_refilings_below_the_horizon() {
    let mut most = 0;
    for base in [0, 77, (1 << 33) - 1] {
        for bit in 0..34 {
            for low in [0, 1, 0o1111111111, 0o7777777777, 0o4646464646] {
                let delay = (1u64 << bit) | low & ((1 << bit) - 1);
                let mut b = Bench::new(base);
                let i = b.add(base + delay);
                assert_eq!(b.due(base + delay), [i]);
                most = most.max(b.wheel.refilings());
            }
        }
    }
    assert!((4..=5).contains(&most), "{most}");
}

#[test]
fn the_current_slot_is_a_revolution_away() {
    let mut b = Bench::new(640);
    for level in [0, 1, 2] {
        let date = 640 + (128 << (3 * level));
        let i = b.add(date);
        assert_eq!(b.nodes[i].slot % 128, (640 >> (3 * level)) as u16 % 128);
    }
    assert_eq!(b.due(767), []);
    assert_eq!(b.due(768), [0]);
    assert_eq!(b.due(1663), []);
    assert_eq!(b.due(1664), [1]);
    assert_eq!(b.due(640 + 8192), [2]);
}

#[test]
fn several_revolutions() {
    let mut b = Bench::new(3);
    let i = b.add(4);
    for turn in 1..2000u64 {
        let date = 3 + turn * 131;
        assert_eq!(b.due(date - 1), if turn == 1 { vec![i] } else { vec![] });
        if turn == 1 {
            b.add_again(i, date + 131, 0);
            continue;
        }
        assert_eq!(b.due(date), [i]);
        b.add_again(i, date + 131, 0);
    }
}

#[test]
fn a_huge_step_collects_everything_in_order() {
    for base in BASES {
        let mut b = Bench::new(base);
        let delays = (0..45).flat_map(|bit| [1u64 << bit, (1 << bit) + 5, (3 << bit) / 2]);
        let mut dates: Vec<u64> = delays.map(|d| base + d).collect();
        let ids: Vec<usize> = dates.iter().rev().map(|&d| b.add(d)).collect();
        assert_eq!(b.wheel.next(), Some(base + 1));
        let due: Vec<u64> = b.due(u64::MAX).iter().map(|&i| b.nodes[i].time()).collect();
        dates.sort();
        assert_eq!(due, dates);
        assert_eq!((ids.len(), b.wheel.now()), (due.len(), u64::MAX));
    }
}

#[test]
fn far_nodes_cost_no_walk_through_time() {
    let mut b = Bench::new(0);
    let (end, half) = (b.add(u64::MAX), b.add_window(1 << 63, 9));
    let windowed_end = b.add_window(u64::MAX - 3, u32::MAX);
    assert_eq!(b.due((1 << 63) - 1), []);
    assert_eq!(b.due((1 << 63) + 9), [half]);
    assert_eq!(b.wheel.next(), Some(u64::MAX - 3));
    assert_eq!(b.due(u64::MAX), [windowed_end, end]);
    let overdue = b.add(u64::MAX);
    assert_eq!(b.wheel.next(), Some(u64::MAX));
    assert_eq!(b.pop_all(), [overdue]);
}

#[test]
fn far_ring_with_its_first_node_removed() {
    let mut b = Bench::new(9);
    let near = b.add(9 + 200 * TOP_STEP);
    let far = b.add(9 + 400 * TOP_STEP);
    b.remove(near);
    assert_eq!(b.wheel.next(), Some(9 + 400 * TOP_STEP));
    assert_eq!(b.due(300 * TOP_STEP), []);
    let later = b.add(u64::MAX / 2);
    assert_eq!(b.due(u64::MAX), [far, later]);
}

/// SHOWS: CINV-24
#[test]
fn the_clock_does_not_go_back() {
    let mut b = Bench::new(1000);
    let i = b.add(1500);
    assert!(!b.step(10, 1));
    assert_eq!(b.wheel.now(), 1000);
    assert_eq!(b.due(1499), []);
    assert_eq!(b.due(0), []);
    assert_eq!(b.wheel.now(), 1499);
    assert_eq!(b.due(1500), [i]);
    b.wheel.reset(3);
    let i = b.add(4);
    assert_eq!((b.wheel.next(), b.due(4)), (Some(4), vec![i]));
}

/// SHOWS: CINV-24
#[test]
#[should_panic(expected = "while it holds nodes")]
fn no_reset_under_a_node() {
    let mut b = Bench::new(1000);
    b.add(10);
    b.wheel.reset(0);
}

#[test]
fn overdue_additions_are_sorted_and_fair() {
    let mut b = Bench::new(100);
    let ids: Vec<usize> = [50, 100, 7, 50, 60, 0].map(|t| b.add(t)).into();
    assert_eq!(b.wheel.next(), Some(100));
    let order: Vec<usize> = [5, 2, 0, 3, 4, 1].map(|k: usize| ids[k]).into();
    assert_eq!(b.pop_all(), order);
    // Beside what a slot brought.
    let (a, c) = (b.add(110), b.add(120));
    assert!(!b.step(130, 99));
    let (x, y) = (b.add(115), b.add(125));
    assert_eq!(b.pop_all(), [a, x, c, y]);
}

/// SHOWS: CINV-25
#[test]
fn remove_first_middle_last_everywhere() {
    // A final slot, a slot to refile, the far ring, the due list.
    for (time, now) in [
        (50, 0),
        (100_003, 0),
        (1 << 40, 0),
        (50, 60),
        (100_003, 200_000),
    ] {
        for gone in 0..3 {
            let mut b = Bench::new(0);
            let mut left: Vec<usize> = (0..3).map(|_| b.add(time)).collect();
            b.step(now, 100);
            let i = left.remove(gone);
            b.remove(i);
            assert_eq!(b.wheel.next(), Some(time.max(now)));
            assert_eq!(b.due(time), left);
        }
        let mut b = Bench::new(0);
        let i = b.add(time);
        b.step(now, 100);
        b.remove(i);
        assert!(b.wheel.is_empty() && b.wheel.next().is_none());
        assert_eq!(b.due(u64::MAX), []);
    }
}

/// K-2: removed after its slot was spliced away and taken again by another.
/// SHOWS: CINV-25
#[test]
fn a_stale_slot_number_harms_nobody() {
    for stop in 1..300u64 {
        let mut b = Bench::new(0);
        let old = b.add(stop);
        b.step(stop, 100);
        let new = b.add(stop + 128);
        b.remove(old);
        assert_eq!(b.wheel.next(), Some(stop + 128));
        assert_eq!(b.due(stop + 128), [new]);
    }
}

/// K-2: removed when its date, seen from now, would belong elsewhere.
/// SHOWS: CINV-25
#[test]
fn a_slot_is_not_recomputed_as_time_passes() {
    for delay in [200, 1_100, 9_001, 70_007, (1 << 20) | 1, 1 << 36] {
        for part in 1..10 {
            let mut b = Bench::new(0);
            let i = b.add(delay);
            let other = b.add(delay + 1);
            assert_eq!(b.due(delay / 10 * part), []);
            b.remove(i);
            assert_eq!(b.wheel.next(), Some(delay + 1));
            b.remove(other);
        }
    }
}

/// P-1: what was cut off a slot is still found by those who unlink.
#[test]
fn remove_while_waiting_to_be_refiled() {
    for gone in 0..6 {
        let mut b = Bench::new(0);
        let mut left: Vec<usize> = (0..6).map(|k| b.add(100_001 + 3 * k)).collect();
        // The boundary is passed, two of six are filed again.
        assert!(b.step(100_000, 3));
        assert!(!b.wheel.waiting.is_empty());
        assert_eq!(b.wheel.next(), Some(b.wheel.now()));
        let i = left.remove(gone);
        b.remove(i);
        let again = b.wheel.now() + 1;
        b.add_again(i, again, 0);
        assert!(!b.step(again, 100));
        assert_eq!(b.pop_all(), [i]);
        assert_eq!(b.due(200_000), left);
    }
}

#[test]
fn remove_all_that_wait() {
    let mut b = Bench::new(0);
    let ids: Vec<usize> = (0..4).map(|k| b.add(100_001 + k)).collect();
    assert!(b.step(100_000, 1));
    ids.iter().for_each(|&i| b.remove(i));
    assert!(b.wheel.next().is_none());
    assert!(!b.step(100_000, 1));
    assert_eq!(b.wheel.now(), 100_000);
}

#[test]
fn a_small_budget_gets_there_with_changes_in_between() {
    let mut b = Bench::new(0);
    let mut dates: Vec<u64> = (0..200).map(|k| 1 + k * 7919 % 50_000).collect();
    let ids: Vec<usize> = dates.iter().map(|&d| b.add(d)).collect();
    let mut turns = 0;
    while b.step(60_000, 2) {
        // Another one goes and comes back later, one comes on the way.
        if turns < 50 {
            let i = ids[199 - turns];
            if b.nodes[i].time() > b.wheel.now() {
                b.remove(i);
                b.add_again(i, 55_000, 0);
                dates[199 - turns] = 55_000;
            }
            dates.push(b.wheel.now() + 1);
            b.add(*dates.last().unwrap());
        }
        turns += 1;
    }
    assert!(turns > 100 && b.wheel.now() == 60_000);
    let due: Vec<u64> = b.pop_all().iter().map(|&i| b.nodes[i].time()).collect();
    dates.sort();
    assert_eq!(due, dates);
}

#[test]
fn budget_nought_still_moves() {
    let mut b = Bench::new(0);
    let i = b.add(100_001);
    while b.step(100_001, 0) {}
    assert_eq!(b.pop_all(), [i]);
}

/// SHOWS: CINV-26
#[test]
fn cancel_of_the_soonest() {
    let mut b = Bench::new(0);
    let ids: Vec<usize> = [9_000, 5_000, 5_001, 70, 1 << 36].map(|t| b.add(t)).into();
    for (gone, next) in [(3, 5_000), (1, 5_001), (2, 9_000), (0, 1 << 36)] {
        b.remove(ids[gone]);
        assert_eq!(b.wheel.next(), Some(next));
    }
    b.remove(ids[4]);
    assert_eq!(b.wheel.next(), None);
    b.add(3);
    assert_eq!(b.wheel.next(), Some(3));
}

/// K-4: an overdue addition is the next thing to happen.
/// SHOWS: CINV-26
#[test]
fn overdue_counts_as_next() {
    let mut b = Bench::new(500);
    b.add(900);
    assert_eq!(b.wheel.next(), Some(900));
    let i = b.add(20);
    assert_eq!(b.wheel.next(), Some(500));
    b.remove(i);
    assert_eq!(b.wheel.next(), Some(900));
}

#[test]
fn a_window_merges_and_is_kept() {
    let mut b = Bench::new(0);
    let (a, c) = (b.add_window(10_001, 300), b.add_window(10_040, 300));
    assert_eq!(b.wheel.next(), Some(10_240));
    assert_eq!(b.due(10_239), []);
    assert_eq!(b.due(10_240), [a, c]);
    assert_eq!(b.wheel.refilings(), 0);
}

/// The date of a windowed node in a slot to refile stays what it was while
/// the base comes nearer.
#[test]
fn a_tight_window_far_away_fires_when_it_was_said() {
    for window in [1, 3, 7, 8, 20, 63, 64, 500] {
        for delay in [1_001, 9_999, 70_001, 600_007, 5_000_001, (1 << 35) | 1] {
            let mut b = Bench::new(0);
            let i = b.add_window(delay, window);
            let at = b.wheel.next().unwrap();
            assert!(at >= delay && at - delay <= window as u64);
            for part in 1..50 {
                assert_eq!(b.due(delay / 50 * part), []);
                b.wheel.stale = true;
                assert_eq!(b.wheel.next(), Some(at));
            }
            assert_eq!(b.due(at - 1), []);
            assert_eq!(b.due(at), [i]);
        }
    }
}

#[test]
fn nobody_wakes_for_a_boundary_alone() {
    let mut b = Bench::new(0);
    let i = b.add((1 << 30) | 12345);
    let mut wakes = 0;
    while let Some(at) = b.wheel.next() {
        wakes += 1;
        let due = b.due(at);
        assert_eq!(due, [i]);
    }
    assert_eq!(wakes, 1);
}

#[test]
fn handling_what_is_due_may_file_again() {
    let mut b = Bench::new(0);
    let (a, c, d) = (b.add(10), b.add(10), b.add(10));
    assert!(!b.step(10, 9));
    assert_eq!(b.pop(), Some(a));
    b.remove(c);
    b.add_again(c, 11, 0);
    b.add_again(a, 10, 0);
    assert_eq!(b.pop_all(), [d, a]);
    assert_eq!(b.due(11), [c]);
}

/// Whatever list a node is on: due, waiting to be filed again, near, far.
#[test]
fn anything_can_be_popped() {
    let mut b = Bench::new(0);
    for time in [
        10,
        10,
        17,
        18,
        300,
        300,
        70_000,
        1 << 20,
        (1 << 27) + 9,
        1 << 40,
    ] {
        b.add(time);
    }
    b.add_window(5_000, 100);
    // Leaves some waiting.
    let now = (10..400).find(|now| b.step(*now, 1) && !b.wheel.waiting.is_empty());
    assert!(now.is_some() && !b.wheel.due.is_empty());
    let mut seen = vec![false; b.nodes.len()];
    for left in (0..b.nodes.len()).rev() {
        // SAFETY: see check.
        let node = unsafe { b.wheel.pop_any() };
        let i = b.nodes.iter().position(|n| core::ptr::eq(&**n, node));
        let i = i.expect("one of them");
        assert!(!core::mem::replace(&mut seen[i], true), "twice");
        assert!(!b.nodes[i].is_linked());
        assert_eq!(b.wheel.len(), left);
        b.check();
    }
    // SAFETY: see check.
    assert!(unsafe { b.wheel.pop_any() }.is_null());
    assert_eq!(b.wheel.next(), None);
}

#[test]
fn what_is_brought_forward_keeps_its_order() {
    for tags in 0..1 << 5 {
        let mut b = Bench::new(0);
        let tag = |i: usize| (tags >> i & 1) as u8;
        for i in 0..5 {
            b.add(10 + i as u64);
            b.nodes[i].tag = tag(i);
        }
        assert!(!b.step(20, usize::MAX));
        // SAFETY: see check.
        unsafe { b.wheel.bring_forward(1) };
        assert_eq!(b.wheel.next(), Some(20));
        let (first, rest): (Vec<_>, Vec<_>) = (0..5).partition(|i| tag(*i) == 1);
        assert_eq!(b.pop_all(), [first, rest].concat());
        assert!(b.wheel.is_empty());
    }
}
