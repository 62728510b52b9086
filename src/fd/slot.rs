//! One entry of the table: what a descriptor number is used for just now.

use super::flags::*;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use core::ffi::{c_int, c_void};
use core::mem::{offset_of, transmute};
use core::ptr;

/// What runs when something happens to a descriptor.
pub type Iocb = unsafe extern "C" fn(fd: c_int);

/// How often a number was closed: tells its lives apart.
pub type Generation = u32;

/// `struct fdtab` of the C face; exactly one cache line.
///
/// State and generation share one word, so that a transition of the state
/// can insist on the life that it was meant for. C sees the state's half as
/// an `unsigned int` of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// Threads inside code that uses the descriptor. `running.rs` alone
    /// touches it.
    pub(super) running: AtomicU64,
    /// Threads allowed to handle it; 0: free or orphan. `running.rs` alone
    /// writes it.
    pub(super) thread_mask: AtomicU64,
    /// Threads that have an update of it queued. `update.rs` alone writes it.
    pub(super) update_mask: AtomicU64,
    pub(super) iocb: AtomicPtr<c_void>,
    pub(super) owner: AtomicPtr<c_void>,
    /// State in the half that C sees first, generation in the other.
    // KEEPS: INV-69
    pub(super) word: AtomicU64,
    _spare: [u64; 2],
}

#[cfg(target_endian = "little")]
const STATE_SHIFT: u32 = 0;
#[cfg(target_endian = "big")]
const STATE_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 32 - STATE_SHIFT;

/// The word's bits for `state`.
pub(super) const fn bits(state: u32) -> u64 {
    (state as u64) << STATE_SHIFT
}

/// The state in `word`.
pub(super) const fn state_of(word: u64) -> u32 {
    (word >> STATE_SHIFT) as u32
}

/// The generation in `word`.
pub(super) const fn generation_of(word: u64) -> Generation {
    (word >> GENERATION_SHIFT) as u32
}

/// A whole word.
pub(super) const fn word_of(generation: Generation, state: u32) -> u64 {
    ((generation as u64) << GENERATION_SHIFT) | bits(state)
}

impl Slot {
    /// Where C finds running_mask, thread_mask, update_mask, iocb, owner and
    /// the word.
    pub const OFFSETS: [usize; 6] = [
        offset_of!(Slot, running),
        offset_of!(Slot, thread_mask),
        offset_of!(Slot, update_mask),
        offset_of!(Slot, iocb),
        offset_of!(Slot, owner),
        offset_of!(Slot, word),
    ];

    /// A free slot.
    #[cfg(model)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            running: AtomicU64::new(0),
            thread_mask: AtomicU64::new(0),
            update_mask: AtomicU64::new(0),
            iocb: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicPtr::new(ptr::null_mut()),
            word: AtomicU64::new(0),
            _spare: [0; 2],
        }
    }

    /// What C code does that drives the masks itself.
    #[cfg(model)]
    pub fn set_thread_mask(&self, mask: u64) {
        self.thread_mask.store(mask, Ordering::SeqCst);
    }

    /// The state bits.
    #[inline]
    pub fn state(&self) -> u32 {
        state_of(self.word.load(Ordering::Relaxed))
    }

    /// Which life of the number this is.
    #[inline]
    pub fn generation(&self) -> Generation {
        generation_of(self.word.load(Ordering::Relaxed))
    }

    /// Threads allowed to handle the descriptor.
    #[inline]
    pub fn thread_mask(&self) -> u64 {
        self.thread_mask.load(Ordering::Relaxed)
    }

    /// Threads that use the descriptor now.
    #[inline]
    pub fn running_mask(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Threads that have an update of it queued.
    #[inline]
    pub fn update_mask(&self) -> u64 {
        self.update_mask.load(Ordering::Relaxed)
    }

    /// The caller's object; NULL where the slot is free.
    #[inline]
    pub fn owner(&self) -> *mut c_void {
        self.owner.load(Ordering::Relaxed)
    }

    /// The callback.
    #[inline]
    pub fn iocb(&self) -> Option<Iocb> {
        let p = self.iocb.load(Ordering::Relaxed);
        // SAFETY: only `set_iocb` and C code that sees an `Iocb` there write
        // the field; None and NULL are the same.
        unsafe { transmute::<*mut c_void, Option<Iocb>>(p) }
    }

    pub(super) fn set_iocb(&self, iocb: Option<Iocb>) {
        let p = iocb.map_or(ptr::null_mut(), |f| f as *mut c_void);
        self.iocb.store(p, Ordering::Relaxed);
    }

    /// Sets state bits; their values before. Writes nothing when all are set
    /// already (INV-87).
    // KEEPS: INV-87
    #[inline]
    pub fn raise(&self, state: u32) -> u32 {
        let now = self.state();
        if now & state == state {
            return now & state;
        }
        // PAIRS: the Acquire loads of the word: polling.rs, program(), and
        // running.rs. Release: what the caller wrote before wanting events.
        // UNSEEN: updates order the same; here for who is told by the state alone.
        state_of(self.word.fetch_or(bits(state), Ordering::AcqRel)) & state
    }

    /// Clears state bits. Writes nothing when none is set (INV-87).
    // KEEPS: INV-87
    #[inline]
    pub fn lower(&self, state: u32) {
        if self.state() & state != 0 {
            // PAIRS, UNSEEN: as in raise().
            self.word.fetch_and(!bits(state), Ordering::AcqRel);
        }
    }

    /// Makes the bits READY only where neither ACTIVE nor READY is set.
    pub fn raise_if_idle(&self, ready: u32, active: u32) {
        let mut word = self.word.load(Ordering::Relaxed);
        while state_of(word) & (ready | active) == 0 {
            // PAIRS, UNSEEN: as in raise().
            match self.word.compare_exchange_weak(
                word,
                word | bits(ready),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Files a report in the state (INV-69, 70): the state after it.
    // KEEPS: INV-69, INV-70, INV-81
    pub fn record(&self, evts: u32) -> u32 {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let state = state_of(word);
            let mut new = 0;
            if evts & FD_EV_READY_R != 0 {
                new |= FD_POLL_IN;
            }
            if evts & FD_EV_READY_W != 0 {
                new |= FD_POLL_OUT;
            }
            if evts & FD_EV_SHUT_R != 0 {
                new |= FD_POLL_HUP;
            }
            // A shut sending side is an error only to who wants to send
            // (INV-81): it may be our own shutdown().
            if evts & FD_EV_ERR_RW != 0 || (evts & FD_EV_SHUT_W != 0 && state & FD_EV_ACTIVE_W != 0)
            {
                new |= FD_POLL_ERR;
            }
            if new & (FD_POLL_IN | FD_POLL_HUP | FD_POLL_ERR) != 0 {
                new |= FD_EV_READY_R;
            }
            if new & (FD_POLL_OUT | FD_POLL_ERR) != 0 {
                new |= FD_EV_READY_W;
            }
            let after = (state & !FD_POLL_UPDT_MASK) | new;
            if after == state {
                return state;
            }
            // PAIRS, UNSEEN: as in raise().
            match self.word.compare_exchange_weak(
                word,
                word_of(generation_of(word), after),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return after,
                Err(now) => word = now,
            }
        }
    }
}

// KEEPS: INV-83
#[cfg(not(model))]
const _: () = assert!(size_of::<Slot>() == 64 && align_of::<Slot>() == 64);
