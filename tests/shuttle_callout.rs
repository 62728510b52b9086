//! Callouts that eight threads arm, stop, drain and free on four cpus, each of
//! which one of them serves, while handlers re-arm themselves for other cpus.
//!
//! Counters are core's: they add no interleavings and order nothing. A handler
//! that fails ends the program, since it is `extern "C"`.
#![cfg(shuttle)]
#![allow(clippy::undocumented_unsafe_blocks)] // the cells check every access

#[path = "common/shuttle.rs"]
mod common;

use common::{THREADS, any, explore, together};
use core::sync::atomic::{AtomicBool as Flag, AtomicU64, AtomicUsize as Count, Ordering::Relaxed};
use keel::callout::time::{Window, to_ns};
use keel::callout::{Arming, Call, Callout, Callouts, Drain, Env, Lock, LockOps, Reset};
use keel::sync::atomic::AtomicBool;
use keel::sync::{ThreadSet, UnsafeCell, spin_hint};
use shuttle::sync::RwLock;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::Arc;

const CPUS: usize = 4;
const OBJECTS: usize = 3;
const FREED: u32 = 1000;

/// Granules: due at once, while the threads are there, and when they are gone.
const DUE: u64 = 1;
const NOW: u64 = 10;
const SOON: u64 = 20;
const LATER: u64 = 100;

/// A caller's lock, and whether it may still be touched.
struct Guarded {
    held: AtomicBool,
    dead: Flag,
}

unsafe extern "C" fn lock(l: *mut c_void) {
    while unsafe { try_lock(l) } == 0 {
        spin_hint();
    }
}

unsafe extern "C" fn try_lock(l: *mut c_void) -> c_int {
    let l = unsafe { &*l.cast::<Guarded>() };
    assert!(!l.dead.load(Relaxed), "a dead lock is taken");
    c_int::from(!l.held.swap(true, Relaxed))
}

unsafe extern "C" fn unlock(l: *mut c_void) {
    let l = unsafe { &*l.cast::<Guarded>() };
    assert!(!l.dead.load(Relaxed), "a dead lock is freed");
    assert!(l.held.swap(false, Relaxed), "freed twice");
}

static OPS: LockOps = LockOps {
    lock: Some(lock),
    unlock: Some(unlock),
    trylock: Some(try_lock),
    owned: None,
};

/// A thread as the engine knows it: not 0.
fn name(me: usize) -> usize {
    me + 1
}

/// What has a callout in it, and what the handler works on.
struct Object {
    world: *const World,
    c: core::cell::UnsafeCell<ManuallyDrop<Callout>>,
    /// What is left of `c` once it is freed: a callout that was moved here.
    wreck: ManuallyDrop<Callout>,
    lock: Guarded,
    /// The last one has a lock that its handler runs under.
    locked: bool,
    body: UnsafeCell<u32>,
    /// Whoever arms or stops it reads that it is open; who ends it closes it.
    open: RwLock<bool>,
    starts: Count,
    ended: Count,
}

struct World {
    all: Callouts,
    objects: Vec<Object>,
    starts: Count,
    clock: AtomicU64,
}

unsafe impl Send for World {}
unsafe impl Sync for World {}

impl Env for World {
    fn now(&self) -> u64 {
        to_ns(self.clock.load(Relaxed))
    }
    fn wake(&self, _: ThreadSet) {}
    fn warn(&self, message: core::fmt::Arguments) {
        panic!("{message}");
    }
}

unsafe extern "C" fn handler(o: *mut c_void) {
    let o = unsafe { &*o.cast::<Object>() };
    o.starts.fetch_add(1, Relaxed);
    o.world().starts.fetch_add(1, Relaxed);
    o.touch();
    if o.world().clock.load(Relaxed) < LATER && any(2) == 0 {
        o.reset(Some(any(CPUS)), [DUE, SOON][any(2)]);
    }
    o.touch();
}

unsafe extern "C" fn drained(o: *mut c_void) {
    unsafe { &*o.cast::<Object>() }.free();
}

impl Object {
    fn new(n: usize) -> Self {
        Self {
            world: core::ptr::null(),
            c: core::cell::UnsafeCell::new(ManuallyDrop::new(Callout::new(Lock::NONE, 0))),
            wreck: ManuallyDrop::new(Callout::new(Lock::NONE, 0)),
            lock: Guarded {
                held: AtomicBool::new(false),
                dead: Flag::new(false),
            },
            locked: n + 1 == OBJECTS,
            body: UnsafeCell::new(0),
            open: RwLock::new(true),
            starts: Count::new(0),
            ended: Count::new(0),
        }
    }

    fn world(&self) -> &World {
        unsafe { &*self.world }
    }

    fn c(&self) -> &Callout {
        unsafe { &*self.c.get() }
    }

    fn this(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    fn touch(&self) {
        self.body.with_mut(|b| unsafe {
            assert!(*b < FREED, "freed under its handler");
            *b += 1;
        });
    }

    /// The owner frees it, its callout and its lock.
    fn free(&self) {
        self.ended.fetch_add(1, Relaxed);
        self.body.with_mut(|b| unsafe {
            assert!(*b < FREED, "freed twice");
            *b = FREED;
        });
        unsafe { core::ptr::copy_nonoverlapping(&self.wreck, self.c.get(), 1) };
    }

    fn reset(&self, cpu: Option<usize>, time: u64) -> i32 {
        let reset = Reset {
            arming: Arming {
                window: Window { time, window: 0 },
                direct: false,
            },
            call: Some(Call {
                func: Some(handler),
                arg: self.this(),
            }),
            cpu,
            now: None,
        };
        unsafe { self.world().all.reset(self.c(), reset).0 }
    }

    fn under_lock<R>(&self, f: impl FnOnce() -> R) -> R {
        let l = (&raw const self.lock).cast_mut().cast();
        unsafe { lock(l) };
        let r = f();
        unsafe { unlock(l) };
        r
    }

    /// Under its lock a stop is certain: what it prevented does not begin, and
    /// what it did not is over.
    fn stop(&self) {
        let all = &self.world().all;
        if !self.locked {
            let rc = unsafe { all.stop(self.c()) };
            assert!((-1..=1).contains(&rc));
            return;
        }
        self.under_lock(|| {
            let before = self.starts.load(Relaxed);
            let rc = unsafe { all.stop(self.c()) };
            assert_ne!(rc, 0, "its handler runs without its lock");
            self.touch();
            assert_eq!(self.starts.load(Relaxed), before);
        });
    }

    /// Nobody arms it any more but its handler; who is told that it is over
    /// frees it.
    fn end(&self, me: usize) {
        if !std::mem::take(&mut *self.open.write().unwrap()) {
            return;
        }
        let all = &self.world().all;
        if !self.locked && any(2) == 0 {
            if unsafe { all.async_drain(self.c(), drained) } != 0 {
                self.free();
            }
            return;
        }
        if let Drain::Wait(waiting) = unsafe { all.drain(self.c(), false, name(me)) } {
            waiting.wait(|_| ());
        }
        self.lock.dead.store(true, Relaxed);
        self.free();
    }
}

impl World {
    fn new() -> Arc<Self> {
        let mut w = Arc::new(Self {
            all: Callouts::new(CPUS, 1000, 0).unwrap(),
            objects: (0..OBJECTS).map(Object::new).collect(),
            starts: Count::new(0),
            clock: AtomicU64::new(NOW),
        });
        let world = Arc::as_ptr(&w);
        for o in &mut Arc::get_mut(&mut w).unwrap().objects {
            o.world = world;
            unsafe {
                let lock = match o.locked {
                    true => Lock::new(&OPS, (&raw const o.lock).cast_mut().cast()),
                    false => Lock::NONE,
                };
                Callout::init(o.c.get().cast(), lock, 0);
                Callout::init((&raw const o.wreck).cast_mut().cast(), Lock::NONE, 0);
            }
        }
        for cpu in 0..CPUS {
            let _ = w.all.enter(cpu, 0);
        }
        w
    }

    fn softclock(&self, cpu: usize, me: usize) {
        unsafe { self.all.softclock(cpu, name(me), self) };
    }

    fn live(&self, me: usize) {
        for _ in 0..6 {
            let o = &self.objects[any(OBJECTS)];
            match any(12) {
                0..=4 if me < CPUS => self.softclock(me, me),
                0..=6 => {
                    let open = o.open.read().unwrap();
                    if *open {
                        o.reset([None, Some(any(CPUS))][any(2)], [DUE, SOON][any(2)]);
                    }
                }
                7..=9 => {
                    let open = o.open.read().unwrap();
                    if *open {
                        o.stop();
                    }
                }
                10 => self.clock.store(SOON, Relaxed),
                _ => o.end(me),
            }
        }
    }

    /// Every arming ended once, or is pending and runs now (CINV-19).
    fn check(&self) {
        let pending = self.balance();
        let before = self.starts.load(Relaxed);
        self.clock.store(LATER, Relaxed);
        (0..CPUS).for_each(|cpu| self.softclock(cpu, cpu));
        assert_eq!(self.starts.load(Relaxed), before + pending);
        assert_eq!(self.balance(), 0);
        for o in &self.objects {
            let open = *o.open.read().unwrap();
            assert_eq!(o.ended.load(Relaxed), usize::from(!open));
        }
    }

    fn balance(&self) -> usize {
        let (mut armed, mut ended, mut started, mut pending) = (0, 0, 0, 0);
        for cpu in 0..CPUS {
            let r = self.all.report(cpu);
            assert!(!r.executing && !r.running);
            armed += r.counts.armed;
            started += r.counts.started;
            ended += r.counts.started + r.counts.removed;
            pending += r.pending;
        }
        assert_eq!(started as usize, self.starts.load(Relaxed));
        assert_eq!(armed, ended + pending as u64, "an arming ends once");
        pending
    }
}

/// SHOWS: CINV-2, CINV-4, CINV-8, CINV-11, CINV-16, CINV-17, CINV-18, CINV-19, CINV-20, L-1, L-3
#[test]
fn armings_end_once_and_nothing_runs_after_a_drain() {
    const { assert!(THREADS > CPUS) };
    explore(|| {
        let w = World::new();
        together(&w, World::live);
        w.check();
    });
}
