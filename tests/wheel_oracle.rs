//! The timing wheel against a plain table of dates, with a clock that the
//! test moves (test T-8 of the callout specification).
#![cfg(not(loom))]

use keel::wheel::{Node, Wheel};
use proptest::prelude::*;

const NODES: usize = 40;

#[derive(Clone, Debug)]
enum Op {
    /// Files a node, moving it if it is filed already.
    Add {
        id: usize,
        delay: u64,
        window: u32,
    },
    AddOverdue {
        id: usize,
        ago: u64,
    },
    Remove {
        id: usize,
    },
    Advance {
        step: u64,
    },
    /// One call with a small budget: leaves work behind.
    Nudge {
        step: u64,
        budget: usize,
    },
    Backwards {
        step: u64,
    },
    /// To just before the next date, then to it.
    ToNext,
    Pop {
        count: usize,
    },
    /// Whichever the wheel gives.
    PopAny,
}

/// Sizes of every magnitude, near the powers of two more often than not.
fn magnitude(bits: u32) -> impl Strategy<Value = u64> {
    (0..bits, 0..4u8, any::<u64>()).prop_map(|(bit, kind, random)| {
        let power = 1u64 << bit;
        match kind {
            0 => power,
            1 => power + random % 17,
            2 => power.saturating_sub(random % 17).max(1),
            _ => power | random & (power - 1),
        }
    })
}

fn op(windows: bool) -> impl Strategy<Value = Op> {
    let id = || 0..NODES;
    let window = move || {
        (any::<bool>(), 0..32u32, any::<u32>()).prop_map(move |(some, bit, random)| {
            match windows && some {
                true => random >> bit,
                false => 0,
            }
        })
    };
    prop_oneof![
        8 => (id(), magnitude(20), window())
            .prop_map(|(id, delay, window)| Op::Add { id, delay, window }),
        3 => (id(), magnitude(50), window())
            .prop_map(|(id, delay, window)| Op::Add { id, delay, window }),
        1 => (id(), 0..40u64).prop_map(|(id, ago)| Op::AddOverdue { id, ago }),
        3 => id().prop_map(|id| Op::Remove { id }),
        3 => magnitude(12).prop_map(|step| Op::Advance { step }),
        1 => magnitude(52).prop_map(|step| Op::Advance { step }),
        2 => (magnitude(24), 0..4usize).prop_map(|(step, budget)| Op::Nudge { step, budget }),
        1 => magnitude(30).prop_map(|step| Op::Backwards { step }),
        4 => Just(Op::ToNext),
        2 => (0..5usize).prop_map(|count| Op::Pop { count }),
        1 => Just(Op::Pop { count: NODES }),
        1 => Just(Op::PopAny),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Idle,
    Filed,
    /// Filed when it was overdue already.
    Overdue,
}

struct Oracle {
    wheel: Box<Wheel>,
    nodes: Vec<Node>,
    states: Vec<State>,
    /// The latest date that `advance` was given.
    target: u64,
    unfinished: bool,
    adds: u64,
    far_adds: u64,
}

impl Oracle {
    fn new(base: u64) -> Self {
        Self {
            wheel: Box::new(Wheel::new(base)),
            nodes: (0..NODES).map(|_| Node::new(0)).collect(),
            states: vec![State::Idle; NODES],
            target: base,
            unfinished: false,
            adds: 0,
            far_adds: 0,
        }
    }

    fn node(&mut self, id: usize) -> *mut Node {
        &raw mut self.nodes[id]
    }

    fn filed(&self) -> impl Iterator<Item = &Node> {
        let states = self.states.iter().zip(&self.nodes);
        states.filter(|(s, _)| **s != State::Idle).map(|(_, n)| n)
    }

    fn remove(&mut self, id: usize) {
        if self.states[id] != State::Idle {
            let node = self.node(id);
            // SAFETY: the node is filed and the oracle's own, here and below.
            unsafe { self.wheel.remove(node) };
            self.states[id] = State::Idle;
        }
    }

    fn add(&mut self, id: usize, time: u64, window: u32) {
        self.remove(id);
        self.adds += 1;
        let base = self.wheel.now();
        self.far_adds += (time > base && time - base >= 1 << 33) as u64;
        self.states[id] = match time <= base {
            true => State::Overdue,
            false => State::Filed,
        };
        let node = self.node(id);
        // SAFETY: see remove.
        unsafe { self.wheel.add(node, time, window) };
    }

    fn advance(&mut self, now: u64, budget: usize) {
        self.target = self.target.max(now);
        // SAFETY: see remove.
        self.unfinished = unsafe { self.wheel.advance(now, budget) };
        assert!(self.wheel.now() <= self.target);
        assert!(self.unfinished || self.wheel.now() == self.target || now < self.target);
    }

    fn finish(&mut self, now: u64) {
        self.advance(now, usize::MAX);
        assert!(!self.unfinished && self.wheel.now() >= now);
    }

    fn peek(&self) -> bool {
        // SAFETY: see remove.
        !unsafe { self.wheel.peek_due() }.is_null()
    }

    fn pop(&mut self) -> Option<usize> {
        // SAFETY: see remove.
        let node = unsafe { self.wheel.pop_due() };
        let id = self.nodes.iter().position(|n| core::ptr::eq(n, node))?;
        assert!(self.states[id] != State::Idle && !self.nodes[id].is_linked());
        assert!(self.nodes[id].time() <= self.wheel.now(), "early");
        self.states[id] = State::Idle;
        Some(id)
    }

    /// Pops everything: exactly the nodes that have to be due, and those
    /// that their windows allow.
    fn pop_all(&mut self) {
        let base = self.wheel.now();
        let exact = self.filed().all(|n| n.window() == 0);
        let mut last = 0;
        while let Some(id) = self.pop() {
            let time = self.nodes[id].time();
            assert!(!exact || time >= last, "out of order");
            last = time;
        }
        for node in self.filed() {
            let latest = node.time().saturating_add(node.window() as u64);
            assert!(latest > base, "late: {} at {base}", node.time());
        }
    }

    fn check(&mut self) {
        // SAFETY: see remove.
        unsafe { self.wheel.check() };
        assert_eq!(self.wheel.len(), self.filed().count());
        for (node, state) in self.nodes.iter().zip(&self.states) {
            assert_eq!(node.is_linked(), *state != State::Idle);
        }
        let next = self.wheel.next();
        let first = self.filed().map(Node::time).min();
        let bound = self
            .filed()
            .map(|n| n.time().saturating_add(n.window() as u64));
        let base = self.wheel.now();
        assert!(!self.wheel.has_passed(base.wrapping_add(1)));
        assert_eq!(
            self.wheel.has_passed(base),
            !self.peek() && next != Some(base)
        );
        match (next, first) {
            (None, None) => {}
            (Some(next), _) if self.unfinished || self.peek() => assert!(next >= base),
            (Some(next), Some(first)) => {
                assert!(next >= first && next <= bound.min().unwrap());
                assert!(next > base);
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Add { id, delay, window } => {
                let time = self.wheel.now().saturating_add(delay);
                self.add(id, time, window);
            }
            Op::AddOverdue { id, ago } => {
                let time = self.wheel.now().saturating_sub(ago);
                self.add(id, time, 0);
            }
            Op::Remove { id } => self.remove(id),
            Op::Advance { step } => {
                let to = self.target.saturating_add(step);
                self.finish(to);
                self.pop_all();
            }
            Op::Nudge { step, budget } => {
                let to = self.target.saturating_add(step);
                self.advance(to, budget);
            }
            Op::Backwards { step } => {
                let before = self.wheel.now();
                let to = before.saturating_sub(step);
                self.finish(to);
                assert_eq!(self.wheel.now(), before);
            }
            Op::ToNext => {
                let target = self.target;
                self.finish(target);
                self.pop_all();
                if let Some(next) = self.wheel.next() {
                    self.finish(next - 1);
                    assert!(!self.peek(), "next is late");
                    assert_eq!(self.wheel.next(), Some(next));
                    self.finish(next);
                    assert!(self.peek(), "next is early");
                    self.check();
                    self.pop_all();
                }
            }
            Op::PopAny => {
                // SAFETY: see remove.
                let node = unsafe { self.wheel.pop_any() };
                let id = self.nodes.iter().position(|n| core::ptr::eq(n, node));
                assert_eq!(id.is_none(), self.filed().next().is_none());
                if let Some(id) = id {
                    assert!(self.states[id] != State::Idle && !self.nodes[id].is_linked());
                    self.states[id] = State::Idle;
                }
            }
            Op::Pop { count } => {
                for _ in 0..count {
                    self.pop();
                }
            }
        }
        self.check();
    }

    /// Pops the rest, following `next`, and counts.
    fn wind_up(&mut self) {
        while self.wheel.next().is_some() {
            self.run(Op::ToNext);
        }
        assert!(self.wheel.is_empty() && self.filed().next().is_none());
        assert!(self.wheel.refilings() <= 5 * self.adds + NODES as u64 * self.far_adds);
    }
}

fn base() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0..1000u64,
        (1u64 << 32) - 300..(1 << 32) + 300,
        (1u64 << 63) - 300..(1 << 63) + 300,
        u64::MAX - (1 << 30)..u64::MAX,
        any::<u64>(),
    ]
}

proptest! {
    /// SHOWS: CINV-10, CINV-24, CINV-25, CINV-26
    #[test]
    fn exact_without_windows(base in base(), ops in prop::collection::vec(op(false), 1..60)) {
        let mut oracle = Oracle::new(base);
        ops.into_iter().for_each(|op| oracle.run(op));
        oracle.wind_up();
    }

    /// SHOWS: CINV-10, CINV-26
    #[test]
    fn inside_the_windows(base in base(), ops in prop::collection::vec(op(true), 1..60)) {
        let mut oracle = Oracle::new(base);
        ops.into_iter().for_each(|op| oracle.run(op));
        oracle.wind_up();
    }

    /// Many steps at the speed of a real clock, everything re-armed.
    #[test]
    fn five_refilings_at_most(base in base(), delays in prop::collection::vec(magnitude(32), NODES)) {
        let mut oracle = Oracle::new(base);
        for (id, &delay) in delays.iter().enumerate() {
            oracle.add(id, base.saturating_add(delay), 0);
        }
        let mut dates: Vec<u64> = oracle.filed().map(Node::time).collect();
        dates.sort();
        for date in dates {
            assert_eq!(oracle.wheel.next(), Some(date.max(oracle.wheel.now())));
            oracle.finish(date);
            oracle.pop();
        }
        prop_assert!(oracle.wheel.is_empty());
        prop_assert!(oracle.wheel.refilings() <= 5 * oracle.adds);
    }
}
