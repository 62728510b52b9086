//! Timers against a simple sequential model, on a clock of the test's own:
//! never early, never late, whatever is armed, moved, postponed or cancelled,
//! also where ticks wrap; and the thread that has to reckon with a date knows
//! it exactly.
#![cfg(not(loom))]

use keel::pool::Registry;
use keel::sync::ThreadSet;
use keel::task::run::Clock;
use keel::task::{Caller, Config, Pools, Process, Task, Tasklet, Tasks, flags, tick};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

const DEPTH: u32 = 200;

thread_local! {
    /// What ran, and whether for its timer.
    static RAN: RefCell<Vec<(usize, bool)>> = const { RefCell::new(Vec::new()) };
    /// For handlers that do more than [`note`].
    static WORLD: Cell<*const World> = const { Cell::new(ptr::null()) };
}

unsafe extern "C" fn note(t: *mut Task, ctx: *mut c_void, state: u32) -> *mut Task {
    RAN.with_borrow_mut(|r| r.push((ctx as usize, state & flags::WOKEN_TIMER != 0)));
    // SAFETY: the handler owns its date.
    unsafe { (*t).expire.store(tick::ETERNITY, Ordering::Relaxed) };
    t
}

/// A task's place in a wait queue: whose, and at which date.
type Place = Option<(usize, u64)>;

struct World {
    tasks: Tasks,
    now: Cell<u64>,
    /// As which thread the test acts; none: an unregistered one.
    me: Cell<Option<usize>>,
    /// Whom the engine wanted woken.
    told: Cell<u64>,
    all: Vec<*mut Task>,
    /// The date of each, where it has one and is queued for it.
    dates: Vec<Option<u64>>,
    /// Where each is filed: not later than its date, and moved earlier only.
    places: Vec<Place>,
}

impl Clock for World {
    fn caller(&self) -> Caller<'_> {
        Caller {
            tid: self.me.get(),
            local: None,
            now: self.now.get(),
        }
    }

    fn wake(&self, set: ThreadSet) {
        self.told.set(self.told.get() | set.0);
    }
}

impl World {
    fn empty(threads: usize, start: u64) -> Self {
        Self::with_depth(threads, start, DEPTH)
    }

    fn with_depth(threads: usize, start: u64, depth: u32) -> Self {
        let registry: &'static Registry = Box::leak(Box::new(Registry::new()));
        let pool = |name: &[u8], size| {
            let head = registry.create(name, size as u32, 0, 0).unwrap();
            // SAFETY: the registry is never dropped.
            unsafe { head.as_ref() }
        };
        let pools = Pools {
            registry,
            tasks: pool(b"task", size_of::<Task>()),
            tasklets: pool(b"tasklet", size_of::<Tasklet>()),
        };
        let config = Config {
            depth,
            low_latency: false,
            profiling: false,
        };
        let tasks = Tasks::new(threads, config, start, pools).unwrap();
        for tid in 0..threads {
            tasks.enter(tid);
        }
        Self {
            tasks,
            now: Cell::new(start),
            me: Cell::new(Some(0)),
            told: Cell::new(0),
            all: Vec::new(),
            dates: Vec::new(),
            places: Vec::new(),
        }
    }

    /// `n` tasks of thread 0, on one thread.
    fn new(n: usize, start: u64, shared: bool) -> Self {
        let mut world = Self::empty(1, start);
        for _ in 0..n {
            let i = world.add(1, note);
            if shared {
                // SAFETY: new, and this thread's.
                unsafe { (*world.all[i]).head.state.set(flags::SHARED_WQ) };
            }
        }
        world
    }

    fn add(&mut self, mask: u64, process: Process) -> usize {
        let i = self.all.len();
        let t = self.tasks.new_task(mask, self.caller());
        assert!(!t.is_null());
        // SAFETY: new, and this thread's.
        unsafe {
            (*t).head.process = Some(process);
            (*t).head.context = i as *mut c_void;
        }
        self.all.push(t);
        self.dates.push(None);
        self.places.push(None);
        i
    }

    fn threads(&self) -> usize {
        self.tasks.nbthread()
    }

    fn date(&self, delta: u64) -> (i32, u64) {
        let date = self.now.get() + delta;
        let tick = tick::wrap(date);
        (tick, tick::unwrap(tick, self.now.get()))
    }

    // -- what a user does, here and in the model

    /// A place at `date` or earlier: with the caller, or whom the engine chose
    /// for an unregistered one, where there was none.
    fn file(&mut self, i: usize, date: u64) {
        let home = || self.me.get().unwrap_or_else(|| self.chosen());
        let (home, place) = self.places[i].unwrap_or_else(|| (home(), u64::MAX));
        self.places[i] = Some((home, place.min(date)));
    }

    /// The thread in whose shared wheel there is more than in the model.
    fn chosen(&self) -> usize {
        let homes = || self.places.iter().flatten().map(|&(home, _)| home);
        (0..self.threads())
            .find(|&k| {
                let filed = homes().filter(|&home| home == k).count();
                self.tasks.sched(k).shared.lock().len() > filed
            })
            .expect("it is filed nowhere")
    }

    fn schedule(&mut self, i: usize, delta: u64) {
        let (tick, date) = self.date(delta);
        // SAFETY: live; the model's tasks are shared or this thread's.
        let wakes = unsafe { self.tasks.schedule(self.all[i], tick, self.caller()) };
        self.wake(wakes);
        let date = self.dates[i].map_or(date, |d| d.min(date));
        self.dates[i] = Some(date);
        self.file(i, date);
    }

    /// The date alone; no handler runs.
    fn set_date(&mut self, i: usize, tick: i32, date: Option<u64>) {
        // SAFETY: live, and nobody else is there.
        unsafe { (*self.all[i]).expire.store(tick, Ordering::Relaxed) };
        self.dates[i] = date;
    }

    fn queue(&mut self, i: usize, delta: u64) {
        let (tick, date) = self.date(delta);
        self.set_date(i, tick, Some(date));
        // SAFETY: live; the model's tasks are shared or this thread's.
        let wakes = unsafe { self.tasks.queue(self.all[i], self.caller()) };
        self.wake(wakes);
        self.file(i, date);
    }

    /// The date alone moves, later; the node stays where it is.
    fn postpone(&mut self, i: usize, delta: u64) {
        let Some(old) = self.dates[i] else { return };
        let delta = old - self.now.get() + delta;
        if delta < 1 << 31 {
            let (tick, date) = self.date(delta);
            self.set_date(i, tick, Some(date));
        }
    }

    fn forget(&mut self, i: usize) {
        self.set_date(i, tick::ETERNITY, None);
    }

    fn unlink(&mut self, i: usize) {
        // SAFETY: live; the model's tasks are shared or this thread's.
        unsafe { self.tasks.unqueue(self.all[i], self.caller()) };
        self.forget(i);
        self.places[i] = None;
    }

    // -- the loop

    /// What a scan leaves of the places of `whose` threads.
    fn scanned(&mut self, whose: impl Fn(usize) -> bool) {
        let now = self.now.get();
        for (place, date) in self.places.iter_mut().zip(&self.dates) {
            if let Some((home, at)) = *place {
                if whose(home) && at <= now {
                    // Late dates are filed anew, in the same wheel (TASK-8).
                    *place = date.filter(|&d| d > now).map(|d| (home, d));
                }
            }
        }
    }

    /// Whether thread `k` has anything to do now.
    fn is_due(&self, k: usize) -> bool {
        // SAFETY: this thread acts for all.
        unsafe { self.tasks.next_expiry(k) }.is_some_and(|d| d <= self.now.get())
    }

    /// Turns of the acting thread until nothing is due: its own wheels, and
    /// as before a sleep those of others that are overdue.
    fn turn(&mut self) {
        let me = self.me.get().expect("a registered thread");
        // One pass serves a bounded number; the loop comes again at once.
        let mut turns = 0;
        loop {
            // SAFETY: this thread acts for `me`.
            unsafe {
                let wakes = self.tasks.wake_expired(me, self.caller());
                self.wake(wakes);
                let wakes = self.tasks.serve_overdue(me, self.caller());
                self.wake(wakes);
                self.tasks.process_runnable(me, self);
            }
            turns += 1;
            assert!(turns < 10_000, "the loop never comes to rest");
            if !(0..self.threads()).any(|k| self.is_due(k)) && self.tasks.runnable() == 0 {
                break;
            }
        }
        self.scanned(|_| true);
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

    /// Every thread's next date is the earliest place that it has filed, which
    /// is the truth but for dates that were postponed since.
    fn check_next(&self) {
        for k in 0..self.threads() {
            // SAFETY: this thread acts for all.
            let next = unsafe { self.tasks.next_expiry(k) };
            let of_k = |place: &Place| place.filter(|&(home, _)| home == k).map(|(_, at)| at);
            let first = self.places.iter().filter_map(of_k).min();
            assert_eq!(next, first, "thread {k} at {}", self.now.get());
        }
        for (date, place) in self.dates.iter().zip(&self.places) {
            // INV-37.
            let Some(date) = date else { continue };
            assert!(place.is_some_and(|(_, at)| at <= *date));
        }
    }

    fn step(&self, step: u64) {
        // A tick is compared with dates within 2^31 ms of it only: no date may
        // be left further behind.
        let next = self.dates.iter().flatten().min();
        let far = next.map_or(u64::MAX, |d| d + (1 << 30));
        let now = self.now.get();
        self.now.set((now + step).min(far.max(now)));
    }

    /// To the date of the last one, by and by.
    fn finish(&mut self) {
        while let Some(&next) = self.dates.iter().flatten().min() {
            self.now.set(next.max(self.now.get()));
            self.turn();
            self.check_next();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.me.set(Some(0));
        for &t in &self.all {
            // SAFETY: live, and nobody else is there.
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

const TASKS: usize = 24;

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let delta = prop_oneof![1u64..20, 1u64..5_000, 1u64..10_000_000, 1u64..2_000_000_000];
    let step = prop_oneof![0u64..5, 0u64..2_000, 0u64..5_000_000, 0u64..2_000_000_000];
    let op = prop_oneof![
        4 => (0..TASKS, delta.clone()).prop_map(|(i, d)| Op::Schedule(i, d)),
        3 => (0..TASKS, delta.clone()).prop_map(|(i, d)| Op::Queue(i, d)),
        2 => (0..TASKS, delta).prop_map(|(i, d)| Op::Postpone(i, d)),
        1 => (0..TASKS).prop_map(Op::Forget),
        1 => (0..TASKS).prop_map(Op::Unlink),
        5 => step.prop_map(Op::Advance),
    ];
    prop::collection::vec((0..4usize, op), 1..120)
}

fn play(w: &mut World, op: Op) {
    match op {
        Op::Schedule(i, delta) => w.schedule(i, delta),
        Op::Queue(i, delta) => w.queue(i, delta),
        Op::Postpone(i, delta) => w.postpone(i, delta),
        Op::Forget(i) => w.forget(i),
        Op::Unlink(i) => w.unlink(i),
        Op::Advance(step) => {
            w.step(step);
            w.turn();
        }
    }
    w.check_next();
}

fn play_alone(start: u64, shared: bool, ops: Vec<(usize, Op)>) {
    let mut w = World::new(TASKS, start, shared);
    for (_, op) in ops {
        play(&mut w, op);
    }
    w.finish();
    assert_eq!(w.told.get(), 0, "there is one thread");
}

/// Three threads and one that is not registered, in turn. Who sleeps past a
/// date that another one files with it has to be told.
fn play_together(start: u64, ops: Vec<(usize, Op)>) {
    let mut w = World::empty(3, start);
    for _ in 0..TASKS {
        w.add(7, note);
    }
    for (who, op) in ops {
        let turns = matches!(op, Op::Advance(_));
        w.me.set(if turns {
            Some(who % 3)
        } else {
            (who < 3).then_some(who)
        });
        w.told.set(0);
        // SAFETY: this thread acts for all.
        let next = |w: &World, k| unsafe { w.tasks.next_expiry(k) }.unwrap_or(u64::MAX);
        let before = [0, 1, 2].map(|k| next(&w, k));
        play(&mut w, op);
        for (k, before) in before.into_iter().enumerate() {
            assert!(
                next(&w, k) >= before || w.me.get() == Some(k) || w.told.get() & (1 << k) != 0,
                "nobody tells thread {k} of an earlier date"
            );
        }
    }
    w.me.set(Some(0));
    w.finish();
}

const STARTS: [u64; 4] = [
    1 << 33,
    (1 << 33) - 3_000,
    (1 << 33) + (1 << 31) - 3_000,
    (1 << 33) - 2_000_000_000,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // SHOWS: INV-37, INV-38, INV-55
    #[test]
    fn private_timers(start in 0usize..4, ops in ops()) {
        play_alone(STARTS[start], false, ops);
    }

    // SHOWS: INV-36, INV-37, INV-38, INV-55
    #[test]
    fn shared_timers(start in 0usize..4, ops in ops()) {
        play_alone(STARTS[start], true, ops);
    }

    // SHOWS: INV-36, INV-38, INV-46, INV-55
    #[test]
    fn task_8_shared_timers_of_three_threads(start in 0usize..4, ops in ops()) {
        play_together(STARTS[start], ops);
    }
}

/// Every date around 2^31 and 2^32 ms, to the millisecond, with the
/// clock going across by single steps.
// SHOWS: INV-55
#[test]
fn task_15_no_millisecond_is_lost_at_the_wraps() {
    for wrap in [1u64 << 32, (1 << 32) + (1 << 31), 1 << 33] {
        for shared in [false, true] {
            let mut w = World::new(2 * 50, wrap - 60, shared);
            for i in 0..2 * 50 {
                w.schedule(i, 10 + i as u64);
            }
            for _ in 0..120 {
                w.step(1);
                w.turn();
                w.check_next();
            }
            assert!(w.dates.iter().all(Option::is_none));
        }
    }
}

/// The lazy rule: a later date never moves the node, whatever says it, and a
/// node that is met before its date calls nobody.
// SHOWS: INV-37
#[test]
fn a_later_date_never_moves_the_node() {
    for shared in [false, true] {
        let mut w = World::new(1, 1 << 33, shared);
        w.schedule(0, 100);
        let place = w.places[0];
        w.postpone(0, 900);
        w.queue(0, 5_000);
        w.queue(0, 1_000);
        assert_eq!(w.places[0], place);
        w.check_next();
        w.step(100);
        w.turn();
        assert_eq!(w.places[0].map(|(_, at)| at), w.dates[0]);
        w.check_next();
        w.step(899);
        w.turn();
        assert!(w.dates[0].is_some());
        w.step(1);
        w.turn();
        assert_eq!(w.dates[0], None);
    }
}

/// A pass takes as many as the run queue's depth says, from private
/// and shared wheels together, whether they are woken or put right.
// SHOWS: INV-42
#[test]
fn task_12_a_pass_is_bounded() {
    for late in [false, true] {
        let mut w = World::new(500, 1 << 33, false);
        for _ in 0..500 {
            let i = w.add(1, note);
            // SAFETY: new, and this thread's.
            unsafe { (*w.all[i]).head.state.set(flags::SHARED_WQ) };
        }
        for i in 0..1000 {
            w.schedule(i, 10);
            if late {
                w.postpone(i, 1_000);
            }
        }
        w.step(10);
        let mut passes = 0;
        while w.is_due(0) {
            passes += 1;
            // SAFETY: this thread acts for thread 0.
            let wakes = unsafe { w.tasks.wake_expired(0, w.caller()) };
            assert_eq!(wakes, ThreadSet::EMPTY);
            let woken = if late { 0 } else { (passes * DEPTH).into() };
            assert_eq!(w.tasks.runnable(), woken);
        }
        assert_eq!(passes, 1000 / DEPTH);
        w.turn();
        w.finish();
    }
}

/// One timer is put off by a little again and again, and nothing else happens:
/// it stays exact.
// SHOWS: INV-38
#[test]
fn task_13_a_timer_that_is_put_off_does_not_drift() {
    for shared in [false, true] {
        let mut w = World::new(1, (1 << 32) - 500, shared);
        w.schedule(0, 10);
        for i in 0..1_000 {
            w.step(9);
            w.turn();
            w.postpone(0, 9 + i % 3);
            w.check_next();
        }
        let due = w.dates[0].unwrap();
        w.now.set(due - 1);
        w.turn();
        assert_eq!(w.dates[0], Some(due));
        w.check_next();
        w.step(1);
        w.turn();
        assert_eq!(w.dates[0], None);
    }
}

/// Dates are switched off while their tasks are queued, then scanned, among
/// others of the same dates: those come, and nothing is left in a queue.
// SHOWS: INV-37, INV-38
#[test]
fn task_14_dates_are_switched_off() {
    for shared in [false, true] {
        let mut w = World::new(600, (1 << 33) - 3, shared);
        for i in 0..600 {
            w.schedule(i, 1 + i as u64 % 5);
        }
        // At each date: off, on, off, off, on, off and so on.
        for i in (0..600).filter(|i| i / 5 % 3 != 1) {
            w.forget(i);
        }
        while w.places.iter().any(Option::is_some) {
            w.step(1);
            w.turn();
            w.check_next();
        }
        for &t in &w.all {
            // SAFETY: live.
            assert!(!unsafe { w.tasks.in_wait_queue(t) });
        }
    }
}

/// Very many tasks and very few dates: each date finds all of its own.
#[test]
fn task_16_equal_dates() {
    let n = 100_000;
    let mut w = World::new(n, (1 << 33) - 5, false);
    for i in 0..n {
        w.schedule(i, [3, 7, 7, 1_000, 64, 3, 4_096][i % 7]);
    }
    w.finish();
}

fn foreign(touch: impl Fn(&World, *mut Task)) {
    let mut w = World::empty(2, 1 << 33);
    let i = w.add(1, note);
    w.schedule(i, 50);
    w.me.set(Some(1));
    touch(&w, w.all[i]);
}

/// Without TASK_SHARED_WQ no other thread gets at a timer.
// SHOWS: INV-36
#[test]
#[should_panic(expected = "private to thread 0, but thread 1 touches its timer")]
fn task_1_a_foreign_schedule_is_refused() {
    foreign(|w, t| {
        let (tick, _) = w.date(10);
        // SAFETY: live.
        let _ = unsafe { w.tasks.schedule(t, tick, w.caller()) };
    });
}

// SHOWS: INV-36
#[test]
#[should_panic(expected = "private to thread 0, but thread 1 touches its timer")]
fn task_1_a_foreign_queueing_is_refused() {
    foreign(|w, t| {
        // SAFETY: live.
        let _ = unsafe { w.tasks.queue(t, w.caller()) };
    });
}

// SHOWS: INV-36
#[test]
#[should_panic(expected = "private to thread 0, but thread 1 touches its timer")]
fn task_1_a_foreign_unlinking_is_refused() {
    foreign(|w, t| {
        // SAFETY: live.
        unsafe { w.tasks.unqueue(t, w.caller()) };
    });
}

/// Arms its timer, then narrows the threads that may run it to one.
unsafe extern "C" fn narrow(t: *mut Task, _: *mut c_void, _: u32) -> *mut Task {
    // SAFETY: the test's world outlives its turns.
    let w = unsafe { &*WORLD.get() };
    let (tick, _) = w.date(50);
    // SAFETY: its own task.
    unsafe {
        w.wake(w.tasks.schedule(t, tick, w.caller()));
        w.wake(w.tasks.set_affinity(t, 2, w.caller()));
        (*t).expire.store(tick, Ordering::Relaxed);
    }
    t
}

/// Which lock protects a timer does not change with the threads that
/// may run the task: what is filed under one is found and taken out under it.
// SHOWS: INV-35
#[test]
fn task_24_affinity_does_not_change_the_lock() {
    let mut w = World::empty(2, 1 << 33);
    let i = w.add(3, narrow);
    let t = w.all[i];
    WORLD.set(&raw const w);
    // SAFETY: this thread acts for all; the task is live.
    unsafe {
        w.wake(w.tasks.wakeup(t, flags::WOKEN_MSG, w.caller()));
        w.tasks.process_runnable(0, &w);
        assert_eq!((*t).mask(), 2);
        assert!(w.tasks.in_wait_queue(t));
        assert_eq!(w.tasks.next_expiry(0), Some(w.date(50).1));
        w.me.set(Some(1));
        w.tasks.unqueue(t, w.caller());
        assert!(!w.tasks.in_wait_queue(t));
        for k in [0, 1] {
            assert_eq!(w.tasks.next_expiry(k), None);
            assert_eq!(w.tasks.sched(k).counters.armed.get(), 0);
        }
    }
    WORLD.set(ptr::null());
}

/// Another thread gives its date during the run, and takes it back.
unsafe extern "C" fn is_cancelled(t: *mut Task, _: *mut c_void, _: u32) -> *mut Task {
    // SAFETY: the test's world outlives its turns.
    let w = unsafe { &*WORLD.get() };
    w.me.set(Some(1));
    let (tick, _) = w.date(5);
    // SAFETY: a live and shared task.
    unsafe {
        w.wake(w.tasks.schedule(t, tick, w.caller()));
        assert!(w.tasks.in_wait_queue(t));
        w.tasks.unqueue(t, w.caller());
        assert!(!w.tasks.in_wait_queue(t));
    }
    w.me.set(Some(0));
    t
}

/// What is taken out of its wait queue during the run does not come back at
/// the run's end, nor with the next date.
#[test]
fn a_cancelled_date_does_not_come_back() {
    let mut w = World::empty(2, 1 << 33);
    let i = w.add(3, is_cancelled);
    let t = w.all[i];
    WORLD.set(&raw const w);
    // SAFETY: this thread acts for all; the task is live.
    unsafe {
        w.wake(w.tasks.wakeup(t, flags::WOKEN_MSG, w.caller()));
        w.tasks.process_runnable(0, &w);
        assert!(!w.tasks.in_wait_queue(t));
        let (tick, date) = w.date(50);
        w.wake(w.tasks.schedule(t, tick, w.caller()));
        assert_eq!(w.tasks.next_expiry(0), Some(date));
    }
    WORLD.set(ptr::null());
}

/// The timer of a private task goes along with it, and one that is not
/// queued is not queued by it, whatever date it has.
// SHOWS: INV-54
#[test]
fn task_10_11_affinity_takes_the_timer_along() {
    let mut w = World::empty(2, 1 << 33);
    let i = w.add(1, note);
    let t = w.all[i];
    let (tick, _) = w.date(10);
    // SAFETY: live; the task has never been queued.
    unsafe {
        (*t).expire.store(tick, Ordering::Relaxed);
        w.wake(w.tasks.set_affinity(t, 2, w.caller()));
        assert!(!w.tasks.in_wait_queue(t));
        w.wake(w.tasks.set_affinity(t, 1, w.caller()));
        assert!(!w.tasks.in_wait_queue(t));
        assert_eq!(w.tasks.next_expiry(0), None);
        (*t).expire.store(tick::ETERNITY, Ordering::Relaxed);
    }
    let i = w.add(1, narrow);
    let t = w.all[i];
    WORLD.set(&raw const w);
    // SAFETY: this thread acts for all; the task is live.
    unsafe {
        w.wake(w.tasks.schedule(t, tick, w.caller()));
        w.wake(w.tasks.wakeup(t, flags::WOKEN_MSG, w.caller()));
        w.tasks.process_runnable(0, &w);
        assert_eq!((*t).mask(), 2);
        assert!(w.tasks.in_wait_queue(t));
        assert_eq!(w.tasks.sched(0).counters.armed.get(), 0, "left behind");
        // The date of before: the lazy rule.
        assert_eq!(w.tasks.next_expiry(0), Some(w.date(10).1));
        w.step(10);
        w.turn_of(1);
        assert_eq!((*t).head.calls.load(Ordering::Relaxed), 1);
        assert_eq!(w.tasks.next_expiry(0), Some(w.date(40).1));
        w.step(40);
        w.turn_of(1);
        assert_eq!((*t).head.calls.load(Ordering::Relaxed), 2);
    }
    WORLD.set(ptr::null());
}

impl World {
    /// A turn of thread `k`, with no look at the model.
    fn turn_of(&self, k: usize) {
        self.me.set(Some(k));
        // SAFETY: this thread acts for thread `k`.
        unsafe {
            self.wake(self.tasks.wake_expired(k, self.caller()));
            self.wake(self.tasks.serve_overdue(k, self.caller()));
            self.tasks.process_runnable(k, self);
        }
    }
}

/// Wants to run again at once, by its date.
unsafe extern "C" fn again(t: *mut Task, _: *mut c_void, _: u32) -> *mut Task {
    // SAFETY: the test's world outlives its turns; the handler owns its date.
    unsafe {
        let (tick, _) = (*WORLD.get()).date(0);
        (*t).expire.store(tick, Ordering::Relaxed);
    }
    t
}

/// Private timers that come again at once leave shared ones their share of a
/// pass, and the other way round, however small it is.
// SHOWS: INV-42, INV-43
#[test]
fn no_flood_of_timers_starves_the_others() {
    for depth in [1, 2, 3, DEPTH] {
        for flood_is_shared in [false, true] {
            let mut w = World::with_depth(1, 1 << 33, depth);
            let last = 3 * depth as usize;
            for i in 0..=last {
                w.add(1, if i < last { again } else { note });
                if (i < last) == flood_is_shared {
                    // SAFETY: new, and this thread's.
                    unsafe { (*w.all[i]).head.state.set(flags::SHARED_WQ) };
                }
                w.schedule(i, 1);
            }
            w.step(1);
            WORLD.set(&raw const w);
            let mut turns = 0;
            while RAN.take().is_empty() {
                turns += 1;
                assert!(turns < 10, "depth {depth}, shared {flood_is_shared}");
                w.turn_of(0);
            }
            WORLD.set(ptr::null());
        }
    }
}

/// What an unregistered thread wakes is spread over those who may run it, but
/// goes to those who sleep, and rather to those who have less to run.
#[test]
fn foreign_wakeups_are_spread() {
    const N: usize = 40;
    // Whom each of so many new tasks is given to.
    fn given(w: &mut World) -> [usize; 4] {
        w.me.set(None);
        let mut given = [0; 4];
        for _ in 0..N {
            let i = w.add(0b1111, note);
            // SAFETY: live, and nobody else is there.
            let told = unsafe { w.tasks.wakeup(w.all[i], flags::WOKEN_MSG, w.caller()) };
            assert_eq!(told.0.count_ones(), 1);
            given[told.0.trailing_zeros() as usize] += 1;
        }
        given
    }
    let mut w = World::empty(4, 1 << 33);
    let all = given(&mut w);
    assert!(all.iter().all(|&n| n > N / 8), "{all:?}");

    for k in [2, 3] {
        let _ = w.tasks.lookout.sleeps(k);
    }
    let two = given(&mut w);
    assert!(two[2] > N / 4 && two[3] > N / 4, "{two:?}");
    assert_eq!(two[2] + two[3], N);
    w.tasks.lookout.awake(3);
    assert_eq!(given(&mut w), [0, 0, N, 0]);
    w.tasks.lookout.awake(2);

    for k in [0, 1, 3] {
        w.me.set(Some(k));
        let i = w.add(1 << k, note);
        // SAFETY: as above.
        let told = unsafe { w.tasks.wakeup(w.all[i], flags::WOKEN_MSG, w.caller()) };
        assert_eq!(told, ThreadSet::EMPTY);
    }
    let idle = given(&mut w);
    assert!(idle[2] > N / 3, "{idle:?}");
}
