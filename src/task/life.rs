//! Creating and freeing tasks and tasklets.

use super::engine::{Caller, Tasks};
use super::item::{Kind, Task, Tasklet, task_of_rq, tasklet_of_rq};
use super::scheduler::{CLASSES, Scheduler};
use super::state::{Begin, Kill};
use crate::sync::ThreadSet;
use crate::wheel::Node;
use core::ptr;

impl Tasks {
    /// A new task allowed on `mask`, or NULL for lack of memory.
    pub fn new_task(&self, mask: u64, by: Caller) -> *mut Task {
        let mask = mask & self.all();
        assert!(mask != 0, "task_new: the thread mask names no thread");
        // SAFETY: the pool is the registry's; `local` is the caller's.
        let area = unsafe { self.pools.registry.alloc(self.pools.tasks, by.local, 0) };
        let t: *mut Task = area.cast();
        if !t.is_null() {
            // SAFETY: the pool's objects have a task's size.
            unsafe { Task::init(t, mask) };
        }
        t
    }

    /// A new tasklet, or NULL for lack of memory.
    pub fn new_tasklet(&self, by: Caller) -> *mut Tasklet {
        // SAFETY: the pool is the registry's; `local` is the caller's.
        let area = unsafe { self.pools.registry.alloc(self.pools.tasklets, by.local, 0) };
        let tl: *mut Tasklet = area.cast();
        if !tl.is_null() {
            // SAFETY: the pool's objects have a tasklet's size.
            unsafe { Tasklet::init(tl) };
        }
        tl
    }

    // Gives the memory back. The caller holds RUNNING or the ticket, and has
    // unlinked the item everywhere.
    pub(super) unsafe fn free_task(&self, t: *mut Task, by: Caller) {
        let pools = &self.pools;
        // SAFETY: by this function's contract.
        unsafe { pools.registry.free(pools.tasks, by.local, t.cast()) };
    }

    // The same for a tasklet that came from the pool.
    unsafe fn free_pooled(&self, tl: *mut Tasklet, by: Caller) {
        let pools = &self.pools;
        // SAFETY: by this function's contract.
        unsafe { pools.registry.free(pools.tasklets, by.local, tl.cast()) };
    }

    /// Frees a task, now or, if it is queued or runs elsewhere, when the
    /// scheduler meets it.
    ///
    /// # Safety
    /// `t` is live, and nobody wakes or schedules it any more.
    // KEEPS: INV-34
    pub unsafe fn destroy_task(&self, t: *mut Task, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; the branches below say who owns what.
        unsafe {
            let task = &*t;
            let own = by.tid.map(|me| self.sched(me).owner());
            let running_here = own.is_some_and(|o| (*o).current == t.cast());
            if running_here {
                // The handler frees its own task: RUNNING is ours, tasks get
                // no ticket meanwhile, and the scheduler will not touch it.
                self.unlink_timer(task, by);
                if let Some(o) = own {
                    (*o).current = ptr::null_mut();
                }
                self.free_task(t, by);
                return ThreadSet::EMPTY;
            }
            if !task.is_shared() && by.tid != Some(task.owner()) {
                // Only its owner can take the timer out.
                return self.kill_task(t, by);
            }
            // The kill comes first: from then on nobody gets hold of the task
            // or files it, so that what is unlinked stays so.
            match task.head.state.kill() {
                Kill::Owned => {
                    self.unlink_timer(task, by);
                    self.free_task(t, by);
                }
                Kill::Deferred => {}
            }
        }
        ThreadSet::EMPTY
    }

    /// Has the scheduler free a task, from any thread.
    ///
    /// # Safety
    /// `t` is live; killed once.
    pub unsafe fn kill_task(&self, t: *mut Task, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; Owned hands us the ticket.
        unsafe {
            match (*t).head.state.kill() {
                Kill::Deferred => ThreadSet::EMPTY,
                Kill::Owned => self.enqueue_task_now(t, by),
            }
        }
    }

    /// Has the scheduler free a tasklet, from any thread.
    ///
    /// # Safety
    /// `tl` is live and came from [`Tasks::new_tasklet`]; killed once.
    pub unsafe fn kill_tasklet(&self, tl: *mut Tasklet, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; Owned hands us the ticket.
        unsafe {
            match (*tl).head.state.kill() {
                Kill::Deferred => ThreadSet::EMPTY,
                Kill::Owned => self.deliver(tl, None, by),
            }
        }
    }

    /// Frees a tasklet from its owner thread, queued or not.
    ///
    /// # Safety
    /// `tl` is live and came from [`Tasks::new_tasklet`]; nobody wakes it any
    /// more.
    pub unsafe fn free_tasklet(&self, tl: *mut Tasklet, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; the branches say who owns what.
        unsafe {
            if (*tl).owner().is_some() && by.tid.is_none() {
                // Only its thread knows whether it is queued.
                return self.kill_tasklet(tl, by);
            }
            if let Some(me) = by.tid {
                let own = self.sched(me).owner();
                self.drain_inbox(me);
                if (*own).current == tl.cast() {
                    (*own).current = ptr::null_mut();
                    self.remove_tasklet(tl, by);
                    self.free_pooled(tl, by);
                    return ThreadSet::EMPTY;
                }
                self.remove_tasklet(tl, by);
            }
            match (*tl).head.state.kill() {
                // Its handler runs on another thread, which should not be: the
                // scheduler frees it when that has ended.
                Kill::Owned if (*tl).occupied.is_taken() => self.deliver(tl, None, by),
                Kill::Owned => {
                    self.free_pooled(tl, by);
                    ThreadSet::EMPTY
                }
                Kill::Deferred => ThreadSet::EMPTY,
            }
        }
    }

    /// Frees a killed item that the scheduler has unlinked.
    ///
    /// # Safety
    /// The caller holds the ticket, and RUNNING, by Begin::Free.
    // KEEPS: INV-48
    pub(super) unsafe fn reap(&self, node: *mut Node, by: Caller) {
        // SAFETY: begin_run answered Begin::Free: RUNNING is ours.
        unsafe {
            if Kind::of(&*node).is_tasklet() {
                self.free_pooled(tasklet_of_rq(node), by);
            } else {
                let t = task_of_rq(node);
                self.unlink_timer(&*t, by);
                self.free_task(t, by);
            }
        }
    }

    /// Frees what was killed and still waits in a queue: the end of the
    /// engine. Everything else is its user's leak.
    ///
    /// # Safety
    /// No thread is registered any more.
    // KEEPS: INV-59
    pub unsafe fn drain(&self, now: u64) {
        for me in 0..self.nbthread() {
            let by = Caller {
                tid: Some(me),
                local: None,
                now,
            };
            // SAFETY: nobody else is there, so every queue is ours.
            unsafe {
                self.drain_inbox(me);
                while let Some(node) = Self::take_any(self.sched(me)) {
                    let kind = Kind::of(&*node);
                    let free = if kind.is_tasklet() {
                        let tl = &*tasklet_of_rq(node);
                        tl.head.state.killed() && tl.begin(kind) == Some(Begin::Free)
                    } else {
                        let state = &(*task_of_rq(node)).head.state;
                        state.killed() && state.begin_run() == Begin::Free
                    };
                    if free {
                        self.reap(node, by);
                    }
                }
            }
        }
    }

    unsafe fn take_any(sched: &Scheduler) -> Option<*mut Node> {
        let own = sched.owner();
        // SAFETY: the queues are the caller's.
        unsafe {
            for class in 0..CLASSES {
                let node = Self::take(sched, class);
                if !node.is_null() {
                    return Some(node);
                }
            }
            let node = (*own).run.pop();
            (!node.is_null()).then_some(node)
        }
    }
}
