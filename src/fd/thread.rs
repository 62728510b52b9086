//! What the table keeps for each thread id.

use super::poller::{Any, Event, Kind};
use super::slot::Generation;
use super::update::{ForeignSet, LocalQueue};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use core::ptr;

/// Reports taken from the kernel at a time; never 0 (INV-79).
// KEEPS: INV-79
pub(super) const MAX_EVENTS: usize = 256;

/// Stale registrations that a thread remembers, to tell a late report from
/// one that comes again and again.
pub(super) const SUSPECTS: usize = 4;

/// No event data: the runtime's own, which is never stale.
const NOBODY: u64 = u64::MAX;

/// What a thread's set holds for a number, in one word: the directions
/// and the life that they were asked for.
// KEEPS: INV-68
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Polled(pub(super) u32);

impl Polled {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const READ: u32 = 1;
    pub(super) const WRITE: u32 = 2;
    pub(super) const BOTH: u32 = Self::READ | Self::WRITE;
    /// The poller refuses it (a regular file): always ready, outside the set.
    pub(super) const FILE: u32 = 4;
    /// Changes only.
    pub(super) const EDGE: u32 = 8;
    const BITS: u32 = 15;
    const SHIFT: u32 = 4;

    /// `bits` for `life`; nothing at all where no direction is left.
    pub(super) const fn new(life: Generation, bits: u32) -> Self {
        if bits & Self::BOTH == 0 {
            Self::NOTHING
        } else {
            Self((life << Self::SHIFT) | bits)
        }
    }

    /// The bits, if they are `life`'s. Lives are compared modulo 2^28: a
    /// thread looks at every number again long before that many closes.
    pub(super) const fn bits_for(self, life: Generation) -> u32 {
        if self.0 >> Self::SHIFT == life & (u32::MAX >> Self::SHIFT) {
            self.0 & Self::BITS
        } else {
            0
        }
    }
}

/// A thread's counters since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Waits.
    pub polls: u64,
    /// Waits that returned reports.
    pub poll_io: u64,
    /// Waits whose time ran out.
    pub poll_exp: u64,
    /// Reports that nobody wanted.
    pub poll_spurious: u64,
    /// Reports and updates for a descriptor that was closed.
    pub poll_drop_fd: u64,
    /// Reports for a descriptor that is not this thread's.
    pub poll_skip_fd: u64,
    /// Reports of an earlier life of a number.
    pub poll_stale: u64,
    /// Times that the set was built anew.
    pub poll_rebuild: u64,
    /// Changes of the set.
    pub poll_ctl: u64,
    /// Descriptors that others had deleted and that this thread, their last
    /// user, closed.
    pub orphans: u64,
}

/// One counter: its thread writes, anybody reads.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn bump(&self) {
        let n = self.0.load(Ordering::Relaxed);
        self.0.store(n.wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The record of one thread id. Everything is the thread's own but `foreign`,
/// and `poller` and `polled`, which closers of CLONED descriptors use.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct ThreadPoll {
    /// Its set, closed while nobody runs under this id.
    pub(super) poller: Any,
    /// The runtime's own descriptor in the set, or -1.
    pub(super) internal: AtomicI32,
    pub(super) foreign: ForeignSet,
    pub(super) local: LocalQueue,
    /// One [`Polled`] per number.
    pub(super) polled: AtomicPtr<AtomicU32>,
    /// Some regular file is wanted: look for it after the kernel's reports.
    pub(super) files: AtomicBool,
    /// Between wait and the end of dispatch's loop: guards `events`.
    pub(super) busy: AtomicBool,
    pub(super) events: UnsafeCell<[Event; MAX_EVENTS]>,
    pub(super) suspects: [AtomicU64; SUSPECTS],
    pub(super) next_suspect: AtomicU32,
    pub(super) polls: Counter,
    pub(super) poll_io: Counter,
    pub(super) poll_exp: Counter,
    pub(super) poll_spurious: Counter,
    pub(super) poll_drop_fd: Counter,
    pub(super) poll_skip_fd: Counter,
    pub(super) poll_stale: Counter,
    pub(super) poll_rebuild: Counter,
    pub(super) poll_ctl: Counter,
    pub(super) orphans: Counter,
}

// SAFETY: `events` is used under `busy`; the rest is Sync by itself.
unsafe impl Sync for ThreadPoll {}

impl ThreadPoll {
    pub(super) fn new(kind: Kind, maxsock: usize, foreign: ForeignSet) -> Self {
        Self {
            poller: Any::new(kind, maxsock),
            internal: AtomicI32::new(-1),
            foreign,
            local: LocalQueue::new(maxsock),
            polled: AtomicPtr::new(ptr::null_mut()),
            files: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            events: UnsafeCell::new([Event { events: 0, u64: 0 }; MAX_EVENTS]),
            suspects: core::array::from_fn(|_| AtomicU64::new(NOBODY)),
            next_suspect: AtomicU32::new(0),
            polls: Counter::default(),
            poll_io: Counter::default(),
            poll_exp: Counter::default(),
            poll_spurious: Counter::default(),
            poll_drop_fd: Counter::default(),
            poll_skip_fd: Counter::default(),
            poll_stale: Counter::default(),
            poll_rebuild: Counter::default(),
            poll_ctl: Counter::default(),
            orphans: Counter::default(),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            polls: self.polls.get(),
            poll_io: self.poll_io.get(),
            poll_exp: self.poll_exp.get(),
            poll_spurious: self.poll_spurious.get(),
            poll_drop_fd: self.poll_drop_fd.get(),
            poll_skip_fd: self.poll_skip_fd.get(),
            poll_stale: self.poll_stale.get(),
            poll_rebuild: self.poll_rebuild.get(),
            poll_ctl: self.poll_ctl.get(),
            orphans: self.orphans.get(),
        }
    }

    /// True when the same stale report was seen before: it is no latecomer.
    pub(super) fn suspect(&self, data: u64) -> bool {
        if self
            .suspects
            .iter()
            .any(|s| s.load(Ordering::Relaxed) == data)
        {
            return true;
        }
        let at = self.next_suspect.load(Ordering::Relaxed);
        self.suspects[at as usize % SUSPECTS].store(data, Ordering::Relaxed);
        self.next_suspect
            .store(at.wrapping_add(1), Ordering::Relaxed);
        false
    }

    pub(super) fn acquit_all(&self) {
        for s in &self.suspects {
            s.store(NOBODY, Ordering::Relaxed);
        }
    }
}
