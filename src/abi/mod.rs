//! The C face: the only `extern "C"`. One file per header; a function here
//! checks its arguments and calls the engine.
//!
//! build.rs makes `keel/<file>.h` of each file: its `//!` text, its public
//! constants, types and functions in this order, then `parts/<file>.h`.
//! A function's comment is what a C programmer reads: it ends with the
//! thread rule in one of the fixed phrases of CONTRIBUTING.md.

// The names are HAProxy's, and what a caller owes stands in each comment in
// C's terms.
#![allow(non_camel_case_types, non_upper_case_globals)]
#![allow(clippy::missing_safety_doc)]

pub mod callout;
pub mod fd;
pub mod freq_ctr;
#[cfg(not(test))]
mod panic;
#[cfg(feature = "pause")]
mod pause;
pub mod pool;
pub mod runtime;
pub mod stick_table;
pub mod task;
pub mod ticks;
