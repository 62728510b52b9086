//! Descriptors: flags, closing, limits, and text output.

use super::errno;
use core::ffi::CStr;
use core::fmt;
pub use libc::iovec;

/// Sets O_NONBLOCK in place of all other status flags: 0 or -1 with errno.
pub fn set_nonblock(fd: i32) -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }
}

/// Sets O_NONBLOCK beside the other status flags: 0 or a negative errno.
pub fn add_nonblock(fd: i32) -> i32 {
    // SAFETY: no pointers.
    let rc = unsafe {
        match libc::fcntl(fd, libc::F_GETFL) {
            flags if flags < 0 => flags,
            flags => libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK),
        }
    };
    if rc < 0 { -errno() } else { 0 }
}

/// Whether `fd` is a terminal. Keeps errno.
pub fn is_tty(fd: i32) -> bool {
    let saved = errno();
    // SAFETY: no pointers.
    let tty = unsafe { libc::isatty(fd) } == 1;
    super::set_errno(saved);
    tty
}

/// `writev`: the bytes written, or a negative errno.
///
/// # Safety
/// Each part of `line` is readable.
pub unsafe fn writev(fd: i32, line: &[iovec]) -> isize {
    // SAFETY: the slice is valid for its length, and by this function's
    // contract.
    let n = unsafe { libc::writev(fd, line.as_ptr(), line.len() as libc::c_int) };
    if n < 0 { -(errno() as isize) } else { n }
}

/// Sets FD_CLOEXEC: 0 or -1 with errno.
pub fn set_cloexec(fd: i32) -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }
}

/// Closes `fd`, whatever that answers.
pub fn close(fd: i32) {
    // SAFETY: the descriptor is the caller's to close.
    unsafe { libc::close(fd) };
}

/// Makes the close of a connected socket send a reset and leave no TIME_WAIT.
pub fn set_linger_reset(fd: i32) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option value is a `linger` of that size.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Closes every descriptor from `start` up.
pub fn close_from(start: i32) {
    let start = start.max(0) as u32;
    // SAFETY: no pointers. close_range came with Linux 5.9.
    if unsafe { libc::syscall(libc::SYS_close_range, start, u32::MAX, 0u32) } == 0 {
        return;
    }
    for fd in start as i32..soft_fd_limit().min(i32::MAX as u64) as i32 {
        close(fd);
    }
}

/// Whether the file at `path` can be read and begins with `text`, 16 bytes at
/// most.
pub fn starts_with(path: &CStr, text: &[u8]) -> bool {
    let mut bytes = [0u8; 16];
    // SAFETY: the path ends with a 0, and the buffer has its length.
    let n = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let n = libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(fd);
        n
    };
    usize::try_from(n).is_ok_and(|n| bytes[..n].starts_with(text))
}

/// The soft RLIMIT_NOFILE.
pub fn soft_fd_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 1024,
    };
    // SAFETY: `limit` is valid for writing.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// Writes all of `bytes`: their number, or a negative errno.
pub fn write_all(fd: i32, bytes: &[u8]) -> isize {
    let mut done = 0;
    while done < bytes.len() {
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::write(fd, bytes[done..].as_ptr().cast(), bytes.len() - done) };
        match n {
            0.. => done += n as usize,
            _ => match errno() {
                libc::EINTR => {}
                libc::EAGAIN => {
                    // A dump is wanted whole: wait for room.
                    let mut p = libc::pollfd {
                        fd,
                        events: libc::POLLOUT,
                        revents: 0,
                    };
                    // SAFETY: one pollfd.
                    unsafe { libc::poll(&mut p, 1, 1000) };
                    if p.revents & libc::POLLOUT == 0 {
                        return -(libc::EAGAIN as isize);
                    }
                }
                e => return -(e as isize),
            },
        }
    }
    done as isize
}

/// A C stream.
pub struct Stream(*mut libc::FILE);

impl Stream {
    /// # Safety
    /// `out` is an open stream for as long as this lives.
    pub unsafe fn new(out: *mut libc::FILE) -> Self {
        Self(out)
    }
}

impl fmt::Write for Stream {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // SAFETY: by new()'s contract; the string is valid for its length.
        match unsafe { libc::fwrite(s.as_ptr().cast(), 1, s.len(), self.0) } {
            n if n == s.len() => Ok(()),
            _ => Err(fmt::Error),
        }
    }
}

/// Formatted text for a descriptor, through a buffer on the stack: no
/// allocation, few system calls.
pub struct Writer {
    fd: i32,
    len: usize,
    total: isize,
    error: isize,
    buffer: [u8; 4096],
}

impl Writer {
    /// Writes to `fd`.
    pub const fn new(fd: i32) -> Self {
        Self {
            fd,
            len: 0,
            total: 0,
            error: 0,
            buffer: [0; 4096],
        }
    }

    fn flush(&mut self) {
        if self.error == 0 && self.len > 0 {
            let n = write_all(self.fd, &self.buffer[..self.len]);
            if n < 0 {
                self.error = n;
            } else {
                self.total += n;
            }
        }
        self.len = 0;
    }

    /// Writes the rest out: bytes written altogether, or a negative errno.
    pub fn finish(mut self) -> i32 {
        self.flush();
        if self.error < 0 {
            self.error as i32
        } else {
            self.total.min(i32::MAX as isize) as i32
        }
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let mut rest = s.as_bytes();
        while !rest.is_empty() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            let n = rest.len().min(self.buffer.len() - self.len);
            self.buffer[self.len..self.len + n].copy_from_slice(&rest[..n]);
            self.len += n;
            rest = &rest[n..];
        }
        if self.error < 0 {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
