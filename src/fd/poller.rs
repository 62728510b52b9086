//! epoll under the table: one set per thread, level triggered.
//!
//! The event data carry the number and the generation that the registration
//! was made for, so a late report is told from a fresh one (INV-84). epoll
//! registers files, not numbers: a file that was closed under one number but
//! lives on under another keeps reporting and can no longer be removed. A
//! stale report that comes again is such a case, and the thread's set is
//! built anew.
//!
//! Regular files, which epoll refuses, are always ready, as poll() has it: a
//! wanted one stays in the thread's own queue and is reported once a turn.

use super::flags::*;
use super::running::{Enter, Leave};
use super::slot::{Slot, generation_of, state_of};
use super::table::FdTable;
use super::thread::{MAX_EVENTS, Polled, ThreadPoll};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sys::{self, epoll, memory};

/// Event data of the runtime's own descriptor; no number is that large.
const INTERNAL: u64 = u64::MAX;

/// Gives the right to a thread's event buffer back.
struct Busy<'a>(&'a ThreadPoll);

impl<'a> Busy<'a> {
    fn new(t: &'a ThreadPoll) -> Self {
        // PAIRS: drop's Release.
        if t.busy.swap(true, Ordering::Acquire) {
            panic!("a thread polls from inside a descriptor's callback");
        }
        Self(t)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // PAIRS: new's Acquire.
        self.0.busy.store(false, Ordering::Release);
    }
}

impl FdTable {
    /// Gives thread id `tid` an epoll set holding whatever it may handle and
    /// somebody wants: 0 or a negative errno.
    pub fn thread_enter(&self, tid: usize) -> i32 {
        let t = self.thread(tid);
        if t.epfd() >= 0 {
            return -sys::EBUSY;
        }
        let area = self.maxsock() * size_of::<AtomicU32>();
        if t.local.ring().is_null() {
            let ring = memory::map_pages(area);
            if ring.is_null() {
                return -sys::ENOMEM;
            }
            // SAFETY: maxsock zeroed words that live as long as the table.
            unsafe { t.local.set_ring(ring.cast()) };
        }
        if t.polled.load(Ordering::Relaxed).is_null() {
            let polled = memory::map_pages(area);
            if polled.is_null() {
                return -sys::ENOMEM;
            }
            // PAIRS: polled()'s Acquire.
            t.polled.store(polled.cast(), Ordering::Release);
        }
        let epfd = epoll::create();
        if epfd < 0 {
            return epfd;
        }
        t.epfd.store(epfd, Ordering::Relaxed);
        for fd in 0..self.end() as i32 {
            let slot = self.slot(fd);
            if slot.thread_mask() & (1 << tid) != 0 && slot.state() & FD_EV_ACTIVE_RW != 0 {
                self.update_self(slot, fd, tid);
            }
        }
        0
    }

    /// Closes the set of `tid`, if it has one. Updates that are still queued
    /// wait for whoever enters under that id.
    pub fn thread_leave(&self, tid: usize) {
        let t = self.thread(tid);
        if t.epfd() < 0 {
            return;
        }
        for fd in 0..self.end() as i32 {
            if let Some(p) = self.polled(t, fd) {
                if p.load(Ordering::Relaxed) != 0 {
                    p.store(0, Ordering::Relaxed);
                }
            }
        }
        t.internal.store(-1, Ordering::Relaxed);
        for epfd in [&t.outer, &t.epfd] {
            let old = epfd.swap(-1, Ordering::Relaxed);
            if old >= 0 {
                sys::file::close(old);
            }
        }
    }

    /// In the child of a fork: the thread that had this id is not there.
    pub fn forget_thread(&self, tid: usize) {
        self.thread_leave(tid);
        self.thread(tid).busy.store(false, Ordering::Relaxed);
    }

    /// Adds a descriptor of the caller's own, not in the table, to the set of
    /// `tid`: 0 or a negative errno. When it is readable, dispatch says so.
    pub fn add_internal(&self, tid: usize, fd: i32) -> i32 {
        let t = self.thread(tid);
        let rc = epoll::ctl(
            t.epfd(),
            epoll::EPOLL_CTL_ADD,
            fd,
            epoll::EPOLLIN as u32,
            INTERNAL,
        );
        if rc == 0 {
            t.internal.store(fd, Ordering::Relaxed);
        }
        rc
    }

    /// A descriptor that is readable when `tid` has reports to take, for a
    /// host's own loop; or a negative errno. It stays the same while the
    /// thread's set may be replaced inside.
    pub fn poll_fd(&self, tid: usize) -> i32 {
        let t = self.thread(tid);
        let outer = t.outer.load(Ordering::Relaxed);
        if outer >= 0 {
            return outer;
        }
        let outer = epoll::create();
        if outer < 0 {
            return outer;
        }
        let rc = nest(outer, t.epfd());
        if rc < 0 {
            sys::file::close(outer);
            return rc;
        }
        t.outer.store(outer, Ordering::Relaxed);
        outer
    }

    /// Whether `tid` has updates that [`apply_updates`](Self::apply_updates)
    /// would apply: part of the re-check before sleeping.
    #[inline]
    pub fn has_updates(&self, tid: usize) -> bool {
        let t = self.thread(tid);
        t.local.len() != 0 || !t.foreign.is_empty()
    }

    /// Tells the kernel what changed since the last turn. For thread `tid`.
    pub fn apply_updates(&self, tid: usize) {
        let t = self.thread(tid);
        // What is queued meanwhile waits for the next turn.
        for _ in 0..t.local.len() {
            self.consume(t, t.local.pop() as i32, tid);
        }
        t.foreign.drain(|fd| self.consume(t, fd as i32, tid));
    }

    /// The number is out of its queue: clear the bit, then look.
    fn consume(&self, t: &ThreadPoll, fd: i32, tid: usize) {
        let slot = self.slot(fd);
        // PAIRS: table.rs, update(): what was changed before the bit was set
        // is seen below; what is changed later sets the bit again.
        slot.update_mask.fetch_and(!(1 << tid), Ordering::AcqRel);
        self.program(t, slot, fd, tid);
    }

    /// Makes the set hold what is wanted of `fd` on this thread. Inside
    /// meanwhile, so that the number is neither closed nor reused between the
    /// look and the system call.
    fn program(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize) {
        match slot.enter(tid) {
            Enter::In(_) => {
                self.program_inside(t, slot, fd, tid, true);
                match slot.leave(tid) {
                    Leave::CloseNow(closing) => self.close(slot, fd, closing),
                    Leave::Lost => self.update_self(slot, fd, tid),
                    Leave::Stay | Leave::Gone => {}
                }
            }
            Enter::Nested(_) => self.program_inside(t, slot, fd, tid, true),
            Enter::NotMine => self.program_inside(t, slot, fd, tid, false),
            Enter::CloseNow(closing) => self.close(slot, fd, closing),
        }
    }

    /// WINDOW: where the descriptor is not this thread's any more, its number
    /// may be closed and reused at any moment; all that is done then is to
    /// remove it from a set that does not hold the new file.
    fn program_inside(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize, mine: bool) {
        let Some(record) = self.polled(t, fd) else {
            return;
        };
        // PAIRS: raise's Release.
        let word = slot.word.load(Ordering::Acquire);
        let life = generation_of(word);
        if slot.owner().is_null() {
            t.poll_drop_fd.bump();
        }
        let mut wanted = 0;
        if mine {
            if state_of(word) & FD_EV_ACTIVE_R != 0 {
                wanted |= Polled::READ;
            }
            if state_of(word) & FD_EV_ACTIVE_W != 0 {
                wanted |= Polled::WRITE;
            }
        }
        let had = Polled(record.load(Ordering::Relaxed)).bits_for(life);
        if had & Polled::FILE != 0 {
            record.store(
                Polled::new(life, wanted | Polled::FILE).0,
                Ordering::Relaxed,
            );
            if wanted != 0 {
                self.offer_file(t, slot, fd, tid);
            }
            return;
        }
        if wanted == had {
            return;
        }
        let done = match (had, wanted) {
            (0, _) => self.add(t, slot, fd, tid, wanted, life),
            (_, 0) => {
                // It may have been closed meanwhile, or by the host behind
                // our back: then there is nothing left to remove.
                t.poll_ctl.bump();
                epoll::forget(t.epfd(), fd);
                0
            }
            _ => match self.ctl(t, epoll::EPOLL_CTL_MOD, fd, wanted, life) {
                0 => wanted,
                e if e == -sys::ENOENT => self.add(t, slot, fd, tid, wanted, life),
                e => self.refused(slot, fd, tid, e),
            },
        };
        record.store(Polled::new(life, done).0, Ordering::Relaxed);
    }

    /// Registers `fd`: the bits that the set now holds.
    fn add(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize, wanted: u32, life: u32) -> u32 {
        match self.ctl(t, epoll::EPOLL_CTL_ADD, fd, wanted, life) {
            0 => wanted,
            // Left by another life of the number.
            e if e == -sys::EEXIST => match self.ctl(t, epoll::EPOLL_CTL_MOD, fd, wanted, life) {
                0 => wanted,
                e => self.refused(slot, fd, tid, e),
            },
            e if e == -sys::EPERM => {
                self.offer_file(t, slot, fd, tid);
                wanted | Polled::FILE
            }
            e => self.refused(slot, fd, tid, e),
        }
    }

    /// The kernel would not. Short of memory or watches it is asked again
    /// next turn, since an event that is never seen is worse than a busy
    /// loop; a number that is no file any more has no events.
    fn refused(&self, slot: &Slot, fd: i32, tid: usize, error: i32) -> u32 {
        if error == -sys::ENOMEM || error == -sys::ENOSPC {
            self.update_self(slot, fd, tid);
        }
        0
    }

    /// Keeps a wanted regular file in the thread's queue.
    fn offer_file(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize) {
        t.files.store(true, Ordering::Relaxed);
        self.update_self(slot, fd, tid);
    }

    fn ctl(&self, t: &ThreadPoll, op: i32, fd: i32, wanted: u32, life: u32) -> i32 {
        let mut events = 0;
        if wanted & Polled::READ != 0 {
            events |= epoll::EPOLLIN | epoll::EPOLLRDHUP;
        }
        if wanted & Polled::WRITE != 0 {
            events |= epoll::EPOLLOUT;
        }
        t.poll_ctl.bump();
        let data = fd as u64 | (u64::from(life) << 32);
        epoll::ctl(t.epfd(), op, fd, events as u32, data)
    }

    /// Waits for reports for at most `timeout_ns` (None: for ever), not at
    /// all while the thread has updates of its own: the number to hand to
    /// [`dispatch`](Self::dispatch), or a negative errno (-EINTR: a signal).
    ///
    /// Panics in a callback that dispatch runs.
    pub fn wait(&self, tid: usize, timeout_ns: Option<u64>) -> i32 {
        let t = self.thread(tid);
        let busy = Busy::new(t);
        let timeout_ns = if t.local.len() != 0 {
            Some(0)
        } else {
            timeout_ns
        };
        let n = t.events.with_mut(|events| {
            // SAFETY: `busy`: nobody else uses the buffer.
            epoll::wait(t.epfd(), unsafe { &mut *events }, timeout_ns)
        });
        drop(busy);
        if n > 0 {
            t.poll_io.bump();
        }
        // Somebody closed the set, my_closefrom() for one.
        if n == -sys::EBADF || n == -sys::EINVAL {
            // The number may be somebody else's by now: not to be replaced.
            self.rebuild(t, tid, false);
        }
        n
    }

    /// Delivers the `n` reports of the last wait (negative: none) and those
    /// of regular files. True when the internal descriptor is readable.
    #[must_use]
    pub fn dispatch(&self, tid: usize, n: i32) -> bool {
        let t = self.thread(tid);
        let _busy = Busy::new(t);
        let mut woken = false;
        let mut haunted = false;
        for i in 0..(n.max(0) as usize).min(MAX_EVENTS) {
            // SAFETY: `_busy`: nobody else uses the buffer; copied out, since
            // callbacks run below.
            let event = t.events.with(|events| unsafe { (*events)[i] });
            let data = event.u64;
            if data == INTERNAL {
                woken = true;
                continue;
            }
            let (fd, life) = (data as u32 as i32, (data >> 32) as u32);
            let Some(slot) = self.slot_if(fd) else {
                continue;
            };
            if slot.generation() == life {
                // Closed or Migrated: the update that is queued then, or the
                // close, make the set forget it.
                self.report(slot, fd, events_of(event.events), Some(life), tid);
            } else {
                haunted |= self.stale(t, slot, fd, tid, data);
            }
        }
        if t.files.swap(false, Ordering::Relaxed) {
            self.report_files(t, tid);
        }
        if haunted {
            self.rebuild(t, tid, true);
        }
        woken
    }

    /// A report of an earlier life: true when only a new set helps.
    #[cold]
    fn stale(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize, data: u64) -> bool {
        t.poll_stale.bump();
        let Some(record) = self.polled(t, fd) else {
            return false;
        };
        let held = Polled(record.load(Ordering::Relaxed)).bits_for(slot.generation());
        if held == 0 {
            // Nothing of the present life is in the set, so what is there
            // under this number belongs to nobody.
            t.poll_ctl.bump();
            if epoll::forget(t.epfd(), fd) == 0 {
                self.update_self(slot, fd, tid);
                return false;
            }
        }
        t.suspect(data)
    }

    /// Reports the regular files that wait in the thread's own queue.
    #[cold]
    fn report_files(&self, t: &ThreadPoll, tid: usize) {
        for nth in 0..t.local.len() {
            let fd = t.local.peek(nth) as i32;
            let slot = self.slot(fd);
            let life = slot.generation();
            let held = self
                .polled(t, fd)
                .map_or(0, |p| Polled(p.load(Ordering::Relaxed)).bits_for(life));
            if held & Polled::FILE == 0 {
                continue;
            }
            let mut evts = 0;
            if held & Polled::READ != 0 {
                evts |= FD_EV_READY_R;
            }
            if held & Polled::WRITE != 0 {
                evts |= FD_EV_READY_W;
            }
            self.report(slot, fd, evts, Some(life), tid);
        }
    }

    /// Replaces the thread's set by a new one with what is wanted now. Where
    /// the old one is there to be replaced its number stays, since closers of
    /// CLONED descriptors use it.
    #[cold]
    fn rebuild(&self, t: &ThreadPoll, tid: usize, keep: bool) {
        let new = epoll::create();
        // Out of descriptors: the next stale report tries again.
        if new < 0 {
            return;
        }
        t.poll_rebuild.bump();
        let epfd = t.epfd();
        if keep && epoll::replace(epfd, new) >= 0 {
            sys::file::close(new);
        } else {
            t.epfd.store(new, Ordering::Relaxed);
        }
        self.refill(t, tid);
        let outer = t.outer.load(Ordering::Relaxed);
        if outer >= 0 {
            nest(outer, t.epfd());
        }
    }

    /// Registers everything with a set that is new and empty.
    fn refill(&self, t: &ThreadPoll, tid: usize) {
        t.acquit_all();
        let internal = t.internal.load(Ordering::Relaxed);
        if internal >= 0 {
            self.add_internal(tid, internal);
        }
        for fd in 0..self.end() as i32 {
            let Some(record) = self.polled(t, fd) else {
                return;
            };
            if record.load(Ordering::Relaxed) != 0 {
                record.store(0, Ordering::Relaxed);
                self.program(t, self.slot(fd), fd, tid);
            }
        }
    }

    /// For the child of a fork, whose only thread is `tid` or has no id: every
    /// descriptor is shared with the parent from now on, and no set is any
    /// more (INV-76, 77). 0 or a negative errno.
    pub fn fork_child(&self, tid: Option<usize>) -> i32 {
        let me = tid.map(|tid| (self.thread(tid), tid));
        let me = me.filter(|(t, _)| t.epfd() >= 0);
        // The sets first: a close below must not reach into the parent's.
        if let Some((t, _)) = me {
            let epfd = epoll::create();
            if epfd < 0 {
                return epfd;
            }
            for old in [
                t.outer.swap(-1, Ordering::Relaxed),
                t.epfd.swap(epfd, Ordering::Relaxed),
            ] {
                if old >= 0 {
                    sys::file::close(old);
                }
            }
        }
        for other in 0..self.nbthread() {
            if tid != Some(other) {
                self.thread_leave(other);
            }
        }
        for fd in 0..self.end() as i32 {
            let slot = self.slot(fd);
            if slot.owner().is_null() {
                continue;
            }
            slot.raise(FD_CLONED);
            // What the threads that exist no more were about to close.
            if let Some(closing) = slot.forget_others(tid) {
                self.close(slot, fd, closing);
            }
        }
        if let Some((t, tid)) = me {
            self.refill(t, tid);
        }
        0
    }
}

/// Puts one epoll set into another.
fn nest(outer: i32, inner: i32) -> i32 {
    epoll::ctl(outer, epoll::EPOLL_CTL_ADD, inner, epoll::EPOLLIN as u32, 0)
}

/// The kernel's words in the table's.
fn events_of(reported: u32) -> u32 {
    const MAP: [(i32, u32); 5] = [
        (epoll::EPOLLIN, FD_EV_READY_R),
        (epoll::EPOLLOUT, FD_EV_READY_W),
        (epoll::EPOLLRDHUP, FD_EV_SHUT_R),
        (epoll::EPOLLHUP, FD_EV_SHUT_RW),
        (epoll::EPOLLERR, FD_EV_ERR_RW),
    ];
    let mut evts = 0;
    for (from, to) in MAP {
        if reported & from as u32 != 0 {
            evts |= to;
        }
    }
    evts
}
