//! Sleeping on a word, and waking those who do.

#[cfg(not(loom))]
use crate::sync::atomic::AtomicU32;

#[cfg(not(loom))]
fn futex(word: &AtomicU32, op: libc::c_int, value: u32) {
    // SAFETY: the word outlives the call; the kernel only reads it.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            op | libc::FUTEX_PRIVATE_FLAG,
            value,
            core::ptr::null::<libc::timespec>(),
        );
    }
}

/// Sleeps while `word` is `value`; may return early.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU32, value: u32) {
    futex(word, libc::FUTEX_WAIT, value);
}

/// Wakes one thread that sleeps on `word`.
#[cfg(not(loom))]
pub fn wake_one(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, 1);
}

/// Wakes every thread that sleeps on `word`.
#[cfg(not(loom))]
pub fn wake_all(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, i32::MAX as u32);
}
