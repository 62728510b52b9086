//! Models of a task's protocols: the state word, the home word, requests.
#![cfg(loom)]

use keel::runtime::sleep::{Sleeper, Wake};
use keel::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use keel::sync::{Mutex, UnsafeCell, model_point};
use keel::task::dated::{Dated, Place};
use keel::task::flags::*;
use keel::task::home::Home;
use keel::task::occupied::Occupied;
use keel::task::owned;
use keel::task::request::Request;
use keel::task::state::{Begin, Dropped, Hold, Kill, State, Unqueued, Wakeup};
use keel::task::tick;
use loom::sync::Arc;
use loom::thread;

fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = preemptions;
    b.max_branches = 20_000;
    b.check(model);
}

/// A task with a run queue of one place: who holds the ticket may fill it.
struct Task {
    state: State,
    queued: AtomicBool,
    /// Touched by the holder of RUNNING alone; loom checks that.
    body: UnsafeCell<u32>,
    /// What a waker wrote before its wake-up.
    mail: AtomicUsize,
    /// What the last run found there.
    read: AtomicUsize,
    /// What the killer did before; whoever frees comes after it.
    will: UnsafeCell<u32>,
    freed: AtomicUsize,
}

impl Task {
    fn new(flags: u32) -> Self {
        Self {
            state: State::new(flags),
            queued: AtomicBool::new(false),
            body: UnsafeCell::new(0),
            mail: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            will: UnsafeCell::new(0),
            freed: AtomicUsize::new(0),
        }
    }

    fn link(&self) {
        let was = self.queued.swap(true, Ordering::AcqRel);
        assert!(!was, "two tickets for one task");
    }

    fn wake(&self, why: u32) {
        if self.state.wakeup(why) == Wakeup::Insert {
            self.link();
        }
    }

    /// The killer's last act, after whatever it did with the task.
    fn kill(&self) -> Kill {
        // SAFETY: before the kill it is the killer's; loom checks.
        self.will.with_mut(|w| unsafe { *w = 1 });
        self.state.kill()
    }

    /// One turn of the scheduler: true if it ran or freed the task.
    fn turn(&self) -> bool {
        if !self.queued.swap(false, Ordering::AcqRel) {
            return false;
        }
        match self.state.begin_run() {
            Begin::Busy => {
                self.link();
                false
            }
            Begin::Free => {
                self.free();
                true
            }
            Begin::Run(_) => {
                // SAFETY: RUNNING is ours; loom fails the model if it is not.
                self.body.with_mut(|b| unsafe { *b += 1 });
                let mail = self.mail.load(Ordering::Relaxed);
                self.read.store(mail, Ordering::Relaxed);
                if self.state.killed() {
                    self.free();
                } else if self.state.drop_running(0) == Dropped::Insert {
                    self.link();
                }
                true
            }
        }
    }

    fn free(&self) {
        // SAFETY: whoever frees is alone; loom checks.
        self.body.with_mut(|b| unsafe { *b = 99 });
        // SAFETY: as above.
        self.will.with_mut(|w| assert_eq!(unsafe { *w }, 1));
        assert_eq!(self.freed.fetch_add(1, Ordering::Relaxed), 0, "freed twice");
    }
}

/// A wake-up that races with the end of a run is followed by a
/// run, and there is never more than one ticket.
// SHOWS: INV-30, INV-31, INV-33
#[test]
fn task_18_wakeup_against_run_end() {
    explore(None, || {
        let t = Arc::new(Task::new(0));
        t.wake(WOKEN_OTHER);
        let u = t.clone();
        let waker = thread::spawn(move || {
            u.mail.store(7, Ordering::Relaxed);
            u.wake(WOKEN_TIMER);
        });
        t.turn();
        waker.join().unwrap();
        // Whatever the order, a run starts after the wake-up or is still due.
        while t.turn() {}
        assert_eq!(t.state.get(), 0);
        assert_eq!(t.read.load(Ordering::Relaxed), 7, "no run after a wake-up");
    });
}

/// A run that starts after the wake-up sees its reason and
/// what was written before it.
// SHOWS: INV-31, INV-32
#[test]
fn task_19_a_run_sees_reason_and_memory() {
    explore(None, || {
        let t = Arc::new(Task::new(0));
        t.wake(WOKEN_OTHER);
        let u = t.clone();
        let waker = thread::spawn(move || {
            u.mail.store(7, Ordering::Relaxed);
            u.wake(WOKEN_TIMER);
        });
        for _ in 0..2 {
            if !t.queued.swap(false, Ordering::AcqRel) {
                break;
            }
            let Begin::Run(state) = t.state.begin_run() else {
                panic!("nobody else runs it");
            };
            if state & WOKEN_TIMER != 0 {
                assert_eq!(t.mail.load(Ordering::Relaxed), 7);
            }
            if t.state.drop_running(0) == Dropped::Insert {
                t.link();
            }
        }
        waker.join().unwrap();
        while t.turn() {}
        assert_eq!(t.state.get(), 0);
    });
}

/// A task that somebody has taken off its queue, and does not run yet,
/// is not idle: who destroys it then leaves it to that thread.
// SHOWS: INV-34
#[test]
fn task_21_destroy_against_a_dequeue() {
    explore(None, || {
        let t = Arc::new(Task::new(0));
        t.wake(WOKEN_OTHER);
        let u = t.clone();
        let destroyer = thread::spawn(move || {
            if u.kill() == Kill::Owned {
                u.free();
            }
        });
        t.turn();
        destroyer.join().unwrap();
        while t.freed.load(Ordering::Relaxed) == 0 && t.turn() {}
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// A kill racing with a wake-up and a run frees once, and
/// nobody runs it afterwards.
// SHOWS: INV-48, TASK-21
#[test]
fn task_41_kill_against_wakeup_and_run() {
    explore(Some(3), || {
        let t = Arc::new(Task::new(0));
        let (u, v) = (t.clone(), t.clone());
        let waker = thread::spawn(move || u.wake(WOKEN_OTHER));
        let killer = thread::spawn(move || {
            if v.kill() == Kill::Owned {
                v.link();
            }
        });
        t.turn();
        waker.join().unwrap();
        killer.join().unwrap();
        while t.freed.load(Ordering::Relaxed) == 0 && t.turn() {}
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// The owner cancels a run while somebody kills the task. Either the
/// ticket goes back and the killer gets one, or the scheduler meets it.
// SHOWS: INV-48
#[test]
fn task_39_kill_against_a_cancelled_run() {
    explore(None, || {
        let t = Arc::new(Task::new(0));
        t.wake(WOKEN_OTHER);
        let u = t.clone();
        let killer = thread::spawn(move || {
            if u.kill() == Kill::Owned {
                u.link();
            }
        });
        assert!(t.queued.swap(false, Ordering::AcqRel));
        if t.state.unqueue() == Unqueued::Killed {
            t.link();
        }
        killer.join().unwrap();
        assert!(t.turn());
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// A look at the timer excludes the handler, and turns what arrived
/// meanwhile into a ticket.
// SHOWS: INV-41
#[test]
fn timer_hold_against_wakeup_and_run() {
    explore(Some(3), || {
        let t = Arc::new(Task::new(SHARED_WQ));
        let (u, v) = (t.clone(), t.clone());
        let scanner = thread::spawn(move || {
            if u.state.hold_timer() == Hold::Held {
                // SAFETY: RUNNING is ours; loom fails the model if not.
                u.body.with_mut(|b| unsafe { *b += 1 });
                if u.state.drop_running(WOKEN_TIMER) == Dropped::Insert {
                    u.link();
                }
            }
        });
        let waker = thread::spawn(move || v.wake(WOKEN_OTHER));
        t.turn();
        scanner.join().unwrap();
        waker.join().unwrap();
        while t.turn() {}
        assert_eq!(t.state.get(), SHARED_WQ);
    });
}

/// A kill during a look at the timer is not forgotten.
// SHOWS: INV-48
#[test]
fn timer_hold_against_kill() {
    explore(None, || {
        let t = Arc::new(Task::new(SHARED_WQ));
        let u = t.clone();
        let scanner = thread::spawn(move || {
            if u.state.hold_timer() == Hold::Held && u.state.drop_running(0) == Dropped::Insert {
                u.link();
            }
        });
        if t.kill() == Kill::Owned {
            t.link();
        }
        scanner.join().unwrap();
        while t.freed.load(Ordering::Relaxed) == 0 && t.turn() {}
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// A shared task with its words, and a wait queue of one place: 0 where it is
/// not filed. The queue's lock protects the place.
struct Timed {
    state: State,
    expire: AtomicI32,
    request: Request,
    home: Home,
    place: Mutex<i32>,
    /// Touched wherever the date is filed for good: RUNNING protects it.
    held: UnsafeCell<u32>,
    /// Dates that a handler has started with, as bits.
    seen: AtomicUsize,
}

impl Timed {
    fn new() -> Self {
        Self {
            state: State::new(SHARED_WQ),
            expire: AtomicI32::new(tick::ETERNITY),
            request: Request::new(),
            home: Home::new(),
            place: Mutex::new(tick::ETERNITY),
            held: UnsafeCell::new(0),
            seen: AtomicUsize::new(0),
        }
    }

    fn dated(&self) -> Dated<'_> {
        Dated {
            state: &self.state,
            expire: &self.expire,
            request: &self.request,
        }
    }

    fn file(&self, when: i32) {
        let (_, mut place, _) = self.home.lock_or_claim(|| 0, |_| &self.place);
        *place = tick::first(*place, when);
    }

    fn schedule(&self, when: i32) {
        let filed = || self.home.is_filed();
        let _ = self
            .dated()
            .bring_forward(when, filed, |date| self.file(date));
    }

    /// A run, woken for something else, whose handler sets the date `next`.
    fn run(&self, next: i32) {
        let _ = self.state.wakeup(WOKEN_OTHER);
        if let Begin::Run(_) = self.state.begin_run() {
            let date = self.dated().fold();
            self.seen.fetch_or(1 << date, Ordering::Relaxed);
            self.expire.store(next, Ordering::Relaxed);
            let _ = self.dated().end_run(|date| {
                // SAFETY: RUNNING is ours; loom fails the model if it is not.
                self.held.with_mut(|h| unsafe { *h += 1 });
                self.file(date);
            });
        }
    }

    /// The scan at the date `now`.
    fn scan(&self, now: i32) -> Dropped {
        let mut place = self.place.lock();
        if *place == tick::ETERNITY || *place > now {
            return Dropped::Idle;
        }
        let (owes, _) = self.dated().look(
            WOKEN_TIMER,
            |date| date <= now,
            |what| {
                if what != Place::Keep {
                    // SAFETY: RUNNING is ours; loom fails the model if not.
                    self.held.with_mut(|h| unsafe { *h += 1 });
                }
                match what {
                    Place::Keep => *place = now + 1,
                    Place::Move(date) => *place = date,
                    Place::Leave => {
                        *place = tick::ETERNITY;
                        self.home.leave(0);
                    }
                }
            },
        );
        owes
    }

    /// In the end the date `when` was met by a run that started with it, has
    /// woken the task, or is filed in time.
    fn kept(&self, when: i32) {
        let seen = self.seen.load(Ordering::Relaxed) & ((2 << when) - 2) != 0;
        let woken = self.state.get() & WOKEN_TIMER != 0;
        let place = *self.place.lock();
        let filed = place != tick::ETERNITY && place <= when;
        let truth = self.dated().fold();
        let meant = truth != tick::ETERNITY && truth <= when;
        assert!(
            seen || woken || filed && meant,
            "the date {when} is lost: place {place}, date {truth}"
        );
    }
}

/// INV-39 (museum pattern 2): a date asked for while a handler
/// runs and switches its own date off is not lost.
// SHOWS: INV-39
#[test]
fn task_4_6_a_request_survives_the_handler() {
    explore(Some(4), || {
        let t = Arc::new(Timed::new());
        let u = t.clone();
        let other = thread::spawn(move || u.schedule(5));
        t.run(tick::ETERNITY);
        other.join().unwrap();
        t.kept(5);
    });
}

/// Who schedules a task holds a lock that its handler wants. Neither
/// waits for the other; a wait would never end, which the model says.
// SHOWS: INV-57
#[test]
fn task_5_scheduling_waits_for_no_handler() {
    explore(Some(3), || {
        struct World {
            task: Timed,
            lock: Mutex<()>,
        }
        let w = Arc::new(World {
            task: Timed::new(),
            lock: Mutex::new(()),
        });
        let v = w.clone();
        let other = thread::spawn(move || {
            let _held = v.lock.lock();
            v.task.schedule(5);
        });
        if w.task.state.wakeup(WOKEN_OTHER) == Wakeup::Insert {
            loop {
                match w.task.state.begin_run() {
                    Begin::Busy => thread::yield_now(),
                    Begin::Free => panic!("nobody killed it"),
                    Begin::Run(_) => break,
                }
            }
            let date = w.task.dated().fold();
            w.task.seen.fetch_or(1 << date, Ordering::Relaxed);
            drop(w.lock.lock());
            w.task.expire.store(tick::ETERNITY, Ordering::Relaxed);
            let _ = w.task.dated().end_run(|date| w.task.file(date));
        }
        other.join().unwrap();
        w.task.kept(5);
    });
}

/// The end of a run files its date while it still holds the
/// task; another thread that runs it at once does not meet it half filed.
// SHOWS: INV-40
#[test]
fn task_2_the_date_is_filed_before_the_task_is_let_go() {
    explore(Some(4), || {
        let t = Arc::new(Timed::new());
        let u = t.clone();
        let other = thread::spawn(move || u.run(9));
        t.run(7);
        other.join().unwrap();
        t.kept(9);
    });
}

/// Two threads schedule at once: the earlier date wins, whoever comes first.
// SHOWS: INV-39
#[test]
fn the_earlier_date_wins() {
    explore(Some(4), || {
        let t = Arc::new(Timed::new());
        let u = t.clone();
        let other = thread::spawn(move || u.schedule(3));
        t.schedule(6);
        other.join().unwrap();
        t.kept(3);
    });
}

/// The same while a handler runs: who finds it running leaves a request, who
/// comes just after does not overwrite it.
// SHOWS: INV-39
#[test]
fn the_earlier_date_wins_over_a_run() {
    explore(Some(3), || {
        let t = Arc::new(Timed::new());
        let (u, v) = (t.clone(), t.clone());
        let one = thread::spawn(move || u.schedule(3));
        let two = thread::spawn(move || v.schedule(6));
        t.run(tick::ETERNITY);
        one.join().unwrap();
        two.join().unwrap();
        t.kept(3);
    });
}

/// What is taken out of its queue keeps no request either, which would come
/// back with the next date.
// SHOWS: INV-39
#[test]
fn a_cancelled_request_does_not_come_back() {
    explore(Some(4), || {
        let t = Arc::new(Timed::new());
        let u = t.clone();
        let other = thread::spawn(move || u.schedule(5));
        t.run(tick::ETERNITY);
        other.join().unwrap();
        t.dated().cancel(|| t.unlink());
        t.schedule(9);
        assert_eq!(t.dated().fold(), 9);
        assert_eq!(*t.place.lock(), 9);
    });
}

/// The scan meets a place too early, or a task whose handler
/// runs, while others schedule it; no date is lost.
// SHOWS: INV-38, INV-41, WINDOW(run-end-files)
#[test]
fn scan_against_run_and_schedule() {
    explore(Some(3), || {
        let t = Arc::new(Timed::new());
        t.file(2);
        let (u, v) = (t.clone(), t.clone());
        let scanner = thread::spawn(move || {
            let _ = u.scan(4);
        });
        let other = thread::spawn(move || v.schedule(6));
        t.run(8);
        scanner.join().unwrap();
        other.join().unwrap();
        // The run files 8 at the latest; the request for 6 counts unless the
        // run started with it.
        t.kept(8);
        t.kept(6);
    });
}

impl Timed {
    /// Takes the place out, as whoever frees the task must.
    fn unlink(&self) {
        if let Some((_, mut place)) = self.home.lock(|_| &self.place) {
            *place = tick::ETERNITY;
            self.home.leave(0);
        }
    }

    fn free(&self) {
        assert!(!self.home.is_filed(), "freed while filed");
        // SAFETY: whoever frees is alone; loom fails the model if not.
        self.held.with_mut(|h| unsafe { *h = 99 });
        // A bit that no date has.
        let was = self.seen.fetch_or(1 << 30, Ordering::Relaxed);
        assert_eq!(was & (1 << 30), 0, "freed twice");
    }

    /// What a scheduler does with a task whose ticket it has.
    fn turn(&self) {
        loop {
            match self.state.begin_run() {
                // Somebody looks at the timer: a later turn.
                Begin::Busy => return,
                Begin::Free => {}
                Begin::Run(_) => {
                    // SAFETY: RUNNING is ours; loom fails the model if not.
                    self.held.with_mut(|h| unsafe { *h += 1 });
                    self.expire.store(7, Ordering::Relaxed);
                    if !self.state.killed() {
                        match self.dated().end_run(|date| self.file(date)) {
                            Dropped::Insert => continue,
                            Dropped::Idle => return,
                        }
                    }
                }
            }
            self.unlink();
            self.free();
            return;
        }
    }
}

/// A task is destroyed while it runs and
/// files its next date, and while the scan looks at it. It is freed once, with
/// nobody inside and its place taken out.
// SHOWS: INV-34, INV-48, TASK-21
#[test]
fn task_7_destroy_against_run_end_and_scan() {
    explore(Some(3), || {
        let t = Arc::new(Timed::new());
        t.file(2);
        t.expire.store(2, Ordering::Relaxed);
        let (u, v) = (t.clone(), t.clone());
        let runner = thread::spawn(move || {
            if u.state.wakeup(WOKEN_OTHER) == Wakeup::Insert {
                u.turn();
            }
        });
        let scanner = thread::spawn(move || {
            if v.scan(2) == Dropped::Insert {
                v.turn();
            }
        });
        if t.state.kill() == Kill::Owned {
            t.unlink();
            assert_eq!(t.state.get() & RUNNING, 0, "freed while held");
            t.free();
        }
        runner.join().unwrap();
        scanner.join().unwrap();
        // A ticket that is still out is served in the end.
        if t.seen.load(Ordering::Relaxed) & (1 << 30) == 0 {
            t.turn();
        }
        assert_ne!(t.seen.load(Ordering::Relaxed) & (1 << 30), 0, "never freed");
    });
}

/// The same without the runner. That a killed task cannot be held at all, so
/// that its killer never frees it under a scan that has just taken the place
/// out, is a unit test's to check: loom does not reach that interleaving.
// SHOWS: INV-34, INV-36
#[test]
fn destroy_against_scan() {
    explore(None, || {
        let t = Arc::new(Timed::new());
        t.file(2);
        t.expire.store(2, Ordering::Relaxed);
        let u = t.clone();
        let killer = thread::spawn(move || {
            if u.state.kill() == Kill::Owned {
                u.unlink();
                assert_eq!(u.state.get() & RUNNING, 0, "freed while held");
                u.free();
            }
        });
        if t.scan(2) == Dropped::Insert {
            t.turn();
        }
        killer.join().unwrap();
        if t.seen.load(Ordering::Relaxed) & (1 << 30) == 0 {
            t.turn();
        }
        assert_ne!(t.seen.load(Ordering::Relaxed) & (1 << 30), 0, "never freed");
    });
}

/// Two threads that file, move and unlink one task
/// never touch its node without the lock of the queue that holds it.
// SHOWS: INV-36, TASK-1
#[test]
fn task_9_home_word_names_the_lock() {
    explore(Some(3), || {
        struct Timed {
            home: Home,
            /// The node; loom checks that it is never touched concurrently.
            node: UnsafeCell<i32>,
        }
        struct World {
            task: Timed,
            queues: [Mutex<usize>; 2],
        }
        fn file(w: &World, me: usize) {
            let (_, mut queue, filed) = w.task.home.lock_or_claim(|| me, |k| &w.queues[k]);
            if !filed {
                *queue += 1;
            }
            // SAFETY: the lock protects the node; loom checks.
            w.task.node.with_mut(|n| unsafe { *n += 1 });
        }
        fn unlink(w: &World) {
            if let Some((k, mut queue)) = w.task.home.lock(|k| &w.queues[k]) {
                // SAFETY: the lock protects the node; loom checks.
                w.task.node.with_mut(|n| unsafe { *n += 1 });
                *queue -= 1;
                w.task.home.leave(k);
            }
        }
        let w = Arc::new(World {
            task: Timed {
                home: Home::new(),
                node: UnsafeCell::new(0),
            },
            queues: [Mutex::new(0), Mutex::new(0)],
        });
        let other = w.clone();
        let t = thread::spawn(move || {
            file(&other, 1);
            unlink(&other);
        });
        file(&w, 0);
        unlink(&w);
        t.join().unwrap();
        unlink(&w);
        assert!(!w.task.home.is_filed());
        for q in &w.queues {
            assert_eq!(*q.lock(), 0);
        }
    });
}

/// Whoever finds a task in no queue may free it: the node's last use, by who
/// unlinked it, comes before.
// SHOWS: INV-36
#[test]
fn a_task_in_no_queue_may_be_freed() {
    explore(None, || {
        struct World {
            home: Home,
            node: UnsafeCell<i32>,
            queue: Mutex<()>,
        }
        fn unlink(w: &World) {
            if let Some((k, _queue)) = w.home.lock(|_| &w.queue) {
                // SAFETY: the lock protects the node; loom checks.
                w.node.with_mut(|n| unsafe { *n += 1 });
                w.home.leave(k);
            }
        }
        let w = Arc::new(World {
            home: Home::new(),
            node: UnsafeCell::new(0),
            queue: Mutex::new(()),
        });
        let _ = w.home.lock_or_claim(|| 0, |_| &w.queue);
        let other = w.clone();
        let t = thread::spawn(move || {
            unlink(&other);
            model_point();
        });
        model_point();
        unlink(&w);
        if !w.home.is_filed() {
            // SAFETY: in no queue, as after a task's destruction; loom checks.
            w.node.with_mut(|n| unsafe { *n = -1 });
        }
        t.join().unwrap();
    });
}

/// A shared task that is filed with thread 1, the wheels of two threads with a
/// place each, and thread 1's sleep.
struct Filed {
    home: Home,
    wheels: [Mutex<i32>; 2],
    /// The wheels' next dates, as everybody reads them.
    next: [AtomicI32; 2],
    sleeper: Sleeper,
    signals: AtomicUsize,
}

const FAR: i32 = 99;

impl Filed {
    /// Filed with thread 1 at the date `place`.
    fn at(place: i32) -> Self {
        let w = Self {
            home: Home::new(),
            wheels: [Mutex::new(FAR), Mutex::new(FAR)],
            next: [AtomicI32::new(FAR), AtomicI32::new(FAR)],
            sleeper: Sleeper::new(),
            signals: AtomicUsize::new(0),
        };
        w.bring_forward(place, 1);
        w
    }

    /// Thread `me` files the task at `date`, or leaves it where that is
    /// earlier; whom its home belongs to is told.
    fn bring_forward(&self, date: i32, me: usize) {
        let (k, mut place, filed) = self.home.lock_or_claim(|| me, |k| &self.wheels[k]);
        let before = self.next[k].load(Ordering::Relaxed);
        *place = if filed { date.min(*place) } else { date };
        self.next[k].store(*place, Ordering::Relaxed);
        drop(place);
        if date < before && k != me && self.sleeper.wake_if_asleep() == Wake::Signal {
            self.signals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Thread 1 sleeps, if it may; until when.
    fn sleep(&self) -> Option<i32> {
        let asleep = self.sleeper.announce();
        asleep.then(|| self.next[1].load(Ordering::Relaxed))
    }

    /// Whoever has the task's place reckons with its date.
    fn reckoned(&self, date: i32, slept: Option<i32>) {
        let (k, place) = self.home.lock(|k| &self.wheels[k]).expect("filed nowhere");
        assert_eq!(*place, date);
        assert_eq!(self.next[k].load(Ordering::Relaxed), date);
        if k == 1 {
            let told = self.signals.load(Ordering::Relaxed) != 0;
            assert!(
                told || slept.is_none_or(|until| until <= date),
                "thread 1 sleeps past a date in its wheel"
            );
        }
    }
}

/// A date that another thread brings forward in the wheel of
/// one that goes to sleep is slept past by nobody.
// SHOWS: INV-46
#[test]
fn task_48_a_sleeper_learns_of_an_earlier_date() {
    explore(None, || {
        let w = Arc::new(Filed::at(9));
        let v = w.clone();
        let other = thread::spawn(move || v.bring_forward(3, 0));
        let slept = w.sleep();
        other.join().unwrap();
        w.reckoned(3, slept);
    });
}

/// The same while thread 1 takes the task out of its wheel.
/// Either its home stays and is told, or the task moves in with the other.
// SHOWS: INV-36
#[test]
fn task_8_filed_while_it_leaves_its_wheel() {
    explore(Some(4), || {
        let w = Arc::new(Filed::at(9));
        let v = w.clone();
        let other = thread::spawn(move || {
            v.bring_forward(3, 0);
            v.bring_forward(2, 0);
        });
        if let Some((k, mut place)) = w.home.lock(|k| &w.wheels[k]) {
            if k == 1 && *place == 9 {
                *place = FAR;
                w.next[1].store(FAR, Ordering::Relaxed);
                w.home.leave(1);
            }
        }
        let slept = w.sleep();
        other.join().unwrap();
        w.reckoned(2, slept);
    });
}

/// A tasklet between two threads: each has a place to queue it, and runs what
/// is there.
struct Tasklet {
    state: State,
    occupied: Occupied,
    queued: [AtomicBool; 2],
    /// Touched by the handler alone; loom checks that.
    body: UnsafeCell<u32>,
    /// What wakers wrote before their wake-ups, and the runs have seen.
    mail: AtomicUsize,
    seen: AtomicUsize,
    freed: AtomicUsize,
}

impl Tasklet {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: State::new(F_TASKLET),
            occupied: Occupied::new(),
            queued: [AtomicBool::new(false), AtomicBool::new(false)],
            body: UnsafeCell::new(0),
            mail: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    fn link(&self, on: usize) {
        let was = self.queued[on].swap(true, Ordering::AcqRel);
        assert!(!was, "two tickets for one tasklet");
    }

    fn wake(&self, on: usize) {
        self.mail.fetch_add(1, Ordering::Relaxed);
        if self.state.wakeup_tasklet(WOKEN_OTHER) == Wakeup::Insert {
            self.link(on);
        }
    }

    fn kill(&self, on: usize) {
        if self.state.kill() == Kill::Owned {
            self.link(on);
        }
    }

    fn turn(&self, me: usize) {
        if !self.queued[me].swap(false, Ordering::AcqRel) {
            return;
        }
        match self.occupied.begin(&self.state) {
            Begin::Busy => self.link(me),
            Begin::Free => self.free(),
            Begin::Run(_) => {
                // SAFETY: one handler runs at a time, or loom fails the model.
                self.body.with_mut(|b| unsafe { *b += 1 });
                self.seen
                    .store(self.mail.load(Ordering::Relaxed), Ordering::Relaxed);
                self.occupied.end();
            }
        }
    }

    fn free(&self) {
        // SAFETY: whoever frees is alone; loom checks.
        self.body.with_mut(|b| unsafe { *b = 99 });
        assert_eq!(self.freed.fetch_add(1, Ordering::Relaxed), 0, "freed twice");
    }

    /// What is left, after both threads have ended.
    fn rest(&self) {
        for _ in 0..2 {
            self.turn(0);
            self.turn(1);
        }
        assert!(!self.queued[0].load(Ordering::Relaxed));
        assert!(!self.queued[1].load(Ordering::Relaxed));
    }
}

/// A tasklet that is woken on one thread while it runs on another
/// runs there when the first run has ended, and sees what its waker wrote.
// SHOWS: INV-30, INV-31, TASK-43
#[test]
fn a_tasklet_runs_on_one_thread_at_a_time() {
    explore(None, || {
        let t = Tasklet::new();
        let other = {
            let t = t.clone();
            thread::spawn(move || {
                t.wake(1);
                t.turn(1);
            })
        };
        t.wake(0);
        t.turn(0);
        other.join().unwrap();
        t.rest();
        assert_eq!(t.seen.load(Ordering::Relaxed), 2);
    });
}

/// A tasklet runs on one thread while another does away with it, and nobody
/// wakes it any more: it is freed once.
fn freed_once(end: fn(&Tasklet)) {
    explore(None, move || {
        let t = Tasklet::new();
        t.wake(0);
        let other = {
            let t = t.clone();
            thread::spawn(move || {
                end(&t);
                t.turn(1);
            })
        };
        t.turn(0);
        other.join().unwrap();
        t.rest();
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// A tasklet that is killed while it runs elsewhere is freed once,
/// when that run has ended.
// SHOWS: INV-34, INV-48
#[test]
fn a_tasklet_is_freed_after_its_run() {
    freed_once(|t| t.kill(1));
}

/// The same where it is not killed but freed by another thread, which should
/// not be: that finds it idle, queued or occupied, and no fourth.
// SHOWS: INV-34
#[test]
fn a_tasklet_is_not_freed_under_its_run() {
    freed_once(|t| {
        if t.state.kill() == Kill::Owned {
            if t.occupied.is_taken() {
                t.link(1);
            } else {
                t.free();
            }
        }
    });
}

/// A tasklet of thread 0's: a list of its own, and a place for its mail.
struct Owned {
    state: State,
    owned: owned::Owned,
    /// Thread 0's alone.
    linked: UnsafeCell<bool>,
    sent: AtomicBool,
    /// Touched by the handler and by who frees; loom checks that.
    body: UnsafeCell<u32>,
    /// What wakers wrote before their wake-ups, and the runs have seen.
    mail: AtomicUsize,
    seen: AtomicUsize,
    freed: AtomicUsize,
}

impl Owned {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: State::new(F_TASKLET),
            owned: owned::Owned::new(),
            linked: UnsafeCell::new(false),
            sent: AtomicBool::new(false),
            body: UnsafeCell::new(0),
            mail: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    fn link(&self) {
        // SAFETY: thread 0 calls; loom checks.
        self.linked.with_mut(|l| unsafe {
            assert!(!*l, "linked twice");
            *l = true;
        });
    }

    fn unlink(&self) -> bool {
        // SAFETY: as above.
        self.linked.with_mut(|l| unsafe { std::mem::take(&mut *l) })
    }

    fn send(&self) {
        let was = self.sent.swap(true, Ordering::AcqRel);
        assert!(!was, "mail of one tasklet in two places");
    }

    fn wake_here(&self) {
        self.mail.fetch_add(1, Ordering::Relaxed);
        if self.owned.wake() == Wakeup::Insert {
            self.link();
        }
    }

    fn wake_from_elsewhere(&self) {
        self.mail.fetch_add(1, Ordering::Relaxed);
        if self.state.wakeup_tasklet(WOKEN_OTHER) == Wakeup::Insert {
            self.send();
        }
    }

    fn kill_from_elsewhere(&self) {
        if self.state.kill() == Kill::Owned {
            self.send();
        }
    }

    fn fetch(&self) {
        if self.sent.swap(false, Ordering::AcqRel) && self.owned.fetched() == Wakeup::Insert {
            self.link();
        }
    }

    fn turn(&self) {
        self.fetch();
        if !self.unlink() {
            return;
        }
        match self.owned.begin(&self.state) {
            None => {}
            Some(Begin::Busy) => panic!("nobody else runs it"),
            Some(Begin::Free) => self.free(),
            Some(Begin::Run(_)) => {
                assert_eq!(self.freed.load(Ordering::Relaxed), 0, "runs after its end");
                // SAFETY: one handler runs at a time, or loom fails the model.
                self.body.with_mut(|b| unsafe { *b += 1 });
                self.seen
                    .store(self.mail.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    fn cancel(&self) {
        self.fetch();
        if self.unlink() && self.owned.cancel(&self.state) == Unqueued::Killed {
            self.link();
        }
    }

    fn free(&self) {
        assert!(!self.sent.load(Ordering::Relaxed), "freed with mail");
        // SAFETY: whoever frees is alone; loom checks.
        self.body.with_mut(|b| unsafe { *b = 99 });
        assert_eq!(self.freed.fetch_add(1, Ordering::Relaxed), 0, "freed twice");
    }
}

/// Whichever tickets are given out meanwhile, a run that sees what
/// the waker wrote follows every wake-up, here and elsewhere.
// SHOWS: INV-31, INV-33, INV-52
#[test]
fn an_owned_tasklet_runs_after_every_wakeup() {
    explore(None, || {
        let t = Owned::new();
        let other = {
            let t = t.clone();
            thread::spawn(move || {
                t.wake_from_elsewhere();
                t.wake_from_elsewhere();
            })
        };
        t.wake_here();
        t.turn();
        t.turn();
        t.wake_here();
        t.turn();
        other.join().unwrap();
        t.turn();
        assert_eq!(t.seen.load(Ordering::Relaxed), 4);
    });
}

/// An owned tasklet that another thread kills is freed once, by its
/// thread, and does not run once the kill is known there, whoever has woken it
/// or is about to send its mail.
// SHOWS: INV-48, INV-52
#[test]
fn an_owned_tasklet_is_freed_once_and_runs_no_more() {
    explore(Some(3), || {
        let t = Owned::new();
        let told = Arc::new(AtomicBool::new(false));
        // The waker has the ticket before the kill, as its user's word is.
        assert_eq!(t.state.wakeup_tasklet(WOKEN_OTHER), Wakeup::Insert);
        let waker = {
            let t = t.clone();
            thread::spawn(move || t.send())
        };
        let killer = {
            let (t, told) = (t.clone(), told.clone());
            thread::spawn(move || {
                t.kill_from_elsewhere();
                told.store(true, Ordering::Release);
            })
        };
        // Nobody touches it once it is freed, as its user's word is.
        let alive = || t.freed.load(Ordering::Relaxed) == 0;
        // SAFETY: thread 0 reads what thread 0 writes; loom checks.
        let runs = || t.body.with(|b| unsafe { *b });
        let known = told.load(Ordering::Acquire);
        t.wake_here();
        t.turn();
        if known && alive() {
            assert_eq!(runs(), 0, "ran after its kill");
        }
        waker.join().unwrap();
        killer.join().unwrap();
        for _ in 0..2 {
            if alive() {
                t.turn();
            }
        }
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
    });
}

/// A cancelled run does not lose a kill, nor a ticket.
// SHOWS: INV-48
#[test]
fn an_owned_tasklets_run_is_cancelled() {
    explore(None, || {
        let t = Owned::new();
        let other = {
            let t = t.clone();
            thread::spawn(move || {
                t.wake_from_elsewhere();
                t.kill_from_elsewhere();
            })
        };
        t.wake_here();
        t.cancel();
        other.join().unwrap();
        t.cancel();
        assert_eq!(t.freed.load(Ordering::Relaxed), 0);
        t.turn();
        assert_eq!(t.freed.load(Ordering::Relaxed), 1);
        // SAFETY: as above.
        t.body
            .with(|b| assert_eq!(unsafe { *b }, 99, "it never ran"));
    });
}

/// INV-31 for dates: whoever schedules a task that is about to run leaves it
/// alone, if that run sees what was written before; else the date is kept.
// SHOWS: INV-31
#[test]
fn a_schedule_is_dropped_for_a_run_that_sees_its_mail() {
    explore(None, || {
        let t = Arc::new(Timed::new());
        let mail = Arc::new(AtomicUsize::new(0));
        assert_eq!(t.state.wakeup(WOKEN_OTHER), Wakeup::Insert);
        let (u, v) = (t.clone(), mail.clone());
        let other = thread::spawn(move || {
            v.store(7, Ordering::Relaxed);
            if !u.state.still_queued() {
                u.schedule(5);
            }
        });
        assert!(matches!(t.state.begin_run(), Begin::Run(_)));
        let date = t.dated().fold();
        t.seen.fetch_or(1 << date, Ordering::Relaxed);
        let read = mail.load(Ordering::Relaxed);
        let _ = t.dated().end_run(|date| t.file(date));
        other.join().unwrap();
        if read != 7 {
            t.kept(5);
        }
    });
}
