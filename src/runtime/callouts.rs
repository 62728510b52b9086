//! Callouts for the C face: the clock, waking, harmless waits, log lines.

use super::config::DEFAULT_HZ;
use super::core_state::{Core, core, require_core};
use super::hooks::WARNING;
use super::{HOOKS, registry, wake};
use crate::callout::time::{self, Sbt, Tick, Window, when};
use crate::callout::{self, Arming, Call, Callout, Callouts, Drain, Func, Waiting};
use crate::sync::ThreadSet;
use crate::sys::{clock, thread};
use core::fmt;

/// What callouts need, from the process.
pub(super) struct Process;

impl callout::Env for Process {
    fn now(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn wake(&self, set: ThreadSet) {
        wake_others(set);
    }

    fn warn(&self, message: fmt::Arguments) {
        HOOKS.log(WARNING, message);
    }
}

/// Sbintime now.
pub fn now_sbt() -> Sbt {
    clock::monotonic_fraction() as Sbt
}

// The same for arming: on a registered thread a few microseconds late, and at
// half the price.
#[inline]
fn arming_now() -> Sbt {
    match registry::here() {
        Some(t) => t.clock.now() as Sbt,
        None => now_sbt(),
    }
}

// The calling thread is awake, and looks at its wheel before it sleeps.
#[inline(always)]
fn wake_others(set: ThreadSet) {
    if set == ThreadSet::EMPTY {
        return;
    }
    wake_awaited(set);
}

#[cold]
fn wake_awaited(set: ThreadSet) {
    match registry::tid() {
        Some(tid) if set == ThreadSet::one(tid) => (),
        _ => wake(set),
    }
}

/// The calling thread's cpu, or else the default.
pub fn current_cpu() -> usize {
    registry::tid().unwrap_or_else(|| require_core().callouts.usable(0))
}

/// What a tick is; one of the default rate before `init`.
#[inline]
pub fn tick() -> Tick {
    core().map_or(const { Tick::new(DEFAULT_HZ) }, |core| core.callouts.tick())
}

/// Ticks per second; the default rate before `init`.
pub fn hz() -> u32 {
    core().map_or(DEFAULT_HZ, |core| core.config.callout_hz)
}

/// The date and the precision that an interval stands for, from now.
pub fn date(interval: Sbt, precision: Sbt, flags: i32) -> (Sbt, Sbt) {
    when(interval, precision, flags, tick(), now_sbt)
}

/// Arms `c`; `call`: none for what it called before; `cpu`: none for where it
/// is.
///
/// # Safety
/// `c` was initialised, or is all zeroes, and stays where it is while it is in
/// use; here and below.
#[inline(always)]
pub unsafe fn reset(
    c: &Callout,
    (interval, precision): (Sbt, Sbt),
    flags: i32,
    call: Option<Call>,
    cpu: Option<usize>,
) -> i32 {
    let callouts = &require_core().callouts;
    let mut now = None;
    let read = || {
        let read = arming_now();
        now = Some(time::granule(read));
        read
    };
    let (date, precision) = when(interval, precision, flags, callouts.tick(), read);
    let reset = callout::Reset {
        arming: Arming {
            window: Window::new(date, precision),
            direct: flags & time::C_DIRECT_EXEC != 0,
        },
        call,
        cpu,
        now,
    };
    // SAFETY: by this function's contract.
    let (rc, set) = unsafe { callouts.reset(c, reset) };
    wake_others(set);
    rc
}

// Without a core nothing is pending and nothing runs.
fn idle(c: &Callout) -> i32 {
    c.deactivate();
    -1
}

/// Takes back what has not started.
///
/// # Safety
/// As [`reset`].
pub unsafe fn stop(c: &Callout) -> i32 {
    match core() {
        // SAFETY: by this function's contract.
        Some(core) => unsafe { core.callouts.stop(c) },
        None => idle(c),
    }
}

/// Takes back what has not started, and has `drained` called at the end of
/// what executes.
///
/// # Safety
/// As [`reset`].
pub unsafe fn async_drain(c: &Callout, drained: Func) -> i32 {
    match core() {
        // SAFETY: by this function's contract.
        Some(core) => unsafe { core.callouts.async_drain(c, drained) },
        None => idle(c),
    }
}

/// Takes back what has not started, and waits for the end of what executes;
/// `shut`: for good.
///
/// # Safety
/// As [`reset`].
pub unsafe fn drain(c: &Callout, shut: bool) -> i32 {
    let Some(core) = core() else {
        if shut {
            c.shut();
        }
        return idle(c);
    };
    // SAFETY: by this function's contract.
    match unsafe { core.callouts.drain(c, shut, thread::identity()) } {
        Drain::Done(rc) => rc,
        Drain::Wait(waiting) => {
            // The handler may isolate its thread: this one must not hold it up.
            let me = registry::here();
            if let Some(t) = me {
                core.isolation.harmless(t.tid);
            }
            waiting.wait(|seconds| report(&waiting, seconds));
            if let Some(t) = me {
                core.isolation.busy_again(t.tid);
            }
            waiting.answer
        }
    }
}

// Both sides of a drain that takes long.
#[cold]
fn report(waiting: &Waiting, seconds: u64) {
    struct Side(Option<usize>);
    impl fmt::Display for Side {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            match self.0 {
                Some(tid) => write!(f, "thread {tid}"),
                None => write!(f, "an unregistered thread"),
            }
        }
    }
    let Some(last) = waiting.last else { return };
    HOOKS.log(
        WARNING,
        format_args!(
            "callout: {} drains callout {:#x} for {seconds} s, cpu {} still executes {last}",
            Side(registry::tid()),
            waiting.callout(),
            waiting.index,
        ),
    );
}

/// Runs what is due on `cpu`.
pub fn softclock(cpu: usize) {
    pass(&require_core().callouts, cpu);
}

/// One pass, by the calling thread.
#[inline]
pub(super) fn pass(callouts: &Callouts, cpu: usize) {
    // SAFETY: whoever armed a callout answered for it.
    unsafe { callouts.softclock(cpu, thread::identity(), &Process) };
}

/// The CLOCK_MONOTONIC date of `cpu`'s next callout, ns.
#[inline]
pub(super) fn next_ns(core: &Core, cpu: usize) -> Option<u64> {
    core.callouts.next(cpu).map(time::to_ns)
}

/// The last handler of each cpu, for a panic's message. Takes no lock.
pub struct LastHandlers;

impl fmt::Display for LastHandlers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Some(core) = core() else { return Ok(()) };
        for cpu in 0..core.callouts.count() {
            if let Some(last) = core.callouts.last(cpu) {
                write!(f, "; last on callout cpu {cpu}: {last}")?;
            }
        }
        Ok(())
    }
}
