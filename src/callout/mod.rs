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
//!   associated lock, then cpu.
//! - From its dequeueing on softclock uses copies; the callout may be freed by
//!   its handler, by an asynchronous drain, or by whoever drained it.
//!
#![doc = include_str!("invariants.md")]

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
