//! The ways of an object: out to a caller and back, through the calling
//! thread's cache, the shared list and the system.

use super::cache::{CLUSTER, Cache, Local};
use super::head::Head;
use super::need::Keep;
use super::registry::Registry;
use super::seal::Place;
use super::shared::{Cluster, Item};
use super::{POOL_F_MUST_ZERO, POOL_F_NO_FAIL, debug, need};
use crate::sync::atomic::Ordering;
use core::ptr::{self, NonNull};

impl Registry {
    /// An object of `pool`, or NULL: `local` is the calling thread's, `None`
    /// where it is not registered. `flags` are POOL_F_*.
    ///
    /// # Safety
    /// `pool` is one of this registry, and `local` belongs to the caller.
    #[inline(always)]
    pub unsafe fn alloc(&self, pool: &Head, local: Option<&Local>, flags: u32) -> *mut u8 {
        match pool.hit(local, flags) {
            Some(object) => object.as_ptr(),
            // SAFETY: by this function's contract.
            None => unsafe { self.miss(pool, local, flags, 0) },
        }
    }

    /// Gives back an object that [`alloc`](Self::alloc) returned, on this or
    /// another thread. NULL is fine.
    ///
    /// # Safety
    /// As for `alloc`; the caller has no more use for the object.
    #[inline(always)]
    pub unsafe fn free(&self, pool: &Head, local: Option<&Local>, object: *mut u8) {
        let Some(object) = NonNull::new(object) else {
            return;
        };
        if let Some(local) = local {
            if !pool.has(debug::SLOW) && pool.cache_of(local).push(object, local.tick()) {
                local.add(pool.weight());
                if pool.crowds(local) {
                    self.settle(pool, local);
                }
                return;
            }
        }
        // SAFETY: by this function's contract.
        unsafe { self.free_slow(pool, local, object, 0) };
    }

    /// An object straight from the system, accounted and marked.
    ///
    /// # Safety
    /// As for [`alloc`](Self::alloc).
    pub unsafe fn alloc_nocache(&self, pool: &Head, from: usize) -> *mut u8 {
        self.freeze(pool);
        let object = pool.obtain();
        if !object.is_null() {
            // SAFETY: the object is this pool's and in our hands.
            unsafe {
                pool.mark_live(object, from);
                pool.fill(object, 0);
            }
        }
        object
    }

    /// Gives an object straight back to the system.
    ///
    /// # Safety
    /// As for [`free`](Self::free).
    pub unsafe fn free_nocache(&self, pool: &Head, object: *mut u8, from: usize) {
        if object.is_null() {
            return;
        }
        // SAFETY: by this function's contract.
        unsafe {
            pool.mark_free(object, from, self);
            pool.retire(&[object], Keep::Nothing);
        }
    }

    /// The rest of [`alloc`](Self::alloc) after [`Head::hit`] found nothing.
    ///
    /// # Safety
    /// As for `alloc`.
    #[cold]
    #[inline(never)]
    pub unsafe fn miss(
        &self,
        pool: &Head,
        local: Option<&Local>,
        flags: u32,
        from: usize,
    ) -> *mut u8 {
        if pool.has(debug::FAIL)
            && flags & POOL_F_NO_FAIL == 0
            && self.is_started()
            && self.draw_failure()
        {
            pool.counters.failed.fetch_add(1, Ordering::Relaxed);
            return ptr::null_mut();
        }
        let mut object = ptr::null_mut();
        if !pool.has(debug::NO_CACHE) {
            object = match local.and_then(|local| pool.take_cached(local, from)) {
                Some(object) => object.as_ptr(),
                None => pool.refill(local, from),
            };
        }
        if object.is_null() {
            self.freeze(pool);
            object = pool.obtain();
        }
        if !object.is_null() {
            // SAFETY: the object is this pool's and in our hands.
            unsafe {
                pool.mark_live(object, from);
                pool.fill(object, flags);
            }
        }
        object
    }

    /// The rest of [`free`](Self::free).
    ///
    /// # Safety
    /// As for `free`.
    #[cold]
    #[inline(never)]
    pub unsafe fn free_slow(
        &self,
        pool: &Head,
        local: Option<&Local>,
        object: NonNull<u8>,
        from: usize,
    ) {
        // SAFETY: by the contract of free.
        unsafe { pool.mark_free(object.as_ptr(), from, self) };
        if let Some(local) = local {
            if !pool.has(debug::NO_CACHE) && pool.put_cached(local, object) {
                if pool.crowds(local) {
                    self.settle(pool, local);
                }
                return;
            }
        }
        // SAFETY: the caller of free gave us the object.
        unsafe { pool.retire(&[object.as_ptr()], Keep::Needed) };
    }

    /// Brings the thread's caches back under their limit after an object of
    /// `pool` went in (INV-7).
    #[cold]
    #[inline(never)]
    fn settle(&self, pool: &Head, local: &Local) {
        let limit = local.limit();
        // An object that alone fills the cache has no place in it.
        if pool.weight() > limit {
            if let Some(object) = pool.take_newest(local) {
                // SAFETY: taken out of the cache, the object is ours.
                unsafe {
                    pool.check_seal(object.as_ptr(), Place::Cache, 0);
                    pool.retire(&[object.as_ptr()], Keep::Needed);
                }
            }
            return;
        }
        // A pool that dominates the cache gives way first.
        let len = || pool.cache_of(local).len() as usize;
        if len() >= local.fair_share() + CLUSTER {
            while local.bytes() > local.soft() && len() >= CLUSTER && len() >= local.fair_share() {
                pool.evict(local, Keep::Needed);
            }
        }
        // Then whatever was not touched for longest.
        if local.bytes() > limit {
            while local.bytes() > limit / 8 * 7 {
                let Some(coldest) = self.pin_coldest(local) else {
                    break;
                };
                // SAFETY: pinned.
                let cold = unsafe { &*coldest };
                while local.bytes() > limit / 8 * 7 && cold.evict(local, Keep::Needed) {}
                self.unpin(coldest);
            }
        }
    }
}

impl Head {
    #[inline(always)]
    pub(super) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed) as usize
    }

    /// The cache of the calling thread.
    #[inline(always)]
    pub(super) fn cache_of(&self, local: &Local) -> &Cache {
        // SAFETY: Local::new() refused ids beyond the array.
        unsafe { self.cache.get_unchecked(local.tid()) }
    }

    /// The fast half of an allocation: an object from the calling thread's
    /// cache, if one is there and no debugging word asks for more.
    #[inline(always)]
    pub fn hit(&self, local: Option<&Local>, flags: u32) -> Option<NonNull<u8>> {
        let local = local?;
        if self.has(debug::SLOW) {
            return None;
        }
        let object = self.take_newest(local)?;
        if flags & POOL_F_MUST_ZERO != 0 {
            // SAFETY: the object is ours and `size` bytes long.
            unsafe { object.write_bytes(0, self.size() as usize) };
        }
        Some(object)
    }

    /// Whether something has to leave the thread's caches after an object of
    /// this pool went in: they are over their limit, or near it and the pool
    /// has more than its share.
    #[inline(always)]
    fn crowds(&self, local: &Local) -> bool {
        local.bytes() > local.soft()
            && (local.bytes() > local.limit()
                || self.cache_of(local).len() as usize >= local.fair_share() + CLUSTER)
    }

    #[inline(always)]
    fn take_newest(&self, local: &Local) -> Option<NonNull<u8>> {
        let object = self.cache_of(local).pop_newest()?;
        local.sub(self.weight());
        Some(object)
    }

    fn take_oldest(&self, local: &Local) -> Option<NonNull<u8>> {
        let object = self.cache_of(local).pop_oldest()?;
        local.sub(self.weight());
        Some(object)
    }

    fn take_cached(&self, local: &Local, from: usize) -> Option<NonNull<u8>> {
        let object = match self.has(debug::COLD_FIRST) {
            true => self.take_oldest(local)?,
            false => self.take_newest(local)?,
        };
        // SAFETY: taken out of the cache, the object is ours.
        unsafe { self.check_seal(object.as_ptr(), Place::Cache, from) };
        Some(object)
    }

    /// Puts an object into the thread's cache; false if that cannot grow.
    fn put_cached(&self, local: &Local, object: NonNull<u8>) -> bool {
        let cache = self.cache_of(local);
        let now = local.tick();
        let done = cache.push(object, now) || cache.grow() && cache.push(object, now);
        if done {
            local.add(self.weight());
            // SAFETY: the object is in our own cache.
            unsafe { self.seal(object.as_ptr(), Place::Cache) };
        }
        done
    }

    /// Takes a cluster from the shared list: one object for the caller, the
    /// others into its cache as far as that has room.
    fn refill(&self, local: Option<&Local>, from: usize) -> *mut u8 {
        let Some(mut cluster) = self.shared.0.pop() else {
            return ptr::null_mut();
        };
        let Some(object) = cluster.take() else {
            return ptr::null_mut();
        };
        // SAFETY: taken from the list, the object is ours.
        unsafe { self.check_seal(object.cast(), Place::Shared, from) };
        let mut taken = 1;
        if let Some(local) = local {
            while let Some(item) = cluster.take() {
                // SAFETY: as above.
                unsafe { self.check_seal(item.cast(), Place::Shared, from) };
                let fits = local.bytes() + self.weight() <= local.limit();
                if !fits || !NonNull::new(item.cast()).is_some_and(|o| self.put_cached(local, o)) {
                    // SAFETY: just taken out of the cluster.
                    unsafe { cluster.add(item) };
                    break;
                }
                taken += 1;
            }
        }
        self.counters.used.fetch_add(taken, Ordering::Relaxed);
        self.shared.0.push(cluster);
        object.cast()
    }

    /// Moves up to a cluster of the oldest objects out of the thread's cache;
    /// false if that is empty.
    pub(super) fn evict(&self, local: &Local, keep: Keep) -> bool {
        let mut batch = [ptr::null_mut(); CLUSTER];
        let mut n = 0;
        while n < CLUSTER {
            let Some(object) = self.take_oldest(local) else {
                break;
            };
            batch[n] = object.as_ptr();
            // SAFETY: taken out of the cache, the object is ours.
            unsafe { self.check_seal(batch[n], Place::Cache, 0) };
            n += 1;
        }
        // SAFETY: taken out of the cache, the objects are ours.
        unsafe { self.retire(&batch[..n], keep) };
        n > 0
    }

    /// Ends the use of up to a cluster of objects: the shared list gets those
    /// that `keep` wants, the system the others.
    ///
    /// # Safety
    /// The objects are this pool's, in the caller's hands, counted as used.
    pub(super) unsafe fn retire(&self, batch: &[*mut u8], keep: Keep) {
        debug_assert!(batch.len() <= CLUSTER);
        if batch.is_empty() {
            return;
        }
        let n = batch.len() as u64;
        let shared = if self.has(debug::NO_CACHE | debug::NO_GLOBAL) {
            0
        } else {
            match keep {
                Keep::Nothing => 0,
                Keep::Floor => u64::from(self.minavail()).saturating_sub(self.shared_len()),
                Keep::Needed => {
                    let (allocated, used) = self.snapshot();
                    let needed = self.counters.needed.load(Ordering::Relaxed);
                    match need::releasable(allocated, used, needed, self.minavail().into()) {
                        0 => 0,
                        // A cluster once begun is completed.
                        _ => n,
                    }
                }
            }
        };
        // Before the objects become visible to others: see mod.rs, Counters.
        let used = self.counters.used.fetch_sub(n, Ordering::Relaxed);
        self.feed_need(used.saturating_sub(n), 1);
        let (stay, go) = batch.split_at(shared.min(n) as usize);
        let mut cluster = Cluster::EMPTY;
        for &object in stay {
            let item = object.cast::<Item>();
            // SAFETY: the objects are ours, and at least an Item long.
            unsafe {
                self.seal(object, Place::Shared);
                item.write(Item::new());
                cluster.add(item);
            }
        }
        self.shared.0.push(cluster);
        for &object in go {
            // SAFETY: the objects are ours.
            unsafe { self.dispose(object) };
        }
    }
}
