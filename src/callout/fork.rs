//! fork() while callouts are in use (CINV-32): the child goes on with what the
//! parent had, served by the one thread that it has.

use super::callouts::{Callouts, Held};
use super::cpu::NOBODY;
use super::item::Queue;
use crate::sync::atomic::Ordering;
use crate::sys::thread;

impl Callouts {
    /// Takes every cpu's lock, in the order of their numbers, with no callout
    /// on its way: the one place where a thread holds more than one (CINV-6).
    // KEEPS: CINV-32
    pub fn before_fork(&self) {
        loop {
            for cpu in self.cpus() {
                core::mem::forget(cpu.lock());
            }
            if self.cpus().iter().all(|cpu| !cpu.is_moving()) {
                return;
            }
            // SAFETY: taken above.
            unsafe { self.after_fork() };
            thread::yield_now();
        }
    }

    /// Gives the locks back, in the parent.
    ///
    /// # Safety
    /// After [`before_fork`](Self::before_fork), once, by the same thread.
    pub unsafe fn after_fork(&self) {
        for cpu in self.cpus() {
            // SAFETY: by this function's contract.
            unsafe { cpu.force_unlock(false) };
        }
    }

    /// Gives the locks back in the child, whose only thread is `me`, registered
    /// as `tid`: other threads' executions are over, other cpus closed.
    ///
    /// # Safety
    /// As [`after_fork`](Self::after_fork).
    // KEEPS: CINV-32
    pub unsafe fn after_fork_in_child(&self, me: usize, tid: Option<usize>) {
        for cpu in self.cpus() {
            // SAFETY: by this function's contract.
            unsafe { cpu.force_unlock(true) };
        }
        self.keep_open(tid);
        for index in 0..self.count() {
            let mut held = Held::of(self, index);
            held.state.open = tid == Some(index);
            let runner = held.cpu.runner.load(Ordering::Relaxed);
            if runner == NOBODY || runner == me {
                continue;
            }
            held.cpu.runner.store(NOBODY, Ordering::Relaxed);
            held.cpu.phase.end();
            let cur = core::mem::replace(&mut held.state.slot.cur, core::ptr::null());
            held.state.slot.sleepers = 0;
            held.state.slot.drained = None;
            if let Some(deferral) = held.state.slot.deferral.take() {
                // SAFETY: it is armed, so its owner keeps it.
                let c = unsafe { &*cur };
                c.set_queue(Queue::Nowhere);
                let _ = held.cpu.file(&mut held.state, c, deferral.arming);
            }
        }
        // Moving them now would make every fork() for an exec() dear.
        self.strand();
    }
}
