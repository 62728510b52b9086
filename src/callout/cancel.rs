//! Stopping, draining, shutting down.

use super::callouts::Callouts;
use super::cpu::Cpu;
use super::item::{Callout, Func};
use super::pause::{self, Point};
use super::slot::{Last, Stage};
use crate::sync::atomic::Ordering;

/// What a drain has to do yet.
#[derive(Debug)]
#[must_use]
pub enum Drain<'a> {
    /// Nothing: the answer.
    Done(i32),
    /// Wait for the end of an execution.
    Wait(Waiting<'a>),
}

/// A drain's wait. It looks at nothing of the callout, which may be freed
/// meanwhile by its own handler.
#[derive(Debug)]
pub struct Waiting<'a> {
    cpu: &'a Cpu,
    generation: u32,
    callout: *const Callout,
    /// What the drain answers afterwards.
    pub answer: i32,
    /// The cpu that executes.
    pub index: usize,
    /// What it executes.
    pub last: Option<Last>,
}

const REMOVED: i32 = 1;
const EXECUTING: i32 = 0;
const NOTHING: i32 = -1;

const fn answer(removed: bool) -> i32 {
    if removed { REMOVED } else { NOTHING }
}

impl Callouts {
    /// Takes back what has not started: 1 if there was something and nothing
    /// executes, 0 if the handler executes, -1 if there was nothing.
    ///
    /// # Safety
    /// As `reset`, here and below.
    // KEEPS: CINV-19, DEV-2
    pub unsafe fn stop(&self, c: &Callout) -> i32 {
        c.check_live("callout_stop");
        // SAFETY: the caller holds the lock, so it exists.
        if unsafe { c.is_owned() } == Some(false) {
            panic!("callout_stop: the associated lock of callout {c:p} is not held");
        }
        let mut held = self.hold(c);
        c.deactivate();
        let mut removed = held.unqueue(c);
        if held.state.slot.names(c) {
            let cancelled = held.cpu.phase.cancel();
            held.state.counts.removed += u64::from(cancelled);
            removed |= cancelled;
            if held.cpu.phase.stage() == Stage::Running {
                return EXECUTING;
            }
        }
        answer(removed)
    }

    /// As [`stop`](Self::stop), but where an execution is in the slot `drained`
    /// will be called at its end: that is answer 0.
    ///
    /// # Safety
    /// As `reset`; `drained` takes the argument of that execution.
    // KEEPS: CINV-20, DEV-4, DEV-7
    pub unsafe fn async_drain(&self, c: &Callout, drained: Func) -> i32 {
        c.check_live("callout_async_drain");
        // SAFETY: the caller holds the lock, so it exists.
        if unsafe { c.is_owned() } == Some(false) {
            panic!("callout_async_drain: the associated lock of callout {c:p} is not held");
        }
        let mut held = self.hold(c);
        c.deactivate();
        let removed = held.unqueue(c);
        if !held.state.slot.names(c) {
            return answer(removed);
        }
        let cancelled = held.cpu.phase.cancel();
        held.state.counts.removed += u64::from(cancelled);
        match held.state.slot.drained {
            None => held.state.slot.drained = Some(drained),
            Some(other) if other as usize == drained as usize => (),
            Some(_) => {
                // The panic hook may want the lock.
                drop(held);
                panic!(
                    "callout_async_drain: callout {c:p} is being drained already, by another function"
                );
            }
        }
        EXECUTING
    }

    /// Takes back what has not started and refuses what comes, until the
    /// execution in the slot has ended; `shut`: for ever. `me` is the calling
    /// thread's identity.
    ///
    /// # Safety
    /// As `reset`.
    // KEEPS: CINV-16, CINV-17, CINV-18
    pub unsafe fn drain(&self, c: &Callout, shut: bool, me: usize) -> Drain<'_> {
        c.check_live("callout_drain");
        // KEEPS: CINV-6
        // Asked first: no code of the caller's runs under a cpu's lock (CINV-6).
        // SAFETY: the lock lives until this drain has returned.
        let owned = unsafe { c.is_owned() };
        let mut held = self.hold(c);
        if shut {
            c.shut();
        }
        let executes = held.state.slot.names(c);
        if executes {
            // The caller is about to free memory: not waiting is no answer.
            // KEEPS: DEV-6
            if let Some(inside) = self.inside(me) {
                let cpu = held.index;
                // The panic hook may want the lock, here and below.
                drop(held);
                panic!(
                    "callout_drain: callout {c:p} is executed by cpu {cpu}, and the calling thread is inside {inside}"
                );
            }
            if owned == Some(true) {
                drop(held);
                panic!(
                    "callout_drain: the handler of callout {c:p} wants the lock that the calling thread holds"
                );
            }
        }
        c.deactivate();
        // KEEPS: DEV-5
        // Before the sleep, so that one execution is the longest wait (M-34).
        let answer = answer(held.unqueue(c));
        if !executes {
            return Drain::Done(answer);
        }
        held.state.slot.sleepers += 1;
        Drain::Wait(Waiting {
            cpu: held.cpu,
            generation: held.cpu.generation.load(Ordering::Relaxed),
            callout: c,
            answer,
            index: held.index,
            last: held.cpu.trace.last(),
        })
    }
}

impl Waiting<'_> {
    /// The callout's address.
    pub fn callout(&self) -> usize {
        self.callout as usize
    }

    #[inline]
    fn is_over(&self) -> bool {
        // PAIRS: softclock's Release store: this thread sees what the handler
        // did (L-3).
        self.cpu.generation.load(Ordering::Acquire) != self.generation
    }

    /// Sleeps until the execution has ended; `report` is called with the
    /// seconds gone, 1, 2, 4 and so on.
    pub fn wait(&self, report: impl Fn(u64)) {
        pause::at(Point::DrainBeforeSleep, self.callout);
        #[cfg(model)]
        {
            let _ = report;
            while !self.is_over() {
                crate::sync::spin_hint();
            }
        }
        #[cfg(not(model))]
        {
            use crate::sys::{clock, futex};
            const SECOND: u64 = 1_000_000_000;
            let begin = clock::monotonic_ns();
            let mut due = 1;
            while !self.is_over() {
                let gone = clock::monotonic_ns() - begin;
                if gone >= due * SECOND {
                    report(gone / SECOND);
                    due *= 2;
                    continue;
                }
                futex::wait_for(&self.cpu.generation, self.generation, due * SECOND - gone);
            }
        }
        pause::at(Point::DrainWoken, self.callout);
    }
}
