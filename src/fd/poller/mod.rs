//! What a thread waits with: one small trait, two of the kernel's interfaces.
//!
//! A poller is one thread's set of descriptors and the events that are wanted
//! of each. It knows nothing of slots: `polling.rs` says what to watch,
//! `dispatch.rs` makes sense of what comes back. Events are epoll's bits,
//! which are poll()'s too, and travel with a key of the caller's.

mod epoll;
mod poll;

pub(super) use crate::sys::epoll::Event;
use crate::sys::{self, epoll as sys_epoll};
use epoll::Epoll;
use poll::Poll;

/// What no poller but poll() reports: the number is not open, and was taken out.
pub(super) const EVENT_CLOSED: u32 = crate::sys::poll::POLLNVAL as u32;

/// The pollers that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linux: the kernel keeps the set.
    Epoll,
    /// Everywhere: the set goes to the kernel with each wait.
    Poll,
}

impl Kind {
    /// All, best first.
    pub const ALL: [Self; 2] = [Self::Epoll, Self::Poll];

    /// As operators spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Poll => "poll",
        }
    }

    /// The larger, the better.
    pub const fn preference(self) -> u32 {
        match self {
            Self::Epoll => 300,
            Self::Poll => 200,
        }
    }

    /// Whether this system has it. Being out of descriptors just now does not
    /// count.
    pub fn works(self) -> bool {
        if self == Self::Poll {
            return true;
        }
        let fd = sys_epoll::create();
        if fd >= 0 {
            sys::file::close(fd);
        }
        // A sandbox may answer with either of the last two.
        ![-sys::ENOSYS, -sys::EPERM, -sys::EACCES].contains(&fd)
    }

    /// Whether it can report changes only.
    pub(super) const fn has_edges(self) -> bool {
        matches!(self, Self::Epoll)
    }

    /// Whether a wait keeps the files of its set open, whoever closes them.
    pub(super) const fn holds_files(self) -> bool {
        matches!(self, Self::Poll)
    }
}

/// One thread's set, for that thread alone but for `drop_for_all`, and `close`
/// once it is gone.
pub(super) trait Poller {
    /// Makes the set, which is empty: 0 or a negative errno.
    fn open(&self) -> i32;

    /// Gives it back.
    fn close(&self);

    /// Between the two.
    fn is_open(&self) -> bool;

    /// Watches `events` of `fd`, instead of others where `held` says that it
    /// is in the set: 0 or a negative errno, -EPERM where its file is of a
    /// kind that cannot be watched and is always ready.
    fn watch(&self, fd: i32, events: u32, key: u64, held: bool) -> i32;

    /// Watches a descriptor that is not in the table for reading: 0 or a
    /// negative errno.
    fn watch_internal(&self, fd: i32, key: u64) -> i32;

    /// Does not watch `fd` any more: 0, or a negative errno where it was not
    /// in the set, or the kernel cannot find it there any more.
    fn forget(&self, fd: i32) -> i32;

    /// The thread is about to close `fd`, and with it perhaps its file.
    fn closes(&self, fd: i32);

    /// Does not watch `fd` any more, whose file stays open elsewhere.
    fn drop_for_all(&self, fd: i32);

    /// Waits for at most `timeout_ns` (None: for ever): how many of `reports`
    /// it filled, or a negative errno.
    fn wait(&self, reports: &mut [Event], timeout_ns: Option<u64>) -> i32;

    /// A set that watches `internal` alone instead of this one, which is damaged
    /// or, if `lost`, not there any more: 0; or a negative errno, and nothing has
    /// changed.
    fn renew(&self, lost: bool, internal: Option<(i32, u64)>) -> i32;

    /// The same where this one is the parent process's.
    fn renew_in_child(&self, internal: Option<(i32, u64)>) -> i32;

    /// A descriptor that is readable while the set has reports, the same
    /// until the set is closed; or a negative errno.
    fn poll_fd(&self) -> i32;
}

/// The poller of one thread id.
#[derive(Debug)]
pub(super) enum Any {
    Epoll(Epoll),
    Poll(Poll),
}

impl Any {
    /// For numbers below `maxsock`.
    pub(super) const fn new(kind: Kind, maxsock: usize) -> Self {
        match kind {
            Kind::Epoll => Self::Epoll(Epoll::new()),
            Kind::Poll => Self::Poll(Poll::new(maxsock)),
        }
    }

    /// [`Poller::wait`], without a call through a pointer: it is called in
    /// each turn, just behind a system call.
    #[inline]
    pub(super) fn wait(&self, reports: &mut [Event], timeout_ns: Option<u64>) -> i32 {
        match self {
            Self::Epoll(set) => set.wait(reports, timeout_ns),
            Self::Poll(set) => set.wait(reports, timeout_ns),
        }
    }
}

impl core::ops::Deref for Any {
    type Target = dyn Poller;

    #[inline]
    fn deref(&self) -> &(dyn Poller + 'static) {
        match self {
            Self::Epoll(set) => set,
            Self::Poll(set) => set,
        }
    }
}
