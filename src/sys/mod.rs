//! The only door to libc: memory, clock, threads, descriptors.

pub mod clock;
pub mod environment;
pub mod epoll;
pub mod file;
#[cfg(not(model))]
pub mod fork;
pub mod futex;
pub mod locks;
#[cfg(not(model))]
pub mod membarrier;
pub mod memory;
#[cfg(not(model))]
pub mod poll;
#[cfg(not(model))]
pub mod random;
#[cfg(not(model))]
pub mod symbol;
pub mod thread;
#[cfg(not(model))]
pub mod trim;
pub mod tsc;

/// The calling thread's `errno`.
pub fn errno() -> i32 {
    // SAFETY: libc hands out the calling thread's own errno cell.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's `errno`.
pub fn set_errno(value: i32) {
    // SAFETY: libc hands out the calling thread's own errno cell.
    unsafe { *libc::__errno_location() = value }
}

/// Error numbers that the library itself reports.
pub use libc::{
    EACCES, EAGAIN, EALREADY, EBADF, EBUSY, EEXIST, EINTR, EINVAL, ENOENT, ENOMEM, ENOSPC, ENOSYS,
    ENOTSUP, EPERM,
};
