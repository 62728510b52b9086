//! Models of callouts: slot, hand-over, drain, wake-up (T-15 of the callout
//! specification). Each explores the engine that ships.
//!
//! What a handler works on is one plain cell: loom fails a model in which
//! anybody touches it unordered with the handler. Counters are core's, which
//! loom does not see: they add no interleavings and order nothing.
//!
//! A handler that fails a model aborts the program, since it is `extern "C"`.
#![cfg(loom)]
#![allow(clippy::undocumented_unsafe_blocks)] // loom checks every access

use core::sync::atomic::{AtomicU64, AtomicUsize as Count, Ordering::Relaxed};
use keel::callout::time::{Window, to_ns};
use keel::callout::{
    Arming, CALLOUT_TRYLOCK, Call, Callout, Callouts, Drain, Env, Func, Lock, LockOps, Reset,
    Waiting,
};
use keel::runtime::sleep::{Sleeper, Wake};
use keel::sync::atomic::{AtomicBool, Ordering};
use keel::sync::{ThreadSet, UnsafeCell, model_point};
use loom::sync::Arc;
use loom::thread;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;

/// Every interleaving, or those of at most `preemptions` preemptions. A wait
/// for what never comes exceeds the branches.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let runs = std::sync::Arc::new(Count::new(0));
    let seen = runs.clone();
    let mut b = loom::model::Builder::new();
    b.preemption_bound = preemptions;
    b.max_branches = 5_000;
    let begin = std::time::Instant::now();
    b.check(move || {
        seen.fetch_add(1, Relaxed);
        model();
    });
    let runs = runs.load(Relaxed);
    println!("{name}: {runs} runs, {} ms", begin.elapsed().as_millis());
}

/// The caller's lock, and whether it may still be touched. A word, since loom's
/// own lock lets nobody fail to take it.
struct Guarded {
    held: AtomicBool,
    dead: Count,
}

unsafe extern "C" fn lock(l: *mut c_void) {
    while unsafe { try_lock(l) } == 0 {
        thread::yield_now();
    }
}

unsafe extern "C" fn try_lock(l: *mut c_void) -> c_int {
    let l = unsafe { &*l.cast::<Guarded>() };
    assert_eq!(l.dead.load(Relaxed), 0, "a dead lock is taken");
    c_int::from(!l.held.swap(true, Ordering::Acquire))
}

unsafe extern "C" fn unlock(l: *mut c_void) {
    let l = unsafe { &*l.cast::<Guarded>() };
    assert_eq!(l.dead.load(Relaxed), 0, "a dead lock is freed");
    assert!(l.held.swap(false, Ordering::Release), "freed twice");
}

static OPS: LockOps = LockOps {
    lock: Some(lock),
    unlock: Some(unlock),
    trylock: Some(try_lock),
    owned: None,
};

/// An object with a callout in it, and all that goes on around.
struct World {
    all: Callouts,
    c: core::cell::UnsafeCell<ManuallyDrop<Callout>>,
    /// What is left of `c` once it is freed: a callout that was moved here.
    wreck: ManuallyDrop<Callout>,
    lock: Guarded,
    /// The object: what the handler works on.
    body: UnsafeCell<u32>,
    /// What the handler does at its `n`th run, from 0.
    script: fn(&World, usize),
    starts: Count,
    drained: Count,
    /// The clock, granules.
    clock: AtomicU64,
    woken: AtomicU64,
}

unsafe impl Send for World {}
unsafe impl Sync for World {}

impl Env for World {
    fn now(&self) -> u64 {
        model_point();
        to_ns(self.clock.load(Relaxed))
    }
    fn wake(&self, set: ThreadSet) {
        model_point();
        self.woken.fetch_or(set.0, Relaxed);
    }
    fn warn(&self, message: core::fmt::Arguments) {
        panic!("{message}");
    }
}

unsafe extern "C" fn handler(w: *mut c_void) {
    let w = unsafe { &*w.cast::<World>() };
    let run = w.starts.fetch_add(1, Relaxed);
    w.touch();
    if w.clock.load(Relaxed) < LATER {
        (w.script)(w, run);
    }
    w.touch();
}

unsafe extern "C" fn drained(w: *mut c_void) {
    let w = unsafe { &*w.cast::<World>() };
    w.drained.fetch_add(1, Relaxed);
    w.touch();
}

const FREED: u32 = 1000;
const NOW: u64 = 10;
/// After `NOW`, and before `LATER`.
const SOON: u64 = 20;
const LATER: u64 = 100;

/// Threads as the engine knows them.
const MAIN: usize = 1;
const ONE: usize = 2;
const TWO: usize = 3;

impl World {
    /// `cpus` open cpus.
    fn new(cpus: usize, script: fn(&World, usize)) -> Arc<Self> {
        Self::with(cpus, script, |_| Lock::NONE, 0)
    }

    fn locked(cpus: usize, script: fn(&World, usize), flags: u8) -> Arc<Self> {
        let lock = |w: &World| unsafe { Lock::new(&OPS, (&raw const w.lock).cast_mut().cast()) };
        Self::with(cpus, script, lock, flags)
    }

    fn with(
        cpus: usize,
        script: fn(&World, usize),
        lock: fn(&World) -> Lock,
        flags: u8,
    ) -> Arc<Self> {
        let w = Arc::new(Self {
            all: Callouts::new(cpus, 1000, 0).unwrap(),
            c: core::cell::UnsafeCell::new(ManuallyDrop::new(Callout::new(Lock::NONE, 0))),
            wreck: ManuallyDrop::new(Callout::new(Lock::NONE, 0)),
            lock: Guarded {
                held: AtomicBool::new(false),
                dead: Count::new(0),
            },
            body: UnsafeCell::new(0),
            script,
            starts: Count::new(0),
            drained: Count::new(0),
            clock: AtomicU64::new(NOW),
            woken: AtomicU64::new(0),
        });
        unsafe {
            Callout::init(w.c.get().cast(), lock(&w), flags);
            Callout::init((&raw const w.wreck).cast_mut().cast(), Lock::NONE, 0);
        }
        for cpu in 0..cpus {
            let _ = w.all.enter(cpu, 0);
        }
        // Its word exists before there are threads.
        model_point();
        w
    }

    fn c(&self) -> &Callout {
        unsafe { &*self.c.get() }
    }

    fn touch(&self) {
        self.body.with_mut(|b| unsafe {
            assert!(*b < FREED, "freed under its handler");
            *b += 1;
        });
    }

    /// The owner frees the object with its callout.
    fn free(&self) {
        self.body.with_mut(|b| unsafe {
            assert!(*b < FREED, "freed twice");
            *b = FREED;
        });
        unsafe { core::ptr::copy_nonoverlapping(&self.wreck, self.c.get(), 1) };
    }

    fn reset(&self, cpu: Option<usize>, time: u64) -> i32 {
        model_point();
        let call = Call {
            func: Some(handler),
            arg: (&raw const *self).cast_mut().cast(),
        };
        let arming = Arming {
            window: Window { time, window: 0 },
            direct: false,
        };
        let (rc, wake) = unsafe {
            let reset = Reset {
                arming,
                call: Some(call),
                cpu,
                now: None,
            };
            self.all.reset(self.c(), reset)
        };
        self.wake(wake);
        rc
    }

    fn stop(&self) -> i32 {
        model_point();
        unsafe { self.all.stop(self.c()) }
    }

    fn async_drain(&self, f: Func) -> i32 {
        model_point();
        unsafe { self.all.async_drain(self.c(), f) }
    }

    fn drain(&self, me: usize) -> i32 {
        match self.begin_drain(me) {
            Drain::Done(rc) => rc,
            Drain::Wait(waiting) => {
                waiting.wait(|_| ());
                waiting.answer
            }
        }
    }

    fn begin_drain(&self, me: usize) -> Drain<'_> {
        model_point();
        unsafe { self.all.drain(self.c(), false, me) }
    }

    fn softclock(&self, cpu: usize, me: usize) {
        model_point();
        unsafe { self.all.softclock(cpu, me, self) };
    }

    fn under_lock<R>(&self, f: impl FnOnce() -> R) -> R {
        let l = (&raw const self.lock).cast_mut().cast();
        unsafe { lock(l) };
        let r = f();
        unsafe { unlock(l) };
        r
    }

    fn starts(&self) -> usize {
        self.starts.load(Relaxed)
    }

    fn pending(&self) -> usize {
        (0..self.all.count())
            .map(|cpu| self.all.report(cpu).pending)
            .sum()
    }

    /// Every arming ended once or is pending still, and what is pending runs
    /// (CINV-19).
    fn settle(&self) {
        let pending = self.pending();
        let before = self.starts();
        self.balance(pending);
        self.clock.store(LATER, Relaxed);
        for cpu in 0..self.all.count() {
            self.softclock(cpu, MAIN);
        }
        assert_eq!(self.starts(), before + pending, "what is pending runs");
        self.balance(self.pending());
    }

    fn balance(&self, pending: usize) {
        let (mut armed, mut ended, mut started) = (0, 0, 0);
        for cpu in 0..self.all.count() {
            let r = self.all.report(cpu);
            assert!(!r.executing && !r.running);
            armed += r.counts.armed;
            started += r.counts.started;
            ended += r.counts.started + r.counts.removed;
        }
        assert_eq!(started as usize, self.starts());
        assert_eq!(armed, ended + pending as u64, "an arming ends once");
    }
}

fn spawn(w: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let w = w.clone();
    thread::spawn(move || f(&w))
}

fn idle(_: &World, _: usize) {}

/// Re-arms for the other cpu, which is due there at once.
fn move_once(w: &World, run: usize) {
    if run == 0 {
        w.reset(Some(1), 1);
    }
}

// --- drains ----------------------------------------------------------------

/// CINV-16 (L-3): what the handler did is visible to who drained, and it does
/// nothing afterwards.
/// SHOWS: CINV-16, CINV-18
#[test]
fn a_drain_sees_what_the_handler_did() {
    explore("a_drain_sees_what_the_handler_did", None, || {
        let w = World::new(1, idle);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.drain(MAIN);
        w.free();
        assert_eq!(rc == 1, w.starts() == 0);
        runner.join().unwrap();
        assert_eq!(rc == 1, w.starts() == 0);
        w.settle();
    });
}

/// CINV-1, -8, -16 (problems 1 and 2; M-5, M-6, M-7, M-9): the handler re-arms
/// for another cpu while somebody drains.
/// SHOWS: M-5, M-7, CINV-1, CINV-15, CINV-16
#[test]
fn a_drain_while_the_callout_is_to_move() {
    explore("a_drain_while_the_callout_is_to_move", None, || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.drain(MAIN);
        w.free();
        let starts = w.starts();
        runner.join().unwrap();
        assert_eq!(w.starts(), starts, "nothing runs after a drain");
        assert!(
            rc == 1 || starts == 1,
            "the second arming was removed or refused"
        );
        assert_eq!(w.pending(), 0);
        w.settle();
    });
}

/// The same, and the other cpu's thread runs what arrives there.
/// SHOWS: M-5, M-6, CINV-8, CINV-16
#[test]
fn a_drain_while_the_callout_moves_and_runs_there() {
    explore(
        "a_drain_while_the_callout_moves_and_runs_there",
        Some(3),
        || {
            let w = World::new(2, move_once);
            w.reset(Some(0), 1);
            let one = spawn(&w, |w| w.softclock(0, ONE));
            let two = spawn(&w, |w| w.softclock(1, TWO));
            w.drain(MAIN);
            w.free();
            let starts = w.starts();
            one.join().unwrap();
            two.join().unwrap();
            assert_eq!(w.starts(), starts, "nothing runs after a drain");
            assert_eq!(w.pending(), 0);
            w.settle();
        },
    );
}

/// CINV-8 (M-6): what is re-armed for another cpu does not run there before
/// its handler has returned.
/// SHOWS: M-6, CINV-1, CINV-8
#[test]
fn a_callout_runs_once_at_a_time() {
    explore("a_callout_runs_once_at_a_time", None, || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let one = spawn(&w, |w| w.softclock(0, ONE));
        w.softclock(1, MAIN);
        one.join().unwrap();
        w.settle();
        assert_eq!(w.starts(), 2);
    });
}

/// CINV-17 (M-34, M-18): a handler that re-arms itself first of all does not
/// run again once somebody drains.
/// SHOWS: CINV-17, CINV-22
#[test]
fn a_drain_of_a_callout_that_rearms_itself() {
    fn again(w: &World, _: usize) {
        w.reset(None, 1);
        w.touch();
    }
    explore("a_drain_of_a_callout_that_rearms_itself", Some(5), || {
        let w = World::new(1, again);
        w.reset(None, 1);
        let runner = spawn(&w, |w| {
            w.softclock(0, ONE);
            w.clock.store(SOON, Relaxed);
            w.softclock(0, ONE);
        });
        w.drain(MAIN);
        w.free();
        let starts = w.starts();
        assert_eq!(w.pending(), 0, "a drain leaves nothing armed");
        runner.join().unwrap();
        w.settle();
        assert_eq!(w.starts(), starts, "nothing runs after a drain");
    });
}

/// Drains, and leaves the wait for later: loom never ends where two threads
/// spin. When the pass is over the wait must be.
fn drainer(w: &Arc<World>, me: usize) -> thread::JoinHandle<Option<Waiting<'static>>> {
    let w = w.clone();
    thread::spawn(move || match w.begin_drain(me) {
        Drain::Done(_) => None,
        // The world outlives its models' threads.
        Drain::Wait(waiting) => {
            Some(unsafe { core::mem::transmute::<Waiting, Waiting<'static>>(waiting) })
        }
    })
}

/// CINV-17, -18 (D-1): two drains of one execution both end.
/// SHOWS: M-7, CINV-18
#[test]
fn two_drains_both_end() {
    explore("two_drains_both_end", Some(2), || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let (one, two) = (drainer(&w, ONE), drainer(&w, TWO));
        w.softclock(0, MAIN);
        for drainer in [one, two] {
            if let Some(waiting) = drainer.join().unwrap() {
                waiting.wait(|_| ());
            }
        }
        w.free();
        assert_eq!(w.pending(), 0, "a drain leaves nothing armed");
        w.settle();
    });
}

/// CINV-20: an asynchronous drain's function is called once if it answered 0,
/// also where somebody sleeps.
/// SHOWS: CINV-15, CINV-20
#[test]
fn an_asynchronous_drain_calls_once() {
    explore("an_asynchronous_drain_calls_once", Some(2), || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let v = w.clone();
        let one = thread::spawn(move || v.async_drain(drained));
        let two = drainer(&w, TWO);
        w.softclock(0, MAIN);
        let rc = one.join().unwrap();
        if let Some(waiting) = two.join().unwrap() {
            waiting.wait(|_| ());
        }
        w.free();
        assert_eq!(w.drained.load(Relaxed), usize::from(rc == 0));
        assert_eq!(w.pending(), 0, "a drain leaves nothing armed");
        w.settle();
    });
}

/// CINV-20: its function may free the object.
/// SHOWS: CINV-13, CINV-20
#[test]
fn an_asynchronous_drain_frees() {
    unsafe extern "C" fn free(w: *mut c_void) {
        let w = unsafe { &*w.cast::<World>() };
        w.drained.fetch_add(1, Relaxed);
        w.free();
    }
    explore("an_asynchronous_drain_frees", None, || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let one = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.async_drain(free);
        if rc != 0 {
            w.free();
        }
        one.join().unwrap();
        assert_eq!(w.drained.load(Relaxed), (rc == 0) as usize);
        assert_eq!(w.pending(), 0);
        w.settle();
    });
}

// --- moves -----------------------------------------------------------------

/// CINV-4, -7 (L-1, M-5): a stop while another thread moves the callout finds
/// it, wherever it is.
/// SHOWS: M-5, CINV-4, CINV-7
#[test]
fn a_stop_during_a_move() {
    explore("a_stop_during_a_move", None, || {
        let w = World::new(3, idle);
        w.reset(Some(1), LATER);
        let mover = spawn(&w, |w| {
            w.reset(Some(2), LATER);
        });
        assert_eq!(w.stop(), 1, "it was pending all the time");
        mover.join().unwrap();
        assert_eq!(w.pending(), usize::from(w.c().is_pending()));
        w.settle();
    });
}

/// Two movers and a stop: one arming each, wherever they went.
/// SHOWS: CINV-2, CINV-4, CINV-7
#[test]
fn two_moves_and_a_stop() {
    explore("two_moves_and_a_stop", Some(2), || {
        let w = World::new(3, idle);
        w.reset(Some(1), LATER);
        let one = spawn(&w, |w| {
            w.reset(Some(2), LATER);
        });
        let two = spawn(&w, |w| {
            w.reset(Some(0), LATER);
        });
        assert_eq!(w.stop(), 1);
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(w.pending(), usize::from(w.c().is_pending()));
        w.settle();
    });
}

/// A drain, of a callout that does not run, while another thread moves it and
/// its new cpu's thread runs what is due.
/// SHOWS: M-5, CINV-4, CINV-16
#[test]
fn a_drain_during_a_move() {
    explore("a_drain_during_a_move", Some(3), || {
        let w = World::new(3, idle);
        w.reset(Some(1), 1);
        let mover = spawn(&w, |w| {
            w.reset(Some(2), 1);
        });
        let runner = spawn(&w, |w| w.softclock(2, ONE));
        w.drain(MAIN);
        let starts = w.starts();
        mover.join().unwrap();
        runner.join().unwrap();
        // Perhaps the mover came after the drain.
        assert!(w.starts() + w.pending() <= starts + 1);
        w.settle();
    });
}

/// CINV-19, -23 (M-8, M-9): a stop after the handler's re-arming for another
/// cpu removes that arming for good; who is told 1 may free.
/// SHOWS: CINV-19, CINV-23
#[test]
fn a_stop_of_a_deferred_callout() {
    static ARMED: std::sync::Mutex<Option<Arc<AtomicBool>>> = std::sync::Mutex::new(None);
    fn tell(w: &World, run: usize) {
        if run == 0 {
            let armed = ARMED.lock().unwrap().clone().unwrap();
            w.reset(Some(1), 1);
            armed.swap(true, Ordering::Release);
            w.touch();
        }
    }
    explore("a_stop_of_a_deferred_callout", None, || {
        let armed = Arc::new(AtomicBool::new(false));
        *ARMED.lock().unwrap() = Some(armed.clone());
        let w = World::new(2, tell);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        while !armed.swap(false, Ordering::Acquire) {
            thread::yield_now();
        }
        let rc = w.stop();
        if rc == 1 {
            w.free();
        }
        runner.join().unwrap();
        assert!(rc == 0 || rc == 1);
        assert_eq!(w.pending(), 0, "a stop leaves nothing armed");
        w.settle();
        assert_eq!(w.starts(), 1);
        *ARMED.lock().unwrap() = None;
    });
}

/// The same from anywhere: whatever the answer, the sums are right.
/// SHOWS: CINV-19
#[test]
fn a_stop_while_the_handler_moves() {
    explore("a_stop_while_the_handler_moves", None, || {
        let w = World::new(2, move_once);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.stop();
        if rc == 1 {
            w.free();
        }
        runner.join().unwrap();
        if rc == 1 {
            assert_eq!(w.pending(), 0);
        }
        w.settle();
    });
}

/// Two resets for other cpus while the handler runs: the last one counts,
/// where it said (M-11, state S8).
/// SHOWS: CINV-2
#[test]
fn resets_of_a_running_callout() {
    explore("resets_of_a_running_callout", Some(5), || {
        let w = World::new(3, move_once);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        w.reset(Some(2), LATER);
        w.reset(None, LATER);
        runner.join().unwrap();
        assert!(w.pending() <= 1);
        w.settle();
    });
}

// --- associated locks --------------------------------------------------------

/// CINV-9, -11, -19 (M-2, M-3): under the lock a stop that answers 1 has
/// prevented the handler, and one that answers -1 comes after it.
/// SHOWS: CINV-9, CINV-11
#[test]
fn a_stop_under_the_lock_is_certain() {
    explore("a_stop_under_the_lock_is_certain", None, || {
        let w = World::locked(1, idle, 0);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.under_lock(|| {
            let rc = w.stop();
            // The lock is the handler's too.
            w.touch();
            assert_eq!(rc, if w.starts() == 0 { 1 } else { -1 });
            assert_eq!(w.stop(), -1, "the second time there is nothing");
            rc
        });
        runner.join().unwrap();
        assert_eq!(w.starts(), usize::from(rc == -1));
        assert_eq!(w.pending(), 0);
        w.settle();
    });
}

/// CINV-11: the answer holds also for who forgot the lock.
/// SHOWS: CINV-9, CINV-11
#[test]
fn a_stop_without_the_lock_is_true() {
    explore("a_stop_without_the_lock_is_true", None, || {
        let w = World::locked(1, idle, 0);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.stop();
        runner.join().unwrap();
        assert_eq!(w.starts(), usize::from(rc != 1));
        w.settle();
    });
}

/// CINV-9, -19 (M-2, M-11): under the lock a reset that answers 1 replaced the
/// arming; the handler runs once for each that was not.
/// SHOWS: CINV-2, CINV-19
#[test]
fn resets_under_the_lock() {
    explore("resets_under_the_lock", Some(5), || {
        let w = World::locked(3, idle, 0);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        w.under_lock(|| {
            let rc = w.reset(Some(1), LATER);
            w.touch();
            assert_eq!(rc, i32::from(w.starts() == 0));
            assert_eq!(w.reset(Some(0), LATER), 1);
            assert_eq!(w.reset(Some(2), LATER), 1);
            assert!(w.c().is_pending());
        });
        runner.join().unwrap();
        assert_eq!(w.pending(), 1);
        w.settle();
    });
}

/// CINV-19 (M-23): a stop after a reset under the lock answers 1.
/// SHOWS: CINV-19, DEV-3
#[test]
fn a_reset_and_a_stop_under_the_lock() {
    explore("a_reset_and_a_stop_under_the_lock", None, || {
        let w = World::locked(2, idle, 0);
        w.reset(Some(0), 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let first = w.under_lock(|| {
            let first = w.reset(Some(1), LATER);
            assert_eq!(w.stop(), 1);
            first
        });
        runner.join().unwrap();
        assert_eq!(w.starts(), usize::from(first == 0));
        assert_eq!(w.pending(), 0);
        w.settle();
    });
}

/// CINV-16, -20: after an asynchronous drain under the lock, lock and object
/// are the function's.
/// SHOWS: CINV-20, DEV-4
#[test]
fn an_asynchronous_drain_under_the_lock() {
    unsafe extern "C" fn free(w: *mut c_void) {
        let w = unsafe { &*w.cast::<World>() };
        w.drained.fetch_add(1, Relaxed);
        w.free();
        w.lock.dead.store(1, Relaxed);
    }
    explore("an_asynchronous_drain_under_the_lock", None, || {
        let w = World::locked(1, idle, 0);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        // The owner leaves the lock before the function comes.
        let mut before = 0;
        let rc = w.under_lock(|| {
            before = w.starts();
            w.async_drain(free)
        });
        runner.join().unwrap();
        assert_eq!(w.starts(), before, "the handler was prevented or had run");
        assert_eq!(w.drained.load(Relaxed), (rc == 0) as usize);
        assert_eq!(w.pending(), 0);
        w.settle();
    });
}

/// CINV-14, -16: a drain licenses destroying the lock.
/// SHOWS: CINV-14, CINV-16
#[test]
fn a_drain_outlives_the_lock() {
    explore("a_drain_outlives_the_lock", None, || {
        let w = World::locked(1, idle, 0);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.drain(MAIN);
        w.lock.dead.store(1, Relaxed);
        w.free();
        runner.join().unwrap();
        assert_eq!(w.starts(), usize::from(rc != 1));
        w.settle();
    });
}

/// A stop under the lock, then a drain without it, while softclock waits for
/// the lock: the handler of a stopped callout does not run.
/// SHOWS: CINV-11
#[test]
fn a_stop_and_a_drain() {
    explore("a_stop_and_a_drain", Some(5), || {
        let w = World::locked(1, idle, 0);
        w.reset(None, 1);
        let runner = spawn(&w, |w| w.softclock(0, ONE));
        let rc = w.under_lock(|| w.stop());
        assert_eq!(w.drain(MAIN), -1);
        w.lock.dead.store(1, Relaxed);
        w.free();
        runner.join().unwrap();
        assert_eq!(w.starts(), usize::from(rc != 1));
        w.settle();
    });
}

/// CINV-9, -12 (M-31): with CALLOUT_TRYLOCK a stop under the lock licenses
/// destroying lock and object.
/// SHOWS: CINV-16
#[test]
fn a_stop_of_a_trylock_callout() {
    explore("a_stop_of_a_trylock_callout", None, || {
        let w = World::locked(1, idle, CALLOUT_TRYLOCK);
        w.reset(None, 1);
        let runner = spawn(&w, |w| {
            w.softclock(0, ONE);
            w.clock.store(SOON, Relaxed);
            w.softclock(0, ONE);
        });
        let rc = w.under_lock(|| w.stop());
        assert_eq!(rc, if w.starts() == 0 { 1 } else { -1 });
        w.lock.dead.store(1, Relaxed);
        w.free();
        runner.join().unwrap();
        w.settle();
    });
}

// --- cpus that come and go ---------------------------------------------------

/// CINV-29: a cpu closes while its callout is moved and stopped.
/// SHOWS: CINV-29
#[test]
fn a_cpu_closes_under_a_move() {
    explore("a_cpu_closes_under_a_move", Some(3), || {
        let w = World::new(2, idle);
        w.reset(Some(0), LATER);
        let leaver = spawn(&w, |w| {
            let set = w.all.leave(1);
            w.wake(set);
        });
        let mover = spawn(&w, |w| {
            w.reset(Some(1), LATER);
        });
        assert_eq!(w.stop(), 1);
        leaver.join().unwrap();
        mover.join().unwrap();
        assert_eq!(w.all.report(1).pending, 0, "a closed cpu holds nothing");
        assert_eq!(w.pending(), usize::from(w.c().is_pending()));
        w.settle();
    });
}

/// CINV-29: a cpu closes while the handler, run there by another thread,
/// re-arms itself.
/// SHOWS: CINV-1, CINV-29
#[test]
fn a_cpu_closes_under_its_handler() {
    fn again(w: &World, run: usize) {
        if run == 0 {
            w.reset(None, LATER);
        }
    }
    explore("a_cpu_closes_under_its_handler", None, || {
        let w = World::new(2, again);
        w.reset(Some(1), 1);
        let leaver = spawn(&w, |w| {
            let set = w.all.leave(1);
            w.wake(set);
        });
        w.softclock(1, MAIN);
        leaver.join().unwrap();
        assert_eq!(w.all.report(1).pending, 0, "a closed cpu holds nothing");
        assert_eq!(w.pending(), 1);
        w.settle();
    });
}

/// CINV-29: the last cpu closes while another opens and a callout is armed.
/// SHOWS: CINV-29
#[test]
fn cpus_come_and_go() {
    explore("cpus_come_and_go", Some(3), || {
        let w = World::new(2, idle);
        let _ = w.all.leave(1);
        let leaver = spawn(&w, |w| {
            let set = w.all.leave(0).and(w.all.enter(1, 0));
            w.wake(set);
        });
        let armer = spawn(&w, |w| {
            w.reset(Some(1), 1);
        });
        leaver.join().unwrap();
        armer.join().unwrap();
        assert_eq!(w.all.report(0).pending, 0, "a closed cpu holds nothing");
        assert_eq!(w.pending(), 1);
        w.settle();
    });
}

// --- sleep -------------------------------------------------------------------

/// CINV-26, -27 (M-28, K-4): who arms an earlier date wakes the sleeper, or the
/// sleeper sees it.
/// SHOWS: CINV-27
#[test]
fn an_earlier_date_wakes_the_sleeper() {
    explore("an_earlier_date_wakes_the_sleeper", None, || {
        let w = World::new(1, idle);
        let sleeper = Arc::new(Sleeper::new());
        let signal = Arc::new(Count::new(0));
        let (s, sig) = (sleeper.clone(), signal.clone());
        let armer = spawn(&w, move |w| {
            w.reset(None, SOON);
            if w.woken.swap(0, Relaxed) != 0 && s.wake_if_asleep() == Wake::Signal {
                sig.fetch_add(1, Relaxed);
            }
        });
        model_point();
        let mut until = None;
        if sleeper.announce() {
            until = Some(w.all.next(0));
        }
        armer.join().unwrap();
        if let Some(until) = until {
            let in_time = until.is_some_and(|t| t <= SOON);
            assert!(
                in_time || signal.load(Relaxed) == 1,
                "sleeps until {until:?}"
            );
        }
        w.settle();
        assert_eq!(w.starts(), 1);
    });
}

/// The same where something else was armed, and is taken back meanwhile.
/// SHOWS: CINV-26, CINV-27
#[test]
fn a_sleeper_whose_date_is_taken_back() {
    explore("a_sleeper_whose_date_is_taken_back", None, || {
        let w = World::new(1, idle);
        w.reset(None, LATER);
        w.woken.store(0, Relaxed);
        let sleeper = Arc::new(Sleeper::new());
        let signal = Arc::new(Count::new(0));
        let (s, sig) = (sleeper.clone(), signal.clone());
        let armer = spawn(&w, move |w| {
            w.stop();
            w.reset(None, SOON);
            if w.woken.swap(0, Relaxed) != 0 && s.wake_if_asleep() == Wake::Signal {
                sig.fetch_add(1, Relaxed);
            }
        });
        // A loop's turn: a pass, then sleep.
        w.softclock(0, MAIN);
        model_point();
        let mut until = None;
        if sleeper.announce() {
            until = Some(w.all.next(0));
        }
        armer.join().unwrap();
        if let Some(until) = until {
            let in_time = until.is_some_and(|t| t <= SOON);
            assert!(
                in_time || signal.load(Relaxed) == 1,
                "sleeps until {until:?}"
            );
        }
        w.settle();
    });
}
