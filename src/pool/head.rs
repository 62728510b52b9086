//! One pool.

use super::buckets::Buckets;
use super::cache::Cache;
use super::requests::Requests;
use super::{MAX_THREADS, need};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::ffi::c_char;
use core::mem::offset_of;
use core::ptr;

/// A pool. The first five fields are C's `struct pool_head`; the user may set
/// `minavail` and `limit` at any time.
// KEEPS: INV-20
#[repr(C, align(64))]
pub struct Head {
    pub(super) name: [c_char; 12],
    pub(super) size: AtomicU32,
    pub(super) align: AtomicU32,
    pub(super) minavail: AtomicU32,
    pub(super) limit: AtomicU32,

    // What every operation reads and nothing changes after the first one.
    /// Debugging words in force, fixed at creation.
    pub(super) debug: u32,
    /// Bytes that an object counts for in a cache.
    pub(super) weight: AtomicU32,
    /// Bytes asked from the system for an object.
    pub(super) real: AtomicU32,
    pub(super) cluster: AtomicU32,
    pub(super) slots: AtomicU32,
    pub(super) mem_flags: u32,
    /// Buckets in use, a power of two; never becomes less.
    pub(super) buckets: AtomicU32,
    pub(super) poison: u8,
    pub(super) frozen: AtomicBool,

    pub(super) counters: Counters,
    pub(super) shared: Buckets,
    /// The last pattern of the word `integrity`.
    pub(super) pattern: AtomicUsize,
    /// Under the registry's lock.
    pub(super) links: UnsafeCell<Links>,
    pub(super) cache: [Cache; MAX_THREADS],
}

const _: () = assert!(offset_of!(Head, name) == 0);
const _: () = assert!(offset_of!(Head, size) == 12);
const _: () = assert!(offset_of!(Head, align) == 16);
const _: () = assert!(offset_of!(Head, minavail) == 20);
const _: () = assert!(offset_of!(Head, limit) == 24);
const _: () = assert!(offset_of!(Head, counters) == 64);

// SAFETY: see mod.rs: caches belong to their threads, links to the holder of
// the registry's lock, the rest is atomic or constant.
unsafe impl Sync for Head {}

/// See mod.rs for what these count; `used` is in the buckets.
#[repr(C, align(64))]
pub(super) struct Counters {
    pub(super) allocated: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) needed: AtomicU64,
}

/// A pool's place in the registry.
pub(super) struct Links {
    pub(super) next: *mut Head,
    /// How often it was created and not destroyed; 0: gone, waiting for the
    /// last pin.
    pub(super) users: u32,
    /// Threads at work on it that found it in the list.
    pub(super) pins: u32,
    /// It grew while pinned, and is to move to its place in the list.
    pub(super) misplaced: bool,
    pub(super) requests: Requests,
}

impl Links {
    /// Those of a pool that is in no list.
    pub(super) const NONE: Self = Self {
        next: ptr::null_mut(),
        users: 0,
        pins: 0,
        misplaced: false,
        requests: Requests::NONE,
    };
}

/// A pool's figures; exact when no thread is inside the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Objects obtained from the system and not given back.
    pub allocated: u64,
    /// Objects in callers' hands.
    pub used: u64,
    /// Free objects, in caches and in the shared list.
    pub cached: u64,
    /// Refused allocations.
    pub failed: u64,
    /// Bytes behind `allocated`.
    pub bytes: u64,
}

impl Head {
    /// Bytes that the user may write in an object.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        self.size.load(Ordering::Relaxed)
    }

    /// The alignment of objects.
    pub fn align(&self) -> u32 {
        self.align.load(Ordering::Relaxed)
    }

    /// The floor under which free objects are not given to the system.
    pub fn minavail(&self) -> u32 {
        self.minavail.load(Ordering::Relaxed)
    }

    /// Sets the floor.
    pub fn set_minavail(&self, objects: u32) {
        self.minavail.store(objects, Ordering::Relaxed);
    }

    /// The most objects that the pool may obtain; 0: no limit.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit.
    pub fn set_limit(&self, objects: u32) {
        self.limit.store(objects, Ordering::Relaxed);
    }

    /// The name, in characters that are fit to print.
    pub fn name(&self) -> Name {
        Name(self.name)
    }

    /// Objects in the cache of thread `tid`.
    pub fn cached_by(&self, tid: usize) -> u32 {
        self.cache[tid].len()
    }

    /// Objects in the caches of all threads.
    pub(super) fn cached_by_all(&self) -> u64 {
        self.cache.iter().map(|c| u64::from(c.len())).sum()
    }

    #[inline(always)]
    pub(super) fn has(&self, word: u32) -> bool {
        self.debug & word != 0
    }

    /// How many objects move between a cache and the shared list at once.
    #[inline(always)]
    pub(super) fn cluster(&self) -> usize {
        self.cluster.load(Ordering::Relaxed) as usize
    }

    /// Pointers that fit behind the links of a free object.
    #[inline(always)]
    pub(super) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed) as usize
    }

    /// How many buckets the pool has.
    pub(super) fn buckets(&self) -> usize {
        self.buckets.load(Ordering::Relaxed) as usize
    }

    /// `allocated` and `used`, read one after the other.
    pub(super) fn snapshot(&self) -> (u64, u64) {
        (
            self.counters.allocated.load(Ordering::Relaxed),
            self.shared.used(self.buckets()),
        )
    }

    /// Objects in the shared list.
    pub(super) fn shared_len(&self) -> u64 {
        let (allocated, used) = self.snapshot();
        allocated.saturating_sub(used)
    }

    /// The average number of objects in use.
    pub(super) fn needed_avg(&self) -> u64 {
        need::average(self.counters.needed.load(Ordering::Relaxed))
    }

    /// Adds `weight` samples of `used` to the average. One attempt: a sample
    /// lost to another thread's is no loss.
    pub(super) fn feed_need(&self, used: u64, weight: u64) {
        let sum = self.counters.needed.load(Ordering::Relaxed);
        let new = need::feed(sum, used, weight);
        // Where the need does not change, nor does the cache line.
        if new != sum {
            let (relaxed, needed) = (Ordering::Relaxed, &self.counters.needed);
            let _ = needed.compare_exchange(sum, new, relaxed, relaxed);
        }
    }

    /// The pool's figures.
    pub fn stats(&self) -> Stats {
        let (allocated, used) = self.snapshot();
        let live = used.min(allocated).saturating_sub(self.cached_by_all());
        Stats {
            allocated,
            used: live,
            cached: allocated - live,
            failed: self.counters.failed.load(Ordering::Relaxed),
            bytes: allocated * u64::from(self.real.load(Ordering::Relaxed)),
        }
    }
}

impl core::fmt::Debug for Head {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "pool {} {:?}", self.name(), self.stats())
    }
}

/// A pool's name for printing.
#[derive(Clone, Copy)]
pub struct Name([c_char; 12]);

impl Name {
    pub(super) fn new(name: [c_char; 12]) -> Self {
        Self(name)
    }

    pub(super) fn begins_with(&self, prefix: &[u8]) -> bool {
        let mut bytes = self.bytes();
        prefix.iter().all(|&byte| bytes.next() == Some(byte))
    }

    /// The name as it was given, up to its NUL.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().map(|&c| c as u8).take_while(|&b| b != 0)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        use core::fmt::Write;
        for byte in self.bytes() {
            let fit = byte.is_ascii_graphic() || byte == b' ';
            f.write_char(if fit { byte as char } else { '?' })?;
        }
        Ok(())
    }
}
