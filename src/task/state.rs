//! The state word: every transition of a task's life, and nobody else
//! touches it.
//!
//! QUEUED is a ticket (INV-33): whoever's transition set it, and nobody else,
//! links the item into a queue; only the thread that unlinked it clears it,
//! by starting the run. RUNNING is held by the thread that executes the
//! handler or, for a few instructions, by one that examines the timer.
//! Memory may be freed only by whoever holds one of the two (INV-34).

use super::flags::*;
use crate::sync::atomic::{AtomicU32, Ordering};

/// A task's or tasklet's state word. Users read it through the C struct.
#[derive(Debug)]
#[repr(transparent)]
pub struct State(AtomicU32);

/// What a wake-up owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wakeup {
    /// The ticket is the caller's: insert the item into a queue.
    Insert,
    /// The reasons were left for a run to come; nothing to do.
    Noted,
}

/// What the start of a run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begin {
    /// RUNNING is the caller's; the state before, with all reasons.
    Run(u32),
    /// The same, but the item is to be freed instead of run.
    Free,
    /// Another thread holds RUNNING: queue the item again.
    Busy,
}

/// What the end of a run, or of a look at the timer, owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Dropped {
    /// Nothing; the item must not be touched any more.
    Idle,
    /// The ticket is the caller's: insert the item into a queue.
    Insert,
}

/// What a kill owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Kill {
    /// The item was idle; the ticket and with it the item are the caller's.
    Owned,
    /// The scheduler frees it when it meets it.
    Deferred,
}

/// The answer to a request to examine the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Hold {
    /// RUNNING is the caller's; [`State::drop_running`] ends it.
    Held,
    /// The handler runs, somebody else looks at the timer, or it was killed.
    Busy,
}

/// What taking a ticket back found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Unqueued {
    /// The item is in no queue any more.
    Out,
    /// It was killed, and the scheduler has to meet it: link it again.
    Killed,
}

impl State {
    /// An idle item with these persistent flags.
    #[cfg(not(model))]
    pub const fn new(flags: u32) -> Self {
        Self(AtomicU32::new(flags))
    }

    /// An idle item with these persistent flags.
    #[cfg(model)]
    pub fn new(flags: u32) -> Self {
        Self(AtomicU32::new(flags))
    }

    /// The flags now; stale at once unless the caller holds the item.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets persistent flags (SHARED_WQ, SELF_WAKING, HEAVY, USR1).
    #[inline]
    pub fn set(&self, flags: u32) {
        debug_assert_eq!(flags & !PERSISTENT, 0);
        self.0.fetch_or(flags, Ordering::Relaxed);
    }

    // Applies `change` to the word atomically; `change` returns the new word
    // and the answer, or only an answer where nothing is to be written.
    // KEEPS: INV-31
    #[inline]
    fn update<R>(&self, change: impl Fn(u32) -> (Option<u32>, R)) -> R {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let (new, answer) = change(old);
            let Some(new) = new else { return answer };
            // PAIRS: every other transition of this word. Release hands on
            // what the caller wrote before (INV-31: a run sees all that
            // preceded its wake-up), Acquire takes what the last holder
            // wrote; the word is the item's only lock.
            match self
                .0
                .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return answer,
                Err(now) => old = now,
            }
        }
    }

    /// A task's wake-up: adds `why`. A running task is queued again by the
    /// end of its run.
    // KEEPS: INV-31, INV-33
    #[inline]
    pub fn wakeup(&self, why: u32) -> Wakeup {
        self.update(|old| {
            if old & (RUNNING | QUEUED) == 0 {
                (Some(old | why | QUEUED), Wakeup::Insert)
            } else {
                // Written even where no bit changes: the run that consumes
                // the bits must see what the caller wrote before (INV-31).
                (Some(old | why), Wakeup::Noted)
            }
        })
    }

    /// A tasklet's wake-up: as for tasks, but a running tasklet is queued at
    /// once, since only the caller knows on which thread.
    // KEEPS: INV-31, INV-33
    #[inline]
    pub fn wakeup_tasklet(&self, why: u32) -> Wakeup {
        self.update(|old| {
            if old & QUEUED == 0 {
                (Some(old | why | QUEUED), Wakeup::Insert)
            } else {
                (Some(old | why), Wakeup::Noted)
            }
        })
    }

    /// Starts the run of an item that the caller has unlinked (INV-49: one
    /// step consumes all reasons and loses no persistent flag).
    // KEEPS: INV-30, INV-32, INV-49
    #[inline]
    pub fn begin_run(&self) -> Begin {
        self.update(|old| {
            if old & RUNNING != 0 {
                (None, Begin::Busy)
            } else if old & KILLED != 0 {
                (Some(old & PERSISTENT | RUNNING), Begin::Free)
            } else {
                (Some(old & PERSISTENT | RUNNING), Begin::Run(old))
            }
        })
    }

    /// The same for a tasklet that nobody runs: see [`super::occupied`].
    // KEEPS: INV-32, INV-49
    #[inline]
    pub fn begin_tasklet(&self) -> Begin {
        // PAIRS: as in update.
        let old = self.0.fetch_and(PERSISTENT, Ordering::AcqRel);
        if old & KILLED != 0 {
            Begin::Free
        } else {
            Begin::Run(old)
        }
    }

    /// Whether the running item was killed meanwhile: the caller, who holds
    /// RUNNING, then frees it.
    #[inline]
    pub fn killed(&self) -> bool {
        // PAIRS: kill's Release: what the killer did with the item comes
        // before its end.
        self.0.load(Ordering::Acquire) & KILLED != 0
    }

    /// Ends what RUNNING protected and adds `why`. Reasons that arrived
    /// meanwhile, and a kill, become a ticket.
    // KEEPS: INV-31, INV-41
    #[inline]
    pub fn drop_running(&self, why: u32) -> Dropped {
        self.update(|old| {
            let new = (old | why) & !RUNNING;
            if new & QUEUED == 0 && new & (WOKEN_ANY | KILLED) != 0 {
                (Some(new | QUEUED), Dropped::Insert)
            } else {
                (Some(new), Dropped::Idle)
            }
        })
    }

    /// Marks the item for freeing. An idle one becomes the caller's, by its
    /// ticket; KILLED and QUEUED are set together so that nobody can queue it
    /// in between.
    // KEEPS: INV-34, INV-48
    #[inline]
    pub fn kill(&self) -> Kill {
        self.update(|old| {
            if old & (RUNNING | QUEUED) == 0 {
                (Some(old | KILLED | QUEUED), Kill::Owned)
            } else {
                (Some(old | KILLED), Kill::Deferred)
            }
        })
    }

    /// Takes RUNNING for a few instructions, to read and write the timer. Never waits. A killed item is left alone: its
    /// killer may be about to free it.
    // KEEPS: INV-39, INV-57
    #[inline]
    pub fn hold_timer(&self) -> Hold {
        self.update(|old| {
            if old & (RUNNING | KILLED) != 0 {
                (None, Hold::Busy)
            } else {
                (Some(old | RUNNING), Hold::Held)
            }
        })
    }

    /// Whether a run is still to begin that sees what the caller wrote before.
    /// A load could be ahead of those writes: the run would have begun
    /// meanwhile on another thread, and missed them.
    #[inline]
    #[must_use]
    pub fn still_queued(&self) -> bool {
        self.update(|old| {
            if old & QUEUED == 0 {
                (None, false)
            } else {
                (Some(old), true)
            }
        })
    }

    /// Takes back the ticket of an item that its owner has just unlinked
    /// from a queue without running it, and the reasons with it: left behind,
    /// they would become a run as soon as somebody looks at the timer.
    #[inline]
    pub fn unqueue(&self) -> Unqueued {
        self.update(|old| {
            if old & KILLED != 0 {
                (None, Unqueued::Killed)
            } else {
                (Some(old & !(QUEUED | WOKEN_ANY)), Unqueued::Out)
            }
        })
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    // SHOWS: INV-32, INV-49
    #[test]
    fn idle_wakeup_gives_one_ticket_and_keeps_all_reasons() {
        let s = State::new(SHARED_WQ);
        assert_eq!(s.wakeup(WOKEN_TIMER), Wakeup::Insert);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Noted);
        assert_eq!(
            s.begin_run(),
            Begin::Run(SHARED_WQ | QUEUED | WOKEN_TIMER | WOKEN_OTHER)
        );
        assert_eq!(s.get(), SHARED_WQ | RUNNING);
    }

    // SHOWS: INV-31
    #[test]
    fn wakeup_while_running_is_queued_by_the_end_of_the_run() {
        let s = State::new(0);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Insert);
        assert!(matches!(s.begin_run(), Begin::Run(_)));
        assert_eq!(s.wakeup(WOKEN_TIMER), Wakeup::Noted);
        assert_eq!(s.drop_running(0), Dropped::Insert);
        assert_eq!(s.get(), QUEUED | WOKEN_TIMER);
    }

    // SHOWS: INV-41
    #[test]
    fn a_held_timer_turns_a_kill_into_a_ticket() {
        let s = State::new(0);
        assert_eq!(s.hold_timer(), Hold::Held);
        assert_eq!(s.hold_timer(), Hold::Busy);
        assert_eq!(s.kill(), Kill::Deferred);
        assert_eq!(s.drop_running(0), Dropped::Insert);
        assert_eq!(s.begin_run(), Begin::Free);
    }

    #[test]
    fn a_held_timer_does_not_lose_an_existing_ticket() {
        let s = State::new(0);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Insert);
        assert_eq!(s.hold_timer(), Hold::Held);
        assert_eq!(s.begin_run(), Begin::Busy);
        assert_eq!(s.drop_running(WOKEN_TIMER), Dropped::Idle);
        assert_eq!(
            s.begin_run(),
            Begin::Run(QUEUED | WOKEN_OTHER | WOKEN_TIMER)
        );
    }

    // SHOWS: INV-34
    #[test]
    fn kill_of_an_idle_item_owns_it() {
        let s = State::new(0);
        assert_eq!(s.kill(), Kill::Owned);
        assert_eq!(s.hold_timer(), Hold::Busy);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Noted);
    }

    #[test]
    fn a_running_tasklet_is_queued_at_once() {
        let s = State::new(F_TASKLET);
        let occupied = crate::task::occupied::Occupied::new();
        assert_eq!(s.wakeup_tasklet(WOKEN_OTHER), Wakeup::Insert);
        assert!(matches!(occupied.begin(&s), Begin::Run(_)));
        assert_eq!(s.wakeup_tasklet(WOKEN_OTHER), Wakeup::Insert);
        assert_eq!(occupied.begin(&s), Begin::Busy);
        occupied.end();
        assert!(matches!(occupied.begin(&s), Begin::Run(_)));
        assert_eq!(s.kill(), Kill::Owned);
        occupied.end();
        assert_eq!(occupied.begin(&s), Begin::Free);
    }

    #[test]
    fn a_ticket_goes_back_with_its_reasons() {
        let s = State::new(SHARED_WQ);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Insert);
        assert_eq!(s.unqueue(), Unqueued::Out);
        assert_eq!(s.get(), SHARED_WQ);
        assert_eq!(s.wakeup(WOKEN_OTHER), Wakeup::Insert);
        assert_eq!(s.kill(), Kill::Deferred);
        assert_eq!(s.unqueue(), Unqueued::Killed);
        assert_eq!(s.begin_run(), Begin::Free);
    }
}
