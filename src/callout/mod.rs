//! Callouts: functions that are called at a date, on a chosen cpu.
//!
//! # Objects
//! - [`Callout`]: 128 bytes in the caller's object. Its node, its call and its
//!   queue word belong to the lock of the cpu that its home word names.
//! - [`Cpu`]: one per thread id: a lock, a wheel, and one slot that says what
//!   is being executed. It outlives whoever registers under its number.
//! - [`Callouts`]: all cpus, and which of them are open.
//!
//! The caller of everything here is the runtime, which knows threads: the
//! engine gets the calling thread's identity, and returns whom to wake.
//!
//! # Who may touch what when
//! - A callout's state is two things, not one: where it waits for its date
//!   (nowhere, in a wheel, in a slot as a deferral), and whether a slot names
//!   it. It can be pending and running at once.
//! - `migrate.rs` owns the home word, `slot.rs` the phase word. The generation
//!   is written by the completion in `softclock.rs` alone.
//! - No thread holds the locks of two cpus, and no code of the caller's runs
//!   under one, except that a TRYLOCK callout's lock is tried there. Order:
//!   associated lock, then cpu (CINV-6).
//! - From its dequeueing on softclock uses copies; the callout may be freed by
//!   its handler, by an asynchronous drain, or by whoever drained it.
//!
//! # Invariants
//! The numbers CINV-n are the specification's.
//! - INVARIANT 1: a slot names only callouts of its own cpu (CINV-1): one that
//!   is to move while it runs is a deferral until the handler has returned.
//! - INVARIANT 2: a callout is on one list of one cpu, or in one slot as a
//!   deferral, or nowhere (CINV-2, -3); its queue word says which whenever the
//!   lock is free.
//! - INVARIANT 3: while the home word says BLOCK the callout is on no list,
//!   and no slot names it (CINV-4).
//! - INVARIANT 4: a handler is called only by who changed the phase from
//!   waiting to running; a stop that answers 1 for it changed it to cancelled
//!   (CINV-9, -11).
//! - INVARIANT 5: while somebody drains, nothing is armed that the slot names,
//!   and no field is touched (CINV-17, -22).
//! - INVARIANT 6: a pass executes only what was due when it began: nothing is
//!   filed as due (CINV-21).
//! - INVARIANT 7: a cpu's published date is not after the first one in its
//!   wheel (CINV-26); whoever lowers it wakes the cpu by the runtime's
//!   protocol (CINV-27).
//! - INVARIANT 8: a closed cpu holds no callouts, but for cpu 0 while none is
//!   open (CINV-29).

mod arm;
mod arming;
mod callouts;
mod cancel;
mod cpu;
#[cfg(not(model))]
mod dump;
#[cfg(not(model))]
mod fork;
mod item;
mod live;
mod lock;
mod migrate;
pub mod pause;
mod slot;
mod softclock;
pub mod time;

pub use arm::Reset;
pub use arming::Arming;
pub use callouts::{Callouts, Report};
pub use cancel::{Drain, Waiting};
pub use cpu::{Counts, Cpu};
#[cfg(not(model))]
pub use dump::dump;
pub use item::{CALLOUT_RETURNUNLOCKED, CALLOUT_TRYLOCK, Call, Callout, Func};
pub use lock::{Lock, LockOps};
pub use slot::Last;
pub use softclock::Env;
