//! CLOCK_MONOTONIC.

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is valid for writing; the clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts
}

fn ns(ts: libc::timespec) -> u64 {
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    ns(read(libc::CLOCK_MONOTONIC))
}

/// The kernel's last tick, some milliseconds ago, in nanoseconds of
/// CLOCK_MONOTONIC. Costs a fraction of the exact date.
#[cfg(not(loom))]
pub fn coarse_ns() -> u64 {
    ns(read(libc::CLOCK_MONOTONIC_COARSE))
}

/// Seconds of CLOCK_MONOTONIC in 32.32 fixed point, rounded down.
pub fn monotonic_fraction() -> u64 {
    let ts = read(libc::CLOCK_MONOTONIC);
    ((ts.tv_sec as u64) << 32) + ((ts.tv_nsec as u64) << 32) / 1_000_000_000
}
