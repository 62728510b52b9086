//! hierarchical_hash_wheel_timer: four wheels of 256 slots, each a `Vec` that
//! holds entries with the rest of their delay, and a map by which an entry is
//! cancelled; what it leaves in its slot goes when that comes. For one thread
//! (no lock). The wheel's date moves when it is told to, so that delays count
//! from there. Arming an id again replaces its entry.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::ptr::null;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hierarchical_hash_wheel_timer::IdOnlyTimerEntry;
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::QuadWheelWithOverflow;

#[path = "../../../callout/peer.rs"]
mod peer;
use peer::{List, Peer, Step, TIMER_OPS, Timers};

type Entry = IdOnlyTimerEntry<u32>;

struct Contestant {
    wheel: QuadWheelWithOverflow<Entry>,
    begin: Instant,
    /// The wheel's date and the loop's, in milliseconds.
    at: u32,
    now: u32,
}

thread_local! {
    static CONTESTANT: RefCell<Option<Contestant>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Contestant) -> T) -> T {
    CONTESTANT.with_borrow_mut(|c| f(c.as_mut().unwrap()))
}

extern "C" fn open(_cores: *const c_int) -> *const c_char {
    null()
}

extern "C" fn make(_n: u32) -> bool {
    CONTESTANT.set(Some(Contestant {
        wheel: QuadWheelWithOverflow::new(),
        begin: Instant::now(),
        at: 0,
        now: 0,
    }));
    true
}

extern "C" fn drop_all() {
    CONTESTANT.set(None);
}

extern "C" fn refresh() {
    with(|c| c.now = c.begin.elapsed().as_millis() as u32)
}

impl Timers for Contestant {
    fn start(&mut self, step: &Step) {
        let delay = Duration::from_millis((self.now - self.at + step.ms).into());
        let entry = Rc::new(Entry {
            id: step.timer,
            delay,
        });
        let _ = self.wheel.insert_ref_with_delay(entry, delay);
    }

    fn again(&mut self, step: &Step) {
        self.start(step);
    }

    fn stop(&mut self, step: &Step) {
        let _ = self.wheel.cancel(&step.timer);
    }

    fn expire(&mut self, n: u32) {
        let mut fired = 0;
        while fired < n {
            let now = self.begin.elapsed().as_millis() as u32;
            while self.at < now {
                match self.wheel.can_skip() {
                    Skip::None => {
                        fired += self.wheel.tick().len() as u32;
                        self.at += 1;
                    }
                    Skip::Millis(most) => {
                        let ms = most.min(now - self.at);
                        self.wheel.skip(ms);
                        self.at += ms;
                    }
                    Skip::Empty => {
                        assert_eq!(fired, n, "timers were lost");
                        return;
                    }
                }
            }
        }
    }
}

/// # Safety
/// As `peer::run`'s.
unsafe extern "C" fn run(op: c_int, steps: *const Step, n: u32) {
    with(|c| {
        // SAFETY: by this function's contract.
        unsafe { peer::run(c, op, steps, n) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn contestants() -> *const *const Peer {
    static WHEEL: Peer = Peer {
        name: c"hierarchical_hash_wheel_timer".as_ptr(),
        ops: TIMER_OPS,
        open,
        make,
        drop: drop_all,
        refresh,
        run,
        inside: null(),
    };
    static LIST: List = List([&WHEEL, null()]);
    LIST.0.as_ptr()
}
