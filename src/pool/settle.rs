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

/// What a pool may cache in any case when the limit is near, in objects.
const SHARE: usize = 16;

/// Objects, and bytes, for which a cache is charged in advance at most.
const ADVANCE: usize = 64;
const ADVANCE_BYTES: usize = 128 * 1024;

/// Charges after which it is worth looking what became of them.
const STALE: u32 = 64;

impl Registry {
    /// After an object was put into the thread's cache of `pool`: lets the
    /// oldest objects go as long as there are too many, then charges in
    /// advance for the next ones.
    // KEEPS: INV-7
    pub(super) fn settle(&self, pool: &Head, local: &Local) {
        local.tick();
        let mut now = pool.exact(local);
        if now.bytes > local.soft() {
            self.make_room(pool, local, &mut now);
        }
        pool.advance(local, &now);
    }

    fn make_room(&self, pool: &Head, local: &Local, now: &mut Exact) {
        let limit = local.limit();
        if local.stale() > STALE || now.bytes > limit {
            self.recount(local);
            *now = pool.exact(local);
        }
        // A pool that dominates the cache gives way first.
        let cluster = pool.cluster();
        if now.len >= now.share() + cluster {
            while now.bytes > local.soft() && now.len >= cluster.max(now.share()) {
                let n = pool.let_go(local, Keep::Needed) as usize;
                now.len -= n;
                now.count -= n;
                now.bytes -= n * pool.weight();
            }
        }
        // Then whatever was not touched for longest.
        if now.bytes > limit {
            pool.charge(local, now.len as u32);
            self.evict_coldest(local, limit / 8 * 7);
            *now = pool.exact(local);
        }
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

    /// Reduces the charges of all pools to what the thread caches. That also
    /// forgets what pools were charged for that are no more.
    fn recount(&self, local: &Local) {
        let (mut bytes, mut count) = (0, 0);
        self.visit(|pool| {
            let cache = pool.cache_of(local);
            if cache.charged() != cache.len() {
                pool.charge(local, cache.len());
            }
            bytes += cache.charged() as usize * pool.weight();
            count += cache.charged() as usize;
        });
        local.set_charges(bytes, count);
    }
}

/// What a thread caches of one pool, and that with its charges for the others.
struct Exact {
    len: usize,
    count: usize,
    bytes: usize,
}

impl Exact {
    /// How many objects one pool may cache when the limit is near.
    fn share(&self) -> usize {
        SHARE + self.count / 8
    }
}

impl Head {
    fn exact(&self, local: &Local) -> Exact {
        let cache = self.cache_of(local);
        let (len, charged) = (cache.len() as usize, cache.charged() as usize);
        // A cache may for a moment hold one more than it is charged for.
        Exact {
            len,
            count: local.count() + len - charged,
            bytes: local.bytes() + len * self.weight() - charged * self.weight(),
        }
    }

    /// Charges the thread for `total` objects of this pool instead of what it
    /// was charged for: at least those in its cache.
    pub(super) fn charge(&self, local: &Local, total: u32) {
        let cache = self.cache_of(local);
        let before = cache.charged();
        let now = cache.set_room(total, !self.has(debug::SLOW));
        local.recharge(before, now, self.weight());
    }

    /// Charges for what is in the thread's cache, and in advance for as many
    /// objects as can come before there is something to settle.
    // KEEPS: INV-7
    fn advance(&self, local: &Local, now: &Exact) {
        let weight = self.weight();
        let more = if self.has(debug::SLOW) {
            0
        } else {
            let until = |bytes: usize| bytes.saturating_sub(now.bytes) / weight;
            // The share grows by an eighth of what comes.
            let share = 8 * (SHARE + self.cluster() - 1) + now.count;
            let most = if weight > ADVANCE_BYTES / ADVANCE {
                (ADVANCE_BYTES / weight).max(1)
            } else {
                ADVANCE
            };
            until(local.soft())
                .max(share.saturating_sub(8 * now.len) / 7)
                .min(until(local.limit()))
                .min(most)
        };
        self.charge(local, (now.len + more) as u32);
    }

    /// Moves up to a cluster of the oldest objects out of the thread's cache;
    /// false if that is empty.
    pub(super) fn evict(&self, local: &Local, keep: Keep) -> bool {
        let n = self.let_go(local, keep);
        if n > 0 {
            self.charge(local, self.cache_of(local).charged() - n);
        }
        n > 0
    }

    /// As [`evict`](Self::evict), without a change of the charge. Says how many.
    fn let_go(&self, local: &Local, keep: Keep) -> u32 {
        let mut batch = [ptr::null_mut(); CLUSTER_MAX];
        let batch = &mut batch[..self.cluster()];
        let n = self.cache_of(local).pop_oldest_of(batch);
        // SAFETY: taken out of the cache, the objects are ours.
        unsafe {
            self.check_seals(&batch[..n], Place::Cache, 0);
            self.retire(&batch[..n], keep);
        }
        n as u32
    }
}
