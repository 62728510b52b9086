//! Tasks and tasklets that eight threads wake, run, kill and give dates to.
//! Each thread has a queue, which is the engine's own hand-over.
#![cfg(shuttle)]

#[path = "common/shuttle.rs"]
mod common;

use common::{THREADS, any, explore, together};
use keel::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::*};
use keel::sync::{Inbox, Link, Mutex, UnsafeCell};
use keel::task::dated::{Dated, Place};
use keel::task::flags::*;
use keel::task::home::Home;
use keel::task::occupied::Occupied;
use keel::task::owned;
use keel::task::request::Request;
use keel::task::state::{Begin, Dropped, Hold, Kill, State, Wakeup};
use keel::task::tick;
use shuttle::sync::RwLock;
use std::sync::Arc;

const REASONS: [u32; 3] = [WOKEN_TIMER, WOKEN_MSG, WOKEN_OTHER];

/// A task, or a tasklet that any thread may run.
#[repr(C)]
struct Item {
    link: Link,
    tasklet: bool,
    state: State,
    occupied: Occupied,
    /// The handler's, and whose who frees.
    body: UnsafeCell<u32>,
    /// How often it was woken, and how many of these the last run knew of.
    mail: AtomicUsize,
    read: AtomicUsize,
    /// Reasons that wakers gave, and that runs have seen.
    given: AtomicU32,
    seen: AtomicU32,
    killed: AtomicBool,
    freed: AtomicUsize,
    /// Nobody wakes a tasklet once it is killed: its users' word.
    wanted: RwLock<bool>,
}

struct World {
    items: Vec<Item>,
    queues: [Inbox; THREADS],
}

// SAFETY: each field is whose its comment says; the cells check it.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new(tasklets: bool) -> Arc<Self> {
        let item = |_| Item {
            link: Link::new(),
            tasklet: tasklets,
            state: State::new(if tasklets { F_TASKLET } else { 0 }),
            occupied: Occupied::new(),
            body: UnsafeCell::new(0),
            mail: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            given: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            freed: AtomicUsize::new(0),
            wanted: RwLock::new(true),
        };
        Arc::new(Self {
            items: (0..2).map(item).collect(),
            queues: [(); THREADS].map(|()| Inbox::new()),
        })
    }

    /// The caller has the ticket.
    fn link(&self, item: &Item, on: usize) {
        // SAFETY: as the ticket says; a second one would find the link in use.
        unsafe { self.queues[on].push((&raw const *item).cast_mut().cast()) };
    }

    fn wake(&self, item: &Item, on: usize) {
        let wanted = item.wanted.read().unwrap();
        if item.tasklet && !*wanted {
            return;
        }
        let why = REASONS[any(REASONS.len())];
        item.given.fetch_or(why, Relaxed);
        item.mail.fetch_add(1, Relaxed);
        let ticket = match item.tasklet {
            true => item.state.wakeup_tasklet(why),
            false => item.state.wakeup(why),
        };
        if ticket == Wakeup::Insert {
            self.link(item, on);
        }
    }

    fn kill(&self, item: &Item, on: usize) {
        if item.killed.swap(true, Relaxed) {
            return;
        }
        *item.wanted.write().unwrap() = false;
        if item.state.kill() == Kill::Owned {
            self.link(item, on);
        }
    }

    /// The shared timers' scan has a look.
    fn look(&self, item: &Item, on: usize) {
        if item.tasklet || item.state.hold_timer() != Hold::Held {
            return;
        }
        // SAFETY: held, so nobody runs it; the cell checks.
        item.body.with_mut(|b| unsafe { *b += 1 });
        if item.state.drop_running(0) == Dropped::Insert {
            self.link(item, on);
        }
    }

    /// A turn of the scheduler: whether there was anything.
    fn turn(&self, me: usize) -> bool {
        let mut ran = false;
        // SAFETY: this thread's own queue; what it took is its own.
        let mut link = unsafe { self.queues[me].take() };
        while !link.is_null() {
            // SAFETY: as above; the link is the item's first field.
            let item = unsafe {
                let item = &*link.cast::<Item>();
                link = (*link).next();
                item
            };
            ran = true;
            self.run(item, me);
        }
        ran
    }

    fn run(&self, item: &Item, me: usize) {
        let begin = match item.tasklet {
            true => item.occupied.begin(&item.state),
            false => item.state.begin_run(),
        };
        let reasons = match begin {
            Begin::Busy => return self.link(item, me),
            Begin::Free => return self.free(item),
            Begin::Run(reasons) => reasons,
        };
        assert_eq!(item.freed.load(Relaxed), 0, "runs after it was freed");
        // SAFETY: one handler runs at a time; the cell checks.
        item.body.with_mut(|b| unsafe { *b += 1 });
        item.seen.fetch_or(reasons & WOKEN_ANY, Relaxed);
        item.read.store(item.mail.load(Relaxed), Relaxed);
        if item.tasklet {
            item.occupied.end();
        } else if item.state.killed() {
            self.free(item);
        } else if item.state.drop_running(0) == Dropped::Insert {
            self.link(item, me);
        }
    }

    fn free(&self, item: &Item) {
        // SAFETY: whoever frees is alone; the cell checks.
        item.body.with_mut(|b| unsafe { *b = 99 });
        assert_eq!(item.freed.fetch_add(1, Relaxed), 0, "freed twice");
    }

    fn live(&self, me: usize) {
        for _ in 0..8 {
            let item = &self.items[any(self.items.len())];
            match any(16) {
                0..6 => self.wake(item, any(THREADS)),
                6..14 => drop(self.turn(me)),
                14 => self.look(item, me),
                _ => self.kill(item, me),
            }
        }
    }

    fn check(&self) {
        for _ in 0..3 {
            (0..THREADS).for_each(|me| while self.turn(me) {});
        }
        for item in &self.items {
            let killed = item.killed.load(Relaxed);
            assert_eq!(item.freed.load(Relaxed), usize::from(killed));
            if !killed {
                assert_eq!(item.state.get() & (QUEUED | RUNNING | WOKEN_ANY), 0);
                assert_eq!(item.read.load(Relaxed), item.mail.load(Relaxed));
                assert_eq!(item.seen.load(Relaxed), item.given.load(Relaxed));
            }
        }
    }
}

fn everywhere(tasklets: bool) {
    explore(move || {
        let world = World::new(tasklets);
        together(&world, World::live);
        world.check();
    });
}

/// SHOWS: INV-30, INV-31, INV-32, INV-33, INV-34, INV-41, INV-48
#[test]
fn tasks_run_one_at_a_time_after_each_wakeup_and_are_freed_once() {
    everywhere(false);
}

/// SHOWS: INV-30, INV-31, INV-32, INV-33, INV-34, INV-48
#[test]
fn tasklets_run_one_at_a_time_after_each_wakeup_and_are_freed_once() {
    everywhere(true);
}

/// A tasklet of thread 0's, with a list of its own and a place for its mail.
struct Owned {
    state: State,
    owned: owned::Owned,
    linked: UnsafeCell<bool>,
    sent: AtomicBool,
    body: UnsafeCell<u32>,
    mail: AtomicUsize,
    read: AtomicUsize,
    killed: AtomicBool,
    freed: AtomicUsize,
    wanted: RwLock<bool>,
}

// SAFETY: each field is whose its comment says; the cells check it.
unsafe impl Sync for Owned {}
// SAFETY: as above.
unsafe impl Send for Owned {}

impl Owned {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: State::new(F_TASKLET),
            owned: owned::Owned::new(),
            linked: UnsafeCell::new(false),
            sent: AtomicBool::new(false),
            body: UnsafeCell::new(0),
            mail: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            killed: AtomicBool::new(false),
            freed: AtomicUsize::new(0),
            wanted: RwLock::new(true),
        })
    }

    /// Into thread 0's list, or out of it; what it was.
    fn list(&self, now: bool) -> bool {
        // SAFETY: thread 0 calls; the cell checks.
        self.linked
            .with_mut(|l| unsafe { std::mem::replace(&mut *l, now) })
    }

    fn link(&self) {
        assert!(!self.list(true), "linked twice");
    }

    fn send(&self) {
        assert!(!self.sent.swap(true, Relaxed), "two tickets for others");
    }

    fn wake_here(&self) {
        self.mail.fetch_add(1, Relaxed);
        if self.owned.wake() == Wakeup::Insert {
            self.link();
        }
    }

    fn wake_from_elsewhere(&self) {
        let wanted = self.wanted.read().unwrap();
        if *wanted {
            self.mail.fetch_add(1, Relaxed);
            if self.state.wakeup_tasklet(WOKEN_OTHER) == Wakeup::Insert {
                self.send();
            }
        }
    }

    fn kill_from_elsewhere(&self) {
        if self.killed.swap(true, Relaxed) {
            return;
        }
        *self.wanted.write().unwrap() = false;
        if self.state.kill() == Kill::Owned {
            self.send();
        }
    }

    fn is_freed(&self) -> bool {
        self.freed.load(Relaxed) != 0
    }

    fn turn(&self) {
        if self.sent.swap(false, Relaxed) && self.owned.fetched() == Wakeup::Insert {
            self.link();
        }
        if !self.list(false) {
            return;
        }
        match self.owned.begin(&self.state) {
            None => {}
            Some(Begin::Busy) => panic!("nobody else runs it"),
            Some(Begin::Free) => {
                assert!(!self.sent.load(Relaxed), "freed with mail");
                assert_eq!(self.freed.fetch_add(1, Relaxed), 0, "freed twice");
            }
            Some(Begin::Run(_)) => {
                assert!(!self.is_freed(), "runs after its end");
                // SAFETY: one handler runs at a time; the cell checks.
                self.body.with_mut(|b| unsafe { *b += 1 });
                self.read.store(self.mail.load(Relaxed), Relaxed);
            }
        }
    }

    fn live(&self, me: usize) {
        for _ in 0..if me == 0 { 12 } else { 4 } {
            match (me, any(8)) {
                (0, _) if self.is_freed() => {}
                (0, 0..3) => self.wake_here(),
                (0, _) => self.turn(),
                (_, 0) => self.kill_from_elsewhere(),
                _ => self.wake_from_elsewhere(),
            }
        }
    }
}

/// SHOWS: INV-31, INV-33, INV-48, INV-49
#[test]
fn an_owned_tasklet_loses_no_wakeup_of_seven_others() {
    explore(|| {
        let t = Owned::new();
        together(&t, Owned::live);
        for _ in 0..3 {
            if !t.is_freed() {
                t.turn();
            }
        }
        let killed = t.killed.load(Relaxed);
        assert_eq!(t.freed.load(Relaxed), usize::from(killed));
        if !killed {
            assert_eq!(t.read.load(Relaxed), t.mail.load(Relaxed));
        }
    });
}

/// A shared task with its words, and wait queues with a place each, which
/// their locks protect.
struct Timed {
    state: State,
    expire: AtomicI32,
    request: Request,
    home: Home,
    places: [Mutex<i32>; QUEUES],
    queued: AtomicBool,
    /// Whoever files for good holds RUNNING.
    held: UnsafeCell<u32>,
    /// Dates that were asked for, and whether a run began after that.
    asked: [AtomicI32; THREADS * EACH],
    met: [AtomicBool; THREADS * EACH],
}

// SAFETY: each field is whose its comment says; the cells check it.
unsafe impl Sync for Timed {}
// SAFETY: as above.
unsafe impl Send for Timed {}

const QUEUES: usize = 3;
const EACH: usize = 3;
/// The clock while the threads are there, and when it stops.
const NOW: i32 = 5;
const LAST: i32 = 20;

impl Timed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: State::new(SHARED_WQ),
            expire: AtomicI32::new(tick::ETERNITY),
            request: Request::new(),
            home: Home::new(),
            places: [(); QUEUES].map(|()| Mutex::new(tick::ETERNITY)),
            queued: AtomicBool::new(false),
            held: UnsafeCell::new(0),
            asked: std::array::from_fn(|_| AtomicI32::new(tick::ETERNITY)),
            met: std::array::from_fn(|_| AtomicBool::new(false)),
        })
    }

    fn dated(&self) -> Dated<'_> {
        Dated {
            state: &self.state,
            expire: &self.expire,
            request: &self.request,
        }
    }

    fn owed(&self, dropped: Dropped) {
        if dropped == Dropped::Insert {
            self.link();
        }
    }

    fn link(&self) {
        assert!(!self.queued.swap(true, Relaxed), "two tickets");
    }

    fn alone(&self) {
        // SAFETY: RUNNING is this thread's; the cell checks.
        self.held.with_mut(|h| unsafe { *h += 1 });
    }

    fn file(&self, date: i32, me: usize) {
        let queue = |k: usize| &self.places[k];
        let (_, mut place, filed) = self.home.lock_or_claim(|| me % QUEUES, queue);
        *place = match filed {
            true => tick::first(*place, date),
            false => date,
        };
    }

    fn schedule(&self, date: i32, me: usize) {
        let filed = || self.home.is_filed();
        let file = |date| self.file(date, me);
        self.owed(self.dated().bring_forward(date, filed, file));
    }

    fn wake(&self) {
        if self.state.wakeup(WOKEN_OTHER) == Wakeup::Insert {
            self.link();
        }
    }

    fn turn(&self, me: usize) -> bool {
        if !self.queued.swap(false, Relaxed) {
            return false;
        }
        match self.state.begin_run() {
            Begin::Free => panic!("nobody killed it"),
            Begin::Busy => self.link(),
            Begin::Run(_) => {
                let _ = self.dated().fold();
                for (asked, met) in self.asked.iter().zip(&self.met) {
                    if asked.load(Relaxed) != tick::ETERNITY {
                        met.store(true, Relaxed);
                    }
                }
                let next = [tick::ETERNITY, LAST + 1][any(2)];
                self.expire.store(next, Relaxed);
                let owed = self.dated().end_run(|date| {
                    self.alone();
                    self.file(date, me);
                });
                self.owed(owed);
            }
        }
        true
    }

    fn scan(&self, k: usize, now: i32) {
        let mut place = self.places[k].lock();
        if *place == tick::ETERNITY || *place > now {
            return;
        }
        let due = |date| date <= now;
        let (owed, _) = self.dated().look(WOKEN_TIMER, due, |what| match what {
            Place::Keep => *place = now + 1,
            Place::Move(date) => {
                self.alone();
                *place = date;
            }
            Place::Leave => {
                self.alone();
                *place = tick::ETERNITY;
                self.home.leave(k);
            }
        });
        drop(place);
        self.owed(owed);
    }

    fn live(&self, me: usize) {
        let mut asked = 0;
        for _ in 0..6 {
            match any(5) {
                0 | 1 if asked < EACH => {
                    let date = 1 + any(LAST as usize) as i32;
                    self.asked[me * EACH + asked].store(date, Relaxed);
                    asked += 1;
                    self.schedule(date, me);
                }
                2 => self.wake(),
                3 => self.scan(any(QUEUES), NOW),
                _ => drop(self.turn(me)),
            }
        }
    }

    /// The clock goes on: whatever was asked for comes in time.
    fn check(&self) {
        while self.turn(0) {}
        for now in NOW + 1..=LAST {
            for _ in 0..2 {
                (0..QUEUES).for_each(|k| self.scan(k, now));
                while self.turn(0) {}
            }
            for (asked, met) in self.asked.iter().zip(&self.met) {
                let asked = asked.load(Relaxed);
                let late = asked != tick::ETERNITY && asked <= now && !met.load(Relaxed);
                assert!(!late, "the date {asked} is lost");
            }
        }
    }
}

/// SHOWS: INV-36, INV-38, INV-39, INV-40, INV-41
#[test]
fn no_date_of_a_shared_task_is_lost() {
    explore(|| {
        let t = Timed::new();
        together(&t, Timed::live);
        t.check();
    });
}
