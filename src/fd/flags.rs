//! The bits of a slot's state word, with the values that C code knows.

/// Reads are wanted.
pub const FD_EV_ACTIVE_R: u32 = 1 << 0;
/// No EAGAIN on reads since the last report.
pub const FD_EV_READY_R: u32 = 1 << 1;
/// Report only: the peer closed its sending side.
pub const FD_EV_SHUT_R: u32 = 1 << 2;
/// Writes are wanted.
pub const FD_EV_ACTIVE_W: u32 = 1 << 4;
/// No EAGAIN on writes since the last report.
pub const FD_EV_READY_W: u32 = 1 << 5;
/// Report only: nothing can be sent any more.
pub const FD_EV_SHUT_W: u32 = 1 << 6;
/// Report only: an error, both ways.
pub const FD_EV_ERR_RW: u32 = 1 << 7;
/// Both directions' ACTIVE bits.
pub const FD_EV_ACTIVE_RW: u32 = FD_EV_ACTIVE_R | FD_EV_ACTIVE_W;
/// Both directions' READY bits.
pub const FD_EV_READY_RW: u32 = FD_EV_READY_R | FD_EV_READY_W;
/// Both directions' SHUT bits.
pub const FD_EV_SHUT_RW: u32 = FD_EV_SHUT_R | FD_EV_SHUT_W;

/// The last report said readable.
pub const FD_POLL_IN: u32 = 1 << 8;
/// The last report said urgent data.
pub const FD_POLL_PRI: u32 = 1 << 9;
/// The last report said writable.
pub const FD_POLL_OUT: u32 = 1 << 10;
/// An error was reported; stays until the close.
pub const FD_POLL_ERR: u32 = 1 << 11;
/// A hang-up was reported; stays until the close.
pub const FD_POLL_HUP: u32 = 1 << 12;
/// What every report replaces.
pub const FD_POLL_UPDT_MASK: u32 = FD_POLL_IN | FD_POLL_PRI | FD_POLL_OUT;

/// Send a reset at close.
pub const FD_LINGER_RISK: u32 = 1 << 16;
/// A process or a duplicate shares the file: leave the kernel's sets
/// explicitly at close.
pub const FD_CLONED: u32 = 1 << 17;
/// Non-blocking mode was set up.
pub const FD_INITIALIZED: u32 = 1 << 18;
/// May be polled edge-triggered.
pub const FD_ET_POSSIBLE: u32 = 1 << 19;
/// Passed to another process; informational.
pub const FD_EXPORTED: u32 = 1 << 20;
/// An exclusive write is in progress.
pub const FD_EXCL_SYSCALL: u32 = 1 << 21;
/// Do everything at delete except `close()`.
pub const FD_DISOWN: u32 = 1 << 22;
/// The token: who clears it closes. See `running.rs`.
pub const FD_MUST_CLOSE: u32 = 1 << 23;
/// Private: a takeover is half done. See `running.rs`.
pub(super) const FD_TAKING: u32 = 1 << 24;
