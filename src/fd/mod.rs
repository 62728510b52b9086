//! The descriptor table and its poller.
//!
//! # Objects
//! [`FdTable`] holds one [`Slot`] per descriptor number and one record per
//! thread id: its poller, what that holds (`polled`), and two queues
//! of descriptors to look at again. A number has many *lives*, from
//! `insert` to `close()`; the slot's generation tells them apart.
//!
//! # Who touches what when
//! * `running_mask`, `thread_mask`, the MUST_CLOSE token: `running.rs` alone,
//!   whose head proves the protocol (INV-60 to 65).
//! * The state word: anybody who holds the descriptor, by whole-word
//!   read-modify-writes (INV-69), never written where nothing changes (INV-87).
//! * `update_mask` and the queues: `update.rs` (INV-66). Wanting events queues
//!   an update; not wanting them any more does not: the first report nobody
//!   wants does it (INV-71, 72).
//! * The poller and `polled`: the thread itself, in `polling.rs`. `polled`
//!   is the kernel's truth together with the life it was made for, so it
//!   needs no reset by others when a number is closed (INV-68, 76). Only the
//!   closer of a CLONED descriptor reads others' (INV-77).
//!
//! # Callbacks
//! An iocb may call anything here, delete its own descriptor and insert the
//! same number again. Nothing is held across it but the running bit, which
//! pins the life; afterwards only `leave` touches the slot (INV-62, 84).
//!
//! # Threads without an id
//! They may insert, delete and want events (`tid`: None). They cannot use a
//! descriptor in the sense of `running_mask`, nor take one over.
//!
#![doc = include_str!("invariants.md")]

mod flags;
mod running;
mod slot;
mod update;

pub use flags::*;
pub use running::{Closing, Enter, Leave, Orphan, Takeover};
pub use slot::{Generation, Iocb, Slot};
pub use update::ForeignSet;

#[cfg(not(model))]
mod dispatch;
#[cfg(not(model))]
mod dump;
#[cfg(not(model))]
mod line;
#[cfg(not(model))]
mod poller;
#[cfg(not(model))]
mod polling;
#[cfg(not(model))]
mod table;
#[cfg(not(model))]
mod thread;

#[cfg(not(model))]
pub use poller::Kind;
#[cfg(not(model))]
pub use table::{FdTable, Updated};
#[cfg(not(model))]
pub use thread::Counters;
