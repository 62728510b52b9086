//! From a ticket to a queue: the right thread's, in the right place.

use super::engine::{Caller, Tasks};
use super::flags;
use super::item::{Kind, Task, Tasklet, task_of_rq, tasklet_of_mail};
use super::scheduler::{BULK, CLASSES, HEAVY, NORMAL, Owner, Scheduler, URGENT};
use super::state::{Unqueued, Wakeup};
use crate::sync::atomic::Ordering;
use crate::sync::{Link, ThreadSet};
use crate::wheel::{List, Node};

// A node's first word is its link while it travels through an inbox.
const _: () = assert!(size_of::<Link>() == size_of::<*mut Node>());

impl Tasks {
    /// Wakes a task for the reasons `why`.
    ///
    /// # Safety
    /// `t` is live and cannot be freed meanwhile.
    #[inline]
    pub unsafe fn wakeup(&self, t: *mut Task, why: u32, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; Insert hands us the ticket.
        unsafe {
            match (*t).head.state.wakeup(why) {
                Wakeup::Noted => ThreadSet::EMPTY,
                Wakeup::Insert => self.enqueue_task(t, by),
            }
        }
    }

    /// The same, past all priorities.
    ///
    /// # Safety
    /// As for [`Tasks::wakeup`].
    pub unsafe fn wakeup_instant(&self, t: *mut Task, why: u32, by: Caller) -> ThreadSet {
        // SAFETY: live by contract; Insert hands us the ticket.
        unsafe {
            match (*t).head.state.wakeup(why) {
                Wakeup::Noted => ThreadSet::EMPTY,
                Wakeup::Insert => self.enqueue_task_now(t, by),
            }
        }
    }

    // Hands a node to another thread, and says what it is.
    // KEEPS: INV-52
    #[inline(never)]
    unsafe fn send(&self, node: *mut Node, kind: Kind, to: usize) -> ThreadSet {
        // SAFETY: the ticket makes the node ours until its receiver takes it.
        unsafe {
            (*node).tag = kind as u8;
            self.sched(to).inbox.push(node.cast());
        }
        match self.presence.others_if_left(to) {
            None => ThreadSet::one(to),
            Some(0) => ThreadSet::EMPTY,
            Some(others) => self.rescue(to, others),
        }
    }

    // Gives what waits in the inbox of a thread that has left to those who
    // may run it; what is bound to that thread goes back. An inbox is taken
    // by one exchange, so it matters not that the thread may do the same.
    #[cold]
    fn rescue(&self, from: usize, others: u64) -> ThreadSet {
        let mut wakes = ThreadSet::EMPTY;
        let inbox = &self.sched(from).inbox;
        // SAFETY: each node comes with its ticket.
        unsafe {
            let mut link = inbox.take();
            while !link.is_null() {
                let next = (*link).next();
                let node: *mut Node = link.cast();
                let kind = Kind::of(&*node);
                let mask = Self::movable_to(node);
                if mask & others != 0 {
                    wakes = wakes.and(self.send(node, kind, self.pick(mask)));
                } else {
                    inbox.push(link);
                    // It may have entered again, and gone to sleep.
                    wakes = wakes.and(ThreadSet::one(from));
                }
                link = next;
            }
        }
        wakes
    }

    /// Queues a task whose ticket the caller holds: here if it may run here.
    ///
    /// # Safety
    /// The caller holds the ticket.
    #[inline]
    pub(super) unsafe fn enqueue_task(&self, t: *mut Task, by: Caller) -> ThreadSet {
        // SAFETY: the ticket's holder may write the task's queueing fields.
        unsafe {
            self.stamp_task(t);
            let mask = (*t).mask();
            let node = &raw mut (*t).rq;
            match by.tid {
                Some(me) if mask & (1 << me) != 0 => {
                    let sched = self.sched(me);
                    (*sched.owner()).run.insert(node);
                    sched.counters.runnable.add(1);
                    ThreadSet::EMPTY
                }
                _ => self.send(node, Kind::Task, self.pick(mask)),
            }
        }
    }

    /// The same, straight to the urgent class.
    ///
    /// # Safety
    /// The caller holds the ticket.
    pub(super) unsafe fn enqueue_task_now(&self, t: *mut Task, by: Caller) -> ThreadSet {
        // SAFETY: the ticket's holder may write the task's queueing fields.
        unsafe {
            self.stamp_task(t);
            let mask = (*t).mask();
            let node = &raw mut (*t).rq;
            match by.tid {
                Some(me) if mask & (1 << me) != 0 => {
                    Self::append(self.sched(me), URGENT, node);
                    ThreadSet::EMPTY
                }
                _ => self.send(node, Kind::TaskNow, self.pick(mask)),
            }
        }
    }

    // Appends to one of the owner's class lists.
    pub(super) unsafe fn append(sched: &Scheduler, class: usize, node: *mut Node) {
        let own = sched.owner();
        // SAFETY: the owner thread calls, with the node's ticket.
        unsafe {
            (*own).classes[class].push_back(node);
            Self::entered_class(sched, class, node);
        }
    }

    // Accounts for a node that has entered a class list.
    // KEEPS: INV-44
    unsafe fn entered_class(sched: &Scheduler, class: usize, node: *mut Node) {
        let own = sched.owner();
        // SAFETY: the owner thread calls.
        unsafe {
            let kind = match Kind::of(&*node) {
                tasklet @ (Kind::Tasklet | Kind::OwnedTasklet) => tasklet,
                _ => {
                    (*own).tasks_in_list += 1;
                    Kind::Task
                }
            };
            Self::mark_in_class(own, class, node, kind);
        }
        sched.counters.runnable.add(1);
    }

    // Says in which class list a node is, and as what.
    #[inline(always)]
    unsafe fn mark_in_class(own: *mut Owner, class: usize, node: *mut Node, kind: Kind) {
        // SAFETY: the owner thread calls, with the node's ticket.
        unsafe {
            (*own).class_mask |= 1 << class;
            (*node).tag = kind.in_class(class);
        }
    }

    // The threads that may run what a node belongs to, where they may change
    // without anybody's doing.
    unsafe fn movable_to(node: *mut Node) -> u64 {
        // SAFETY: the caller has the node's ticket.
        unsafe {
            match Kind::of(&*node) {
                Kind::Tasklet | Kind::OwnedTasklet => 0,
                _ => (*task_of_rq(node)).mask(),
            }
        }
    }

    /// Takes the first item of a class.
    ///
    /// # Safety
    /// Only the owner thread calls this.
    pub(super) unsafe fn take(sched: &Scheduler, class: usize) -> *mut Node {
        // SAFETY: the owner thread calls.
        unsafe {
            let node = (*sched.owner()).classes[class].pop_front();
            if !node.is_null() {
                Self::left_class(sched, class, node);
            }
            node
        }
    }

    // Accounts for a node that has left a class list.
    // KEEPS: INV-44
    unsafe fn left_class(sched: &Scheduler, class: usize, node: *mut Node) {
        let own = sched.owner();
        // SAFETY: the owner thread calls.
        unsafe {
            if (*own).classes[class].is_empty() {
                (*own).class_mask &= !(1 << class);
            }
            if !Kind::of(&*node).is_tasklet() {
                (*own).tasks_in_list -= 1;
            }
        }
        sched.counters.runnable.sub(1);
    }

    /// Moves the first task of the run queue to the normal class.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    pub(super) unsafe fn promote(&self, me: usize) -> bool {
        let sched = self.sched(me);
        let own = sched.owner();
        // SAFETY: the owner thread calls.
        unsafe {
            let node = (*own).run.pop();
            if node.is_null() {
                return false;
            }
            // Runnable before and after.
            (*own).classes[NORMAL].push_back(node);
            (*own).tasks_in_list += 1;
            Self::mark_in_class(own, NORMAL, node, Kind::Task);
        }
        true
    }

    /// Sorts what others sent into this thread's queues.
    ///
    /// # Safety
    /// Only thread `me` calls this.
    // KEEPS: INV-52
    pub(super) unsafe fn drain_inbox(&self, me: usize) {
        let sched = self.sched(me);
        // SAFETY: the owner takes; each node comes with its ticket.
        unsafe {
            let mut link = sched.inbox.take();
            while !link.is_null() {
                let next = (*link).next();
                let node: *mut Node = link.cast();
                (*node).left_inbox();
                match Kind::of(&*node) {
                    Kind::Tasklet | Kind::TaskNow => Self::append(sched, URGENT, node),
                    _ => {
                        (*sched.owner()).run.insert(node);
                        sched.counters.runnable.add(1);
                    }
                }
                link = next;
            }
            let mut mail = sched.mail.take();
            while !mail.is_null() {
                let next = (*mail).next();
                self.fetch(tasklet_of_mail(mail), me);
                mail = next;
            }
        }
    }

    // Others' ticket of a tasklet has come to its thread, which calls.
    unsafe fn fetch(&self, tl: *mut Tasklet, me: usize) {
        // SAFETY: the owner thread calls; the ticket keeps the tasklet alive.
        unsafe {
            assert!(
                (*tl).owner() == Some(me),
                "tasklet_set_tid: a tasklet of thread {me} was woken already"
            );
            if (*tl).owned.fetched() == Wakeup::Insert {
                let node = &raw mut (*tl).rq;
                (*node).set_time((*tl).mailed);
                (*node).tag = Kind::OwnedTasklet as u8;
                Self::append(self.sched(me), URGENT, node);
            }
        }
    }

    /// Gives what thread `tid`, which leaves, holds for others to those who
    /// may run it.
    // KEEPS: INV-59
    pub(super) fn hand_over(&self, tid: usize) -> ThreadSet {
        let mut wakes = ThreadSet::EMPTY;
        let sched = self.sched(tid);
        let own = sched.owner();
        let others = self.presence.get();
        // SAFETY: the leaving thread calls, so the queues are still its own.
        // What nobody else may run goes back and waits for the next one.
        unsafe {
            self.drain_inbox(tid);
            for _ in 0..(*own).run.len() {
                let node = (*own).run.pop();
                let t = task_of_rq(node);
                if (*t).mask() & others != 0 {
                    sched.counters.runnable.sub(1);
                    wakes = wakes.and(self.send(node, Kind::Task, self.pick((*t).mask())));
                } else {
                    (*own).run.insert(node);
                }
            }
            for class in 0..CLASSES {
                let mut keep = List::new();
                loop {
                    let node = Self::take(sched, class);
                    if node.is_null() {
                        break;
                    }
                    let mask = Self::movable_to(node);
                    if mask & others != 0 {
                        wakes = wakes.and(self.send(node, Kind::TaskNow, self.pick(mask)));
                    } else {
                        keep.push_back(node);
                    }
                }
                loop {
                    let node = keep.pop_front();
                    if node.is_null() {
                        break;
                    }
                    Self::append(sched, class, node);
                }
            }
        }
        wakes
    }

    // The class of a tasklet that its own thread wakes.
    unsafe fn local_class(own: *mut Owner, tl: *mut Tasklet) -> usize {
        // SAFETY: the owner thread calls.
        unsafe {
            let state = (*tl).head.state.get();
            if state & flags::HEAVY != 0 {
                return HEAVY;
            }
            if state & flags::SELF_WAKING != 0 {
                return BULK;
            }
            if (*own).current == tl.cast() {
                (*tl).head.state.set(flags::SELF_WAKING);
                return BULK;
            }
            (*own).current_class.unwrap_or(URGENT)
        }
    }

    /// Hands a tasklet on by the ticket in its state word, which the caller
    /// holds: to its own thread, or to `to`, or to the calling one.
    ///
    /// # Safety
    /// The caller holds that ticket.
    pub(super) unsafe fn deliver(
        &self,
        tl: *mut Tasklet,
        to: Option<usize>,
        by: Caller,
    ) -> ThreadSet {
        // SAFETY: the ticket's holder may write the queueing fields.
        unsafe {
            let owner = (*tl).owner();
            let Some(to) = owner.or(to).or(by.tid) else {
                panic!("a tasklet without a thread was woken by a thread that is not registered");
            };
            assert!(
                to < self.nbthread(),
                "a tasklet was woken on thread {to}, which does not exist"
            );
            self.stamp_tasklet(tl, owner.is_some());
            if owner.is_some() {
                if by.tid == owner {
                    self.fetch(tl, to);
                    return ThreadSet::EMPTY;
                }
                self.sched(to).mail.push(&raw mut (*tl).mail);
                return ThreadSet::one(to);
            }
            let node = &raw mut (*tl).rq;
            (*node).tag = Kind::Tasklet as u8;
            if by.tid == Some(to) {
                let sched = self.sched(to);
                let class = Self::local_class(sched.owner(), tl);
                Self::append(sched, class, node);
                ThreadSet::EMPTY
            } else {
                self.send(node, Kind::Tasklet, to)
            }
        }
    }

    /// Wakes a tasklet on thread `to`, or where its `tid` says.
    ///
    /// # Safety
    /// `tl` is live and cannot be freed meanwhile.
    #[inline(always)]
    pub unsafe fn wakeup_tasklet(
        &self,
        tl: *mut Tasklet,
        to: Option<usize>,
        by: Caller,
    ) -> ThreadSet {
        // SAFETY: live by contract; Insert hands us the own ticket.
        unsafe {
            match by.tid {
                Some(me) if (*tl).owner() == Some(me) && to.is_none_or(|to| to == me) => {
                    if (*tl).owned.wake() == Wakeup::Insert {
                        self.append_own(tl, me);
                    }
                    ThreadSet::EMPTY
                }
                _ => self.wakeup_elsewhere(tl, to, by),
            }
        }
    }

    // The same but for the thread's own.
    #[inline(never)]
    unsafe fn wakeup_elsewhere(
        &self,
        tl: *mut Tasklet,
        to: Option<usize>,
        by: Caller,
    ) -> ThreadSet {
        // SAFETY: live by contract; Insert hands us the ticket.
        unsafe {
            if let (Some(owner), Some(to)) = ((*tl).owner(), to) {
                assert!(
                    to == owner,
                    "a tasklet of thread {owner} was woken on thread {to}"
                );
            }
            match (*tl).head.state.wakeup_tasklet(flags::WOKEN_OTHER) {
                Wakeup::Noted => ThreadSet::EMPTY,
                Wakeup::Insert => self.deliver(tl, to, by),
            }
        }
    }

    // Queues a tasklet of the calling thread's by its own ticket.
    #[inline]
    unsafe fn append_own(&self, tl: *mut Tasklet, me: usize) {
        // SAFETY: the owner thread calls, and holds its ticket.
        unsafe {
            self.stamp_tasklet(tl, false);
            let sched = self.sched(me);
            let own = sched.owner();
            let class = Self::local_class(own, tl);
            let node = &raw mut (*tl).rq;
            (*own).classes[class].push_back(node);
            Self::mark_in_class(own, class, node, Kind::OwnedTasklet);
            sched.counters.runnable.add(1);
        }
    }

    /// Wakes a tasklet to run next on the calling thread: at the front of its
    /// class, or after `head`. Returns the place for the one to follow.
    ///
    /// # Safety
    /// The calling thread is `me`; `tl` is its own or nobody's; `head` is
    /// NULL or a node that this function returned and that still waits.
    pub unsafe fn wakeup_after(&self, head: *mut Node, tl: *mut Tasklet, me: usize) -> *mut Node {
        // SAFETY: by this function's contract.
        unsafe {
            let owner = (*tl).owner();
            assert!(
                owner.is_none_or(|owner| owner == me),
                "tasklet_wakeup_after: thread {me} wakes a tasklet of another thread"
            );
            let (ticket, kind) = if owner.is_some() {
                ((*tl).owned.wake(), Kind::OwnedTasklet)
            } else {
                let state = &(*tl).head.state;
                (state.wakeup_tasklet(flags::WOKEN_OTHER), Kind::Tasklet)
            };
            match ticket {
                Wakeup::Noted => head,
                Wakeup::Insert => {
                    self.stamp_tasklet(tl, false);
                    (*tl).rq.tag = kind as u8;
                    let sched = self.sched(me);
                    let own = sched.owner();
                    let node = &raw mut (*tl).rq;
                    let class = Self::local_class(own, tl);
                    if head.is_null() {
                        (*own).classes[class].push_front(node);
                    } else {
                        (*own).classes[class].insert_after(head, node);
                    }
                    Self::entered_class(sched, class, node);
                    node
                }
            }
        }
    }

    /// Cancels a tasklet's pending run. Once or twice is the same.
    ///
    /// # Safety
    /// The calling thread is the one in whose queues the tasklet would be.
    pub unsafe fn remove_tasklet(&self, tl: *mut Tasklet, by: Caller) {
        let Some(me) = by.tid else {
            panic!("a tasklet's run was cancelled by a thread that is not registered");
        };
        let sched = self.sched(me);
        let own = sched.owner();
        // SAFETY: after the inbox is sorted, a linked node is in one of our
        // class lists.
        unsafe {
            let tid = (*tl).tid.load(Ordering::Relaxed);
            assert!(
                tid < 0 || tid as usize == me,
                "thread {me} takes a tasklet of thread {tid} out of its queue"
            );
            self.drain_inbox(me);
            let node = &raw mut (*tl).rq;
            if !(*node).is_linked() {
                return;
            }
            let class = Kind::class_of(&*node);
            (*own).classes[class].remove(node);
            Self::left_class(sched, class, node);
            let tickets = match Kind::of(&*node) {
                Kind::OwnedTasklet => (*tl).owned.cancel(&(*tl).head.state),
                _ => (*tl).head.state.unqueue(),
            };
            if tickets == Unqueued::Killed {
                Self::append(sched, class, node);
            }
        }
    }

    /// Takes a task out of the run queue, if it is still there by priority.
    ///
    /// # Safety
    /// `t` is live; called by the thread in whose queue it would be.
    pub unsafe fn unlink_runnable(&self, t: *mut Task, by: Caller) {
        let Some(me) = by.tid else { return };
        // SAFETY: after the inbox is sorted, a node tagged as in the run
        // queue and linked there is ours to remove.
        unsafe {
            self.drain_inbox(me);
            if self.in_run_queue(t) {
                let sched = self.sched(me);
                let node = &raw mut (*t).rq;
                (*sched.owner()).run.remove(node);
                sched.counters.runnable.sub(1);
                (*node).tag = Kind::Task as u8;
                if (*t).head.state.unqueue() == Unqueued::Killed {
                    Self::append(sched, NORMAL, node);
                }
            }
        }
    }

    /// Whether a task waits in a run queue by priority (not in a class list,
    /// nor on its way to another thread).
    ///
    /// # Safety
    /// `t` is live.
    pub unsafe fn in_run_queue(&self, t: *mut Task) -> bool {
        // SAFETY: live by contract. Stale for tasks of other threads.
        unsafe {
            (*t).head.state.get() & flags::QUEUED != 0
                && matches!(Kind::of(&(*t).rq), Kind::TaskInBucket | Kind::TaskInLane)
        }
    }

    /// Whether thread `me` has anything to run. The re-check of the sleep
    /// protocol.
    // KEEPS: INV-46
    #[inline]
    pub fn has_work(&self, me: usize) -> bool {
        let sched = self.sched(me);
        // SAFETY: the owner thread calls.
        sched.has_mail() || unsafe { (*sched.owner()).has_work() }
    }
}
