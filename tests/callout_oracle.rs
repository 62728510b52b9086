//! The callout engine against a plain table of armings, with a clock that the
//! test moves, on one thread (T-3 and T-5 of the callout specification, and what
//! of T-1 one thread can reach).
#![cfg(not(loom))]
#![allow(clippy::undocumented_unsafe_blocks)] // one thread, and its own memory

use keel::callout::time::{Window, to_ns};
use keel::callout::{Arming, Call, Callout, Callouts, Drain, Env, Lock, Reset};
use keel::sync::ThreadSet;
use proptest::prelude::*;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::mem::MaybeUninit;

const CPUS: usize = 3;
const CALLOUTS: usize = 5;
/// This thread, as the engine knows it.
const ME: usize = 7;

#[derive(Clone, Debug)]
enum Act {
    Reset {
        who: Who,
        cpu: Option<usize>,
        when: i64,
        window: u32,
        direct: bool,
        /// With or without a clock that was read.
        read: bool,
    },
    Stop(Who),
    AsyncDrain(Who),
    Deactivate(Who),
    Enter(usize),
    Leave(usize),
    Clock(i64),
    /// Frees the callout where that is legal.
    Free(Who),
    /// Not by handlers, from here on.
    Drain(usize),
    Shutdown(usize),
    Softclock(usize),
    /// To the cpu's next date.
    ToNext(usize),
}

#[derive(Clone, Copy, Debug)]
enum Who {
    /// The callout whose handler runs, or else the first.
    Own,
    Number(usize),
}

/// An arming that has not ended.
#[derive(Clone, Copy, Debug)]
struct Armed {
    cpu: usize,
    /// Where it goes when its handler has returned.
    deferred: Option<usize>,
    time: u64,
    window: u32,
    direct: bool,
    /// What its cpu had seen of the clock when it was filed there, and the pass
    /// in which it was.
    seen: u64,
    pass: u64,
}

impl Armed {
    /// The first date at which a pass may not leave it.
    fn latest(&self) -> u64 {
        (self.time + u64::from(self.window)).max(self.seen + 1)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct One {
    armed: Option<Armed>,
    cpu: usize,
    active: bool,
    shut: bool,
    freed: bool,
}

#[derive(Default)]
struct Model {
    callouts: [One; CALLOUTS],
    open: [bool; CPUS],
    /// The latest clock that each cpu has seen.
    seen: [u64; CPUS],
    /// Who runs, where.
    running: Option<(usize, usize)>,
    /// The execution is being drained.
    draining: bool,
    pass: u64,
    /// A callout without C_DIRECT_EXEC ran in this pass.
    plain: bool,
    accepted: u64,
    removed: u64,
    started: u64,
    scripts: Vec<Vec<Act>>,
}

impl Model {
    fn usable(&self, cpu: usize) -> usize {
        match self.open.iter().position(|open| *open) {
            _ if self.open[cpu] => cpu,
            Some(lowest) => lowest,
            None => 0,
        }
    }

    fn runs(&self, id: usize) -> bool {
        self.running.is_some_and(|(run, _)| run == id)
    }

    fn remove(&mut self, id: usize) -> bool {
        let removed = self.callouts[id].armed.take().is_some();
        self.removed += u64::from(removed);
        removed
    }

    /// The arming is filed on `cpu`.
    fn file(&mut self, id: usize, cpu: usize) {
        let (seen, pass) = (self.seen[cpu], self.pass);
        let one = &mut self.callouts[id];
        one.cpu = cpu;
        if let Some(armed) = &mut one.armed {
            armed.cpu = cpu;
            armed.deferred = None;
            // A date that was moved on to after the last scan stays there.
            armed.seen = armed.seen.max(seen);
            armed.pass = pass;
        }
    }

    /// What waits on `cpu` moves to where it may be.
    fn evacuate(&mut self, cpu: usize) {
        let to = self.usable(cpu);
        for id in 0..CALLOUTS {
            let runs = self.runs(id);
            match &mut self.callouts[id].armed {
                Some(armed) if armed.cpu == cpu && armed.deferred.is_none() => {
                    if runs {
                        armed.deferred = Some(to);
                    } else {
                        self.file(id, to);
                    }
                }
                _ => {}
            }
        }
    }

    fn is_empty(&self, cpu: usize) -> bool {
        self.filed(cpu).next().is_none()
    }

    fn filed(&self, cpu: usize) -> impl Iterator<Item = &Armed> {
        let armed = self.callouts.iter().filter_map(|one| one.armed.as_ref());
        armed.filter(move |a| a.cpu == cpu && a.deferred.is_none())
    }
}

struct Arg {
    oracle: Cell<*const Oracle>,
    id: usize,
}

struct Oracle {
    all: Callouts,
    memory: Vec<UnsafeCell<MaybeUninit<Callout>>>,
    args: Vec<Arg>,
    clock: Cell<u64>,
    failure: RefCell<Option<Box<dyn std::any::Any + Send>>>,
    model: RefCell<Model>,
}

impl Env for Oracle {
    fn now(&self) -> u64 {
        to_ns(self.clock.get())
    }
    fn wake(&self, set: ThreadSet) {
        let _ = set;
    }
    fn warn(&self, _: core::fmt::Arguments) {}
}

unsafe extern "C" fn handler(arg: *mut c_void) {
    let arg = unsafe { &*arg.cast::<Arg>() };
    let oracle = unsafe { &*arg.oracle.get() };
    // Nothing unwinds from here: softclock's caller hears of it.
    let handle = std::panic::AssertUnwindSafe(|| oracle.handle(arg.id));
    if let Err(failure) = std::panic::catch_unwind(handle) {
        oracle.failure.borrow_mut().get_or_insert(failure);
    }
}

unsafe extern "C" fn drained(arg: *mut c_void) {
    let arg = unsafe { &*arg.cast::<Arg>() };
    let oracle = unsafe { &*arg.oracle.get() };
    let mut m = oracle.model.borrow_mut();
    assert!(m.runs(arg.id), "another execution's argument");
    assert!(m.draining, "nobody asked for it, or it was called before");
    m.draining = false;
    // The slot is vacated.
    m.running = None;
}

impl Oracle {
    fn new(scripts: Vec<Vec<Act>>) -> Box<Self> {
        let arg = |id| Arg {
            oracle: Cell::new(core::ptr::null()),
            id,
        };
        let oracle = Box::new(Self {
            all: Callouts::new(CPUS, 1000, 0).unwrap(),
            memory: (0..CALLOUTS)
                .map(|_| UnsafeCell::new(MaybeUninit::zeroed()))
                .collect(),
            args: (0..CALLOUTS).map(arg).collect(),
            clock: Cell::new(1000),
            failure: RefCell::new(None),
            model: RefCell::new(Model {
                scripts,
                ..Model::default()
            }),
        });
        for arg in &oracle.args {
            arg.oracle.set(&raw const *oracle);
        }
        for id in 0..CALLOUTS {
            unsafe { Callout::init(oracle.memory[id].get().cast(), Lock::NONE, 0) };
        }
        oracle
    }

    fn callout(&self, id: usize) -> &Callout {
        let mut m = self.model.borrow_mut();
        if m.callouts[id].freed {
            unsafe { Callout::init(self.memory[id].get().cast(), Lock::NONE, 0) };
            m.callouts[id] = One::default();
            if m.runs(id) {
                // What runs is nobody's any more.
                m.running = None;
            }
        }
        unsafe { (*self.memory[id].get()).assume_init_ref() }
    }

    /// A callout runs. What it ran for ends here.
    fn handle(&self, id: usize) {
        let script = {
            let mut m = self.model.borrow_mut();
            self.completed(&mut m);
            let armed = m.callouts[id].armed.take().expect("it was not armed");
            let cpu = armed.cpu;
            assert!(armed.deferred.is_none());
            assert!(armed.time <= m.seen[cpu], "early");
            assert!(armed.pass < m.pass, "armed in the pass that runs it");
            assert!(!armed.direct || !m.plain, "direct ones come first");
            m.plain |= !armed.direct;
            m.started += 1;
            m.running = Some((id, cpu));
            m.scripts.pop().unwrap_or_default()
        };
        for act in script {
            self.run(act);
        }
    }

    /// The execution that went before has ended.
    fn completed(&self, m: &mut Model) {
        assert!(!m.draining, "an asynchronous drain was forgotten");
        let Some((id, _)) = m.running.take() else {
            return;
        };
        if let Some(to) = m.callouts[id].armed.and_then(|armed| armed.deferred) {
            let to = m.usable(to);
            m.file(id, to);
        }
    }

    fn reset(&self, id: usize, cpu: Option<usize>, arming: Arming, read: bool) {
        let c = self.callout(id);
        let (expected, target, before) = {
            let mut m = self.model.borrow_mut();
            let target = m.usable(cpu.unwrap_or(m.callouts[id].cpu));
            // Exact: a look before sleep.
            let before = self.all.next(target);
            let refused = m.callouts[id].shut || m.runs(id) && m.draining;
            if refused {
                (0, None, before)
            } else {
                let removed = m.remove(id);
                m.accepted += 1;
                if read && m.is_empty(target) {
                    m.seen[target] = m.seen[target].max(self.clock.get());
                }
                let defers = m.runs(id) && target != m.callouts[id].cpu;
                let one = &mut m.callouts[id];
                one.active = true;
                one.armed = Some(Armed {
                    cpu: one.cpu,
                    deferred: defers.then_some(target),
                    time: arming.window.time,
                    window: arming.window.window,
                    direct: arming.direct,
                    seen: 0,
                    pass: 0,
                });
                if !defers {
                    m.file(id, target);
                }
                (i32::from(removed), (!defers).then_some(target), before)
            }
        };
        let call = Call {
            func: Some(handler),
            arg: (&raw const self.args[id]).cast_mut().cast(),
        };
        let now = read.then(|| self.clock.get());
        let (rc, wake) = unsafe {
            let reset = Reset {
                arming,
                call: Some(call),
                cpu,
                now,
            };
            self.all.reset(c, reset)
        };
        assert_eq!(rc, expected, "reset");
        if let Some(cpu) = target {
            let next = self.all.next(cpu).expect("it was just armed");
            if before.is_none_or(|before| next < before) {
                assert_eq!(wake, ThreadSet::one(cpu), "a sleeper is not woken");
            }
        } else {
            assert_eq!(wake, ThreadSet::EMPTY);
        }
    }

    fn stop(&self, id: usize) {
        let c = self.callout(id);
        let expected = self.take_back(id);
        assert_eq!(unsafe { self.all.stop(c) }, expected, "stop");
    }

    /// What every kind of stop does: what it answers.
    fn take_back(&self, id: usize) -> i32 {
        let mut m = self.model.borrow_mut();
        m.callouts[id].active = false;
        match (m.remove(id), m.runs(id)) {
            (_, true) => 0,
            (true, false) => 1,
            (false, false) => -1,
        }
    }

    fn drain(&self, id: usize, shut: bool) {
        let c = self.callout(id);
        let expected = self.take_back(id);
        self.model.borrow_mut().callouts[id].shut |= shut;
        match unsafe { self.all.drain(c, shut, ME) } {
            Drain::Done(rc) => assert_eq!(rc, expected, "drain"),
            Drain::Wait(_) => panic!("nothing executes"),
        }
    }

    fn softclock(&self, cpu: usize) -> u64 {
        let (now, started) = {
            let mut m = self.model.borrow_mut();
            m.pass += 1;
            m.plain = false;
            m.seen[cpu] = m.seen[cpu].max(self.clock.get());
            (self.clock.get(), m.started)
        };
        unsafe { self.all.softclock(cpu, ME, self) };
        if let Some(failure) = self.failure.take() {
            std::panic::resume_unwind(failure);
        }
        let mut m = self.model.borrow_mut();
        self.completed(&mut m);
        for armed in m.filed(cpu) {
            assert!(
                armed.pass == m.pass || armed.latest() > now,
                "late at {now}: {armed:?}"
            );
        }
        m.started - started
    }

    fn run(&self, act: Act) {
        let running = self.model.borrow().running;
        let id = |who| match who {
            Who::Own => running.map_or(0, |(id, _)| id),
            Who::Number(id) => id,
        };
        match act {
            Act::Reset {
                who,
                cpu,
                when,
                window,
                direct,
                read,
            } => {
                let time = self.clock.get().saturating_add_signed(when);
                let window = Window { time, window };
                self.reset(id(who), cpu, Arming { window, direct }, read);
            }
            Act::Stop(who) => self.stop(id(who)),
            Act::AsyncDrain(who) => {
                let id = id(who);
                let c = self.callout(id);
                let expected = self.take_back(id);
                if expected == 0 {
                    self.model.borrow_mut().draining = true;
                }
                let rc = unsafe { self.all.async_drain(c, drained) };
                assert_eq!(rc, expected, "async_drain");
            }
            Act::Deactivate(who) => {
                self.callout(id(who)).deactivate();
                self.model.borrow_mut().callouts[id(who)].active = false;
            }
            Act::Enter(cpu) => {
                let now = self.clock.get();
                {
                    let mut m = self.model.borrow_mut();
                    m.open[cpu] = true;
                    if m.is_empty(cpu) {
                        m.seen[cpu] = m.seen[cpu].max(now);
                    }
                    if !m.open[0] {
                        m.evacuate(0);
                    }
                }
                let _ = self.all.enter(cpu, now);
            }
            Act::Leave(cpu) => {
                {
                    let mut m = self.model.borrow_mut();
                    m.open[cpu] = false;
                    if m.usable(cpu) != cpu {
                        m.evacuate(cpu);
                    }
                }
                let _ = self.all.leave(cpu);
            }
            Act::Clock(by) => {
                let clock = self.clock.get().saturating_add_signed(by);
                // Below what nanoseconds in 64 bits can say.
                self.clock.set(clock.min(1 << 47));
            }
            Act::Free(who) => {
                let id = id(who);
                let mut m = self.model.borrow_mut();
                let one = m.callouts[id];
                if one.armed.is_none() && !one.freed && !(m.runs(id) && m.draining) {
                    m.callouts[id].freed = true;
                    unsafe { self.memory[id].get().cast::<u8>().write_bytes(0xa5, 128) };
                }
            }
            Act::Drain(id) => self.drain(id, false),
            Act::Shutdown(id) => self.drain(id, true),
            Act::Softclock(cpu) => {
                self.softclock(cpu);
            }
            Act::ToNext(cpu) => {
                if let Some(next) = self.all.next(cpu) {
                    self.clock.set(self.clock.get().max(next));
                    assert!(self.softclock(cpu) > 0, "the next date is too early");
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let m = self.model.borrow();
        for (id, one) in m.callouts.iter().enumerate().filter(|(_, one)| !one.freed) {
            let c = unsafe { (*self.memory[id].get()).assume_init_ref() };
            assert_eq!(c.is_pending(), one.armed.is_some());
            assert_eq!(c.is_active(), one.active);
        }
        for cpu in 0..CPUS {
            let here = |one: &&One| one.armed.is_some_and(|a| a.cpu == cpu);
            let pending = m.callouts.iter().filter(here).count();
            let report = self.all.report(cpu);
            assert_eq!(report.pending, pending, "on cpu {cpu}");
            assert_eq!(report.open, m.open[cpu]);
            let next = self.all.next(cpu);
            match m.filed(cpu).map(Armed::latest).min() {
                None => assert_eq!(next, None),
                Some(latest) => assert!(
                    next.is_some_and(|next| next <= latest.max(m.seen[cpu])),
                    "sleeps until {next:?}, cpu {cpu}: {:?}",
                    m.filed(cpu).collect::<Vec<_>>()
                ),
            }
        }
    }

    /// Every arming ended once or is pending.
    fn settle(&self) {
        let m = self.model.borrow();
        let (mut armed, mut started, mut removed) = (0, 0, 0);
        for cpu in 0..CPUS {
            let counts = self.all.report(cpu).counts;
            armed += counts.armed;
            started += counts.started;
            removed += counts.removed;
        }
        assert_eq!(
            (armed, started, removed),
            (m.accepted, m.started, m.removed)
        );
        let pending = m.callouts.iter().filter(|one| one.armed.is_some()).count();
        assert_eq!(armed, started + removed + pending as u64);
    }

    /// What is armed runs, wherever it is, and nothing else does.
    fn wind_up(&self) {
        self.settle();
        for _ in 0..CALLOUTS * CPUS {
            self.model.borrow_mut().scripts.clear();
            for cpu in 0..CPUS {
                self.run(Act::ToNext(cpu));
            }
        }
        self.settle();
        let m = self.model.borrow();
        assert!(m.callouts.iter().all(|one| one.armed.is_none()), "lost");
    }
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![2 => Just(Who::Own), 3 => (0..CALLOUTS).prop_map(Who::Number)]
}

fn distance() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => -50..50i64,
        4 => 0..20i64,
        2 => 0..5000i64,
        1 => (0..40u32).prop_map(|bit| 1 << bit),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let reset = (
        who(),
        prop::option::of(0..CPUS),
        distance(),
        prop_oneof![3 => Just(0), 2 => 0..100u32],
        prop::bool::weighted(0.3),
        any::<bool>(),
    )
        .prop_map(|(who, cpu, when, window, direct, read)| Act::Reset {
            who,
            cpu,
            when,
            window,
            direct,
            read,
        });
    prop_oneof![
        12 => reset,
        3 => who().prop_map(Act::Stop),
        2 => who().prop_map(Act::AsyncDrain),
        1 => who().prop_map(Act::Deactivate),
        2 => (0..CPUS).prop_map(Act::Enter),
        2 => (0..CPUS).prop_map(Act::Leave),
        2 => distance().prop_map(Act::Clock),
        1 => who().prop_map(Act::Free),
    ]
}

fn outside() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => act(),
        1 => (0..CALLOUTS).prop_map(Act::Drain),
        1 => (0..8 * CALLOUTS).prop_map(|n| match n < CALLOUTS {
            true => Act::Shutdown(n),
            false => Act::Drain(n % CALLOUTS),
        }),
        3 => (0..CPUS).prop_map(Act::Softclock),
        4 => (0..CPUS).prop_map(Act::ToNext),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// SHOWS: CINV-2, CINV-3, CINV-10, CINV-19, CINV-20, CINV-26, CINV-29
    #[test]
    fn any_sequence(
        scripts in prop::collection::vec(prop::collection::vec(act(), 0..4), 0..20),
        acts in prop::collection::vec(outside(), 1..60),
    ) {
        let oracle = Oracle::new(scripts);
        acts.into_iter().for_each(|act| oracle.run(act));
        oracle.wind_up();
    }
}

fn arm(o: &Oracle, id: usize, cpu: usize, when: i64, direct: bool) {
    o.run(Act::Reset {
        who: Who::Number(id),
        cpu: Some(cpu),
        when,
        window: 0,
        direct,
        read: true,
    });
}

/// CINV-21 (M-25): a pass does not run what was armed in it, however overdue.
/// SHOWS: CINV-21
#[test]
fn an_overdue_rearming_waits_for_the_next_pass() {
    let again = || {
        vec![Act::Reset {
            who: Who::Own,
            cpu: None,
            when: -100,
            window: 0,
            direct: true,
            read: false,
        }]
    };
    let o = Oracle::new(vec![again(), again(), again()]);
    arm(&o, 0, 0, -100, true);
    o.run(Act::Clock(10));
    for runs in [1, 1, 1, 1, 0] {
        assert_eq!(o.softclock(0), runs);
        o.run(Act::Clock(1));
    }
    o.wind_up();
}

/// CINV-10: what is overdue, its precision included, does not get new tolerance
/// with every cpu that it has to leave.
/// SHOWS: CINV-10
#[test]
fn moving_costs_no_precision() {
    let o = Oracle::new(vec![vec![Act::Leave(0), Act::Leave(2)]]);
    o.run(Act::Enter(0));
    o.run(Act::Enter(2));
    arm(&o, 0, 2, 128, false);
    o.run(Act::Reset {
        who: Who::Number(1),
        cpu: Some(0),
        when: 0,
        window: 7,
        direct: false,
        read: true,
    });
    // The handler leaves both cpus: to 2, which has got farther, and back to 0.
    o.run(Act::ToNext(2));
    assert_eq!(o.all.next(0), Some(o.clock.get() + 1));
    o.wind_up();
}

/// CINV-13: a handler frees its callout, and what is made in its memory is
/// another one, which nobody executes.
/// SHOWS: CINV-12, CINV-13
#[test]
fn memory_is_used_anew() {
    let again = Act::Reset {
        who: Who::Number(0),
        cpu: Some(1),
        when: 5,
        window: 0,
        direct: false,
        read: true,
    };
    let own = Act::Free(Who::Own);
    let script = vec![own, again.clone(), Act::Stop(Who::Number(0)), again];
    let o = Oracle::new(vec![script]);
    o.run(Act::Enter(0));
    o.run(Act::Enter(1));
    arm(&o, 0, 0, 1, false);
    o.run(Act::ToNext(0));
    o.run(Act::ToNext(1));
    o.wind_up();
    assert_eq!(o.model.borrow().started, 2);
}

/// Direct ones first, then by date.
/// SHOWS: DEV-8
#[test]
fn direct_ones_first() {
    thread_local!(static ORDER: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) });
    unsafe extern "C" fn note(arg: *mut c_void) {
        ORDER.with_borrow_mut(|order| order.push(arg as usize));
    }
    let o = Oracle::new(Vec::new());
    for (id, (time, direct)) in [(9, false), (3, false), (8, true), (5, false), (4, true)]
        .into_iter()
        .enumerate()
    {
        let reset = Reset {
            arming: Arming {
                window: Window { time, window: 0 },
                direct,
            },
            call: Some(Call {
                func: Some(note),
                arg: id as *mut c_void,
            }),
            cpu: None,
            now: None,
        };
        let _ = unsafe { o.all.reset(o.callout(id), reset) };
    }
    unsafe { o.all.softclock(0, ME, &*o) };
    assert_eq!(ORDER.take(), [4, 2, 1, 3, 0]);
}

/// A drain from inside a handler that would have to wait is a panic (DEV-6): in
/// a process of its own.
/// SHOWS: DEV-6
#[test]
fn a_drain_from_its_handler_is_a_panic() {
    const CHILD: &str = "A_DRAIN_FROM_ITS_HANDLER";
    unsafe extern "C" fn drain(o: *mut c_void) {
        let o = unsafe { &*o.cast::<Oracle>() };
        if let Drain::Wait(waiting) = unsafe { o.all.drain(o.callout(0), false, ME) } {
            waiting.wait(|_| ());
        }
    }
    if std::env::var_os(CHILD).is_some() {
        let o = Oracle::new(Vec::new());
        let reset = Reset {
            arming: Arming {
                window: Window { time: 1, window: 0 },
                direct: false,
            },
            call: Some(Call {
                func: Some(drain),
                arg: (&raw const *o).cast_mut().cast(),
            }),
            cpu: None,
            now: None,
        };
        let _ = unsafe { o.all.reset(o.callout(0), reset) };
        unsafe { o.all.softclock(0, ME, &*o) };
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_drain_from_its_handler_is_a_panic",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for itself if nothing stops it.
    for _ in 0..1000 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(said.contains("callout_drain: callout"), "{said}");
}
