//! Models of the inbox, of sleeping and waking, and of isolation.
#![cfg(loom)]

use keel::runtime::isolation::Isolation;
use keel::runtime::sleep::{Sleeper, Wake};
use keel::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use keel::sync::{Inbox, Link, ThreadSet, UnsafeCell, model_point};
use keel::task::lookout::Lookout;
use keel::task::presence::Presence;
use loom::sync::Arc;
use loom::thread;

fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = preemptions;
    b.max_branches = 20_000;
    b.check(model);
}

#[repr(C)]
struct Item {
    link: Link,
    /// What the producer wrote; loom checks that the consumer sees it.
    body: UnsafeCell<usize>,
}

impl Item {
    fn boxed() -> *mut Self {
        Box::into_raw(Box::new(Self {
            link: Link::new(),
            body: UnsafeCell::new(0),
        }))
    }

    fn send(item: usize, to: &Inbox, value: usize) {
        let item = item as *mut Self;
        // SAFETY: the item is the producer's until it is pushed.
        unsafe {
            (*item).body.with_mut(|b| *b = value);
            to.push(item.cast());
        }
    }
}

/// Takes what is there: the values, in order.
fn collect(inbox: &Inbox, seen: &mut Vec<usize>) {
    // SAFETY: the caller is the only consumer; taken items are its own.
    unsafe {
        let mut link = inbox.take();
        while !link.is_null() {
            let item: *mut Item = link.cast();
            link = (*link).next();
            seen.push((*item).body.with(|b| *b));
        }
    }
}

fn free(items: [usize; 3]) {
    for item in items {
        // SAFETY: nobody uses the items any more.
        drop(unsafe { Box::from_raw(item as *mut Item) });
    }
}

/// Two producers, one consumer: every item comes once, with its contents, in
/// each producer's order.
#[test]
fn inbox_loses_and_reorders_nothing() {
    explore(Some(3), || {
        let inbox = Arc::new(Inbox::new());
        let items = [(); 3].map(|()| Item::boxed() as usize);
        let [a, b, c] = items;
        let (one, two) = (inbox.clone(), inbox.clone());
        let p = thread::spawn(move || {
            Item::send(a, &one, 1);
            Item::send(b, &one, 2);
        });
        let q = thread::spawn(move || Item::send(c, &two, 3));
        let mut seen = Vec::new();
        while seen.len() < 3 {
            collect(&inbox, &mut seen);
            thread::yield_now();
        }
        let place = |v| seen.iter().position(|&s| s == v).unwrap();
        assert!(place(1) < place(2));
        p.join().unwrap();
        q.join().unwrap();
        free(items);
    });
}

/// A thread leaves while another sends it work: one of them finds the item.
#[test]
fn nothing_is_left_behind() {
    explore(None, || {
        struct World {
            presence: Presence,
            inbox: Inbox,
        }
        let w = Arc::new(World {
            presence: Presence::new(),
            inbox: Inbox::new(),
        });
        w.presence.enter(0);
        w.presence.enter(1);
        let item = Item::boxed() as usize;
        let other = w.clone();
        let leaver = thread::spawn(move || {
            other.presence.leave(1);
            let mut seen = Vec::new();
            collect(&other.inbox, &mut seen);
            seen.len()
        });
        Item::send(item, &w.inbox, 1);
        let mut seen = Vec::new();
        if w.presence.others_if_left(1).is_some() {
            collect(&w.inbox, &mut seen);
        }
        assert_eq!(leaver.join().unwrap() + seen.len(), 1, "left behind");
        // SAFETY: nobody uses the item any more.
        drop(unsafe { Box::from_raw(item as *mut Item) });
    });
}

/// Whoever sleeps is woken for work that it has not seen. The eventfd
/// is a flag here, the poll a look at it.
// SHOWS: INV-46, INV-47, TASK-48
#[test]
fn no_wakeup_is_lost() {
    explore(None, || {
        struct World {
            sleeper: Sleeper,
            work: AtomicBool,
            eventfd: AtomicUsize,
        }
        let w = Arc::new(World {
            sleeper: Sleeper::new(),
            work: AtomicBool::new(false),
            eventfd: AtomicUsize::new(0),
        });
        let other = w.clone();
        let waker = thread::spawn(move || {
            other.work.store(true, Ordering::Relaxed);
            if other.sleeper.wake_if_asleep() == Wake::Signal {
                other.eventfd.fetch_add(1, Ordering::Relaxed);
            }
        });
        let slept = w.sleeper.announce() && !w.work.load(Ordering::Relaxed);
        waker.join().unwrap();
        if slept {
            // It sleeps with work to do: only the eventfd can wake it.
            assert_eq!(w.eventfd.load(Ordering::Relaxed), 1, "a wake-up is lost");
        }
        w.sleeper.awake();
    });
}

/// Two wakers signal a sleeper once (exactly one of them pays for the system
/// call), and a notification before the sleep prevents it.
/// SHOWS: FD-44, INV-86
#[test]
fn two_wakers_signal_once() {
    explore(None, || {
        let s = Arc::new(Sleeper::new());
        let signals = Arc::new(AtomicUsize::new(0));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (s, signals) = (s.clone(), signals.clone());
                thread::spawn(move || {
                    if s.notify() == Wake::Signal {
                        signals.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let announced = s.announce();
        for w in wakers {
            w.join().unwrap();
        }
        let n = signals.load(Ordering::Relaxed);
        assert_eq!(n, usize::from(announced));
    });
}

/// Whoever is notified sees why: before it sleeps, instead of it, or when it was
/// woken. Who wakes it sees what that is done with.
/// SHOWS: INV-46, INV-47
#[test]
fn a_notified_thread_sees_why() {
    explore(None, || {
        struct World {
            sleeper: Sleeper,
            why: UnsafeCell<u32>,
            eventfd: UnsafeCell<u32>,
            /// Orders nothing.
            signalled: AtomicBool,
        }
        let w = Arc::new(World {
            sleeper: Sleeper::new(),
            why: UnsafeCell::new(0),
            eventfd: UnsafeCell::new(0),
            signalled: AtomicBool::new(false),
        });
        let other = w.clone();
        let waker = thread::spawn(move || {
            // SAFETY: the sleeper does not look before it is notified.
            other.why.with_mut(|why| unsafe { *why = 1 });
            if other.sleeper.notify() == Wake::Signal {
                // SAFETY: opened before the announcement; loom checks.
                assert_eq!(other.eventfd.with(|fd| unsafe { *fd }), 7);
                other.signalled.store(true, Ordering::Relaxed);
            }
        });
        model_point();
        // SAFETY: nobody looks before the announcement; loom checks.
        w.eventfd.with_mut(|fd| unsafe { *fd = 7 });
        if w.sleeper.announce() {
            while !w.signalled.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        }
        w.sleeper.awake();
        // SAFETY: as above; loom checks.
        assert_eq!(w.why.with(|why| unsafe { *why }), 1);
        waker.join().unwrap();
    });
}

/// Isolation: whoever is isolated is alone, and sees what the others did.
#[test]
fn the_isolated_thread_is_alone() {
    explore(Some(3), || {
        struct World {
            iso: Isolation,
            /// Shared data without any other protection; loom checks.
            data: UnsafeCell<usize>,
        }
        let w = Arc::new(World {
            iso: Isolation::new(),
            data: UnsafeCell::new(0),
        });
        let threads: Vec<_> = (0..2)
            .map(|tid| {
                let w = w.clone();
                thread::spawn(move || {
                    w.iso.busy_again(tid);
                    w.iso.isolate(Some(tid));
                    // SAFETY: alone; loom fails the model if not.
                    w.data.with_mut(|d| unsafe { *d += 1 });
                    w.iso.release(Some(tid));
                    w.iso.harmless(tid);
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
        // SAFETY: both have ended.
        w.data.with(|d| assert_eq!(unsafe { *d }, 2));
    });
}

/// A busy thread is waited for.
#[test]
fn isolation_waits_for_the_busy() {
    explore(Some(3), || {
        struct World {
            iso: Isolation,
            data: UnsafeCell<usize>,
        }
        let w = Arc::new(World {
            iso: Isolation::new(),
            data: UnsafeCell::new(0),
        });
        w.iso.busy_again(0);
        let other = w.clone();
        let t = thread::spawn(move || {
            other.iso.busy_again(1);
            other.iso.isolate(Some(1));
            // SAFETY: alone; loom fails the model if not.
            other.data.with_mut(|d| unsafe { *d += 1 });
            other.iso.release(Some(1));
            other.iso.harmless(1);
        });
        // SAFETY: busy, so nobody is isolated; loom checks.
        w.data.with_mut(|d| unsafe { *d += 1 });
        w.iso.harmless(0);
        t.join().unwrap();
        // SAFETY: the other has ended.
        w.data.with(|d| assert_eq!(unsafe { *d }, 2));
    });
}

/// Isolation against a thread that goes back to work: one waits for the other.
#[test]
fn isolation_against_a_return_to_work() {
    explore(Some(3), || {
        struct World {
            iso: Isolation,
            data: UnsafeCell<usize>,
        }
        let w = Arc::new(World {
            iso: Isolation::new(),
            data: UnsafeCell::new(0),
        });
        let other = w.clone();
        let t = thread::spawn(move || {
            other.iso.isolate(Some(1));
            // SAFETY: alone; loom fails the model if not.
            other.data.with_mut(|d| unsafe { *d += 1 });
            other.iso.release(Some(1));
            other.iso.harmless(1);
        });
        w.iso.busy_again(0);
        // SAFETY: busy, so nobody is isolated; loom checks.
        w.data.with_mut(|d| unsafe { *d += 1 });
        w.iso.harmless(0);
        t.join().unwrap();
        // SAFETY: the other has ended.
        w.data.with(|d| assert_eq!(unsafe { *d }, 2));
    });
}

/// Three threads with shared timers and one lookout: a filer, a thread that
/// wakes up for something long, and one that sleeps.
struct Watch {
    lookout: Lookout,
    sleeper: [Sleeper; 3],
    /// The earliest date that is filed; `NEVER`: none.
    next: AtomicUsize,
    /// What makes a sleeping thread look again.
    eventfd: [AtomicUsize; 3],
    /// Until when each sleeps, for good; 0: it does not.
    sleeps: [AtomicUsize; 3],
}

const NEVER: usize = 1000;

impl Watch {
    fn new(next: usize) -> Arc<Self> {
        Arc::new(Self {
            lookout: Lookout::new(),
            sleeper: [(); 3].map(|()| Sleeper::new()),
            next: AtomicUsize::new(next),
            eventfd: [(); 3].map(|()| AtomicUsize::new(0)),
            sleeps: [(); 3].map(|()| AtomicUsize::new(0)),
        })
    }

    fn wake(&self, set: ThreadSet) {
        set.for_each(|k| {
            if self.sleeper[k].wake_if_asleep() == Wake::Signal {
                self.eventfd[k].fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn file(&self, date: usize) {
        self.next.store(date, Ordering::Relaxed);
        self.wake(self.lookout.reckon(date as u64));
    }

    fn goes_long(&self, me: usize) {
        if self.lookout.give_up(me) && self.next.load(Ordering::Relaxed) != NEVER {
            self.wake(self.lookout.appoint());
        }
    }

    /// As far as the poll: until when it sleeps there.
    fn goes_to_sleep(&self, me: usize) {
        let mut until = NEVER + 1;
        if !self.sleeper[me].announce() {
            self.sleeper[me].awake();
            until = 0;
        } else if self.lookout.sleeps(me) {
            self.lookout
                .until(me, self.next.load(Ordering::Relaxed) as u64);
            until = self.next.load(Ordering::Relaxed);
        }
        self.sleeps[me].store(until, Ordering::Relaxed);
    }

    fn wakes_up(&self, me: usize) {
        self.sleeps[me].store(0, Ordering::Relaxed);
        self.sleeper[me].awake();
        self.lookout.awake(me);
    }

    /// When nobody moves any more, a date is reckoned with by somebody who
    /// sleeps, or who was told to look again; or nobody sleeps.
    fn check(&self) {
        let date = self.next.load(Ordering::Relaxed);
        let mut asleep = 0;
        let mut covered = date == NEVER;
        for k in 0..3 {
            let until = self.sleeps[k].load(Ordering::Relaxed);
            asleep += usize::from(until != 0);
            covered |=
                until != 0 && (until <= date || self.eventfd[k].load(Ordering::Relaxed) != 0);
        }
        assert!(
            covered || asleep == 0,
            "a date that no sleeper reckons with"
        );
    }
}

/// A date is filed while one thread goes to sleep, and another, the lookout,
/// has something long to do.
#[test]
fn a_date_is_reckoned_with_while_the_lookout_changes() {
    explore(Some(3), || {
        let w = Watch::new(NEVER);
        w.goes_to_sleep(0);
        let (u, v) = (w.clone(), w.clone());
        let long = thread::spawn(move || {
            u.wakes_up(0);
            u.goes_long(0);
        });
        let sleepy = thread::spawn(move || v.goes_to_sleep(1));
        w.file(5);
        long.join().unwrap();
        sleepy.join().unwrap();
        w.check();
    });
}

/// The lookout has something long to do, and so has, at the same moment, the
/// one that it appoints; a third thread is the next.
#[test]
fn the_office_finds_a_sleeper() {
    explore(Some(3), || {
        let w = Watch::new(5);
        w.goes_to_sleep(0);
        let (u, v) = (w.clone(), w.clone());
        w.goes_to_sleep(1);
        let long = thread::spawn(move || {
            u.wakes_up(0);
            u.goes_long(0);
            u.goes_to_sleep(0);
        });
        let too = thread::spawn(move || {
            v.wakes_up(1);
            v.goes_long(1);
        });
        long.join().unwrap();
        too.join().unwrap();
        w.check();
    });
}

/// The one that is appointed was about to wake up, and has it taken back,
/// while a third thread goes to sleep.
#[test]
fn the_office_is_offered_until_somebody_has_it() {
    explore(Some(3), || {
        let w = Watch::new(5);
        w.goes_to_sleep(0);
        w.goes_to_sleep(1);
        let (u, v) = (w.clone(), w.clone());
        let long = thread::spawn(move || {
            u.wakes_up(0);
            u.goes_long(0);
        });
        let too = thread::spawn(move || {
            v.wakes_up(1);
            v.goes_long(1);
        });
        w.goes_to_sleep(2);
        long.join().unwrap();
        too.join().unwrap();
        w.check();
    });
}

/// An earlier date comes while the lookout goes to sleep.
#[test]
fn an_earlier_date_reaches_the_lookout() {
    explore(None, || {
        let w = Watch::new(9);
        let u = w.clone();
        let lookout = thread::spawn(move || u.goes_to_sleep(0));
        w.file(5);
        lookout.join().unwrap();
        w.check();
    });
}
