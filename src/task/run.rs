//! Running what is runnable: classes, shares, budgets.

use super::engine::{Caller, Tasks};
use super::item::{Head, Kind, Task, Tasklet, task_of_rq, tasklet_of_rq};
use super::scheduler::{CLASSES, HEAVY, NORMAL, Scheduler, URGENT};
use super::state::Begin;
use crate::sync::ThreadSet;
use crate::sync::atomic::Ordering;
use crate::wheel::Node;
use core::ptr;

/// Each class's share of a call's budget while all have work.
const WEIGHT: [u32; CLASSES] = [64, 48, 16, 1];

/// Handlers that need to know the date ask for it here: user code runs
/// between two items, and time goes on.
pub trait Clock {
    /// Who calls, and when.
    fn caller(&self) -> Caller<'_>;
    /// Wakes those of `set` that sleep.
    fn wake(&self, set: ThreadSet);
}

// How one item ended.
enum Ran {
    // It took a share of the budget.
    Counted,
    // It was freed unrun.
    Uncounted,
}

impl Tasks {
    /// Runs what thread `me` has to run, at most the run queue's depth of
    /// items, each non-empty class getting its share (INV-42, INV-43).
    ///
    /// # Safety
    /// Only thread `me` calls this, outside of any handler.
    #[inline]
    pub unsafe fn process_runnable(&self, me: usize, clock: &impl Clock) {
        if self.has_work(me) {
            // SAFETY: by this function's contract.
            unsafe { self.run_some(me, clock) };
        } else {
            self.sched(me).counters.empty_rq.add(1);
        }
    }

    // KEEPS: INV-42
    #[inline(never)]
    unsafe fn run_some(&self, me: usize, clock: &impl Clock) {
        let sched = self.sched(me);
        let own = sched.owner();
        // SAFETY: the owner thread calls, here and below.
        unsafe { self.drain_inbox(me) };
        // SAFETY: as above.
        if !unsafe { (*own).has_work() } {
            sched.counters.empty_rq.add(1);
            return;
        }
        // SAFETY: as above.
        let mut budget = unsafe { self.budget(sched) };
        let mut heavy_granted = false;
        while budget > 0 {
            // SAFETY: as above.
            unsafe { self.drain_inbox(me) };
            // SAFETY: as above.
            let mut quota = unsafe { self.quotas(sched, budget) };
            if heavy_granted {
                quota[HEAVY] = 0;
            } else if quota[HEAVY] > 0 {
                heavy_granted = true;
                // SAFETY: as above.
                quota[HEAVY] = quota[HEAVY].min(unsafe { self.heavy_cap(sched) });
            }
            // SAFETY: as above.
            unsafe { while (*own).tasks_in_list < quota[NORMAL] && self.promote(me) {} }
            // SAFETY: as above.
            let done = unsafe {
                if self.profiles.are_on() {
                    self.run_lists_profiled(me, &mut quota, clock)
                } else {
                    self.run_lists::<false>(me, &mut quota, clock)
                }
            };
            if done == 0 {
                break;
            }
            budget = budget.saturating_sub(done);
        }
        // SAFETY: as above.
        if unsafe { (*own).has_work() } {
            sched.counters.long_rq.add(1);
        }
    }

    // Niced tasks are costly to order, so fewer are taken at once, but never
    // none (museum TASK-28).
    // KEEPS: INV-51
    unsafe fn budget(&self, sched: &Scheduler) -> u32 {
        let total = sched.counters.runnable.get() as u32;
        let mut budget = self.config.depth;
        // SAFETY: the owner thread calls.
        if unsafe { (*sched.owner()).run.has_niced() } {
            budget = budget.div_ceil(4);
        }
        if budget < total && total <= 2 * budget {
            budget = total / 2;
        }
        budget
    }

    // The budget split over the classes that have work, rounded up.
    // KEEPS: INV-43
    unsafe fn quotas(&self, sched: &Scheduler, budget: u32) -> [u32; CLASSES] {
        // SAFETY: the owner thread calls.
        let (mask, waiting) = unsafe { ((*sched.owner()).class_mask, (*sched.owner()).run.len()) };
        let mut weight = WEIGHT;
        for (class, w) in weight.iter_mut().enumerate() {
            let busy = mask & (1 << class) != 0 || class == NORMAL && waiting != 0;
            if !busy {
                *w = 0;
            }
        }
        let sum: u32 = weight.iter().sum();
        if sum == 0 {
            return [0; CLASSES];
        }
        weight.map(|w| (budget * w).div_ceil(sum))
    }

    // How many heavy items one call may run: more as the backlog grows, at
    // least one.
    // KEEPS: INV-45
    unsafe fn heavy_cap(&self, sched: &Scheduler) -> u32 {
        if self.config.low_latency {
            return 1;
        }
        let total = sched.counters.runnable.get() as u32;
        // SAFETY: the owner thread calls.
        let others = unsafe {
            (*sched.owner()).class_mask & !(1 << HEAVY) != 0 || (*sched.owner()).run.len() != 0
        };
        1 + total / if others { 1024 } else { 128 }
    }

    // Out of line, so that without profiling nothing is left of it.
    #[cold]
    #[inline(never)]
    unsafe fn run_lists_profiled(
        &self,
        me: usize,
        quota: &mut [u32; CLASSES],
        clock: &impl Clock,
    ) -> u32 {
        // SAFETY: the call's contract is passed on.
        unsafe { self.run_lists::<true>(me, quota, clock) }
    }

    unsafe fn run_lists<const PROFILED: bool>(
        &self,
        me: usize,
        quota: &mut [u32; CLASSES],
        clock: &impl Clock,
    ) -> u32 {
        let sched = self.sched(me);
        let own = sched.owner();
        let mut done = 0;
        let mut class = URGENT;
        while class < CLASSES {
            // SAFETY: the owner thread calls, here and below.
            unsafe { (*own).current_class = Some(class) };
            while quota[class] > 0 {
                // SAFETY: as above; take's node comes with its ticket.
                let node = unsafe { Self::take(sched, class) };
                if node.is_null() {
                    break;
                }
                // SAFETY: as above.
                match unsafe { self.run_item::<PROFILED>(me, class, node, clock) } {
                    Ran::Counted => {
                        quota[class] -= 1;
                        done += 1;
                    }
                    Ran::Uncounted => {}
                }
                if self.config.low_latency {
                    if class > URGENT && sched.has_mail() {
                        // SAFETY: as above.
                        unsafe { (*own).current_class = None };
                        return done;
                    }
                    // SAFETY: as above.
                    let (mask, waiting) = unsafe { ((*own).class_mask, (*own).run.len()) };
                    if let Some(c) = (0..class).find(|&c| mask & (1 << c) != 0 && quota[c] > 0) {
                        class = c;
                        // SAFETY: as above.
                        unsafe { (*own).current_class = Some(class) };
                    } else if class > NORMAL && waiting != 0 {
                        // SAFETY: as above.
                        unsafe { (*own).current_class = None };
                        return done;
                    }
                }
            }
            class += 1;
        }
        // SAFETY: as above.
        unsafe { (*own).current_class = None };
        done
    }

    // Runs one item that the caller has unlinked.
    // KEEPS: INV-30
    unsafe fn run_item<const PROFILED: bool>(
        &self,
        me: usize,
        class: usize,
        node: *mut Node,
        clock: &impl Clock,
    ) -> Ran {
        let sched = self.sched(me);
        let own = sched.owner();
        // SAFETY: the ticket is ours, so the item is live.
        let kind = Kind::of(unsafe { &*node });
        let is_tasklet = kind.is_tasklet();
        let item: *mut Head = if is_tasklet {
            tasklet_of_rq(node).cast()
        } else {
            task_of_rq(node).cast()
        };
        // SAFETY: the ticket is ours, so the item is live.
        let head = unsafe { &*item };
        if PROFILED {
            // SAFETY: as above.
            unsafe { self.note_wake_date(me, node) };
        }
        let begun = if is_tasklet {
            // SAFETY: as above, and a tasklet.
            match unsafe { &*item.cast::<Tasklet>() }.begin(kind) {
                Some(begun) => begun,
                None => return Ran::Uncounted,
            }
        } else {
            head.state.begin_run()
        };
        let state = match begun {
            Begin::Run(state) => state,
            Begin::Busy => {
                // A timer is being looked at, or a tasklet still runs
                // elsewhere: a later turn will do (INV-30). It costs budget, so
                // that this call ends however long that takes.
                // SAFETY: the ticket is still ours.
                unsafe { Self::append(sched, class, node) };
                return Ran::Counted;
            }
            Begin::Free => {
                // SAFETY: RUNNING and the ticket are ours.
                unsafe { self.reap(node, clock.caller()) };
                return Ran::Uncounted;
            }
        };
        head.calls
            .store(head.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        sched.counters.items.add(1);
        let Some(process) = head.process else {
            panic!("an item without a handler was woken");
        };
        if is_tasklet {
            // SAFETY: the owner thread calls; the handler is the user's word.
            let back = unsafe {
                (*own).current = item;
                self.call::<PROFILED>(me, false, item, process, state)
            };
            // SAFETY: as above. After NULL nothing of the item is read.
            let alive = unsafe { !(*own).current.is_null() } && !back.is_null();
            // SAFETY: as above.
            unsafe { (*own).current = ptr::null_mut() };
            if alive && kind == Kind::Tasklet {
                // SAFETY: it is not freed before this, whoever kills it: only
                // the scheduler frees it then, and finds it occupied.
                unsafe { &(*item.cast::<Tasklet>()).occupied }.end();
            }
            return Ran::Counted;
        }
        sched.counters.tasks.add(1);
        // SAFETY: RUNNING is ours, and the call's contract is passed on.
        unsafe { self.run_task::<PROFILED>(me, item.cast(), process, state, clock) };
        Ran::Counted
    }

    // KEEPS: INV-50
    unsafe fn run_task<const PROFILED: bool>(
        &self,
        me: usize,
        t: *mut Task,
        process: super::Process,
        state: u32,
        clock: &impl Clock,
    ) {
        let own = self.sched(me).owner();
        // SAFETY: RUNNING is ours until it is dropped below or the handler
        // frees the task.
        unsafe {
            (*t).dated().fold();
            (*own).current = t.cast();
            let back = self.call::<PROFILED>(me, true, t.cast(), process, state);
            let alive = !(*own).current.is_null() && !back.is_null();
            (*own).current = ptr::null_mut();
            if !alive {
                return;
            }
            if (*t).head.state.killed() {
                let by = clock.caller();
                self.unlink_timer(&*t, by);
                self.free_task(t, by);
                return;
            }
            let task = &*t;
            let mut wakes = ThreadSet::EMPTY;
            let owes = task
                .dated()
                .end_run(|date| wakes = self.file(task, date, clock.caller()));
            clock.wake(wakes.and(self.dropped(owes, t, clock.caller())));
        }
    }

    /// Panics if thread `me` is inside a handler: `what` must not happen there.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    pub unsafe fn assert_outside(&self, me: usize, what: &str) {
        // SAFETY: the owner thread calls.
        let inside = unsafe { (*self.sched(me).owner()).current_class.is_some() };
        assert!(!inside, "{what}: called from a task's or tasklet's handler");
    }
}
