//! What a cpu is executing: one slot, and the phase of the execution in it.
//!
//! The slot's fields change under the cpu's lock. The phase alone is decided
//! without it: softclock claims the execution once it has the associated lock,
//! and whoever holds that lock may cancel it until then (CINV-9, CINV-11).

use super::item::{Callout, Func};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use core::ffi::c_void;

const IDLE: u32 = 0;
const LOCKWAIT: u32 = 1;
const CANCELLED: u32 = 2;
const RUNNING: u32 = 3;
const FINISHED: u32 = 4;

/// How far the execution in a slot has come.
// KEEPS: DEV-3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for the associated lock, and can still be prevented.
    Lockwait,
    /// It was prevented; softclock has not left the lock yet.
    Cancelled,
    /// The handler runs.
    Running,
    /// The handler has returned, under the associated lock.
    Finished,
}

/// Whether the handler is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Claim {
    /// Yes: nobody can prevent it any more.
    Run,
    /// No: it was prevented.
    Skip,
}

/// The word. Its transitions carry no data: the two locks do.
#[derive(Debug)]
pub(super) struct Phase(AtomicU32);

impl Phase {
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    #[cfg(model)]
    pub fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// An execution begins: `waits` for an associated lock, or runs at once.
    /// Under the cpu's lock.
    #[inline]
    pub fn begin(&self, waits: bool) {
        self.0
            .store(if waits { LOCKWAIT } else { RUNNING }, Ordering::Relaxed);
    }

    /// Softclock has the associated lock.
    // KEEPS: CINV-9
    #[inline]
    pub fn claim(&self) -> Claim {
        match self
            .0
            .compare_exchange(LOCKWAIT, RUNNING, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Claim::Run,
            Err(_) => Claim::Skip,
        }
    }

    /// Prevents the handler; false if it is too late or was done before.
    /// Under the cpu's lock; the caller holds the associated one, or else
    /// races with softclock for the answer, which is then still the truth.
    // KEEPS: CINV-11
    #[inline]
    #[must_use]
    pub fn cancel(&self) -> bool {
        self.0
            .compare_exchange(LOCKWAIT, CANCELLED, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The handler has returned; softclock still holds the associated lock.
    #[inline]
    pub fn finish(&self) {
        self.0.store(FINISHED, Ordering::Relaxed);
    }

    /// The slot is vacated. Under the cpu's lock.
    #[inline]
    pub fn end(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Where the execution of the callout in the slot stands.
    #[inline]
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            LOCKWAIT => Stage::Lockwait,
            CANCELLED => Stage::Cancelled,
            RUNNING => Stage::Running,
            _ => Stage::Finished,
        }
    }
}

/// A re-arming for another cpu, to be performed when the handler has
/// returned. What to call stands in the callout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferral {
    pub cpu: usize,
    pub arming: super::arming::Arming,
}

/// Enough to tell 64 cpus apart.
const CPU_BITS: u32 = 6;

/// The slot, under the cpu's lock.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whose execution it is; only compared, unless a deferral guarantees that
    /// it exists (CINV-13).
    pub cur: *const Callout,
    /// The number of the last execution, unlike any other's on any cpu.
    execution: u64,
    /// Drains that wait for the end of this execution.
    pub sleepers: u32,
    /// What an asynchronous drain wants called at its end.
    pub drained: Option<Func>,
    pub deferral: Option<Deferral>,
}

// SAFETY: the pointer is only a name; see `cur`.
unsafe impl Send for Slot {}

impl Slot {
    pub const fn new() -> Self {
        Self {
            cur: core::ptr::null(),
            execution: 0,
            sleepers: 0,
            drained: None,
            deferral: None,
        }
    }

    /// Softclock of `cpu` executes `c` from now on.
    #[inline]
    pub fn occupy(&mut self, c: &Callout, cpu: usize) {
        let count = (self.execution >> CPU_BITS) + 1;
        self.cur = c;
        self.execution = count << CPU_BITS | cpu as u64;
        c.execution.store(self.execution, Ordering::Relaxed);
    }

    /// Whether it is `c` that is executed, and not one whose handler freed it
    /// and in whose memory `c` was made.
    // KEEPS: CINV-13
    #[inline]
    pub fn names(&self, c: &Callout) -> bool {
        core::ptr::eq(self.cur, c) && c.execution.load(Ordering::Relaxed) == self.execution
    }

    /// Whether somebody waits for the end, so that nothing may be re-armed.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.sleepers > 0 || self.drained.is_some()
    }
}

/// What a cpu executes, or executed last, for those who report it without its
/// lock: a panic, a drain, another cpu.
#[derive(Debug)]
pub(super) struct Trace {
    func: AtomicUsize,
    arg: AtomicPtr<c_void>,
    callout: AtomicPtr<Callout>,
}

impl Trace {
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            func: AtomicUsize::new(0),
            arg: AtomicPtr::new(core::ptr::null_mut()),
            callout: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            func: AtomicUsize::new(0),
            arg: AtomicPtr::new(core::ptr::null_mut()),
            callout: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Softclock is about to execute this.
    #[inline]
    pub fn note(&self, c: &Callout, func: Func, arg: *mut c_void) {
        self.func.store(func as usize, Ordering::Relaxed);
        self.arg.store(arg, Ordering::Relaxed);
        self.callout
            .store((&raw const *c).cast_mut(), Ordering::Relaxed);
    }

    /// Callout, handler and argument, if there was one.
    pub fn last(&self) -> Option<Last> {
        let func = self.func.load(Ordering::Relaxed);
        (func != 0).then(|| Last {
            func,
            arg: self.arg.load(Ordering::Relaxed) as usize,
            callout: self.callout.load(Ordering::Relaxed) as usize,
        })
    }
}

/// Addresses to print; what they name may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The handler.
    pub func: usize,
    /// Its argument.
    pub arg: usize,
    /// The callout.
    pub callout: usize,
}

impl core::fmt::Display for Last {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(
            f,
            "{:#x}({:#x}) of callout {:#x}",
            self.func, self.arg, self.callout
        )
    }
}
