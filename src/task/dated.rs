//! A shared task's date against everybody who may change it: the handler, the
//! end of its run, those who schedule it from outside, and the scan of its
//! wait queue.
//!
//! The date belongs to whoever holds RUNNING, and it is filed before RUNNING
//! is dropped (INV-39, INV-40): so a date and its place in a queue are one
//! act. Who cannot get RUNNING leaves a request, and files the place at once;
//! whoever holds RUNNING next folds the request into the date. A place may be
//! too early then, never too late.

use super::request::Request;
use super::state::{Dropped, Hold, State};
use super::tick;
use crate::sync::atomic::{AtomicI32, Ordering};

/// The words that decide when a task runs.
#[derive(Clone, Copy)]
pub struct Dated<'a> {
    /// Who holds it.
    pub state: &'a State,
    /// The date that the handler sees and sets.
    pub expire: &'a AtomicI32,
    /// What others asked for.
    pub request: &'a Request,
}

/// What the scan is to do with a place whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The handler runs, or it was killed: come again soon.
    Keep,
    /// The date was moved: file it there.
    Move(i32),
    /// There is no date, or it has come: take the place out of its queue.
    Leave,
}

impl Dated<'_> {
    /// Folds what others asked for into the date. The caller holds RUNNING.
    #[inline]
    pub fn fold(&self) -> i32 {
        let mut date = self.expire.load(Ordering::Relaxed);
        if let Some(when) = self.request.take() {
            date = tick::first(date, when);
            self.expire.store(date, Ordering::Relaxed);
        }
        date
    }

    /// Makes it run at `when` at the latest, from any thread. `queued` says
    /// whether it waits for its present date, which counts then; otherwise
    /// that is a date of the past. `file` files a place, where there is none
    /// that is earlier. Never waits.
    // KEEPS: INV-39, INV-57
    pub fn bring_forward(
        &self,
        when: i32,
        queued: impl FnOnce() -> bool,
        file: impl FnOnce(i32),
    ) -> Dropped {
        match self.state.hold_timer() {
            Hold::Held => {
                // A request counts in any case: its place may not be filed yet.
                let mut date = tick::first(when, self.request.take().unwrap_or(tick::ETERNITY));
                if queued() {
                    date = tick::first(date, self.expire.load(Ordering::Relaxed));
                }
                self.expire.store(date, Ordering::Relaxed);
                file(date);
                self.state.drop_running(0)
            }
            Hold::Busy => {
                // Whoever holds RUNNING may have folded earlier requests in
                // already; this one counts for the next holder.
                self.request.bring_forward(when);
                file(when);
                Dropped::Idle
            }
        }
    }

    /// Takes back what was asked for, from any thread; a run that goes on may
    /// have seen it. `unlink` takes the place out: first, since a place
    /// without a request is put right by the scan, while a request that keeps
    /// no place would come back with the next date.
    #[inline]
    pub fn cancel(&self, unlink: impl FnOnce()) {
        unlink();
        let _ = self.request.take();
    }

    /// Ends a run: files the next date, then lets go. The caller holds RUNNING.
    // KEEPS: INV-39, INV-40
    #[inline]
    pub fn end_run(&self, file: impl FnOnce(i32)) -> Dropped {
        let date = self.fold();
        if date != tick::ETERNITY {
            file(date);
        }
        self.state.drop_running(0)
    }

    /// The scan has come to the task's place. `due` says whether a date has
    /// come; `place` does what it is told, under the queue's lock, while
    /// RUNNING is held. `why` is the reason of the wake-up, if it comes to
    /// that. Returns what the end owes, and whether the date had come.
    // KEEPS: INV-41
    pub fn look(
        &self,
        why: u32,
        due: impl FnOnce(i32) -> bool,
        place: impl FnOnce(Place),
    ) -> (Dropped, bool) {
        match self.state.hold_timer() {
            Hold::Busy => {
                // WINDOW(run-end-files): the run's end will file its date, but may have
                // looked at this place already and found it early enough; so
                // the place must stay until the scan gets hold of the task.
                place(Place::Keep);
                (Dropped::Idle, false)
            }
            Hold::Held => {
                let date = self.fold();
                if date == tick::ETERNITY {
                    place(Place::Leave);
                    (self.state.drop_running(0), false)
                } else if due(date) {
                    place(Place::Leave);
                    (self.state.drop_running(why), true)
                } else {
                    place(Place::Move(date));
                    (self.state.drop_running(0), false)
                }
            }
        }
    }
}
