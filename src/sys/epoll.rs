//! epoll and eventfd.

use super::errno;
use core::ptr;
pub use libc::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT,
    EPOLLRDHUP, epoll_event as Event,
};

/// A new epoll descriptor, or a negative errno.
pub fn create() -> i32 {
    // SAFETY: no pointers.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 { -errno() } else { fd }
}

/// `epoll_ctl`: 0 or a negative errno.
pub fn ctl(epfd: i32, op: i32, fd: i32, events: u32, data: u64) -> i32 {
    let mut event = Event { events, u64: data };
    // SAFETY: `event` is valid for the call.
    match unsafe { libc::epoll_ctl(epfd, op, fd, &mut event) } {
        0 => 0,
        _ => -errno(),
    }
}

/// Makes the number `old` mean what `new` means, in one step: a negative
/// errno on failure. `new` stays open too.
pub fn replace(old: i32, new: i32) -> i32 {
    // SAFETY: no pointers.
    let fd = unsafe { libc::dup3(new, old, libc::O_CLOEXEC) };
    if fd < 0 { -errno() } else { fd }
}

/// Removes from a set a descriptor, where another thread may be closing either
/// or have closed it: the kernel answers that with ENOENT, EBADF or EINVAL. A
/// bare system call, since ThreadSanitizer takes any use of a number beside its
/// close for a race. 0 or a negative errno.
pub fn forget(epfd: i32, fd: i32) -> i32 {
    let mut event = Event { events: 0, u64: 0 };
    // SAFETY: `event` is valid for the call; the kernel does not look at it.
    match unsafe { libc::syscall(libc::SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, fd, &raw mut event) } {
        0 => 0,
        _ => -errno(),
    }
}

/// Waits for events for at most `timeout_ns` (`None`: for ever): their
/// number, or a negative errno. Never returns before the time has passed
/// unless something happened.
// KEEPS: CINV-28
pub fn wait(epfd: i32, events: &mut [Event], timeout_ns: Option<u64>) -> i32 {
    let max = events.len() as libc::c_int;
    // Whole milliseconds, no wait and for ever among them, are cheaper so.
    if let Some(ns) = timeout_ns.filter(|&ns| ns % 1_000_000 != 0 && pwait2_works()) {
        let ts = libc::timespec {
            tv_sec: (ns / 1_000_000_000) as _,
            tv_nsec: (ns % 1_000_000_000) as _,
        };
        // SAFETY: the buffer is `max` events long; `ts` lives for the call.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epfd,
                events.as_mut_ptr(),
                max,
                &ts as *const libc::timespec,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if n >= 0 {
            return n as i32;
        }
        if errno() != libc::ENOSYS {
            return -errno();
        }
        forget_pwait2();
    }
    let ms = match timeout_ns {
        None => -1,
        Some(ns) => ns.div_ceil(1_000_000).min(i32::MAX as u64) as libc::c_int,
    };
    // SAFETY: the buffer is `max` events long.
    let n = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), max, ms) };
    if n < 0 { -errno() } else { n }
}

#[cfg(not(model))]
mod pwait2 {
    use crate::sync::atomic::{AtomicBool, Ordering};
    // epoll_pwait2 (nanoseconds) came with Linux 5.11.
    static MISSING: AtomicBool = AtomicBool::new(false);

    pub(super) fn works() -> bool {
        !MISSING.load(Ordering::Relaxed)
    }

    pub(super) fn forget() {
        MISSING.store(true, Ordering::Relaxed);
    }
}

#[cfg(not(model))]
use pwait2::{forget as forget_pwait2, works as pwait2_works};
#[cfg(model)]
fn pwait2_works() -> bool {
    false
}
#[cfg(model)]
fn forget_pwait2() {}

/// A new non-blocking eventfd, or a negative errno.
pub fn eventfd() -> i32 {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 { -errno() } else { fd }
}

/// Makes an eventfd readable. Async-signal-safe; keeps errno.
pub fn eventfd_signal(fd: i32) {
    let saved = errno();
    let one: u64 = 1;
    // SAFETY: writes the 8 bytes of `one`. A full counter is readable anyway.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
    super::set_errno(saved);
}

/// Makes an eventfd unreadable again.
pub fn eventfd_drain(fd: i32) {
    let mut count: u64 = 0;
    // SAFETY: reads 8 bytes into `count`.
    unsafe { libc::read(fd, (&raw mut count).cast(), 8) };
}
