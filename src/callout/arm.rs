//! Arming: reset, schedule, and what a mover does on the new cpu.

use super::arming::Arming;
use super::callouts::{Callouts, Held};
use super::cpu::Cpu;
use super::item::{Call, Callout, Queue};
use super::pause::{self, Point};
use super::slot::{Deferral, Stage};
use crate::sync::ThreadSet;

/// What `reset` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// When.
    pub arming: Arming,
    /// What to call; none: what was called before.
    pub call: Option<Call>,
    /// On which cpu; none: where the callout is.
    pub cpu: Option<usize>,
    /// The granule of the clock, where it was read.
    pub now: Option<u64>,
}

impl Callouts {
    /// Arms `c`: 1 if that replaced an arming whose handler had not started, 0
    /// if there was none or a drain is under way, which refuses it; and whom
    /// to wake.
    ///
    /// # Safety
    /// `c` was initialised and lives on; the same below.
    #[inline(always)]
    pub unsafe fn reset(&self, c: &Callout, reset: Reset) -> (i32, ThreadSet) {
        c.check_live("callout_reset");
        let mut held = self.hold(c);
        let running = held.state.slot.names(c);
        let mut replaced = false;
        if c.is_shut() {
            return (0, ThreadSet::EMPTY);
        }
        if running {
            if held.cpu.phase.stage() == Stage::Lockwait {
                replaced = held.cpu.phase.cancel();
                held.state.counts.removed += u64::from(replaced);
            }
            if held.state.slot.is_draining() {
                // KEEPS: CINV-17, CINV-22
                // Refused, and no field touched (CINV-22).
                return (i32::from(replaced), ThreadSet::EMPTY);
            }
        }
        // SAFETY: the lock is held.
        unsafe {
            // KEEPS: DEV-9
            match reset.call {
                Some(call) => c.set_call(call),
                None if c.call().func.is_some() => (),
                None => {
                    // The panic hook may want the lock.
                    drop(held);
                    panic!("callout_schedule: the callout was never reset");
                }
            }
        }
        replaced |= held.unqueue(c);
        c.activate();
        held.state.counts.armed += 1;
        let arming = reset.arming;
        let target = self.usable(reset.cpu.unwrap_or(held.index));
        let wake = if target == held.index {
            // An idle wheel's date is old: what is filed from there is filed too
            // coarsely (L-6).
            if let Some(now) = reset.now.filter(|_| held.state.wheel.is_empty()) {
                held.state.wheel.reset(now);
            }
            held.file(c, arming)
        } else if running {
            // KEEPS: CINV-1, CINV-8
            // It moves when its handler has returned (seed, problem 2).
            held.state.slot.deferral = Some(Deferral {
                cpu: target,
                arming,
            });
            c.set_queue(Queue::Deferred);
            ThreadSet::EMPTY
        } else {
            let leaving = held.part_with(c);
            self.settle(leaving, target, arming, reset.now)
        };
        (i32::from(replaced), wake)
    }

    /// The second half of a move: files `c`, which is nobody's, on `cpu`, or
    /// on the default cpu if that is closed (seed, problem 1).
    #[inline(never)]
    pub(super) fn settle(
        &self,
        Leaving { c, from }: Leaving,
        mut cpu: usize,
        arming: Arming,
        now: Option<u64>,
    ) -> ThreadSet {
        loop {
            cpu = self.usable(cpu);
            let mut held = Held::of(self, cpu);
            if !self.takes(&held) {
                // Closed since we looked.
                continue;
            }
            c.home.arrive(cpu);
            from.moved();
            held.state.counts.arrived += 1;
            if let Some(now) = now.filter(|_| held.state.wheel.is_empty()) {
                held.state.wheel.reset(now);
            }
            return held.file(c, arming);
        }
    }
}

/// A callout between two cpus, and the one that it left.
#[must_use]
pub(super) struct Leaving<'a> {
    c: &'a Callout,
    from: &'a Cpu,
}

impl<'a> Held<'a> {
    /// The first half of a move: `c`, which is on no list and named by no slot,
    /// becomes nobody's, and the lock is free.
    // KEEPS: CINV-3, CINV-4, CINV-6
    pub(super) fn part_with<'b>(self, c: &'b Callout) -> Leaving<'b>
    where
        'a: 'b,
    {
        self.cpu.moves();
        c.home.leave();
        let from = self.cpu;
        drop(self);
        pause::at(Point::BetweenLocks, c);
        Leaving { c, from }
    }
}

impl Held<'_> {
    /// Files `c` here: whom to wake.
    #[inline(always)]
    fn file(&mut self, c: &Callout, arming: Arming) -> ThreadSet {
        if self.cpu.file(&mut self.state, c, arming) {
            ThreadSet::one(self.index)
        } else {
            ThreadSet::EMPTY
        }
    }

    /// Takes `c` from where it waits for its date: whether it did.
    // KEEPS: CINV-2, CINV-19, CINV-23
    #[inline(always)]
    pub(super) fn unqueue(&mut self, c: &Callout) -> bool {
        match c.queue() {
            Queue::Nowhere => return false,
            Queue::Wheel => self.cpu.unfile(&mut self.state, c),
            Queue::Deferred => {
                // Both marks, or softclock reads one in freed memory (CINV-23).
                self.state.slot.deferral = None;
                c.set_queue(Queue::Nowhere);
            }
        }
        self.state.counts.removed += 1;
        true
    }
}
