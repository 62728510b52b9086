//! poll(), with nanoseconds.

use super::errno;
use core::ptr;
pub use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLRDHUP, pollfd as PollFd};

/// Waits for events of the first `len` of `fds` for at most `timeout_ns`
/// (`None`: for ever): how many have some, or a negative errno. Comes back
/// earlier where `len` exceeds the soft limit of descriptors.
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
    match n {
        0.. => n,
        // The limit was lowered below what is open.
        // SAFETY: by this function's contract.
        _ if errno() == libc::EINVAL && len > piece() => unsafe {
            wait_in_pieces(fds, len, timeout_ns)
        },
        _ => -errno(),
    }
}

/// As many as poll() takes at a time.
fn piece() -> usize {
    super::file::soft_fd_limit().clamp(1, usize::MAX as u64) as usize
}

/// The same where `len` is more than that. Sleeps on the first piece alone, so
/// that it comes back early to look at the others.
///
/// # Safety
/// As for [`wait`].
#[cold]
unsafe fn wait_in_pieces(fds: *mut PollFd, len: usize, timeout_ns: Option<u64>) -> i32 {
    const NAP_NS: u64 = 10_000_000;
    let piece = piece();
    let once = |from: usize, ns: u64| {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: ns as _,
        };
        let n = piece.min(len - from) as libc::nfds_t;
        // SAFETY: by this function's contract; `from` is below `len`.
        let n = unsafe { libc::ppoll(fds.add(from), n, &now, ptr::null()) };
        if n < 0 { -errno() } else { n }
    };
    let mut ready = 0;
    for from in (0..len).step_by(piece) {
        match once(from, 0) {
            n @ 0.. => ready += n,
            error => return error,
        }
    }
    match timeout_ns.map_or(NAP_NS, |ns| ns.min(NAP_NS)) {
        ns @ 1.. if ready == 0 => once(0, ns),
        _ => ready,
    }
}
