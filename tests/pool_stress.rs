//! Real threads for a few seconds: registered and unregistered ones allocate,
//! pass objects to each other and free them, while others flush and collect.
//! With the words "uaf,cache" the system unmaps each object when it gets it,
//! so that a late look at a link faults (POOL-1, POOL-4, POOL-5).
#![cfg(not(loom))]

use keel::pool::{Head, Local, Registry};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REGISTERED: usize = 4;
const UNREGISTERED: usize = 2;

/// An object on its way between threads.
struct Parcel(*mut u64, u64);

// SAFETY: a parcel is the right to its object.
unsafe impl Send for Parcel {}

struct World {
    registry: Registry,
    pools: Vec<&'static Head>,
    exchange: Vec<Mutex<Vec<Parcel>>>,
    stamps: AtomicU64,
    stop: AtomicBool,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % sides
    }
}

impl World {
    /// Fills an object from end to end with a stamp of its own.
    fn send(&self, p: usize, object: *mut u8) -> Parcel {
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        let words = self.pools[p].size() as usize / 8;
        // SAFETY: the object is ours and that long.
        unsafe { std::slice::from_raw_parts_mut(object.cast::<u64>(), words) }.fill(stamp);
        Parcel(object.cast(), stamp)
    }

    fn receive(&self, p: usize, parcel: Parcel) -> *mut u8 {
        let words = self.pools[p].size() as usize / 8;
        // SAFETY: the object is ours and that long.
        let words = unsafe { std::slice::from_raw_parts(parcel.0, words) };
        assert!(words.iter().all(|&w| w == parcel.1), "somebody else wrote");
        parcel.0.cast()
    }

    fn work(&self, local: Option<&Local>, seed: u64) {
        let mut dice = Dice(seed);
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let p = dice.roll(self.pools.len());
            let n = 1 + dice.roll(12);
            for _ in 0..n {
                // SAFETY: the pool exists; the local is this thread's.
                let object = unsafe { self.registry.alloc(self.pools[p], local, 0) };
                let parcel = self.send(p, object);
                self.exchange[p].lock().unwrap().push(parcel);
            }
            let mut received = {
                let mut exchange = self.exchange[p].lock().unwrap();
                let keep = exchange.len().saturating_sub(n);
                exchange.split_off(keep)
            };
            while let Some(parcel) = received.pop() {
                let object = self.receive(p, parcel);
                // SAFETY: a live object of the pool.
                unsafe { self.registry.free(self.pools[p], local, object) };
            }
            turn += 1;
            match dice.roll(64) {
                0 => self.registry.flush(self.pools[p]),
                1 if turn % 8 == 0 => self.registry.gc(local),
                2 => self.pools[p].set_minavail(dice.roll(40) as u32),
                3 => {
                    if let Some(local) = local {
                        self.registry.flush_local(local);
                    }
                }
                _ => {}
            }
            if let Some(local) = local {
                self.registry.poll_gc(local);
                assert!(local.bytes() <= local.limit());
            }
        }
        if let Some(local) = local {
            self.registry.flush_local(local);
        }
    }
}

/// `threads` are announced, which makes the number of buckets.
fn stress(words: &str, sizes: &[u32], cache: usize, threads: usize, time: Duration) {
    let registry = Registry::new();
    registry.set_threads(threads);
    assert_eq!(registry.debug(words.as_bytes()), 0);
    registry.set_cache_bytes(cache);
    let pools: Vec<&'static Head> = sizes
        .iter()
        // SAFETY: the pools live until the end of this function.
        .map(|&size| unsafe { registry.create(b"s", size, 0, 0).unwrap().as_ref() })
        .collect();
    let world = World {
        registry,
        exchange: pools.iter().map(|_| Mutex::new(Vec::new())).collect(),
        pools,
        stamps: AtomicU64::new(1),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let world = &world;
        for tid in 0..REGISTERED + UNREGISTERED {
            scope.spawn(move || {
                let local = Local::new(tid);
                let local = (tid < REGISTERED).then_some(&local);
                local.inspect(|l| world.registry.attach(l));
                world.work(local, 0x9E37_79B9 + tid as u64);
            });
        }
        let start = Instant::now();
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(10));
        }
        world.stop.store(true, Ordering::Relaxed);
    });
    for (p, pool) in world.pools.iter().enumerate() {
        for parcel in world.exchange[p].lock().unwrap().drain(..) {
            let object = world.receive(p, parcel);
            // SAFETY: a live object of the pool.
            unsafe { world.registry.free(pool, None, object) };
        }
        world.registry.flush(pool);
        assert_eq!(pool.stats().allocated, 0, "{words}");
    }
    // SAFETY: every thread has ended.
    assert_eq!(unsafe { world.registry.destroy_all(None) }, 0);
}

// SHOWS: INV-3, INV-5
#[test]
fn pool_1_5_objects_unmapped_when_freed() {
    stress("uaf,cache", &[64, 3000], 4000, 1, Duration::from_secs(1));
    stress("uaf,cache", &[64, 3000], 4000, 16, Duration::from_secs(1));
}

// SHOWS: INV-1, INV-2, INV-16
#[test]
fn inv_1_real_threads() {
    stress(
        "no-tag",
        &[64, 256, 4096],
        20_000,
        64,
        Duration::from_secs(1),
    );
}

// SHOWS: INV-9
#[test]
fn inv_9_real_threads_with_tags() {
    stress(
        "tag,cold-first",
        &[64, 1000],
        20_000,
        8,
        Duration::from_secs(1),
    );
}
