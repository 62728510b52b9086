//! One thread's share of the engine: what it alone touches, and what others
//! reach.

use super::item::Head;
use super::run_queue::RunQueue;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Counter, Inbox, Mutex, UnsafeCell};
use crate::wheel::{List, Wheel};
use core::ptr;

/// Tasklet classes, most urgent first.
pub const URGENT: usize = 0;
/// Where tasks run.
pub const NORMAL: usize = 1;
/// Where those go that wake themselves.
pub const BULK: usize = 2;
/// The very expensive ones.
pub const HEAVY: usize = 3;
/// How many classes there are.
pub const CLASSES: usize = 4;

/// The date of a wait queue with nothing in it.
pub const NEVER: u64 = u64::MAX;

/// One thread's queues. It outlives the threads that enter under its id, so
/// bound tasks stay armed for the next one.
// KEEPS: INV-59
#[repr(C, align(64))]
pub struct Scheduler {
    // -- for everybody
    /// Tasks, and tasklets without an owner, that other threads woke here.
    pub inbox: Inbox,
    /// Tasklets of this thread's that others woke.
    pub mail: Inbox,
    /// The wheel of shared tasks that are filed here.
    pub shared: Mutex<Wheel>,
    /// The next date of `shared`, written under its lock, read by all.
    pub shared_next: AtomicU64,
    /// What this thread did; written by it alone.
    pub counters: Counters,
    // -- for the owner
    owner: UnsafeCell<Owner>,
}

/// What the owner thread alone touches.
pub struct Owner {
    /// Timers of private tasks.
    pub timers: Wheel,
    /// Runnable tasks by priority.
    pub run: RunQueue,
    /// Items about to run, by class.
    pub classes: [List; CLASSES],
    /// Non-empty classes, one bit each.
    pub class_mask: u8,
    /// How many of them are tasks.
    pub tasks_in_list: u32,
    /// The item being run; NULL outside, and once it was freed.
    pub current: *mut Head,
    /// The class being run; `None` outside the scheduler.
    pub current_class: Option<usize>,
}

/// What a thread did, for statistics.
pub struct Counters {
    /// Items run.
    pub items: Counter,
    /// Tasks run.
    pub tasks: Counter,
    /// Scheduler calls with nothing to do.
    pub empty_rq: Counter,
    /// Scheduler calls that ended with work left.
    pub long_rq: Counter,
    /// Timers that expired.
    pub expired: Counter,
    /// Runnable items now (tasks and tasklets, inbox excluded).
    pub runnable: Counter,
    /// Armed private timers now.
    pub armed: Counter,
}

// SAFETY: `owner` is reached through Scheduler::owner() only, whose contract
// admits one thread; the rest is made of thread-safe parts.
unsafe impl Sync for Scheduler {}

impl Scheduler {
    /// Empty queues at date `now`.
    pub const fn new(depth: u32, now: u64) -> Self {
        Self {
            inbox: Inbox::new(),
            mail: Inbox::new(),
            shared: Mutex::new(Wheel::new(now)),
            shared_next: AtomicU64::new(NEVER),
            counters: Counters {
                items: Counter::new(),
                tasks: Counter::new(),
                empty_rq: Counter::new(),
                long_rq: Counter::new(),
                expired: Counter::new(),
                runnable: Counter::new(),
                armed: Counter::new(),
            },
            owner: UnsafeCell::new(Owner {
                timers: Wheel::new(now),
                run: RunQueue::new(depth),
                classes: [const { List::new() }; CLASSES],
                class_mask: 0,
                tasks_in_list: 0,
                current: ptr::null_mut(),
                current_class: None,
            }),
        }
    }

    /// The owner's part. A raw pointer, because handlers re-enter: every use
    /// is a short access that ends before user code is called.
    #[inline(always)]
    pub fn owner(&self) -> *mut Owner {
        self.owner.with_mut(|p| p)
    }

    /// Whether other threads have sent anything.
    // KEEPS: INV-58
    #[inline]
    pub fn has_mail(&self) -> bool {
        !self.inbox.is_empty() || !self.mail.is_empty()
    }

    /// The next date of the shared wheel, [`NEVER`] if it is empty.
    #[inline]
    pub fn next_shared(&self) -> u64 {
        self.shared_next.load(Ordering::Relaxed)
    }

    /// Publishes the shared wheel's next date; the caller holds its lock.
    #[inline]
    pub fn publish_next(&self, wheel: &mut Wheel) {
        let next = wheel.next().unwrap_or(NEVER);
        if next != self.next_shared() {
            self.shared_next.store(next, Ordering::Relaxed);
        }
    }
}

impl Owner {
    /// Whether anything but the inbox waits.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.class_mask != 0 || self.run.len() != 0
    }
}
