//! keel/fd.h: the descriptor table and its poller.
//!
//! A server hands descriptors that it got from the system to fd_insert(), says
//! with fd_want_recv() and fd_want_send() what it waits for, and is called back
//! on one of the threads it allowed. Descriptors are level triggered: as long
//! as something is wanted and possible, the callback is called in each turn of
//! the loop. Regular files are always ready.
//!
//! A server that sets FD_ET_POSSIBLE, before it first wants something, gets
//! changes instead: the callback is called once for each, and has to go on
//! until EAGAIN, which it notes with fd_cant_recv() and fd_cant_send(). Where it
//! stopped wanting a direction earlier, fd_want_recv() and fd_want_send() have
//! it called again. Each change costs one report, and wanting and stopping no
//! system call. A thread that reads or writes while another one polls the
//! descriptor leaves fd_cant_recv() and fd_cant_send() out: a change could come
//! between the EAGAIN and the note, and be lost. Pollers without such a mode
//! (poll) serve it as all others.
//!
//! fd_delete() ends it. It never waits: while other threads are inside the
//! callback the descriptor is an orphan that nobody else enters, and the last
//! one out closes it. So it may be called with any lock held and inside the
//! callback itself, after which the number may be inserted again at once.
//!
//! Descriptors out of range (0 to maxsock - 1 of struct keel_config) are a
//! panic everywhere, and so is every use before keel_init(), except where a
//! comment says otherwise.

use crate::fd::{self, FdTable, Slot, Updated};
use crate::runtime;
use crate::sys::file::{self, iovec};
use crate::sys::{EBADF, set_errno};
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::mem::{align_of, offset_of};
use core::{ptr, slice};
use libc::FILE;

/// State: reads are wanted.
pub const FD_EV_ACTIVE_R: c_uint = 0x1;
/// State: no read said EAGAIN since the last report. Report: readable.
pub const FD_EV_READY_R: c_uint = 0x2;
/// Report: the peer sends nothing more.
pub const FD_EV_SHUT_R: c_uint = 0x4;
/// State: writes are wanted.
pub const FD_EV_ACTIVE_W: c_uint = 0x10;
/// State: no write said EAGAIN since the last report. Report: writable.
pub const FD_EV_READY_W: c_uint = 0x20;
/// Report: nothing can be sent any more.
pub const FD_EV_SHUT_W: c_uint = 0x40;
/// Report: an error, both ways.
pub const FD_EV_ERR_RW: c_uint = 0x80;
/// Both FD_EV_ACTIVE bits.
pub const FD_EV_ACTIVE_RW: c_uint = 0x11;
/// Both FD_EV_READY bits.
pub const FD_EV_READY_RW: c_uint = 0x22;
/// Both FD_EV_SHUT bits.
pub const FD_EV_SHUT_RW: c_uint = 0x44;
/// State: the last report said readable.
pub const FD_POLL_IN: c_uint = 0x100;
/// State: the last report said urgent data.
pub const FD_POLL_PRI: c_uint = 0x200;
/// State: the last report said writable.
pub const FD_POLL_OUT: c_uint = 0x400;
/// State: an error was reported; stays until the close.
pub const FD_POLL_ERR: c_uint = 0x800;
/// State: a hang-up was reported; stays until the close.
pub const FD_POLL_HUP: c_uint = 0x1000;
/// The bits that every report replaces.
pub const FD_POLL_UPDT_MASK: c_uint = 0x700;
/// State, for the server to set: close with a reset, leaving no TIME_WAIT.
pub const FD_LINGER_RISK: c_uint = 0x10000;
/// State, for the server to set: another process or a duplicate shares the file,
/// so it has to leave the kernel's poller explicitly when it is closed.
pub const FD_CLONED: c_uint = 0x20000;
/// State: keel_fd_writev_line() has set non-blocking mode up, or the server sets
/// this to keep it from doing so.
pub const FD_INITIALIZED: c_uint = 0x40000;
/// State, for the server to set: report changes only, where the poller can.
pub const FD_ET_POSSIBLE: c_uint = 0x80000;
/// State, for the server to set: passed to another process; informational.
pub const FD_EXPORTED: c_uint = 0x100000;
/// State: a keel_fd_writev_line() is in progress.
pub const FD_EXCL_SYSCALL: c_uint = 0x200000;
/// State, for the server to set: fd_delete() does everything but close().
pub const FD_DISOWN: c_uint = 0x400000;
/// State: an orphan; whoever clears this bit closes it. The library's own.
pub const FD_MUST_CLOSE: c_uint = 0x800000;
/// fd_update_events(): taken note of, and the callback called if it was due.
pub const FD_UPDT_DONE: c_int = 0;
/// fd_update_events(): the descriptor was closed and must not be touched.
pub const FD_UPDT_CLOSED: c_int = 1;
/// fd_update_events(): it is not the calling thread's, whose poller forgets it.
pub const FD_UPDT_MIGRATED: c_int = 2;

/// One descriptor. Fields are for reading, atomically where other threads may
/// use the descriptor; state bits may be set atomically where their comment
/// says so. A free slot has no owner.
#[repr(C, align(64))]
pub struct fdtab {
    /// Threads that are inside code using the descriptor.
    pub running_mask: c_ulong,
    /// Threads allowed to handle it; 0: free, or being deleted.
    pub thread_mask: c_ulong,
    /// Threads whose poller has yet to look at it again.
    pub update_mask: c_ulong,
    /// Called with the descriptor when something wanted is possible.
    pub iocb: Option<unsafe extern "C" fn(fd: c_int)>,
    /// The server's object.
    pub owner: *mut c_void,
    /// FD_* bits.
    pub state: c_uint,
    /// How often the number was closed.
    pub generation: c_uint,
    /// The library's own.
    pub keel_private: [u64; 2],
}

const _: () = {
    assert!(size_of::<fdtab>() == size_of::<Slot>() && align_of::<fdtab>() == align_of::<Slot>());
    assert!(offset_of!(fdtab, running_mask) == Slot::OFFSETS[0]);
    assert!(offset_of!(fdtab, thread_mask) == Slot::OFFSETS[1]);
    assert!(offset_of!(fdtab, update_mask) == Slot::OFFSETS[2]);
    assert!(offset_of!(fdtab, iocb) == Slot::OFFSETS[3]);
    assert!(offset_of!(fdtab, owner) == Slot::OFFSETS[4]);
    assert!(offset_of!(fdtab, state) == Slot::OFFSETS[5]);
    assert!(offset_of!(fdtab, generation) == Slot::OFFSETS[5] + 4);
    assert!(FD_EV_ACTIVE_R == fd::FD_EV_ACTIVE_R && FD_EV_READY_R == fd::FD_EV_READY_R);
    assert!(FD_EV_SHUT_R == fd::FD_EV_SHUT_R && FD_EV_ACTIVE_W == fd::FD_EV_ACTIVE_W);
    assert!(FD_EV_READY_W == fd::FD_EV_READY_W && FD_EV_SHUT_W == fd::FD_EV_SHUT_W);
    assert!(FD_EV_ERR_RW == fd::FD_EV_ERR_RW && FD_EV_ACTIVE_RW == fd::FD_EV_ACTIVE_RW);
    assert!(FD_EV_READY_RW == fd::FD_EV_READY_RW && FD_EV_SHUT_RW == fd::FD_EV_SHUT_RW);
    assert!(FD_POLL_IN == fd::FD_POLL_IN && FD_POLL_PRI == fd::FD_POLL_PRI);
    assert!(FD_POLL_OUT == fd::FD_POLL_OUT && FD_POLL_ERR == fd::FD_POLL_ERR);
    assert!(FD_POLL_HUP == fd::FD_POLL_HUP && FD_POLL_UPDT_MASK == fd::FD_POLL_UPDT_MASK);
    assert!(FD_LINGER_RISK == fd::FD_LINGER_RISK && FD_CLONED == fd::FD_CLONED);
    assert!(FD_INITIALIZED == fd::FD_INITIALIZED && FD_ET_POSSIBLE == fd::FD_ET_POSSIBLE);
    assert!(FD_EXPORTED == fd::FD_EXPORTED && FD_EXCL_SYSCALL == fd::FD_EXCL_SYSCALL);
    assert!(FD_DISOWN == fd::FD_DISOWN && FD_MUST_CLOSE == fd::FD_MUST_CLOSE);
    assert!(FD_UPDT_DONE == Updated::Done as c_int && FD_UPDT_CLOSED == Updated::Closed as c_int);
    assert!(FD_UPDT_MIGRATED == Updated::Migrated as c_int);
};

/// The table, maxsock entries by descriptor number. NULL before keel_init().
#[unsafe(no_mangle)]
pub static mut fdtab: *mut fdtab = ptr::null_mut();

pub(super) fn publish() {
    // SAFETY: keel_init() runs alone, before anybody may read it.
    unsafe { fdtab = table().slots().cast() };
}

pub(super) fn unpublish() {
    // SAFETY: keel_deinit() runs alone, after everybody has left.
    unsafe { fdtab = ptr::null_mut() };
}

#[inline]
fn table() -> &'static FdTable {
    runtime::fds()
}

// Whether any of the state bits is set.
#[inline]
fn is(fd: c_int, bits: c_uint) -> c_int {
    c_int::from(table().slot(fd).state() & bits != 0)
}

/// Begins to serve fd, which the caller just got from the system and which is
/// non-blocking: ready both ways, nothing wanted, iocb called on the threads of
/// thread_mask (bit n: thread n; bits of threads that do not exist are
/// ignored). The descriptor belongs to the table from here on: fd_delete()
/// closes it. owner must not be NULL, it marks the slot as used; the table does
/// not look at it otherwise.
///
/// Panics where the slot is in use, owner is NULL or thread_mask names no thread
/// that exists.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_insert(
    fd: c_int,
    owner: *mut c_void,
    iocb: Option<unsafe extern "C" fn(fd: c_int)>,
    thread_mask: c_ulong,
) {
    table().insert(fd, owner, iocb, thread_mask);
}

/// Stops serving fd and closes it, at once or, while other threads are inside
/// its callback, when the last of them leaves. Never waits; any lock may be
/// held. Only one thread may delete a descriptor.
///
/// Panics where fd is not inserted, or was deleted and is not closed yet.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_delete(fd: c_int) {
    table().delete(fd, runtime::tid());
}

/// Closes fd if fd_delete() orphaned it, no thread is inside it any more and
/// nobody else closes it; else does nothing. For code that drives running_mask
/// itself and finds that fd_clr_running() left 0 and thread_mask is 0; such code
/// may even have zeroed thread_mask itself, between fd_set_running() and
/// fd_clr_running(). Of two callers one closes, and a call that comes too late
/// does nothing to the number's next user.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _fd_delete_orphan(fd: c_int) {
    table().delete_orphan(fd);
}

/// Marks the calling thread as inside code that uses fd, which keeps fd from
/// being closed and taken over until fd_clr_running().
///
/// Returns 0, or -1 where fd is not the calling thread's (any more).
///
/// Thread rule: *registered threads*; on others -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_set_running(fd: c_int) -> c_long {
    match runtime::tid() {
        Some(tid) if table().set_running(fd, tid) => 0,
        _ => -1,
    }
}

/// Ends what fd_set_running() began. If the mask that remains is 0 and so is
/// thread_mask, _fd_delete_orphan() is due.
///
/// Returns the running_mask that remains.
///
/// Thread rule: *registered threads*; on others it only reads the mask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_clr_running(fd: c_int) -> c_long {
    match runtime::tid() {
        Some(tid) => table().clear_running(fd, tid) as c_long,
        None => table().slot(fd).running_mask() as c_long,
    }
}

/// Makes the idle fd the calling thread's alone. Nothing is wanted afterwards:
/// call fd_want_recv() or fd_want_send(). The caller's own lock, that of an idle
/// list for instance, must keep others from deleting fd meanwhile.
///
/// Returns 0; or -1, with fd untouched, where its owner is not expected_owner or
/// some thread is inside it.
///
/// Thread rule: *registered threads*; on others -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_takeover(fd: c_int, expected_owner: *mut c_void) -> c_int {
    match runtime::tid() {
        Some(tid) if table().takeover(fd, expected_owner, tid) => 0,
        _ => -1,
    }
}

/// Delivers a report about fd as the poller does: evts are FD_EV_READY_*,
/// FD_EV_SHUT_* and FD_EV_ERR_RW bits. The state takes note of it, and the
/// callback is called if something is wanted.
///
/// Returns FD_UPDT_DONE, FD_UPDT_CLOSED or FD_UPDT_MIGRATED.
///
/// Thread rule: *registered threads*; on others FD_UPDT_MIGRATED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_update_events(fd: c_int, evts: c_uint) -> c_int {
    match runtime::tid() {
        Some(tid) => table().update_events(fd, evts, tid) as c_int,
        None => Updated::Migrated as c_int,
    }
}

/// Makes each thread that may handle fd look at it again before it waits for
/// events, and wakes those that wait. fd_want_recv() and fd_want_send() do it
/// themselves: this is for code that sets FD_EV_ACTIVE bits by hand. Nothing
/// happens where fd is not inserted.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn updt_fd_polling(fd: c_int) {
    runtime::wake(table().update_polling(fd, runtime::tid()));
}

/// Wants reads on fd: its threads poll for them.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_want_recv(fd: c_int) {
    runtime::wake(table().want_recv(fd, runtime::tid()));
}

/// The same as fd_want_recv(), which is safe as soon as keel_init() returned.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_want_recv_safe(fd: c_int) {
    runtime::wake(table().want_recv(fd, runtime::tid()));
}

/// Stops wanting reads. Costs nothing: a poller learns it from the first report
/// that nobody wants.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_stop_recv(fd: c_int) {
    table().stop_recv(fd);
}

/// Notes that a read said EAGAIN.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_cant_recv(fd: c_int) {
    table().cant_recv(fd);
}

/// Notes that a read is worth trying.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_may_recv(fd: c_int) {
    table().may_recv(fd);
}

/// Notes that a read is worth trying, unless reads are wanted already.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_cond_recv(fd: c_int) {
    table().cond_recv(fd);
}

/// Returns non-zero if reads are wanted.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_recv_active(fd: c_int) -> c_int {
    is(fd, FD_EV_ACTIVE_R)
}

/// Returns non-zero if a read is worth trying.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_recv_ready(fd: c_int) -> c_int {
    is(fd, FD_EV_READY_R)
}

/// Wants writes on fd: its threads poll for them.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_want_send(fd: c_int) {
    runtime::wake(table().want_send(fd, runtime::tid()));
}

/// Stops wanting writes, as fd_stop_recv() does for reads.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_stop_send(fd: c_int) {
    table().stop_send(fd);
}

/// Notes that a write said EAGAIN.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_cant_send(fd: c_int) {
    table().cant_send(fd);
}

/// Notes that a write is worth trying.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_may_send(fd: c_int) {
    table().may_send(fd);
}

/// Notes that a write is worth trying, unless writes are wanted already.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_cond_send(fd: c_int) {
    table().cond_send(fd);
}

/// Returns non-zero if writes are wanted.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_send_active(fd: c_int) -> c_int {
    is(fd, FD_EV_ACTIVE_W)
}

/// Returns non-zero if a write is worth trying.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_send_ready(fd: c_int) -> c_int {
    is(fd, FD_EV_READY_W)
}

/// Stops wanting anything.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_stop_both(fd: c_int) {
    table().stop_both(fd);
}

/// Notes that a read and a write are worth trying.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_may_both(fd: c_int) {
    table().may_both(fd);
}

/// Returns non-zero if reads or writes are wanted.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_active(fd: c_int) -> c_int {
    is(fd, FD_EV_ACTIVE_RW)
}

/// Makes any descriptor non-blocking. Replaces all its status flags by
/// O_NONBLOCK. Works before keel_init().
///
/// Returns 0, or -1 with errno.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_set_nonblock(fd: c_int) -> c_int {
    file::set_nonblock(fd)
}

/// Makes exec() close any descriptor. Works before keel_init().
///
/// Returns 0, or -1 with errno.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fd_set_cloexec(fd: c_int) -> c_int {
    file::set_cloexec(fd)
}

/// Closes every descriptor from start up, the library's included: for the child
/// of a fork() that is about to exec(). Works before keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn my_closefrom(start: c_int) {
    file::close_from(start);
}

/// Writes one line, the non-empty ones of the npfx fragments of pfx and then of
/// the nmsg of msg (31 altogether, what follows is left out) and a newline if nl
/// is not 0, with one writev(). What exceeds maxlen bytes, newline included, is
/// cut off in front of the newline; maxlen 0: no limit. For logs: lines that
/// threads write at the same time do not mix, and nobody waits for another's
/// write.
///
/// fd need not be inserted: it may be stdout. The first use of a number sets
/// O_NONBLOCK, unless it is a terminal or FD_INITIALIZED is set. That bit is
/// remembered until the descriptor is deleted, or the number inserted. fd stays
/// open until this returns.
///
/// Returns the bytes written, of which there are fewer than the line has where a
/// pipe or a disk is full; 0 for no fragments and no newline; -1 with errno:
/// EAGAIN where nothing can be written now, because the pipe is full or another
/// thread was writing all the time; EBADF also where fd is out of range or
/// keel_init() was not called.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_fd_writev_line(
    fd: c_int,
    maxlen: usize,
    pfx: *const iovec,
    npfx: usize,
    msg: *const iovec,
    nmsg: usize,
    nl: c_int,
) -> libc::ssize_t {
    let written = match runtime::core() {
        // SAFETY: the caller's fragments.
        Some(core) => unsafe {
            let (pfx, msg) = (fragments(pfx, npfx), fragments(msg, nmsg));
            core.fds.write_line(fd, maxlen, pfx, msg, nl != 0)
        },
        None => -(EBADF as isize),
    };
    if written < 0 {
        set_errno(-written as c_int);
        return -1;
    }
    written
}

// NULL has no elements.
unsafe fn fragments<'a>(first: *const iovec, n: usize) -> &'a [iovec] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: the caller's array is that long.
    unsafe { slice::from_raw_parts(first, n) }
}

/// Writes the pollers that there are, their preference, whether they can be used
/// and which one is, or would be by keel_init() now, to the stream out, as text.
/// Works before keel_init().
///
/// Returns 0.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn list_pollers(out: *mut FILE) -> c_int {
    // SAFETY: the caller's stream is open.
    let mut out = unsafe { file::Stream::new(out) };
    // A stream keeps its own errors.
    let _ = runtime::pollers::list(&mut out);
    0
}

/// Keeps keel_init() from using the poller of that name ("epoll", "poll"); other
/// names and NULL are ignored. keel_init() uses the best of the others that the
/// system has, and returns -EINVAL if there is none. Call it before keel_init().
///
/// Thread rule: *before keel_run() only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn disable_poller(name: *const c_char) {
    if !name.is_null() {
        // SAFETY: it is a C string, says the caller.
        runtime::pollers::disable(unsafe { CStr::from_ptr(name) }.to_bytes());
    }
}

/// Gives the child of a fork() a poller of its own; until then it shares the
/// parent's and must not run its loop. Call it in the child, on its only thread.
/// Every descriptor in the table is FD_CLONED from then on, and the other
/// threads of the parent count as not being inside any.
///
/// Returns 1, or 0 where the poller cannot be made, for lack of descriptors for
/// instance.
///
/// Thread rule: *registered threads*; on others the descriptors are marked and 1 returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork_poller() -> c_int {
    let me = runtime::here();
    if me.is_some_and(|t| t.renew_eventfd() < 0) {
        return 0;
    }
    c_int::from(table().fork_child(me.map(|t| t.tid)) == 0)
}

/// Returns how many descriptors are inserted and not closed yet.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_used_fds() -> c_int {
    table().used() as c_int
}

/// Writes a table of the descriptors in use to the descriptor fd, one line each,
/// then one line of counters per thread that polls and one of totals.
///
/// The counters, of a thread id since keel_init(): polls, waits for events;
/// poll_io and poll_exp, those of them that brought some, and that slept until
/// their time was over; poll_spurious, reports that nobody wanted; poll_drop_fd,
/// reports and updates of a descriptor that was closed; poll_skip_fd, reports of
/// one that is not the thread's any more; poll_stale, of a number's life before;
/// poll_rebuild, times that the kernel's set was made anew; poll_ctl, changes of
/// the set; orphans, descriptors that another thread deleted and this one closed.
///
/// Returns the bytes written, or a negative errno.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_dump_fds(fd: c_int) -> c_int {
    let mut out = file::Writer::new(fd);
    // What went wrong is remembered in the writer.
    let _ = table().dump(&mut out);
    out.finish()
}
