//! keel/ticks.h: dates in milliseconds that wrap every 49.7 days.
//!
//! Dates are ordered by the sign of their difference, so that two of them can
//! be compared while they are less than 24.8 days apart. 0 is no date at all.
//! A date is made with tick_add() or tick_add_ifset(), which never answer 0:
//! the clock itself may read 0 and is no date.

use core::ffi::c_int;

/// No date: never.
pub const TICK_ETERNITY: c_int = 0;
