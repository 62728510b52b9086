//! Descriptors that eight threads use, delete, take over and insert anew, and
//! tell their pollers about. `Fd` and `World` stand for the few lines of the
//! table around `fd/running.rs`, `fd/slot.rs` and `fd/update.rs`, without
//! system calls.
#![cfg(shuttle)]
#![allow(clippy::undocumented_unsafe_blocks)] // the cells check every access

#[path = "common/shuttle.rs"]
mod common;

use common::{THREADS, any, explore, together};
use keel::fd::*;
use keel::sync::UnsafeCell;
use keel::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use shuttle::sync::{Mutex, RwLock};
use std::ffi::c_void;
use std::sync::Arc;

const OWNER: *mut c_void = 16 as *mut c_void;
const ALL: u64 = (1 << THREADS) - 1;

/// A slot, and what its users touch.
struct Fd {
    slot: Slot,
    shared: UnsafeCell<u32>,
    /// Lives that began, and that ended.
    armed: AtomicUsize,
    closes: AtomicUsize,
}

impl Fd {
    fn new() -> Self {
        Self {
            slot: Slot::new(),
            shared: UnsafeCell::new(0),
            armed: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
        }
    }

    /// False where the last life has not ended.
    fn arm(&self, mask: u64) -> bool {
        let new = self.slot.arm(OWNER, None, mask);
        self.armed.fetch_add(usize::from(new), Relaxed);
        new
    }

    /// What FdTable::close does, as far as others can see it.
    fn close(&self, closing: Closing) {
        self.change();
        self.closes.fetch_add(1, Relaxed);
        self.slot.reset(closing);
    }

    fn delete(&self, tid: Option<usize>) {
        match self.slot.orphan(tid) {
            Orphan::CloseNow(closing) => self.close(closing),
            Orphan::Deferred => {}
            Orphan::Twice => panic!("an orphan before its deletion"),
        }
    }

    /// A report of the life `of`, or of any; `body` is the callback.
    fn report(&self, of: Option<Generation>, tid: usize, body: impl FnOnce()) {
        match self.slot.enter(tid) {
            Enter::In(now) => {
                if of.is_none_or(|of| of == now) {
                    assert_eq!(self.closes.load(Relaxed), now as usize, "another life");
                    body();
                }
                match self.slot.leave(tid) {
                    Leave::CloseNow(closing) => self.close(closing),
                    Leave::Stay | Leave::Lost | Leave::Gone => {}
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

    /// A callback on a descriptor that one thread has; and the end.
    fn change(&self) {
        self.shared.with_mut(|p| unsafe { *p += 1 });
    }

    /// Each life that began was closed once.
    fn is_closed(&self) {
        let lives = self.armed.load(Relaxed);
        assert_eq!(self.closes.load(Relaxed), lives);
        assert_eq!(self.slot.generation() as usize, lives);
        assert_eq!(self.slot.running_mask(), 0);
        assert_eq!(self.slot.thread_mask(), 0);
        assert_eq!(self.slot.state(), 0);
        assert!(self.slot.owner().is_null());
    }
}

/// Shared descriptors. Whoever finds the flag set may delete.
struct Shared {
    fds: [Fd; 2],
    ours: [Mutex<bool>; 2],
}

unsafe impl Sync for Shared {}
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            fds: [Fd::new(), Fd::new()],
            ours: [Mutex::new(false), Mutex::new(false)],
        })
    }

    fn insert(&self, n: usize) {
        let mut ours = self.ours[n].lock().unwrap();
        *ours = *ours || self.fds[n].arm(ALL);
    }

    fn delete(&self, n: usize, tid: Option<usize>) {
        // Its lock is free again before that.
        let ours = std::mem::take(&mut *self.ours[n].lock().unwrap());
        if ours {
            self.fds[n].delete(tid);
        }
    }

    fn live(&self, me: usize) {
        let mut late = None;
        for _ in 0..6 {
            let n = any(2);
            let fd = &self.fds[n];
            match any(10) {
                0..=2 => self.insert(n),
                3 => self.delete(n, Some(me)),
                4 => self.delete(n, None),
                5 => fd.report(None, me, || {
                    fd.look();
                    self.delete(n, Some(me));
                }),
                6 => late = Some((n, fd.slot.generation())),
                7 if late.is_some() => {
                    let (n, life) = late.unwrap();
                    let fd = &self.fds[n];
                    fd.report(Some(life), me, || fd.look());
                }
                _ => fd.report(None, me, || fd.look()),
            }
        }
    }
}

/// SHOWS: INV-60, INV-61, INV-62, INV-65, INV-84, INV-85
#[test]
fn each_life_is_closed_once_and_under_nobodys_hands() {
    explore(|| {
        let w = Shared::new();
        (0..2).for_each(|n| w.insert(n));
        together(&w, Shared::live);
        for n in 0..2 {
            w.delete(n, None);
            w.fds[n].is_closed();
        }
    });
}

/// A descriptor that one thread has at a time, with the callers' lock that
/// keeps it from being deleted while somebody tries to take it over. What is
/// below the lock: whether anybody may delete it.
struct Idle {
    fd: Fd,
    lock: RwLock<bool>,
}

unsafe impl Sync for Idle {}
unsafe impl Send for Idle {}

impl Idle {
    fn take(&self, me: usize) {
        let lock = self.lock.read().unwrap();
        let taken = self.fd.slot.takeover(me, OWNER);
        drop(lock);
        match taken {
            Takeover::Won => self.fd.report(None, me, || self.fd.change()),
            Takeover::Lost => {}
            Takeover::CloseNow(closing) => self.fd.close(closing),
        }
    }

    fn delete(&self, tid: Option<usize>) {
        let mut ours = self.lock.write().unwrap();
        if std::mem::take(&mut *ours) {
            self.fd.delete(tid);
        }
    }

    fn insert(&self, me: usize) {
        let mut ours = self.lock.write().unwrap();
        *ours = *ours || self.fd.arm(1 << me);
    }

    fn live(&self, me: usize) {
        for _ in 0..6 {
            match any(8) {
                0 | 1 => self.insert(me),
                2 => self.delete(Some(me)),
                3 if any(2) == 0 => self.delete(None),
                4 | 5 => self.take(me),
                _ => self.fd.report(None, me, || self.fd.change()),
            }
        }
    }
}

/// SHOWS: INV-60, INV-62, INV-63, INV-64, FD-3
#[test]
fn a_descriptor_that_is_taken_over_has_one_user() {
    explore(|| {
        let w = Arc::new(Idle {
            fd: Fd::new(),
            lock: RwLock::new(false),
        });
        w.insert(0);
        together(&w, Idle::live);
        w.delete(None);
        w.fd.is_closed();
    });
}

const NUMBER: usize = 3;

/// One thread's poller.
struct Poller {
    set: ForeignSet,
    _areas: [Vec<AtomicU64>; 2],
    /// Whether the number is in `set`: whose update bit it is says so.
    queued: UnsafeCell<bool>,
    /// What the kernel holds: a life and what is wanted of it.
    polled: UnsafeCell<Option<(Generation, u32)>>,
}

impl Poller {
    fn new() -> Self {
        let zeroes = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (words, summary) = ForeignSet::lengths(NUMBER + 1);
        let areas = [zeroes(words), zeroes(summary)];
        Self {
            set: unsafe { ForeignSet::new(NUMBER + 1, areas[0].as_ptr(), areas[1].as_ptr()) },
            _areas: areas,
            queued: UnsafeCell::new(false),
            polled: UnsafeCell::new(None),
        }
    }

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

/// A descriptor and those who poll it.
struct Polling {
    fd: Fd,
    /// Read by whoever wants something of it, so that it lives meanwhile.
    ours: RwLock<bool>,
    pollers: [Poller; THREADS],
}

unsafe impl Sync for Polling {}
unsafe impl Send for Polling {}

impl Polling {
    fn want(&self, active: u32) {
        if self.fd.slot.raise(active) & active != active {
            self.update(self.fd.slot.thread_mask());
        }
    }

    fn cant(&self, active: u32) {
        if self.fd.slot.state() & active != 0 {
            self.fd.slot.lower(active);
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

    /// A turn of `me`'s loop: what changed becomes the kernel's.
    fn turn(&self, me: usize) {
        let poller = &self.pollers[me];
        poller.set.drain(|number| {
            assert_eq!(number, NUMBER);
            poller.queue(false);
            self.fd.slot.serve(me, || self.program(me));
        });
    }

    fn program(&self, me: usize) {
        let slot = &self.fd.slot;
        match slot.enter(me) {
            Enter::In(life) => {
                let wanted = slot.state() & FD_EV_ACTIVE_RW;
                self.pollers[me].poll((wanted != 0).then_some((life, wanted)));
                if let Leave::CloseNow(closing) = slot.leave(me) {
                    self.fd.close(closing);
                }
            }
            Enter::Nested(_) => panic!("nested"),
            Enter::NotMine => self.pollers[me].poll(None),
            Enter::CloseNow(closing) => self.fd.close(closing),
        }
    }

    fn insert(&self) {
        let mut ours = self.ours.write().unwrap();
        *ours = *ours || self.fd.arm(ALL);
    }

    fn delete(&self, tid: Option<usize>) {
        let ours = std::mem::take(&mut *self.ours.write().unwrap());
        if ours {
            self.fd.delete(tid);
        }
    }

    fn live(&self, me: usize) {
        let directions = [FD_EV_ACTIVE_R, FD_EV_ACTIVE_W];
        for _ in 0..5 {
            let active = directions[any(2)];
            match any(10) {
                0..=3 => {
                    let ours = self.ours.read().unwrap();
                    match any(3) {
                        _ if !*ours => {}
                        0 => self.cant(active),
                        _ => self.want(active),
                    }
                }
                // From inside, while others may delete it.
                4 => self.fd.report(None, me, || self.want(active)),
                5 if any(2) == 0 => self.delete(Some(me)),
                6 => self.insert(),
                _ => self.turn(me),
            }
        }
    }

    /// All is quiet: every poller knows what is wanted of this life.
    fn check(&self) {
        for me in 0..THREADS {
            self.turn(me);
        }
        assert_eq!(self.fd.slot.update_mask(), 0);
        let wanted = self.fd.slot.state() & FD_EV_ACTIVE_RW;
        let life = self.fd.slot.generation();
        for poller in &self.pollers {
            assert!(poller.set.is_empty());
            poller.queued.with(|q| assert!(!unsafe { *q }));
            let polled = poller.polled.with(|p| unsafe { *p });
            let polled = polled.filter(|&(of, _)| of == life);
            if *self.ours.read().unwrap() {
                assert_eq!(polled, (wanted != 0).then_some((life, wanted)));
            } else {
                assert_eq!(polled, None);
            }
        }
    }
}

/// SHOWS: INV-60, INV-66, INV-67, INV-69, FD-4, FD-15, FD-16
#[test]
fn every_poller_learns_of_every_wish() {
    explore(|| {
        let w = Arc::new(Polling {
            fd: Fd::new(),
            ours: RwLock::new(false),
            pollers: std::array::from_fn(|_| Poller::new()),
        });
        w.insert();
        together(&w, Polling::live);
        w.check();
        w.delete(None);
        (0..THREADS).for_each(|me| w.turn(me));
        w.fd.is_closed();
    });
}
