//! Eight event loops that send each other work, sleep, wake each other and are
//! alone at times; and eight that keep the lookout by turns. A thread that
//! sleeps with work to do sleeps for ever here, and shuttle says so.
#![cfg(shuttle)]

#[path = "common/shuttle.rs"]
mod common;

use common::{THREADS, any, explore, together};
use keel::runtime::isolation::Isolation;
use keel::runtime::sleep::{Sleeper, Wake};
use keel::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use keel::sync::{Inbox, Link, ThreadSet, UnsafeCell};
use keel::task::lookout::Lookout;
use shuttle::sync::{Condvar, Mutex};
use std::sync::Arc;

#[repr(C)]
struct Item {
    link: Link,
    /// Whose, and which of his.
    from: UnsafeCell<(usize, usize)>,
}

struct Loop {
    inbox: Inbox,
    sleeper: Sleeper,
    eventfd: (Mutex<usize>, Condvar),
}

impl Loop {
    fn new() -> Self {
        Self {
            inbox: Inbox::new(),
            sleeper: Sleeper::new(),
            eventfd: (Mutex::new(0), Condvar::new()),
        }
    }

    fn pay(&self, owed: Wake) {
        if owed == Wake::Signal {
            *self.eventfd.0.lock().unwrap() += 1;
            self.eventfd.1.notify_all();
        }
    }

    fn poll(&self) {
        let (count, told) = &self.eventfd;
        let mut count = count.lock().unwrap();
        while *count == 0 {
            count = told.wait(count).unwrap();
        }
        *count = 0;
    }
}

struct World {
    loops: [Loop; THREADS],
    isolation: Isolation,
    /// Who is alone writes it, who is busy reads it.
    settings: UnsafeCell<usize>,
    items: Vec<Item>,
    arrived: AtomicUsize,
}

// SAFETY: each field is whose its comment says; the cells check it.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

/// How many items each thread sends.
const EACH: usize = 3;

impl World {
    fn new() -> Arc<Self> {
        let item = |_| Item {
            link: Link::new(),
            from: UnsafeCell::new((0, 0)),
        };
        Arc::new(Self {
            loops: [(); THREADS].map(|()| Loop::new()),
            isolation: Isolation::new(),
            settings: UnsafeCell::new(0),
            items: (0..THREADS * EACH).map(item).collect(),
            arrived: AtomicUsize::new(0),
        })
    }

    fn send(&self, me: usize, nth: usize) {
        let item = &self.items[me * EACH + nth];
        // All of a thread's go to one other, so that their order shows.
        let to = &self.loops[(me * 5 + 3) % THREADS];
        // SAFETY: the item is this thread's until it is pushed.
        unsafe {
            item.from.with_mut(|f| *f = (me, nth));
            to.inbox.push((&raw const *item).cast_mut().cast());
        }
        to.pay(to.sleeper.wake_if_asleep());
    }

    fn fetch(&self, me: usize, seen: &mut [usize; THREADS]) {
        let mut n = 0;
        // SAFETY: this thread alone takes; what it took is its own.
        unsafe {
            let mut link = self.loops[me].inbox.take();
            while !link.is_null() {
                let item: *mut Item = link.cast();
                link = (*link).next();
                let (from, nth) = (*item).from.with(|f| *f);
                assert_eq!(nth, seen[from], "lost, doubled or out of order");
                seen[from] += 1;
                n += 1;
            }
        }
        if n != 0 && self.arrived.fetch_add(n, Relaxed) + n == THREADS * EACH {
            self.loops.iter().for_each(|l| l.pay(l.sleeper.notify()));
        }
    }

    fn all_arrived(&self) -> bool {
        self.arrived.load(Relaxed) == THREADS * EACH
    }

    fn run(&self, me: usize) {
        let own = &self.loops[me];
        let mut seen = [0; THREADS];
        let mut sent = 0;
        self.isolation.busy_again(me);
        loop {
            self.fetch(me, &mut seen);
            // SAFETY: busy, so nobody is alone; the cell checks.
            self.settings.with(|s| std::hint::black_box(unsafe { *s }));
            if sent < EACH && any(2) == 0 {
                self.send(me, sent);
                sent += 1;
            }
            if any(6) == 0 {
                self.isolation.isolate(Some(me));
                // SAFETY: alone; the cell checks.
                self.settings.with_mut(|s| unsafe { *s += 1 });
                self.isolation.release(Some(me));
            }
            if self.all_arrived() && sent == EACH {
                break;
            }
            if sent < EACH && any(2) == 0 {
                continue;
            }
            self.isolation.harmless(me);
            let idle = own.sleeper.announce() && own.inbox.is_empty();
            if idle && sent == EACH && !self.all_arrived() {
                own.poll();
            }
            own.sleeper.awake();
            self.isolation.busy_again(me);
        }
        self.isolation.harmless(me);
    }
}

/// SHOWS: INV-46, INV-47
#[test]
fn loops_sleep_through_nothing_and_are_alone_when_isolated() {
    explore(|| {
        let world = World::new();
        together(&world, World::run);
        assert!(world.loops.iter().all(|l| l.inbox.is_empty()));
    });
}

/// Threads with shared timers, one of which is awake by the earliest date.
struct Watch {
    lookout: Lookout,
    sleeper: [Sleeper; THREADS],
    /// The earliest date that is filed; `NEVER`: none.
    next: AtomicUsize,
    filing: Mutex<()>,
    /// What makes a sleeping thread look again.
    eventfd: [AtomicUsize; THREADS],
    /// Until when each sleeps; 0: it does not.
    sleeps: [AtomicUsize; THREADS],
}

const NEVER: usize = 1000;

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lookout: Lookout::new(),
            sleeper: [(); THREADS].map(|()| Sleeper::new()),
            next: AtomicUsize::new(NEVER),
            filing: Mutex::new(()),
            eventfd: [(); THREADS].map(|()| AtomicUsize::new(0)),
            sleeps: [(); THREADS].map(|()| AtomicUsize::new(0)),
        })
    }

    fn wake(&self, set: ThreadSet) {
        set.for_each(|k| {
            if self.sleeper[k].wake_if_asleep() == Wake::Signal {
                self.eventfd[k].fetch_add(1, Relaxed);
            }
        });
    }

    fn file(&self, date: usize) {
        let filing = self.filing.lock().unwrap();
        let earlier = date < self.next.load(Relaxed);
        if earlier {
            self.next.store(date, Relaxed);
        }
        drop(filing);
        if earlier {
            self.wake(self.lookout.reckon(date as u64));
        }
    }

    fn goes_long(&self, me: usize) {
        if self.lookout.give_up(me) && self.next.load(Relaxed) != NEVER {
            self.wake(self.lookout.appoint());
        }
    }

    fn goes_to_sleep(&self, me: usize) {
        let mut until = NEVER + 1;
        if !self.sleeper[me].announce() {
            self.sleeper[me].awake();
            until = 0;
        } else if self.lookout.sleeps(me) {
            self.lookout.until(me, self.next.load(Relaxed) as u64);
            until = self.next.load(Relaxed);
        }
        self.sleeps[me].store(until, Relaxed);
    }

    fn wakes_up(&self, me: usize) {
        self.sleeps[me].store(0, Relaxed);
        self.eventfd[me].store(0, Relaxed);
        self.sleeper[me].awake();
        self.lookout.awake(me);
    }

    fn live(&self, me: usize) {
        for _ in 0..1 + any(4) {
            if any(3) == 0 {
                self.file(1 + any(20));
            }
            if any(3) == 0 {
                self.goes_long(me);
                continue;
            }
            self.goes_to_sleep(me);
            if any(4) == 0 && self.sleeps[me].load(Relaxed) != 0 {
                return;
            }
            self.wakes_up(me);
        }
        // It has something to do that takes for ever.
        self.goes_long(me);
    }

    /// When nobody moves any more, somebody who sleeps reckons with the date,
    /// or was told to look again; or nobody sleeps.
    fn check(&self) {
        let date = self.next.load(Relaxed);
        let until = |k: usize| self.sleeps[k].load(Relaxed);
        let told = |k: usize| self.eventfd[k].load(Relaxed) != 0;
        let mut asleep = (0..THREADS).filter(|&k| until(k) != 0).peekable();
        assert!(
            date == NEVER || asleep.peek().is_none() || asleep.any(|k| until(k) <= date || told(k)),
            "a date that no sleeper reckons with"
        );
    }
}

/// SHOWS: INV-38, INV-46
#[test]
fn the_earliest_date_is_reckoned_with_by_somebody() {
    explore(|| {
        let watch = Watch::new();
        together(&watch, Watch::live);
        watch.check();
    });
}
