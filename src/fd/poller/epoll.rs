//! epoll.

use super::{Event, Poller};
use crate::sync::atomic::{AtomicI32, Ordering};
use crate::sys::{self, epoll, file};

/// A set that the kernel keeps. Closers of CLONED descriptors read its number.
#[derive(Debug)]
pub(in crate::fd) struct Epoll {
    epfd: AtomicI32,
    /// A set around the first that hosts may hold on to, or -1.
    outer: AtomicI32,
}

impl Epoll {
    pub(super) const fn new() -> Self {
        Self {
            epfd: AtomicI32::new(-1),
            outer: AtomicI32::new(-1),
        }
    }

    #[inline]
    fn epfd(&self) -> i32 {
        self.epfd.load(Ordering::Relaxed)
    }

    fn add(&self, fd: i32, events: u32, key: u64) -> i32 {
        epoll::ctl(self.epfd(), epoll::EPOLL_CTL_ADD, fd, events, key)
    }

    fn modify(&self, fd: i32, events: u32, key: u64) -> i32 {
        epoll::ctl(self.epfd(), epoll::EPOLL_CTL_MOD, fd, events, key)
    }
}

impl Poller for Epoll {
    fn open(&self) -> i32 {
        let epfd = epoll::create();
        self.epfd.store(epfd.max(-1), Ordering::Relaxed);
        epfd.min(0)
    }

    fn close(&self) {
        for set in [&self.outer, &self.epfd] {
            let old = set.swap(-1, Ordering::Relaxed);
            if old >= 0 {
                file::close(old);
            }
        }
    }

    fn is_open(&self) -> bool {
        self.epfd() >= 0
    }

    fn watch(&self, fd: i32, events: u32, key: u64, held: bool) -> i32 {
        if held {
            let rc = self.modify(fd, events, key);
            // Closed and opened again behind our back.
            if rc == -sys::ENOENT {
                return self.add(fd, events, key);
            }
            return rc;
        }
        let rc = self.add(fd, events, key);
        // Left by another life of the number.
        if rc == -sys::EEXIST {
            return self.modify(fd, events, key);
        }
        rc
    }

    fn watch_internal(&self, fd: i32, key: u64) -> i32 {
        self.add(fd, epoll::EPOLLIN as u32, key)
    }

    fn forget(&self, fd: i32) -> i32 {
        epoll::forget(self.epfd(), fd)
    }

    // The kernel sees to it.
    fn closes(&self, _fd: i32) {}

    fn drop_for_all(&self, fd: i32) {
        epoll::forget(self.epfd(), fd);
    }

    fn wait(&self, reports: &mut [Event], timeout_ns: Option<u64>) -> i32 {
        epoll::wait(self.epfd(), reports, timeout_ns)
    }

    fn renew(&self, lost: bool, internal: Option<(i32, u64)>) -> i32 {
        let new = fresh(internal);
        if new < 0 {
            return new;
        }
        // Under this number it is known there for as long as its file lives.
        let outer = self.outer.load(Ordering::Relaxed);
        if outer >= 0 {
            let rc = nest(outer, new);
            if rc < 0 {
                file::close(new);
                return rc;
            }
        }
        // The number stays, since closers of CLONED descriptors use it; but
        // a lost one may be somebody else's by now.
        if !lost && epoll::replace(self.epfd(), new) >= 0 {
            file::close(new);
        } else {
            self.epfd.store(new, Ordering::Relaxed);
        }
        0
    }

    // KEEPS: INV-76
    fn renew_in_child(&self, internal: Option<(i32, u64)>) -> i32 {
        let new = fresh(internal);
        if new < 0 {
            return new;
        }
        self.close();
        self.epfd.store(new, Ordering::Relaxed);
        0
    }

    fn poll_fd(&self) -> i32 {
        let outer = self.outer.load(Ordering::Relaxed);
        if outer >= 0 {
            return outer;
        }
        let outer = epoll::create();
        if outer < 0 {
            return outer;
        }
        let rc = nest(outer, self.epfd());
        if rc < 0 {
            file::close(outer);
            return rc;
        }
        self.outer.store(outer, Ordering::Relaxed);
        outer
    }
}

/// A set with nothing but that descriptor, or a negative errno.
fn fresh(internal: Option<(i32, u64)>) -> i32 {
    let set = epoll::create();
    let Some((fd, key)) = internal.filter(|_| set >= 0) else {
        return set;
    };
    let rc = epoll::ctl(set, epoll::EPOLL_CTL_ADD, fd, epoll::EPOLLIN as u32, key);
    if rc < 0 {
        file::close(set);
        return rc;
    }
    set
}

/// Puts one set into another.
fn nest(outer: i32, inner: i32) -> i32 {
    epoll::ctl(outer, epoll::EPOLL_CTL_ADD, inner, epoll::EPOLLIN as u32, 0)
}
