//! One line to a descriptor that many threads write to, a log for instance.
//!
//! Whoever writes holds the descriptor's EXCL_SYSCALL bit, so that lines do
//! not mix even where the system takes them in pieces. The write may last, on
//! a slow disk or a terminal: nobody waits for it, who finds the bit set for
//! too long gives up.

use super::flags::{FD_EXCL_SYSCALL, FD_INITIALIZED};
use super::slot::Slot;
use super::table::FdTable;
use crate::sync::spin_hint;
use crate::sys::{EAGAIN, EBADF, file};
use file::iovec;

/// Fragments of a line, the newline apart.
const FRAGMENTS: usize = 31;
/// Looks at the bit before giving up.
const ATTEMPTS: u32 = 200;

const NEWLINE: &[u8] = b"\n";

impl FdTable {
    /// Writes the non-empty fragments of `prefix` and `message`, 31 at most,
    /// and a newline if wanted, cut to `max` bytes together (0: no limit), in
    /// one system call: its answer, or a negative errno. `fd` need not be
    /// inserted.
    ///
    /// # Safety
    /// The fragments are readable.
    pub unsafe fn write_line(
        &self,
        fd: i32,
        max: usize,
        prefix: &[iovec],
        message: &[iovec],
        newline: bool,
    ) -> isize {
        let Some(slot) = self.slot_if(fd) else {
            return -(EBADF as isize);
        };
        let mut line = [of(&[]); FRAGMENTS + 1];
        let mut room = match max {
            0 => usize::MAX,
            _ => max - usize::from(newline),
        };
        let mut n = 0;
        for part in prefix.iter().chain(message).filter(|p| p.iov_len != 0) {
            if n == FRAGMENTS || room == 0 {
                break;
            }
            line[n] = *part;
            line[n].iov_len = part.iov_len.min(room);
            room -= line[n].iov_len;
            n += 1;
        }
        if newline {
            line[n] = of(NEWLINE);
            n += 1;
        }
        if n == 0 {
            return 0;
        }
        if !take(slot) {
            return -(EAGAIN as isize);
        }
        // SAFETY: by this function's contract.
        let written = unsafe { prepare_and_write(slot, fd, &line[..n]) };
        // Where the number began another life meanwhile, which is for the
        // caller to prevent, this may be another writer's bit; two lines may
        // mix then.
        slot.lower(FD_EXCL_SYSCALL);
        written
    }
}

fn of(bytes: &'static [u8]) -> iovec {
    iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// Gets the right to write, or finds others using it all the time.
fn take(slot: &Slot) -> bool {
    for _ in 0..ATTEMPTS {
        if slot.raise(FD_EXCL_SYSCALL) == 0 {
            return true;
        }
        spin_hint();
    }
    false
}

/// # Safety
/// The fragments are readable.
unsafe fn prepare_and_write(slot: &Slot, fd: i32, line: &[iovec]) -> isize {
    // A terminal's flags are its other users', too.
    if slot.raise(FD_INITIALIZED) == 0 && !file::is_tty(fd) {
        let rc = file::add_nonblock(fd);
        if rc < 0 {
            slot.lower(FD_INITIALIZED);
            return rc as isize;
        }
    }
    // SAFETY: by this function's contract.
    unsafe { file::writev(fd, line) }
}
