//! What the queues hold: tasks and tasklets, as C sees them.

use super::dated::Dated;
use super::flags;
use super::occupied::Occupied;
use super::owned::Owned;
use super::request::Request;
use super::state::{Begin, State};
use super::tick;
use crate::sync::Link;
use crate::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use crate::wheel::Node;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

/// A handler: gets the item, its context and the state before the run;
/// returns the item, or NULL where it was freed.
pub type Process = unsafe extern "C" fn(*mut Task, *mut c_void, u32) -> *mut Task;

/// What tasks and tasklets have in common, at the same offsets.
#[repr(C)]
pub struct Head {
    /// The state word.
    pub state: State,
    /// Runs so far; written by the running thread.
    pub calls: AtomicU32,
    /// The handler.
    pub process: Option<Process>,
    /// Handed to the handler.
    pub context: *mut c_void,
}

/// A unit of work with a timer and a priority.
// KEEPS: INV-53
#[repr(C)]
pub struct Task {
    /// The common part.
    pub head: Head,
    /// The date that the handler wants, in ticks. Written by the running
    /// handler or the owner; read by others only while they hold RUNNING.
    pub expire: AtomicI32,
    /// Priority, -1024 (soonest) to 1024.
    pub nice: i16,
    /// Threads that may run it.
    pub thread_mask: AtomicU64,
    /// When it was woken, ns; with profiling.
    pub call_date: u64,
    /// Sum of the waits from wake-up to run, ns; with profiling.
    pub lat_time: u64,
    /// Sum of the time spent in the handler, ns; with profiling.
    pub cpu_time: u64,
    /// The earliest date that others asked for and no run has seen yet.
    pub(super) request: Request,
    /// Whose shared wait queue holds `wq`: [`Home`](super::home::Home).
    pub(super) home: super::home::Home,
    /// Its place in a wait queue.
    pub(super) wq: Node,
    /// Its place in an inbox, the run queue or a class list: last, since who
    /// moves a date leaves it alone.
    pub(super) rq: Node,
}

/// A unit of work without either: "call me soon".
// KEEPS: INV-53
#[repr(C)]
pub struct Tasklet {
    /// The common part.
    pub head: Head,
    /// The thread that runs it; negative: the one that wakes it.
    pub tid: AtomicI32,
    /// Whether its handler runs, where it has no thread of its own.
    pub(super) occupied: Occupied,
    /// Its place in an inbox or a class list.
    pub(super) rq: Node,
    /// Its own thread's ticket, where it has one.
    pub(super) owned: Owned,
    /// What others send its own thread.
    pub(super) mail: Link,
    /// When they did; with profiling.
    pub(super) mailed: u64,
}

const _: () = assert!(offset_of!(Task, wq) == 72 && size_of::<Task>() == 136);
const _: () = assert!(offset_of!(Tasklet, rq) == 32 && size_of::<Tasklet>() == 88);

/// What a node in a run queue or list belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A task on its way into the run queue.
    Task = 0,
    /// A task that goes straight to the urgent class.
    TaskNow = 1,
    /// A task in one of the run queue's buckets.
    TaskInBucket = 2,
    /// A task in the run queue's fast lane.
    TaskInLane = 3,
    /// A tasklet, by the ticket in its state word.
    Tasklet = 4,
    /// A tasklet in a list of its own thread's.
    OwnedTasklet = 5,
}

impl Kind {
    /// The tag of a node in a class list: its kind, and which list.
    pub(super) fn in_class(self, class: usize) -> u8 {
        self as u8 | ((class as u8) << 4)
    }

    /// The class list of a node that is in one.
    pub(super) fn class_of(node: &Node) -> usize {
        usize::from(node.tag >> 4)
    }

    pub(super) fn of(node: &Node) -> Self {
        match node.tag & 0xf {
            0 => Self::Task,
            1 => Self::TaskNow,
            2 => Self::TaskInBucket,
            3 => Self::TaskInLane,
            4 => Self::Tasklet,
            _ => Self::OwnedTasklet,
        }
    }

    pub(super) fn is_tasklet(self) -> bool {
        matches!(self, Self::Tasklet | Self::OwnedTasklet)
    }
}

/// The task whose run-queue node this is.
#[inline]
pub(super) fn task_of_rq(node: *mut Node) -> *mut Task {
    node.wrapping_byte_sub(offset_of!(Task, rq)).cast()
}

/// The tasklet whose run-queue node this is.
#[inline]
pub(super) fn tasklet_of_rq(node: *mut Node) -> *mut Tasklet {
    node.wrapping_byte_sub(offset_of!(Tasklet, rq)).cast()
}

/// The tasklet whose mail this is.
#[inline]
pub(super) fn tasklet_of_mail(mail: *mut Link) -> *mut Tasklet {
    mail.wrapping_byte_sub(offset_of!(Tasklet, mail)).cast()
}

/// The task whose wait-queue node this is.
#[inline]
pub(super) fn task_of_wq(node: *mut Node) -> *mut Task {
    node.wrapping_byte_sub(offset_of!(Task, wq)).cast()
}

impl Task {
    /// Fills `task` in: idle, nice 0, no date, allowed on `mask`.
    ///
    /// # Safety
    /// `task` is valid for writing a `Task`.
    pub unsafe fn init(task: *mut Task, mask: u64) {
        let shared = if mask.count_ones() > 1 {
            flags::SHARED_WQ
        } else {
            0
        };
        let new = Task {
            head: Head {
                state: State::new(shared),
                calls: AtomicU32::new(0),
                process: None,
                context: ptr::null_mut(),
            },
            expire: AtomicI32::new(tick::ETERNITY),
            nice: 0,
            thread_mask: AtomicU64::new(mask),
            call_date: 0,
            lat_time: 0,
            cpu_time: 0,
            rq: Node::new(Kind::Task as u8),
            wq: Node::new(0),
            home: super::home::Home::new(),
            request: Request::new(),
        };
        // SAFETY: by this function's contract.
        unsafe { task.write(new) };
    }

    /// The bit mask of the threads that may run it.
    #[inline]
    pub fn mask(&self) -> u64 {
        self.thread_mask.load(Ordering::Relaxed)
    }

    /// Whether its timer lives in a locked wait queue. Stable from the first
    /// queueing on.
    // KEEPS: INV-35
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.head.state.get() & flags::SHARED_WQ != 0
    }

    /// The only thread that may run it, where there is but one.
    #[inline]
    pub fn owner(&self) -> usize {
        self.mask().trailing_zeros() as usize
    }

    /// The handler's date.
    #[inline]
    pub fn date(&self) -> i32 {
        self.expire.load(Ordering::Relaxed)
    }

    /// The words that decide when it runs.
    #[inline]
    pub(super) fn dated(&self) -> Dated<'_> {
        Dated {
            state: &self.head.state,
            expire: &self.expire,
            request: &self.request,
        }
    }
}

impl Tasklet {
    /// Its own thread, where it has one.
    #[inline]
    pub(super) fn owner(&self) -> Option<usize> {
        usize::try_from(self.tid.load(Ordering::Relaxed)).ok()
    }

    /// Starts its run, once the caller has unlinked it, by the ticket that its
    /// node's kind tells. None: leave it alone, see [`Owned::begin`].
    #[inline(always)]
    pub(super) fn begin(&self, kind: Kind) -> Option<Begin> {
        match kind {
            Kind::OwnedTasklet => self.owned.begin(&self.head.state),
            _ => Some(self.occupied.begin(&self.head.state)),
        }
    }

    /// Gives it a thread of its own, or none.
    pub fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Fills `tasklet` in: idle, no owner, no handler.
    ///
    /// # Safety
    /// `tasklet` is valid for writing a `Tasklet`.
    pub unsafe fn init(tasklet: *mut Tasklet) {
        let new = Tasklet {
            head: Head {
                state: State::new(flags::F_TASKLET),
                calls: AtomicU32::new(0),
                process: None,
                context: ptr::null_mut(),
            },
            tid: AtomicI32::new(-1),
            occupied: Occupied::new(),
            rq: Node::new(Kind::Tasklet as u8),
            owned: Owned::new(),
            mail: Link::new(),
            mailed: 0,
        };
        // SAFETY: by this function's contract.
        unsafe { tasklet.write(new) };
    }
}
