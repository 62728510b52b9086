//! keel/task.h: tasks, tasklets, their queues.

use crate::runtime;
use crate::task::flags;
use crate::task::{Caller, Task, Tasklet, Tasks, tick};
use core::ffi::{c_int, c_short, c_uint, c_ulong, c_void};
use core::mem::offset_of;
use core::ptr;

/// Nothing set: the task does nothing and waits for nothing but its date.
pub const TASK_SLEEPING: c_uint = 0x0000_0000;
/// Its handler runs, or its timer is being looked at.
pub const TASK_RUNNING: c_uint = 0x0000_0001;
/// It is in a run queue, or being put there.
pub const TASK_QUEUED: c_uint = 0x0000_0004;
/// Other threads may move its timer, which lives in a locked wait queue. Set
/// by task_new() where the task may run on several threads; set it on others
/// before their first queueing if foreign threads will schedule them.
pub const TASK_SHARED_WQ: c_uint = 0x0000_0008;
/// It was seen waking itself. Never cleared by the library.
pub const TASK_SELF_WAKING: c_uint = 0x0000_0010;
/// It is going to be freed by the scheduler.
pub const TASK_KILLED: c_uint = 0x0000_0020;
/// It is very expensive: few such items run per turn. The user's to set and
/// clear, atomically.
pub const TASK_HEAVY: c_uint = 0x0000_0080;
/// Woken for the first time.
pub const TASK_WOKEN_INIT: c_uint = 0x0000_0100;
/// Woken because its date has come.
pub const TASK_WOKEN_TIMER: c_uint = 0x0000_0200;
/// Woken by input or output.
pub const TASK_WOKEN_IO: c_uint = 0x0000_0400;
/// Woken by a signal.
pub const TASK_WOKEN_SIGNAL: c_uint = 0x0000_0800;
/// Woken by a message.
pub const TASK_WOKEN_MSG: c_uint = 0x0000_1000;
/// Woken because a resource is there.
pub const TASK_WOKEN_RES: c_uint = 0x0000_2000;
/// Woken for another reason.
pub const TASK_WOKEN_OTHER: c_uint = 0x0000_4000;
/// All reasons.
pub const TASK_WOKEN_ANY: c_uint = 0x0000_7f00;
/// It is a tasklet.
pub const TASK_F_TASKLET: c_uint = 0x0000_8000;
/// The application's own flag, kept across runs.
pub const TASK_F_USR1: c_uint = 0x0001_0000;

/// A unit of work with a timer and a priority. Made by task_new() and its
/// like, freed by task_destroy() or task_kill().
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct task {
    /// TASK_* flags. Read it atomically; change it by the functions below.
    pub state: c_uint,
    /// How often the handler has run.
    pub calls: c_uint,
    /// The handler. It gets the task, its context and the state before the
    /// run, with all reasons; it returns the task, or NULL if it destroyed it.
    /// Only one instance runs at a time.
    pub process:
        Option<unsafe extern "C" fn(t: *mut task, ctx: *mut c_void, state: c_uint) -> *mut task>,
    /// Handed to the handler.
    pub context: *mut c_void,
    /// The date of the next wake-up, in ticks; TICK_ETERNITY: none. The
    /// handler sets it, and the scheduler queues the task when it returns.
    /// Elsewhere use task_schedule(), or write it and call task_queue() on
    /// the thread that owns the task. Moving it later needs no call.
    pub expire: c_int,
    /// Priority: -1024 (soonest) to 1024; 0 by default.
    pub nice: c_short,
    /// The threads that may run it. Change it by task_set_affinity().
    pub thread_mask: c_ulong,
    /// When it was last woken, CLOCK_MONOTONIC nanoseconds; with profiling.
    pub call_date: u64,
    /// Nanoseconds that it has waited in run queues; with profiling.
    pub lat_time: u64,
    /// Nanoseconds that its handler has taken; with profiling.
    pub cpu_time: u64,
    /// The library's.
    pub keel_private: [u64; 9],
}

/// A unit of work without timer or priority: "call me soon". Made by
/// tasklet_new(), or embedded and prepared by tasklet_init().
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct tasklet {
    /// TASK_* flags, as a task's. While it waits because its own thread has
    /// woken it, TASK_QUEUED is not set.
    pub state: c_uint,
    /// How often the handler has run.
    pub calls: c_uint,
    /// The handler, called like a task's. It returns its first argument, or
    /// NULL if the tasklet was freed: then nothing of it is touched any more.
    pub process:
        Option<unsafe extern "C" fn(t: *mut task, ctx: *mut c_void, state: c_uint) -> *mut task>,
    /// Handed to the handler.
    pub context: *mut c_void,
    /// The thread that runs it; negative: the one that wakes it. Change it by
    /// tasklet_set_tid().
    pub tid: c_int,
    /// The library's.
    pub keel_private: [u64; 7],
}

const _: () = {
    assert!(size_of::<task>() == size_of::<Task>());
    assert!(size_of::<tasklet>() == size_of::<Tasklet>());
    assert!(offset_of!(task, expire) == offset_of!(Task, expire));
    assert!(offset_of!(task, nice) == offset_of!(Task, nice));
    assert!(offset_of!(task, thread_mask) == offset_of!(Task, thread_mask));
    assert!(offset_of!(task, cpu_time) == offset_of!(Task, cpu_time));
    assert!(offset_of!(tasklet, tid) == offset_of!(Tasklet, tid));
    assert!(flags::WOKEN_ANY == TASK_WOKEN_ANY && flags::HEAVY == TASK_HEAVY);
    assert!(flags::SHARED_WQ == TASK_SHARED_WQ && flags::F_TASKLET == TASK_F_TASKLET);
};

/// The pool of tasks, for statistics. NULL before keel_init().
#[unsafe(no_mangle)]
pub static mut pool_head_task: *mut super::pool::pool_head = ptr::null_mut();
/// The pool of tasklets, for statistics. NULL before keel_init().
#[unsafe(no_mangle)]
pub static mut pool_head_tasklet: *mut super::pool::pool_head = ptr::null_mut();

pub(super) fn publish() {
    let (tasks, tasklets) = engine().pool_heads();
    // SAFETY: keel_init() runs alone, before anybody may read them.
    unsafe {
        pool_head_task = (&raw const *tasks).cast_mut().cast();
        pool_head_tasklet = (&raw const *tasklets).cast_mut().cast();
    }
}

pub(super) fn unpublish() {
    // SAFETY: keel_deinit() runs alone, after everybody has left.
    unsafe {
        pool_head_task = ptr::null_mut();
        pool_head_tasklet = ptr::null_mut();
    }
}

#[inline]
fn engine() -> &'static Tasks {
    runtime::tasks()
}

#[inline]
fn caller() -> Caller<'static> {
    runtime::caller()
}

// A task from C, which must not be NULL.
#[inline(always)]
fn of(t: *mut task, what: &'static str) -> *mut Task {
    if t.is_null() {
        null(what, "task");
    }
    t.cast()
}

#[inline(always)]
fn tasklet_of(tl: *mut tasklet, what: &'static str) -> *mut Tasklet {
    if tl.is_null() {
        null(what, "tasklet");
    }
    tl.cast()
}

#[cold]
#[inline(never)]
fn null(what: &str, item: &str) -> ! {
    panic!("{what}: the {item} is NULL")
}

fn made<T>(p: *mut T) -> *mut T {
    if p.is_null() {
        crate::sys::set_errno(crate::sys::ENOMEM);
    }
    p
}

/// A new task that the threads of thread_mask may run: asleep, nice 0, no
/// date, no handler yet. A mask without an existing thread is a panic.
///
/// Returns NULL with errno ENOMEM, or EPERM before keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_new(thread_mask: c_ulong) -> *mut task {
    if !runtime::started() {
        crate::sys::set_errno(crate::sys::EPERM);
        return ptr::null_mut();
    }
    made(engine().new_task(thread_mask, caller())).cast()
}

/// A new task bound to thread thr.
///
/// Returns as task_new() does.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_new_on(thr: c_uint) -> *mut task {
    let mask = 1u64.checked_shl(thr).unwrap_or(0);
    // SAFETY: the same contract.
    unsafe { task_new(mask) }
}

/// A new task bound to the calling thread.
///
/// Returns as task_new() does; NULL with EPERM on a thread that is not
/// registered.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_new_here() -> *mut task {
    match runtime::tid() {
        // SAFETY: the same contract.
        Some(tid) => unsafe { task_new(1 << tid) },
        None => {
            crate::sys::set_errno(crate::sys::EPERM);
            ptr::null_mut()
        }
    }
}

/// A new task that every thread may run.
///
/// Returns as task_new() does.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_new_anywhere() -> *mut task {
    // SAFETY: the same contract.
    unsafe { task_new(c_ulong::MAX) }
}

/// Frees a task; NULL is fine. A task that is queued, or that runs on another
/// thread, is freed by the scheduler when it meets it, without running again;
/// so is a private one that is destroyed by a foreign thread. Nobody may wake
/// or schedule it afterwards.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_destroy(t: *mut task) {
    if !t.is_null() {
        // SAFETY: live by the caller's word.
        runtime::wake(unsafe { engine().destroy_task(t.cast(), caller()) });
    }
}

/// Has the scheduler free a task on a thread that may run it. If it runs, it
/// is freed after that run; if not, without one. Call it once.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_kill(t: *mut task) {
    let t = of(t, "task_kill");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().kill_task(t, caller()) });
}

/// Wakes a task for the reasons why, a sum of TASK_WOKEN_* flags. Wake-ups add
/// up until its handler starts, and no run is missed: one starts after each
/// call and sees its reason. It runs on the calling thread if it may.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_wakeup(t: *mut task, why: c_uint) {
    let t = of(t, "task_wakeup");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().wakeup(t, reasons(why), caller()) });
}

/// Wakes a task past all priorities: it runs with the most urgent tasklets.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_instant_wakeup(t: *mut task, why: c_uint) {
    let t = of(t, "task_instant_wakeup");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().wakeup_instant(t, reasons(why), caller()) });
}

// What a caller may say of a wake-up; there is always a reason.
fn reasons(why: c_uint) -> u32 {
    match why & flags::WOKEN_ANY {
        0 => flags::WOKEN_OTHER,
        why => why,
    }
}

/// Queues a task by its expire date: does nothing if that is TICK_ETERNITY;
/// moves a queued task only if its date is now earlier.
///
/// Queueing another thread's private task is a panic.
///
/// Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_queue(t: *mut task) {
    let t = of(t, "task_queue");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().queue(t, caller()) });
}

/// Wakes a task at the date when, in ticks, at the latest: an earlier date
/// that it has already stays. Nothing happens if it is about to run. The
/// call never waits, also while the handler runs elsewhere; a date given
/// meanwhile counts when it has returned.
///
/// TICK_ETERNITY and another thread's private task are a panic.
///
/// Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_schedule(t: *mut task, when: c_int) {
    let t = of(t, "task_schedule");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().schedule(t, when, caller()) });
}

/// Takes a task out of the wait queue, if it is in one. Returns the task.
///
/// Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_unlink_wq(t: *mut task) -> *mut task {
    // SAFETY: live by the caller's word.
    unsafe { engine().unqueue(of(t, "task_unlink_wq"), caller()) };
    t
}

/// Takes a task out of the run queue, if it waits there by priority. Returns
/// the task.
///
/// Thread rule: *owner thread only*: the one in whose queue it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_unlink_rq(t: *mut task) -> *mut task {
    // SAFETY: live by the caller's word.
    unsafe { engine().unlink_runnable(of(t, "task_unlink_rq"), caller()) };
    t
}

/// Changes the threads that may run a task; its timer goes along. A private
/// task that leaves its thread gets TASK_SHARED_WQ.
///
/// Thread rule: from the task's handler, or on *any thread* before its first
/// queueing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_set_affinity(t: *mut task, thread_mask: c_ulong) {
    let t = of(t, "task_set_affinity");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().set_affinity(t, thread_mask, caller()) });
}

/// Non-zero if a task waits in a run queue by priority. Stale at once where
/// other threads may wake it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_in_rq(t: *mut task) -> c_int {
    // SAFETY: live by the caller's word.
    c_int::from(unsafe { engine().in_run_queue(of(t, "task_in_rq")) })
}

/// Non-zero if a task waits for its date. Stale at once where other threads
/// may schedule it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn task_in_wq(t: *mut task) -> c_int {
    // SAFETY: live by the caller's word.
    c_int::from(unsafe { engine().in_wait_queue(of(t, "task_in_wq")) })
}

/// A new tasklet: asleep, run by whoever wakes it, no handler yet.
///
/// Returns NULL with errno ENOMEM, or EPERM before keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_new() -> *mut tasklet {
    if !runtime::started() {
        crate::sys::set_errno(crate::sys::EPERM);
        return ptr::null_mut();
    }
    made(engine().new_tasklet(caller())).cast()
}

/// Prepares a tasklet in the caller's own memory. Such a one is never given to
/// tasklet_free() or tasklet_kill(); remove it from its queue before the
/// memory goes.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_init(tl: *mut tasklet) {
    // SAFETY: valid for writing by the caller's word.
    unsafe { Tasklet::init(tasklet_of(tl, "tasklet_init")) };
}

/// Frees a tasklet, taking it out of its queue; NULL is fine. Its own handler
/// may do so, and then returns NULL.
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_free(tl: *mut tasklet) {
    if !tl.is_null() {
        // SAFETY: live by the caller's word.
        runtime::wake(unsafe { engine().free_tasklet(tl.cast(), caller()) });
    }
}

/// Has the scheduler free a tasklet on its thread, without running it again.
/// Call it once.
///
/// Thread rule: *any thread* for a tasklet with a thread of its own, else
/// *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_kill(tl: *mut tasklet) {
    let tl = tasklet_of(tl, "tasklet_kill");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().kill_tasklet(tl, caller()) });
}

/// Wakes a tasklet on its thread, or on the calling one if it has none.
/// Wake-ups before its handler starts count as one; where it has a thread of
/// its own, those of that thread as one, and those of all others.
///
/// Thread rule: *any thread* for a tasklet with a thread of its own, else
/// *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_wakeup(tl: *mut tasklet) {
    let tl = tasklet_of(tl, "tasklet_wakeup");
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().wakeup_tasklet(tl, None, caller()) });
}

/// Wakes a tasklet on thread thr; negative: on the calling one. One that has a
/// thread of its own runs there alone: naming another one is a panic.
///
/// Thread rule: *any thread*; *registered threads* if thr is negative.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_wakeup_on(tl: *mut tasklet, thr: c_int) {
    let tl = tasklet_of(tl, "tasklet_wakeup_on");
    let Some(to) = usize::try_from(thr).ok().or_else(runtime::tid) else {
        panic!("tasklet_wakeup_on: the calling thread is not registered");
    };
    // SAFETY: live by the caller's word.
    runtime::wake(unsafe { engine().wakeup_tasklet(tl, Some(to), caller()) });
}

/// Gives a tasklet a thread of its own, before its first wake-up.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_set_tid(tl: *mut tasklet, thr: c_int) {
    let tl = tasklet_of(tl, "tasklet_set_tid");
    assert!(
        usize::try_from(thr).map_or(true, |tid| tid < engine().nbthread()),
        "tasklet_set_tid: there is no thread {thr}"
    );
    // SAFETY: live by the caller's word.
    unsafe { (*tl).set_tid(thr) };
}

/// Wakes a tasklet to run next on the calling thread: before everything else
/// of its class if head is NULL, else right after head. Returns the place
/// after which a following one may be put, or head itself if the tasklet was
/// queued already.
///
/// Thread rule: *registered threads*; head is what this function returned in
/// the same handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_wakeup_after(head: *mut list, tl: *mut tasklet) -> *mut list {
    let tl = tasklet_of(tl, "tasklet_wakeup_after");
    let Some(me) = runtime::tid() else {
        panic!("tasklet_wakeup_after: the calling thread is not registered");
    };
    // SAFETY: live by the caller's word.
    unsafe { engine().wakeup_after(head.cast(), tl, me) }.cast()
}

/// A place in a queue, for tasklet_wakeup_after().
#[allow(non_camel_case_types)]
pub struct list(());

/// Cancels a tasklet's pending run. Doing so twice is harmless.
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tasklet_remove_from_tasklet_list(tl: *mut tasklet) {
    let tl = tasklet_of(tl, "tasklet_remove_from_tasklet_list");
    // SAFETY: live by the caller's word.
    unsafe { engine().remove_tasklet(tl, caller()) };
}

/// Runs what the calling thread has to run, at most runqueue_depth items.
/// run_poll_loop() and keel_poll_once() do so.
///
/// Thread rule: *registered threads*, outside of handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn process_runnable_tasks() {
    runtime::run_tasks();
}

/// Wakes the tasks of the calling thread whose date has come.
/// run_poll_loop() and keel_poll_once() do so.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wake_expired_tasks() {
    let Some(tid) = runtime::tid() else {
        panic!("wake_expired_tasks: the calling thread is not registered");
    };
    // SAFETY: this is that thread.
    runtime::wake(unsafe { engine().wake_expired(tid, caller()) });
}

/// The date of the calling thread's next timer, in ticks, never later than the
/// truth; TICK_ETERNITY if there is none. It is earlier than the truth only
/// where a task's date was moved later since it was queued.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn next_timer_expiry() -> c_int {
    let Some(tid) = runtime::tid() else {
        panic!("next_timer_expiry: the calling thread is not registered");
    };
    // SAFETY: this is that thread.
    unsafe { engine().next_expiry(tid) }.map_or(tick::ETERNITY, tick::wrap)
}

/// How many tasks and tasklets are runnable on all threads together, for
/// statistics.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn total_run_queues() -> c_int {
    engine().runnable().min(c_int::MAX as u64) as c_int
}

/// How many tasks and tasklets exist, embedded tasklets excluded, for
/// statistics.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn total_allocated_tasks() -> c_int {
    engine().allocated().min(c_int::MAX as u64) as c_int
}

/// Non-zero if the calling thread has anything to run.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_has_tasks() -> c_int {
    c_int::from(runtime::tid().is_some_and(|tid| engine().has_work(tid)))
}

/// Frees every task that waits for its turn or its date, of all threads, whoever
/// made it: for a master process, after it has forked its workers and before its
/// own loop. Tasklets, tasks that wait for nothing, and those by which stick
/// tables expire are left alone. It is a panic while another thread is
/// registered.
///
/// Thread rule: *any thread*, while no other one uses the library, outside of
/// handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mworker_cleantasks() {
    let by = caller();
    if let Some(me) = by.tid {
        // SAFETY: this is that thread.
        unsafe { engine().assert_outside(me, "mworker_cleantasks") };
    }
    // SAFETY: nobody else is there, by the caller's word and the engine's look.
    unsafe { engine().free_waiting(by, super::stick_table::is_expiry) };
}

/// Writes a table of all threads' queues to the descriptor fd: for each what
/// is runnable, which timers are armed, what ran. With keel_config.profiling a
/// table of handlers follows, of tasks and tasklets alike, those first that
/// took the most time: their runs, the time that they took in all (cpu_tot)
/// and on average (cpu_avg), and how long they had to wait from wake-up to run
/// on average (lat_avg) and at most (lat_max), since keel_init(). Time passes
/// as CLOCK_MONOTONIC does, and a run counts when it ends. A handler is told
/// by its name if the dynamic linker knows it, else by file and offset. Those
/// that a thread's table has no room for are added up as "(others)".
///
/// Returns the bytes written, or a negative errno.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_dump_tasks(fd: c_int) -> c_int {
    engine().dump(fd)
}
