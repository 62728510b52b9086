//! Timers against a simple sequential model, on a clock of the test's own:
//! never early, never late, whatever is armed, moved, postponed or cancelled,
//! also where ticks wrap.
#![cfg(not(loom))]

use keel::pool::Registry;
use keel::sync::ThreadSet;
use keel::task::run::Clock;
use keel::task::{Caller, Config, Pools, Task, Tasks, flags, tick};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

const DEPTH: u32 = 200;

thread_local! {
    /// What ran, and whether for its timer.
    static RAN: RefCell<Vec<(usize, bool)>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn note(t: *mut Task, ctx: *mut c_void, state: u32) -> *mut Task {
    RAN.with_borrow_mut(|r| r.push((ctx as usize, state & flags::WOKEN_TIMER != 0)));
    // SAFETY: the handler owns its date.
    unsafe { (*t).expire.store(tick::ETERNITY, Ordering::Relaxed) };
    t
}

struct World {
    tasks: Tasks,
    now: Cell<u64>,
    all: Vec<*mut Task>,
    /// The date of each, where it has one and is queued for it.
    dates: Vec<Option<u64>>,
}

impl Clock for World {
    fn caller(&self) -> Caller<'_> {
        Caller {
            tid: Some(0),
            local: None,
            now: self.now.get(),
        }
    }

    fn wake(&self, set: ThreadSet) {
        assert_eq!(set, ThreadSet::EMPTY, "there is one thread");
    }
}

impl World {
    fn new(n: usize, start: u64, shared: bool) -> Self {
        let registry: &'static Registry = Box::leak(Box::new(Registry::new()));
        let pool = |name: &[u8], size| {
            let head = registry.create(name, size as u32, 0, 0).unwrap();
            // SAFETY: the registry is never dropped.
            unsafe { head.as_ref() }
        };
        let pools = Pools {
            registry,
            tasks: pool(b"task", size_of::<Task>()),
            tasklets: pool(b"tasklet", 64),
        };
        let config = Config {
            depth: DEPTH,
            low_latency: false,
            profiling: false,
        };
        let tasks = Tasks::new(1, config, start, pools).unwrap();
        tasks.enter(0);
        let mut world = Self {
            tasks,
            now: Cell::new(start),
            all: Vec::new(),
            dates: vec![None; n],
        };
        for i in 0..n {
            let t = world.tasks.new_task(1, world.caller());
            // SAFETY: new, and this thread's.
            unsafe {
                (*t).head.process = Some(note);
                (*t).head.context = i as *mut c_void;
                if shared {
                    (*t).head.state.set(flags::SHARED_WQ);
                }
            }
            world.all.push(t);
        }
        world
    }

    fn date(&self, delta: u64) -> (i32, u64) {
        let date = self.now.get() + delta;
        let tick = tick::wrap(date);
        (tick, tick::unwrap(tick, self.now.get()))
    }

    fn turn(&mut self) {
        // One pass serves a bounded number; the loop comes again at once.
        for _ in 0..20 {
            // SAFETY: this thread is thread 0.
            unsafe {
                let wakes = self.tasks.wake_expired(0, self.caller());
                assert_eq!(wakes, ThreadSet::EMPTY);
                self.tasks.process_runnable(0, self);
            }
        }
        for (i, timer) in RAN.take() {
            assert!(timer, "task {i} ran without a reason");
            let date = self.dates[i].take();
            assert!(
                date.is_some_and(|d| d <= self.now.get()),
                "task {i}, due {date:?}, ran at {}",
                self.now.get()
            );
        }
        for (i, date) in self.dates.iter().enumerate() {
            assert!(
                date.is_none_or(|d| d > self.now.get()),
                "task {i}, due {date:?}, has not run at {}",
                self.now.get()
            );
        }
    }

    fn check_next(&self) {
        // SAFETY: this thread is thread 0.
        let next = unsafe { self.tasks.next_expiry(0) };
        let truth = self.dates.iter().flatten().min();
        match (next, truth) {
            (_, None) => {}
            (None, Some(t)) => panic!("nothing to wait for, but a date at {t}"),
            // Earlier only for a task that was postponed.
            (Some(n), Some(&t)) => assert!(n <= t, "sleeps until {n} past {t}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for &t in &self.all {
            // SAFETY: live, and this thread's.
            let _ = unsafe { self.tasks.destroy_task(t, self.caller()) };
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Schedule(usize, u64),
    Queue(usize, u64),
    Postpone(usize, u64),
    Forget(usize),
    Unlink(usize),
    Advance(u64),
}

fn ops(n: usize) -> impl Strategy<Value = Vec<Op>> {
    let delta = prop_oneof![1u64..20, 1u64..5_000, 1u64..10_000_000, 1u64..2_000_000_000];
    let step = prop_oneof![0u64..5, 0u64..2_000, 0u64..5_000_000, 0u64..2_000_000_000];
    let op = prop_oneof![
        4 => (0..n, delta.clone()).prop_map(|(i, d)| Op::Schedule(i, d)),
        3 => (0..n, delta.clone()).prop_map(|(i, d)| Op::Queue(i, d)),
        2 => (0..n, delta).prop_map(|(i, d)| Op::Postpone(i, d)),
        1 => (0..n).prop_map(Op::Forget),
        1 => (0..n).prop_map(Op::Unlink),
        5 => step.prop_map(Op::Advance),
    ];
    prop::collection::vec(op, 1..120)
}

fn play(start: u64, shared: bool, ops: Vec<Op>) {
    let mut w = World::new(24, start, shared);
    for op in ops {
        match op {
            Op::Schedule(i, delta) => {
                let (tick, date) = w.date(delta);
                // SAFETY: live, and this thread's.
                let wakes = unsafe { w.tasks.schedule(w.all[i], tick, w.caller()) };
                assert_eq!(wakes, ThreadSet::EMPTY);
                w.dates[i] = Some(w.dates[i].map_or(date, |d| d.min(date)));
            }
            Op::Queue(i, delta) => {
                let (tick, date) = w.date(delta);
                // SAFETY: live, and this thread's; no handler runs.
                let wakes = unsafe {
                    (*w.all[i]).expire.store(tick, Ordering::Relaxed);
                    w.tasks.queue(w.all[i], w.caller())
                };
                assert_eq!(wakes, ThreadSet::EMPTY);
                w.dates[i] = Some(date);
            }
            // The date alone moves, later; the node stays where it is.
            Op::Postpone(i, delta) => {
                let Some(old) = w.dates[i] else { continue };
                let delta = old - w.now.get() + delta;
                if delta < 1 << 31 {
                    let (tick, date) = w.date(delta);
                    // SAFETY: live, and this thread's; no handler runs.
                    unsafe { (*w.all[i]).expire.store(tick, Ordering::Relaxed) };
                    w.dates[i] = Some(date);
                }
            }
            Op::Forget(i) => {
                // SAFETY: live, and this thread's; no handler runs.
                unsafe { (*w.all[i]).expire.store(tick::ETERNITY, Ordering::Relaxed) };
                w.dates[i] = None;
            }
            Op::Unlink(i) => {
                // SAFETY: live, and this thread's.
                unsafe {
                    w.tasks.unqueue(w.all[i], w.caller());
                    (*w.all[i]).expire.store(tick::ETERNITY, Ordering::Relaxed);
                }
                w.dates[i] = None;
            }
            Op::Advance(step) => {
                // A tick is compared with dates within 2^31 ms of it only:
                // no date may be left further behind.
                let next = w.dates.iter().flatten().min();
                let far = next.map_or(u64::MAX, |d| d + (1 << 30));
                w.now.set((w.now.get() + step).min(far.max(w.now.get())));
                w.turn();
            }
        }
        w.check_next();
    }
    // TASK-13, 14, STK-25: in the end everything comes.
    while let Some(&last) = w.dates.iter().flatten().min() {
        w.now.set(last.max(w.now.get()));
        w.turn();
    }
}

const STARTS: [u64; 4] = [
    1 << 33,
    (1 << 33) - 3_000,
    (1 << 33) + (1 << 31) - 3_000,
    (1 << 33) - 2_000_000_000,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn private_timers(start in 0usize..4, ops in ops(24)) {
        play(STARTS[start], false, ops);
    }

    #[test]
    fn shared_timers(start in 0usize..4, ops in ops(24)) {
        play(STARTS[start], true, ops);
    }
}
