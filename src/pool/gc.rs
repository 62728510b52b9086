//! Giving memory back: flush, gc, and the emptying of whole caches. Nobody is
//! isolated or waited for; other threads keep allocating meanwhile.

use super::cache::Local;
use super::head::Head;
use super::need::Keep;
use super::registry::Registry;
use super::seal::Place;
use crate::sync::atomic::Ordering;
use crate::sys::memory;

impl Registry {
    /// Every pool down to its `minavail`, then the libc heap. The calling
    /// thread's caches are emptied at once, those of the others when they next
    /// call [`poll_gc`](Self::poll_gc).
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
        memory::trim();
    }

    /// Counts the calls of [`gc`](Self::gc).
    #[inline]
    pub fn gc_epoch(&self) -> u32 {
        self.gc_epoch.load(Ordering::Relaxed)
    }

    /// Once per loop turn of a registered thread: empties its caches if a gc
    /// took place since the last time.
    #[inline]
    pub fn poll_gc(&self, local: &Local) {
        if local.gc_seen() != self.gc_epoch() {
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
        self.cache_of(local).drop_ring();
    }

    /// Gives the caches of all threads to the system.
    ///
    /// # Safety
    /// No registered thread runs, except the caller.
    pub(super) unsafe fn empty_all_caches(&self) {
        for cache in &self.cache {
            while let Some(object) = cache.pop_oldest() {
                // SAFETY: taken out of a cache that nobody else uses.
                unsafe {
                    self.check_seal(object.as_ptr(), Place::Cache, 0);
                    self.retire(&[object.as_ptr()], Keep::Nothing);
                }
            }
            cache.drop_ring();
        }
    }

    /// Gives every object of the shared list to the system.
    pub(super) fn empty_shared(&self) {
        for mut cluster in self.shared.0.take_all() {
            while let Some(item) = cluster.take() {
                // SAFETY: the list was detached, so its objects are ours.
                unsafe {
                    self.check_seal(item.cast(), Place::Shared, 0);
                    self.dispose(item.cast());
                }
            }
        }
    }

    /// Gives shared objects to the system until `minavail` are left (INV-12).
    fn trim(&self) {
        while self.shared_len() > u64::from(self.minavail()) {
            let Some(mut cluster) = self.shared.0.pop() else {
                return;
            };
            while let Some(item) = cluster.take() {
                if !self.claim_excess() {
                    // SAFETY: just taken out of the cluster.
                    unsafe { cluster.add(item) };
                    break;
                }
                // SAFETY: popped, so ours; claim_excess() accounted it.
                unsafe {
                    self.check_seal(item.cast(), Place::Shared, 0);
                    self.system_free(item.cast());
                }
            }
            self.shared.0.push(cluster);
        }
    }

    /// Counts one object less as allocated if more than `minavail` are free.
    /// Two threads in gc cannot both claim the last one too many.
    fn claim_excess(&self) -> bool {
        let used = self.counters.used.load(Ordering::Relaxed);
        let floor = u64::from(self.minavail());
        self.counters
            .allocated
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |allocated| {
                (allocated > used + floor).then(|| allocated - 1)
            })
            .is_ok()
    }
}
