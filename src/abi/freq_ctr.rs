//! keel/freq_ctr.h: rate counters over a sliding window, and sliding averages.
//!
//! A counter counts events in periods of so many milliseconds, at least 2. Its
//! rate at any instant is that of the last period: the events of the current
//! one, and those of the one before as far as they are still in the window.
//! The period is no part of the counter: always pass the same for the same.
//!
//! A sliding average is one unsigned int, the sum of about the last n samples.
//!
//! All of it may be used by any threads at once, before keel_init() too.
//! Registered threads go by the dates that their loops keep, as keel_now_ms()
//! tells; others read the clock.

use crate::runtime::Dates;
use crate::stick_table::freq_ctr::FreqCtr;
use crate::stick_table::swrate;
use crate::sync::atomic::AtomicU32;
use core::ffi::{c_double, c_int, c_uint, c_ulonglong};

/// A counter; zeroed memory is one without events.
#[repr(C)]
pub struct freq_ctr {
    /// When the current period began, as keel_now_ms() counts. Bit 0 is a
    /// lock: a program that writes a date here itself must clear it.
    pub curr_tick: c_uint,
    /// Events of the current period.
    pub curr_ctr: c_uint,
    /// Events of the period before.
    pub prev_ctr: c_uint,
}

const _: () = assert!(
    size_of::<freq_ctr>() == size_of::<FreqCtr>()
        && align_of::<freq_ctr>() == align_of::<FreqCtr>()
);

const SECOND: u32 = 1000;

#[inline(always)]
unsafe fn counter<'a>(ctr: *const freq_ctr) -> &'a FreqCtr {
    // SAFETY: the caller's counter lives during the call, has the same layout,
    // and is shared by means of these functions alone.
    unsafe { &*ctr.cast() }
}

#[inline(always)]
unsafe fn word<'a>(sum: *mut c_uint) -> &'a AtomicU32 {
    // SAFETY: as for counter.
    unsafe { &*sum.cast() }
}

// A negative number means that nothing is known of pending events.
fn pending(pend: c_int) -> Option<u32> {
    u32::try_from(pend).ok()
}

/// Counts inc events. Returns those of the current period, these included.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn update_freq_ctr_period(
    ctr: *mut freq_ctr,
    period: c_uint,
    inc: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.update(period, inc, Dates::here())
}

/// update_freq_ctr_period() for a period of one second.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn update_freq_ctr(ctr: *mut freq_ctr, inc: c_uint) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.update(SECOND, inc, Dates::here())
}

/// The events of the last period, multiplied by the period. A pend of 0 or
/// more is added to the current events; if it is negative, a single event of
/// the past does not fade but counts until its period is over.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freq_ctr_total(
    ctr: *const freq_ctr,
    period: c_uint,
    pend: c_int,
) -> c_ulonglong {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.total(period, pending(pend), Dates::here())
}

/// freq_ctr_total() of the counter as it stands: never waits, but may be off
/// while another thread begins a new period. For crash handlers.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freq_ctr_total_estimate(
    ctr: *const freq_ctr,
    period: c_uint,
    pend: c_int,
) -> c_ulonglong {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.total_estimate(period, pending(pend), Dates::here())
}

/// The events of the last period: freq_ctr_total() without pending ones,
/// divided by the period; at most UINT_MAX.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_freq_ctr_period(ctr: *mut freq_ctr, period: c_uint) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.rate(period, Dates::here())
}

/// read_freq_ctr_period() with its fraction, and without its limit.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_freq_ctr_period_flt(ctr: *mut freq_ctr, period: c_uint) -> c_double {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.rate_flt(period, Dates::here())
}

/// read_freq_ctr_period() for a period of one second: events per second.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_freq_ctr(ctr: *mut freq_ctr) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.rate(SECOND, Dates::here())
}

/// read_freq_ctr() with its fraction, and without its limit.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_freq_ctr_flt(ctr: *mut freq_ctr) -> c_double {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.rate_flt(SECOND, Dates::here())
}

/// How many events may come until there are freq in the last period, pend of
/// which are known already.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freq_ctr_remain_period(
    ctr: *mut freq_ctr,
    period: c_uint,
    freq: c_uint,
    pend: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.remain(period, freq, pend, Dates::here())
}

/// freq_ctr_remain_period() for a period of one second.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freq_ctr_remain(ctr: *mut freq_ctr, freq: c_uint, pend: c_uint) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.remain(SECOND, freq, pend, Dates::here())
}

/// Milliseconds to wait before the next event, pend events before it, if there
/// are to be freq per period: 0 while there are fewer, else at least 1 and in
/// proportion to the excess.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn next_event_delay_period(
    ctr: *mut freq_ctr,
    period: c_uint,
    freq: c_uint,
    pend: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.delay(period, freq, pend, Dates::here())
}

/// next_event_delay_period() for a period of one second.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn next_event_delay(
    ctr: *mut freq_ctr,
    freq: c_uint,
    pend: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.delay(SECOND, freq, pend, Dates::here())
}

/// By how many events the current period is ahead of freq per period, evenly
/// spread; negative where it is behind, 0 where the counter is empty or its
/// period over.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freq_ctr_overshoot_period(
    ctr: *const freq_ctr,
    period: c_uint,
    freq: c_uint,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe { counter(ctr) }.overshoot(period, freq, Dates::here())
}

/// Adds a sample to the sum for an average over n samples: takes the n-th
/// part of the sum away, rounded up, and adds v. Returns the new sum, which
/// tends to v * n for a constant v and stops at UINT_MAX.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_add(sum: *mut c_uint, n: c_uint, v: c_uint) -> c_uint {
    // SAFETY: by this function's contract.
    swrate::add(unsafe { word(sum) }, n, v)
}

/// swrate_add() for an n that may differ from call to call, and be 0: then
/// nothing is taken away.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_add_dynamic(sum: *mut c_uint, n: c_uint, v: c_uint) -> c_uint {
    // SAFETY: by this function's contract.
    swrate::add(unsafe { word(sum) }, n, v)
}

/// swrate_add() of s equal samples at once, s being small beside n.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_add_scaled(
    sum: *mut c_uint,
    n: c_uint,
    v: c_uint,
    s: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    swrate::add_scaled(unsafe { word(sum) }, n, v, s)
}

/// swrate_add() that gives up, and drops the sample, if another thread changes
/// the sum meanwhile. Returns the sum afterwards.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_add_opportunistic(
    sum: *mut c_uint,
    n: c_uint,
    v: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    swrate::add_scaled_opportunistic(unsafe { word(sum) }, n, v, 1)
}

/// swrate_add_scaled() that gives up as swrate_add_opportunistic() does.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_add_scaled_opportunistic(
    sum: *mut c_uint,
    n: c_uint,
    v: c_uint,
    s: c_uint,
) -> c_uint {
    // SAFETY: by this function's contract.
    swrate::add_scaled_opportunistic(unsafe { word(sum) }, n, v, s)
}

/// The average of a sum over n samples, rounded up.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swrate_avg(sum: c_uint, n: c_uint) -> c_uint {
    swrate::average(sum, n)
}
