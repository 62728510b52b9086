//! Stick tables.
mod batch;
pub mod catalog;
#[cfg(not(loom))]
pub mod dump;
pub mod entry;
pub mod expiry;
#[cfg(not(loom))]
pub mod filter;
pub mod freq_ctr;
#[cfg(not(loom))]
pub mod head;
pub mod index;
pub mod key;
#[cfg(not(loom))]
mod limbo;
#[cfg(not(loom))]
pub mod line;
pub mod readers;
pub mod reference;
pub mod shard;
#[cfg(not(loom))]
pub mod show;
pub mod swrate;
#[cfg(not(loom))]
pub mod table;
#[cfg(not(loom))]
pub mod tables;
pub mod units;
#[cfg(not(loom))]
pub mod updates;
