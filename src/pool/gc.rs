//! Giving memory back: flush, gc, and the emptying of whole caches. Nobody is
//! isolated or waited for; other threads keep allocating meanwhile.

use super::head::Head;
use super::local::Local;
use super::need::Keep;
use super::registry::Registry;
use super::seal::Place;
use super::shared::CLUSTER_MAX;
use crate::sync::atomic::Ordering;
use crate::sys::trim;
use core::ptr;

impl Registry {
    /// Every pool down to its `minavail`, then the libc heap. The calling
    /// thread's caches are emptied at once, those of the others when they next
    /// call [`poll_gc`](Self::poll_gc).
    // KEEPS: INV-13
    pub fn gc(&self, local: Option<&Local>) {
        let epoch = self
            .gc_epoch
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        if let Some(local) = local {
            local.set_gc_seen(epoch);
        }
        self.visit(|pool| {
            if let Some(local) = local {
                pool.empty_cache(local, Keep::Floor);
            }
            pool.trim();
        });
        trim::trim();
    }

    /// Counts the calls of [`gc`](Self::gc).
    #[inline]
    pub fn gc_epoch(&self) -> u32 {
        self.gc_epoch.load(Ordering::Relaxed)
    }

    /// Whether none took place since this thread's last [`poll_gc`](Self::poll_gc).
    #[inline]
    pub fn gc_is_over(&self, local: &Local) -> bool {
        local.gc_seen() == self.gc_epoch()
    }

    /// Once per loop turn of a registered thread: empties its caches if a gc
    /// took place since the last time.
    #[inline]
    pub fn poll_gc(&self, local: &Local) {
        if !self.gc_is_over(local) {
            local.set_gc_seen(self.gc_epoch());
            self.visit(|pool| pool.empty_cache(local, Keep::Floor));
        }
    }

    /// Empties all caches of a thread that leaves: what is needed goes to the
    /// shared lists, the rest to the system.
    pub fn flush_local(&self, local: &Local) {
        self.visit(|pool| pool.empty_cache(local, Keep::Needed));
    }

    /// Gives the shared free objects of `pool` to the system.
    pub fn flush(&self, pool: &Head) {
        pool.empty_shared();
    }
}

impl Head {
    /// Takes everything out of the calling thread's cache.
    pub(super) fn empty_cache(&self, local: &Local, keep: Keep) {
        while self.evict(local, keep) {}
        self.charge(local, 0);
        self.cache_of(local).drop_stack();
    }

    /// Gives the caches of all threads to the system.
    ///
    /// # Safety
    /// No registered thread runs, except the caller.
    pub(super) unsafe fn empty_all_caches(&self) {
        for cache in &self.cache {
            while let Some(object) = cache.pop_oldest() {
                let object = [object.as_ptr()];
                // SAFETY: taken out of a cache that nobody else uses.
                unsafe {
                    self.check_seals(&object, Place::Cache, 0);
                    self.retire(&object, Keep::Nothing);
                }
            }
            cache.drop_stack();
        }
    }

    /// Gives every object of the shared list to the system.
    // KEEPS: INV-5, INV-26
    pub(super) fn empty_shared(&self) {
        let mut objects = [ptr::null_mut(); CLUSTER_MAX];
        for cluster in self.shared.take_all() {
            let n = self.untie(cluster, &mut objects, 0);
            for object in &objects[..n] {
                // SAFETY: the list was detached, so its objects are ours.
                unsafe { self.dispose(*object) };
            }
        }
    }

    /// Gives shared objects to the system until `minavail` are left.
    // KEEPS: INV-12
    fn trim(&self) {
        let mut objects = [ptr::null_mut(); CLUSTER_MAX];
        for bucket in 0..self.buckets() {
            while self.shared_len() > u64::from(self.minavail()) {
                let Some(cluster) = self.shared.pop_from(bucket) else {
                    break;
                };
                let n = self.untie(cluster, &mut objects, 0);
                let excess = self.claim_excess(n as u64);
                for object in &objects[..excess] {
                    // SAFETY: popped, so ours; accounted by claim_excess().
                    unsafe { self.system_free(*object) };
                }
                if excess < n {
                    // SAFETY: popped, so ours.
                    unsafe { self.share(&objects[excess..n]) };
                    return;
                }
            }
        }
    }

    /// Counts up to `most` objects less as allocated, as far as more than
    /// `minavail` are free, and says how many. Two threads in gc cannot both
    /// claim the last one too many.
    // KEEPS: INV-12
    fn claim_excess(&self, most: u64) -> usize {
        let used = self.snapshot().1;
        let floor = u64::from(self.minavail());
        let mut claimed = 0;
        let _ = self.counters.allocated.fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |allocated| {
                claimed = allocated.saturating_sub(used + floor).min(most);
                (claimed > 0).then(|| allocated - claimed)
            },
        );
        claimed as usize
    }
}
