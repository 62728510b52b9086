//! All callout cpus: which are open, and finding the one a callout is on.

use super::cpu::{Counts, Cpu, NEVER, NOBODY, State};
use super::item::{Callout, Queue};
use super::slot::{Deferral, Last, Stage};
use super::time::Tick;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{MutexGuard, ThreadSet};
use crate::sys::memory;

/// The engine.
#[derive(Debug)]
pub struct Callouts {
    cpus: *mut Cpu,
    count: usize,
    /// The numbers under which a thread is registered. A bit changes under the
    /// lock of its cpu.
    open: AtomicU64,
    /// Closed cpus hold callouts, after a fork; the next pass moves them.
    stranded: AtomicBool,
    tick: Tick,
}

// SAFETY: the records are shared by design.
unsafe impl Send for Callouts {}
// SAFETY: as above.
unsafe impl Sync for Callouts {}

/// A cpu whose lock is held. The record stays the one that was locked: it is
/// never found anew from the callout (E-3).
pub(super) struct Held<'a> {
    pub index: usize,
    pub cpu: &'a Cpu,
    pub state: MutexGuard<'a, State>,
}

impl<'a> Held<'a> {
    #[inline]
    pub fn of(callouts: &'a Callouts, index: usize) -> Self {
        let cpu = &callouts.cpus()[index];
        Self {
            index,
            cpu,
            state: cpu.lock(),
        }
    }
}

/// What one cpu is up to.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// A thread is registered.
    pub open: bool,
    /// Callouts with a date.
    pub pending: usize,
    /// A pass is under way.
    pub running: bool,
    /// What it executes.
    pub executing: bool,
    /// What it executes, or executed last.
    pub last: Option<Last>,
    /// The next date, in granules.
    pub next: Option<u64>,
    /// How often the wheel filed something again.
    pub refilings: u64,
    /// What happened so far.
    pub counts: Counts,
}

impl Callouts {
    /// `count` closed cpus, `hz` ticks per second, and the granule of the clock;
    /// none for lack of memory.
    pub fn new(count: usize, hz: u32, now: u64) -> Option<Self> {
        let cpus: *mut Cpu = memory::alloc(count * size_of::<Cpu>(), align_of::<Cpu>()).cast();
        if cpus.is_null() {
            return None;
        }
        for i in 0..count {
            // SAFETY: the area holds `count` records.
            unsafe { cpus.add(i).write(Cpu::new(now)) };
        }
        Some(Self {
            cpus,
            count,
            open: AtomicU64::new(0),
            stranded: AtomicBool::new(false),
            tick: Tick::new(hz),
        })
    }

    /// What a tick is.
    #[inline]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    #[inline]
    pub(super) fn cpus(&self) -> &[Cpu] {
        // SAFETY: new made them.
        unsafe { core::slice::from_raw_parts(self.cpus, self.count) }
    }

    /// `cpu` if a thread is registered there, else the default: the lowest
    /// that is open, or 0.
    #[inline]
    pub fn usable(&self, cpu: usize) -> usize {
        let open = self.open.load(Ordering::Relaxed);
        if open & (1 << cpu) != 0 {
            cpu
        } else if open == 0 {
            0
        } else {
            open.trailing_zeros() as usize
        }
    }

    /// After a fork: nobody is registered but `cpu`.
    #[cfg(not(model))]
    pub(super) fn keep_open(&self, cpu: Option<usize>) {
        let open = cpu.map_or(0, |cpu| 1 << cpu);
        self.open.store(open, Ordering::Relaxed);
    }

    #[cfg(not(model))]
    pub(super) fn strand(&self) {
        self.stranded.store(true, Ordering::Relaxed);
    }

    /// Whether a pass on `cpu` would find neither callouts nor closed cpus.
    #[inline]
    pub fn is_quiet(&self, cpu: usize) -> bool {
        self.cpus()[cpu].next() == NEVER && !self.stranded.load(Ordering::Relaxed)
    }

    /// Moves what closed cpus hold: whom to wake.
    #[inline]
    pub(super) fn gather(&self) -> ThreadSet {
        if !self.stranded.load(Ordering::Relaxed) || !self.stranded.swap(false, Ordering::Relaxed) {
            return ThreadSet::EMPTY;
        }
        (0..self.count)
            .filter(|&cpu| self.usable(cpu) != cpu)
            .fold(ThreadSet::EMPTY, |wake, cpu| wake.and(self.evacuate(cpu)))
    }

    /// Whether callouts may be filed on the cpu: it is open, or there is no
    /// other place to wait for somebody to come.
    // KEEPS: CINV-29
    pub(super) fn takes(&self, held: &Held) -> bool {
        held.state.open || (held.index == 0 && self.open.load(Ordering::Relaxed) == 0)
    }

    /// Locks the cpu that `c` is on (CINV-7).
    // KEEPS: CINV-7
    #[inline]
    pub(super) fn hold(&self, c: &Callout) -> Held<'_> {
        loop {
            let index = c.home.cpu();
            if index >= self.count {
                c.home.forget(index);
                continue;
            }
            let held = Held::of(self, index);
            if c.home.is(index) {
                return held;
            }
        }
    }

    /// Whether softclock waits for `c`'s lock, or was told not to run it: then
    /// nobody may have freed it.
    pub fn is_awaited(&self, c: *const Callout) -> bool {
        self.cpus().iter().any(|cpu| {
            let state = cpu.lock();
            core::ptr::eq(state.slot.cur, c)
                && matches!(cpu.phase.stage(), Stage::Lockwait | Stage::Cancelled)
        })
    }

    /// The handler that a thread is inside, if any.
    pub fn inside(&self, me: usize) -> Option<Last> {
        self.cpus()
            .iter()
            .find(|cpu| cpu.runner.load(Ordering::Relaxed) == me)
            .and_then(|cpu| cpu.trace.last())
    }

    /// The date, in granules, at which `cpu` has to wake up; as of now the
    /// truth, for a thread that is about to sleep.
    pub fn next(&self, cpu: usize) -> Option<u64> {
        let cpu = &self.cpus()[cpu];
        if cpu.next() == NEVER {
            return None;
        }
        let next = cpu.publish(&mut cpu.lock());
        (next != NEVER).then_some(next)
    }

    /// A thread registers as `cpu`; one at a time. Whom to wake.
    pub fn enter(&self, cpu: usize, now: u64) -> ThreadSet {
        {
            let mut held = Held::of(self, cpu);
            held.state.open = true;
            if held.state.wheel.is_empty() {
                held.state.wheel.reset(now);
            }
            self.open.fetch_or(1 << cpu, Ordering::Relaxed);
        }
        if self.open.load(Ordering::Relaxed) & 1 == 0 {
            // What waits there has waited for whoever comes first.
            return self.evacuate(0);
        }
        ThreadSet::EMPTY
    }

    /// The thread registered as `cpu` goes; one at a time. Its callouts move to
    /// the default cpu, if there is one. Whom to wake.
    // KEEPS: CINV-29
    pub fn leave(&self, cpu: usize) -> ThreadSet {
        {
            let mut held = Held::of(self, cpu);
            held.state.open = false;
            self.open.fetch_and(!(1 << cpu), Ordering::Relaxed);
        }
        if self.usable(cpu) == cpu {
            return ThreadSet::EMPTY;
        }
        self.evacuate(cpu)
    }

    // Moves everything from a closed cpu, one callout at a time.
    fn evacuate(&self, from: usize) -> ThreadSet {
        let mut wake = ThreadSet::EMPTY;
        loop {
            let mut held = Held::of(self, from);
            let Some((c, arming)) = held.cpu.pop_any(&mut held.state) else {
                held.cpu.publish(&mut held.state);
                return wake;
            };
            let to = self.usable(from);
            if held.state.slot.names(c) {
                // Another thread runs this cpu's pass: it moves when the
                // handler has returned (CINV-1).
                // KEEPS: CINV-1
                held.state.slot.deferral = Some(Deferral { cpu: to, arming });
                c.set_queue(Queue::Deferred);
                continue;
            }
            let leaving = held.part_with(c);
            wake = wake.and(self.settle(leaving, to, arming, None));
        }
    }

    /// Makes every callout idle. No thread is registered or inside.
    pub fn clear(&self) -> usize {
        let mut cleared = 0;
        for cpu in self.cpus() {
            let mut state = cpu.lock();
            while let Some((c, _)) = cpu.pop_any(&mut state) {
                c.set_queue(Queue::Nowhere);
                c.deactivate();
                cleared += 1;
            }
        }
        cleared
    }

    /// What `cpu` is up to.
    pub fn report(&self, cpu: usize) -> Report {
        let cpu = &self.cpus()[cpu];
        let mut state = cpu.lock();
        Report {
            open: state.open,
            pending: state.wheel.len() + usize::from(state.slot.deferral.is_some()),
            running: cpu.runner.load(Ordering::Relaxed) != NOBODY,
            executing: !state.slot.cur.is_null(),
            last: cpu.trace.last(),
            next: state.wheel.next(),
            refilings: state.wheel.refilings(),
            counts: state.counts,
        }
    }

    /// How many cpus there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What `cpu` executes, or executed last; takes no lock.
    pub fn last(&self, cpu: usize) -> Option<Last> {
        self.cpus()[cpu].trace.last()
    }
}

impl Drop for Callouts {
    fn drop(&mut self) {
        for i in 0..self.count {
            // SAFETY: new wrote them.
            unsafe { self.cpus.add(i).drop_in_place() };
        }
        // SAFETY: the area is new's.
        unsafe { memory::free(self.cpus.cast()) };
    }
}
