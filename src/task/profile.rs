//! Who takes the time: runs, time and latency by handler, per thread.
//!
//! What is known of a run lives in the thread's [`Profile`] and on its stack,
//! so that an item which dies in its handler, or is woken again meanwhile, is
//! accounted like any other (INV-50). Switched off there are no tables: a
//! wake-up looks at a NULL pointer, and so does a round of runs, once.

use super::engine::Tasks;
use super::item::{Head, Kind, Process, Task, Tasklet, task_of_rq};
use crate::sync::Counter;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sys::{clock, memory};
use crate::wheel::Node;
use core::cmp::Reverse;
use core::ptr;

/// Handlers that a thread can tell apart; the rest share one row.
const ROWS: usize = 256;
/// How far from its place a row may be, so that a full table costs no more.
const REACH: usize = 16;

// Out of line: the code around it is meant for when nobody asks.
#[cold]
#[inline(never)]
fn now() -> u64 {
    clock::monotonic_ns()
}

/// What one thread knows of one handler. Written by that thread alone.
struct Row {
    /// The handler's address; 0: a free row, or that of all the rest.
    function: AtomicUsize,
    calls: Counter,
    /// Nanoseconds in the handler.
    time: Counter,
    /// Nanoseconds from wake-ups to runs.
    latency: Counter,
    longest_latency: Counter,
}

impl Row {
    const fn new() -> Self {
        Self {
            function: AtomicUsize::new(0),
            calls: Counter::new(),
            time: Counter::new(),
            latency: Counter::new(),
            longest_latency: Counter::new(),
        }
    }

    fn add(&self, latency: u64, time: u64) {
        self.calls.add(1);
        self.time.add(time);
        self.latency.add(latency);
        if latency > self.longest_latency.get() {
            self.longest_latency.set(latency);
        }
    }
}

/// One thread's table. It outlives the threads that enter under its id.
#[repr(align(64))]
pub(super) struct Profile {
    /// When the item about to run was woken, ns.
    woken: Counter,
    rows: [Row; ROWS],
    other: Row,
}

impl Profile {
    const fn new() -> Self {
        Self {
            woken: Counter::new(),
            rows: [const { Row::new() }; ROWS],
            other: Row::new(),
        }
    }

    /// The handler's row. Only the owner thread calls this.
    fn row(&self, function: usize) -> &Row {
        let hash = (function as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        for i in 0..REACH {
            let row = &self.rows[(hash as usize + i) % ROWS];
            match row.function.load(Ordering::Relaxed) {
                0 => row.function.store(function, Ordering::Relaxed),
                f if f == function => {}
                _ => continue,
            }
            return row;
        }
        &self.other
    }
}

/// All threads' tables; none if profiling is off.
pub(super) struct Profiles {
    tables: *mut Profile,
    n: usize,
}

impl Profiles {
    /// Tables for `n` threads, or none. `None`: no memory.
    pub fn new(n: usize, on: bool) -> Option<Self> {
        if !on {
            let tables = ptr::null_mut();
            return Some(Self { tables, n: 0 });
        }
        let area = memory::alloc(n * size_of::<Profile>(), align_of::<Profile>());
        let tables: *mut Profile = area.cast();
        if tables.is_null() {
            return None;
        }
        for k in 0..n {
            // SAFETY: the area holds n tables.
            unsafe { tables.add(k).write(Profile::new()) };
        }
        Some(Self { tables, n })
    }

    /// Whether profiling is on.
    #[inline(always)]
    pub fn are_on(&self) -> bool {
        !self.tables.is_null()
    }

    /// Thread `tid`'s table. Profiling is on.
    fn of(&self, tid: usize) -> &Profile {
        assert!(tid < self.n);
        // SAFETY: there are n tables, which live as long as self.
        unsafe { &*self.tables.add(tid) }
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        // SAFETY: no thread uses the engine any more; tables need no drop.
        unsafe { memory::free(self.tables.cast()) };
    }
}

impl Tasks {
    /// Notes when a task was woken.
    ///
    /// # Safety
    /// The caller holds the task's ticket.
    #[inline(always)]
    pub(super) unsafe fn stamp_task(&self, t: *mut Task) {
        if self.profiles.are_on() {
            // SAFETY: by this function's contract.
            unsafe { (*t).call_date = now() };
        }
    }

    /// Notes when a tasklet was woken: in its node, which is never filed by a
    /// date, or beside the mail that others send its own thread.
    ///
    /// # Safety
    /// The caller holds the ticket by which the tasklet is linked, or the one
    /// by which its mail is sent.
    #[inline(always)]
    pub(super) unsafe fn stamp_tasklet(&self, tl: *mut Tasklet, mailed: bool) {
        if self.profiles.are_on() {
            // SAFETY: by this function's contract.
            unsafe {
                if mailed {
                    (*tl).mailed = now();
                } else {
                    (*tl).rq.set_time(now());
                }
            }
        }
    }

    /// Remembers when the item that thread `me` is about to run was woken:
    /// once it runs, somebody else may wake it again. Profiling is on.
    ///
    /// # Safety
    /// Thread `me` calls this with the node's ticket.
    pub(super) unsafe fn note_wake_date(&self, me: usize, node: *mut Node) {
        // SAFETY: the ticket's holder may read both.
        let woken = unsafe {
            match Kind::of(&*node) {
                kind if kind.is_tasklet() => (*node).time(),
                _ => (*task_of_rq(node)).call_date,
            }
        };
        self.profiles.of(me).woken.set(woken);
    }

    /// Calls an item's handler: what it returned.
    ///
    /// # Safety
    /// Thread `me` calls this, holds RUNNING, and has set `current` to the
    /// item.
    #[inline(always)]
    pub(super) unsafe fn call<const PROFILED: bool>(
        &self,
        me: usize,
        is_task: bool,
        item: *mut Head,
        process: Process,
        state: u32,
    ) -> *mut Task {
        // SAFETY: by this function's contract; the handler is the user's word.
        unsafe {
            if PROFILED {
                self.call_profiled(me, is_task, item, process, state)
            } else {
                process(item.cast(), (*item).context, state)
            }
        }
    }

    // KEEPS: INV-50
    unsafe fn call_profiled(
        &self,
        me: usize,
        is_task: bool,
        item: *mut Head,
        process: Process,
        state: u32,
    ) -> *mut Task {
        let task: *mut Task = item.cast();
        let begun = now();
        let profile = self.profiles.of(me);
        let latency = begun.saturating_sub(profile.woken.get());
        // SAFETY: by call's contract; after the handler a task's field is
        // touched only if it exists.
        unsafe {
            if is_task {
                (*task).lat_time += latency;
            }
            let back = process(task, (*item).context, state);
            let time = now() - begun;
            profile.row(process as usize).add(latency, time);
            if is_task && !back.is_null() && !(*self.sched(me).owner()).current.is_null() {
                (*task).cpu_time += time;
            }
            back
        }
    }
}

/// What all threads know of one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// The handler's address; 0: of those that found no row.
    pub function: usize,
    /// Runs.
    pub calls: u64,
    /// Nanoseconds in the handler.
    pub time: u64,
    /// Nanoseconds from wake-ups to runs.
    pub latency: u64,
    /// The longest of them.
    pub longest_latency: u64,
}

impl Sum {
    fn of(row: &Row) -> Self {
        Self {
            function: row.function.load(Ordering::Relaxed),
            calls: row.calls.get(),
            time: row.time.get(),
            latency: row.latency.get(),
            longest_latency: row.longest_latency.get(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.time += other.time;
        self.latency += other.latency;
        self.longest_latency = self.longest_latency.max(other.longest_latency);
    }
}

/// The sums of all threads' tables; those that took the most time first.
pub(super) struct Sums {
    area: *mut Sum,
    len: usize,
}

impl Sums {
    /// Adds up; racy where threads run. `None`: no memory.
    pub fn new(profiles: &Profiles) -> Option<Self> {
        let room = profiles.n * (ROWS + 1);
        let area: *mut Sum =
            memory::alloc(room.max(1) * size_of::<Sum>(), align_of::<Sum>()).cast();
        if area.is_null() {
            return None;
        }
        let mut sums = Self { area, len: 0 };
        for profile in (0..profiles.n).map(|k| profiles.of(k)) {
            for row in profile.rows.iter().chain([&profile.other]) {
                let sum = Sum::of(row);
                if sum.calls > 0 {
                    // SAFETY: there is room for every row.
                    unsafe { area.add(sums.len).write(sum) };
                    sums.len += 1;
                }
            }
        }
        sums.merge();
        sums.each()
            .sort_unstable_by_key(|sum| (Reverse(sum.time), sum.function));
        Some(sums)
    }

    /// Makes one of those that speak of the same handler.
    fn merge(&mut self) {
        let all = self.each();
        all.sort_unstable_by_key(|sum| sum.function);
        let mut kept = 0;
        for i in 0..all.len() {
            let sum = all[i];
            if kept > 0 && all[kept - 1].function == sum.function {
                all[kept - 1].add(&sum);
            } else {
                all[kept] = sum;
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// The sums.
    pub fn each(&mut self) -> &mut [Sum] {
        // SAFETY: the first `len` were written.
        unsafe { core::slice::from_raw_parts_mut(self.area, self.len) }
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        // SAFETY: ours, and sums have nothing to drop.
        unsafe { memory::free(self.area.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{self, Registry};
    use crate::sync::ThreadSet;
    use crate::task::run::Clock;
    use crate::task::{Caller, Config, Pools, flags};
    use core::array;
    use core::cell::Cell;
    use core::ffi::c_void;

    fn sums(profiles: &Profiles) -> Vec<Sum> {
        Sums::new(profiles).unwrap().each().to_vec()
    }

    #[test]
    fn off_there_are_no_tables() {
        let profiles = Profiles::new(4, false).unwrap();
        assert!(!profiles.are_on());
        assert_eq!(profiles.n, 0);
        assert_eq!(sums(&profiles), []);
    }

    #[test]
    fn threads_are_added_up_and_sorted_by_time() {
        let profiles = Profiles::new(3, true).unwrap();
        for (tid, function, latency, time) in [
            (0, 0x1000, 5, 10),
            (2, 0x2000, 1, 1000),
            (1, 0x1000, 70, 20),
            (0, 0x1000, 6, 30),
            (0, 0x3000, 0, 0),
        ] {
            let profile = profiles.of(tid);
            profile.row(function).add(latency, time);
        }
        let sum = |function, calls, time, latency, longest_latency| Sum {
            function,
            calls,
            time,
            latency,
            longest_latency,
        };
        assert_eq!(
            sums(&profiles),
            [
                sum(0x2000, 1, 1000, 1, 1),
                sum(0x1000, 3, 60, 81, 70),
                sum(0x3000, 1, 0, 0, 0),
            ]
        );
    }

    /// What does not fit is told as "other", and nothing is lost or counted
    /// for somebody else.
    #[test]
    fn a_full_table_loses_nothing() {
        let profiles = Profiles::new(1, true).unwrap();
        let profile = profiles.of(0);
        for round in 1..=3 {
            for i in 1..=2000 {
                profile.row(i * 64).add(round, i as u64);
            }
        }
        let all = sums(&profiles);
        assert!(
            all.len() > ROWS / 2 && all.len() <= ROWS + 1,
            "{}",
            all.len()
        );
        let other = all.iter().find(|sum| sum.function == 0).unwrap();
        assert!(other.calls >= 3 * (2000 - ROWS as u64));
        for sum in all.iter().filter(|sum| sum.function != 0) {
            let expected = Sum {
                function: sum.function,
                calls: 3,
                time: 3 * (sum.function as u64 / 64),
                latency: 6,
                longest_latency: 3,
            };
            assert_eq!(*sum, expected);
        }
        assert_eq!(all.iter().map(|sum| sum.calls).sum::<u64>(), 6000);
        assert_eq!(all.iter().map(|sum| sum.time).sum::<u64>(), 3 * 2_001_000);
    }

    /// Functions lie at multiples of 16, often close to each other.
    #[test]
    fn neighbours_find_places() {
        for step in [1, 16, 64, 4096] {
            let profile = Profile::new();
            for i in 0..ROWS / 2 {
                profile.row(0x5555_5555_4000 + i * step).add(0, 0);
            }
            assert_eq!(profile.other.calls.get(), 0, "steps of {step}");
        }
    }

    /// An engine whose only thread turns when told.
    struct Alone {
        tasks: Tasks,
        runs: Cell<u32>,
    }

    impl Clock for Alone {
        fn caller(&self) -> Caller<'_> {
            self.by(Some(0))
        }

        fn wake(&self, _: ThreadSet) {}
    }

    impl Alone {
        fn new() -> Self {
            let registry: &'static Registry = Box::leak(Box::new(Registry::new()));
            let pool = |name: &[u8], size: usize| -> &'static pool::Head {
                let head = registry.create(name, size as u32, 0, 0).unwrap();
                // SAFETY: the registry is never dropped.
                unsafe { head.as_ref() }
            };
            let pools = Pools {
                registry,
                tasks: pool(b"task", size_of::<Task>()),
                tasklets: pool(b"tasklet", size_of::<Tasklet>()),
            };
            let config = Config {
                depth: 200,
                low_latency: false,
                profiling: true,
            };
            let tasks = Tasks::new(1, config, 0, pools).unwrap();
            tasks.enter(0);
            let runs = Cell::new(0);
            Self { tasks, runs }
        }

        fn by(&self, tid: Option<usize>) -> Caller<'_> {
            Caller {
                tid,
                local: None,
                now: 0,
            }
        }

        fn task(&self, process: Process) -> *mut Task {
            let t = self.tasks.new_task(1, self.caller());
            // SAFETY: new, and of this thread.
            unsafe { self.set(&mut (*t).head, process) };
            t
        }

        fn tasklet(&self, process: Process) -> *mut Tasklet {
            let tl = self.tasks.new_tasklet(self.caller());
            // SAFETY: as above.
            unsafe { self.set(&mut (*tl).head, process) };
            tl
        }

        fn set(&self, head: &mut Head, process: Process) {
            head.process = Some(process);
            head.context = ptr::from_ref(self).cast_mut().cast();
        }

        /// What is known of the only handler once it has run `runs` times.
        fn after(&self, runs: u32) -> Sum {
            while self.runs.get() < runs {
                // SAFETY: this is the thread.
                unsafe { self.tasks.process_runnable(0, self) };
            }
            let [sum] = sums(&self.tasks.profiles)[..] else {
                panic!("one handler ran");
            };
            sum
        }
    }

    unsafe extern "C" fn counts(t: *mut Task, alone: *mut c_void, _: u32) -> *mut Task {
        // SAFETY: the context of all items here.
        let alone = unsafe { &*alone.cast::<Alone>() };
        alone.runs.set(alone.runs.get() + 1);
        t
    }

    const RUNS: u32 = 4;
    const BUSY: u64 = 1_000_000;

    /// Takes its time and wakes itself; in the last run it goes instead.
    unsafe extern "C" fn works(t: *mut Task, alone: *mut c_void, state: u32) -> *mut Task {
        let end = now() + BUSY;
        while now() < end {}
        // SAFETY: as above.
        let alone = unsafe { &*alone.cast::<Alone>() };
        alone.runs.set(alone.runs.get() + 1);
        let last = alone.runs.get() == RUNS;
        let (tasks, by) = (&alone.tasks, alone.caller());
        // SAFETY: nobody else knows the item.
        let _ = unsafe {
            match (state & flags::F_TASKLET != 0, last) {
                (false, false) => tasks.wakeup(t, flags::WOKEN_OTHER, by),
                (false, true) => tasks.destroy_task(t, by),
                (true, false) => tasks.wakeup_tasklet(t.cast(), None, by),
                (true, true) => tasks.free_tasklet(t.cast(), by),
            }
        };
        if last { ptr::null_mut() } else { t }
    }

    // SHOWS: INV-50
    #[test]
    fn task_53_what_wakes_itself_and_goes_is_accounted() {
        for tasklet in [false, true] {
            let alone = Alone::new();
            let begin = now();
            // SAFETY: new, and of this thread.
            let _ = unsafe {
                if tasklet {
                    let tl = alone.tasklet(works);
                    alone.tasks.wakeup_tasklet(tl, None, alone.caller())
                } else {
                    let t = alone.task(works);
                    alone.tasks.wakeup(t, flags::WOKEN_OTHER, alone.caller())
                }
            };
            let sum = alone.after(RUNS);
            assert_eq!(sum.calls, RUNS.into());
            assert!(sum.time >= u64::from(RUNS) * BUSY, "{sum:?}");
            assert!(sum.time <= now() - begin, "{sum:?}");
        }
    }

    // SHOWS: INV-50
    #[test]
    fn task_54_no_wait_began_before_its_wakeup() {
        let alone = Alone::new();
        let (tasks, me, other) = (&alone.tasks, alone.caller(), alone.by(None));
        let begin = now();
        let t: [_; 4] = array::from_fn(|_| alone.task(counts));
        let tl: [_; 3] = array::from_fn(|_| alone.tasklet(counts));
        // SAFETY: new, and of this thread.
        unsafe {
            let _ = tasks.wakeup(t[0], flags::WOKEN_MSG, me);
            let _ = tasks.wakeup(t[1], flags::WOKEN_MSG, other);
            let _ = tasks.wakeup_instant(t[2], flags::WOKEN_MSG, me);
            let _ = tasks.wakeup_instant(t[3], flags::WOKEN_MSG, other);
            let _ = tasks.wakeup_tasklet(tl[0], None, me);
            let _ = tasks.wakeup_tasklet(tl[1], Some(0), other);
            tasks.wakeup_after(ptr::null_mut(), tl[2], 0);
        }
        let sum = alone.after(7);
        assert!(sum.longest_latency <= now() - begin, "{sum:?}");
        // SAFETY: none is queued.
        unsafe {
            for t in t {
                let _ = tasks.destroy_task(t, me);
            }
            for tl in tl {
                let _ = tasks.free_tasklet(tl, me);
            }
        }
    }
}
