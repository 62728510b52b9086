//! The run loop, one turn at a time.

use super::callouts::{next_ns, pass};
use super::core_state::{Core, pools, require_core};
use super::registry::here;
use super::thread::Thread;
use crate::callout::pause::{self, Point};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{ThreadSet, spin_hint};
use crate::sys::{clock, epoll};
use crate::task::Caller;
use crate::task::run::Clock;
use crate::task::scheduler::NEVER;
use core::cell::Cell;

/// The longest sleep, ms.
const MAX_DELAY_MS: u64 = 60_000;
/// Looks at the queues between two at the clock, while spinning.
const SPINS: u32 = 32;
/// A wait that takes less did not sleep.
const BRIEF_NS: u64 = 5_000;
/// The longest time between two looks at the descriptors, while spinning.
const MAX_BLIND_NS: u64 = 20_000;

/// A registered thread in its loop.
struct Loop<'a> {
    core: &'a Core,
    me: &'a Thread,
    /// Says when the loop is to end.
    stop: &'a AtomicBool,
    /// Until when a thread that spins does without looking at descriptors.
    blind_until: Cell<u64>,
}

impl Clock for Loop<'_> {
    #[inline(always)]
    fn caller(&self) -> Caller<'_> {
        self.me.caller()
    }

    #[inline(always)]
    fn wake(&self, set: ThreadSet) {
        super::wake(set);
    }
}

impl Loop<'_> {
    fn here() -> Option<Loop<'static>> {
        let me = here()?;
        let core = require_core();
        Some(Loop {
            core,
            me,
            stop: &core.stopping,
            blind_until: Cell::new(0),
        })
    }

    // Makes the cached date the present one. The counter is never behind the
    // clock: where it says that the millisecond is the same, it is.
    #[inline]
    fn update_clock(&self) {
        if self.me.clock.now() >= self.me.next_ms.get() {
            self.set_clock(clock::monotonic_ns());
        }
    }

    // The same where the clock was just read.
    fn set_clock(&self, ns: u64) {
        self.me.set_now(self.core.ms_of(ns));
        let next = (ns / 1_000_000 + 1) * 1_000_000;
        self.me.next_ms.set(clock::fraction(next));
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    // Whether anything waits for this thread. Exact after the sleeper's
    // announcement, a hint before.
    fn has_work(&self) -> bool {
        self.core.tasks.has_work(self.me.tid) || self.core.fds.has_updates(self.me.tid)
    }

    // Timers, callouts, tasks, then the pollers' updates.
    fn work(&self) {
        self.update_clock();
        let tid = self.me.tid;
        // SAFETY: this is thread `tid`, outside of any handler.
        unsafe {
            self.wake(self.core.tasks.wake_expired(tid, self.me.caller()));
        }
        if self.core.tasks.lookout.is(tid)
            && (self.core.tasks.has_work(tid) || self.callout_is_due())
        {
            self.before_handlers();
        }
        // SAFETY: as above.
        unsafe {
            pass(&self.core.callouts, tid);
            self.core.tasks.process_runnable(tid, self);
        }
        pools().poll_gc(&self.me.local);
        self.core.fds.apply_updates(tid);
    }

    // Whether `work` would find nothing to do, for a thread that events keep
    // busy: its next look at them reads the clock, and the turn after that sees
    // what came due meanwhile.
    #[inline]
    fn has_nothing_but_events(&self) -> bool {
        let tid = self.me.tid;
        self.me.eager.get()
            && !self.has_work()
            // SAFETY: this is that thread.
            && unsafe { self.core.tasks.has_passed(tid, self.me.now()) }
            && self.core.callouts.is_quiet(tid)
            && pools().gc_is_over(&self.me.local)
    }

    // Or soon will be: it may come due until its pass begins.
    fn callout_is_due(&self) -> bool {
        let soon = clock::monotonic_ns() + 1_000_000;
        next_ns(self.core, self.me.tid).is_some_and(|date| date <= soon)
    }

    // Handlers may take long: somebody else has to keep the lookout.
    fn before_handlers(&self) {
        self.wake(self.core.tasks.pass_lookout_on(self.me.tid));
    }

    // How long this thread may sleep from `now` on, ns: until its next date or,
    // for the lookout, that of a wheel whose owner may be too busy to serve it.
    // KEEPS: INV-56
    fn timeout(&self, max_ms: u64, lookout: bool, now: u64) -> u64 {
        let max = max_ms * 1_000_000;
        let tasks = &self.core.tasks;
        let tid = self.me.tid;
        let others = lookout.then(|| {
            tasks.lookout.until(tid, tasks.next_of_others(tid));
            tasks.next_of_others(tid)
        });
        // SAFETY: this is that thread.
        let own = unsafe { tasks.next_expiry(tid) };
        // A millisecond of grace: normally its owner does it.
        let others = others.filter(|&date| date != NEVER).map(|date| date + 1);
        let task = own.into_iter().chain(others).min();
        let task = task.map(|date| self.core.ns_of(date));
        let callout = next_ns(self.core, tid);
        let Some(next) = task.into_iter().chain(callout).min() else {
            return max;
        };
        next.saturating_sub(now).min(max)
    }

    // The CLOCK_MONOTONIC date of this thread's next timer or callout.
    fn next_ns(&self) -> Option<u64> {
        // SAFETY: this is that thread.
        let task = unsafe { self.core.tasks.next_expiry(self.me.tid) };
        let task = task.map(|date| self.core.ns_of(date));
        task.into_iter()
            .chain(next_ns(self.core, self.me.tid))
            .min()
    }

    // Waits for events, or not at all if there is something to do: the number
    // of reports.
    fn wait(&self, max_ms: u64) -> i32 {
        let me = self.me;
        let looked = me.eager.get().then(|| self.look());
        if let Some(n @ 1..) = looked {
            return n;
        }
        me.eager.set(false);
        if max_ms == 0 || self.stopping() || self.has_work() || !me.sleeper().announce() {
            let n = looked.unwrap_or_else(|| self.look());
            me.sleeper().awake();
            return n;
        }
        let n = self.sleep(max_ms);
        me.sleeper().awake();
        self.core.tasks.lookout.awake(me.tid);
        self.core.isolation.busy_again(me.tid);
        n
    }

    // Takes what is there.
    fn look(&self) -> i32 {
        self.core.isolation.step_aside(self.me.tid);
        let n = self.core.fds.wait(self.me.tid, Some(0));
        self.update_clock();
        n
    }

    // Announced: from here on whoever brings work sees that it must wake us,
    // and this look sees whatever came before (INV-46).
    fn sleep(&self, max_ms: u64) -> i32 {
        let tid = self.me.tid;
        let lookout = self.core.tasks.lookout.sleeps(tid);
        let mut ns = 0;
        let mut begin = 0;
        if !self.has_work() && !self.stopping() {
            begin = clock::monotonic_ns();
            self.set_clock(begin);
            self.wake(self.core.tasks.serve_overdue(tid, self.me.caller()));
            if !self.has_work() {
                ns = self.timeout(max_ms, lookout, begin);
            }
        }
        if ns > 0 {
            pause::at(Point::SleepCommit, core::ptr::null());
        }
        self.core.isolation.harmless(tid);
        let n = self.core.fds.wait(tid, Some(ns));
        let end = clock::monotonic_ns();
        self.set_clock(end);
        self.me.eager.set(n > 0 && end - begin < BRIEF_NS);
        n
    }

    // Looks for work without sleeping for as long as the host allows: who
    // brings some meanwhile finds this thread awake, and owes it no system
    // call. Its own calls, for descriptors, take a fifth of the time. Returns
    // the number of reports, or `None` where the thread is to wait for them.
    fn spin(&self, max_ms: u64) -> Option<i32> {
        let limit = self.core.config.spin_ns.min(max_ms * 1_000_000);
        if limit == 0 {
            return None;
        }
        let mut begin = 0;
        loop {
            for _ in 0..SPINS {
                if self.stopping() || self.me.sleeper().is_notified() {
                    return None;
                }
                if self.has_work() {
                    let now = clock::monotonic_ns();
                    self.set_clock(now);
                    return (now < self.blind_until.get()).then_some(0);
                }
                spin_hint();
            }
            let now = clock::monotonic_ns();
            if begin == 0 {
                begin = now;
            }
            if now - begin >= limit || self.date_has_come(now) {
                return None;
            }
            if now < self.blind_until.get() {
                continue;
            }
            let isolation = &self.core.isolation;
            isolation.harmless(self.me.tid);
            let n = self.core.fds.wait(self.me.tid, Some(0));
            isolation.busy_again(self.me.tid);
            if n != 0 {
                self.update_clock();
                return Some(n);
            }
            let end = clock::monotonic_ns();
            self.blind_until
                .set(end + (4 * (end - now)).min(MAX_BLIND_NS));
        }
    }

    // Whether a timer or callout is due, or one of a thread too busy for it.
    fn date_has_come(&self, now: u64) -> bool {
        let others = self.core.tasks.next_of_others(self.me.tid);
        let others = others != NEVER && self.core.ns_of(others + 1) <= now;
        others || self.next_ns().is_some_and(|date| date <= now)
    }

    fn turn(&self, max_ms: u64) {
        if !self.has_nothing_but_events() {
            self.work();
        }
        let n = self.spin(max_ms).unwrap_or_else(|| {
            let n = self.wait(max_ms);
            if self.core.config.spin_ns > 0 {
                self.blind_until.set(clock::monotonic_ns() + MAX_BLIND_NS);
            }
            n
        });
        if n > 0 || self.core.fds.has_updates(self.me.tid) {
            self.before_handlers();
        }
        if self.core.fds.dispatch(self.me.tid, n) {
            epoll::eventfd_drain(self.me.eventfd());
        }
    }
}

/// Turns until the loops are stopped.
pub fn run_loop() {
    let Some(l) = Loop::here() else {
        panic!("run_poll_loop: the calling thread is not registered");
    };
    // SAFETY: this is that thread.
    unsafe { l.core.tasks.assert_outside(l.me.tid, "run_poll_loop") };
    while !l.stopping() {
        l.turn(MAX_DELAY_MS);
    }
    l.before_handlers();
}

/// Turns until `stop` says so.
pub(super) fn run_until(stop: &AtomicBool) {
    let Some(l) = Loop::here() else { return };
    let l = Loop { stop, ..l };
    while !l.stopping() {
        l.turn(MAX_DELAY_MS);
    }
    l.before_handlers();
}

/// Runs what the calling thread has to run.
pub fn run_tasks() {
    let Some(l) = Loop::here() else {
        panic!("process_runnable_tasks: the calling thread is not registered");
    };
    // SAFETY: this is that thread.
    unsafe {
        l.core
            .tasks
            .assert_outside(l.me.tid, "process_runnable_tasks");
        l.core.tasks.process_runnable(l.me.tid, &l);
    }
}

/// One turn that sleeps for `max_ms` at most (negative: no limit).
pub fn poll_once(max_ms: i32) {
    let Some(l) = Loop::here() else {
        panic!("keel_poll_once: the calling thread is not registered");
    };
    // SAFETY: this is that thread.
    unsafe { l.core.tasks.assert_outside(l.me.tid, "keel_poll_once") };
    let max = u64::try_from(max_ms).map_or(MAX_DELAY_MS, |ms| ms.min(MAX_DELAY_MS));
    if l.me.hosted.load(Ordering::Relaxed) {
        l.me.sleeper().awake();
    }
    // Whatever the host did meanwhile.
    l.update_clock();
    l.turn(max);
    // The host goes its own ways.
    l.before_handlers();
    if l.me.hosted.load(Ordering::Relaxed) {
        // What the events woke runs before the host waits again.
        l.work();
        l.announce_to_host();
    }
}

impl Loop<'_> {
    // The host is going to poll this thread's descriptor: that is a sleep,
    // and whoever brings work must make the descriptor readable.
    fn announce_to_host(&self) {
        if !self.me.sleeper().announce() || self.has_work() || self.stopping() {
            epoll::eventfd_signal(self.me.eventfd());
        }
    }
}

/// A descriptor that becomes readable when this thread has something to do
/// before its next deadline.
pub fn poll_fd() -> i32 {
    let Some(l) = Loop::here() else {
        panic!("keel_poll_fd: the calling thread is not registered");
    };
    let fd = l.core.fds.poll_fd(l.me.tid);
    if fd >= 0 && !l.me.hosted.swap(true, Ordering::Relaxed) {
        l.core.fds.apply_updates(l.me.tid);
        l.announce_to_host();
    }
    fd
}

/// The CLOCK_MONOTONIC date of this thread's next timer, ns; now if something
/// waits to run.
pub fn next_deadline_ns() -> u64 {
    let Some(l) = Loop::here() else {
        return u64::MAX;
    };
    if l.has_work() {
        return clock::monotonic_ns();
    }
    l.next_ns().unwrap_or(u64::MAX)
}
