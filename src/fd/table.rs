//! The table: lives begin and end here, reports are delivered here.

use super::flags::*;
use super::poller::Kind;
use super::running::{Closing, Enter, Leave, Orphan, Takeover};
use super::slot::{Generation, Iocb, Slot};
use super::thread::{Counters, Polled, ThreadPoll};
use super::update::ForeignSet;
use crate::sync::ThreadSet;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sys::{self, file, memory};
use core::ffi::c_void;
use core::ptr::NonNull;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Updated {
    /// Taken note of, and delivered if somebody wanted it.
    Done = 0,
    /// The descriptor was closed: not to be touched.
    Closed = 1,
    /// It is not this thread's any more; its poller will forget it.
    Migrated = 2,
}

/// Descriptors of one process, or of one test.
#[derive(Debug)]
pub struct FdTable {
    slots: NonNull<Slot>,
    pub(super) threads: NonNull<ThreadPoll>,
    words: NonNull<u8>,
    kind: Kind,
    maxsock: usize,
    nbthread: usize,
    used: AtomicUsize,
    /// One more than the highest number ever inserted: where walks end.
    end: AtomicUsize,
}

// SAFETY: the areas belong to the table; what is in them is Sync.
unsafe impl Send for FdTable {}
// SAFETY: as above.
unsafe impl Sync for FdTable {}

impl FdTable {
    /// A table for descriptors below `maxsock` and thread ids below
    /// `nbthread` (at most 64), whose threads wait with `kind`, or a negative
    /// errno.
    // KEEPS: INV-78, INV-83
    pub fn new(maxsock: usize, nbthread: usize, kind: Kind) -> Result<Self, i32> {
        if maxsock == 0 || maxsock > i32::MAX as usize || nbthread == 0 || nbthread > 64 {
            return Err(-sys::EINVAL);
        }
        let (words, summary) = ForeignSet::lengths(maxsock);
        let set = (words + summary) * 8;
        // Zeroed pages are free slots and empty sets, and cost nothing until
        // they are touched.
        let slots = NonNull::new(memory::map_pages(maxsock * size_of::<Slot>()));
        let sets = NonNull::new(memory::map_pages(set * nbthread));
        let threads = NonNull::new(memory::alloc(
            nbthread * size_of::<ThreadPoll>(),
            align_of::<ThreadPoll>(),
        ));
        let (Some(slots_area), Some(sets_area), Some(threads_area)) = (slots, sets, threads) else {
            // SAFETY: whatever was mapped or allocated is ours and unused.
            unsafe {
                if let Some(area) = slots {
                    memory::unmap_pages(area.as_ptr(), maxsock * size_of::<Slot>());
                }
                if let Some(area) = sets {
                    memory::unmap_pages(area.as_ptr(), set * nbthread);
                }
                if let Some(area) = threads {
                    memory::free(area.as_ptr());
                }
            }
            return Err(-sys::ENOMEM);
        };
        let threads = threads_area.cast::<ThreadPoll>();
        for tid in 0..nbthread {
            // SAFETY: the areas were made long enough above, are zeroed, and
            // live as long as the table.
            unsafe {
                let area = sets_area.as_ptr().add(tid * set);
                let foreign = ForeignSet::new(maxsock, area.cast(), area.add(words * 8).cast());
                threads
                    .add(tid)
                    .write(ThreadPoll::new(kind, maxsock, foreign));
            }
        }
        Ok(Self {
            slots: slots_area.cast(),
            threads,
            words: sets_area,
            kind,
            maxsock,
            nbthread,
            used: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
        })
    }

    /// Numbers that the table has room for.
    pub fn maxsock(&self) -> usize {
        self.maxsock
    }

    /// Thread ids that the table has room for.
    pub fn nbthread(&self) -> usize {
        self.nbthread
    }

    /// What its threads wait with.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn all_threads(&self) -> u64 {
        u64::MAX >> (64 - self.nbthread)
    }

    /// The first slot: C's `fdtab`.
    pub fn slots(&self) -> *mut Slot {
        self.slots.as_ptr()
    }

    /// Descriptors inserted and not closed yet.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    /// The counters of one thread id.
    pub fn counters(&self, tid: usize) -> Counters {
        self.thread(tid).counters()
    }

    /// The slot of `fd`. Panics where the table does not reach.
    // KEEPS: INV-79
    #[inline]
    pub fn slot(&self, fd: i32) -> &Slot {
        let Some(slot) = self.slot_if(fd) else {
            panic!("descriptor {fd} is out of range");
        };
        slot
    }

    #[inline]
    pub(super) fn slot_if(&self, fd: i32) -> Option<&Slot> {
        if fd < 0 || fd as usize >= self.maxsock {
            return None;
        }
        // SAFETY: within the area, where zeroes are a valid free slot.
        Some(unsafe { self.slots.add(fd as usize).as_ref() })
    }

    #[inline]
    pub(super) fn thread(&self, tid: usize) -> &ThreadPoll {
        assert!(tid < self.nbthread, "a thread id is out of range");
        // SAFETY: within the area, initialized by new().
        unsafe { self.threads.add(tid).as_ref() }
    }

    /// What `tid`'s set holds for `fd`, once it entered.
    pub(super) fn polled(&self, t: &ThreadPoll, fd: i32) -> Option<&AtomicU32> {
        // PAIRS: thread_enter's Release: the area is there.
        // UNSEEN: as there.
        let polled = t.polled.load(Ordering::Acquire);
        // SAFETY: maxsock words that live as long as the table; every caller
        // got `fd` from slot_if().
        (!polled.is_null()).then(|| unsafe { &*polled.add(fd as usize) })
    }

    /// Begins to serve `fd`, which the caller just got from the system, on
    /// the threads of `thread_mask`: ready both ways, nothing active.
    ///
    /// Panics where the number is out of range or in use, the owner is NULL
    /// or no thread may handle it.
    // KEEPS: INV-85
    pub fn insert(&self, fd: i32, owner: *mut c_void, iocb: Option<Iocb>, thread_mask: u64) {
        let slot = self.slot(fd);
        assert!(
            !owner.is_null(),
            "descriptor {fd} is inserted without an owner"
        );
        let mask = thread_mask & self.all_threads();
        assert!(mask != 0, "no thread may handle descriptor {fd}");
        if self.end() <= fd as usize {
            self.end.fetch_max(fd as usize + 1, Ordering::Relaxed);
        }
        assert!(
            slot.arm(owner, iocb, mask),
            "descriptor {fd} is in use already"
        );
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Stops serving `fd` and closes it, now or when its last user leaves;
    /// waits for nobody. `tid`: the calling thread's id, if it has one.
    ///
    /// Panics where the number is out of range or not inserted.
    // KEEPS: INV-61
    pub fn delete(&self, fd: i32, tid: Option<usize>) {
        let slot = self.slot(fd);
        assert!(
            !slot.owner().is_null(),
            "descriptor {fd} is deleted but not inserted"
        );
        match slot.orphan(tid) {
            Orphan::CloseNow(closing) => {
                if let Some(tid) = tid {
                    self.closes(self.thread(tid), fd);
                }
                self.close(slot, fd, closing);
            }
            Orphan::Deferred => {}
            Orphan::Twice => panic!("descriptor {fd} is deleted twice"),
        }
    }

    /// Closes `fd` if it is an orphan that nobody uses and nobody else closes
    /// it; else does nothing. For code that drives the masks itself.
    pub fn delete_orphan(&self, fd: i32) {
        let slot = self.slot(fd);
        if let Some(closing) = slot.claim() {
            self.close(slot, fd, closing);
        }
    }

    /// Everything is reset before close(), which makes the number reusable at
    /// once (INV-65).
    // KEEPS: INV-61, INV-65
    pub(super) fn close(&self, slot: &Slot, fd: i32, closing: Closing) {
        let (life, state) = (closing.life, closing.state);
        if state & FD_LINGER_RISK != 0 {
            file::set_linger_reset(fd);
        }
        // Its file lives on, elsewhere or under this very number.
        if state & (FD_CLONED | FD_DISOWN) != 0 {
            self.leave_every_set(fd, life);
        }
        let holders = self.holders(fd, life);
        slot.reset(closing);
        if state & FD_DISOWN == 0 {
            file::close(fd);
        }
        self.used.fetch_sub(1, Ordering::Relaxed);
        if holders != ThreadSet::EMPTY {
            self.recall(slot, fd, holders);
        }
    }

    /// Whether the set reports changes of this life only; it was registered
    /// otherwise where FD_ET_POSSIBLE came later.
    fn has_edges(&self, t: &ThreadPoll, fd: i32, life: Generation) -> bool {
        let polled = self.polled(t, fd);
        polled.is_some_and(|p| Polled(p.load(Ordering::Relaxed)).bits_for(life) & Polled::EDGE != 0)
    }

    /// The thread of `t` is about to close `fd`.
    fn closes(&self, t: &ThreadPoll, fd: i32) {
        t.poller.closes(fd);
        if self.kind.holds_files() {
            if let Some(record) = self.polled(t, fd) {
                record.store(Polled::NOTHING.0, Ordering::Relaxed);
            }
        }
    }

    /// Threads whose waits keep the file of this life open. Exact: none can
    /// add it any more, since `claim` came after all that were inside.
    fn holders(&self, fd: i32, life: Generation) -> ThreadSet {
        let mut holders = ThreadSet::EMPTY;
        if self.kind.holds_files() {
            for tid in 0..self.nbthread {
                let polled = self.polled(self.thread(tid), fd);
                if polled.is_some_and(|p| Polled(p.load(Ordering::Relaxed)).bits_for(life) != 0) {
                    holders = holders.and(ThreadSet::one(tid));
                }
            }
        }
        holders
    }

    /// Has them wait anew, without the number.
    #[cold]
    fn recall(&self, slot: &Slot, fd: i32, holders: ThreadSet) {
        // Any thread may get here, from places that wake nobody else: so the
        // signal goes to whoever holds it, asleep or not.
        self.update(slot, fd, holders.0, None).for_each(|tid| {
            let wake = self.thread(tid).internal.load(Ordering::Relaxed);
            if wake >= 0 {
                sys::epoll::eventfd_signal(wake);
            }
        });
    }

    /// What another thread deleted.
    pub(super) fn close_orphan(&self, slot: &Slot, fd: i32, closing: Closing, t: &ThreadPoll) {
        t.orphans.bump();
        self.closes(t, fd);
        self.close(slot, fd, closing);
    }

    /// The kernel keeps reporting a file that lives on elsewhere: take it out
    /// of the sets that have it (INV-77).
    ///
    /// WINDOW(every-set): a thread may be adding it just now, or leave and close its
    /// set. The first shows as stale reports, which rebuild that set; the
    /// second makes the call fail.
    // KEEPS: INV-77
    fn leave_every_set(&self, fd: i32, life: Generation) {
        for tid in 0..self.nbthread {
            let t = self.thread(tid);
            let polled = self
                .polled(t, fd)
                .map_or(0, |p| Polled(p.load(Ordering::Relaxed)).bits_for(life));
            if polled & (Polled::READ | Polled::WRITE) != 0 && polled & Polled::FILE == 0 {
                t.poller.drop_for_all(fd);
            }
        }
    }

    /// Makes the idle `fd` of `expected_owner` thread `tid`'s: whether it
    /// worked. Nothing is active afterwards. The caller's own lock keeps it
    /// from being deleted meanwhile.
    pub fn takeover(&self, fd: i32, expected_owner: *mut c_void, tid: usize) -> bool {
        let slot = self.slot(fd);
        match slot.takeover(tid, expected_owner) {
            Takeover::Won => true,
            Takeover::Lost => false,
            Takeover::CloseNow(closing) => {
                self.close(slot, fd, closing);
                false
            }
        }
    }

    /// Sets the running bit by hand: false where the descriptor is not this
    /// thread's.
    pub fn set_running(&self, fd: i32, tid: usize) -> bool {
        let slot = self.slot(fd);
        match slot.enter(tid) {
            Enter::In(_) | Enter::Nested(_) => true,
            Enter::NotMine => false,
            Enter::CloseNow(closing) => {
                self.close(slot, fd, closing);
                false
            }
        }
    }

    /// Clears the running bit by hand: the mask that remains. Where that is 0
    /// and thread_mask too, [`delete_orphan`](Self::delete_orphan) is due.
    pub fn clear_running(&self, fd: i32, tid: usize) -> u64 {
        self.slot(fd).clear_running(tid)
    }

    /// Wants reads: threads to wake so that they poll for it.
    pub fn want_recv(&self, fd: i32, tid: Option<usize>) -> ThreadSet {
        self.want(fd, FD_EV_ACTIVE_R, tid)
    }

    /// Wants writes: threads to wake so that they poll for it.
    pub fn want_send(&self, fd: i32, tid: Option<usize>) -> ThreadSet {
        self.want(fd, FD_EV_ACTIVE_W, tid)
    }

    #[inline]
    fn want(&self, fd: i32, active: u32, tid: Option<usize>) -> ThreadSet {
        let slot = self.slot(fd);
        if slot.raise(active) != 0 {
            return ThreadSet::EMPTY;
        }
        self.update(slot, fd, slot.thread_mask(), tid)
    }

    /// Makes every thread that may handle `fd` look at it again: threads to
    /// wake for that.
    pub fn update_polling(&self, fd: i32, tid: Option<usize>) -> ThreadSet {
        let slot = self.slot(fd);
        self.update(slot, fd, slot.thread_mask(), tid)
    }

    /// Queues an update for each thread of `targets` that has none pending.
    // KEEPS: INV-74
    pub(super) fn update(
        &self,
        slot: &Slot,
        fd: i32,
        targets: u64,
        tid: Option<usize>,
    ) -> ThreadSet {
        let new = slot.mark(targets & self.all_threads());
        let mut others = new;
        if let Some(tid) = tid {
            let me = 1u64 << tid;
            // A thread that never entered under its id has no ring yet.
            if new & me != 0 && !self.thread(tid).local.ring().is_null() {
                self.thread(tid).local.push(fd as usize);
                others &= !me;
            }
        }
        ThreadSet(others).for_each(|t| self.thread(t).foreign.add(fd as usize));
        match tid {
            Some(tid) => ThreadSet(others & !(1 << tid)),
            None => ThreadSet(others),
        }
    }

    /// Queues an update for `tid` itself.
    pub(super) fn update_self(&self, slot: &Slot, fd: i32, tid: usize) {
        let me = 1u64 << tid;
        if slot.update_mask() & me == 0 {
            // Others have nothing to do with it, hence nobody to wake.
            let _ = self.update(slot, fd, me, Some(tid));
        }
    }

    /// Stops wanting reads. The poller learns it at the next report.
    pub fn stop_recv(&self, fd: i32) {
        self.slot(fd).lower(FD_EV_ACTIVE_R);
    }

    /// Stops wanting writes.
    pub fn stop_send(&self, fd: i32) {
        self.slot(fd).lower(FD_EV_ACTIVE_W);
    }

    /// Stops wanting anything.
    pub fn stop_both(&self, fd: i32) {
        self.slot(fd).lower(FD_EV_ACTIVE_RW);
    }

    /// A read said EAGAIN.
    pub fn cant_recv(&self, fd: i32) {
        self.slot(fd).lower(FD_EV_READY_R);
    }

    /// A write said EAGAIN.
    pub fn cant_send(&self, fd: i32) {
        self.slot(fd).lower(FD_EV_READY_W);
    }

    /// A read is worth trying.
    pub fn may_recv(&self, fd: i32) {
        self.slot(fd).raise(FD_EV_READY_R);
    }

    /// A write is worth trying.
    pub fn may_send(&self, fd: i32) {
        self.slot(fd).raise(FD_EV_READY_W);
    }

    /// Both are worth trying.
    pub fn may_both(&self, fd: i32) {
        self.slot(fd).raise(FD_EV_READY_RW);
    }

    /// A read is worth trying where nobody knows better.
    pub fn cond_recv(&self, fd: i32) {
        self.slot(fd).raise_if_idle(FD_EV_READY_R, FD_EV_ACTIVE_R);
    }

    /// A write is worth trying where nobody knows better.
    pub fn cond_send(&self, fd: i32) {
        self.slot(fd).raise_if_idle(FD_EV_READY_W, FD_EV_ACTIVE_W);
    }

    /// Delivers a report about whatever life `fd` has now. `evts`: READY,
    /// SHUT and ERR bits.
    pub fn update_events(&self, fd: i32, evts: u32, tid: usize) -> Updated {
        self.report(self.slot(fd), fd, evts, None, tid)
    }

    /// Delivers a report; `life`: the one it was made for, if that is known.
    pub(super) fn report(
        &self,
        slot: &Slot,
        fd: i32,
        evts: u32,
        life: Option<Generation>,
        tid: usize,
    ) -> Updated {
        let t = self.thread(tid);
        if slot.owner().is_null() {
            t.poll_drop_fd.bump();
            return Updated::Closed;
        }
        let (now, nested) = match slot.enter(tid) {
            Enter::In(now) => (now, false),
            Enter::Nested(now) => (now, true),
            // KEEPS: INV-73
            Enter::NotMine => {
                // Make this thread's poller forget it (INV-73).
                t.poll_skip_fd.bump();
                self.update_self(slot, fd, tid);
                return Updated::Migrated;
            }
            Enter::CloseNow(closing) => {
                self.close_orphan(slot, fd, closing, t);
                return Updated::Closed;
            }
        };
        // From here on the life is pinned: is it the one that was meant?
        // KEEPS: INV-84
        let late = life.is_some_and(|life| life != now);
        let (mut unwanted, mut asked) = (0, false);
        if late {
            t.poll_stale.bump();
        } else {
            let state = slot.record(evts);
            // A change is reported once, wanted or not.
            if state & FD_ET_POSSIBLE == 0 || !self.has_edges(t, fd, now) {
                let sides = sides(state, evts);
                // The kernel is to stop sending what is of use to nobody
                // (INV-71).
                // KEEPS: INV-71
                unwanted = sides & !state;
                // Of a hang-up and an error, which come unasked, one side is
                // enough.
                asked = unwanted != sides;
            }
            // KEEPS: INV-72
            if state & FD_EV_ACTIVE_RW != 0 {
                if let Some(iocb) = slot.iocb() {
                    // SAFETY: the caller of insert() vouched for it; the
                    // running bit entitles this thread (INV-62).
                    unsafe { iocb(fd) };
                }
            }
        }
        if nested {
            return Updated::Done;
        }
        // Inside or not, the callback may have changed its mind.
        unwanted &= !slot.state();
        match slot.leave(tid) {
            Leave::CloseNow(closing) => {
                self.close_orphan(slot, fd, closing, t);
                Updated::Closed
            }
            Leave::Gone => Updated::Closed,
            Leave::Lost => {
                self.update_self(slot, fd, tid);
                Updated::Migrated
            }
            Leave::Stay if late => Updated::Closed,
            Leave::Stay => {
                if unwanted != 0 {
                    if !asked {
                        t.poll_spurious.bump();
                    }
                    self.update_self(slot, fd, tid);
                }
                Updated::Done
            }
        }
    }
}

/// The ACTIVE bits whose wish this report fulfils; both, where nothing is
/// wanted at all.
fn sides(state: u32, evts: u32) -> u32 {
    let mut sides = 0;
    if evts & (FD_EV_READY_R | FD_EV_SHUT_R | FD_EV_ERR_RW) != 0 {
        sides |= FD_EV_ACTIVE_R;
    }
    if evts & (FD_EV_READY_W | FD_EV_SHUT_W | FD_EV_ERR_RW) != 0 {
        sides |= FD_EV_ACTIVE_W;
    }
    if state & FD_EV_ACTIVE_RW == 0 {
        sides = FD_EV_ACTIVE_RW;
    }
    sides
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    /// FD-36 where dispatch's own look came too early: the life changes
    /// between that and the running bit.
    /// SHOWS: INV-84
    #[test]
    fn fd_36_a_report_that_turns_out_late_leaves_no_trace() {
        let t = FdTable::new(64, 1, Kind::Epoll).unwrap();
        assert_eq!(t.thread_enter(0), 0);
        let fd = sys::epoll::eventfd();
        t.insert(fd, core::ptr::dangling_mut::<u64>().cast(), None, 1);
        let slot = t.slot(fd);
        let before = slot.state();
        let late = t.report(slot, fd, FD_EV_READY_R, Some(7), 0);
        assert_eq!((late, slot.state()), (Updated::Closed, before));
        assert_eq!((slot.running_mask(), t.counters(0).poll_stale), (0, 1));
        let due = t.report(slot, fd, FD_EV_READY_R, Some(0), 0);
        assert_eq!(due, Updated::Done);
        assert_ne!(slot.state(), before);
        t.delete(fd, Some(0));
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        for tid in 0..self.nbthread {
            self.thread_leave(tid);
            let t = self.thread(tid);
            let area = self.maxsock * size_of::<AtomicU32>();
            for p in [t.polled.load(Ordering::Relaxed), t.local.ring()] {
                if !p.is_null() {
                    // SAFETY: thread_enter() mapped it that long.
                    unsafe { memory::unmap_pages(p.cast(), area) };
                }
            }
            // SAFETY: new() made it, and nobody uses it any more.
            unsafe { self.threads.add(tid).drop_in_place() };
        }
        let (words, summary) = ForeignSet::lengths(self.maxsock);
        // SAFETY: new() mapped and allocated them with these sizes, and the
        // table is gone for everybody.
        unsafe {
            memory::unmap_pages(self.words.as_ptr(), (words + summary) * 8 * self.nbthread);
            memory::unmap_pages(self.slots.as_ptr().cast(), self.maxsock * size_of::<Slot>());
            memory::free(self.threads.as_ptr().cast());
        }
    }
}
