//! The lock that a callout's handler runs under, as the caller describes it.

use core::ffi::{c_int, c_void};

/// What can be done with the caller's lock.
// KEEPS: DEV-10
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LockOps {
    /// Waits for the lock and takes it.
    pub lock: Option<unsafe extern "C" fn(*mut c_void)>,
    /// Frees the lock.
    pub unlock: Option<unsafe extern "C" fn(*mut c_void)>,
    /// Takes the lock if it is free: non-zero if so.
    pub trylock: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    /// Non-zero if the calling thread holds the lock; may be absent.
    pub owned: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
}

/// A callout's associated lock; without a table there is none.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    ops: *const LockOps,
    lock: *mut c_void,
}

impl Lock {
    /// No lock.
    pub const NONE: Self = Self {
        ops: core::ptr::null(),
        lock: core::ptr::null_mut(),
    };

    /// `lock` with its operations.
    ///
    /// # Safety
    /// Both outlive the callout, and fit each other; the table has `lock` and
    /// `unlock`.
    pub const unsafe fn new(ops: *const LockOps, lock: *mut c_void) -> Self {
        Self { ops, lock }
    }

    /// Whether there is a lock.
    #[inline]
    pub fn is_some(self) -> bool {
        !self.ops.is_null()
    }

    /// Whether it can be told who holds the lock.
    pub(super) fn can_tell(self) -> bool {
        // SAFETY: the table outlives the callout, by new's contract.
        unsafe { self.ops.as_ref() }.is_some_and(|ops| ops.owned.is_some())
    }

    /// Waits for the lock, if there is one, and takes it.
    ///
    /// # Safety
    /// The lock still exists, here and below: its owner has not been told
    /// that the callout is done with it.
    pub(super) unsafe fn acquire(self) {
        // SAFETY: by this function's contract and new's.
        unsafe {
            if let Some(f) = self.ops.as_ref().and_then(|ops| ops.lock) {
                f(self.lock);
            }
        }
    }

    /// Frees the lock, if there is one.
    ///
    /// # Safety
    /// As [`acquire`](Self::acquire); this thread holds it.
    pub(super) unsafe fn release(self) {
        // SAFETY: by this function's contract and new's.
        unsafe {
            if let Some(f) = self.ops.as_ref().and_then(|ops| ops.unlock) {
                f(self.lock);
            }
        }
    }

    /// Takes the lock if it is free: whether it did.
    ///
    /// # Safety
    /// As [`acquire`](Self::acquire).
    pub(super) unsafe fn try_acquire(self) -> bool {
        // SAFETY: by this function's contract and new's.
        unsafe {
            match self.ops.as_ref().and_then(|ops| ops.trylock) {
                Some(f) => f(self.lock) != 0,
                None => true,
            }
        }
    }

    /// Whether the calling thread holds the lock, if that can be told.
    ///
    /// # Safety
    /// As [`acquire`](Self::acquire).
    pub(super) unsafe fn owned(self) -> Option<bool> {
        // SAFETY: by this function's contract and new's.
        unsafe {
            let f = self.ops.as_ref()?.owned?;
            Some(f(self.lock) != 0)
        }
    }
}
