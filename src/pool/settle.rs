//! Keeping the caches of a thread under its limit (INV-7), all pools together.
//!
//! Every cache may hold what it is charged for, and no more, before the slow
//! path is asked: so the sum of the charges is what has to stay under the
//! limit. Charges are made in advance where there is room, taken back by a
//! recount where there is none.

use super::debug;
use super::head::Head;
use super::local::Local;
use super::need::Keep;
use super::registry::Registry;
use super::seal::Place;
use super::shared::CLUSTER_MAX;
use core::ptr;

/// Objects, and bytes, for which a cache is charged in advance at most.
const ADVANCE: usize = 64;
const ADVANCE_BYTES: usize = 64 * 1024;

/// Charges after which it is worth looking what became of them.
const STALE: u32 = 64;

impl Registry {
    /// After an object was put into the thread's cache of `pool`: lets the
    /// oldest objects go as long as there are too many, then makes room for
    /// the next ones.
    pub(super) fn settle(&self, pool: &Head, local: &Local) {
        local.tick();
        let len = || pool.cache_of(local).len();
        if pool.cache_of(local).charged() < len() || local.bytes() > local.soft() {
            pool.charge(local, len());
        }
        let limit = local.limit();
        if local.bytes() > local.soft() {
            if local.stale() > STALE || local.bytes() > limit {
                self.recount(local);
            }
            // A pool that dominates the cache gives way first.
            let cluster = pool.cluster();
            let share = || len() as usize >= cluster.max(local.fair_share());
            if len() as usize >= local.fair_share() + cluster {
                while local.bytes() > local.soft() && share() {
                    pool.evict(local, Keep::Needed);
                }
            }
            // Then whatever was not touched for longest.
            if local.bytes() > limit {
                self.evict_coldest(local, limit / 8 * 7);
            }
        }
        pool.advance(local);
    }

    /// Lets the oldest objects of the coldest pools go until the charges are
    /// down to `bytes`.
    fn evict_coldest(&self, local: &Local, bytes: usize) {
        while local.bytes() > bytes {
            let Some(coldest) = self.pin_coldest(local) else {
                return;
            };
            // SAFETY: pinned.
            let pool = unsafe { &*coldest };
            while local.bytes() > bytes && pool.evict(local, Keep::Needed) {}
            self.unpin(coldest);
        }
    }

    /// Reduces the charges of all pools to what the thread caches.
    fn recount(&self, local: &Local) {
        self.visit(|pool| {
            let cache = pool.cache_of(local);
            if cache.charged() != cache.len() {
                pool.charge(local, cache.len());
            }
        });
        local.set_fresh();
    }
}

impl Head {
    /// Charges the thread for `total` objects of this pool instead of what it
    /// was charged for: at least those in its cache.
    pub(super) fn charge(&self, local: &Local, total: u32) {
        let cache = self.cache_of(local);
        let before = cache.charged();
        let now = cache.set_room(total, !self.has(debug::SLOW));
        local.recharge(before, now, self.weight());
    }

    /// Charges in advance for the objects that may come next: as many as can
    /// come before there is something to settle.
    fn advance(&self, local: &Local) {
        if self.has(debug::SLOW) {
            return;
        }
        let cache = self.cache_of(local);
        let (len, unused) = (cache.len(), cache.charged() - cache.len());
        let bytes = local.bytes() - unused as usize * self.weight();
        let more = if bytes <= local.soft() {
            (local.soft() - bytes) / self.weight()
        } else {
            let share = local.fair_share() + self.cluster() - 1;
            let room = local.limit().saturating_sub(bytes) / self.weight();
            room.min(share.saturating_sub(len as usize))
        };
        let most = ADVANCE.min(ADVANCE_BYTES / self.weight()).max(1);
        self.charge(local, len + more.min(most) as u32);
    }

    /// Moves up to a cluster of the oldest objects out of the thread's cache;
    /// false if that is empty.
    pub(super) fn evict(&self, local: &Local, keep: Keep) -> bool {
        let cache = self.cache_of(local);
        let mut batch = [ptr::null_mut(); CLUSTER_MAX];
        let mut n = 0;
        while n < self.cluster() {
            let Some(object) = cache.pop_oldest() else {
                break;
            };
            // SAFETY: taken out of the cache, the object is ours.
            unsafe { self.check_seal(object.as_ptr(), Place::Cache, 0) };
            batch[n] = object.as_ptr();
            n += 1;
        }
        if n == 0 {
            return false;
        }
        self.charge(local, cache.charged() - n as u32);
        // SAFETY: taken out of the cache, the objects are ours.
        unsafe { self.retire(&batch[..n], keep) };
        true
    }
}
