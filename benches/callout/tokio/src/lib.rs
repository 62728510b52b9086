//! tokio-util's `DelayQueue`: a hierarchical wheel over a slab, for one thread
//! (no lock). Dates are made from an `Instant` read beforehand, as a loop's
//! cached time. Where the C contestants keep a timer, this keeps its key;
//! removing an entry frees it, arming takes one.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::future::poll_fn;
use std::ptr::null;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

#[path = "../../peer.rs"]
mod peer;
use peer::{List, Peer, Step, TIMER_OPS, Timers};

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
}

impl Timers for Contestant {
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
/// As `peer::run`'s.
unsafe extern "C" fn run(op: c_int, steps: *const Step, n: u32) {
    with(|c| {
        // Arming may make a `Sleep`, which wants the runtime.
        let handle = c.runtime.handle().clone();
        let _context = handle.enter();
        // SAFETY: by this function's contract.
        unsafe { peer::run(c, op, steps, n) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn contestants() -> *const *const Peer {
    static TOKIO: Peer = Peer {
        name: c"tokio-util DelayQueue".as_ptr(),
        ops: TIMER_OPS,
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
