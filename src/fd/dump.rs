//! The table as text, for operators.

use super::flags::*;
use super::table::FdTable;
use super::thread::Polled;
use crate::sync::atomic::Ordering;
use core::fmt::{self, Write};

impl FdTable {
    /// One line per descriptor in use, then one per thread that polls. A
    /// snapshot: others go on meanwhile.
    pub fn dump(&self, out: &mut impl Write) -> fmt::Result {
        for fd in 0..self.end() as i32 {
            let slot = self.slot(fd);
            let owner = slot.owner();
            if owner.is_null() {
                continue;
            }
            let state = slot.state();
            let flag = |bit: u32, letter: char| if state & bit != 0 { letter } else { '-' };
            let (mut reads, mut writes) = (0u64, 0u64);
            for tid in 0..self.nbthread() {
                let polled = self.polled(self.thread(tid), fd).map_or(0, |p| {
                    Polled(p.load(Ordering::Relaxed)).bits_for(slot.generation())
                });
                reads |= u64::from(polled & Polled::READ != 0) << tid;
                writes |= u64::from(polled & Polled::WRITE != 0) << tid;
            }
            writeln!(
                out,
                "fd={fd} state=0x{state:x}(R:{}{} W:{}{} {}{}{}{}{}) owner={owner:p} iocb={:p} \
                 threads=0x{:x} running=0x{:x} updates=0x{:x} polled=0x{reads:x}/0x{writes:x} \
                 generation={}",
                flag(FD_EV_ACTIVE_R, 'a'),
                flag(FD_EV_READY_R, 'r'),
                flag(FD_EV_ACTIVE_W, 'a'),
                flag(FD_EV_READY_W, 'r'),
                flag(FD_POLL_ERR, 'E'),
                flag(FD_POLL_HUP, 'H'),
                flag(FD_CLONED, 'C'),
                flag(FD_ET_POSSIBLE, 'e'),
                flag(FD_MUST_CLOSE, 'o'),
                slot.iocb().map_or(core::ptr::null(), |f| f as *const ()),
                slot.thread_mask(),
                slot.running_mask(),
                slot.update_mask(),
                slot.generation(),
            )?;
        }
        for tid in 0..self.nbthread() {
            if !self.thread(tid).poller.is_open() {
                continue;
            }
            let c = self.counters(tid);
            writeln!(
                out,
                "thread={tid} polls={} poll_io={} poll_exp={} poll_spurious={} poll_drop_fd={} \
                 poll_skip_fd={} poll_stale={} poll_rebuild={} poll_ctl={} orphans={}",
                c.polls,
                c.poll_io,
                c.poll_exp,
                c.poll_spurious,
                c.poll_drop_fd,
                c.poll_skip_fd,
                c.poll_stale,
                c.poll_rebuild,
                c.poll_ctl,
                c.orphans,
            )?;
        }
        writeln!(
            out,
            "used={} maxsock={} poller={}",
            self.used(),
            self.maxsock(),
            self.kind().name()
        )
    }
}
