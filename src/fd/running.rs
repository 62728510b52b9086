//! Who may use a descriptor, and who closes it: the protocol on
//! `running_mask`, `thread_mask` and the MUST_CLOSE token.
//!
//! Nobody ever waits for a user of a descriptor. Deleting makes it an orphan
//! (`thread_mask` = 0: nobody new gets in); the last one out closes it.
//!
//! ```text
//!  FREE --arm--> OWNED --enter--> IN USE --leave--> OWNED
//!  OWNED --takeover--> OWNED by another
//!  OWNED | IN USE --orphan--> ORPHAN --claim, generation + 1--> CLOSING --reset--> FREE
//! ```
//!
//! Why it is right:
//! 1. `enter` sets its running bit, then looks at `thread_mask`; `orphan`
//!    zeroes `thread_mask`, grants the token, then does a read-modify-write
//!    on `running` (in `claim`). These are ordered by `running`'s
//!    modification order: either the entrant sees 0 and backs out, or
//!    `orphan` sees its bit and leaves the close to it (INV-61, 62).
//! 2. MUST_CLOSE and the generation share a word. `claim` reads it, finds
//!    `running` empty, and by compare-exchange on that very word clears the
//!    token and begins the next generation: so the same life was orphaned all
//!    along, nobody was inside at one moment of it and nobody could enter
//!    later, only one exchange succeeds, and nobody can grant the token of a
//!    life again once it was taken (INV-60). It does not matter who claims or
//!    how late: seeing "I am the last" is a reason to try, never the right to
//!    close (FD-3).
//! 3. Everybody who turns `running` to 0 tries to claim after having done
//!    so, and everybody who gives up does so because of a bit in `running`
//!    whose holder will try. So somebody closes.
//! 4. A deleter that is not inside must not touch the slot once others can
//!    close it: so it zeroes `thread_mask` before it grants the token, and
//!    grants it to the life that it was called for, or not at all.
//! 5. `takeover` marks itself in the state (TAKING) before it exchanges
//!    `running` 0 → me. An entrant whose bit came first makes the exchange
//!    fail; one that came later sees TAKING until `thread_mask` is rewritten,
//!    and waits for that. The taker waits for nobody and entrants that wait
//!    only wait for takers: no circle (INV-63, 64).

use super::flags::*;
use super::slot::{Generation, Iocb, Slot, bits, generation_of, state_of, word_of};
use crate::sync::atomic::Ordering;
use crate::sync::spin_hint;
use core::ffi::c_void;

/// The right and the duty to close one life of a number. There is one per
/// life; only [`Slot::claim`] makes it, only [`Slot::reset`] consumes it.
#[derive(Debug)]
#[must_use = "nobody else will close this descriptor"]
#[cfg_attr(model, allow(dead_code))] // the table, which has no model, reads it
pub struct Closing {
    /// The life that ends.
    pub(super) life: Generation,
    /// Its last state.
    pub(super) state: u32,
}

/// What [`Slot::enter`] answers.
#[derive(Debug)]
#[must_use]
pub enum Enter {
    /// Inside; the life is pinned until [`Slot::leave`].
    In(Generation),
    /// Inside already, by an outer call that will leave.
    Nested(Generation),
    /// The descriptor is not this thread's.
    NotMine,
    /// Not this thread's, and left to it to close.
    CloseNow(Closing),
}

/// What [`Slot::leave`] answers.
#[derive(Debug)]
#[must_use]
pub enum Leave {
    /// Out; the descriptor is still this thread's.
    Stay,
    /// Out; it went to others, or somebody will close it.
    Lost,
    /// This thread deleted it while inside: it may be anything by now.
    Gone,
    /// Out, and the last of an orphan.
    CloseNow(Closing),
}

/// What [`Slot::orphan`] answers.
#[derive(Debug)]
#[must_use]
pub enum Orphan {
    /// Nobody uses it: close now.
    CloseNow(Closing),
    /// Whoever leaves last closes it.
    Deferred,
    /// It was an orphan already: the caller's mistake.
    Twice,
}

/// What [`Slot::takeover`] answers.
#[derive(Debug)]
#[must_use]
pub enum Takeover {
    /// The descriptor is this thread's, nothing active.
    Won,
    /// Somebody uses it, or it is somebody else's: untouched.
    Lost,
    /// Lost to a deletion that the attempt made wait.
    CloseNow(Closing),
}

const MUST_CLOSE: u64 = bits(FD_MUST_CLOSE);
const TAKING: u64 = bits(FD_TAKING);
const ACTIVE: u64 = bits(FD_EV_ACTIVE_RW);

impl Slot {
    /// Begins a life. False where the slot is in use.
    // KEEPS: INV-85
    #[must_use]
    pub fn arm(&self, owner: *mut c_void, iocb: Option<Iocb>, thread_mask: u64) -> bool {
        // PAIRS: reset's Release. A load of its own, since ThreadSanitizer
        // checks an exchange for races before it lets it acquire, and users
        // read `owner` without atomics.
        // UNSEEN: the exchange orders the same.
        if !self.owner.load(Ordering::Acquire).is_null()
            || self
                .owner
                // PAIRS: as the load, for who is overtaken by a whole life.
                // UNSEEN: to models the load orders the same.
                .compare_exchange(
                    core::ptr::null_mut(),
                    owner,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_err()
        {
            return false;
        }
        self.set_iocb(iocb);
        // `running` is left alone: a thread with an old report may be about
        // to find out that it is late. So is update_mask (INV-66).
        let ready = word_of(self.generation(), FD_EV_READY_RW);
        // An exchange costs little here, and a late taker's are ordered with
        // it; of a store loom does not know that it comes after them.
        self.word.swap(ready, Ordering::Relaxed);
        // PAIRS: enter's Acquire load of thread_mask: whoever is allowed in
        // sees the fields above.
        self.thread_mask.store(thread_mask, Ordering::Release);
        true
    }

    /// Gets `tid` inside if the descriptor is its own. Waits only for a
    /// takeover that is half done.
    // KEEPS: INV-62, INV-64
    pub fn enter(&self, tid: usize) -> Enter {
        let me = 1u64 << tid;
        if self.thread_mask.load(Ordering::Relaxed) & me == 0 {
            return Enter::NotMine;
        }
        // PAIRS: orphan's and takeover's read-modify-writes of `running`:
        // what they wrote before, the loads below see.
        if self.running.fetch_or(me, Ordering::Acquire) & me != 0 {
            return Enter::Nested(self.generation());
        }
        loop {
            // TAKING before thread_mask: the taker rewrites thread_mask
            // before it drops TAKING.
            // PAIRS: takeover's Release of the word.
            let word = self.word.load(Ordering::Acquire);
            // PAIRS: arm's and takeover's Release.
            let allowed = self.thread_mask.load(Ordering::Acquire);
            if allowed & me == 0 {
                return match self.leave(tid) {
                    Leave::CloseNow(closing) => Enter::CloseNow(closing),
                    _ => Enter::NotMine,
                };
            }
            // The second condition is for C code that takes over by hand:
            // bit in running_mask first, thread_mask after it.
            let foreign = self.running.load(Ordering::Relaxed) & !allowed;
            if word & TAKING == 0 && foreign == 0 {
                // Not `word`'s, which may be the last of the life before. The
                // life whose thread_mask let us in is pinned, and arm()
                // released its generation together with the mask.
                return Enter::In(self.generation());
            }
            spin_hint();
        }
    }

    /// Takes `tid` out again.
    pub fn leave(&self, tid: usize) -> Leave {
        let me = 1u64 << tid;
        // PAIRS: Acquire with orphan's last read-modify-write of `running`:
        // who comes after it sees the token. Release with claim's: the
        // closer comes after everything that was done inside.
        let before = self.running.fetch_and(!me, Ordering::AcqRel);
        if before & me == 0 {
            return Leave::Gone;
        }
        if before == me {
            if let Some(closing) = self.claim() {
                return Leave::CloseNow(closing);
            }
        }
        // WINDOW(left-behind): the number may have begun another life; the answer is a
        // hint whose worst effect is one update too many.
        if self.thread_mask() & me == 0 {
            Leave::Lost
        } else {
            Leave::Stay
        }
    }

    /// Makes the descriptor an orphan. `tid`: the caller's own id if it has
    /// one; it leaves if it is inside.
    ///
    /// INV-65 has deleters set a running bit first. Here who is outside needs
    /// none (rule 4), so that threads without an id delete like all others
    /// and entrants never see a deleter.
    // KEEPS: INV-61, INV-65
    pub fn orphan(&self, tid: Option<usize>) -> Orphan {
        let mut word = self.word.load(Ordering::Relaxed);
        if word & MUST_CLOSE != 0 {
            return Orphan::Twice;
        }
        let life = generation_of(word);
        // Relaxed: the token, or claim's exchange of `running`, publishes it.
        self.thread_mask.store(0, Ordering::Relaxed);
        // Somebody who saw thread_mask at 0 may grant the token first
        // (clear_running), and it may be taken: then the life is over.
        while generation_of(word) == life && word & MUST_CLOSE == 0 {
            // PAIRS: claim's Acquire: thread_mask is 0 for who sees the token.
            match self.word.compare_exchange_weak(
                word,
                word | MUST_CLOSE,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if let Some(tid) = tid {
            let me = 1u64 << tid;
            if self.running_mask() & me != 0 {
                // PAIRS: claim's on `running`: the closer comes after what was
                // done inside.
                // UNSEEN: the token does the same, but where clear_running
                // granted it.
                self.running.fetch_and(!me, Ordering::Release);
            }
        }
        match self.claim() {
            Some(closing) => Orphan::CloseNow(closing),
            None => Orphan::Deferred,
        }
    }

    /// Takes the token if the descriptor is an orphan that nobody uses:
    /// rule 2 above. Anybody may try at any time.
    // KEEPS: INV-60
    pub fn claim(&self) -> Option<Closing> {
        // PAIRS: the Release of whoever granted the token. The look at `running`
        // must not come before this one.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & MUST_CLOSE == 0 {
                return None;
            }
            // A read-modify-write, since it must not miss the last bit set.
            // PAIRS: enter's, leave's and orphan's on `running`. Acquire:
            // what users did inside; Release: late entrants see thread_mask
            // at 0.
            if self.running.fetch_or(0, Ordering::AcqRel) != 0 {
                return None;
            }
            let life = generation_of(word);
            // PAIRS: as the load above. Relaxed where it succeeds: reset publishes.
            match self.word.compare_exchange_weak(
                word,
                word_of(life.wrapping_add(1), 0),
                Ordering::Relaxed,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    let state = state_of(word);
                    return Some(Closing { life, state });
                }
                Err(now) => word = now,
            }
        }
    }

    /// Frees the slot. `close()` comes after it.
    pub fn reset(&self, _closing: Closing) {
        self.set_iocb(None);
        // PAIRS: arm's Acquire.
        self.owner.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// Makes an idle descriptor `tid`'s own, nothing active. The caller's own
    /// lock keeps it from being deleted meanwhile.
    // KEEPS: INV-63
    pub fn takeover(&self, tid: usize, expected_owner: *mut c_void) -> Takeover {
        let me = 1u64 << tid;
        if self.owner() != expected_owner || self.running_mask() != 0 {
            return Takeover::Lost;
        }
        let mut word = self.word.load(Ordering::Relaxed);
        let life = generation_of(word);
        loop {
            if word & (MUST_CLOSE | TAKING) != 0 || generation_of(word) != life {
                return Takeover::Lost;
            }
            // Relaxed: the exchange of `running` below publishes it.
            match self.word.compare_exchange_weak(
                word,
                word | TAKING,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // PAIRS: enter's read-modify-write: an entrant after this exchange
        // sees TAKING. leave's and claim's Release: what the last user did, and a
        // thread_mask at 0.
        // UNSEEN (acquire): for the former leave below does the same; the latter shows in no
        // model of as few interruptions as these.
        if self
            .running
            .compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            self.end_takeover(life, 0);
            return Takeover::Lost;
        }
        // Now the life is pinned; is it still the one that was meant? First
        // thread_mask: it is 0, or of the pinned life, whose owner is seen
        // with it.
        // PAIRS: arm's Release.
        let owned = self.thread_mask.load(Ordering::Acquire) != 0;
        // Relaxed: what a claim wrote is seen with the thread_mask of a later life.
        word = self.word.load(Ordering::Relaxed);
        let won = owned
            && self.owner() == expected_owner
            && generation_of(word) == life
            && word & (MUST_CLOSE | TAKING) == TAKING;
        if won {
            // Relaxed: it is seen without TAKING.
            self.thread_mask.store(me, Ordering::Relaxed);
            self.end_takeover(life, ACTIVE);
        } else {
            self.end_takeover(life, 0);
        }
        match self.leave(tid) {
            Leave::CloseNow(closing) => Takeover::CloseNow(closing),
            _ if won => Takeover::Won,
            _ => Takeover::Lost,
        }
    }

    /// Drops TAKING, with the bits of `also`, unless the life is over.
    fn end_takeover(&self, life: Generation, also: u64) {
        let mut word = self.word.load(Ordering::Relaxed);
        while generation_of(word) == life && word & TAKING != 0 {
            // PAIRS: enter's Acquire of the word: without TAKING, the new
            // thread_mask.
            match self.word.compare_exchange_weak(
                word,
                word & !(TAKING | also),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// `leave` for code that drives the masks itself: the mask that remains.
    /// Such code calls for the close where it sees 0 and no thread_mask; who
    /// zeroed thread_mask by hand gets the token granted here, while the
    /// caller's bit still pins the life.
    pub fn clear_running(&self, tid: usize) -> u64 {
        let me = 1u64 << tid;
        if self.running_mask() & me != 0
            && self.thread_mask() == 0
            && state_of(self.word.load(Ordering::Relaxed)) & FD_MUST_CLOSE == 0
            && !self.owner().is_null()
        {
            // PAIRS: claim's Acquire.
            // UNSEEN: leaving, below, orders the same.
            self.word.fetch_or(MUST_CLOSE, Ordering::Release);
        }
        // PAIRS: as in leave().
        self.running.fetch_and(!me, Ordering::AcqRel) & !me
    }

    /// For the child of a fork: of all threads only `tid`, if any, lives on.
    pub fn forget_others(&self, tid: Option<usize>) -> Option<Closing> {
        let me = tid.map_or(0, |tid| 1u64 << tid);
        self.running.fetch_and(me, Ordering::Relaxed);
        self.end_takeover(self.generation(), 0);
        self.claim()
    }
}
