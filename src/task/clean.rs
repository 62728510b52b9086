//! Freeing all tasks that wait, whoever made them.

use super::Process;
use super::engine::{Caller, Tasks};
use super::item::{Kind, Task, task_of_rq, task_of_wq};
use crate::wheel::{List, Node};

impl Tasks {
    /// Frees every task that waits for its turn or for its date, of all
    /// threads, but those whose handlers `keep` names. Tasklets stay.
    ///
    /// # Safety
    /// Nobody uses any of these tasks any more, or does so meanwhile.
    pub unsafe fn free_waiting(&self, by: Caller, keep: impl Fn(Process) -> bool) {
        let others = self.presence.get() & !by.tid.map_or(0, |me| 1 << me);
        assert!(
            others == 0,
            "mworker_cleantasks: threads {others:#x} are registered"
        );
        // SAFETY: a task in a queue is live.
        let kept = |t: *mut Task| unsafe { (*t).head.process }.is_some_and(&keep);
        // Each queue in its owner's name, who is not there.
        let of = |k| Caller { tid: Some(k), ..by };
        // First what is runnable: it may have a timer in anybody's wheel.
        for k in 0..self.nbthread() {
            // SAFETY: no thread but the caller's is there, by the assertion.
            unsafe { self.free_runnable(k, of(k), &kept) };
        }
        for k in 0..self.nbthread() {
            // SAFETY: as above; nothing in a wheel is queued any more.
            unsafe { self.free_armed(k, of(k), &kept) };
        }
    }

    unsafe fn free_runnable(&self, k: usize, by: Caller, kept: &impl Fn(*mut Task) -> bool) {
        let sched = self.sched(k);
        // SAFETY: the queues are the caller's.
        unsafe {
            self.drain_inbox(k);
            while self.promote(k) {}
            for class in 0..super::scheduler::CLASSES {
                let mut stay = List::new();
                while let Some(node) = some(Self::take(sched, class)) {
                    let t = task_of_rq(node);
                    if Kind::of(&*node).is_tasklet() || kept(t) {
                        stay.push_back(node);
                    } else {
                        self.unlink_timer(&*t, by);
                        self.free_task(t, by);
                    }
                }
                while let Some(node) = some(stay.pop_front()) {
                    Self::append(sched, class, node);
                }
            }
        }
    }

    unsafe fn free_armed(&self, k: usize, by: Caller, kept: &impl Fn(*mut Task) -> bool) {
        let sched = self.sched(k);
        let mut gone = List::new();
        let mut stay = List::new();
        // SAFETY: the wheels and their nodes are the caller's.
        unsafe {
            let timers = &raw mut (*sched.owner()).timers;
            let mut shared = sched.shared.lock();
            for wheel in [timers, &raw mut *shared] {
                while let Some(node) = some((*wheel).pop_any()) {
                    let list = if kept(task_of_wq(node)) {
                        &mut stay
                    } else {
                        &mut gone
                    };
                    list.push_back(node);
                }
                while let Some(node) = some(stay.pop_front()) {
                    let time = (*node).time();
                    (*wheel).add(node, time, 0);
                }
            }
            sched.counters.armed.set((*timers).len() as u64);
            sched.publish_next(&mut shared);
            drop(shared);
            while let Some(node) = some(gone.pop_front()) {
                self.free_task(task_of_wq(node), by);
            }
        }
    }
}

fn some(node: *mut Node) -> Option<*mut Node> {
    (!node.is_null()).then_some(node)
}
