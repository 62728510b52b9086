//! Running what is due: one pass, one execution, its completion.

use super::arming::Arming;
use super::callouts::{Callouts, Held};
use super::cpu::{Cpu, NEVER, NOBODY, State};
use super::item::{CALLOUT_RETURNUNLOCKED, CALLOUT_TRYLOCK, Callout, Queue};
use super::pause::{self, Point};
use super::slot::Claim;
use super::time::{Window, from_ns, granule};
use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, ThreadSet};
use core::fmt;

/// Nodes filed again, and slots visited, per pass.
const BUDGET: usize = 256;
/// Handlers that take longer are named, ns.
const SLOW: u64 = 2_000_000;
/// How often the same one is named, ns.
const QUIET: u64 = 1_000_000_000;

/// What softclock needs of its caller.
pub trait Env {
    /// CLOCK_MONOTONIC, ns.
    fn now(&self) -> u64;
    /// Wakes those that sleep.
    fn wake(&self, set: ThreadSet);
    /// A warning for whoever runs the server.
    fn warn(&self, message: fmt::Arguments);
}

impl Callouts {
    /// Runs what is due on `cpu`, unless another thread is doing so. `me` is the
    /// calling thread's identity.
    ///
    /// # Safety
    /// What is pending was armed by the rules of `reset`.
    #[inline]
    pub unsafe fn softclock(&self, cpu: usize, me: usize, env: &impl Env) {
        let rec = &self.cpus()[cpu];
        // KEEPS: CINV-30
        // Only this thread can have written its own identity there.
        if rec.runner.load(Ordering::Relaxed) == me {
            Inside(self, me).refuse(cpu);
        }
        env.wake(self.gather());
        if rec.next() != NEVER {
            // SAFETY: by this function's contract.
            unsafe { self.run_due(cpu, me, env) };
        }
    }

    unsafe fn run_due(&self, cpu: usize, me: usize, env: &impl Env) {
        let rec = &self.cpus()[cpu];
        let mut clock = env.now();
        let mut state = rec.lock();
        if rec.runner.load(Ordering::Relaxed) != NOBODY {
            return;
        }
        // At every call, due or not: dates are filed relative to the scan.
        rec.scan(&mut state, granule(from_ns(clock)), BUDGET);
        if rec.next() > state.wheel.now() {
            return;
        }
        rec.runner.store(me, Ordering::Relaxed);
        while let Some(c) = rec.pop_due(&mut state) {
            let pass = Pass {
                all: self,
                rec,
                cpu,
                env,
            };
            // SAFETY: by this function's contract.
            state = unsafe { pass.execute(state, c, &mut clock) };
        }
        rec.runner.store(NOBODY, Ordering::Relaxed);
        rec.publish(&mut state);
    }
}

struct Inside<'a>(&'a Callouts, usize);

impl Inside<'_> {
    #[cold]
    fn refuse(&self, cpu: usize) -> ! {
        panic!("softclock: cpu {cpu} is inside a handler, or one was left by a jump: {self}");
    }
}

impl fmt::Display for Inside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.inside(self.1) {
            Some(last) => last.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

struct Pass<'a, E> {
    all: &'a Callouts,
    rec: &'a Cpu,
    cpu: usize,
    env: &'a E,
}

impl<'a, E: Env> Pass<'a, E> {
    // Executes `c`, which was just taken off the wheel. From the moment that
    // the lock is dropped it may be gone: only copies are used (CINV-12).
    // KEEPS: CINV-12
    unsafe fn execute(
        &self,
        mut state: MutexGuard<'a, State>,
        c: &Callout,
        clock: &mut u64,
    ) -> MutexGuard<'a, State> {
        let rec = self.rec;
        let (lock, flags) = (c.lock, c.flags);
        // SAFETY: the lock is held.
        let call = unsafe { c.call() };
        let Some(func) = call.func else {
            panic!("softclock: callout {c:p} is pending without a handler");
        };
        let tries = lock.is_some() && flags & CALLOUT_TRYLOCK != 0;
        // SAFETY: the callout is pending, so its lock exists. A lock that is
        // tried is never waited for, so this is no wait under the cpu's lock.
        if tries && !unsafe { lock.try_acquire() } {
            self.retry(&mut state, c);
            return state;
        }
        c.set_queue(Queue::Nowhere);
        let waits = lock.is_some() && !tries;
        state.slot.occupy(c, self.cpu);
        rec.phase.begin(waits);
        rec.trace.note(c, func, call.arg);
        drop(state);
        pause::at(Point::Dequeued, c);

        let mut claim = Claim::Run;
        if waits {
            pause::at(Point::Lockwait, c);
            // SAFETY: nobody may destroy the lock before this execution has
            // ended, which only a drain can tell.
            unsafe { lock.acquire() };
            claim = rec.phase.claim();
            *clock = self.env.now();
        }
        if claim == Claim::Run {
            pause::at(Point::HandlerEnter, c);
            // SAFETY: the caller's function and argument.
            unsafe { func(call.arg) };
            pause::at(Point::HandlerExit, c);
        }
        let begin = core::mem::replace(clock, self.env.now());
        // KEEPS: CINV-14
        if lock.is_some() && (claim == Claim::Skip || flags & CALLOUT_RETURNUNLOCKED == 0) {
            if claim == Claim::Run {
                rec.phase.finish();
            }
            // SAFETY: this thread took it, and it must outlive the handler.
            unsafe { lock.release() };
        }
        pause::at(Point::Unlocked, c);

        let mut state = rec.lock();
        state.counts.started += u64::from(claim == Claim::Run);
        let took = clock.saturating_sub(begin);
        if took > SLOW && claim == Claim::Run {
            state.counts.slow += 1;
            let (named, at) = state.named;
            if named != func as usize || clock.saturating_sub(at) > QUIET {
                state.named = (func as usize, *clock);
                drop(state);
                self.env.warn(format_args!(
                    "callout: handler {:#x}({:#x}) took {} us on cpu {}",
                    func as usize,
                    call.arg as usize,
                    took / 1000,
                    self.cpu
                ));
                state = rec.lock();
            }
        }
        self.complete(state, c, call.arg)
    }

    // The end of an execution, in the order of CINV-15. `c` is a name until a
    // deferral says that it exists (CINV-13).
    // KEEPS: CINV-13, CINV-15, CINV-16, CINV-18
    fn complete(
        &self,
        mut state: MutexGuard<'a, State>,
        c: *const Callout,
        arg: *mut core::ffi::c_void,
    ) -> MutexGuard<'a, State> {
        let rec = self.rec;
        rec.phase.end();
        state.slot.cur = core::ptr::null();
        if let Some(drained) = state.slot.drained.take() {
            drop(state);
            // SAFETY: async_drain's caller wrote it for this argument.
            unsafe { drained(arg) };
            state = rec.lock();
        }
        if state.slot.sleepers > 0 {
            state.slot.sleepers = 0;
            state.slot.deferral = None;
            // PAIRS: Waiting::is_over's Acquire; under the lock, so that a
            // drain which finds the slot vacated sees as much (L-3).
            rec.generation.fetch_add(1, Ordering::Release);
            #[cfg(not(model))]
            {
                drop(state);
                crate::sys::futex::wake_all(&rec.generation);
                state = rec.lock();
            }
        } else if let Some(deferral) = state.slot.deferral.take() {
            // SAFETY: it is armed, so its owner keeps it; stopping it would
            // have taken the deferral away.
            let c = unsafe { &*c };
            // Pending all the way: whoever holds its lock may look.
            let held = Held {
                index: self.cpu,
                cpu: rec,
                state,
            };
            let leaving = held.part_with(c);
            let wake = self
                .all
                .settle(leaving, deferral.cpu, deferral.arming, None);
            self.env.wake(wake);
            state = rec.lock();
        }
        state
    }

    // The associated lock is taken: files `c` again, half its tolerance later,
    // at least one granule, so that a long holder is not spun at (M-35).
    fn retry(&self, state: &mut State, c: &Callout) {
        state.counts.retried += 1;
        // SAFETY: the lock is held, and nobody has touched the node since it
        // came off the wheel.
        let was = unsafe { Arming::of(c.node()) };
        // The window is half the precision; the next one is half as long.
        let half = was.window.window;
        let arming = Arming {
            window: Window {
                time: state.wheel.now() + u64::from(half.max(1)),
                window: half / 2,
            },
            direct: was.direct,
        };
        let _ = self.rec.file(state, c, arming);
    }
}
