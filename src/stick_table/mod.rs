//! Stick tables: keys with counters, which expire, and rate counters.
//!
//! # Objects
//! - [`Head`](head::Head): `struct stktable`, C's to fill in and to read;
//!   [`Table`](table::Table), the engine behind it; [`Tables`](tables::Tables),
//!   all of a process.
//! - [`Shard`](shard::Shard): the entries whose hashes begin alike: a lock, an
//!   [`Index`](index::Index) that is read without it, a wheel with their dates.
//! - [`Entry`](entry::Entry): date, reference count, lock, key; data and node
//!   lie below it.
//! - [`Expiry`](expiry::Expiry): by when the table's task has looked at every
//!   shard. [`Readers`](readers::Readers): who looks something up right now.
//!   `Limbo`: entries that left their table and may still be looked at.
//!   [`Updates`](updates::Updates): what has changed, in order.
//! - [`FreqCtr`](freq_ctr::FreqCtr), [`swrate`]: rates, on their own.
//! - Text: [`catalog`], [`units`], [`line`], [`filter`], [`show`], [`dump`].
//!
//! # Who may touch what when
//! - A hit takes no lock and writes the entry's reference count, and its own
//!   thread's note in [`readers`]. A miss is confirmed by the count of splits,
//!   or under the shard's lock.
//! - Chains, wheel, number of entries: under the shard's lock. Order: shard,
//!   then the expiry's lock or the updates' lock, neither of which is held
//!   when a shard's is taken. The updates' lock is taken with no shard's held.
//! - The date: whoever holds a reference, in one word with the count. A later
//!   date needs nothing else, since its place in the wheel is earlier; an
//!   earlier one is filed under the shard's lock by who wrote it.
//! - The key: before the entry is stored, by its owner. Data: under the entry's
//!   lock, with a reference.
//! - Memory is freed under no lock, and not before [`readers`] says that nobody
//!   can see it.
//!
#![doc = include_str!("invariants.md")]

#[cfg(not(model))]
mod batch;
pub mod catalog;
#[cfg(not(model))]
pub mod dump;
pub mod entry;
pub mod expiry;
#[cfg(not(model))]
pub mod filter;
pub mod freq_ctr;
#[cfg(not(model))]
pub mod head;
pub mod index;
pub mod key;
pub mod life;
#[cfg(not(model))]
mod limbo;
#[cfg(not(model))]
pub mod line;
pub mod readers;
pub mod shard;
#[cfg(not(model))]
pub mod show;
pub mod swrate;
#[cfg(not(model))]
pub mod table;
#[cfg(not(model))]
pub mod tables;
pub mod units;
pub mod updates;
