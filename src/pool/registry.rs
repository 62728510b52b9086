//! All pools: creation and merging, destruction, and walking the list.

use super::buckets;
use super::debug::{Settings, Source};
use super::declared::Declarations;
use super::head::{Head, Stats};
use super::list::{List, bury};
use super::local::{DEFAULT_CACHE_BYTES, Local};
use super::merge::Want;
use super::requests::{Entry, Request, Spare, cut};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::sys;
use core::ffi::CStr;
use core::ptr::{self, NonNull};

/// A set of pools with their settings. Usable from its first moment, by any
/// thread; `const`, so that pools can be made before anything else runs.
pub struct Registry {
    /// Taken before the list's lock where both are.
    pub(super) declared: Mutex<Declarations>,
    pub(super) list: Mutex<List>,
    source: Mutex<Source>,
    cache_bytes: AtomicUsize,
    started: AtomicBool,
    /// Buckets of the pools that are made from now on.
    buckets: AtomicU32,
    pub(super) gc_epoch: AtomicU32,
    pub(super) draws: AtomicU32,
}

impl Registry {
    /// No pool, no debugging word, the default cache size.
    pub const fn new() -> Self {
        Self::with_words_of(None)
    }

    /// As [`new`](Self::new), with the debugging words of an environment
    /// variable, which is read once, before any pool is made.
    pub const fn with_words_of(variable: Option<&'static CStr>) -> Self {
        Self {
            declared: Mutex::new(Declarations::NONE),
            list: Mutex::new(List::EMPTY),
            source: Mutex::new(Source::new(variable)),
            cache_bytes: AtomicUsize::new(DEFAULT_CACHE_BYTES),
            started: AtomicBool::new(false),
            buckets: AtomicU32::new(1),
            gc_epoch: AtomicU32::new(0),
            draws: AtomicU32::new(0),
        }
    }

    /// Sets how many bytes each thread may cache; 0: the default. Threads see
    /// it when they [`attach`](Self::attach).
    pub fn set_cache_bytes(&self, bytes: usize) {
        let bytes = if bytes == 0 {
            DEFAULT_CACHE_BYTES
        } else {
            bytes
        };
        self.cache_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says how many threads there will be, before they come.
    pub fn set_threads(&self, threads: usize) {
        let buckets = buckets::wanted(threads) as u32;
        self.buckets.store(buckets, Ordering::Relaxed);
        self.visit(|pool| {
            pool.buckets.fetch_max(buckets, Ordering::Relaxed);
        });
    }

    /// Prepares the caches of a thread that registers.
    pub fn attach(&self, local: &Local) {
        local.reset(self.cache_bytes.load(Ordering::Relaxed), self.gc_epoch());
    }

    /// Says whether the program's start is over: until then the word `fail`
    /// injects nothing (INV-25).
    pub fn set_started(&self, started: bool) {
        self.started.store(started, Ordering::Relaxed);
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    pub(super) fn settings(&self) -> Settings {
        *self.source.lock().settings()
    }

    /// Applies debugging words to the pools that will be created from now on:
    /// 0, or -EINVAL with nothing changed.
    pub fn debug(&self, words: &[u8]) -> i32 {
        let mut source = self.source.lock();
        let settings = source.settings();
        match settings.parse(words) {
            Ok(new) => {
                *settings = new;
                0
            }
            Err(_) => -sys::EINVAL,
        }
    }

    /// A pool for objects of `size` bytes aligned to `align` (0: the
    /// default): a new one, or one that exists and suits. EINVAL or ENOMEM.
    pub fn create(
        &self,
        name: &[u8],
        size: u32,
        align: u32,
        flags: u32,
    ) -> Result<NonNull<Head>, i32> {
        let request = Request {
            name: cut(name),
            size,
            align,
            flags,
        };
        self.serve(&self.want(request)?)
    }

    /// What `request` amounts to with the words in force, or EINVAL.
    pub(super) fn want(&self, request: Request) -> Result<Want, i32> {
        Want::new(request, &self.settings()).ok_or(sys::EINVAL)
    }

    /// The pool that serves `want`, with one user more. ENOMEM.
    pub(super) fn serve(&self, want: &Want) -> Result<NonNull<Head>, i32> {
        let mut spare = Spare::new().ok_or(sys::ENOMEM)?;
        if let Some(pool) = self.list.lock().join(want, &mut spare) {
            return Ok(pool);
        }
        let built = want.build().ok_or(sys::ENOMEM)?;
        // SAFETY: nobody else knows the pool yet.
        let buckets = unsafe { &built.as_ref().buckets };
        buckets.store(self.buckets.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut list = self.list.lock();
        // Another thread may have come with the same.
        if let Some(pool) = list.join(want, &mut spare) {
            drop(list);
            // SAFETY: nobody else knows it.
            unsafe { bury(built.as_ptr()) };
            return Ok(pool);
        }
        list.found(built, want, &mut spare);
        Ok(built)
    }

    /// Ends one use of `pool`: true if none of its objects is in use any more.
    /// The last use over, the pool is gone. Objects in the caches of other
    /// registered threads count as in use.
    ///
    /// # Safety
    /// `pool` is one of this registry and, if this is its last use, nobody
    /// allocates from it or frees to it any more. `local` is the caller's.
    // KEEPS: INV-19
    pub unsafe fn destroy(&self, pool: NonNull<Head>, local: Option<&Local>) -> bool {
        let head = pool.as_ptr();
        // SAFETY: the pool exists until its last use ends.
        let pool = unsafe { &*head };
        if let Some(local) = local {
            pool.empty_cache(local, super::need::Keep::Nothing);
        }
        pool.empty_shared();
        let dead = {
            let mut list = self.list.lock();
            if pool.snapshot().1 != 0 {
                return false;
            }
            list.links(head).users -= 1;
            list.remove_if_dead(head)
        };
        // SAFETY: out of the list, unpinned and unused.
        unsafe { bury(dead) };
        true
    }

    /// Destroys every pool that has no live objects, whatever its number of
    /// uses, and empties all caches: the number of pools left.
    ///
    /// # Safety
    /// No other registered thread runs, and nobody uses a pool meanwhile.
    /// Thereafter every thread attaches anew.
    // KEEPS: INV-19
    pub unsafe fn destroy_all(&self, local: Option<&Local>) -> usize {
        let mut left = 0;
        self.visit(|pool| {
            // SAFETY: by this function's contract.
            unsafe { pool.empty_all_caches() };
            pool.empty_shared();
            let mut list = self.list.lock();
            if pool.snapshot().1 == 0 {
                // The visit's own pin buries it.
                list.links(ptr::from_ref(pool).cast_mut()).users = 0;
            } else {
                left += 1;
            }
        });
        self.clear_declared();
        if let Some(local) = local {
            self.attach(local);
        }
        left
    }

    /// The figures of all pools together.
    pub fn totals(&self) -> Stats {
        let mut total = Stats::default();
        self.visit(|pool| {
            let stats = pool.stats();
            total.allocated += stats.allocated;
            total.used += stats.used;
            total.cached += stats.cached;
            total.failed += stats.failed;
            total.bytes += stats.bytes;
        });
        total
    }

    /// Bytes of all allocated objects and of those in callers' hands, counting
    /// `size` bytes for each.
    // KEEPS: INV-21
    pub fn total_bytes(&self) -> (u64, u64) {
        let mut total = (0, 0);
        self.visit(|pool| {
            let stats = pool.stats();
            let size = u64::from(pool.size());
            total.0 += stats.allocated * size;
            total.1 += stats.used * size;
        });
        total
    }

    /// Calls `f` with each pool, smallest objects first. No lock is held
    /// meanwhile: pools may come and go, but not the one at hand.
    pub(super) fn visit(&self, mut f: impl FnMut(&Head)) {
        let mut done = ptr::null_mut();
        loop {
            let (next, dead) = {
                let mut list = self.list.lock();
                let next = list.next_alive(done);
                if !next.is_null() {
                    list.links(next).pins += 1;
                }
                (next, list.unpin(done))
            };
            // SAFETY: out of the list, unpinned and unused.
            unsafe { bury(dead) };
            if next.is_null() {
                return;
            }
            // SAFETY: pinned, so it exists.
            f(unsafe { &*next });
            done = next;
        }
    }

    /// Pins all pools and calls `f`, under the lock, with the place of each in
    /// the list, its address and its users; nothing of it if there are more
    /// than `room`. Their number.
    pub(super) fn pin_all(&self, room: usize, mut f: impl FnMut(usize, *const Head, u32)) -> usize {
        let mut list = self.list.lock();
        let count = list.count_alive();
        if count <= room {
            let mut pool = ptr::null_mut();
            for place in 0..count {
                pool = list.next_alive(pool);
                let links = list.links(pool);
                links.pins += 1;
                f(place, pool, links.users);
            }
        }
        count
    }

    /// The pool that the thread has not put an object into for longest, among
    /// those of which it caches some. Pinned: the caller owes an
    /// [`unpin`](Self::unpin).
    pub(super) fn pin_coldest(&self, local: &Local) -> Option<*mut Head> {
        let mut list = self.list.lock();
        let mut coldest: Option<(u32, *mut Head)> = None;
        let mut pool = list.next_alive(ptr::null_mut());
        while !pool.is_null() {
            // SAFETY: in the list, so it exists.
            let cache = unsafe { (*pool).cache_of(local) };
            let age = cache.age(local.clock());
            if cache.len() > 0 && coldest.is_none_or(|(oldest, _)| age > oldest) {
                coldest = Some((age, pool));
            }
            pool = list.next_alive(pool);
        }
        let (_, pool) = coldest?;
        list.links(pool).pins += 1;
        Some(pool)
    }

    pub(super) fn unpin(&self, pool: *mut Head) {
        let dead = self.list.lock().unpin(pool);
        // SAFETY: out of the list, unpinned and unused.
        unsafe { bury(dead) };
    }

    /// Fixes a pool's size: called before its first allocation.
    // KEEPS: INV-18
    #[inline]
    pub(super) fn freeze(&self, pool: &Head) {
        // PAIRS: the store below; the sizes set by creation and merging.
        // UNSEEN: they are atomics, here and below; ThreadSanitizer leaves those alone.
        if !pool.frozen.load(Ordering::Acquire) {
            let _list: MutexGuard<'_, List> = self.list.lock();
            // PAIRS: the load above.
            // UNSEEN: as above.
            pool.frozen.store(true, Ordering::Release);
        }
    }

    /// How often `pool` was created and not destroyed.
    pub(super) fn users(&self, pool: &Head) -> u32 {
        let pool = ptr::from_ref(pool).cast_mut();
        self.list.lock().links(pool).users
    }

    /// Calls `f` with each request that led to `pool`, and how often it was
    /// made. No lock is held meanwhile.
    pub(super) fn each_request(&self, pool: &Head, mut f: impl FnMut(&Request, u64)) {
        let head = ptr::from_ref(pool).cast_mut();
        let mut at: *const Entry = ptr::null();
        loop {
            let (request, times) = {
                let mut list = self.list.lock();
                let Some(entry) = list.links(head).requests.after(at) else {
                    return;
                };
                at = entry.as_ptr();
                // SAFETY: entries stay as long as their pool, and change under
                // the lock alone.
                let entry = unsafe { entry.as_ref() };
                (entry.request, entry.times)
            };
            f(&request, times);
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{MEM_F_EXACT, MEM_F_SHARED, MEM_F_UAF};

    fn make(registry: &Registry, size: u32, flags: u32) -> *mut Head {
        registry.create(b"test", size, 0, flags).unwrap().as_ptr()
    }

    fn size(pool: *mut Head) -> u32 {
        // SAFETY: the tests' pools exist.
        unsafe { (*pool).size() }
    }

    fn end(registry: &Registry) {
        // SAFETY: nobody else knows the registry.
        assert_eq!(unsafe { registry.destroy_all(None) }, 0);
        assert!(registry.list.lock().is_empty());
    }

    // SHOWS: INV-18
    #[test]
    fn worked_values_of_merging() {
        let registry = Registry::new();
        let a = make(&registry, 100, MEM_F_SHARED);
        assert_eq!(a, make(&registry, 104, MEM_F_SHARED));
        assert_eq!(size(a), 112);
        let b = make(&registry, 4000, MEM_F_SHARED);
        assert_eq!(b, make(&registry, 4030, MEM_F_SHARED));
        assert_eq!(size(b), 4032);
        // SAFETY: the pools exist; the object is freed once.
        unsafe {
            let object = registry.alloc(&*b, None, 0);
            registry.free(&*b, None, object);
        }
        assert_ne!(b, make(&registry, 4010, MEM_F_SHARED));
        assert_eq!(b, make(&registry, 4025, MEM_F_SHARED));
        end(&registry);
    }

    #[test]
    fn what_does_not_merge() {
        let registry = Registry::new();
        let a = make(&registry, 64, MEM_F_SHARED);
        assert_ne!(a, make(&registry, 64, 0));
        assert_ne!(a, make(&registry, 64, MEM_F_SHARED | MEM_F_UAF));
        assert_ne!(a, make(&registry, 70, MEM_F_SHARED | MEM_F_EXACT));
        assert_eq!(a, make(&registry, 64, MEM_F_SHARED | MEM_F_EXACT));
        assert_eq!(registry.debug(b"no-merge"), 0);
        assert_ne!(a, make(&registry, 64, MEM_F_SHARED));
        end(&registry);
    }

    // SHOWS: INV-18
    #[test]
    fn an_exact_pool_keeps_its_size() {
        let registry = Registry::new();
        let exact = make(&registry, 100, MEM_F_SHARED | MEM_F_EXACT);
        assert_eq!(size(exact), 100);
        assert_ne!(exact, make(&registry, 101, MEM_F_SHARED));
        assert_eq!(size(exact), 100);
        end(&registry);
    }

    // SHOWS: INV-18
    #[test]
    fn alignments_are_rounded_and_merged_to_the_larger() {
        let registry = Registry::new();
        let create = |align| registry.create(b"a", 64, align, MEM_F_SHARED);
        let a = create(48).unwrap();
        // SAFETY: the pool exists.
        let head = unsafe { a.as_ref() };
        assert_eq!(head.align(), 64);
        assert_eq!(create(128).unwrap(), a);
        assert_eq!(head.align(), 128);
        // SAFETY: the pool exists; the object is freed once.
        unsafe {
            let object = registry.alloc(head, None, 0);
            assert_eq!(object.addr() % 128, 0);
            registry.free(head, None, object);
        }
        assert_ne!(create(256).unwrap(), a);
        assert_eq!(create(2).unwrap(), a);
        assert_eq!(create(u32::MAX), Err(sys::EINVAL));
        end(&registry);
    }

    #[test]
    fn sizes_beyond_reason_are_refused() {
        let registry = Registry::new();
        assert_eq!(registry.create(b"a", u32::MAX, 0, 0), Err(sys::EINVAL));
        assert_eq!(size(make(&registry, 0, 0)), 16);
        assert_eq!(size(make(&registry, 0, MEM_F_EXACT)), 0);
        end(&registry);
    }

    // SHOWS: INV-20
    #[test]
    fn pool_29_heads_are_aligned() {
        let registry = Registry::new();
        for i in 0..50 {
            assert_eq!(make(&registry, i * 16, 0).addr() % 64, 0);
        }
        end(&registry);
    }

    #[test]
    fn the_list_is_ordered_by_size() {
        let registry = Registry::new();
        for size in [500, 16, 4000, 80, 4000] {
            make(&registry, size, 0);
        }
        let (mut last, mut n) = (0, 0);
        registry.visit(|pool| {
            assert!(pool.size() >= last);
            last = pool.size();
            n += 1;
        });
        assert_eq!(n, 5);
        end(&registry);
    }

    // SHOWS: INV-19
    #[test]
    fn a_pool_destroyed_during_a_visit_lives_until_it_ends() {
        let registry = Registry::new();
        let a = make(&registry, 16, 0);
        make(&registry, 32, 0);
        let mut seen = 0;
        registry.visit(|pool| {
            seen += 1;
            if ptr::from_ref(pool) == a {
                // SAFETY: the pool exists and nobody uses it.
                assert!(unsafe { registry.destroy(NonNull::new(a).unwrap(), None) });
                assert_eq!(pool.size(), 16);
            }
        });
        assert_eq!(seen, 2);
        let mut left = 0;
        registry.visit(|_| left += 1);
        assert_eq!(left, 1);
        end(&registry);
    }

    #[test]
    fn names_are_cut_and_made_printable() {
        let registry = Registry::new();
        let pool = registry
            .create(b"twelve chars and more\xff", 8, 0, 0)
            .unwrap();
        // SAFETY: the pool exists.
        assert_eq!(unsafe { pool.as_ref() }.name().to_string(), "twelve char");
        let pool = registry.create(b"a\n\xffb", 8, 0, 0).unwrap();
        // SAFETY: the pool exists.
        assert_eq!(unsafe { pool.as_ref() }.name().to_string(), "a??b");
        end(&registry);
    }
}
