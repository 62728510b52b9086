//! Every interleaving of a frequency counter's rotation with additions, with
//! readers and with other rotations, while the threads' dates differ.
//!
//! Run: RUSTFLAGS="--cfg loom" cargo test --release --test loom_freq_ctr
#![cfg(loom)]

use keel::stick_table::freq_ctr::{Clock, FreqCtr, Values};
use keel::sync::atomic::{AtomicU32, Ordering};
use keel::sync::model_point;
use loom::sync::Arc;
use loom::thread;

const PERIOD: u32 = 10;

struct World {
    counter: FreqCtr,
    /// The process's date.
    date: AtomicU32,
}

impl World {
    /// At `date`, in a counter that began at 100.
    fn new(current: u32, previous: u32, date: u32) -> Arc<Self> {
        Arc::new(Self {
            counter: FreqCtr::with(Values {
                start: 100,
                current,
                previous,
            }),
            date: AtomicU32::new(date),
        })
    }

    /// One event, on a thread that believes in `near`.
    fn event(&self, near: u32) {
        self.counter.update(PERIOD, 1, Dates(near, &self.date));
    }
}

/// As the runtime's: the process's date is relaxed.
struct Dates<'a>(u32, &'a AtomicU32);

impl Clock for Dates<'_> {
    fn near(&self) -> Option<u32> {
        Some(self.0)
    }

    fn common(&self) -> u32 {
        self.1.load(Ordering::Relaxed)
    }
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 20_000;
    builder.check(f);
}

fn values(start: u32, current: u32, previous: u32) -> Values {
    Values {
        start,
        current,
        previous,
    }
}

/// One thread rotates, one adds by a date before the edge, one reads. The
/// event counts before the edge or after it; the reader sees an instant of
/// either period.
// SHOWS: INV-121, INV-122, STK-45, STK-49
#[test]
fn rotation_with_an_addition_and_a_reader() {
    model(|| {
        let w = World::new(5, 9, 110);
        let (a, b) = (w.clone(), w.clone());
        let rotates = thread::spawn(move || a.event(110));
        let adds = thread::spawn(move || b.event(109));
        let seen = w.counter.snapshot();
        assert!(
            [
                values(100, 5, 9),
                values(100, 6, 9),
                values(110, 1, 5),
                values(110, 1, 6),
                values(110, 2, 5),
            ]
            .contains(&seen),
            "{seen:?}"
        );
        rotates.join().unwrap();
        adds.join().unwrap();
        let end = w.counter.snapshot();
        assert!(
            [values(110, 1, 6), values(110, 2, 5)].contains(&end),
            "{end:?}"
        );
    });
}

/// Two threads come to the edge at once: one rotates.
// SHOWS: INV-121, STK-45
#[test]
fn an_edge_is_rotated_once() {
    model(|| {
        let w = World::new(5, 9, 110);
        let a = w.clone();
        let other = thread::spawn(move || a.event(110));
        w.event(110);
        other.join().unwrap();
        assert_eq!(w.counter.snapshot(), values(110, 2, 5));
    });
}

/// Passes two edges: a date is read from the clock, made the process's, and
/// the period is rotated by it.
fn go_ahead(w: &World) {
    w.event(110);
    w.date.fetch_max(120, Ordering::Relaxed);
    w.event(120);
}

/// A thread far behind comes meanwhile: nothing is lost, and neither edge is
/// rotated twice.
// SHOWS: INV-121, STK-47
#[test]
fn whoever_is_behind_follows() {
    model(|| {
        let w = World::new(5, 9, 110);
        let a = w.clone();
        let ahead = thread::spawn(move || go_ahead(&a));
        w.event(99);
        assert!(w.counter.glance().start >= 110, "added without an edge");
        ahead.join().unwrap();
        let end = w.counter.snapshot();
        assert!(
            [values(120, 1, 2), values(120, 2, 1)].contains(&end),
            "{end:?}"
        );
    });
}

/// The start never moves back, and is never after the process's date, though
/// that is relaxed.
// SHOWS: INV-120, STK-47
#[test]
fn the_start_only_advances() {
    model(|| {
        let w = World::new(5, 9, 110);
        let a = w.clone();
        let ahead = thread::spawn(move || go_ahead(&a));
        let first = w.counter.glance().start;
        assert!(first <= w.date.load(Ordering::Relaxed));
        let second = w.counter.glance().start;
        assert!(first <= second, "{first} and then {second}");
        assert!(second <= w.date.load(Ordering::Relaxed));
        ahead.join().unwrap();
    });
}

/// The same edge while two dates are about: one thread has the process's, one
/// has not seen it yet; readers get the date after the contents, so that the
/// window never lies before the period.
// SHOWS: INV-122, INV-123
#[test]
fn a_reader_is_not_before_the_period() {
    model(|| {
        let w = World::new(5, 9, 109);
        let a = w.clone();
        let other = thread::spawn(move || {
            a.date.fetch_max(111, Ordering::Relaxed);
            a.event(111);
        });
        let dates = Dates(109, &w.date);
        let total = w.counter.total(PERIOD, Some(0), dates);
        // At 109 and 111 before the rotation; after it.
        assert!(
            [9 + 50, 5 * 9, 5 * 9 + 10].contains(&total),
            "a total of {total}"
        );
        other.join().unwrap();
    });
}

/// Who sees the new period sees its counts (INV-122).
#[test]
fn a_snapshot_is_of_one_period() {
    model(|| {
        let w = World::new(5, 9, 110);
        let a = w.clone();
        let rotates = thread::spawn(move || {
            a.event(110);
            model_point();
        });
        model_point();
        let seen = w.counter.snapshot();
        assert!(
            [values(100, 5, 9), values(110, 1, 5)].contains(&seen),
            "{seen:?}"
        );
        rotates.join().unwrap();
    });
}
