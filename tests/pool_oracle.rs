//! Random operations of several simulated threads against a simple model:
//! INV-1 (conservation), INV-2 (one home), INV-7 (cache bound), INV-12 (floor
//! of gc), INV-14 (limit), INV-17 (nothing stranded), INV-23 (fill); with any
//! debugging words.
#![cfg(not(loom))]

use keel::pool::{Head, Local, MEM_F_SHARED, POOL_F_MUST_ZERO, Registry};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// Simulated threads that are registered, whatever the registry was told.
const THREADS: usize = 16;
const SIZES: [u32; 4] = [16, 100, 1000, 5000];
const CACHE: usize = 20_000;

#[derive(Clone, Debug)]
enum Op {
    /// Thread (THREADS: an unregistered one), pool, how many, zeroed.
    Alloc(usize, usize, usize, bool),
    Free(usize, usize, usize),
    AllocNocache(usize),
    FreeNocache(usize),
    Flush(usize),
    Gc(usize),
    PollGc(usize),
    Leave(usize),
    Minavail(usize, u32),
    Limit(usize, u32),
    /// More or fewer threads are announced: pools get more buckets.
    Threads(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let thread = 0..=THREADS;
    let pool = 0..SIZES.len();
    prop_oneof![
        8 => (thread.clone(), pool.clone(), 1..40usize, any::<bool>())
            .prop_map(|(t, p, n, z)| Op::Alloc(t, p, n, z)),
        8 => (thread.clone(), pool.clone(), 1..40usize).prop_map(|(t, p, n)| Op::Free(t, p, n)),
        1 => pool.clone().prop_map(Op::AllocNocache),
        1 => pool.clone().prop_map(Op::FreeNocache),
        1 => pool.clone().prop_map(Op::Flush),
        1 => thread.clone().prop_map(Op::Gc),
        1 => (0..THREADS).prop_map(Op::PollGc),
        1 => (0..THREADS).prop_map(Op::Leave),
        1 => (pool.clone(), 0..30u32).prop_map(|(p, n)| Op::Minavail(p, n)),
        1 => (pool, 0..100u32).prop_map(|(p, n)| Op::Limit(p, n)),
        1 => (1..=64usize).prop_map(Op::Threads),
    ]
}

/// Any of the debugging words, all of which may be combined.
fn words() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec![
        "tag",
        "poison",
        "cold-first",
        "integrity",
        "backup",
        "caller",
        "no-merge",
        "fail=5",
        "no-global",
        "no-cache",
        "uaf",
        "uaf,cache",
    ];
    prop_oneof![
        1 => Just(Vec::new()),
        2 => prop::sample::subsequence(all, 0..=4).prop_shuffle(),
    ]
}

struct World {
    registry: Registry,
    words: Vec<&'static str>,
    pools: Vec<*mut Head>,
    locals: Vec<Local>,
    /// What callers hold of each pool: address and the byte it is filled with.
    live: Vec<Vec<(*mut u8, u8)>>,
    /// Where each live object is: the pool.
    home: HashMap<usize, usize>,
    failed: Vec<u64>,
    stamp: u8,
}

impl World {
    fn new(words: Vec<&'static str>, threads: usize) -> Self {
        let registry = Registry::new();
        assert_eq!(registry.debug(words.join(",").as_bytes()), 0);
        registry.set_threads(threads);
        registry.set_started(true);
        registry.set_cache_bytes(CACHE);
        let locals: Vec<_> = (0..THREADS).map(Local::new).collect();
        locals.iter().for_each(|l| registry.attach(l));
        let pools = SIZES
            .iter()
            .map(|&size| registry.create(b"p", size, 0, 0).unwrap().as_ptr())
            .collect();
        Self {
            registry,
            words,
            pools,
            locals,
            live: vec![Vec::new(); SIZES.len()],
            home: HashMap::new(),
            failed: vec![0; SIZES.len()],
            stamp: 0,
        }
    }

    fn pool(&self, p: usize) -> &'static Head {
        // SAFETY: the pools outlive every use of the result.
        unsafe { &*self.pools[p] }
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// Where free objects are kept, if at all: the later of two words wins.
    fn keeps(&self) -> (bool, bool) {
        let caches = self.words.iter().fold(true, |on, &word| match word {
            "no-cache" | "uaf" => false,
            "uaf,cache" => true,
            _ => on,
        });
        (caches, caches && !self.has("no-global"))
    }

    fn local(&self, t: usize) -> Option<&Local> {
        self.locals.get(t)
    }

    fn received(&mut self, p: usize, object: *mut u8, zeroed: bool) {
        if object.is_null() {
            let (pool, limit) = (self.pool(p), self.pool(p).limit());
            let refused = limit != 0 && pool.stats().allocated >= u64::from(limit);
            assert!(refused || self.has("fail=5"));
            self.failed[p] += 1;
            return;
        }
        assert!(
            self.home.insert(object.addr(), p).is_none(),
            "handed out twice"
        );
        let size = self.pool(p).size() as usize;
        self.stamp = self.stamp.wrapping_add(1);
        // SAFETY: the object is ours and that long.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(object, size);
            assert!(!zeroed || bytes.iter().all(|&b| b == 0));
            assert!(zeroed || !self.has("poison") || bytes.iter().all(|&b| b == b'P'));
            bytes.fill(self.stamp);
        }
        self.live[p].push((object, self.stamp));
    }

    /// A live object of pool `p`, no longer in the model.
    fn give_up(&mut self, p: usize) -> Option<*mut u8> {
        if self.live[p].is_empty() {
            return None;
        }
        let index = usize::from(self.stamp) % self.live[p].len();
        let (object, stamp) = self.live[p].swap_remove(index);
        self.home.remove(&object.addr());
        let size = self.pool(p).size() as usize;
        // SAFETY: the object is ours and that long.
        let bytes = unsafe { std::slice::from_raw_parts(object, size) };
        assert!(bytes.iter().all(|&b| b == stamp), "somebody else wrote");
        Some(object)
    }

    fn shared(&self, p: usize) -> u64 {
        let stats = self.pool(p).stats();
        let local: u32 = (0..THREADS).map(|t| self.pool(p).cached_by(t)).sum();
        stats.cached - u64::from(local)
    }

    /// Bytes in the caches of a thread.
    fn cached(&self, t: usize) -> usize {
        let bytes = |p| self.pool(p).cached_by(t) as usize * self.pool(p).size() as usize;
        (0..SIZES.len()).map(bytes).sum()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Alloc(t, p, n, zeroed) => {
                for _ in 0..n {
                    let flags = if zeroed { POOL_F_MUST_ZERO } else { 0 };
                    // SAFETY: the pool exists; the local is this thread's.
                    let object = unsafe { self.registry.alloc(self.pool(p), self.local(t), flags) };
                    self.received(p, object, zeroed);
                }
            }
            Op::Free(t, p, n) => {
                for _ in 0..n {
                    let Some(object) = self.give_up(p) else { break };
                    // SAFETY: a live object of the pool.
                    unsafe { self.registry.free(self.pool(p), self.local(t), object) };
                }
            }
            Op::AllocNocache(p) => {
                // SAFETY: the pool exists.
                let object = unsafe { self.registry.alloc_nocache(self.pool(p), 0) };
                self.received(p, object, false);
            }
            Op::FreeNocache(p) => {
                if let Some(object) = self.give_up(p) {
                    // SAFETY: a live object of the pool.
                    unsafe { self.registry.free_nocache(self.pool(p), object, 0) };
                }
            }
            Op::Flush(p) => {
                self.registry.flush(self.pool(p));
                assert_eq!(self.shared(p), 0);
            }
            Op::Gc(t) => {
                let free: Vec<_> = (0..SIZES.len())
                    .map(|p| {
                        let own = self.local(t).map_or(0, |_| self.pool(p).cached_by(t));
                        self.shared(p) + u64::from(own)
                    })
                    .collect();
                self.registry.gc(self.local(t));
                for (p, free) in free.into_iter().enumerate() {
                    let floor = match self.keeps() {
                        (_, true) => u64::from(self.pool(p).minavail()),
                        _ => 0,
                    };
                    assert_eq!(self.shared(p), free.min(floor));
                }
            }
            Op::PollGc(t) => {
                let before: Vec<_> = (0..SIZES.len()).map(|p| self.shared(p)).collect();
                self.registry.poll_gc(&self.locals[t]);
                for (p, before) in before.into_iter().enumerate() {
                    let floor = u64::from(self.pool(p).minavail());
                    assert!(self.shared(p) <= before.max(floor));
                }
            }
            Op::Leave(t) => {
                self.registry.flush_local(&self.locals[t]);
                assert_eq!(self.locals[t].bytes(), 0);
                assert_eq!(self.cached(t), 0);
            }
            Op::Minavail(p, n) => self.pool(p).set_minavail(n),
            Op::Limit(p, n) => self.pool(p).set_limit(n),
            Op::Threads(n) => self.registry.set_threads(n),
        }
    }

    fn check(&self) {
        for p in 0..SIZES.len() {
            let stats = self.pool(p).stats();
            assert_eq!(stats.used, self.live[p].len() as u64);
            assert_eq!(stats.allocated, stats.used + stats.cached);
            assert_eq!(stats.failed, self.failed[p]);
            assert!(stats.bytes >= stats.allocated * u64::from(self.pool(p).size()));
            let (caches, shares) = self.keeps();
            assert!(caches || stats.cached == 0);
            assert!(shares || self.shared(p) == 0);
        }
        for (t, local) in self.locals.iter().enumerate() {
            assert!(self.cached(t) <= local.bytes());
            assert!(local.bytes() <= CACHE);
        }
    }

    /// Counters agree with what is physically there.
    fn end(mut self) {
        for p in 0..SIZES.len() {
            while let Some(object) = self.give_up(p) {
                // SAFETY: a live object of the pool.
                unsafe { self.registry.free(self.pool(p), self.local(0), object) };
            }
        }
        for local in &self.locals {
            self.registry.flush_local(local);
        }
        for &pool in &self.pools {
            // SAFETY: the pool exists and nobody uses it any more.
            unsafe {
                self.registry.flush(&*pool);
                assert_eq!((*pool).stats().allocated, 0);
                let pool = std::ptr::NonNull::new(pool).unwrap();
                assert!(self.registry.destroy(pool, None));
            }
        }
        assert_eq!(self.registry.totals(), Default::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    // SHOWS: INV-1, INV-2, INV-7, INV-12, INV-14, INV-16
    #[test]
    fn inv_1_every_object_is_in_exactly_one_place(
        words in words(),
        threads in 1..=64usize,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(words, threads);
        for op in &ops {
            world.apply(op);
            world.check();
        }
        world.end();
    }
}

/// Spec section 12: a pool that dominates the cache gives way at 3/4.
// SHOWS: INV-7
#[test]
fn worked_values_of_one_dominant_pool() {
    let registry = Registry::new();
    let local = Local::new(0);
    registry.attach(&local);
    let pool = registry.create(b"k", 1024, 0, MEM_F_SHARED).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        let objects: Vec<_> = (0..600)
            .map(|_| registry.alloc(pool, Some(&local), 0))
            .collect();
        for (i, object) in objects.into_iter().enumerate() {
            registry.free(pool, Some(&local), object);
            let bytes = pool.cached_by(0) * 1024;
            match i + 1 {
                384 => assert_eq!(bytes, 393_216),
                385 | 393 | 401 => assert_eq!(bytes, 386_048),
                _ => {}
            }
            assert!(bytes <= 393_216);
        }
        assert_eq!(registry.destroy_all(Some(&local)), 0);
    }
}

/// The newest object is handed out first, or last with "cold-first"; the
/// oldest are evicted.
#[test]
fn order_of_the_cache() {
    for words in ["hot-first", "cold-first"] {
        let registry = Registry::new();
        assert_eq!(registry.debug(words.as_bytes()), 0);
        let local = Local::new(0);
        registry.attach(&local);
        let pool = registry.create(b"order", 1024, 0, 0).unwrap();
        // SAFETY: the pool exists; every object is freed once.
        unsafe {
            let pool = pool.as_ref();
            let alloc = || registry.alloc(pool, Some(&local), 0);
            let objects: Vec<_> = (0..385).map(|_| alloc()).collect();
            objects
                .iter()
                .for_each(|&o| registry.free(pool, Some(&local), o));
            assert_eq!(pool.cached_by(0), 377);
            let mut cached: Vec<_> = (0..377).map(|_| alloc()).collect();
            if words == "hot-first" {
                cached.reverse();
            }
            assert_eq!(cached, objects[8..]);
            cached
                .into_iter()
                .for_each(|o| registry.free(pool, Some(&local), o));
            assert_eq!(registry.destroy_all(Some(&local)), 0);
        }
    }
}

/// Spec section 12: many small shares stay until the limit, then the coldest
/// go until 7/8.
// SHOWS: INV-7
#[test]
fn worked_values_of_forty_pools() {
    let registry = Registry::new();
    let local = Local::new(0);
    registry.attach(&local);
    let pools: Vec<_> = (0..40)
        .map(|_| registry.create(b"m", 1024, 0, 0).unwrap())
        .collect();
    // SAFETY: the pools exist; every object is freed once.
    unsafe {
        let objects: Vec<_> = (0..560)
            .map(|i| {
                (
                    i / 14,
                    registry.alloc(pools[i / 14].as_ref(), Some(&local), 0),
                )
            })
            .collect();
        let cached = || {
            let each = pools.iter().map(|p| p.as_ref().cached_by(0) as usize);
            each.sum::<usize>() * 1024
        };
        let mut most = 0;
        for (p, object) in objects {
            let before = cached();
            registry.free(pools[p].as_ref(), Some(&local), object);
            if before == 512 * 1024 {
                assert!((450_560..=458_752).contains(&cached()), "{}", cached());
                assert_eq!(pools[0].as_ref().cached_by(0), 0);
                assert!(pools[39].as_ref().cached_by(0) > 0 || p < 39);
            }
            most = most.max(cached());
        }
        assert_eq!(most, 512 * 1024);
        assert_eq!(registry.destroy_all(Some(&local)), 0);
    }
}

/// After a burst, trickling traffic brings `allocated` down.
// SHOWS: INV-11
#[test]
fn pool_8_a_burst_is_given_back() {
    let registry = Registry::new();
    let local = Local::new(0);
    registry.attach(&local);
    let pool = registry.create(b"burst", 1024, 0, 0).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        let alloc = || registry.alloc(pool, Some(&local), 0);
        let burst: Vec<_> = (0..10_000).map(|_| alloc()).collect();
        burst
            .into_iter()
            .for_each(|o| registry.free(pool, Some(&local), o));
        for _ in 0..2000 {
            let few: Vec<_> = (0..400).map(|_| alloc()).collect();
            few.into_iter()
                .for_each(|o| registry.free(pool, Some(&local), o));
        }
        assert!(pool.stats().allocated < 1000, "{:?}", pool.stats());
        assert_eq!(registry.destroy_all(Some(&local)), 0);
    }
}

/// POOL-9, INV-17: one thread gets everything that lies in 16 buckets, though
/// the pool may not obtain another object.
// SHOWS: INV-17
#[test]
fn inv_17_nothing_is_stranded_in_a_bucket() {
    const OBJECTS: usize = 4000;
    for registered in [false, true] {
        let registry = Registry::new();
        registry.set_threads(64);
        let local = Local::new(5);
        registry.attach(&local);
        let local = registered.then_some(&local);
        let pool = registry.create(b"spread", 64, 0, 0).unwrap();
        // SAFETY: the pool exists; every object is freed once.
        unsafe {
            let pool = pool.as_ref();
            pool.set_minavail(OBJECTS as u32);
            let objects: Vec<_> = (0..OBJECTS)
                .map(|_| registry.alloc(pool, None, 0))
                .collect();
            for object in objects {
                registry.free(pool, None, object);
            }
            assert_eq!(pool.stats().cached, OBJECTS as u64);
            pool.set_limit(OBJECTS as u32);
            // One call looks into two buckets, not into all.
            let found: HashSet<_> = (0..100 * OBJECTS)
                .map(|_| registry.alloc(pool, local, 0))
                .filter(|object| !object.is_null())
                .collect();
            assert_eq!(found.len(), OBJECTS);
            assert_eq!(pool.stats().used, OBJECTS as u64);
            for object in found {
                registry.free(pool, local, object);
            }
            assert_eq!(registry.destroy_all(local), 0);
        }
    }
}

/// gc leaves exactly minavail free objects.
// SHOWS: INV-12
#[test]
fn pool_11_gc_respects_the_floor() {
    let registry = Registry::new();
    let pool = registry.create(b"floor", 64, 0, 0).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        let local = Local::new(0);
        registry.attach(&local);
        pool.set_minavail(12);
        let mut objects: Vec<_> = (0..32).map(|_| registry.alloc(pool, None, 0)).collect();
        objects
            .drain(..12)
            .for_each(|o| registry.free(pool, Some(&local), o));
        registry.flush_local(&local);
        assert_eq!(pool.stats().cached, 12);
        pool.set_minavail(10);
        registry.gc(None);
        assert_eq!((pool.stats().used, pool.stats().cached), (20, 10));
        objects
            .into_iter()
            .for_each(|o| registry.free(pool, None, o));
        assert_eq!(registry.destroy_all(None), 0);
    }
}

/// What the limit refuses is not counted as allocated.
// SHOWS: INV-14
#[test]
fn pool_12_the_limit_counts_right() {
    let registry = Registry::new();
    let pool = registry.create(b"limit", 64, 0, 0).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        pool.set_limit(5);
        let objects: Vec<_> = (0..8).map(|_| registry.alloc(pool, None, 0)).collect();
        assert!(objects[..5].iter().all(|o| !o.is_null()));
        assert!(objects[5..].iter().all(|o| o.is_null()));
        assert_eq!((pool.stats().allocated, pool.stats().failed), (5, 3));
        registry.free(pool, None, objects[0]);
        let again = registry.alloc(pool, None, 0);
        assert!(!again.is_null());
        objects[1..5]
            .iter()
            .chain([&again])
            .for_each(|&o| registry.free(pool, None, o));
        assert_eq!(registry.destroy_all(None), 0);
    }
}

/// POOL-14, and objects larger than the whole cache.
// SHOWS: INV-7
#[test]
fn pool_14_the_cache_is_bounded_for_every_size() {
    for size in [1, 16, 64, 600_000] {
        for flags in [0, keel::pool::MEM_F_EXACT] {
            let registry = Registry::new();
            let local = Local::new(0);
            registry.attach(&local);
            let pool = registry.create(b"many", size, 0, flags).unwrap();
            let n = if size > 1000 { 50 } else { 100_000 };
            // SAFETY: the pool exists; every object is freed once.
            unsafe {
                let pool = pool.as_ref();
                let objects: Vec<_> = (0..n)
                    .map(|_| registry.alloc(pool, Some(&local), 0))
                    .collect();
                for object in objects {
                    registry.free(pool, Some(&local), object);
                    assert!(local.bytes() <= local.limit());
                }
                assert!(pool.cached_by(0) <= 32768);
                assert_eq!(registry.destroy_all(Some(&local)), 0);
            }
        }
    }
}

/// POOL-15, POOL-16: no free object's links or marks leave its memory.
// SHOWS: INV-8
#[test]
fn pool_15_small_sizes_keep_to_themselves() {
    for words in [
        "no-tag",
        "tag",
        "tag,poison",
        "cold-first",
        "no-global",
        "no-cache",
        "uaf",
    ] {
        for flags in [0, keel::pool::MEM_F_EXACT] {
            let registry = Registry::new();
            assert_eq!(registry.debug(words.as_bytes()), 0);
            let local = Local::new(0);
            registry.attach(&local);
            for size in 0..=64 {
                let pool = registry.create(b"small", size, 0, flags).unwrap();
                // SAFETY: the pool exists; every object is freed once.
                unsafe {
                    let pool = pool.as_ref();
                    let size = pool.size() as usize;
                    let mut kept = Vec::new();
                    for turn in 0..3u8 {
                        let objects: Vec<_> = (0..20)
                            .map(|_| registry.alloc(pool, Some(&local), 0))
                            .collect();
                        objects.iter().for_each(|o| o.write_bytes(turn, size));
                        for (i, object) in objects.into_iter().enumerate() {
                            match i % 3 {
                                0 => registry.free(pool, Some(&local), object),
                                1 => registry.free(pool, None, object),
                                _ => kept.push((object, turn)),
                            }
                        }
                    }
                    for (object, turn) in kept {
                        let bytes = std::slice::from_raw_parts(object, size);
                        assert!(bytes.iter().all(|&b| b == turn), "{words} {size}");
                        registry.free(pool, None, object);
                    }
                }
            }
            // SAFETY: nobody uses the registry any more.
            assert_eq!(unsafe { registry.destroy_all(Some(&local)) }, 0);
        }
    }
}

/// Where the system gives nothing any more, an object that is free in
/// any of many buckets is found at once.
// SHOWS: INV-17
#[test]
fn inv_17_at_the_limit_every_bucket_is_looked_into() {
    let registry = Registry::new();
    registry.set_threads(64);
    let pool = registry.create(b"limit", 1000, 0, 0).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        pool.set_limit(100);
        pool.set_minavail(100);
        for _ in 0..10 {
            let objects: Vec<_> = (0..100).map(|_| registry.alloc(pool, None, 0)).collect();
            assert!(objects.iter().all(|o| !o.is_null()));
            assert!(registry.alloc(pool, None, 0).is_null());
            objects
                .into_iter()
                .for_each(|o| registry.free(pool, None, o));
        }
        assert_eq!(pool.stats().failed, 10);
        assert_eq!(registry.destroy_all(None), 0);
    }
}

/// Destruction empties the caller's cache, minds
/// other users, and destroy_all does not.
// SHOWS: INV-19
#[test]
fn pool_25_26_28_destruction() {
    let registry = Registry::new();
    let local = Local::new(0);
    registry.attach(&local);
    // SAFETY: each use of a pool comes before its destruction.
    unsafe {
        let a = registry.create(b"a", 64, 0, MEM_F_SHARED).unwrap();
        let b = registry.create(b"b", 64, 0, MEM_F_SHARED).unwrap();
        assert_eq!(a, b);
        let object = registry.alloc(a.as_ref(), Some(&local), 0);
        assert!(!registry.destroy(a, Some(&local)));
        registry.free(a.as_ref(), Some(&local), object);
        assert!(registry.destroy(a, Some(&local)));
        let object = registry.alloc(b.as_ref(), Some(&local), 0);
        registry.free(b.as_ref(), Some(&local), object);
        assert!(registry.destroy(b, Some(&local)));
        assert_eq!(local.bytes(), 0);
        registry.create(b"c", 64, 0, MEM_F_SHARED).unwrap();
        registry.create(b"c", 64, 0, MEM_F_SHARED).unwrap();
        assert_eq!(registry.destroy_all(None), 0);
        assert_eq!(registry.totals(), Default::default());
    }
}

/// The tag stands on every path, and the crimes are named.
// SHOWS: INV-9, INV-10
#[test]
fn pool_17_tags_on_every_path() {
    let registry = Registry::new();
    assert_eq!(registry.debug(b"tag"), 0);
    let local = Local::new(0);
    registry.attach(&local);
    let pool = registry.create(b"tagged", 100, 0, 0).unwrap();
    let other = registry.create(b"other", 100, 0, 0).unwrap();
    let locals = [Some(&local), None];
    // SAFETY: the pools exist; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        for from in locals {
            for to in locals {
                for _ in 0..50 {
                    let object = registry.alloc(pool, from, 0);
                    registry.free(pool, to, object);
                    let object = registry.alloc_nocache(pool, 0);
                    registry.free_nocache(pool, object, 0);
                }
            }
        }
        let object = registry.alloc(other.as_ref(), Some(&local), 0);
        registry.free(other.as_ref(), Some(&local), object);
        assert_eq!(registry.destroy_all(Some(&local)), 0);
    }
}

/// No failure is injected before the start is over, with
/// NO_FAIL, or at rate 0.
// SHOWS: INV-25
#[test]
fn pool_38_injected_failures() {
    let registry = Registry::new();
    assert_eq!(registry.debug(b"fail=30"), 0);
    let pool = registry.create(b"fail", 64, 0, 0).unwrap();
    // SAFETY: the pool exists; every object is freed once.
    unsafe {
        let pool = pool.as_ref();
        let failures = |flags| {
            (0..10_000)
                .filter(|_| {
                    let object = registry.alloc(pool, None, flags);
                    registry.free(pool, None, object);
                    object.is_null()
                })
                .count()
        };
        assert_eq!(failures(0), 0);
        registry.set_started(true);
        assert_eq!(failures(keel::pool::POOL_F_NO_FAIL), 0);
        let n = failures(0);
        assert!((2000..4000).contains(&n), "{n}");
        assert_eq!(pool.stats().failed, n as u64);
        assert_eq!(registry.debug(b"fail=0"), 0);
        assert_eq!(failures(0), 0);
        assert_eq!(registry.destroy_all(None), 0);
    }
}
