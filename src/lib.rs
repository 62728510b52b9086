//! keel: the concurrent core of a proxy.
//!
//! Arrows go one way: `abi` → `runtime` → the engines (`pool`, `task`, `fd`,
//! `stick_table`, `callout`) → `wheel`, `sync`, `sys`. `task` and `stick_table` allocate
//! from `pool`, `stick_table` expires through `task`; no other engine knows another. The engines are plain types without global state; the one
//! global is `runtime`'s.
#![cfg_attr(not(any(test, model)), no_std)]

pub mod callout;
pub mod fd;
pub mod pool;
pub mod runtime;
pub mod stick_table;
pub mod sync;
pub mod sys;
pub mod task;
pub mod wheel;

#[cfg(feature = "c-abi")]
pub mod abi;
