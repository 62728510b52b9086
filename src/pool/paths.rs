//! The ways of an object: out to a caller and back, through the calling
//! thread's cache, the shared list and the system.

use super::cache::Cache;
use super::head::Head;
use super::local::Local;
use super::need::{self, Keep};
use super::registry::Registry;
use super::seal::Place;
use super::shared::{CLUSTER_MAX, Cluster};
use super::{POOL_F_MUST_ZERO, POOL_F_NO_FAIL, debug};
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
            if pool.cache_of(local).push_fast(object, local.clock()) {
                return;
            }
        }
        // SAFETY: by this function's contract.
        unsafe { self.free_slow(pool, local, object, 0) };
    }

    /// An object straight from the system, accounted and marked. `from` is
    /// where the caller is, 0 inside the library.
    ///
    /// # Safety
    /// As for [`alloc`](Self::alloc).
    pub unsafe fn alloc_nocache(&self, pool: &Head, from: usize) -> *mut u8 {
        self.freeze(pool);
        let object = pool.obtain(0);
        // SAFETY: an object, if there is one, is this pool's and ours.
        unsafe { pool.hand_out(object, 0, from) }
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
    // KEEPS: INV-25
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
        let caches = !pool.has(debug::NO_CACHE);
        let cached = local.filter(|_| caches);
        let mut object = match cached.and_then(|local| pool.take_cached(local, from)) {
            Some(object) => object.as_ptr(),
            None if caches => pool.refill(local, from),
            None => ptr::null_mut(),
        };
        if object.is_null() {
            self.freeze(pool);
            object = pool.obtain(local.map_or(0, Local::tid));
        }
        if object.is_null() && caches {
            object = pool.refill_anyhow(local, from);
        }
        // SAFETY: an object, if there is one, is this pool's and ours.
        unsafe { pool.hand_out(object, flags, from) }
    }

    /// The rest of [`free`](Self::free) where the cache is closed or full.
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
            // An object that alone fills the cache has no place in it.
            let fits = pool.weight() <= local.limit() && !pool.has(debug::NO_CACHE);
            if fits && pool.cache_of(local).push(object, local.clock()) {
                // SAFETY: the object is in our own cache.
                unsafe { pool.seal(&[object.as_ptr()], Place::Cache) };
                self.settle(pool, local);
                return;
            }
        }
        // SAFETY: the caller of free gave us the object.
        unsafe { pool.retire(&[object.as_ptr()], Keep::Needed) };
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
        // SAFETY: Local::new() made an offset within the array.
        unsafe { &*ptr::from_ref(self).byte_add(local.cache()).cast() }
    }

    /// The fast half of an allocation: an object from the calling thread's
    /// cache, if one is there and no debugging word asks for more.
    #[inline(always)]
    pub fn hit(&self, local: Option<&Local>, flags: u32) -> Option<NonNull<u8>> {
        let object = self.cache_of(local?).pop_fast()?;
        if flags & POOL_F_MUST_ZERO != 0 {
            // SAFETY: the object is ours and `size` bytes long.
            unsafe { object.write_bytes(0, self.size() as usize) };
        }
        Some(object)
    }

    /// Ends an allocation off the fast path: marks and fills the object, or
    /// counts a failure where it is NULL.
    ///
    /// # Safety
    /// The object is NULL, or this pool's and in the caller's hands.
    // KEEPS: INV-10, INV-14
    unsafe fn hand_out(&self, object: *mut u8, flags: u32, from: usize) -> *mut u8 {
        if object.is_null() {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            return object;
        }
        // SAFETY: by this function's contract.
        unsafe {
            self.mark_live(object, from);
            self.fill(object, flags);
        }
        object
    }

    /// Takes an object out of a cache that the fast path leaves alone.
    fn take_cached(&self, local: &Local, from: usize) -> Option<NonNull<u8>> {
        let cache = self.cache_of(local);
        let object = if self.has(debug::COLD_FIRST) {
            cache.pop_oldest()?
        } else {
            cache.pop_newest()?
        };
        self.charge(local, cache.charged() - 1);
        // SAFETY: taken out of the cache, the object is ours.
        unsafe { self.check_seals(&[object.as_ptr()], Place::Cache, from) };
        Some(object)
    }

    /// Takes a cluster from the shared list, and an object of it.
    fn refill(&self, local: Option<&Local>, from: usize) -> *mut u8 {
        let found = self.shared.pop(self.buckets(), local.map_or(0, Local::tid));
        found.map_or(ptr::null_mut(), |(bucket, cluster)| {
            self.take_over(bucket, cluster, local, from)
        })
    }

    /// As [`refill`](Self::refill) for who found nothing there and gets nothing
    /// from the system: looks everywhere.
    // KEEPS: INV-17
    #[cold]
    fn refill_anyhow(&self, local: Option<&Local>, from: usize) -> *mut u8 {
        for bucket in 0..self.buckets() {
            if let Some(cluster) = self.shared.pop_from(bucket) {
                return self.take_over(bucket, cluster, local, from);
            }
        }
        ptr::null_mut()
    }

    /// Divides a cluster from the shared list: one object for the caller, the
    /// others into its cache as far as that has room.
    // KEEPS: INV-1
    fn take_over(
        &self,
        bucket: usize,
        cluster: Cluster,
        local: Option<&Local>,
        from: usize,
    ) -> *mut u8 {
        let mut objects = [ptr::null_mut(); CLUSTER_MAX];
        let n = self.untie(cluster, &mut objects, from);
        let mut taken = 1;
        if let Some(local) = local {
            let cache = self.cache_of(local);
            let room = local.limit().saturating_sub(local.bytes()) / self.weight();
            let room = room + (cache.charged() - cache.len()) as usize;
            taken += cache.fill(&objects[1..n.min(room + 1)]);
            // SAFETY: the objects are in our own cache.
            unsafe { self.seal(&objects[1..taken], Place::Cache) };
            self.charge(local, cache.charged().max(cache.len()));
        }
        self.shared.add_used(bucket, taken as u64);
        if taken < n {
            // SAFETY: the objects are ours.
            unsafe { self.share(&objects[taken..n]) };
        }
        objects[0]
    }

    /// Puts free objects into the shared list.
    ///
    /// # Safety
    /// The objects are this pool's, in the caller's hands, no longer counted
    /// as used.
    pub(super) unsafe fn share(&self, objects: &[*mut u8]) {
        // SAFETY: by this function's contract; the room was reckoned with.
        let cluster = unsafe {
            self.seal(objects, Place::Shared);
            Cluster::tie(objects, self.slots())
        };
        self.shared
            .push(self.buckets(), self.bucket_of(objects), cluster);
    }

    /// Unties a cluster that was taken from the shared list, for a call that
    /// came from there: the number of its objects.
    pub(super) fn untie(
        &self,
        cluster: Cluster,
        objects: &mut [*mut u8; CLUSTER_MAX],
        from: usize,
    ) -> usize {
        // SAFETY: share() sealed it, and tied it with as many slots; who holds
        // the cluster owns its objects.
        unsafe {
            let n = cluster.untie(self.slots(), objects);
            self.check_seals(&objects[..n], Place::Shared, from);
            n
        }
    }

    /// The bucket that a cluster of these objects goes to.
    fn bucket_of(&self, objects: &[*mut u8]) -> usize {
        let first = objects.first().map_or(0, |o| o.addr());
        // Fibonacci hashing: the low bits of addresses are all alike.
        let hash = (first as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.buckets() - 1)
    }

    /// Ends the use of up to a cluster of objects: the shared list gets those
    /// that `keep` wants, the system the others.
    ///
    /// # Safety
    /// The objects are this pool's, in the caller's hands, counted as used.
    // KEEPS: INV-1
    pub(super) unsafe fn retire(&self, batch: &[*mut u8], keep: Keep) {
        debug_assert!(batch.len() <= CLUSTER_MAX);
        if batch.is_empty() {
            return;
        }
        let n = batch.len() as u64;
        let (allocated, used) = self.snapshot();
        let (stay, go) = batch.split_at(self.keep(keep, n, allocated, used) as usize);
        // Before the objects become visible to others: see mod.rs, Counters.
        self.shared.sub_used(self.bucket_of(batch), n);
        // A sample for each cluster of the usual size.
        self.feed_need(used.saturating_sub(n), n.div_ceil(8));
        if !stay.is_empty() {
            // SAFETY: the objects are ours.
            unsafe { self.share(stay) };
        }
        for &object in go {
            // SAFETY: same.
            unsafe { self.dispose(object) };
        }
    }

    /// How many of `n` objects whose use ends stay in the shared list.
    fn keep(&self, keep: Keep, n: u64, allocated: u64, used: u64) -> u64 {
        if self.has(debug::NO_CACHE | debug::NO_GLOBAL) {
            return 0;
        }
        let minavail = u64::from(self.minavail());
        match keep {
            Keep::Nothing => 0,
            Keep::Floor => minavail
                .saturating_sub(allocated.saturating_sub(used))
                .min(n),
            Keep::Needed => {
                let needed = self.counters.needed.load(Ordering::Relaxed);
                match need::releasable(allocated, used, needed, minavail) {
                    0 => 0,
                    // A cluster once begun is completed.
                    _ => n,
                }
            }
        }
    }
}
