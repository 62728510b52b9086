//! Threads that keel starts for programs without a loop: they serve callouts
//! until `deinit`.

use super::core_state::{Core, core, require_core};
use super::{config::MAX_THREADS, registry, turn};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use crate::sys::thread::{self, Body, Handle};
use crate::sys::{self, futex};

const STARTING: u32 = 0;
const SERVING: u32 = 1;
const FAILED: u32 = 2;

/// One thread.
struct Seat {
    state: AtomicU32,
    /// Its id, or why it has none: a negative errno.
    result: AtomicI32,
    stop: AtomicBool,
}

impl Seat {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(STARTING),
            result: AtomicI32::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn arrive(&self, state: u32, result: i32) {
        self.result.store(result, Ordering::Relaxed);
        // PAIRS: await_arrival's Acquire; publishes the result.
        // UNSEEN: that is an atomic, and tried on x86 alone.
        self.state.store(state, Ordering::Release);
        futex::wake_all(&self.state);
    }

    // The id, or a negative errno.
    fn await_arrival(&self) -> i32 {
        // PAIRS, UNSEEN: arrive's Release.
        while self.state.load(Ordering::Acquire) == STARTING {
            futex::wait(&self.state, STARTING);
        }
        self.result.load(Ordering::Relaxed)
    }
}

impl Body for Seat {
    fn run(&self) {
        let core = require_core();
        let mut rc = -sys::EBUSY;
        for tid in 0..core.config.nbthread {
            rc = registry::enter(tid);
            if rc == 0 {
                core.dedicated.ids.fetch_or(1 << tid, Ordering::Relaxed);
                self.arrive(SERVING, tid as i32);
                turn::run_until(&self.stop);
                registry::leave();
                return;
            }
            if rc != -sys::EBUSY {
                break;
            }
        }
        self.arrive(FAILED, rc);
    }
}

/// All of them.
pub(super) struct Dedicated {
    handles: Mutex<[Option<Handle>; MAX_THREADS]>,
    seats: [Seat; MAX_THREADS],
    /// The ids that they have.
    ids: AtomicU64,
}

impl Dedicated {
    pub const fn new() -> Self {
        Self {
            handles: Mutex::new([None; MAX_THREADS]),
            seats: [const { Seat::new() }; MAX_THREADS],
            ids: AtomicU64::new(0),
        }
    }

    /// In the child of a fork: they are not there.
    ///
    /// # Safety
    /// No other thread is.
    pub unsafe fn forget(&self) {
        // SAFETY: whoever held it is gone, and what it protects is overwritten.
        unsafe { self.handles.force_unlock(true) };
        *self.handles.lock() = [None; MAX_THREADS];
        self.ids.store(0, Ordering::Relaxed);
    }

    /// An id is left: whether it was one of these threads'.
    pub fn give_up(&self, bit: u64) -> bool {
        self.ids.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    /// The ids of these threads.
    pub fn ids(&self) -> u64 {
        self.ids.load(Ordering::Relaxed)
    }
}

fn end(core: &Core, handles: &mut [Option<Handle>; MAX_THREADS], which: u64) {
    let seats = &core.dedicated.seats;
    for i in 0..MAX_THREADS {
        if which & (1 << i) == 0 || handles[i].is_none() {
            continue;
        }
        seats[i].stop.store(true, Ordering::Relaxed);
        if let Ok(tid) = usize::try_from(seats[i].await_arrival()) {
            // A loop that is notified looks at `stop`.
            core.threads()[tid].notify();
        }
        if let Some(handle) = handles[i].take() {
            // SAFETY: taken, so joined once.
            unsafe { thread::join(handle) };
        }
    }
}

/// Starts `n` threads under free ids: 0 or a negative errno, and then none.
pub fn start_threads(n: usize) -> i32 {
    let Some(core) = core() else {
        return -sys::EINVAL;
    };
    if n == 0 || n > core.config.nbthread {
        return -sys::EINVAL;
    }
    let seats = &core.dedicated.seats;
    let mut handles = core.dedicated.handles.lock();
    let mut new = 0u64;
    let mut rc = 0;
    for i in 0..MAX_THREADS {
        if new.count_ones() as usize == n || rc != 0 {
            break;
        }
        if handles[i].is_some() {
            continue;
        }
        seats[i].state.store(STARTING, Ordering::Relaxed);
        seats[i].stop.store(false, Ordering::Relaxed);
        // SAFETY: deinit joins before it frees the seat.
        match unsafe { thread::spawn(&seats[i]) } {
            Ok(handle) => {
                handles[i] = Some(handle);
                new |= 1 << i;
            }
            Err(_) => rc = -sys::EAGAIN,
        }
    }
    for i in (0..MAX_THREADS).filter(|i| new & (1 << i) != 0) {
        let arrived = seats[i].await_arrival();
        if arrived < 0 && rc == 0 {
            rc = arrived;
        }
    }
    if rc == 0 && (new.count_ones() as usize) < n {
        rc = -sys::EBUSY;
    }
    if rc != 0 {
        end(core, &mut handles, new);
    }
    rc
}

/// Ends and joins them all.
pub fn end_threads() {
    if let Some(core) = core() {
        if let Some(inside) = core.callouts.inside(thread::identity()) {
            panic!("keel_deinit: called from inside {inside}");
        }
        end(core, &mut core.dedicated.handles.lock(), u64::MAX);
    }
}
