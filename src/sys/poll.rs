//! poll(), with nanoseconds.

use super::errno;
use core::ptr;
pub use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLRDHUP, pollfd as PollFd};

/// Waits for events of the first `len` of `fds` for at most `timeout_ns`
/// (`None`: for ever): how many have some, or a negative errno.
///
/// # Safety
/// `fds` is `len` long, and nobody else uses it.
pub unsafe fn wait(fds: *mut PollFd, len: usize, timeout_ns: Option<u64>) -> i32 {
    let ts = timeout_ns.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    });
    let ts = ts.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: by this function's contract; `ts` lives for the call.
    let n = unsafe { libc::ppoll(fds, len as libc::nfds_t, ts, ptr::null()) };
    if n < 0 { -errno() } else { n }
}
