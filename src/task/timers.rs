//! Dates: private wheels without a lock, shared wheels with one each.
//!
//! A node's place in a wheel is never later than its task's date (INV-37).
//! Postponing touches the date alone; the node is put right when the scan
//! meets it, and a place that has come without its date calls nobody
//! (INV-38).

use super::dated::Place;
use super::engine::{Caller, Tasks};
use super::flags;
use super::item::{Task, task_of_rq, task_of_wq};
use super::scheduler::NEVER;
use super::state::{Dropped, Wakeup};
use super::tick;
use crate::sync::ThreadSet;
use crate::sync::atomic::Ordering;
use crate::wheel::{List, Wheel};

#[cold]
#[inline(never)]
fn refuse(task: &Task, tid: Option<usize>, what: &str) -> ! {
    let process = task.head.process.map_or(0, |p| p as usize);
    match tid {
        Some(me) => panic!(
            "{what}: the task with handler {process:#x} is private to thread {}, \
             but thread {me} touches its timer; it lacks TASK_SHARED_WQ",
            task.owner()
        ),
        None => panic!(
            "{what}: the task with handler {process:#x} is private to thread {}, \
             but an unregistered thread touches its timer; it lacks TASK_SHARED_WQ",
            task.owner()
        ),
    }
}

impl Tasks {
    // Which queue a task's timer belongs to. Decided once per operation, from
    // a flag that does not change once the task has been queued.
    // KEEPS: INV-35, INV-36
    #[inline(always)]
    fn check_owner(&self, task: &Task, by: Caller, what: &str) {
        if by.tid != Some(task.owner()) {
            refuse(task, by.tid, what);
        }
    }

    /// Files a task by its date: queues it, or moves it if that is earlier.
    ///
    /// # Safety
    /// `t` is live and cannot be freed meanwhile.
    #[inline(always)]
    pub unsafe fn queue(&self, t: *mut Task, by: Caller) -> ThreadSet {
        // SAFETY: live by contract.
        let task = unsafe { &*t };
        match task.date() {
            tick::ETERNITY => ThreadSet::EMPTY,
            date => self.file(task, date, by),
        }
    }

    /// Files a task at `date` or earlier.
    // KEEPS: INV-37
    #[inline(always)]
    pub(super) fn file(&self, task: &Task, date: i32, by: Caller) -> ThreadSet {
        let date = tick::unwrap(date, by.now);
        if task.is_shared() {
            return self.file_shared(task, date, by);
        }
        self.check_owner(task, by, "task_queue");
        // What most calls come to is that it was moved later.
        if !task.wq.is_linked() || date < task.wq.time() {
            self.file_private(task, date);
        }
        ThreadSet::EMPTY
    }

    /// Wakes a task at `when` at the latest.
    ///
    /// # Safety
    /// `t` is live and cannot be freed meanwhile.
    pub unsafe fn schedule(&self, t: *mut Task, when: i32, by: Caller) -> ThreadSet {
        // SAFETY: live by contract.
        let task = unsafe { &*t };
        assert!(
            when != tick::ETERNITY,
            "task_schedule: the date is TICK_ETERNITY"
        );
        // One that is about to run is left alone: its handler decides anew.
        if task.is_shared() {
            if task.head.state.still_queued() {
                return ThreadSet::EMPTY;
            }
        } else {
            self.check_owner(task, by, "task_schedule");
            // Nobody but this thread begins its runs.
            if task.head.state.get() & flags::QUEUED != 0 {
                return ThreadSet::EMPTY;
            }
            let when = if task.wq.is_linked() {
                tick::first(when, task.date())
            } else {
                when
            };
            task.expire.store(when, Ordering::Relaxed);
            return self.file(task, when, by);
        }
        let mut wakes = ThreadSet::EMPTY;
        let owes = task.dated().bring_forward(
            when,
            || task.home.is_filed(),
            |date| wakes = self.file_shared(task, tick::unwrap(date, by.now), by),
        );
        // SAFETY: Insert hands us the ticket.
        wakes.and(unsafe { self.dropped(owes, t, by) })
    }

    // Pays what the end of RUNNING owes.
    #[inline(always)]
    pub(super) unsafe fn dropped(&self, owes: Dropped, t: *mut Task, by: Caller) -> ThreadSet {
        match owes {
            Dropped::Idle => ThreadSet::EMPTY,
            // SAFETY: the ticket is ours.
            Dropped::Insert => unsafe { self.enqueue_task(t, by) },
        }
    }

    // Files a task that is nowhere, or moves it forward.
    #[inline(never)]
    fn file_private(&self, task: &Task, date: u64) {
        let sched = self.sched(task.owner());
        let node = (&raw const task.wq).cast_mut();
        // SAFETY: the caller is the owner thread, whose wheel this is.
        unsafe {
            let timers = &mut (*sched.owner()).timers;
            if (*node).is_linked() {
                timers.remove(node);
            } else {
                sched.counters.armed.add(1);
            }
            timers.add(node, date, 0);
        }
    }

    // Files a shared task at `date` or earlier, wherever it is, and says whom
    // to wake for it.
    // KEEPS: INV-36, INV-37
    #[inline(never)]
    fn file_shared(&self, task: &Task, date: u64, by: Caller) -> ThreadSet {
        let node = (&raw const task.wq).cast_mut();
        // A task that is nowhere goes to the caller, who is awake and computes
        // its poll timeout afterwards.
        let wanted = || by.tid.unwrap_or_else(|| self.pick(task.mask()));
        let (k, mut wheel, filed) = task.home.lock_or_claim(wanted, |k| &self.sched(k).shared);
        let sched = self.sched(k);
        // SAFETY: the lock of the wheel that the home word names is ours.
        unsafe {
            if filed {
                if date >= (*node).time() {
                    return ThreadSet::EMPTY;
                }
                wheel.remove(node);
            } else if wheel.is_empty() {
                // Its clock may stand where the last timer left it.
                wheel.reset(by.now);
            }
            wheel.add(node, date, 0);
        }
        let before = sched.next_shared();
        sched.publish_next(&mut wheel);
        drop(wheel);
        if date >= before {
            return ThreadSet::EMPTY;
        }
        // Its owner may be busy when the date comes, even if that is the caller.
        let lookout = self.lookout.reckon(date);
        if by.tid == Some(k) {
            lookout
        } else {
            lookout.and(self.heir(k))
        }
    }

    /// Takes a task's timer out of its wait queue, if it is in one.
    ///
    /// # Safety
    /// `task` is live; a private one is the caller's own.
    pub(super) unsafe fn unlink_timer(&self, task: &Task, by: Caller) {
        if !task.is_shared() {
            // SAFETY: the owner thread calls.
            return unsafe { self.unlink_private(task, by) };
        }
        let node = (&raw const task.wq).cast_mut();
        if let Some((k, mut wheel)) = task.home.lock(|k| &self.sched(k).shared) {
            // SAFETY: the lock of the wheel that the home word names is ours.
            unsafe { wheel.remove(node) };
            task.home.leave(k);
            self.sched(k).publish_next(&mut wheel);
        }
    }

    #[inline(always)]
    unsafe fn unlink_private(&self, task: &Task, by: Caller) {
        self.check_owner(task, by, "task_unlink_wq");
        // SAFETY: the owner thread calls.
        unsafe {
            if task.wq.is_linked() {
                let sched = self.sched(task.owner());
                let node = (&raw const task.wq).cast_mut();
                (*sched.owner()).timers.remove(node);
                sched.counters.armed.sub(1);
            }
        }
    }

    /// Takes a task out of its wait queue, with what others asked for.
    ///
    /// # Safety
    /// `t` is live and cannot be freed meanwhile.
    #[inline(always)]
    pub unsafe fn unqueue(&self, t: *mut Task, by: Caller) {
        // SAFETY: live by contract; an unlinked private task needs no owner.
        unsafe {
            let task = &*t;
            if task.is_shared() {
                self.unqueue_shared(task, by);
            } else if task.wq.is_linked() {
                self.unlink_private(task, by);
            }
        }
    }

    #[inline(never)]
    unsafe fn unqueue_shared(&self, task: &Task, by: Caller) {
        // SAFETY: live by the caller's contract.
        task.dated()
            .cancel(|| unsafe { self.unlink_timer(task, by) });
    }

    /// Whether a task waits for its date.
    ///
    /// # Safety
    /// `t` is live.
    pub unsafe fn in_wait_queue(&self, t: *mut Task) -> bool {
        // SAFETY: live by contract. Stale for tasks that others may move.
        unsafe {
            if (*t).is_shared() {
                (*t).home.is_filed()
            } else {
                (*t).wq.is_linked()
            }
        }
    }

    /// Changes the threads that may run a task. A queued timer goes along;
    /// from then on it lives in a shared queue if it has left its thread.
    ///
    /// # Safety
    /// Called by the task's handler, or before its first queueing.
    // KEEPS: INV-54
    pub unsafe fn set_affinity(&self, t: *mut Task, mask: u64, by: Caller) -> ThreadSet {
        let mask = mask & self.all();
        assert!(mask != 0, "task_set_affinity: the mask names no thread");
        // SAFETY: live by contract.
        let task = unsafe { &*t };
        if task.is_shared() || mask == task.mask() {
            task.thread_mask.store(mask, Ordering::Relaxed);
            return ThreadSet::EMPTY;
        }
        // SAFETY: a private task's handler or its creator calls, so that only
        // this thread can have linked it.
        unsafe {
            let linked = task.wq.is_linked();
            let place = task.wq.time();
            if linked {
                self.unlink_timer(task, by);
            }
            let used = linked || task.head.state.get() & (flags::RUNNING | flags::QUEUED) != 0;
            if used || mask.count_ones() > 1 {
                task.head.state.set(flags::SHARED_WQ);
            }
            task.thread_mask.store(mask, Ordering::Relaxed);
            if linked {
                return self.file_shared(task, place, by);
            }
        }
        ThreadSet::EMPTY
    }

    /// Wakes the tasks whose date has come: this thread's own, and those in
    /// its shared wheel. At most the run queue's depth of them (INV-42), half
    /// of it private ones where both have some: tasks that file themselves for
    /// now again and again keep no others waiting.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    #[inline]
    pub unsafe fn wake_expired(&self, me: usize, by: Caller) -> ThreadSet {
        let sched = self.sched(me);
        // SAFETY: the owner thread calls.
        let timers = unsafe { &mut (*sched.owner()).timers };
        if timers.is_empty() {
            timers.reset(by.now);
        }
        // SAFETY: by this function's contract.
        if unsafe { self.has_passed(me, by.now) } {
            return ThreadSet::EMPTY;
        }
        // SAFETY: as above.
        unsafe { self.wake_due(me, by) }
    }

    /// Whether nothing is due at `now` in thread `me`'s wheels: its own had
    /// their pass, perhaps in an earlier turn of the same millisecond.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    #[inline]
    pub unsafe fn has_passed(&self, me: usize, now: u64) -> bool {
        let sched = self.sched(me);
        // SAFETY: the owner thread calls.
        let timers = unsafe { &(*sched.owner()).timers };
        sched.next_shared() > now && (timers.is_empty() || timers.has_passed(now))
    }

    // KEEPS: INV-42
    unsafe fn wake_due(&self, me: usize, by: Caller) -> ThreadSet {
        let depth = self.config.depth;
        let shared_due = self.sched(me).next_shared() <= by.now;
        let mut left = if shared_due { depth.div_ceil(2) } else { depth };
        // SAFETY: by this function's contract.
        let wakes = unsafe { self.expire_private(me, &mut left, by) };
        if !shared_due {
            return wakes;
        }
        // A depth of 1 has no half: one for each.
        left += (depth / 2).max(1);
        wakes.and(self.expire_shared(me, &mut left, by))
    }

    /// Serves other threads' shared wheels that are overdue: for a thread
    /// that is about to sleep, so that a busy one delays nobody's timers.
    pub fn serve_overdue(&self, me: usize, by: Caller) -> ThreadSet {
        let mut wakes = ThreadSet::EMPTY;
        let mut budget = self.config.depth;
        for k in 0..self.nbthread() {
            if k != me && self.sched(k).next_shared() <= by.now {
                wakes = wakes.and(self.expire_shared(k, &mut budget, by));
            }
        }
        wakes
    }

    // KEEPS: INV-38
    unsafe fn expire_private(&self, me: usize, budget: &mut u32, by: Caller) -> ThreadSet {
        let sched = self.sched(me);
        let own = sched.owner();
        let mut wakes = ThreadSet::EMPTY;
        // SAFETY: the owner thread calls; no handler runs in here.
        unsafe {
            let timers = &raw mut (*own).timers;
            if (*timers).is_empty() {
                (*timers).reset(by.now);
                return wakes;
            }
            (*timers).advance(by.now, *budget as usize);
            while *budget > 0 {
                let node = (*timers).pop_due();
                if node.is_null() {
                    break;
                }
                *budget -= 1;
                sched.counters.armed.sub(1);
                let t = task_of_wq(node);
                let date = (*t).date();
                if date == tick::ETERNITY {
                    continue;
                }
                let date = tick::unwrap(date, by.now);
                if date <= by.now {
                    sched.counters.expired.add(1);
                    match (*t).head.state.wakeup(flags::WOKEN_TIMER) {
                        Wakeup::Noted => {}
                        Wakeup::Insert => wakes = wakes.and(self.enqueue_task(t, by)),
                    }
                } else {
                    sched.counters.armed.add(1);
                    (*timers).add(node, date, 0);
                }
            }
        }
        wakes
    }

    // Serves thread k's shared wheel. Each task is looked at with RUNNING
    // held, so that nobody runs, frees or reschedules it meanwhile; dropping
    // RUNNING is the last thing done to it, and makes the ticket before the
    // lock is released.
    // KEEPS: INV-36, INV-38, INV-41
    fn expire_shared(&self, k: usize, budget: &mut u32, by: Caller) -> ThreadSet {
        let sched = self.sched(k);
        let mut woken = List::new();
        let mut expired = 0;
        {
            let mut guard = sched.shared.lock();
            let wheel: &mut Wheel = &mut guard;
            // SAFETY: the wheel's lock is ours, so its nodes are.
            unsafe {
                wheel.advance(by.now, *budget as usize);
                while *budget > 0 {
                    let node = wheel.peek_due();
                    if node.is_null() {
                        break;
                    }
                    *budget -= 1;
                    let task = &*task_of_wq(node);
                    wheel.remove(node);
                    let (owes, due) = task.dated().look(
                        flags::WOKEN_TIMER,
                        |date| tick::unwrap(date, by.now) <= by.now,
                        |place| match place {
                            Place::Keep => wheel.add(node, by.now + 1, 0),
                            Place::Move(date) => wheel.add(node, tick::unwrap(date, by.now), 0),
                            Place::Leave => task.home.leave(k),
                        },
                    );
                    expired += u64::from(due);
                    if owes == Dropped::Insert {
                        woken.push_back((&raw const task.rq).cast_mut());
                    }
                }
            }
            sched.publish_next(wheel);
        }
        let mut wakes = ThreadSet::EMPTY;
        if let Some(me) = by.tid {
            self.sched(me).counters.expired.add(expired);
        }
        loop {
            // SAFETY: the tickets of these tasks are ours.
            unsafe {
                let node = woken.pop_front();
                if node.is_null() {
                    return wakes;
                }
                wakes = wakes.and(self.enqueue_task(task_of_rq(node), by));
            }
        }
    }

    /// The next date of thread `me`: of its private and its shared wheel.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    pub unsafe fn next_expiry(&self, me: usize) -> Option<u64> {
        let sched = self.sched(me);
        // SAFETY: the owner thread calls.
        let private = unsafe { (*sched.owner()).timers.next() };
        let next = private.unwrap_or(NEVER).min(sched.next_shared());
        (next != NEVER).then_some(next)
    }

    /// The next date in the other threads' shared wheels, [`NEVER`] if there
    /// is none.
    pub fn next_of_others(&self, me: usize) -> u64 {
        (0..self.nbthread())
            .filter(|&k| k != me)
            .map(|k| self.sched(k).next_shared())
            .min()
            .unwrap_or(NEVER)
    }

    /// Thread `me`, the lookout perhaps, is going to do something that may
    /// take long: somebody else has to reckon with what is filed.
    #[inline]
    pub fn pass_lookout_on(&self, me: usize) -> ThreadSet {
        if !self.lookout.give_up(me) {
            return ThreadSet::EMPTY;
        }
        let own = self.sched(me).next_shared();
        match own.min(self.next_of_others(me)) {
            NEVER => ThreadSet::EMPTY,
            _ => self.lookout.appoint(),
        }
    }
}
