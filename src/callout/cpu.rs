//! One callout cpu: its lock, its wheel, its slot.

use super::arming::{Arming, DIRECT};
use super::item::{Callout, Queue};
use super::pause::{self, Point};
use super::slot::{Phase, Slot, Trace};
use super::time::Window;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::wheel::Wheel;

/// No date.
pub(super) const NEVER: u64 = u64::MAX;
/// Nobody runs a pass.
pub(super) const NOBODY: usize = 0;

/// What happened on a cpu since `init`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Armings accepted.
    pub armed: u64,
    /// Handlers called.
    pub started: u64,
    /// Armings removed before their handler was called.
    pub removed: u64,
    /// Callouts that came from another cpu.
    pub arrived: u64,
    /// Times a TRYLOCK callout found its lock taken.
    pub retried: u64,
    /// Handlers that took too long.
    pub slow: u64,
}

/// What the lock protects.
// KEEPS: CINV-5
#[derive(Debug)]
pub(super) struct State {
    pub wheel: Wheel,
    pub slot: Slot,
    /// A thread is registered under this number.
    pub open: bool,
    /// Nodes in the wheel with the tag [`DIRECT`].
    direct: usize,
    pub counts: Counts,
    /// The slow handler named last, and when, ns.
    pub named: (usize, u64),
}

/// One callout cpu. The records live from `init` to `deinit`, whoever comes
/// and goes under their number (CINV-29).
#[derive(Debug)]
#[repr(align(128))]
pub struct Cpu {
    state: Mutex<State>,
    /// In granules: not after the first date at which a pass has something to
    /// do. Lowered by whoever arms, made exact by softclock and before sleep.
    next: AtomicU64,
    pub(super) phase: Phase,
    /// Counts executions that drains waited for; they sleep on it (CINV-18).
    pub(super) generation: AtomicU32,
    /// Callouts that have left and not arrived yet; only fork() asks.
    moving: AtomicU32,
    /// Who runs a pass: a thread's identity.
    pub(super) runner: AtomicUsize,
    pub(super) trace: Trace,
}

impl Cpu {
    /// A cpu that nobody has entered, at `now`.
    pub fn new(now: u64) -> Self {
        Self {
            state: Mutex::new(State {
                wheel: Wheel::new(now),
                slot: Slot::new(),
                open: false,
                direct: 0,
                counts: Counts::default(),
                named: (0, 0),
            }),
            next: AtomicU64::new(NEVER),
            phase: Phase::new(),
            generation: AtomicU32::new(0),
            moving: AtomicU32::new(0),
            runner: AtomicUsize::new(NOBODY),
            trace: Trace::new(),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A callout leaves. Under the lock.
    pub(super) fn moves(&self) {
        self.moving.fetch_add(1, Ordering::Relaxed);
    }

    /// One that left has arrived. Under the other cpu's lock.
    pub(super) fn moved(&self) {
        self.moving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a callout is on its way from here. With all locks held.
    #[cfg(not(model))]
    pub(super) fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed) != 0
    }

    /// # Safety
    /// This thread holds the lock, whose guard it has forgotten.
    #[cfg(not(model))]
    pub(super) unsafe fn force_unlock(&self, alone: bool) {
        // SAFETY: by this function's contract.
        unsafe { self.state.force_unlock(alone) };
    }

    /// Not after the next date, in granules; [`NEVER`] if nothing is pending.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Makes [`next`](Self::next) exact.
    // KEEPS: CINV-26
    #[inline]
    pub(super) fn publish(&self, state: &mut State) -> u64 {
        let next = state.wheel.next().unwrap_or(NEVER);
        self.next.store(next, Ordering::Relaxed);
        next
    }

    /// Files `c`: whether the cpu has to wake up earlier than it knew. What is
    /// not in the future is due one granule after the last scan, so that no
    /// pass ever sees what was armed while it ran (CINV-21).
    // KEEPS: CINV-3, CINV-10, CINV-21, CINV-24
    #[inline(always)]
    #[must_use]
    pub(super) fn file(&self, state: &mut State, c: &Callout, arming: Arming) -> bool {
        let node = c.node();
        let Window { time, window } = arming.window;
        let late = (state.wheel.now() + 1).saturating_sub(time);
        // What is overdue has used up its tolerance.
        let window = u64::from(window).saturating_sub(late) as u32;
        // SAFETY: the lock is held, and the callout is on no list; its owner
        // keeps it where it is while it is pending.
        unsafe {
            (*node).tag = arming.tag();
            state.wheel.add(node, time + late, window);
        }
        state.direct += usize::from(arming.direct);
        c.set_queue(Queue::Wheel);
        let soonest = state.wheel.soonest();
        let earlier = soonest < self.next();
        if earlier {
            // KEEPS: CINV-26, CINV-27
            // Relaxed: the waker's fence follows, and the sleeper's precedes
            // its look (CINV-27).
            self.next.store(soonest, Ordering::Relaxed);
        }
        earlier
    }

    /// Takes `c` off the wheel.
    #[inline]
    pub(super) fn unfile(&self, state: &mut State, c: &Callout) {
        let node = c.node();
        // SAFETY: the lock is held, and `c` is in this wheel.
        unsafe {
            state.wheel.remove(node);
            state.direct -= usize::from((*node).tag == DIRECT);
        }
        c.set_queue(Queue::Nowhere);
    }

    /// Takes the next due callout off the wheel. It counts as pending until the
    /// caller says otherwise, or files it again.
    #[inline]
    pub(super) fn pop_due<'a>(&self, state: &mut State) -> Option<&'a Callout> {
        // SAFETY: the lock is held; nodes of this wheel are in callouts.
        unsafe {
            let node = state.wheel.peek_due();
            if node.is_null() {
                return None;
            }
            let c = Callout::of(node);
            // Before its links are followed: if it was freed, they are garbage.
            c.check_live("softclock");
            let _ = state.wheel.pop_due();
            state.direct -= usize::from((*node).tag == DIRECT);
            Some(c)
        }
    }

    /// Takes any callout off the wheel, with its arming, as pop_due.
    pub(super) fn pop_any<'a>(&self, state: &mut State) -> Option<(&'a Callout, Arming)> {
        // SAFETY: as for pop_due.
        unsafe {
            let node = state.wheel.pop_any();
            if node.is_null() {
                return None;
            }
            let arming = Arming::of(node);
            state.direct -= usize::from(arming.direct);
            Some((Callout::of(node), arming))
        }
    }

    /// Moves the wheel to `now`, and what wants to run first to the front.
    // KEEPS: DEV-8
    #[inline]
    pub(super) fn scan(&self, state: &mut State, now: u64, budget: usize) {
        // SAFETY: the lock is held.
        unsafe {
            if state.wheel.advance(now, budget) {
                pause::at(Point::Refile, core::ptr::null());
            }
            if state.direct > 0 {
                state.wheel.bring_forward(DIRECT);
            }
        }
    }
}
