//! What a registered thread brings to each call: where its caches are, and
//! how much they may hold over all pools.
//!
//! Caches are charged in advance (see [`cache`](super::cache)), so `bytes` and
//! `count` are upper bounds of what is cached, and the bound on them holds for
//! that too. What a cache was charged for and no longer holds is found by
//! [`Registry::recount`](super::Registry), when the limit is near.

use super::cache::Cache;
use super::head::Head;
use core::cell::Cell;
use core::mem::offset_of;

/// Bytes that a thread may cache over all pools, unless configured otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 512 * 1024;

/// Belongs to its thread; nobody else may use it while that is registered.
#[derive(Debug)]
#[repr(C)]
pub struct Local {
    /// Where in a [`Head`] the thread's cache is. C's inline functions read
    /// this field and the next.
    cache: usize,
    /// Counts the thread's slow operations.
    clock: Cell<u32>,
    gc_seen: Cell<u32>,
    tid: usize,
    /// What the caches are charged for, all pools together.
    bytes: Cell<usize>,
    count: Cell<usize>,
    limit: Cell<usize>,
    soft: Cell<usize>,
    /// Charges since the last recount.
    stale: Cell<u32>,
}

const _: () = assert!(offset_of!(Local, cache) == 0);
const _: () = assert!(offset_of!(Local, clock) == size_of::<usize>());

impl Local {
    /// The caches of thread `tid`, with the default limit.
    /// [`Registry::attach`](super::Registry::attach) sets the configured one.
    pub const fn new(tid: usize) -> Self {
        assert!(tid < super::MAX_THREADS);
        Self {
            cache: offset_of!(Head, cache) + tid * size_of::<Cache>(),
            clock: Cell::new(0),
            gc_seen: Cell::new(0),
            tid,
            bytes: Cell::new(0),
            count: Cell::new(0),
            limit: Cell::new(DEFAULT_CACHE_BYTES),
            soft: Cell::new(DEFAULT_CACHE_BYTES / 4 * 3),
            stale: Cell::new(0),
        }
    }

    /// The thread's id.
    #[inline(always)]
    pub fn tid(&self) -> usize {
        self.tid
    }

    /// The most bytes that the caches hold between two calls.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Bytes that the caches may hold without asking again: at least those in
    /// them, at most the limit.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    #[inline(always)]
    pub(super) fn cache(&self) -> usize {
        self.cache
    }

    pub(super) fn reset(&self, limit: usize, gc_epoch: u32) {
        self.set_charges(0, 0);
        self.limit.set(limit);
        self.soft.set(limit / 4 * 3 + limit % 4 * 3 / 4);
        self.gc_seen.set(gc_epoch);
    }

    /// Three quarters of the limit: from here on a dominant pool gives way.
    pub(super) fn soft(&self) -> usize {
        self.soft.get()
    }

    /// Objects behind [`bytes`](Self::bytes).
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    pub(super) fn gc_seen(&self) -> u32 {
        self.gc_seen.get()
    }

    pub(super) fn set_gc_seen(&self, epoch: u32) {
        self.gc_seen.set(epoch);
    }

    #[inline(always)]
    pub(super) fn clock(&self) -> u32 {
        self.clock.get()
    }

    pub(super) fn tick(&self) {
        self.clock.set(self.clock.get().wrapping_add(1));
    }

    /// Replaces a charge of `old` objects of `weight` bytes by one of `new`.
    pub(super) fn recharge(&self, old: u32, new: u32, weight: usize) {
        let (old, new) = (old as usize, new as usize);
        self.count.set(self.count.get() - old + new);
        self.bytes
            .set(self.bytes.get() - old * weight + new * weight);
        self.stale.set(self.stale.get() + 1);
    }

    /// Charges since the last recount.
    pub(super) fn stale(&self) -> u32 {
        self.stale.get()
    }

    /// The charges after a recount.
    pub(super) fn set_charges(&self, bytes: usize, count: usize) {
        self.bytes.set(bytes);
        self.count.set(count);
        self.stale.set(0);
    }
}
