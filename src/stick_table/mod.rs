//! Stick tables and rate counters.

pub mod freq_ctr;
pub mod swrate;
