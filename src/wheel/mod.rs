//! The timing wheel under wait queues, run queues, expiry and callouts.
//!
//! # Objects
//! - [`Node`]: 32 bytes inside the caller's object: links, date, tolerated
//!   lateness. Dates and windows are in the caller's granules.
//! - [`List`]: a ring of nodes known by its first one. Every place where a
//!   wheel keeps nodes is a `List`.
//! - [`Wheel`]: 10 levels of 128 slots, level n in steps of 8^n granules,
//!   each level with one ring per slot for *final* nodes (due at the slot's
//!   boundary) and one for *refiled* nodes (filed again there); a ring for
//!   dates beyond the last level; the list of what is due; the list of what
//!   waits to be filed again. `filing.rs` decides where a node goes.
//!
//! # Who may touch what when
//! A wheel and its nodes belong to one thread or to one lock. Between `add`
//! and `remove` or `pop_due` the node neither moves nor dies. Nothing here
//! calls back, so the caller may add and remove between any two calls, also
//! in the middle of an unfinished `advance` or of handling what is due.
//!
//! # Invariants
//! Of the callouts' invariants the wheel keeps CINV-24 to CINV-26.
//! 1. A node is on exactly one list: a slot's, the far ring, due, or waiting.
//!    All four are known to `remove` (P-1, K-5) and count in `next` (K-4).
//! 2. The base never goes back while the wheel holds a node (CINV-24).
//! 3. A slot's bit is set exactly while its ring holds a node; unlinking uses
//!    the slot number in the node, and believes it only where the node heads
//!    that ring: whoever was spliced away keeps a stale number (CINV-25, K-2).
//! 4. Every boundary of an occupied slot lies 1 to 128 steps of its level
//!    after the base, so a ring holds nodes of one boundary only.
//! 5. `advance` stops at every boundary of an occupied slot in turn, so what
//!    is due comes out in the order of dates, and the date at which a node
//!    becomes due is settled when it is added, however often it is filed
//!    again: `time` where the window is 0, at most `time + window` else.
//! 6. `next` is that date's minimum, neither earlier nor later (CINV-26).
//! 7. A node of window 0 is filed again at most 5 times, and once per visit
//!    to the far ring.

mod check;
mod filing;
mod list;
mod node;
#[cfg(test)]
mod tests;
#[expect(clippy::module_inception)]
mod wheel;

pub use list::List;
pub use node::Node;
pub use wheel::Wheel;
