//! CLOCK_MONOTONIC for those who arm timers all day: the processor's time-stamp
//! counter, tied to the real clock every few milliseconds.
//!
//! Reading the clock costs about 20 ns and waits for all earlier loads; the
//! counter alone costs less than half and waits for nothing. What is told is
//! never before the real clock, and at most about 5 microseconds after it, so a
//! date that is counted from it is never early.
//!
//! It is used where the kernel itself trusts the counter; else every reading is
//! the real clock's.

use super::clock;
use core::cell::Cell;

/// Units of a second, as in sbintime: 32.32 fixed point.
const SECOND: u64 = 1 << 32;
/// How long a tie is used.
const TIE: u64 = SECOND / 256;
/// Ties farther apart than this say nothing about the rate.
const FAR: u64 = SECOND;
/// Two readings of the counter with the clock's between them: more cycles than
/// this, and something else has happened there too.
const APART: u64 = 600;
/// The counter may be read before what precedes it in the program: 1 us.
const AHEAD: u64 = SECOND / 1_000_000;

/// One thread's; it alone may use it.
#[derive(Debug)]
pub struct FastClock {
    usable: Cell<bool>,
    /// The tie: a reading of the counter, and the clock not before it.
    cycles: Cell<u64>,
    date: Cell<u64>,
    /// Units per cycle, 32.32 fixed point, rounded up.
    rate: Cell<u64>,
    /// Cycles for which the tie holds; 0: not at all.
    limit: Cell<u64>,
}

#[inline(always)]
fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// Whether the kernel keeps time by the counter.
fn is_trusted() -> bool {
    cfg!(target_arch = "x86_64")
        && super::file::starts_with(
            c"/sys/devices/system/clocksource/clocksource0/current_clocksource",
            b"tsc\n",
        )
}

impl FastClock {
    /// One that is not [started](Self::start).
    pub const fn new() -> Self {
        Self {
            usable: Cell::new(false),
            cycles: Cell::new(0),
            date: Cell::new(0),
            rate: Cell::new(0),
            limit: Cell::new(0),
        }
    }

    /// The thread begins to use it.
    pub fn start(&self) {
        self.usable.set(is_trusted());
        self.limit.set(0);
        self.cycles.set(0);
    }

    /// Seconds of CLOCK_MONOTONIC, 32.32 fixed point.
    #[inline]
    pub fn now(&self) -> u64 {
        let gone = counter().wrapping_sub(self.cycles.get());
        if gone < self.limit.get() {
            // Below 2^64: a tie is short, and no counter that slow.
            return self.date.get() + ((gone * self.rate.get()) >> 32) + AHEAD;
        }
        self.tie()
    }

    // Reads the real clock, and ties the counter to it.
    #[cold]
    fn tie(&self) -> u64 {
        if !self.usable.get() {
            return clock::monotonic_fraction();
        }
        let before = counter();
        let date = clock::monotonic_fraction();
        let apart = counter().wrapping_sub(before);
        if apart > APART {
            self.limit.set(0);
            return date;
        }
        let cycles = before.wrapping_sub(self.cycles.get());
        let time = date - self.date.get();
        let tied = self.cycles.get() != 0;
        if tied && time < TIE / 2 && self.limit.get() == 0 {
            // The first tie is too young to tell the rate.
            return date;
        }
        if tied && (TIE / 2..=FAR).contains(&time) && cycles > 0 {
            // A thousandth faster than it looks: two readings that are APART
            // cycles off, over half a tie, make less than that.
            let rate = ((time << 32) / cycles / 1000 * 1001).max(1);
            self.rate.set(rate);
            self.limit.set(((TIE << 32) / rate).min(1 << 28));
        } else {
            // Too old, or the counter has jumped.
            self.limit.set(0);
        }
        self.cycles.set(before);
        self.date.set(date);
        date
    }
}

impl Default for FastClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_before_the_clock() {
        let fast = FastClock::new();
        fast.start();
        let begin = clock::monotonic_fraction();
        let mut tied = 0;
        loop {
            let real = clock::monotonic_fraction();
            let told = fast.now();
            assert!(told >= real, "{} units early", real - told);
            tied += u32::from(fast.limit.get() > 0);
            if real - begin > SECOND / 10 {
                break;
            }
        }
        // On a machine whose kernel trusts the counter it must have been used.
        assert!(!fast.usable.get() || tied > 0);
    }
}
