//! Models of who may use a descriptor, who closes it, and who looks at it
//! again. Each explores the code that ships (`fd/running.rs`, `fd/slot.rs`,
//! `fd/update.rs`); `Fd` and `Polling` stand for the few lines of the table
//! and the poller around it, without system calls.
//!
//! Two threads are explored whole where that is a matter of seconds, three
//! with few preemptions.
//!
//! Run: RUSTFLAGS="--cfg loom" cargo test --profile model --test loom_fd
#![cfg(loom)]
#![allow(clippy::undocumented_unsafe_blocks)] // loom checks every access

use keel::fd::*;
use keel::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use keel::sync::{UnsafeCell, model_point};
use loom::sync::{Arc, Mutex, RwLock};
use loom::thread;
use std::ffi::c_void;

/// A slot and what its users touch. `shared` is unprotected: loom reports
/// any two users, or user and closer, that are not ordered.
struct Fd {
    slot: Slot,
    shared: UnsafeCell<u32>,
    closes: AtomicUsize,
}

const OWNER: *mut c_void = 16 as *mut c_void;

impl Fd {
    fn free() -> Self {
        Self {
            slot: Slot::new(),
            shared: UnsafeCell::new(0),
            closes: AtomicUsize::new(0),
        }
    }

    fn armed(mask: u64) -> Self {
        let fd = Self::free();
        fd.arm(mask);
        fd
    }

    fn new(mask: u64) -> Arc<Self> {
        Arc::new(Self::armed(mask))
    }

    fn arm(&self, mask: u64) {
        assert!(self.slot.arm(OWNER, None, mask));
    }

    /// What FdTable::close does, as far as others can see it.
    fn close(&self, closing: Closing) {
        self.change();
        self.closes.fetch_add(1, Relaxed);
        self.slot.reset(closing);
    }

    /// True when the caller closed it.
    fn delete(&self, tid: Option<usize>) -> bool {
        match self.slot.orphan(tid) {
            Orphan::CloseNow(closing) => self.close(closing),
            Orphan::Deferred => return false,
            Orphan::Twice => panic!("an orphan before its deletion"),
        }
        true
    }

    /// A report; `body` is the callback. True when the caller closed it.
    fn report(&self, tid: usize, body: impl FnOnce()) -> bool {
        self.report_of(None, tid, body)
    }

    /// A report that was made for this life of the number.
    fn report_of(&self, life: Option<Generation>, tid: usize, body: impl FnOnce()) -> bool {
        match self.slot.enter(tid) {
            Enter::In(now) => {
                if life.is_none_or(|life| life == now) {
                    body();
                }
                let Leave::CloseNow(closing) = self.slot.leave(tid) else {
                    return false;
                };
                self.close(closing);
            }
            Enter::Nested(_) => panic!("nested"),
            Enter::NotMine => return false,
            Enter::CloseNow(closing) => self.close(closing),
        }
        true
    }

    /// A callback on a descriptor that several threads may use at once.
    fn look(&self) {
        self.shared.with(|p| unsafe { std::hint::black_box(*p) });
    }

    /// A callback on a descriptor that one thread has.
    fn change(&self) {
        self.shared.with_mut(|p| unsafe { *p += 1 });
    }

    /// It was closed `lives` times and is as a free slot.
    fn is_closed(&self, lives: usize) {
        assert_eq!(self.closes.load(Relaxed), lives);
        assert_eq!(self.slot.generation() as usize, lives);
        assert_eq!(self.slot.running_mask(), 0);
        assert_eq!(self.slot.thread_mask(), 0);
        assert_eq!(self.slot.state(), 0);
        assert!(self.slot.owner().is_null());
    }
}

/// Every interleaving, or those of at most `preemptions` preemptions.
fn model(preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = preemptions;
    b.max_branches = 20_000;
    b.check(f);
}

fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    f: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || f(&shared))
}

/// SHOWS: INV-60, INV-61, INV-62
#[test]
fn report_and_delete() {
    model(None, || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| fd.report(1, || fd.look()));
        fd.delete(Some(0));
        t.join().unwrap();
        fd.is_closed(1);
    });
}

/// SHOWS: INV-60, INV-61
#[test]
fn report_and_delete_from_outside() {
    model(None, || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| {
            fd.report(1, || fd.look());
            fd.report(1, || fd.look());
        });
        fd.delete(None);
        t.join().unwrap();
        fd.is_closed(1);
    });
}

/// Whoever is let in sees what was prepared for it.
/// SHOWS: INV-85
#[test]
fn a_user_sees_what_the_inserter_did() {
    model(None, || {
        let fd = Arc::new(Fd::free());
        let t = spawn(&fd, |fd| {
            fd.report(1, || {
                fd.look();
                assert_eq!(fd.slot.owner(), OWNER);
                assert_eq!(fd.slot.state(), FD_EV_READY_RW);
            })
        });
        fd.change();
        fd.arm(0b10);
        t.join().unwrap();
    });
}

/// Whoever finds a slot free finds nothing of its former life, and leaves
/// nothing to it.
/// SHOWS: INV-65, INV-85
#[test]
fn an_inserter_comes_after_the_closer() {
    unsafe extern "C" fn iocb(_: i32) {}
    model(None, || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| {
            if fd.slot.arm(OWNER, Some(iocb), 0b10) {
                fd.change();
                assert!(fd.slot.iocb().is_some());
                fd.report(1, || fd.change());
            }
        });
        fd.delete(Some(0));
        t.join().unwrap();
        assert_eq!(fd.closes.load(Relaxed), 1);
        assert_eq!((fd.slot.generation(), fd.slot.running_mask()), (1, 0));
        assert_eq!(fd.slot.owner().is_null(), fd.slot.iocb().is_none());
    });
}

/// FD-1: the deleter holds the lock that the callback on another thread wants.
/// SHOWS: INV-61
#[test]
fn fd_1_delete_under_a_lock_that_the_callback_wants() {
    model(None, || {
        let listener = Arc::new((Fd::armed(0b11), Mutex::new(())));
        let t = spawn(&listener, |(fd, lock)| {
            fd.report(1, || {
                let _accept = lock.lock().unwrap();
                fd.look();
            })
        });
        let (fd, lock) = &*listener;
        let unbind = lock.lock().unwrap();
        fd.delete(Some(0));
        drop(unbind);
        t.join().unwrap();
        fd.is_closed(1);
    });
}

/// FD-3 (b): two users leave an orphan at once.
/// SHOWS: INV-60
#[test]
fn fd_3_two_leavers_close_once() {
    model(Some(2), || {
        let fd = Fd::new(0b111);
        let a = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let b = spawn(&fd, |fd| fd.report(2, || fd.look()));
        fd.delete(Some(0));
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// SHOWS: INV-60
#[test]
fn fd_3_two_leavers_and_a_deleter_from_outside_close_once() {
    model(Some(3), || {
        let fd = Fd::new(0b111);
        let a = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let b = spawn(&fd, |fd| fd.report(2, || fd.look()));
        fd.delete(None);
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// FD-1: the callback itself deletes, while another thread is inside.
/// SHOWS: INV-61
#[test]
fn fd_1_delete_inside_the_callback() {
    model(None, || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| fd.report(1, || fd.look()));
        fd.report(0, || {
            fd.look();
            fd.delete(Some(0));
        });
        t.join().unwrap();
        fd.is_closed(1);
    });
}

/// The number lives again, and is deleted again, while a report of its first
/// life is on its way in or out.
/// SHOWS: INV-60, WINDOW(left-behind)
#[test]
fn reuse_under_a_late_report() {
    model(Some(4), || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let mut lives = 1;
        if fd.delete(Some(0)) {
            fd.arm(0b11);
            fd.delete(Some(0));
            lives = 2;
        }
        t.join().unwrap();
        fd.is_closed(lives);
    });
}

/// As above with a user of the second life: a latecomer of the first must
/// not close it under the user's hands.
/// SHOWS: INV-60
#[test]
fn reuse_under_a_late_report_with_a_user() {
    model(Some(2), || {
        let fd = Fd::new(0b110);
        let late = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let user = spawn(&fd, |fd| fd.report(2, || fd.look()));
        let mut lives = 1;
        if fd.delete(Some(0)) {
            fd.arm(0b110);
            fd.delete(None);
            lives = 2;
        }
        late.join().unwrap();
        user.join().unwrap();
        fd.is_closed(lives);
    });
}

/// FD-36, INV-84: a report made for the first life is on its way while the
/// number begins another; what is delivered is of the life it was made for.
/// SHOWS: INV-84
#[test]
fn fd_36_a_late_report_is_not_delivered_to_the_next_life() {
    model(Some(3), || {
        let fd = Fd::new(0b11);
        let late = spawn(&fd, |fd| {
            fd.report_of(Some(0), 1, || {
                fd.shared.with(|p| assert_eq!(unsafe { *p }, 0))
            });
        });
        if fd.delete(Some(0)) {
            // close() has counted the first life in `shared`.
            fd.arm(0b11);
            fd.report_of(Some(1), 0, || {
                fd.shared.with(|p| assert_eq!(unsafe { *p }, 1))
            });
            assert_eq!(fd.slot.generation(), 1);
        }
        late.join().unwrap();
        assert_eq!(fd.slot.running_mask(), 0);
    });
}

/// Code in the seed's manner: running bits by hand, and whoever sees "I was
/// the last, it is nobody's" calls for the end.
fn by_hand(fd: &Fd, tid: usize, body: impl FnOnce()) -> bool {
    match fd.slot.enter(tid) {
        Enter::In(_) => body(),
        Enter::CloseNow(closing) => {
            fd.close(closing);
            return true;
        }
        _ => return false,
    }
    if fd.slot.clear_running(tid) == 0 && fd.slot.thread_mask() == 0 {
        if let Some(closing) = fd.slot.claim() {
            fd.close(closing);
            return true;
        }
    }
    false
}

/// Rule 4 of running.rs: the last user closes while the deleter, who is not
/// inside, is still at it, and the number begins another life at once.
/// SHOWS: INV-65
#[test]
fn a_late_deleter_leaves_the_next_life_alone() {
    fn explore(last_user: fn(&Fd) -> bool) {
        model(Some(4), move || {
            let fd = Fd::new(0b10);
            let t = spawn(&fd, move |fd| {
                if last_user(fd) {
                    fd.arm(0b10);
                }
            });
            fd.delete(None);
            t.join().unwrap();
            assert_eq!(fd.closes.load(Relaxed), 1);
            assert_eq!((fd.slot.generation(), fd.slot.running_mask()), (1, 0));
            if !fd.slot.owner().is_null() {
                assert_eq!(fd.slot.thread_mask(), 0b10);
                assert_eq!(fd.slot.state(), FD_EV_READY_RW);
            }
        });
    }
    explore(|fd| fd.report(1, || fd.look()));
    explore(|fd| by_hand(fd, 1, || fd.look()));
}

#[test]
fn masks_by_hand() {
    model(Some(2), || {
        let fd = Fd::new(0b110);
        let a = spawn(&fd, |fd| by_hand(fd, 1, || fd.look()));
        let b = spawn(&fd, |fd| by_hand(fd, 2, || fd.look()));
        fd.delete(None);
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// The seed's deletion by hand: no token but the one that the last
/// clear_running grants.
/// SHOWS: INV-60
#[test]
fn orphaned_by_hand() {
    model(Some(2), || {
        let fd = Fd::new(0b111);
        let user = spawn(&fd, |fd| by_hand(fd, 1, || fd.look()));
        let report = spawn(&fd, |fd| fd.report(2, || fd.look()));
        by_hand(&fd, 0, || fd.slot.set_thread_mask(0));
        user.join().unwrap();
        report.join().unwrap();
        fd.is_closed(1);
    });
}

/// A user by hand is late: the number was closed and lives again.
#[test]
fn masks_by_hand_and_reuse() {
    model(Some(3), || {
        let fd = Fd::new(0b11);
        let user = spawn(&fd, |fd| by_hand(fd, 1, || fd.look()));
        let mut lives = 1;
        if fd.delete(Some(0)) {
            fd.arm(0b11);
            fd.report(0, || fd.look());
            fd.delete(Some(0));
            lives = 2;
        }
        user.join().unwrap();
        fd.is_closed(lives);
    });
}

/// FD-3 (a): the new owner and the old one are never both inside.
/// SHOWS: INV-62, INV-63
#[test]
fn fd_3_8_9_10_takeover_excludes_the_old_owner() {
    model(None, || {
        let fd = Fd::new(0b01);
        fd.slot.raise(FD_EV_ACTIVE_RW);
        let t = spawn(&fd, |fd| {
            let before = fd.slot.state();
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                fd.change();
                assert_eq!(fd.slot.state() & FD_EV_ACTIVE_RW, 0);
                fd.report(1, || fd.change());
            } else {
                // FD-9: and a failed one changes nothing.
                assert_eq!(fd.slot.state(), before);
                assert_eq!(fd.slot.thread_mask(), 0b01);
            }
        });
        fd.report(0, || fd.change());
        t.join().unwrap();
        assert_eq!(fd.slot.running_mask(), 0);
    });
}

/// Who took it over comes after the last one inside, without entering itself.
/// SHOWS: INV-63
#[test]
fn a_taker_sees_what_the_last_user_did() {
    model(None, || {
        let fd = Fd::new(0b01);
        let t = spawn(&fd, |fd| {
            model_point();
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                fd.change();
            }
        });
        fd.report(0, || fd.change());
        model_point();
        t.join().unwrap();
    });
}

/// Of a shared descriptor too, whose taker is in the mask already.
/// SHOWS: INV-63
#[test]
fn fd_3_takeover_of_a_shared_descriptor() {
    model(None, || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| {
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                fd.change();
            }
        });
        fd.report(0, || fd.change());
        t.join().unwrap();
        assert_eq!(fd.slot.running_mask(), 0);
    });
}

/// SHOWS: INV-63
#[test]
fn two_takers() {
    model(Some(3), || {
        let fd = Fd::new(0b001);
        fn take(fd: &Fd, tid: usize) {
            if let Takeover::Won = fd.slot.takeover(tid, OWNER) {
                fd.report(tid, || fd.change());
            }
        }
        let a = spawn(&fd, |fd| take(fd, 1));
        let b = spawn(&fd, |fd| take(fd, 2));
        fd.report(0, || fd.change());
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(fd.slot.running_mask(), 0);
        assert_eq!(fd.slot.thread_mask().count_ones(), 1);
    });
}

/// The callers' lock, which keeps an idle descriptor from being deleted while
/// somebody tries to take it over. It tells nobody what was deleted before.
struct Idle {
    fd: Fd,
    lock: RwLock<()>,
}

impl Idle {
    fn new(mask: u64) -> Arc<Self> {
        let fd = Fd::armed(mask);
        let lock = RwLock::new(());
        Arc::new(Self { fd, lock })
    }

    fn take(&self, tid: usize) {
        let lock = self.lock.read().unwrap();
        let result = self.fd.slot.takeover(tid, OWNER);
        drop(lock);
        match result {
            Takeover::Won => drop(self.fd.report(tid, || self.fd.change())),
            Takeover::Lost => {}
            Takeover::CloseNow(closing) => self.fd.close(closing),
        }
    }

    fn delete(&self, tid: Option<usize>) -> bool {
        let _lock = self.lock.write().unwrap();
        self.fd.delete(tid)
    }
}

/// Taken over, reported to the old owner, and deleted, at once.
#[test]
fn takeover_and_report_and_delete() {
    model(Some(3), || {
        let idle = Idle::new(0b001);
        let taker = spawn(&idle, |idle| idle.take(1));
        let old = spawn(&idle, |idle| idle.fd.report(0, || idle.fd.change()));
        idle.delete(Some(2));
        taker.join().unwrap();
        old.join().unwrap();
        idle.fd.is_closed(1);
    });
}

/// What was to be taken over is somebody else's by then, who knows nothing
/// of that lock and ends that life too.
/// SHOWS: INV-63
#[test]
fn takeover_and_delete_and_reuse() {
    fn next_life(fd: &Fd) {
        const OTHER: *mut c_void = 32 as *mut c_void;
        assert!(fd.slot.arm(OTHER, None, 0b100));
        fd.report(2, || fd.change());
        assert_eq!(fd.slot.thread_mask(), 0b100);
        fd.delete(Some(2));
    }
    model(Some(4), || {
        let idle = Idle::new(0b001);
        let taker = spawn(&idle, |idle| idle.take(1));
        let fd = &idle.fd;
        // Deleted while the old owner is inside, and closed after the lock.
        let mut deleted = false;
        let mut closed = fd.report(0, || {
            fd.change();
            deleted = true;
            assert!(!idle.delete(Some(3)));
        });
        if !deleted {
            closed = idle.delete(Some(3));
        }
        if closed {
            next_life(fd);
        }
        taker.join().unwrap();
        let lives = fd.closes.load(Relaxed);
        assert_ne!(lives, 0);
        fd.is_closed(lives);
    });
}

#[test]
fn two_takers_and_a_deleter() {
    model(Some(3), || {
        let idle = Idle::new(0b001);
        let a = spawn(&idle, |idle| idle.take(1));
        let b = spawn(&idle, |idle| idle.take(2));
        idle.delete(None);
        a.join().unwrap();
        b.join().unwrap();
        idle.fd.is_closed(1);
    });
}

/// FD-3 as it was found: a taken-over connection closes while the old owner's
/// reports still come, and the number lives again.
#[test]
fn fd_3_takeover_then_delete_then_reuse() {
    model(Some(3), || {
        let fd = Fd::new(0b001);
        let t = spawn(&fd, |fd| {
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                if fd.delete(Some(1)) {
                    fd.arm(0b010);
                    fd.report(1, || fd.change());
                    fd.delete(Some(1));
                }
            }
        });
        fd.report(0, || fd.change());
        fd.report(0, || fd.change());
        t.join().unwrap();
        let closes = fd.closes.load(Relaxed);
        if fd.slot.thread_mask() == 0 {
            assert_ne!(closes, 0);
            fd.is_closed(closes);
        } else {
            assert_eq!((closes, fd.slot.running_mask()), (0, 0));
        }
    });
}

/// FD-5: two entrants on a shared descriptor while a third deletes it; a wait
/// for each other would never end.
/// SHOWS: INV-64
#[test]
fn fd_5_entrants_do_not_wait_for_each_other() {
    model(Some(2), || {
        let fd = Fd::new(0b011);
        let a = spawn(&fd, |fd| fd.report(0, || fd.look()));
        let b = spawn(&fd, |fd| fd.report(1, || fd.look()));
        fd.delete(Some(2));
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// Whatever is added is handed out, whether the numbers share a word or not.
/// SHOWS: FD-11, INV-67
#[test]
fn a_set_loses_no_number() {
    set_of([3, 70]);
    set_of([3, 5]);
}

fn set_of(numbers: [usize; 2]) {
    struct Queue {
        set: ForeignSet,
        _areas: (Vec<AtomicU64>, Vec<AtomicU64>),
        wants: [AtomicU64; 2],
        bits: [AtomicU64; 2],
    }
    model(Some(3), move || {
        let (words, summary) = ForeignSet::lengths(130);
        let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let summary: Vec<_> = (0..summary).map(|_| AtomicU64::new(0)).collect();
        let q = Arc::new(Queue {
            set: unsafe { ForeignSet::new(130, words.as_ptr(), summary.as_ptr()) },
            _areas: (words, summary),
            wants: [AtomicU64::new(0), AtomicU64::new(0)],
            bits: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let threads: Vec<_> = (0..2)
            .map(|i| {
                let q = q.clone();
                thread::spawn(move || {
                    q.wants[i].store(1, Relaxed);
                    if q.bits[i].fetch_or(1, AcqRel) == 0 {
                        q.set.add(numbers[i]);
                    }
                })
            })
            .collect();
        let seen = [std::cell::Cell::new(0), std::cell::Cell::new(0)];
        let turn = || {
            q.set.drain(|number| {
                let i = usize::from(number == numbers[1]);
                assert_eq!(q.bits[i].fetch_and(0, AcqRel), 1);
                seen[i].set(q.wants[i].load(Relaxed));
            })
        };
        turn();
        for t in threads {
            t.join().unwrap();
        }
        turn();
        assert!(q.set.is_empty());
        assert_eq!(seen.map(|s| s.get()), [1, 1]);
    });
}

/// A thread that goes to sleep sees what is in its set, or whoever adds sees
/// it sleep.
/// SHOWS: INV-74
#[test]
fn a_sleeper_is_not_left_with_updates() {
    struct Thread {
        set: ForeignSet,
        _areas: [Vec<AtomicU64>; 2],
        asleep: AtomicUsize,
    }
    model(None, || {
        let (set, areas) = set();
        let asleep = AtomicUsize::new(0);
        let t = Arc::new(Thread {
            set,
            _areas: areas,
            asleep,
        });
        let sleeper = {
            let t = t.clone();
            thread::spawn(move || {
                t.asleep.store(1, Relaxed);
                keel::sync::full_fence();
                !t.set.is_empty()
            })
        };
        t.set.add(NUMBER);
        keel::sync::full_fence();
        let woken = t.asleep.load(Relaxed) == 1;
        let seen = sleeper.join().unwrap();
        assert!(woken || seen);
    });
}

/// FD-7: a report is filed while others change what is wanted.
/// SHOWS: INV-69
#[test]
fn fd_7_changes_of_the_state_are_not_lost() {
    model(None, || {
        let fd = Fd::new(0b11);
        fd.slot.lower(FD_EV_READY_RW);
        let t = spawn(&fd, |fd| {
            assert_eq!(fd.slot.raise(FD_EV_ACTIVE_R), 0);
            fd.slot.lower(FD_EV_ACTIVE_R);
            fd.slot.raise(FD_EV_ACTIVE_W);
            fd.slot.raise_if_idle(FD_EV_READY_W, FD_EV_ACTIVE_W);
        });
        fd.slot.record(FD_EV_READY_R);
        fd.slot.raise_if_idle(FD_EV_READY_W, FD_EV_READY_R);
        t.join().unwrap();
        let state = FD_EV_ACTIVE_W | FD_EV_READY_R | FD_POLL_IN;
        assert_eq!(fd.slot.state(), state);
    });
}

const NUMBER: usize = 3;
const POLLERS: usize = 2;

/// An empty set of few numbers, and what has to outlive it.
fn set() -> (ForeignSet, [Vec<AtomicU64>; 2]) {
    let zeroes = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (words, summary) = ForeignSet::lengths(NUMBER + 1);
    let areas = [zeroes(words), zeroes(summary)];
    let set = unsafe { ForeignSet::new(NUMBER + 1, areas[0].as_ptr(), areas[1].as_ptr()) };
    (set, areas)
}

/// One thread's poller. Unprotected, again, is what only it may touch, or who
/// has its update bit.
struct Poller {
    set: ForeignSet,
    _areas: [Vec<AtomicU64>; 2],
    /// Whether the number is in `set`.
    queued: UnsafeCell<bool>,
    /// What the kernel holds: a life and what is wanted of it.
    polled: UnsafeCell<Option<(Generation, u32)>>,
}

/// A descriptor and those who poll it: table.rs and the pollers without the
/// kernel.
struct Polling {
    fd: Fd,
    pollers: [Poller; POLLERS],
}

impl Polling {
    /// Active for reads on the threads of `mask`, not yet polled.
    fn new(mask: u64) -> Arc<Self> {
        let polling = Self {
            fd: Fd::armed(mask),
            pollers: std::array::from_fn(|_| {
                let (set, areas) = set();
                Poller {
                    set,
                    _areas: areas,
                    queued: UnsafeCell::new(false),
                    polled: UnsafeCell::new(None),
                }
            }),
        };
        polling.want(FD_EV_ACTIVE_R);
        Arc::new(polling)
    }

    fn want(&self, active: u32) {
        if self.fd.slot.raise(active) == 0 {
            self.update(self.fd.slot.thread_mask());
        }
    }

    fn update(&self, targets: u64) {
        let new = self.fd.slot.mark(targets);
        for (tid, poller) in self.pollers.iter().enumerate() {
            if new & (1 << tid) != 0 {
                poller.queue(true);
                poller.set.add(NUMBER);
            }
        }
    }

    fn update_self(&self, tid: usize) {
        if self.fd.slot.update_mask() & (1 << tid) == 0 {
            self.update(1 << tid);
        }
    }

    /// A turn of `tid`'s loop: what changed becomes the kernel's.
    fn turn(&self, tid: usize) {
        self.pollers[tid].set.drain(|number| {
            assert_eq!(number, NUMBER);
            self.pollers[tid].queue(false);
            self.fd.slot.serve(tid, || self.program(tid));
        });
    }

    fn program(&self, tid: usize) {
        let slot = &self.fd.slot;
        match slot.enter(tid) {
            Enter::In(life) => {
                let wanted = slot.state() & FD_EV_ACTIVE_RW;
                self.pollers[tid].poll((wanted != 0).then_some((life, wanted)));
                self.leave(tid);
            }
            Enter::Nested(_) => panic!("nested"),
            Enter::NotMine => self.pollers[tid].poll(None),
            Enter::CloseNow(closing) => self.fd.close(closing),
        }
    }

    /// The kernel reports to `tid`.
    fn report(&self, tid: usize, body: impl FnOnce()) {
        match self.fd.slot.enter(tid) {
            Enter::In(_) => {
                body();
                self.leave(tid);
            }
            Enter::Nested(_) => panic!("nested"),
            Enter::NotMine => self.update_self(tid),
            Enter::CloseNow(closing) => self.fd.close(closing),
        }
    }

    fn leave(&self, tid: usize) {
        match self.fd.slot.leave(tid) {
            Leave::CloseNow(closing) => self.fd.close(closing),
            Leave::Lost => self.update_self(tid),
            Leave::Stay | Leave::Gone => {}
        }
    }

    fn polled(&self, tid: usize) -> Option<(Generation, u32)> {
        self.pollers[tid].polled.with(|p| unsafe { *p })
    }

    /// INV-66 when all is quiet: no bit without an entry, no entry left.
    fn is_quiet(&self) {
        assert_eq!(self.fd.slot.update_mask(), 0);
        for poller in &self.pollers {
            assert!(poller.set.is_empty());
            poller.queued.with(|q| assert!(!unsafe { *q }));
        }
    }
}

impl Poller {
    /// Notes that the number came or went.
    fn queue(&self, comes: bool) {
        self.queued.with_mut(|q| {
            let was = std::mem::replace(unsafe { &mut *q }, comes);
            assert_ne!(was, comes, "in the queue twice, or taken out twice");
        });
    }

    fn poll(&self, what: Option<(Generation, u32)>) {
        self.polled.with_mut(|p| unsafe { *p = what });
    }
}

/// FD-4, FD-15: an update is pending, or about to be looked at, while its
/// number is closed and begins another life: that one's update gets through.
/// SHOWS: INV-66, WINDOW(not-ours)
#[test]
fn fd_4_15_an_old_update_does_not_swallow_a_new_one() {
    model(Some(4), || {
        let p = Polling::new(0b10);
        let poller = spawn(&p, |p| p.turn(1));
        let reused = p.fd.delete(Some(0));
        if reused {
            p.fd.arm(0b10);
            p.want(FD_EV_ACTIVE_R);
        }
        poller.join().unwrap();
        p.turn(1);
        p.is_quiet();
        if reused {
            assert_eq!(p.polled(1), Some((1, FD_EV_ACTIVE_R)));
        } else {
            p.fd.is_closed(1);
        }
    });
}

/// FD-4 as it was found: a thread that is still inside wants something while
/// others delete the descriptor.
/// SHOWS: INV-66, WINDOW(left-behind)
#[test]
fn fd_4_an_update_from_inside_an_orphan() {
    model(Some(4), || {
        let p = Polling::new(0b10);
        p.turn(1);
        let user = spawn(&p, |p| {
            p.report(1, || p.want(FD_EV_ACTIVE_W));
            p.turn(1);
        });
        p.fd.delete(Some(0));
        user.join().unwrap();
        p.fd.is_closed(1);
        p.fd.arm(0b10);
        p.want(FD_EV_ACTIVE_W);
        p.turn(1);
        p.is_quiet();
        assert_eq!(p.polled(1), Some((1, FD_EV_ACTIVE_W)));
    });
}

/// FD-16: every thread learns of every change.
/// SHOWS: INV-66, INV-67
#[test]
fn fd_16_a_shared_descriptor_is_updated_on_every_thread() {
    model(Some(4), || {
        let p = Polling::new(0b11);
        let other = spawn(&p, |p| {
            p.turn(1);
            p.want(FD_EV_ACTIVE_W);
        });
        p.turn(0);
        other.join().unwrap();
        p.turn(0);
        p.turn(1);
        p.is_quiet();
        let both = Some((0, FD_EV_ACTIVE_RW));
        assert_eq!([p.polled(0), p.polled(1)], [both; 2]);
    });
}

/// Three threads: two want, one looks.
/// SHOWS: INV-66, INV-67
#[test]
fn no_wish_is_overlooked() {
    model(Some(3), || {
        let p = Polling::new(0b01);
        let reader = spawn(&p, |p| p.update(0b01));
        let writer = spawn(&p, |p| p.want(FD_EV_ACTIVE_W));
        p.turn(0);
        reader.join().unwrap();
        writer.join().unwrap();
        p.turn(0);
        p.is_quiet();
        assert_eq!(p.polled(0), Some((0, FD_EV_ACTIVE_RW)));
    });
}

/// FD-10, INV-73: whose descriptor was taken over forgets it, at the latest
/// when it is reported again, and the taker polls it.
/// SHOWS: INV-73, WINDOW(not-ours)
#[test]
fn fd_10_update_and_takeover() {
    model(Some(3), || {
        let p = Polling::new(0b01);
        let taker = spawn(&p, |p| {
            if let Takeover::Won = p.fd.slot.takeover(1, OWNER) {
                p.want(FD_EV_ACTIVE_R);
                p.turn(1);
            }
        });
        p.turn(0);
        p.report(0, || {});
        taker.join().unwrap();
        p.turn(1);
        p.turn(0);
        let mut owner = 0;
        if p.fd.slot.thread_mask() == 0b10 {
            owner = 1;
            if p.polled(0).is_some() {
                p.report(0, || panic!("not its own"));
                p.turn(0);
            }
        }
        p.is_quiet();
        assert_eq!(p.polled(owner), Some((0, FD_EV_ACTIVE_R)));
        assert_eq!(p.polled(1 - owner), None);
    });
}
