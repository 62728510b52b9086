//! The host's locks as functions of one pointer: what callouts and a host's own
//! tables call.

use core::ffi::{c_int, c_void};

/// Waits for a `pthread_mutex_t`.
///
/// # Safety
/// `m` is one, here and below; whoever frees a lock holds it.
pub unsafe extern "C" fn mutex_lock(m: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_mutex_lock(m.cast()) };
    assert!(rc == 0, "pthread_mutex_lock: error {rc}");
}

/// Frees a `pthread_mutex_t`.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn mutex_unlock(m: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_mutex_unlock(m.cast()) };
    assert!(rc == 0, "pthread_mutex_unlock: error {rc}");
}

/// Takes a `pthread_mutex_t` that is free.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn mutex_trylock(m: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    c_int::from(unsafe { libc::pthread_mutex_trylock(m.cast()) } == 0)
}

/// Waits for a `pthread_rwlock_t`, to write.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn rwlock_wrlock(rw: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_rwlock_wrlock(rw.cast()) };
    assert!(rc == 0, "pthread_rwlock_wrlock: error {rc}");
}

/// Waits for a `pthread_rwlock_t`, to read.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn rwlock_rdlock(rw: *mut c_void) {
    loop {
        // SAFETY: by this function's contract.
        match unsafe { libc::pthread_rwlock_rdlock(rw.cast()) } {
            0 => return,
            // So many readers that the count is full: they will leave.
            libc::EAGAIN => super::thread::yield_now(),
            rc => panic!("pthread_rwlock_rdlock: error {rc}"),
        }
    }
}

/// Frees a `pthread_rwlock_t`.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn rwlock_unlock(rw: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_rwlock_unlock(rw.cast()) };
    assert!(rc == 0, "pthread_rwlock_unlock: error {rc}");
}

/// Takes a `pthread_rwlock_t` that is free, to write.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn rwlock_trywrlock(rw: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    c_int::from(unsafe { libc::pthread_rwlock_trywrlock(rw.cast()) } == 0)
}

/// Takes a `pthread_rwlock_t` that nobody writes, to read.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn rwlock_tryrdlock(rw: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    c_int::from(unsafe { libc::pthread_rwlock_tryrdlock(rw.cast()) } == 0)
}

/// Waits for a `pthread_spinlock_t`.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn spin_lock(spin: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_spin_lock(spin.cast()) };
    assert!(rc == 0, "pthread_spin_lock: error {rc}");
}

/// Frees a `pthread_spinlock_t`.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn spin_unlock(spin: *mut c_void) {
    // SAFETY: by this function's contract.
    let rc = unsafe { libc::pthread_spin_unlock(spin.cast()) };
    assert!(rc == 0, "pthread_spin_unlock: error {rc}");
}

/// Takes a `pthread_spinlock_t` that is free.
///
/// # Safety
/// As [`mutex_lock`].
pub unsafe extern "C" fn spin_trylock(spin: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    c_int::from(unsafe { libc::pthread_spin_trylock(spin.cast()) } == 0)
}
