//! Secrets.

use super::clock;

/// Random bits from the kernel; where it refuses, the best there is: dates and
/// addresses.
pub fn secret() -> [u64; 2] {
    let mut secret = [0u64; 2];
    let size = size_of_val(&secret);
    // SAFETY: the buffer has that size.
    let got = unsafe { libc::getrandom(secret.as_mut_ptr().cast(), size, 0) };
    if got != size as isize {
        let here = &raw const secret as u64;
        secret = [clock::monotonic_ns() ^ here.rotate_left(32), here];
    }
    secret
}
