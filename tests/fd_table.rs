//! The descriptor table with real descriptors, driven as a run loop would.
#![cfg(not(loom))]
#![allow(clippy::undocumented_unsafe_blocks)] // plain libc calls

use keel::fd::*;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::thread;

const OWNER: *mut c_void = 16 as *mut c_void;

type Action = Box<dyn FnMut(&FdTable, i32)>;

thread_local! {
    /// What the callback does on this thread, and how often it ran.
    static ACTION: RefCell<Option<(Arc<FdTable>, Action)>> = const { RefCell::new(None) };
    /// Numbers are the process's: one test at a time, until its thread ends.
    static ALONE: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    static CALLS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

extern "C" fn iocb(fd: c_int) {
    CALLS.with(|c| c.borrow_mut().push(fd));
    let taken = ACTION.with(|a| a.borrow_mut().take());
    if let Some((table, mut action)) = taken {
        action(&table, fd);
        ACTION.with(|a| {
            a.borrow_mut().get_or_insert((table, action));
        });
    }
}

fn on_report(table: &Arc<FdTable>, action: impl FnMut(&FdTable, i32) + 'static) {
    ACTION.with(|a| *a.borrow_mut() = Some((table.clone(), Box::new(action))));
}

fn calls() -> usize {
    CALLS.with(|c| std::mem::take(&mut *c.borrow_mut()).len())
}

fn alone() {
    static TURN: Mutex<()> = Mutex::new(());
    ALONE.with(|a| {
        a.borrow_mut()
            .get_or_insert_with(|| TURN.lock().unwrap_or_else(|e| e.into_inner()));
    });
}

/// What this run of the program tests; epoll, unless
/// `all_of_it_with_poll` runs it once more.
fn kind() -> Kind {
    match std::env::var("KEEL_TEST_POLLER") {
        Ok(name) => Kind::ALL.into_iter().find(|k| k.name() == name).unwrap(),
        Err(_) => Kind::Epoll,
    }
}

/// What `epoll` has where the test needs to know what its set holds.
fn with(kind_of_test: Kind) -> bool {
    kind() == kind_of_test
}

#[test]
fn all_of_it_with_poll() {
    if with(Kind::Poll) {
        return;
    }
    // The pipes to it take numbers, which others count on.
    alone();
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .env("KEEL_TEST_POLLER", "poll")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success(), "{said}");
    assert!(said.contains(" 0 failed"), "{said}");
}

fn table(threads: usize) -> Arc<FdTable> {
    alone();
    Arc::new(FdTable::new(4096, threads, kind()).unwrap())
}

/// Thread 0 of a table of `threads`.
fn entered(threads: usize) -> Arc<FdTable> {
    let t = table(threads);
    assert_eq!(t.thread_enter(0), 0);
    t
}

fn socketpair() -> [i32; 2] {
    let mut fds = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    assert_eq!(
        unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) },
        0
    );
    fds
}

fn eventfd(count: u32) -> i32 {
    let fd = unsafe { libc::eventfd(count, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    fd
}

fn send(fd: i32) {
    assert_eq!(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) }, 1);
}

fn close(fd: i32) {
    unsafe { libc::close(fd) };
}

fn is_open(fd: i32) -> bool {
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// One turn that does not sleep: how many reports it took.
fn turn(t: &FdTable, tid: usize) -> i32 {
    t.apply_updates(tid);
    let n = t.wait(tid, Some(0));
    let _ = t.dispatch(tid, n);
    n
}

fn want(t: &FdTable, fd: i32) {
    assert_eq!(t.want_recv(fd, Some(0)), keel::sync::ThreadSet::EMPTY);
}

/// SHOWS: INV-72
#[test]
fn a_report_reaches_the_callback() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    assert_eq!(t.slot(a).state(), FD_EV_READY_RW);
    assert_eq!(t.used(), 1);
    want(&t, a);
    assert!(t.has_updates(0));
    assert_eq!(turn(&t, 0), 0);
    assert!(!t.has_updates(0));
    send(b);
    t.cant_recv(a);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    assert_eq!(
        t.slot(a).state() & (FD_POLL_IN | FD_EV_READY_R),
        FD_POLL_IN | FD_EV_READY_R
    );
    t.delete(a, Some(0));
    assert!(!is_open(a));
    assert_eq!((t.used(), t.slot(a).generation()), (0, 1));
    close(b);
}

#[test]
fn inv_71_an_event_nobody_wants_is_reported_once() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    send(b);
    turn(&t, 0);
    t.stop_recv(a);
    assert!(!t.has_updates(0), "stopping programs nothing");
    assert_eq!(turn(&t, 0), 1);
    for _ in 0..3 {
        assert_eq!(turn(&t, 0), 0);
    }
    assert_eq!(calls(), 1);
    // And it comes back when it is wanted again.
    want(&t, a);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    t.delete(a, Some(0));
    close(b);
}

#[test]
fn inv_87_wanting_twice_costs_no_system_call() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    turn(&t, 0);
    let before = t.counters(0).poll_ctl;
    want(&t, a);
    assert!(!t.has_updates(0));
    t.stop_recv(a);
    want(&t, a);
    turn(&t, 0);
    assert_eq!(t.counters(0).poll_ctl, before);
    t.delete(a, Some(0));
    close(b);
}

#[test]
fn fd_41_wanted_and_stopped_before_the_poll() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    let _ = t.want_send(fd, Some(0));
    t.stop_both(fd);
    assert_eq!(turn(&t, 0), 0);
    assert_eq!((calls(), t.counters(0).poll_ctl), (0, 0));
    t.delete(fd, Some(0));
}

/// SHOWS: INV-70
#[test]
fn reports_become_state() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    let report = |evts| {
        assert_eq!(t.update_events(a, evts, 0), Updated::Done);
        t.slot(a).state()
    };
    // INV-72: nothing active, nothing called.
    report(FD_EV_READY_RW);
    assert_eq!(calls(), 0);
    want(&t, a);
    // FD-39, INV-81: a shut sending side nobody uses is no error.
    assert_eq!(report(FD_EV_SHUT_W) & (FD_POLL_ERR | FD_POLL_HUP), 0);
    // INV-70: IN is replaced, HUP stays.
    assert_ne!(report(FD_EV_READY_R | FD_EV_SHUT_R) & FD_POLL_IN, 0);
    let state = report(FD_EV_READY_W);
    assert_eq!(
        state & (FD_POLL_IN | FD_POLL_OUT | FD_POLL_HUP),
        FD_POLL_OUT | FD_POLL_HUP
    );
    // With writes active it is one, and sticks.
    let _ = t.want_send(a, Some(0));
    t.cant_recv(a);
    t.cant_send(a);
    let state = report(FD_EV_SHUT_W);
    let all = FD_POLL_ERR | FD_EV_READY_RW;
    assert_eq!(state & all, all);
    assert_ne!(report(FD_EV_READY_R) & FD_POLL_ERR, 0);
    // FD-56: other bits survive.
    t.slot(a).raise(FD_LINGER_RISK | FD_EXPORTED);
    t.stop_both(a);
    assert_ne!(t.slot(a).state() & FD_LINGER_RISK, 0);
    t.delete(a, Some(0));
    assert_eq!(t.slot(a).state(), 0);
    assert_eq!(t.update_events(a, FD_EV_READY_R, 0), Updated::Closed);
    close(b);
}

#[test]
fn directions() {
    let t = entered(1);
    let fd = eventfd(0);
    t.insert(fd, OWNER, Some(iocb), 1);
    let ready = || t.slot(fd).state() & FD_EV_READY_RW;
    t.cant_recv(fd);
    t.cant_send(fd);
    assert_eq!(ready(), 0);
    t.cond_recv(fd);
    assert_eq!(ready(), FD_EV_READY_R);
    t.cant_recv(fd);
    want(&t, fd);
    t.cond_recv(fd);
    assert_eq!(ready(), 0, "active: somebody knows better");
    t.cond_send(fd);
    assert_eq!(ready(), FD_EV_READY_W);
    t.may_both(fd);
    assert_eq!(ready(), FD_EV_READY_RW);
    t.delete(fd, Some(0));
}

/// SHOWS: INV-81
#[test]
fn hang_up_and_error_of_real_sockets() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    turn(&t, 0);
    // Our own shutdown is no error.
    unsafe { libc::shutdown(a, libc::SHUT_WR) };
    turn(&t, 0);
    assert_eq!(t.slot(a).state() & (FD_POLL_ERR | FD_POLL_HUP), 0);
    close(b);
    turn(&t, 0);
    let state = t.slot(a).state();
    assert_ne!(state & FD_POLL_HUP, 0);
    assert_eq!(state & FD_POLL_ERR, 0);
    t.delete(a, Some(0));

    // The writing end of a pipe that nobody reads.
    let mut p = [0; 2];
    assert_eq!(unsafe { libc::pipe2(p.as_mut_ptr(), libc::O_NONBLOCK) }, 0);
    t.insert(p[1], OWNER, Some(iocb), 1);
    let _ = t.want_send(p[1], Some(0));
    turn(&t, 0);
    close(p[0]);
    turn(&t, 0);
    assert_ne!(t.slot(p[1]).state() & FD_POLL_ERR, 0);
    t.delete(p[1], Some(0));
}

/// FD-1: the deleter holds the lock that a running callback wants.
#[test]
fn fd_1_delete_under_a_lock_that_the_callback_wants() {
    static LOCK: Mutex<()> = Mutex::new(());
    static INSIDE: Barrier = Barrier::new(2);
    extern "C" fn wants_the_lock(_: c_int) {
        INSIDE.wait();
        drop(LOCK.lock().unwrap());
    }
    for deleter in [Some(0), None] {
        let t = table(2);
        let fd = eventfd(1);
        t.insert(fd, OWNER, Some(wants_the_lock), 0b11);
        assert_eq!(t.want_recv(fd, None).0, 0b11);
        let held = LOCK.lock().unwrap();
        let other = thread::spawn({
            let t = t.clone();
            move || t.update_events(fd, FD_EV_READY_R, 1)
        });
        INSIDE.wait();
        t.delete(fd, deleter);
        assert!(is_open(fd), "in use: not closed yet");
        assert_eq!(t.slot(fd).thread_mask(), 0);
        // Nobody new gets in.
        assert_eq!(t.update_events(fd, FD_EV_READY_R, 0), Updated::Migrated);
        drop(held);
        assert_eq!(other.join().unwrap(), Updated::Closed);
        assert!(!is_open(fd));
        assert_eq!(t.slot(fd).generation(), 1);
    }
}

/// FD-3 (b): two that both saw "I am the last" call for the end.
/// SHOWS: INV-60
#[test]
fn fd_3_two_last_callers_close_once() {
    let t = entered(2);
    let fd = eventfd(0);
    t.insert(fd, OWNER, Some(iocb), 0b11);
    assert!(t.set_running(fd, 0) && t.set_running(fd, 1));
    t.delete(fd, None);
    assert!(!t.set_running(fd, 0));
    t.delete_orphan(fd);
    assert!(is_open(fd), "somebody is inside");
    assert_eq!(t.clear_running(fd, 0), 0b10);
    assert_eq!(t.clear_running(fd, 1), 0);
    t.delete_orphan(fd);
    // The number is taken at once; the second caller is late.
    assert_eq!(eventfd(0), fd);
    t.insert(fd, OWNER, Some(iocb), 0b11);
    t.delete_orphan(fd);
    assert!(is_open(fd));
    assert_eq!((t.slot(fd).generation(), t.used()), (1, 1));
    t.delete(fd, Some(0));
    assert_eq!(t.used(), 0);
}

/// Code that orphans by hand, as fd_delete() of the seed does.
#[test]
fn orphaned_by_hand() {
    let t = entered(1);
    let fd = eventfd(0);
    t.insert(fd, OWNER, Some(iocb), 1);
    assert!(t.set_running(fd, 0));
    // SAFETY of the test: the layout of struct fdtab, thread_mask at 8.
    unsafe {
        t.slots()
            .add(fd as usize)
            .cast::<u64>()
            .add(1)
            .write_volatile(0)
    };
    assert_eq!(t.clear_running(fd, 0), 0);
    t.delete_orphan(fd);
    assert!(!is_open(fd));
    assert_eq!(t.used(), 0);
}

/// SHOWS: INV-65
#[test]
fn delete_inside_the_callback_then_reuse() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    on_report(&t, |t, fd| {
        t.delete(fd, Some(0));
        assert!(!is_open(fd));
        assert_eq!(eventfd(1), fd);
        t.insert(fd, OWNER, Some(iocb), 1);
        want(t, fd);
    });
    assert_eq!(turn(&t, 0), 1);
    on_report(&t, |_, _| {});
    assert_eq!(calls(), 1);
    assert_eq!(
        (t.used(), t.slot(fd).generation(), t.slot(fd).running_mask()),
        (1, 1, 0)
    );
    // FD-18: the reused number is polled.
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    assert_eq!(t.update_events(fd, FD_EV_READY_R, 0), Updated::Done);
    t.delete(fd, Some(0));
}

/// FD-36, INV-84: the number changes hands between wait and dispatch.
/// SHOWS: INV-84
#[test]
fn fd_36_a_late_report_is_not_delivered_to_the_next_life() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    t.apply_updates(0);
    let n = t.wait(0, Some(0));
    assert_eq!(n, 1);
    t.delete(fd, Some(0));
    assert_eq!(eventfd(0), fd);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    let _ = t.dispatch(0, n);
    let c = t.counters(0);
    assert_eq!((calls(), c.poll_stale, c.poll_rebuild), (0, 1, 0));
    send_to_eventfd(fd);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    t.delete(fd, Some(0));
}

fn send_to_eventfd(fd: i32) {
    let one = 1u64;
    assert_eq!(unsafe { libc::write(fd, (&raw const one).cast(), 8) }, 8);
}

/// FD-15: the number is deleted and inserted again with an update pending.
/// SHOWS: INV-66
#[test]
fn fd_15_pending_updates_outlive_the_number() {
    alone();
    let t = Arc::new(FdTable::new(1024, 1, kind()).unwrap());
    assert_eq!(t.thread_enter(0), 0);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    for _ in 0..2000 {
        want(&t, fd);
        t.delete(fd, Some(0));
        assert_eq!(eventfd(1), fd);
        t.insert(fd, OWNER, Some(iocb), 1);
    }
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    t.delete(fd, Some(0));
    assert!(!t.has_updates(0));
}

/// SHOWS: INV-63, INV-68, INV-73
#[test]
fn takeover() {
    let t = entered(2);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 0b01);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!(calls(), 1);
    // FD-9: refused, and nothing changes.
    assert!(!t.takeover(fd, 32 as *mut c_void, 1));
    assert!(t.set_running(fd, 0));
    let before = t.slot(fd).state();
    assert!(!t.takeover(fd, OWNER, 1));
    assert_eq!(
        (t.slot(fd).state(), t.slot(fd).thread_mask()),
        (before, 0b01)
    );
    assert_eq!(t.clear_running(fd, 0), 0);
    // FD-10: nothing active afterwards.
    assert!(t.takeover(fd, OWNER, 1));
    assert_eq!(t.slot(fd).state() & FD_EV_ACTIVE_RW, 0);
    assert_eq!(
        (t.slot(fd).thread_mask(), t.slot(fd).running_mask()),
        (0b10, 0)
    );
    // INV-73: the old owner's poller reports it once more, then forgets it.
    assert_eq!(turn(&t, 0), 1);
    assert_eq!((calls(), t.counters(0).poll_skip_fd), (0, 1));
    assert_eq!(turn(&t, 0), 0);
    // The new owner re-arms.
    assert_eq!(t.thread_enter(1), 0);
    assert_eq!(t.want_recv(fd, Some(1)), keel::sync::ThreadSet::EMPTY);
    assert_eq!(turn(&t, 1), 1);
    assert_eq!(calls(), 1);
    assert_eq!(t.update_events(fd, FD_EV_READY_R, 0), Updated::Migrated);
    t.delete(fd, Some(1));
}

/// FD-16: every allowed thread polls a shared descriptor; INV-71 for each.
#[test]
fn fd_16_a_shared_descriptor_is_polled_by_all() {
    let t = entered(3);
    assert_eq!(t.thread_enter(1), 0);
    assert_eq!(t.thread_enter(2), 0);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 0b011);
    assert_eq!(t.want_recv(fd, Some(0)).0, 0b010);
    assert!(t.has_updates(0) && t.has_updates(1) && !t.has_updates(2));
    assert_eq!((turn(&t, 0), turn(&t, 1), turn(&t, 2)), (1, 1, 0));
    t.stop_recv(fd);
    for tid in 0..2 {
        assert_eq!((turn(&t, tid), turn(&t, tid)), (1, 0));
    }
    assert_eq!(calls(), 2);
    // From a thread without an id everybody is to be woken.
    assert_eq!(t.want_recv(fd, None).0, 0b011);
    assert_eq!((turn(&t, 0), turn(&t, 1)), (1, 1));
    t.delete(fd, None);
}

/// FD-22, INV-74: whoever asks, those are to be woken that may handle it and do
/// not know of it yet.
/// SHOWS: INV-74
#[test]
fn fd_22_who_is_woken_may_handle_it() {
    let t = entered(64);
    let fd = eventfd(0);
    for mask in [1, 0b10, 0b11, 1 << 63, 0xff00, 0xf000_0000_0000_000f, !0] {
        for tid in [None, Some(0), Some(5), Some(63)] {
            t.insert(fd, OWNER, Some(iocb), mask);
            t.slot(fd).raise(FD_DISOWN);
            // Those whose updates are queued since the last time know already.
            let known = t.slot(fd).update_mask();
            let me = tid.map_or(0, |tid| 1u64 << tid);
            assert_eq!(t.want_recv(fd, tid).0, mask & !known & !me);
            assert_eq!(t.slot(fd).update_mask(), mask | known);
            assert_eq!(t.update_polling(fd, None).0, 0);
            t.delete(fd, None);
            for tid in 0..64 {
                if (mask | known) & (1 << tid) != 0 && (mask ^ tid) % 3 != 0 {
                    t.apply_updates(tid as usize);
                }
            }
        }
    }
    close(fd);
}

/// SHOWS: INV-78
#[test]
fn threads_that_enter_late_or_again_poll_what_is_theirs() {
    let t = entered(2);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 0b10);
    assert_eq!(t.want_recv(fd, Some(0)).0, 0b10);
    assert_eq!(t.thread_enter(1), 0);
    assert_eq!(t.thread_enter(1), -libc::EBUSY);
    assert_eq!(turn(&t, 1), 1);
    t.thread_leave(1);
    assert_eq!(t.thread_enter(1), 0);
    assert_eq!(turn(&t, 1), 1);
    t.delete(fd, Some(0));
}

/// FD-34: a duplicate lives on, and nobody said so.
/// SHOWS: INV-68, WINDOW(every-set)
#[test]
fn fd_34_a_duplicated_descriptor_does_not_ring() {
    let t = entered(1);
    let other = eventfd(1);
    t.insert(other, OWNER, Some(iocb), 1);
    want(&t, other);
    let fd = eventfd(1);
    let copy = unsafe { libc::dup(fd) };
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 2);
    let host = t.poll_fd(0); // epoll only
    t.delete(fd, Some(0));
    let reports: Vec<_> = (0..6).map(|_| turn(&t, 0)).collect();
    if with(Kind::Poll) {
        // It had the number alone, and forgot it.
        assert_eq!(reports, [1; 6]);
        assert_eq!(t.poll_fd(0), -libc::ENOTSUP);
        t.delete(other, Some(0));
        return close(copy);
    }
    // Late once, suspicious twice, gone for good; others go on.
    assert_eq!(reports, [2, 2, 1, 1, 1, 1]);
    assert_eq!(
        (t.counters(0).poll_stale, t.counters(0).poll_rebuild),
        (2, 1)
    );
    assert_eq!(t.poll_fd(0), host);
    let readable = |fd| {
        let mut p = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        unsafe { libc::poll(&mut p, 1, 0) == 1 }
    };
    assert!(readable(host));
    t.delete(other, Some(0));
    turn(&t, 0);
    assert!(!readable(host));
    close(copy);
}

/// FD-34 with FD_CLONED: removed at the close, from who has it alone.
/// SHOWS: INV-77
#[test]
fn fd_35_a_cloned_descriptor_is_removed_explicitly() {
    let t = entered(2);
    assert_eq!(t.thread_enter(1), 0);
    let fd = eventfd(1);
    let copy = unsafe { libc::dup(fd) };
    t.insert(fd, OWNER, Some(iocb), 0b11);
    let _ = t.want_recv(fd, Some(0));
    assert_eq!((turn(&t, 0), turn(&t, 1)), (1, 1));
    t.slot(fd).raise(FD_CLONED);
    t.delete(fd, None);
    assert_eq!((turn(&t, 0), turn(&t, 1)), (0, 0));
    assert_eq!(
        (t.counters(0).poll_stale, t.counters(0).poll_rebuild),
        (0, 0)
    );
    close(copy);
}

#[test]
fn a_regular_file_is_always_ready() {
    let t = entered(1);
    let path = c"/proc/self/exe";
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    t.insert(fd, OWNER, Some(iocb), 1);
    assert_eq!(turn(&t, 0), 0);
    assert_eq!(calls(), 0);
    want(&t, fd);
    // epoll does not take it.
    let reports = i32::from(with(Kind::Poll));
    for _ in 0..3 {
        assert_eq!(turn(&t, 0), reports);
    }
    assert_eq!(calls(), 3);
    let sleeps = with(Kind::Poll) || !t.has_updates(0);
    assert_eq!(sleeps, with(Kind::Poll), "epoll would miss it");
    t.stop_recv(fd);
    turn(&t, 0);
    turn(&t, 0);
    assert_eq!(calls(), 0);
    assert!(!t.has_updates(0));
    want(&t, fd);
    on_report(&t, |t, fd| t.delete(fd, Some(0)));
    turn(&t, 0);
    assert_eq!(calls(), 1);
    assert!(!is_open(fd));
    turn(&t, 0);
    assert!(!t.has_updates(0));
}

/// More are ready than fit into one harvest: each gets its turn.
#[test]
fn many_at_once() {
    let t = entered(1);
    let fds: Vec<i32> = (0..600).map(|_| eventfd(1)).collect();
    for &fd in &fds {
        t.insert(fd, OWNER, Some(iocb), 1);
        want(&t, fd);
    }
    assert_eq!([turn(&t, 0), turn(&t, 0)], [256, 256]);
    turn(&t, 0);
    let mut called = CALLS.with(|c| std::mem::take(&mut *c.borrow_mut()));
    called.sort_unstable();
    called.dedup();
    assert_eq!(called.len(), fds.len());
    // What leaves the set from the middle takes nobody else along.
    for fd in fds.iter().skip(1).step_by(2) {
        t.delete(*fd, Some(0));
    }
    for _ in 0..4 {
        turn(&t, 0);
    }
    calls();
    for fd in fds.iter().step_by(2) {
        t.stop_recv(*fd);
    }
    for _ in 0..4 {
        turn(&t, 0);
    }
    assert_eq!((turn(&t, 0), calls()), (0, 0));
    for fd in fds.iter().step_by(2) {
        want(&t, *fd);
        assert_eq!((turn(&t, 0), calls()), (1, 1));
        t.delete(*fd, Some(0));
        turn(&t, 0);
    }
    assert_eq!(t.used(), 0);
}

/// Edge triggered: one registration, one report per change, and none is
/// lost to a time in which nobody wanted it.
#[test]
fn edges() {
    if with(Kind::Poll) {
        return; // has none, and serves them as levels
    }
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    t.slot(a).raise(FD_ET_POSSIBLE);
    t.cant_recv(a);
    want(&t, a);
    // A new registration reports what is possible: writes.
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    let state = t.slot(a).state();
    assert_eq!(state & (FD_POLL_IN | FD_POLL_OUT), FD_POLL_OUT);
    assert_eq!(t.counters(0).poll_ctl, 1);
    // Not read: reported once all the same.
    send(b);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    assert_eq!((turn(&t, 0), calls()), (0, 0));
    send(b);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    // Wanting, and not, costs no system call while nothing was missed.
    t.cant_recv(a);
    for _ in 0..3 {
        t.stop_recv(a);
        turn(&t, 0);
        want(&t, a);
        turn(&t, 0);
    }
    assert_eq!(t.counters(0).poll_ctl, 1);
    // What came meanwhile is reported again to who wants it.
    t.stop_recv(a);
    send(b);
    assert_eq!((turn(&t, 0), calls()), (1, 0));
    assert_ne!(t.slot(a).state() & FD_EV_READY_R, 0);
    want(&t, a);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    assert_eq!((turn(&t, 0), calls()), (0, 0));
    // INV-71: a report that nobody wants is no reason to change the set.
    let before = t.counters(0);
    t.stop_both(a);
    send(b);
    assert_eq!((turn(&t, 0), turn(&t, 0), calls()), (1, 0, 0));
    let after = t.counters(0);
    assert_eq!(before.poll_ctl, after.poll_ctl);
    assert_eq!(before.poll_spurious, after.poll_spurious);
    t.delete(a, Some(0));
    close(b);
}

/// What cannot be watched has no edges.
#[test]
fn edges_of_a_regular_file() {
    let t = entered(1);
    let path = c"/proc/self/exe";
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    t.insert(fd, OWNER, Some(iocb), 1);
    t.slot(fd).raise(FD_ET_POSSIBLE);
    want(&t, fd);
    turn(&t, 0);
    turn(&t, 0);
    assert_eq!(calls(), 2);
    t.stop_recv(fd);
    turn(&t, 0);
    turn(&t, 0);
    assert_eq!((calls(), t.has_updates(0)), (0, false));
    t.delete(fd, Some(0));
}

/// A takeover of an edge-triggered descriptor moves its registration.
#[test]
fn edges_move() {
    let t = entered(2);
    assert_eq!(t.thread_enter(1), 0);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    t.slot(a).raise(FD_ET_POSSIBLE);
    want(&t, a);
    turn(&t, 0);
    calls();
    t.stop_recv(a);
    turn(&t, 0);
    assert!(t.takeover(a, OWNER, 1));
    let _ = t.want_recv(a, Some(1));
    send(b);
    turn(&t, 0);
    assert_eq!(calls(), 0);
    turn(&t, 1);
    assert_eq!(calls(), 1);
    // The old one forgets it.
    turn(&t, 0);
    send(b);
    assert_eq!((turn(&t, 0), calls()), (0, 0));
    turn(&t, 1);
    assert_eq!(calls(), 1);
    t.delete(a, Some(1));
    close(b);
}

#[test]
fn orphans_and_spurious_reports_are_counted() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    t.stop_recv(fd);
    assert_eq!((turn(&t, 0), turn(&t, 0)), (1, 0));
    want(&t, fd);
    // As another thread does it while this one is inside.
    on_report(&t, |t, fd| t.delete(fd, None));
    assert_eq!(turn(&t, 0), 1);
    let c = t.counters(0);
    assert_eq!((c.poll_spurious, c.orphans), (1, 1));
    assert_eq!((c.polls, c.poll_io), (4, 3));
    assert!(!is_open(fd));
    t.apply_updates(0);
    let before = t.counters(0).poll_exp;
    while t.wait(0, Some(1000)) != 0 {}
    assert_eq!(t.counters(0).poll_exp, before + 1);
}

#[test]
fn numbers_closed_behind_our_back() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    close(fd);
    want(&t, fd);
    turn(&t, 0);
    assert_eq!((turn(&t, 0), calls()), (0, 0));
    assert!(!t.has_updates(0));
    // And back again under the same number, polled already in its old life.
    assert_eq!(eventfd(1), fd);
    t.stop_recv(fd);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    close(fd);
    assert_eq!(eventfd(1), fd);
    let _ = t.want_send(fd, Some(0));
    assert_eq!(turn(&t, 0), 1, "MOD finds nothing and becomes ADD");
    t.delete(fd, Some(0));
    assert_eq!(calls(), 2);
}

#[test]
fn the_runtimes_own_descriptor() {
    let t = entered(1);
    let wake = eventfd(0);
    assert_eq!(t.add_internal(0, wake), 0);
    t.apply_updates(0);
    let n = t.wait(0, Some(0));
    assert!(!t.dispatch(0, n));
    send_to_eventfd(wake);
    let n = t.wait(0, None);
    assert!(t.dispatch(0, n));
    if with(Kind::Poll) {
        // It was closed behind our back: no reason to spin.
        close(wake);
        assert_eq!(t.wait(0, Some(0)), 1);
        assert_eq!(t.wait(0, Some(0)), 0);
        return;
    }
    // It stays through a rebuild: here, after somebody closed the set.
    close(the_set());
    assert_eq!(t.wait(0, Some(0)), -libc::EBADF);
    let n = t.wait(0, None);
    assert!(t.dispatch(0, n));
    close(wake);
}

/// The epoll set of the one table that has an internal descriptor.
fn the_set() -> i32 {
    let is_set = |fd: &i32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
        info.is_ok_and(|i| i.contains("data: ffffffffffffffff"))
    };
    (3..4096).find(is_set).unwrap()
}

/// What program()'s window can leave: the number is in the set already.
/// SHOWS: INV-68
#[test]
fn numbers_that_are_registered_already() {
    if with(Kind::Poll) {
        return; // nobody else can reach its set
    }
    let t = entered(1);
    let wake = eventfd(0);
    assert_eq!(t.add_internal(0, wake), 0);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: fd as u64 | (99 << 32),
    };
    let add = |event: &mut libc::epoll_event| unsafe {
        assert_eq!(
            libc::epoll_ctl(the_set(), libc::EPOLL_CTL_ADD, fd, event),
            0
        )
    };
    add(&mut event);
    // Nobody wants it: out it goes at the first report.
    assert_eq!((turn(&t, 0), turn(&t, 0)), (1, 0));
    assert_eq!((calls(), t.counters(0).poll_rebuild), (0, 0));
    // Wanted: the registration becomes ours.
    add(&mut event);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    assert_eq!((calls(), t.counters(0).poll_stale), (1, 1));
    t.delete(fd, Some(0));
    close(wake);
}

/// SHOWS: INV-76
#[test]
fn fork_child_gets_a_set_of_its_own() {
    let t = entered(2);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    turn(&t, 0);
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut ok = t.fork_child(Some(0)) == 0;
        ok &= t.slot(a).state() & FD_CLONED != 0;
        send(b);
        ok &= turn(&t, 0) == 1 && calls() == 1;
        t.stop_recv(a);
        turn(&t, 0);
        ok &= turn(&t, 0) == 0;
        t.delete(a, Some(0));
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    let mut status = 0;
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(status, 0);
    // INV-76: what the child removed from its set is still in ours.
    assert_eq!(turn(&t, 0), 1);
    t.delete(a, Some(0));
    close(b);
}

#[test]
fn limits_and_dump() {
    assert_eq!(FdTable::new(0, 1, kind()).err(), Some(-libc::EINVAL));
    assert_eq!(FdTable::new(10, 65, kind()).err(), Some(-libc::EINVAL));
    // FD-55, INV-83.
    let t = entered(1);
    assert_eq!(t.slots() as usize % 64, 0);
    let fd = eventfd(0);
    t.insert(fd, OWNER, Some(iocb), !0);
    assert_eq!(t.slot(fd).thread_mask(), 1, "of the threads that exist");
    want(&t, fd);
    turn(&t, 0);
    let mut text = String::new();
    t.dump(&mut text).unwrap();
    assert!(
        text.contains(&format!("fd={fd} state=0x23(R:ar W:-r")),
        "{text}"
    );
    assert!(
        text.contains("polled=0x1/0x0") && text.contains("used=1"),
        "{text}"
    );
    t.delete(fd, Some(0));
}

/// FD_DISOWN: everything but the close. FD_LINGER_RISK: on something that is
/// no socket it does no harm.
/// SHOWS: INV-68
#[test]
fn disowned() {
    let t = entered(1);
    let fd = eventfd(1);
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    t.slot(fd).raise(FD_DISOWN | FD_LINGER_RISK);
    t.delete(fd, Some(0));
    assert!(is_open(fd));
    assert_eq!((turn(&t, 0), t.used()), (0, 0));
    // FD-18: it can come back.
    t.insert(fd, OWNER, Some(iocb), 1);
    want(&t, fd);
    assert_eq!(turn(&t, 0), 1);
    t.delete(fd, Some(0));
    assert!(!is_open(fd));
}

static STRESSED: std::sync::OnceLock<FdTable> = std::sync::OnceLock::new();

/// Threads insert, delete, take over and reuse a few numbers at random while
/// all of them poll. Every insert is closed exactly once.
/// SHOWS: INV-60, INV-66
#[test]
fn stress() {
    const THREADS: usize = 4;
    static STOP: AtomicBool = AtomicBool::new(false);
    static INSERTS: AtomicUsize = AtomicUsize::new(0);
    static RAN: AtomicUsize = AtomicUsize::new(0);
    /// Who is inside a descriptor that one thread owns.
    static INSIDE: [AtomicU32; 4096] = [const { AtomicU32::new(0) }; 4096];
    thread_local!(static SELF: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    extern "C" fn busy(fd: c_int) {
        let t = STRESSED.get().unwrap();
        let private = t.slot(fd).thread_mask().count_ones() == 1;
        if private {
            assert_eq!(
                INSIDE[fd as usize].fetch_add(1, SeqCst),
                0,
                "two owners inside"
            );
        }
        RAN.fetch_add(1, SeqCst);
        if fd % 3 == 0 {
            thread::yield_now();
        }
        if private {
            INSIDE[fd as usize].fetch_sub(1, SeqCst);
        }
        t.stop_recv(fd);
    }

    alone();
    let t = STRESSED.get_or_init(|| FdTable::new(4096, THREADS, kind()).unwrap());
    // The lock of a server's idle list: what excludes deletion by two, and
    // takeover of what is being deleted.
    let live: Arc<Mutex<Vec<i32>>> = Arc::default();
    let workers: Vec<_> = (0..THREADS + 1)
        .map(|tid| {
            let live = live.clone();
            thread::spawn(move || {
                SELF.set(tid);
                let me = (tid < THREADS).then_some(tid);
                if me.is_some() {
                    assert_eq!(t.thread_enter(tid), 0);
                }
                let mut seed = tid as u64 * 77 + 1;
                while !STOP.load(SeqCst) {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let dice = (seed >> 40) as usize;
                    let mut list = live.lock().unwrap();
                    let pick = if list.is_empty() {
                        0
                    } else {
                        dice % list.len()
                    };
                    match dice % 7 {
                        0..=2 if list.len() < 64 => {
                            let fd = eventfd(1);
                            let mask = if dice % 2 == 0 {
                                !0
                            } else {
                                1 << (dice % THREADS)
                            };
                            t.insert(fd, OWNER, Some(busy), mask);
                            INSERTS.fetch_add(1, SeqCst);
                            let _ = t.want_recv(fd, me);
                            list.push(fd);
                        }
                        3 if !list.is_empty() => {
                            let fd = list.swap_remove(pick);
                            t.delete(fd, me);
                        }
                        4 if !list.is_empty() => {
                            if let Some(tid) = me {
                                if t.takeover(list[pick], OWNER, tid) {
                                    let _ = t.want_recv(list[pick], me);
                                }
                            }
                        }
                        5 if !list.is_empty() => {
                            let _ = t.want_recv(list[pick], me);
                        }
                        _ => {}
                    }
                    drop(list);
                    if me.is_some() {
                        turn(t, tid);
                    }
                }
                if me.is_some() {
                    t.thread_leave(tid);
                }
            })
        })
        .collect();
    thread::sleep(std::time::Duration::from_secs(3));
    STOP.store(true, SeqCst);
    for w in workers {
        w.join().unwrap();
    }
    for fd in live.lock().unwrap().drain(..) {
        t.delete(fd, None);
    }
    let closes: u32 = (0..4096).map(|fd| t.slot(fd).generation()).sum();
    assert_eq!(closes as usize, INSERTS.load(SeqCst));
    assert_eq!(t.used(), 0);
    for fd in 0..4096 {
        let slot = t.slot(fd);
        assert_eq!(
            (slot.running_mask(), slot.thread_mask(), slot.state()),
            (0, 0, 0)
        );
    }
    assert!(RAN.load(SeqCst) > 100, "nothing happened");
}

/// poll() keeps a file open while it waits for it, so that no peer would learn
/// of the close (INV-61). Nor may the number stay in the set (INV-73).
/// SHOWS: INV-61
#[test]
fn a_close_is_seen_outside_though_others_wait_for_the_file() {
    let t = table(2);
    let wake = eventfd(0);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 0b10);
    let _ = t.want_recv(a, None);
    let (sleeps, awake) = (Barrier::new(2), Barrier::new(2));
    let again = AtomicI32::new(-1);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(t.thread_enter(1), 0);
            assert_eq!(t.add_internal(1, wake), 0);
            t.apply_updates(1);
            sleeps.wait();
            let n = t.wait(1, Some(8_000_000_000));
            let _ = t.dispatch(1, n);
            awake.wait();
            sleeps.wait();
            send_nothing(wake);
            again.store(turn(&t, 1), SeqCst);
        });
        sleeps.wait();
        // Likely asleep by then; if not, the test shows less.
        thread::sleep(std::time::Duration::from_millis(100));
        t.delete(a, None);
        let mut end = libc::pollfd {
            fd: b,
            events: libc::POLLIN,
            revents: 0,
        };
        let seen = unsafe { libc::poll(&mut end, 1, 4_000) };
        send_to_eventfd(wake);
        awake.wait();
        let reused = eventfd(1);
        sleeps.wait();
        // No panic before: the other thread would wait for ever.
        assert_eq!((seen, reused), (1, a), "the peer learns of it");
    });
    assert_eq!(again.load(SeqCst), 0, "the number is not polled any more");
    for fd in [a, b, wake] {
        close(fd);
    }
}

fn send_nothing(eventfd: i32) {
    let mut count = 0u64;
    unsafe { libc::read(eventfd, (&raw mut count).cast(), 8) };
}

/// FD_ET_POSSIBLE set and cleared while the set has the descriptor.
#[test]
fn edges_asked_for_late_and_taken_back() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    turn(&t, 0);
    t.stop_recv(a);
    t.slot(a).raise(FD_ET_POSSIBLE);
    send(b);
    // INV-71 holds for what was registered as a level.
    assert_eq!(turn(&t, 0), 1);
    assert_eq!((turn(&t, 0), turn(&t, 0), calls()), (0, 0, 0));
    want(&t, a);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    if with(Kind::Epoll) {
        assert_eq!((turn(&t, 0), calls()), (0, 0));
    }
    t.slot(a).lower(FD_ET_POSSIBLE);
    let _ = t.update_polling(a, Some(0));
    assert_eq!((turn(&t, 0), turn(&t, 0), calls()), (1, 1, 2));
    t.delete(a, Some(0));
    close(b);
}

/// poll() reports more numbers that were closed than a turn takes: each is
/// told all the same.
#[test]
fn more_numbers_closed_behind_our_back_than_a_turn_takes() {
    if with(Kind::Epoll) {
        return; // which says nothing of closed ones
    }
    let t = entered(1);
    let fds: Vec<i32> = (0..300).map(|_| eventfd(0)).collect();
    for &fd in &fds {
        t.insert(fd, OWNER, Some(iocb), 1);
        want(&t, fd);
    }
    assert_eq!(turn(&t, 0), 0);
    fds.iter().for_each(|&fd| close(fd));
    assert_eq!((turn(&t, 0), turn(&t, 0), turn(&t, 0)), (256, 44, 0));
    assert_eq!(t.counters(0).poll_drop_fd, 300);
    // None is believed to be polled, so that all can be polled again.
    for &fd in &fds {
        assert_eq!(eventfd(1), fd);
        t.stop_recv(fd);
        want(&t, fd);
    }
    assert_eq!((turn(&t, 0), turn(&t, 0)), (256, 256));
    for &fd in &fds {
        t.delete(fd, Some(0));
    }
    calls();
}

/// A hang-up comes unasked: to who reads, it is not spurious.
#[test]
fn a_hang_up_that_a_reader_waits_for_is_not_spurious() {
    let t = entered(1);
    let [a, b] = socketpair();
    t.insert(a, OWNER, Some(iocb), 1);
    want(&t, a);
    turn(&t, 0);
    close(b);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    assert_ne!(t.slot(a).state() & FD_POLL_HUP, 0);
    assert_eq!((turn(&t, 0), calls()), (1, 1));
    assert_eq!(t.counters(0).poll_spurious, 0);
    t.delete(a, Some(0));
}

/// poll() takes no more entries than the limit allows descriptors, of which
/// more may be open by then.
#[test]
fn a_limit_that_is_lowered_leaves_nobody_deaf() {
    let t = entered(1);
    let fds: Vec<i32> = (0..200).map(|_| eventfd(0)).collect();
    for &fd in &fds {
        t.insert(fd, OWNER, Some(iocb), 1);
        want(&t, fd);
    }
    assert_eq!(turn(&t, 0), 0);
    let limit = |n| unsafe {
        let mut all: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut all);
        let old = std::mem::replace(&mut all.rlim_cur, n);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &all), 0);
        old
    };
    let old = limit(60);
    let idle = t.wait(0, Some(1_000_000));
    send_to_eventfd(fds[0]);
    send_to_eventfd(fds[199]);
    let (one, other) = (turn(&t, 0), turn(&t, 0));
    limit(old);
    assert_eq!((idle, one, other), (0, 2, 2));
    assert_eq!((calls(), t.counters(0).poll_rebuild), (4, 0));
    for fd in fds {
        t.delete(fd, Some(0));
    }
}

mod misuse {
    use super::*;

    /// SHOWS: INV-79
    #[test]
    #[should_panic(expected = "descriptor 4096 is out of range")]
    fn above() {
        table(1).insert(4096, OWNER, Some(iocb), 1);
    }

    /// SHOWS: INV-79
    #[test]
    #[should_panic(expected = "descriptor -1 is out of range")]
    fn below() {
        table(1).delete(-1, None);
    }

    #[test]
    #[should_panic(expected = "without an owner")]
    fn no_owner() {
        table(1).insert(9, std::ptr::null_mut(), Some(iocb), 1);
    }

    #[test]
    #[should_panic(expected = "no thread may handle descriptor 9")]
    fn no_thread() {
        table(2).insert(9, OWNER, Some(iocb), 0b100);
    }

    /// SHOWS: INV-85
    #[test]
    #[should_panic(expected = "descriptor 9 is in use already")]
    fn inserted_twice() {
        let t = table(1);
        t.insert(9, OWNER, Some(iocb), 1);
        t.insert(9, OWNER, Some(iocb), 1);
    }

    #[test]
    #[should_panic(expected = "descriptor 9 is deleted but not inserted")]
    fn deleted_while_free() {
        table(1).delete(9, Some(0));
    }

    #[test]
    #[should_panic(expected = "is deleted twice")]
    fn deleted_twice() {
        let t = table(2);
        let fd = eventfd(0);
        t.insert(fd, OWNER, Some(iocb), 1);
        assert!(t.set_running(fd, 0));
        t.delete(fd, Some(1));
        t.delete(fd, Some(1));
    }

    #[test]
    #[should_panic(expected = "from inside a descriptor's callback")]
    fn polling_in_a_callback() {
        let t = entered(1);
        let fd = eventfd(1);
        t.insert(fd, OWNER, Some(iocb), 1);
        want(&t, fd);
        // The callback may not unwind into the table through extern "C".
        t.apply_updates(0);
        let n = t.wait(0, Some(0));
        on_report(&t, |t, _| {
            let nested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turn(t, 0)));
            FAILED.set(nested.err());
        });
        let _ = t.dispatch(0, n);
        if let Some(e) = FAILED.take() {
            std::panic::resume_unwind(e);
        }
    }

    thread_local!(static FAILED: std::cell::Cell<Option<Box<dyn std::any::Any + Send>>> =
        const { std::cell::Cell::new(None) });
}
