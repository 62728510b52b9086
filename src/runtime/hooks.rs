//! The host's log and panic hooks.

use super::config::{Config, Log, Panic};
use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use crate::sys::{file, thread};
use core::ffi::{CStr, c_int, c_void};
use core::fmt::{self, Write};
use core::ptr;

/// Syslog's levels.
pub const WARNING: c_int = 4;

/// The hooks as installed by the last initialisation.
pub struct Hooks {
    log: AtomicPtr<()>,
    log_arg: AtomicPtr<c_void>,
    panic: AtomicPtr<()>,
    panic_arg: AtomicPtr<c_void>,
    panicking: AtomicBool,
}

impl Hooks {
    pub(super) const fn new() -> Self {
        Self {
            log: AtomicPtr::new(ptr::null_mut()),
            log_arg: AtomicPtr::new(ptr::null_mut()),
            panic: AtomicPtr::new(ptr::null_mut()),
            panic_arg: AtomicPtr::new(ptr::null_mut()),
            panicking: AtomicBool::new(false),
        }
    }

    pub(super) fn install(&self, config: &Config) {
        // Arguments first: a hook that is seen has its argument.
        self.log_arg.store(config.log_arg, Ordering::Relaxed);
        self.panic_arg.store(config.panic_arg, Ordering::Relaxed);
        let log = config.log.map_or(ptr::null_mut(), |f| f as *mut ());
        let panic = config.panic.map_or(ptr::null_mut(), |f| f as *mut ());
        // PAIRS: log's and panicked's Acquire.
        // UNSEEN: the arguments are atomics, which are tried on x86 alone.
        self.log.store(log, Ordering::Release);
        // PAIRS, UNSEEN: as above.
        self.panic.store(panic, Ordering::Release);
    }

    /// Hands one line to the log hook, if there is one.
    pub fn log(&self, level: c_int, message: fmt::Arguments) {
        // PAIRS, UNSEEN: install's Release.
        let hook = self.log.load(Ordering::Acquire);
        if hook.is_null() {
            return;
        }
        let mut line = Line::new();
        // A line that is too long is cut.
        let _ = line.write_fmt(message);
        // SAFETY: install stored a Log there.
        unsafe {
            let hook = core::mem::transmute::<*mut (), Log>(hook);
            hook(
                level,
                line.as_cstr().as_ptr(),
                self.log_arg.load(Ordering::Relaxed),
            );
        }
    }

    /// Calls the panic hook, or complains on stderr, and aborts.
    pub fn panicked(&self, at: &CStr, line: u32, message: &CStr) -> ! {
        if self.panicking.swap(true, Ordering::Relaxed) {
            // The hook itself panicked, or two threads did: enough.
            thread::abort();
        }
        // PAIRS, UNSEEN: install's Release.
        let hook = self.panic.load(Ordering::Acquire);
        if hook.is_null() {
            let mut w = file::Writer::new(2);
            let _ = writeln!(
                w,
                "keel: {} ({}:{line})",
                message.to_str().unwrap_or("?"),
                at.to_str().unwrap_or("?")
            );
            w.finish();
        } else {
            // SAFETY: install stored a Panic there.
            unsafe {
                let hook = core::mem::transmute::<*mut (), Panic>(hook);
                hook(
                    at.as_ptr(),
                    line as c_int,
                    message.as_ptr(),
                    self.panic_arg.load(Ordering::Relaxed),
                );
            }
        }
        thread::abort()
    }
}

/// A C string on the stack, cut at its buffer's end.
pub struct Line {
    len: usize,
    text: [u8; 512],
}

impl Line {
    /// The empty line.
    pub const fn new() -> Self {
        Self {
            len: 0,
            text: [0; 512],
        }
    }

    /// The text so far.
    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"")
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // The last byte stays 0, and a 0 in the text would end it early.
        for &byte in s.as_bytes().iter().filter(|&&b| b != 0) {
            if self.len == self.text.len() - 1 {
                break;
            }
            self.text[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
