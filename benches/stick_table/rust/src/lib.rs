//! Three maps of Rust's with the same payload: moka (a cache that expires by
//! itself), papaya (lookups without a lock) and dashmap (sharded locks). They
//! hash with ahash, which is seeded at random as their own default is, and faster.

use std::cell::Cell;
use std::ffi::c_char;
use std::hint::black_box;
use std::slice;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ahash::RandomState;
use dashmap::DashMap;
use moka::sync::Cache;
use papaya::HashMap;
use parking_lot::Mutex;

#[path = "../../../callout/finish.rs"]
mod finish;
use finish::finish;

// As in bench.h.
const LOOKUP: u32 = 1;
const HIT: u32 = 2;
const HIT_ALONE: u32 = 3;
const CREATE: u32 = 4;
const EXPIRE: u32 = 5;
const COUNTED: u32 = 6;
const PERIOD_MS: u32 = 10000;

#[repr(C)]
pub struct Peer {
    name: *const c_char,
    open: Option<extern "C" fn() -> *const c_char>,
    make: extern "C" fn(u32, u32) -> bool,
    enter: extern "C" fn(u32),
    turn: extern "C" fn(),
    run: unsafe extern "C" fn(u32, *const u32, u32) -> u64,
    cost: Option<extern "C" fn() -> u32>,
}

thread_local! {
    /// A loop's cached time, in milliseconds.
    static NOW: Cell<u32> = const { Cell::new(0) };
}
static START: OnceLock<Instant> = OnceLock::new();
static LIFE: OnceLock<u32> = OnceLock::new();

extern "C" fn turn() {
    NOW.set(START.get_or_init(Instant::now).elapsed().as_millis() as u32);
}

extern "C" fn enter(_thread: u32) {
    turn();
}

fn date() -> u32 {
    NOW.get().wrapping_add(*LIFE.get().unwrap())
}

#[derive(Default)]
struct Window {
    tick: u32,
    current: u32,
    previous: u32,
}

impl Window {
    fn count(&mut self) {
        let now = NOW.get();
        let gone = now.wrapping_sub(self.tick);
        if gone < PERIOD_MS {
            self.current += 1;
            return;
        }
        (self.tick, self.previous) = if gone < 2 * PERIOD_MS {
            (self.tick.wrapping_add(PERIOD_MS), self.current)
        } else {
            (now, 0)
        };
        self.current = 1;
    }
}

struct Payload {
    date: u32,
    conn_cnt: u32,
    conn_rate: Window,
    http_req_rate: Window,
}

impl Payload {
    fn new() -> Self {
        Payload {
            date: date(),
            conn_cnt: 0,
            conn_rate: Window::default(),
            http_req_rate: Window::default(),
        }
    }

    fn hit(&mut self) {
        self.count();
        self.date = date();
    }

    fn count(&mut self) {
        self.conn_cnt += 1;
        self.conn_rate.count();
        self.http_req_rate.count();
    }

    fn is_alive(&self) -> bool {
        (self.date.wrapping_sub(NOW.get()) as i32) > 0
    }
}

/// What differs between the three.
trait Table: Sized + 'static {
    const NAME: &'static std::ffi::CStr;
    fn make(n: u32, life: Duration) -> Self;
    fn it() -> &'static OnceLock<Self>;
    fn lookup(&self, key: u32) -> bool;
    fn hit(&self, key: u32) -> bool;
    fn create(&self, key: u32) -> bool;
    /// Removes the expired, and says how many are left.
    fn expire(&self) -> usize;
    fn counted(&self, key: u32) -> u32;
}

/// Time-to-idle is the table's expiry; moka reads its own clock. It is given no
/// capacity: to keep to one, it would have to do more.
struct Moka(Cache<u32, Arc<Mutex<Payload>>, RandomState>);

impl Table for Moka {
    const NAME: &'static std::ffi::CStr = c"moka";

    fn make(n: u32, life: Duration) -> Self {
        Moka(
            Cache::builder()
                .time_to_idle(life)
                .initial_capacity(n as usize)
                .build_with_hasher(RandomState::new()),
        )
    }

    fn it() -> &'static OnceLock<Self> {
        static IT: OnceLock<Moka> = OnceLock::new();
        &IT
    }

    fn lookup(&self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn hit(&self, key: u32) -> bool {
        // `get()` renews the date.
        let Some(payload) = self.0.get(&key) else {
            return false;
        };
        payload.lock().count();
        true
    }

    fn create(&self, key: u32) -> bool {
        self.0
            .entry(key)
            .or_insert_with(|| Arc::new(Mutex::new(Payload::new())))
            .is_fresh()
    }

    fn expire(&self) -> usize {
        for _ in 0..1_000_000 {
            self.0.run_pending_tasks();
            if self.0.entry_count() == 0 {
                break;
            }
        }
        self.0.entry_count() as usize
    }

    fn counted(&self, key: u32) -> u32 {
        self.0.get(&key).map_or(0, |p| p.lock().conn_cnt)
    }
}

struct Papaya(HashMap<u32, Mutex<Payload>, RandomState>);

impl Table for Papaya {
    const NAME: &'static std::ffi::CStr = c"papaya";

    fn make(n: u32, _life: Duration) -> Self {
        Papaya(HashMap::with_capacity_and_hasher(
            n as usize,
            RandomState::new(),
        ))
    }

    fn it() -> &'static OnceLock<Self> {
        static IT: OnceLock<Papaya> = OnceLock::new();
        &IT
    }

    fn lookup(&self, key: u32) -> bool {
        self.0.pin().get(&key).is_some()
    }

    fn hit(&self, key: u32) -> bool {
        self.0.pin().get(&key).map(|p| p.lock().hit()).is_some()
    }

    fn create(&self, key: u32) -> bool {
        let mut is_new = false;
        self.0.pin().get_or_insert_with(key, || {
            is_new = true;
            Mutex::new(Payload::new())
        });
        is_new
    }

    fn expire(&self) -> usize {
        turn();
        let map = self.0.pin();
        map.retain(|_, p| p.lock().is_alive());
        map.len()
    }

    fn counted(&self, key: u32) -> u32 {
        self.0.pin().get(&key).map_or(0, |p| p.lock().conn_cnt)
    }
}

struct Dash(DashMap<u32, Payload, RandomState>);

impl Table for Dash {
    const NAME: &'static std::ffi::CStr = c"dashmap";

    fn make(n: u32, _life: Duration) -> Self {
        Dash(DashMap::with_capacity_and_hasher(
            n as usize,
            RandomState::new(),
        ))
    }

    fn it() -> &'static OnceLock<Self> {
        static IT: OnceLock<Dash> = OnceLock::new();
        &IT
    }

    fn lookup(&self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn hit(&self, key: u32) -> bool {
        self.0.get_mut(&key).map(|mut p| p.hit()).is_some()
    }

    fn create(&self, key: u32) -> bool {
        let mut is_new = false;
        self.0.entry(key).or_insert_with(|| {
            is_new = true;
            Payload::new()
        });
        is_new
    }

    fn expire(&self) -> usize {
        turn();
        self.0.retain(|_, p| p.is_alive());
        self.0.len()
    }

    fn counted(&self, key: u32) -> u32 {
        self.0.get(&key).map_or(0, |p| p.conn_cnt)
    }
}

extern "C" fn make<T: Table>(n: u32, life: u32) -> bool {
    let _ = LIFE.set(life);
    let table = T::make(n, Duration::from_millis(life as u64));
    T::it().set(table).is_ok()
}

/// # Safety
/// `keys` are `n`, or null and `n` is not used.
unsafe extern "C" fn run<T: Table>(op: u32, keys: *const u32, n: u32) -> u64 {
    let table = T::it().get().unwrap();
    if op == EXPIRE {
        return table.expire() as u64;
    }
    // SAFETY: by this function's contract.
    let keys = unsafe { slice::from_raw_parts(keys, n as usize) }.iter();
    match op {
        LOOKUP => keys.map(|&k| table.lookup(k) as u64).sum(),
        HIT => keys.map(|&k| table.hit(k) as u64).sum(),
        HIT_ALONE => keys
            .map(|&k| {
                let hit = table.hit(k) as u64;
                finish();
                hit
            })
            .sum(),
        CREATE => keys.map(|&k| table.create(k) as u64).sum(),
        COUNTED => keys.map(|&k| table.counted(k) as u64).sum(),
        _ => keys.map(|k| (black_box(k), 1).1).sum(),
    }
}

const fn peer<T: Table>() -> Peer {
    Peer {
        name: T::NAME.as_ptr(),
        open: None,
        make: make::<T>,
        enter,
        turn,
        run: run::<T>,
        cost: None,
    }
}

struct List([*const Peer; 4]);
// SAFETY: nobody writes to it.
unsafe impl Sync for List {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

#[unsafe(no_mangle)]
pub extern "C" fn contestants() -> *const *const Peer {
    static MOKA: Peer = peer::<Moka>();
    static PAPAYA: Peer = peer::<Papaya>();
    static DASHMAP: Peer = peer::<Dash>();
    static LIST: List = List([
        &raw const MOKA,
        &raw const PAPAYA,
        &raw const DASHMAP,
        std::ptr::null(),
    ]);
    LIST.0.as_ptr()
}
