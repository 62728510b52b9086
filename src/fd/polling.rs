//! What each thread's set holds, and when that changes.
//!
//! Reports carry the number and the generation that the registration was made
//! for, so a late one is told from a fresh one (INV-84). epoll registers files,
//! not numbers: a file that was closed under one number but lives on under
//! another keeps reporting and can no longer be removed. A stale report that
//! comes again is such a case, and the thread's set is built anew.
//!
//! Regular files, which epoll refuses, are always ready, as poll() has it: a
//! wanted one stays in the thread's own queue and is reported once a turn.
//!
//! A descriptor that is FD_ET_POSSIBLE is registered once for everything and
//! reports changes. A direction that becomes wanted while it is ready is
//! registered again: the kernel then reports it again, since the change may
//! have come while nobody wanted it.

use super::flags::*;
use super::running::{Enter, Leave};
use super::slot::{Generation, Slot, generation_of, state_of};
use super::table::FdTable;
use super::thread::{Polled, ThreadPoll};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sys::{self, epoll, memory};

/// Key of the runtime's own descriptor; no number is that large.
pub(super) const INTERNAL: u64 = u64::MAX;

impl FdTable {
    /// Gives thread id `tid` an epoll set holding whatever it may handle and
    /// somebody wants: 0 or a negative errno.
    pub fn thread_enter(&self, tid: usize) -> i32 {
        let t = self.thread(tid);
        if t.poller.is_open() {
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
            // UNSEEN: what is published are atomics that are 0, here and there.
            t.polled.store(polled.cast(), Ordering::Release);
        }
        let rc = t.poller.open();
        if rc < 0 {
            return rc;
        }
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
    // KEEPS: INV-78
    pub fn thread_leave(&self, tid: usize) {
        let t = self.thread(tid);
        if !t.poller.is_open() {
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
        t.poller.close();
    }

    /// In the child of a fork: the thread that had this id is not there.
    pub fn forget_thread(&self, tid: usize) {
        self.thread_leave(tid);
        self.thread(tid).busy.store(false, Ordering::Relaxed);
    }

    /// Adds an eventfd of the caller's own, not in the table, to the set of
    /// `tid`: 0 or a negative errno. When it is readable, dispatch says so.
    /// Closers signal it: it stays open as long as threads use the table.
    pub fn add_internal(&self, tid: usize, fd: i32) -> i32 {
        let t = self.thread(tid);
        let rc = t.poller.watch_internal(fd, INTERNAL);
        if rc == 0 {
            t.internal.store(fd, Ordering::Relaxed);
        }
        rc
    }

    /// A descriptor that is readable when `tid` has reports to take, for a
    /// host's own loop; or a negative errno. It stays the same while the
    /// thread's set may be replaced inside.
    pub fn poll_fd(&self, tid: usize) -> i32 {
        self.thread(tid).poller.poll_fd()
    }

    /// Whether `tid` has updates that [`apply_updates`](Self::apply_updates)
    /// would apply: part of the re-check before sleeping.
    #[inline]
    pub fn has_updates(&self, tid: usize) -> bool {
        let t = self.thread(tid);
        t.local.len() != 0 || !t.foreign.is_empty()
    }

    /// Tells the kernel what changed since the last turn. For thread `tid`.
    #[inline]
    pub fn apply_updates(&self, tid: usize) {
        if self.has_updates(tid) {
            self.apply_all(tid);
        }
    }

    fn apply_all(&self, tid: usize) {
        let t = self.thread(tid);
        // What is queued meanwhile waits for the next turn.
        for _ in 0..t.local.len() {
            self.consume(t, t.local.pop() as i32, tid);
        }
        t.foreign.drain(|fd| self.consume(t, fd as i32, tid));
    }

    /// The number is out of its queue.
    fn consume(&self, t: &ThreadPoll, fd: i32, tid: usize) {
        let slot = self.slot(fd);
        slot.serve(tid, || self.program(t, slot, fd, tid));
    }

    /// Makes the set hold what is wanted of `fd` on this thread. Inside
    /// meanwhile, so that the number is neither closed nor reused between the
    /// look and the system call.
    fn program(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize) {
        match slot.enter(tid) {
            Enter::In(_) => {
                self.program_inside(t, slot, fd, tid, true);
                match slot.leave(tid) {
                    Leave::CloseNow(closing) => self.close_orphan(slot, fd, closing, t),
                    Leave::Lost => self.update_self(slot, fd, tid),
                    Leave::Stay | Leave::Gone => {}
                }
            }
            Enter::Nested(_) => self.program_inside(t, slot, fd, tid, true),
            Enter::NotMine => self.program_inside(t, slot, fd, tid, false),
            Enter::CloseNow(closing) => self.close_orphan(slot, fd, closing, t),
        }
    }

    /// WINDOW(not-ours): where the descriptor is not this thread's any more, its number
    /// may be closed and reused at any moment; all that is done then is to
    /// remove it from a set that does not hold the new file.
    // KEEPS: INV-68, INV-73
    fn program_inside(&self, t: &ThreadPoll, slot: &Slot, fd: i32, tid: usize, mine: bool) {
        let Some(record) = self.polled(t, fd) else {
            return;
        };
        // PAIRS, UNSEEN: raise's Release.
        let word = slot.word.load(Ordering::Acquire);
        let life = generation_of(word);
        if slot.owner().is_null() {
            t.poll_drop_fd.bump();
        }
        let held = Polled(record.load(Ordering::Relaxed));
        let had = held.bits_for(life);
        let wanted = match mine {
            true => self.wanted(state_of(word), had),
            false => 0,
        };
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
        if wanted == had && (wanted & Polled::EDGE == 0 || !has_missed(state_of(word))) {
            // Another life's, which others closed.
            if had == 0 && held != Polled::NOTHING && self.kind().holds_files() {
                t.poll_ctl.bump();
                t.poller.forget(fd);
                record.store(Polled::NOTHING.0, Ordering::Relaxed);
            }
            return;
        }
        t.poll_ctl.bump();
        if wanted == 0 {
            // It may have been closed meanwhile, or by the host behind our
            // back: then there is nothing left to remove.
            t.poller.forget(fd);
            record.store(Polled::NOTHING.0, Ordering::Relaxed);
            return;
        }
        let key = key_of(fd, life);
        let held = match t.poller.watch(fd, kernel_events(wanted), key, had != 0) {
            0 => wanted,
            e if e == -sys::EPERM => {
                self.offer_file(t, slot, fd, tid);
                (wanted & Polled::BOTH) | Polled::FILE
            }
            e => self.refused(slot, fd, tid, e),
        };
        record.store(Polled::new(life, held).0, Ordering::Relaxed);
    }

    /// What the set is to hold of a descriptor in this state, of which it
    /// holds `had`.
    fn wanted(&self, state: u32, had: u32) -> u32 {
        let edges = state & FD_ET_POSSIBLE != 0 && self.kind().has_edges();
        if edges && had & Polled::FILE == 0 {
            // Once for everything, as soon as something is wanted.
            return match state & FD_EV_ACTIVE_RW {
                0 if had & Polled::EDGE != 0 => had,
                0 => 0,
                _ => Polled::BOTH | Polled::EDGE,
            };
        }
        let mut wanted = 0;
        if state & FD_EV_ACTIVE_R != 0 {
            wanted |= Polled::READ;
        }
        if state & FD_EV_ACTIVE_W != 0 {
            wanted |= Polled::WRITE;
        }
        wanted
    }

    /// The kernel would not. Short of memory or watches it is asked again
    /// next turn, since an event that is never seen is worse than a busy
    /// loop; a number that is no file any more has no events.
    // KEEPS: INV-80
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

    /// Replaces the thread's set by a new one with what is wanted now. `lost`:
    /// the old one is not there any more.
    #[cold]
    pub(super) fn rebuild(&self, t: &ThreadPoll, tid: usize, lost: bool) {
        // Out of descriptors or memory: the next stale report tries again.
        if t.poller.renew(lost, internal_of(t)) < 0 {
            return;
        }
        t.poll_rebuild.bump();
        self.refill(t, tid);
    }

    /// Registers everything with a set that is new.
    fn refill(&self, t: &ThreadPoll, tid: usize) {
        t.acquit_all();
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
    // KEEPS: INV-76
    pub fn fork_child(&self, tid: Option<usize>) -> i32 {
        let me = tid.map(|tid| (self.thread(tid), tid));
        let me = me.filter(|(t, _)| t.poller.is_open());
        // The sets first: a close below must not reach into the parent's.
        if let Some((t, _)) = me {
            let rc = t.poller.renew_in_child(internal_of(t));
            if rc < 0 {
                return rc;
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

/// Whether a direction is wanted and was reported already, perhaps while it
/// was not: an edge would not come again.
const fn has_missed(state: u32) -> bool {
    state & (FD_EV_ACTIVE_R | FD_EV_READY_R) == FD_EV_ACTIVE_R | FD_EV_READY_R
        || state & (FD_EV_ACTIVE_W | FD_EV_READY_W) == FD_EV_ACTIVE_W | FD_EV_READY_W
}

/// What a new set watches from the start, if the thread has it: without it nobody
/// could wake the thread.
fn internal_of(t: &ThreadPoll) -> Option<(i32, u64)> {
    let fd = t.internal.load(Ordering::Relaxed);
    (fd >= 0).then_some((fd, INTERNAL))
}

/// What the reports about one life of a number carry.
// KEEPS: INV-84
pub(super) const fn key_of(fd: i32, life: Generation) -> u64 {
    fd as u64 | ((life as u64) << 32)
}

/// The kernel's words for the bits of a [`Polled`].
const fn kernel_events(bits: u32) -> u32 {
    let mut events = 0;
    if bits & Polled::READ != 0 {
        events |= epoll::EPOLLIN | epoll::EPOLLRDHUP;
    }
    if bits & Polled::WRITE != 0 {
        events |= epoll::EPOLLOUT;
    }
    if bits & Polled::EDGE != 0 {
        events |= epoll::EPOLLET;
    }
    events as u32
}
