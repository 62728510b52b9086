//! One fence on every processor that runs a thread of this process.

const QUERY: libc::c_int = 0;
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

fn membarrier(command: libc::c_int) -> libc::c_long {
    // SAFETY: the call takes no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}

/// Asks the kernel for [`everywhere`]; false where it has none.
pub fn register() -> bool {
    membarrier(QUERY) & libc::c_long::from(PRIVATE_EXPEDITED) != 0
        && membarrier(REGISTER_PRIVATE_EXPEDITED) == 0
}

/// A full fence on every thread of the process; false where that failed.
pub fn everywhere() -> bool {
    membarrier(PRIVATE_EXPEDITED) == 0
}
