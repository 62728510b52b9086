//! bench.h and loops.h, for contestants in Rust.

use std::ffi::{c_char, c_int, c_void};
use std::slice;

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

pub const TIMER_OPS: u32 = 1 << NOTHING
    | 1 << RESET_IDLE
    | 1 << RESET_PENDING
    | 1 << STOP
    | 1 << CYCLE
    | 1 << CYCLE_ALONE
    | 1 << EXPIRE;

#[repr(C)]
pub struct Step {
    pub timer: u32,
    pub ms: u32,
    _cpu: u32,
}

#[repr(C)]
pub struct Peer {
    pub name: *const c_char,
    pub ops: u32,
    pub open: extern "C" fn(*const c_int) -> *const c_char,
    pub make: extern "C" fn(u32) -> bool,
    pub drop: extern "C" fn(),
    pub refresh: extern "C" fn(),
    pub run: unsafe extern "C" fn(c_int, *const Step, u32),
    pub inside: *const c_void,
}
// SAFETY: nobody writes to it.
unsafe impl Sync for Peer {}

/// A plugin's one contestant, then null.
pub struct List(pub [*const Peer; 2]);
// SAFETY: as above.
unsafe impl Sync for List {}

/// What differs between the contestants.
pub trait Timers {
    fn start(&mut self, step: &Step);
    /// The same for a timer that is pending.
    fn again(&mut self, step: &Step);
    fn stop(&mut self, step: &Step);
    fn expire(&mut self, n: u32);
}

/// # Safety
/// `steps` are `n`, or `op` is EXPIRE.
pub unsafe fn run(timers: &mut impl Timers, op: c_int, steps: *const Step, n: u32) {
    if op == EXPIRE {
        return timers.expire(n);
    }
    // SAFETY: by this function's contract.
    let steps = unsafe { slice::from_raw_parts(steps, n as usize) }.iter();
    match op {
        NOTHING => steps.for_each(|s| {
            std::hint::black_box(s);
        }),
        RESET_IDLE => steps.for_each(|s| timers.start(s)),
        RESET_PENDING => steps.for_each(|s| timers.again(s)),
        STOP => steps.for_each(|s| timers.stop(s)),
        CYCLE => steps.for_each(|s| {
            timers.stop(s);
            timers.start(s);
        }),
        CYCLE_ALONE => steps.for_each(|s| {
            timers.stop(s);
            timers.start(s);
            finish();
        }),
        _ => {}
    }
}
