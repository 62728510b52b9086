//! Object pools: fixed-size objects that are recycled instead of freed.
//!
//! # Objects
//!
//! * [`Head`]: one pool. Its first five fields are what C reads and writes.
//! * [`Registry`]: all pools, the debugging words, and every operation.
//! * [`Local`]: what a registered thread brings along: its id, and how much it
//!   caches over all pools.
//! * [`shared`]: the list of free objects that every thread can reach;
//!   [`buckets`]: the several ones of a pool with many threads.
//!
//! # Where an object is (INV-2: in exactly one of these)
//!
//! ```text
//!   the system ──► a caller ──► cache of one thread ──► shared list
//!        ▲  ▲         ▲  │             │ │ ▲                │ │
//!        │  └─────────┼──┘(no cache)   │ │ └─ refill: a ────┘ │
//!        │            └──── a hit ─────┘ │    cluster         │
//!        └────────── crowded: evicted ───┘ ◄── flush, gc ─────┘
//! ```
//!
//! # Who may touch what when
//!
//! 1. `Head::cache[t]` belongs to the thread registered under id `t`: others
//!    read its length only (INV-6). Nobody being registered, whoever ends the
//!    library may empty it. Objects in it are not touched. What it may hold is
//!    charged to the thread in advance (`settle.rs`), so a hit counts nothing;
//!    a pool whose debugging words want to see every object has closed caches,
//!    which the fast path does not use.
//! 2. The link of the first free object is read by the thread that holds the
//!    head of the shared list, and by nobody else (INV-3); an object goes to
//!    the system only from the hands of the thread that detached it (INV-5).
//!    Both live in [`shared`]. Of a cluster in the list one object is written.
//! 3. The list of pools and `Head::links` are under the registry's lock. It is
//!    held neither across the system's allocator nor across output: who wants
//!    to work on a pool found in the list pins it first.
//! 4. A pool's size is frozen by its first allocation, under the same lock, so
//!    merging may enlarge a pool that was never used (INV-18) and no other.
//! 5. `minavail` and `limit` are the user's, read at each use.
//!
//! # Counters
//!
//! `allocated` counts objects held by the pool in any way, `used` those of
//! them that are not in the shared list: in callers' hands *or in caches*. A
//! cache hit moves neither. `used` is lowered before an object becomes visible
//! in the shared list and raised after it was taken from it; `allocated` moves
//! the other way round; so `used ≤ allocated` but for what moves meanwhile, and at rest
//! `allocated = live + cached + shared`, `used = live + cached` (INV-1). `used`
//! is spread over the buckets: a sum, not a snapshot, while threads are at work.
//!
//! # What lies behind an object
//!
//! ```text
//!   word:        tag           backup         integrity       caller
//!   0 … size │ the pool │ copy, while free │ its pattern │ last call site
//! ```
//!
//! Words that are off take no room (`shape.rs`). The links of a free object lie
//! over its start and may lie over the tag, over nothing else (INV-8). Seals
//! (`seal.rs`) leave the links out while an object is in the shared list.
//!
#![doc = include_str!("invariants.md")]

pub mod buckets;
pub mod shared;

#[cfg(not(model))]
mod cache;
#[cfg(not(model))]
mod debug;
#[cfg(not(model))]
mod debug_help;
#[cfg(not(model))]
mod declared;
#[cfg(not(model))]
mod dump;
#[cfg(not(model))]
mod gc;
#[cfg(not(model))]
mod head;
#[cfg(not(model))]
mod list;
#[cfg(not(model))]
mod local;
#[cfg(not(model))]
mod marks;
#[cfg(not(model))]
mod merge;
#[cfg(not(model))]
mod need;
#[cfg(not(model))]
mod paths;
#[cfg(not(model))]
mod registry;
#[cfg(not(model))]
mod report;
#[cfg(not(model))]
mod requests;
#[cfg(not(model))]
mod seal;
#[cfg(not(model))]
mod settle;
#[cfg(not(model))]
mod shape;
#[cfg(not(model))]
mod system;

#[cfg(not(model))]
pub use debug_help::Parsed;
#[cfg(not(model))]
pub use declared::Declaration;
#[cfg(not(model))]
pub use head::{Head, Stats};
#[cfg(not(model))]
pub use local::{DEFAULT_CACHE_BYTES, Local};
#[cfg(not(model))]
pub use registry::Registry;

/// Threads that can own caches: ids 0 to 63.
pub const MAX_THREADS: usize = 64;

/// The pool may be merged with another one of about the same size.
pub const MEM_F_SHARED: u32 = 0x1;
/// The size is neither rounded up nor changed by merging.
pub const MEM_F_EXACT: u32 = 0x2;
/// Objects live in pages of their own that are unmapped when freed.
pub const MEM_F_UAF: u32 = 0x4;

/// The object is not poisoned.
pub const POOL_F_NO_POISON: u32 = 0x1;
/// The object is zeroed.
pub const POOL_F_MUST_ZERO: u32 = 0x2;
/// The allocation escapes random failure injection.
pub const POOL_F_NO_FAIL: u32 = 0x4;
