//! Stick tables.
mod batch;
pub mod catalog;
pub mod entry;
pub mod expiry;
pub mod freq_ctr;
#[cfg(not(loom))]
pub mod head;
pub mod index;
pub mod key;
#[cfg(not(loom))]
mod limbo;
pub mod readers;
pub mod reference;
pub mod shard;
pub mod swrate;
#[cfg(not(loom))]
pub mod table;
#[cfg(not(loom))]
pub mod tables;
pub mod units;
#[cfg(not(loom))]
pub mod updates;
