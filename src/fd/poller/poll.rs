//! poll(): the fallback that every system has.
//!
//! The set is an array that goes to the kernel with each wait, without holes:
//! the last entry takes the place of one that leaves. A number that is closed
//! behind it leaves with its next report, which is `EVENT_CLOSED`.

use super::{Event, Poller};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sys::poll::{self, PollFd};
use crate::sys::{self, epoll, memory};
use core::ptr;

// Reports are in epoll's words.
const _: () = assert!(
    poll::POLLIN as i32 == epoll::EPOLLIN
        && poll::POLLOUT as i32 == epoll::EPOLLOUT
        && poll::POLLRDHUP as i32 == epoll::EPOLLRDHUP
        && poll::POLLHUP as i32 == epoll::EPOLLHUP
        && poll::POLLERR as i32 == epoll::EPOLLERR
);

/// A set that the thread keeps.
#[derive(Debug)]
pub(in crate::fd) struct Poll {
    maxsock: usize,
    open: AtomicBool,
    set: UnsafeCell<Set>,
}

/// Its arrays, all NULL before the first `open`.
#[derive(Debug)]
struct Set {
    /// Entry 0 is the internal descriptor's, -1 while there is none.
    entries: *mut PollFd,
    /// What each entry's reports carry.
    keys: *mut u64,
    /// The entry of each number; 0: none.
    places: *mut u32,
    /// Entries in use.
    len: usize,
    /// Where the next harvest begins, since one may not have room for all.
    next: usize,
}

// SAFETY: `set` is used by the thread whose set it is, or by who found that
// there is no such thread.
unsafe impl Sync for Poll {}

impl Poll {
    pub(super) const fn new(maxsock: usize) -> Self {
        Self {
            maxsock,
            open: AtomicBool::new(false),
            set: UnsafeCell::new(Set {
                entries: ptr::null_mut(),
                keys: ptr::null_mut(),
                places: ptr::null_mut(),
                len: 0,
                next: 0,
            }),
        }
    }

    /// Bytes of the arrays, which share one area.
    fn bytes(&self) -> usize {
        let entry = size_of::<PollFd>() + size_of::<u64>();
        (self.maxsock + 1) * entry + self.maxsock * size_of::<u32>()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Set) -> R) -> R {
        // SAFETY: see `Sync` above; nothing in here calls back.
        self.set.with_mut(|set| f(unsafe { &mut *set }))
    }

    fn empty(&self) {
        self.with(Set::empty);
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let area = self.with(|set| set.keys);
        if !area.is_null() {
            // SAFETY: open() mapped it that long.
            unsafe { memory::unmap_pages(area.cast(), self.bytes()) };
        }
    }
}

impl Set {
    fn empty(&mut self) {
        for at in 1..self.len {
            // SAFETY: below `len`, which is below the arrays' end.
            let fd = unsafe { (*self.entries.add(at)).fd };
            *self.place(fd) = 0;
        }
        // SAFETY: entry 0 exists once there are arrays; no caller is earlier.
        unsafe { self.entries.write(entry(-1, 0)) };
        (self.len, self.next) = (1, 0);
    }

    /// `fd`: a number that the table has.
    fn place(&mut self, fd: i32) -> &mut u32 {
        // SAFETY: maxsock places, and the table checked the number.
        unsafe { &mut *self.places.add(fd as usize) }
    }

    fn remove(&mut self, at: usize) {
        // SAFETY: 0 < at < len: callers say so.
        let (gone, last) = unsafe { (*self.entries.add(at), *self.entries.add(self.len - 1)) };
        self.len -= 1;
        // SAFETY: as above.
        unsafe {
            self.entries.add(at).write(last);
            self.keys.add(at).write(*self.keys.add(self.len));
        }
        *self.place(last.fd) = at as u32;
        *self.place(gone.fd) = 0;
    }

    /// Fills `reports` with what the last wait found `ready` entries of.
    fn harvest(&mut self, mut ready: usize, reports: &mut [Event]) -> i32 {
        let mut filled = 0;
        let mut closed = false;
        let first = if self.next < self.len { self.next } else { 0 };
        self.next = 0;
        for at in (first..self.len).chain(0..first) {
            if ready == 0 {
                break;
            }
            // SAFETY: below `len`.
            let (entry, key) = unsafe { (*self.entries.add(at), *self.keys.add(at)) };
            if entry.revents == 0 {
                continue;
            }
            ready -= 1;
            if filled == reports.len() {
                self.next = at;
                break;
            }
            reports[filled] = Event {
                events: u32::from(entry.revents as u16),
                u64: key,
            };
            filled += 1;
            if entry.revents & poll::POLLNVAL != 0 {
                closed = true;
                // SAFETY: below `len`.
                unsafe { (*self.entries.add(at)).events = TOLD };
            }
        }
        if closed {
            // Backwards: the last entry was looked at when it takes a place.
            for at in (0..self.len).rev() {
                // SAFETY: below `len`.
                if unsafe { (*self.entries.add(at)).events } != TOLD {
                    continue;
                }
                if at > 0 {
                    self.remove(at);
                } else {
                    // SAFETY: there is always an entry 0.
                    unsafe { self.entries.write(entry(-1, 0)) };
                }
            }
        }
        filled as i32
    }
}

/// In place of its events: the caller was told that the number is closed. Those
/// there was no room for stay until the next wait.
const TOLD: i16 = -1;

/// An entry that has not been waited for.
const fn entry(fd: i32, events: u32) -> PollFd {
    PollFd {
        fd,
        events: events as i16,
        revents: 0,
    }
}

impl Poller for Poll {
    fn open(&self) -> i32 {
        if self.with(|set| set.keys.is_null()) {
            let area = memory::map_pages(self.bytes());
            if area.is_null() {
                return -sys::ENOMEM;
            }
            let len = self.maxsock + 1;
            self.with(|set| {
                // SAFETY: bytes() made room for the three, best aligned first.
                unsafe {
                    set.keys = area.cast();
                    set.entries = set.keys.add(len).cast();
                    set.places = set.entries.add(len).cast();
                }
            });
        }
        self.empty();
        self.open.store(true, Ordering::Relaxed);
        0
    }

    fn close(&self) {
        if self.open.swap(false, Ordering::Relaxed) {
            self.empty();
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn watch(&self, fd: i32, events: u32, key: u64, _held: bool) -> i32 {
        self.with(|set| {
            let mut at = *set.place(fd) as usize;
            if at == 0 {
                at = set.len;
                set.len += 1;
                *set.place(fd) = at as u32;
            }
            // SAFETY: there are as many entries as numbers, and one more.
            unsafe {
                set.entries.add(at).write(entry(fd, events));
                set.keys.add(at).write(key);
            }
            0
        })
    }

    fn watch_internal(&self, fd: i32, key: u64) -> i32 {
        self.with(|set| {
            // SAFETY: entry 0 is there while the set is open.
            unsafe {
                set.entries.write(entry(fd, epoll::EPOLLIN as u32));
                set.keys.write(key);
            }
            0
        })
    }

    fn forget(&self, fd: i32) -> i32 {
        self.with(|set| match *set.place(fd) {
            0 => -sys::ENOENT,
            at => {
                set.remove(at as usize);
                0
            }
        })
    }

    fn closes(&self, fd: i32) {
        if self.is_open() {
            self.forget(fd);
        }
    }

    // What somebody else closed shows as such at the next wait.
    fn drop_for_all(&self, _fd: i32) {}

    fn wait(&self, reports: &mut [Event], timeout_ns: Option<u64>) -> i32 {
        self.with(|set| {
            // SAFETY: `len` entries, this thread's.
            match unsafe { poll::wait(set.entries, set.len, timeout_ns) } {
                ready @ 1.. => set.harvest(ready as usize, reports),
                rc => rc,
            }
        })
    }

    fn renew(&self, _lost: bool, internal: Option<(i32, u64)>) -> i32 {
        self.empty();
        internal.map_or(0, |(fd, key)| self.watch_internal(fd, key))
    }

    fn renew_in_child(&self, internal: Option<(i32, u64)>) -> i32 {
        self.renew(false, internal)
    }

    fn poll_fd(&self) -> i32 {
        -sys::ENOTSUP
    }
}
