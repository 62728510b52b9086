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
// KEEPS: INV-82
pub fn close_from(start: i32) {
    let start = start.max(0) as u32;
    // SAFETY: no pointers. close_range came with Linux 5.9.
    if unsafe { libc::syscall(libc::SYS_close_range, start, u32::MAX, 0u32) } == 0 {
        return;
    }
    close_each(start.min(i32::MAX as u32) as i32);
}

/// The same without close_range(). Not by the limit, which may have been
/// lowered below what is open.
fn close_each(start: i32) {
    if close_listed(start) {
        return;
    }
    for fd in start..soft_fd_limit().min(i32::MAX as u64) as i32 {
        close(fd);
    }
    // Perhaps there was no number left for the list.
    close_listed(start);
}

/// Closes what /proc lists from `start` up: false where there is no such list.
fn close_listed(start: i32) -> bool {
    /// Where `struct linux_dirent64` has its length and its name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let path = c"/proc/self/fd";
    // SAFETY: the path ends with a 0.
    let list = unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    if list < 0 {
        return false;
    }
    let mut entries = [0u8; 2048];
    let whole = loop {
        // SAFETY: the buffer has its length.
        let n = unsafe {
            let (area, len) = (entries.as_mut_ptr(), entries.len());
            libc::syscall(libc::SYS_getdents64, list, area, len)
        };
        if n <= 0 {
            break n == 0;
        }
        let mut rest = &entries[..n as usize];
        while rest.len() > NAME {
            let len = u16::from_ne_bytes([rest[LENGTH], rest[LENGTH + 1]]) as usize;
            // "." and ".." are no numbers.
            match number(&rest[NAME..len]) {
                Some(fd) if fd >= start && fd != list => close(fd),
                _ => {}
            }
            rest = &rest[len..];
        }
    };
    close(list);
    whole
}

/// The decimal number in front of the first 0.
fn number(name: &[u8]) -> Option<i32> {
    let end = name.iter().position(|&c| c == 0)?;
    core::str::from_utf8(&name[..end]).ok()?.parse().ok()
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
                // A dump is wanted whole.
                libc::EAGAIN if has_room(fd) => {}
                e => return -(e as isize),
            },
        }
    }
    done as isize
}

/// Waits a second for room to write. Signals do not end that.
fn has_room(fd: i32) -> bool {
    let end = super::clock::monotonic_ns() + 1_000_000_000;
    loop {
        let left = end.saturating_sub(super::clock::monotonic_ns());
        let mut p = libc::pollfd {
            fd,
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one pollfd.
        let n = unsafe { libc::poll(&mut p, 1, left.div_ceil(1_000_000) as libc::c_int) };
        if n >= 0 || errno() != libc::EINTR {
            return p.revents & libc::POLLOUT != 0;
        }
    }
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

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    /// INV-82 and FD-54 where there is no close_range(): whatever the limit
    /// says by now, and with more descriptors than one look at the list shows.
    /// SHOWS: INV-82
    #[test]
    fn fd_54_closes_each_one_above_a_lowered_limit_too() {
        // SAFETY: no pointers but to locals; the child calls nothing that
        // another thread may have left locked.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                libc::_exit(in_child());
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert!(libc::WIFEXITED(status), "status {status:#x}");
            assert_eq!(libc::WEXITSTATUS(status), 0);
        }
    }

    /// 0, or which check failed.
    unsafe fn in_child() -> i32 {
        // SAFETY: as above.
        unsafe {
            let is_open = |fd| libc::fcntl(fd, libc::F_GETFD) >= 0;
            // Some holes, and a number far above the rest.
            for fd in 200..600 {
                if fd % 7 != 0 && libc::dup2(0, fd) != fd {
                    return 1;
                }
            }
            if libc::dup2(0, 900) != 900 || libc::dup2(0, 100) != 100 {
                return 2;
            }
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit.rlim_cur = 150;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
                return 3;
            }
            close_each(150);
            if (150..1000).any(is_open) {
                return 4;
            }
            if !is_open(100) || !is_open(0) {
                return 5;
            }
            // No number below the limit is free: the list has none at first.
            for fd in 0..150 {
                if !is_open(fd) && libc::dup2(0, fd) != fd {
                    return 6;
                }
            }
            close_each(149);
            if is_open(149) || !is_open(148) {
                return 7;
            }
            0
        }
    }
}
