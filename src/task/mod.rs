//! Tasks, tasklets, wait queues and run queues.
//!
//! # Objects
//! * [`Task`]: timer, priority, allowed threads. [`Tasklet`]: "call me soon".
//! * [`Scheduler`](scheduler::Scheduler): one thread's queues: a private wheel
//!   and a run queue that only the owner touches, a shared wheel under a lock,
//!   an inbox that others push to.
//! * [`Tasks`]: all threads' schedulers; what the C functions work on.
//!
//! # Who may touch what, when
//! * The state word: everybody, through [`state::State`]'s transitions only.
//! * `rq` node: the holder of the ticket (QUEUED), then the thread in whose
//!   queue it is.
//! * `wq` node of a private task: its owner thread. Of a shared one: whoever
//!   holds the lock of the wheel that its home word names ([`home`]).
//! * `expire`: the running handler; the owner thread of a private task; for a
//!   shared task whoever holds RUNNING. Others leave their wish in `request`,
//!   where the earliest wins, and file the node; the next holder of RUNNING
//!   folds the wish into `expire`. So a date and its insertion are one act,
//!   whoever runs meanwhile.
//! * Class lists and `current`: the owner thread.
//!
//! Nothing here wakes a sleeping thread: what has to be woken is returned.
//!
#![doc = include_str!("invariants.md")]

#[cfg(not(model))]
mod clean;
pub mod dated;
#[cfg(not(model))]
mod dump;
pub mod flags;
pub mod home;
#[cfg(not(model))]
pub mod item;
#[cfg(not(model))]
mod life;
pub mod lookout;
pub mod occupied;
pub mod owned;
pub mod presence;
#[cfg(not(model))]
mod profile;
pub mod request;
#[cfg(not(model))]
pub mod run;
#[cfg(not(model))]
mod run_queue;
#[cfg(not(model))]
pub mod scheduler;
pub mod state;
pub mod tick;
#[cfg(not(model))]
mod timers;
#[cfg(not(model))]
mod turns;
#[cfg(not(model))]
mod wakeups;

#[cfg(not(model))]
pub use item::{Head, Process, Task, Tasklet};

#[cfg(not(model))]
pub use engine::{Caller, Config, Pools, Tasks};

#[cfg(not(model))]
mod engine {
    use super::lookout::Lookout;
    use super::presence::Presence;
    use super::profile::Profiles;
    use super::scheduler::{NEVER, Scheduler};
    use super::turns::Turns;
    use crate::pool;
    use crate::sync::ThreadSet;
    use crate::sys::memory;

    /// Who calls, and when.
    #[derive(Clone, Copy)]
    pub struct Caller<'a> {
        /// The calling thread's id, where it has one.
        pub tid: Option<usize>,
        /// Its object caches, where it has some.
        pub local: Option<&'a pool::Local>,
        /// The date, in milliseconds that never wrap.
        pub now: u64,
    }

    /// What the host may tune.
    #[derive(Clone, Copy, Debug)]
    pub struct Config {
        /// Items per scheduler call.
        pub depth: u32,
        /// Return to more urgent work after each item.
        pub low_latency: bool,
        /// Account latency and time per task and per handler.
        pub profiling: bool,
    }

    /// Where tasks and tasklets come from.
    #[derive(Clone, Copy)]
    pub struct Pools {
        /// Holds both pools.
        pub registry: &'static pool::Registry,
        /// The pool of tasks.
        pub tasks: &'static pool::Head,
        /// The pool of tasklets.
        pub tasklets: &'static pool::Head,
    }

    /// The engine: one scheduler a thread.
    pub struct Tasks {
        pub(super) config: Config,
        pub(super) pools: Pools,
        pub(super) presence: Presence,
        pub(super) profiles: Profiles,
        /// Which of the sleeping threads reckons with everybody's timers.
        pub lookout: Lookout,
        turns: Turns,
        scheds: *mut Scheduler,
        n: usize,
    }

    // SAFETY: the schedulers are Sync and live as long as the engine.
    unsafe impl Sync for Tasks {}
    // SAFETY: nothing in it belongs to a thread.
    unsafe impl Send for Tasks {}

    impl Tasks {
        /// Queues for `n` threads (1 to 64), at date `now`. `None`: no memory.
        pub fn new(n: usize, config: Config, now: u64, pools: Pools) -> Option<Self> {
            assert!((1..=64).contains(&n));
            let profiles = Profiles::new(n, config.profiling)?;
            let area = memory::alloc(n * size_of::<Scheduler>(), align_of::<Scheduler>());
            let scheds: *mut Scheduler = area.cast();
            if scheds.is_null() {
                return None;
            }
            for k in 0..n {
                // SAFETY: the area holds n schedulers.
                unsafe { scheds.add(k).write(Scheduler::new(config.depth, now)) };
            }
            Some(Self {
                config,
                pools,
                presence: Presence::new(),
                profiles,
                lookout: Lookout::new(),
                turns: Turns::new(),
                scheds,
                n,
            })
        }

        /// The queues of thread `tid`.
        #[inline(always)]
        pub fn sched(&self, tid: usize) -> &Scheduler {
            debug_assert!(tid < self.n);
            // SAFETY: the array lives as long as self; ids are below n.
            unsafe { &*self.scheds.add(tid) }
        }

        /// Takes the locks of all shared wheels, so that none is halfway through a
        /// change in the child of a fork. Whoever holds one wants no other lock.
        pub fn before_fork(&self) {
            for tid in 0..self.n {
                core::mem::forget(self.sched(tid).shared.lock());
            }
        }

        /// Gives them back; `alone`: in the child.
        ///
        /// # Safety
        /// After [`before_fork`](Self::before_fork), once, by the same thread.
        pub unsafe fn after_fork(&self, alone: bool) {
            for tid in 0..self.n {
                // SAFETY: by this function's contract.
                unsafe { self.sched(tid).shared.force_unlock(alone) };
            }
        }

        /// How many threads there can be.
        pub fn nbthread(&self) -> usize {
            self.n
        }

        /// The mask of all threads that there can be.
        pub fn all(&self) -> u64 {
            u64::MAX >> (64 - self.n)
        }

        /// Thread `tid` begins to serve its queues.
        pub fn enter(&self, tid: usize) {
            self.presence.enter(tid);
        }

        /// Thread `tid` leaves. What is bound to it stays; what others may
        /// run is handed to them.
        pub fn leave(&self, tid: usize) -> ThreadSet {
            self.presence.leave(tid);
            let wakes = self.hand_over(tid);
            // Somebody must reckon with the shared timers that are filed here.
            wakes.and(self.heir(tid))
        }

        /// The thread that is to run something with this mask, for a caller
        /// that may not: one that sleeps, or else the one with less to run of
        /// two whose turn it is. A guess, as what waits in inboxes is not
        /// counted; and final, as there is no stealing: nobody takes what
        /// another was given, unless that one leaves.
        pub(super) fn pick(&self, mask: u64) -> usize {
            let here = mask & self.presence.get();
            let mask = mask & self.all();
            assert!(mask != 0, "a task's thread mask {mask:#x} names no thread");
            if here.count_ones() < 2 {
                // No choice; or nobody is there, and whoever comes first is
                // likely to have the lowest number.
                let from = if here != 0 { here } else { mask };
                return from.trailing_zeros() as usize;
            }
            let asleep = here & self.lookout.asleep();
            let from = if asleep != 0 { asleep } else { here };
            let (one, other) = self.turns.next_two(from);
            let runnable = |k| self.sched(k).counters.runnable.get();
            if runnable(other) < runnable(one) {
                other
            } else {
                one
            }
        }

        /// Who is to be told of a new date in thread `k`'s shared wheel: its
        /// owner, or whoever is there instead.
        pub(super) fn heir(&self, k: usize) -> ThreadSet {
            let there = self.presence.get();
            let deaf = there & (1 << k) == 0;
            match there.trailing_zeros() {
                64 => ThreadSet::EMPTY,
                _ if !deaf => ThreadSet::one(k),
                _ if self.sched(k).next_shared() == NEVER => ThreadSet::EMPTY,
                first => ThreadSet::one(first as usize),
            }
        }
    }

    impl Drop for Tasks {
        fn drop(&mut self) {
            // SAFETY: no thread uses the engine any more; schedulers' items
            // belong to the pools.
            unsafe {
                for i in 0..self.n {
                    (*self.sched(i).owner()).run.release();
                }
                memory::free(self.scheds.cast());
            }
        }
    }
}
