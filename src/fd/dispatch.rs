//! What comes back from a wait, handed to the slots.

use super::flags::*;
use super::poller::EVENT_CLOSED;
use super::polling::INTERNAL;
use super::slot::{Generation, Slot};
use super::table::FdTable;
use super::thread::{MAX_EVENTS, Polled, ThreadPoll};
use crate::sync::atomic::Ordering;
use crate::sys::{self, epoll};

/// Keeps the thread's own callbacks from its event buffer.
struct Busy<'a>(&'a ThreadPoll);

impl<'a> Busy<'a> {
    fn new(t: &'a ThreadPoll) -> Self {
        if t.busy.load(Ordering::Relaxed) {
            panic!("a thread polls from inside a descriptor's callback");
        }
        t.busy.store(true, Ordering::Relaxed);
        Self(t)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

impl FdTable {
    /// Waits for reports for at most `timeout_ns` (None: for ever), not at
    /// all while the thread has updates of its own: the number to hand to
    /// [`dispatch`](Self::dispatch), or a negative errno (-EINTR: a signal).
    ///
    /// Panics in a callback that dispatch runs.
    // KEEPS: INV-80
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
            t.poller.wait(unsafe { &mut *events }, timeout_ns)
        });
        drop(busy);
        t.polls.bump();
        match n {
            1.. => t.poll_io.bump(),
            0 if timeout_ns != Some(0) => t.poll_exp.bump(),
            // Somebody closed the set, my_closefrom() for one.
            _ if n == -sys::EBADF || n == -sys::EINVAL => self.rebuild(t, tid, true),
            _ => {}
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
            if event.events & EVENT_CLOSED != 0 {
                self.closed_behind(t, slot, fd, life);
            } else if slot.generation() == life {
                // Closed or Migrated: the update that is queued then, or the
                // close, make the set forget it.
                self.report(slot, fd, events_of(event.events), Some(life), tid);
            } else {
                haunted |= self.stale(t, slot, fd, tid, data);
            }
        }
        if t.files.load(Ordering::Relaxed) {
            t.files.store(false, Ordering::Relaxed);
            self.report_files(t, tid);
        }
        if haunted {
            self.rebuild(t, tid, false);
        }
        woken
    }

    /// The number was closed behind the poller, by fd_delete() or by nobody
    /// we know. Who opens it again and wants it shall not find it held.
    #[cold]
    fn closed_behind(&self, t: &ThreadPoll, slot: &Slot, fd: i32, life: Generation) {
        t.poll_drop_fd.bump();
        if let Some(record) = self.polled(t, fd) {
            if slot.generation() == life {
                record.store(Polled::NOTHING.0, Ordering::Relaxed);
            }
        }
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
            if t.poller.forget(fd) == 0 {
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
