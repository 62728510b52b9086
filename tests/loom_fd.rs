//! Models of who may use a descriptor and who closes it. Each explores the
//! code that ships (`fd/running.rs`, `fd/update.rs`).
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_fd`
#![cfg(loom)]
#![allow(clippy::undocumented_unsafe_blocks)] // loom checks every access

use keel::fd::{Closing, Enter, ForeignSet, Leave, Orphan, Slot, Takeover};
use keel::sync::UnsafeCell;
use keel::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use loom::sync::Arc;
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
    fn new(mask: u64) -> Arc<Self> {
        let fd = Self {
            slot: Slot::new(),
            shared: UnsafeCell::new(0),
            closes: AtomicUsize::new(0),
        };
        assert!(fd.slot.arm(OWNER, None, mask));
        Arc::new(fd)
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

    /// A report; `body` is the callback.
    fn report(&self, tid: usize, body: impl FnOnce()) {
        match self.slot.enter(tid) {
            Enter::In(_) => {
                body();
                if let Leave::CloseNow(closing) = self.slot.leave(tid) {
                    self.close(closing);
                }
            }
            Enter::Nested(_) => panic!("nested"),
            Enter::NotMine => {}
            Enter::CloseNow(closing) => self.close(closing),
        }
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

fn spawn(fd: &Arc<Fd>, f: impl FnOnce(&Fd) + 'static) -> thread::JoinHandle<()> {
    let fd = fd.clone();
    thread::spawn(move || f(&fd))
}

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

/// FD-3 (b): two users leave an orphan at once.
#[test]
fn fd_3_two_leavers_close_once() {
    model(Some(3), || {
        let fd = Fd::new(0b111);
        let a = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let b = spawn(&fd, |fd| fd.report(2, || fd.look()));
        fd.delete(Some(0));
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

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
#[test]
fn reuse_under_a_late_report() {
    model(Some(5), || {
        let fd = Fd::new(0b11);
        let t = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let mut lives = 1;
        if fd.delete(Some(0)) {
            assert!(fd.slot.arm(OWNER, None, 0b11));
            fd.delete(Some(0));
            lives = 2;
        }
        t.join().unwrap();
        fd.is_closed(lives);
    });
}

/// As above with a user of the second life: a latecomer of the first must
/// not close it under the user's hands.
#[test]
fn reuse_under_a_late_report_with_a_user() {
    model(Some(2), || {
        let fd = Fd::new(0b110);
        let late = spawn(&fd, |fd| fd.report(1, || fd.look()));
        let user = spawn(&fd, |fd| fd.report(2, || fd.look()));
        let mut lives = 1;
        if fd.delete(Some(0)) {
            assert!(fd.slot.arm(OWNER, None, 0b110));
            fd.delete(None);
            lives = 2;
        }
        late.join().unwrap();
        user.join().unwrap();
        fd.is_closed(lives);
    });
}

/// Code in the seed's manner: running bits by hand, and whoever sees "I was
/// the last, it is nobody's" calls for the end.
#[test]
fn masks_by_hand() {
    fn by_hand(fd: &Fd, tid: usize) {
        match fd.slot.enter(tid) {
            Enter::In(_) => fd.look(),
            Enter::CloseNow(closing) => return fd.close(closing),
            _ => return,
        }
        if fd.slot.clear_running(tid) == 0 && fd.slot.thread_mask() == 0 {
            if let Some(closing) = fd.slot.claim() {
                fd.close(closing);
            }
        }
    }
    model(Some(3), || {
        let fd = Fd::new(0b110);
        let a = spawn(&fd, |fd| by_hand(fd, 1));
        let b = spawn(&fd, |fd| by_hand(fd, 2));
        fd.delete(None);
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// FD-3 (a): the new owner and the old one are never both inside.
#[test]
fn fd_3_takeover_excludes_the_old_owner() {
    model(None, || {
        let fd = Fd::new(0b01);
        let t = spawn(&fd, |fd| {
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                fd.change();
                fd.report(1, || fd.change());
            }
        });
        fd.report(0, || fd.change());
        t.join().unwrap();
        assert_eq!(fd.slot.running_mask(), 0);
        assert_eq!(fd.slot.state(), keel::fd::FD_EV_READY_RW);
    });
}

/// Of a shared descriptor too, whose taker is in the mask already.
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

/// FD-3 as it was found: a taken-over connection closes while the old owner's
/// reports still come, and the number lives again.
#[test]
fn fd_3_takeover_then_delete_then_reuse() {
    model(Some(3), || {
        let fd = Fd::new(0b001);
        let t = spawn(&fd, |fd| {
            if let Takeover::Won = fd.slot.takeover(1, OWNER) {
                if fd.delete(Some(1)) {
                    assert!(fd.slot.arm(OWNER, None, 0b010));
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
#[test]
fn fd_5_entrants_do_not_wait_for_each_other() {
    model(Some(3), || {
        let fd = Fd::new(0b011);
        let a = spawn(&fd, |fd| fd.report(0, || fd.look()));
        let b = spawn(&fd, |fd| fd.report(1, || fd.look()));
        fd.delete(Some(2));
        a.join().unwrap();
        b.join().unwrap();
        fd.is_closed(1);
    });
}

/// FD-4, INV-66: whatever changes is looked at, and a number is queued at
/// most once.
#[test]
fn fd_4_no_update_is_lost() {
    const NUMBERS: [usize; 2] = [3, 70];
    struct Queue {
        set: ForeignSet,
        _areas: (Vec<AtomicU64>, Vec<AtomicU64>),
        wants: [AtomicU64; 2],
        bits: [AtomicU64; 2],
    }
    model(Some(3), || {
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
                        q.set.add(NUMBERS[i]);
                    }
                })
            })
            .collect();
        let seen = [std::cell::Cell::new(0), std::cell::Cell::new(0)];
        let turn = || {
            q.set.drain(|number| {
                let i = usize::from(number == NUMBERS[1]);
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
