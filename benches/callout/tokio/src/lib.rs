//! tokio-util's `DelayQueue`: a hierarchical wheel over a slab, for one thread
//! (no lock). Dates are made from an `Instant` read beforehand, as a loop's
//! cached time. Where the C contestants keep a timer, this keeps its key;
//! removing an entry frees it, arming takes one.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::future::poll_fn;
use std::ptr::null;
use std::slice;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

#[path = "../../finish.rs"]
mod finish;
use finish::finish;

// As in bench.h.
const NOTHING: c_int = 0;
const RESET_IDLE: c_int = 1;
const RESET_PENDING: c_int = 2;
const STOP: c_int = 3;
const CYCLE: c_int = 4;
const CYCLE_ALONE: c_int = 5;
const EXPIRE: c_int = 9;

#[repr(C)]
pub struct Step {
    timer: u32,
    ms: u32,
    _cpu: u32,
}

#[repr(C)]
pub struct Peer {
    name: *const c_char,
    ops: u32,
    open: extern "C" fn(*const c_int) -> *const c_char,
    make: extern "C" fn(u32) -> bool,
    drop: extern "C" fn(),
    refresh: extern "C" fn(),
    run: unsafe extern "C" fn(c_int, *const Step, u32),
    inside: *const c_void,
}

struct Contestant {
    runtime: Runtime,
    queue: DelayQueue<u32>,
    keys: Vec<Option<Key>>,
    now: Instant,
}

thread_local! {
    static CONTESTANT: RefCell<Option<Contestant>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Contestant) -> T) -> T {
    CONTESTANT.with_borrow_mut(|c| f(c.as_mut().unwrap()))
}

extern "C" fn open(_cores: *const c_int) -> *const c_char {
    let Ok(runtime) = Builder::new_current_thread().enable_time().build() else {
        return c"tokio's runtime could not be built".as_ptr();
    };
    let (queue, now) = {
        let _context = runtime.enter();
        (DelayQueue::new(), Instant::now())
    };
    CONTESTANT.set(Some(Contestant {
        runtime,
        queue,
        keys: Vec::new(),
        now,
    }));
    null()
}

extern "C" fn make(n: u32) -> bool {
    with(|c| {
        // The queue keeps its start for ever: each size begins anew.
        let _context = c.runtime.enter();
        c.queue = DelayQueue::with_capacity(n as usize);
        c.keys = vec![None; n as usize];
        true
    })
}

extern "C" fn drop_all() {
    with(|c| {
        let _context = c.runtime.enter();
        c.queue = DelayQueue::new();
        c.keys = Vec::new();
    })
}

extern "C" fn refresh() {
    with(|c| c.now = Instant::now())
}

impl Contestant {
    fn date(&self, step: &Step) -> Instant {
        self.now + Duration::from_millis(step.ms as u64)
    }

    fn start(&mut self, step: &Step) {
        let date = self.date(step);
        self.keys[step.timer as usize] = Some(self.queue.insert_at(step.timer, date));
    }

    fn again(&mut self, step: &Step) {
        let date = self.date(step);
        if let Some(key) = &self.keys[step.timer as usize] {
            self.queue.reset_at(key, date);
        }
    }

    fn stop(&mut self, step: &Step) {
        if let Some(key) = self.keys[step.timer as usize].take() {
            self.queue.remove(&key);
        }
    }

    fn expire(&mut self, n: u32) {
        self.runtime.block_on(async {
            for _ in 0..n {
                let gone = poll_fn(|cx| self.queue.poll_expired(cx)).await;
                if let Some(expired) = gone {
                    self.keys[expired.into_inner() as usize] = None;
                }
            }
        });
    }
}

/// # Safety
/// `steps` are `n`.
unsafe extern "C" fn run(op: c_int, steps: *const Step, n: u32) {
    with(|c| {
        if op == EXPIRE {
            return c.expire(n);
        }
        // SAFETY: by this function's contract.
        let steps = unsafe { slice::from_raw_parts(steps, n as usize) };
        // Arming may make a `Sleep`, which wants the runtime.
        let handle = c.runtime.handle().clone();
        let _context = handle.enter();
        match op {
            NOTHING => steps.iter().for_each(|s| {
                std::hint::black_box(s);
            }),
            RESET_IDLE => steps.iter().for_each(|s| c.start(s)),
            RESET_PENDING => steps.iter().for_each(|s| c.again(s)),
            STOP => steps.iter().for_each(|s| c.stop(s)),
            CYCLE => steps.iter().for_each(|s| {
                c.stop(s);
                c.start(s);
            }),
            CYCLE_ALONE => steps.iter().for_each(|s| {
                c.stop(s);
                c.start(s);
                finish();
            }),
            _ => {}
        }
    })
}

struct List([*const Peer; 2]);
// SAFETY: nobody writes to it.
unsafe impl Sync for List {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

#[unsafe(no_mangle)]
pub extern "C" fn contestants() -> *const *const Peer {
    static TOKIO: Peer = Peer {
        name: c"tokio-util DelayQueue".as_ptr(),
        ops: 1 << NOTHING
            | 1 << RESET_IDLE
            | 1 << RESET_PENDING
            | 1 << STOP
            | 1 << CYCLE
            | 1 << CYCLE_ALONE
            | 1 << EXPIRE,
        open,
        make,
        drop: drop_all,
        refresh,
        run,
        inside: null(),
    };
    static LIST: List = List([&TOKIO, null()]);
    LIST.0.as_ptr()
}
