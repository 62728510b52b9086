//! The list of pools, and what it knows of each.

use super::head::{Head, Links};
use crate::sync::atomic::Ordering;
use crate::sys::memory;
use core::ptr;

/// The pools, ordered by size. The methods run under the registry's lock.
pub(super) struct List {
    first: *mut Head,
}

// SAFETY: the pools belong to the list, not to a thread.
unsafe impl Send for List {}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: ptr::null_mut(),
    };

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The part of `pool` that the lock protects.
    pub(super) fn links(&mut self, pool: *mut Head) -> &mut Links {
        // SAFETY: pools in the list exist; the lock is held, and the result
        // borrows the list, so it is the only reference.
        unsafe { (*pool).links.with_mut(|p| &mut *p) }
    }

    /// The pool after `pool`, or the first one, that is not waiting for its
    /// last pin.
    pub(super) fn next_alive(&mut self, pool: *mut Head) -> *mut Head {
        let mut next = match pool.is_null() {
            true => self.first,
            false => self.links(pool).next,
        };
        while !next.is_null() && self.links(next).users == 0 {
            next = self.links(next).next;
        }
        next
    }

    pub(super) fn count_alive(&mut self) -> usize {
        let first = self.next_alive(ptr::null_mut());
        core::iter::successors((!first.is_null()).then_some(first), |&pool| {
            let next = self.next_alive(pool);
            (!next.is_null()).then_some(next)
        })
        .count()
    }

    pub(super) fn insert(&mut self, pool: *mut Head) {
        // SAFETY: the caller's pool exists.
        let size = unsafe { (*pool).size() };
        let mut before: *mut Head = ptr::null_mut();
        let mut after = self.first;
        // SAFETY: pools in the list exist.
        while !after.is_null() && unsafe { (*after).size() } <= size {
            before = after;
            after = self.links(after).next;
        }
        self.links(pool).next = after;
        self.relink(before, pool);
    }

    fn remove(&mut self, pool: *mut Head) {
        let mut before = ptr::null_mut();
        let mut at = self.first;
        while at != pool {
            before = at;
            at = self.links(at).next;
        }
        let after = self.links(pool).next;
        self.relink(before, after);
    }

    fn relink(&mut self, before: *mut Head, next: *mut Head) {
        match before.is_null() {
            true => self.first = next,
            false => self.links(before).next = next,
        }
    }

    /// Ends a pin; the result, if not NULL, is for [`bury`].
    #[must_use]
    pub(super) fn unpin(&mut self, pool: *mut Head) -> *mut Head {
        if pool.is_null() {
            return pool;
        }
        let links = self.links(pool);
        links.pins -= 1;
        if links.pins == 0 && links.misplaced {
            self.put_in_place(pool);
        }
        self.remove_if_dead(pool)
    }

    /// Moves a pool that grew. A pinned one has to wait, or who walks the list
    /// from there would leave others out.
    // WINDOW(grown-pool-moves): who is elsewhere may meet the pool a second
    // time, at its new place; a sorted dump pins all at once.
    pub(super) fn put_in_place(&mut self, pool: *mut Head) {
        let links = self.links(pool);
        links.misplaced = links.pins > 0;
        if !links.misplaced {
            self.remove(pool);
            self.insert(pool);
        }
    }

    /// Ends a pool that was never used and has `users` users, no others: then
    /// what [`bury`] takes.
    pub(super) fn end_unused(&mut self, pool: *mut Head, users: usize) -> Option<*mut Head> {
        // SAFETY: in the list, so it exists. Relaxed: the lock that freezes is
        // held here.
        if !self.contains(pool) || unsafe { &*pool }.frozen.load(Ordering::Relaxed) {
            return None;
        }
        let links = self.links(pool);
        if links.users as usize != users {
            return None;
        }
        links.users = 0;
        Some(self.remove_if_dead(pool))
    }

    /// Whether `pool`, which may be any address, is there and alive.
    pub(super) fn contains(&mut self, pool: *const Head) -> bool {
        let mut at = self.next_alive(ptr::null_mut());
        while !at.is_null() && !ptr::eq(at, pool) {
            at = self.next_alive(at);
        }
        !at.is_null()
    }

    /// Takes a pool without users and pins out; the result, if not NULL, is
    /// for [`bury`].
    #[must_use]
    pub(super) fn remove_if_dead(&mut self, pool: *mut Head) -> *mut Head {
        let links = self.links(pool);
        if links.users > 0 || links.pins > 0 {
            return ptr::null_mut();
        }
        self.remove(pool);
        pool
    }
}

/// Frees a pool's memory; NULL is fine.
///
/// # Safety
/// The pool is in no list, has no pin, and none of its objects is in use.
// KEEPS: INV-19
pub(super) unsafe fn bury(pool: *mut Head) {
    if pool.is_null() {
        return;
    }
    // SAFETY: by this function's contract nobody else can reach the pool.
    unsafe {
        // A gc that was at work may have put objects back.
        (*pool).empty_shared();
        (*pool).links.with_mut(|links| (*links).requests.clear());
        for cache in &(*pool).cache {
            cache.drop_stack();
        }
        memory::free(pool.cast());
    }
}
