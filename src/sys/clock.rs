//! CLOCK_MONOTONIC.

fn read() -> libc::timespec {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is valid for writing; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts
}

fn ns(ts: libc::timespec) -> u64 {
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    ns(read())
}

/// Seconds of CLOCK_MONOTONIC in 32.32 fixed point, rounded down.
pub fn monotonic_fraction() -> u64 {
    fraction(monotonic_ns())
}

/// Nanoseconds as seconds in 32.32 fixed point, rounded down.
pub const fn fraction(ns: u64) -> u64 {
    let (s, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    (s << 32) + (rest << 32) / 1_000_000_000
}
