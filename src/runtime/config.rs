//! What the host configures, checked and filled in.

use crate::sys::{self, file, thread};
use core::ffi::{c_char, c_int, c_void};

/// The log hook: syslog level, message, the host's argument.
pub type Log = unsafe extern "C" fn(c_int, *const c_char, *mut c_void);
/// The panic hook: file, line, message, the host's argument.
pub type Panic = unsafe extern "C" fn(*const c_char, c_int, *const c_char, *mut c_void);

/// The most threads that a process may register.
pub const MAX_THREADS: usize = 64;
const MAX_SOCK: u64 = 1 << 20;
const DEFAULT_DEPTH: u32 = 200;
const DEFAULT_CACHE: usize = 512 * 1024;
/// Ticks per second of callouts.
pub const DEFAULT_HZ: u32 = 1000;

/// A configuration without open questions.
#[derive(Clone, Copy)]
pub struct Config {
    /// Threads that there can be.
    pub nbthread: usize,
    /// Entries of the descriptor table.
    pub maxsock: usize,
    /// Items per scheduler call.
    pub depth: u32,
    /// Return to more urgent work after each item.
    pub low_latency: bool,
    /// Account latency and time per task and per handler.
    pub profiling: bool,
    /// Bytes that one thread's object caches may hold.
    pub cache_bytes: usize,
    /// Ticks per second of callout_reset().
    pub callout_hz: u32,
    /// How long an idle thread may spin before it sleeps, ns.
    pub spin_ns: u64,
    /// The log hook and its argument.
    pub log: Option<Log>,
    /// Handed to the log hook.
    pub log_arg: *mut c_void,
    /// The panic hook and its argument.
    pub panic: Option<Panic>,
    /// Handed to the panic hook.
    pub panic_arg: *mut c_void,
}

/// What the host wrote; zero means the default.
#[derive(Clone, Copy)]
pub struct Request {
    /// 0: as many as the process may run on.
    pub nbthread: u32,
    /// 0: the soft RLIMIT_NOFILE.
    pub maxsock: u32,
    /// 0: 200.
    pub runqueue_depth: u32,
    /// Non-zero: on.
    pub low_latency: u32,
    /// Non-zero: on.
    pub profiling: u32,
    /// 0: 512 KiB.
    pub pool_cache_bytes: usize,
    /// 0: 1000.
    pub callout_hz: u32,
    /// 0: not at all.
    pub spin_us: u32,
    /// The log hook.
    pub log: Option<Log>,
    /// Handed to it.
    pub log_arg: *mut c_void,
    /// The panic hook.
    pub panic: Option<Panic>,
    /// Handed to it.
    pub panic_arg: *mut c_void,
}

impl Request {
    /// All defaults.
    pub const DEFAULT: Self = Self {
        nbthread: 0,
        maxsock: 0,
        runqueue_depth: 0,
        low_latency: 0,
        profiling: 0,
        pool_cache_bytes: 0,
        callout_hz: 0,
        spin_us: 0,
        log: None,
        log_arg: core::ptr::null_mut(),
        panic: None,
        panic_arg: core::ptr::null_mut(),
    };

    /// Fills the defaults in. A value out of range: `-EINVAL`.
    pub fn resolve(&self) -> Result<Config, i32> {
        fn or<T: PartialEq + Default>(value: T, default: T) -> T {
            if value == T::default() {
                default
            } else {
                value
            }
        }
        let nbthread = match self.nbthread as usize {
            0 => thread::usable_cpus().min(MAX_THREADS),
            n => n,
        };
        let maxsock = match u64::from(self.maxsock) {
            0 => file::soft_fd_limit().min(MAX_SOCK),
            n => n,
        };
        let depth = or(self.runqueue_depth, DEFAULT_DEPTH);
        let hz = or(self.callout_hz, DEFAULT_HZ);
        if nbthread > MAX_THREADS || maxsock > MAX_SOCK || depth > 1 << 20 || hz > 1_000_000 {
            return Err(-sys::EINVAL);
        }
        Ok(Config {
            nbthread,
            maxsock: maxsock as usize,
            depth,
            low_latency: self.low_latency != 0,
            profiling: self.profiling != 0,
            cache_bytes: or(self.pool_cache_bytes, DEFAULT_CACHE),
            callout_hz: hz,
            spin_ns: u64::from(self.spin_us) * 1000,
            log: self.log,
            log_arg: self.log_arg,
            panic: self.panic,
            panic_arg: self.panic_arg,
        })
    }
}
