//! Sleeping on a word, and waking those who do.

#[cfg(not(model))]
use crate::sync::atomic::AtomicU32;
#[cfg(not(model))]
use core::ptr;

#[cfg(not(model))]
fn futex(word: &AtomicU32, op: libc::c_int, value: u32, timeout: *const libc::timespec) {
    // SAFETY: word and timeout outlive the call; the kernel only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            op | libc::FUTEX_PRIVATE_FLAG,
            value,
            timeout,
        );
    }
}

/// Sleeps while `word` is `value`; may return early.
#[cfg(not(model))]
pub fn wait(word: &AtomicU32, value: u32) {
    futex(word, libc::FUTEX_WAIT, value, ptr::null());
}

/// Sleeps while `word` is `value`, `ns` nanoseconds at most; may return early.
#[cfg(not(model))]
pub fn wait_for(word: &AtomicU32, value: u32, ns: u64) {
    let timeout = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    };
    futex(word, libc::FUTEX_WAIT, value, &timeout);
}

/// Wakes one thread that sleeps on `word`.
#[cfg(not(model))]
pub fn wake_one(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, 1, ptr::null());
}

/// Wakes every thread that sleeps on `word`.
#[cfg(not(model))]
pub fn wake_all(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, i32::MAX as u32, ptr::null());
}
