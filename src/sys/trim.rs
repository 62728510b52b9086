//! Giving the free pages of malloc()'s heap back to the kernel.
//!
//! Whose heap that is does not show in the symbols that are there: programs
//! preload other allocators, and link them without using them. It shows in
//! whose figures malloc() changes, which is looked at once.

use super::memory;
use super::symbol;
use crate::sync::atomic::{AtomicU8, Ordering};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;

const UNKNOWN: u8 = 0;
const GLIBC: u8 = 1;
const JEMALLOC: u8 = 2;
const OTHER: u8 = 3;

static HEAP: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Gives back what the heap's allocator has a way to give back. That of an
/// allocator which is not known keeps it: nobody else's function is for it.
pub fn trim() {
    let mut heap = HEAP.load(Ordering::Relaxed);
    if heap == UNKNOWN {
        heap = detect();
        HEAP.store(heap, Ordering::Relaxed);
    }
    match heap {
        #[cfg(target_env = "gnu")]
        GLIBC => {
            // SAFETY: may be called at any time by any thread.
            unsafe { libc::malloc_trim(0) };
        }
        JEMALLOC => purge(),
        _ => {}
    }
}

fn detect() -> u8 {
    #[cfg(target_env = "gnu")]
    if is_glibc() {
        return GLIBC;
    }
    let file = |name| find(name).and_then(|at| symbol::file_start(at.addr()));
    match (file(c"malloc"), file(c"mallctl")) {
        (Some(malloc), Some(mallctl)) if malloc == mallctl => JEMALLOC,
        _ => OTHER,
    }
}

/// Whether glibc's figures change when malloc() gives something: its own
/// malloc() did it, then, be it called so by whoever stands before it. To look
/// at what lies before the object would be quicker, and a crime for checkers.
#[cfg(target_env = "gnu")]
fn is_glibc() -> bool {
    let used = || {
        // SAFETY: may be called at any time by any thread.
        let info = unsafe { libc::mallinfo() };
        info.uordblks.wrapping_add(info.hblkhd)
    };
    let before = used();
    // Larger than anything that is kept ready without being counted. The
    // compiler knows malloc(), and would leave out what nobody uses.
    let object = core::hint::black_box(memory::alloc(100_000, 1));
    let found = used() != before;
    // SAFETY: nobody knows the object.
    unsafe { memory::free(object) };
    found
}

fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a 0.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!at.is_null()).then_some(at)
}

/// Has jemalloc, since version 5, purge all its arenas.
fn purge() {
    type Mallctl =
        unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;
    let Some(mallctl) = find(c"mallctl") else {
        return;
    };
    let null = ptr::null_mut();
    // SAFETY: the function that jemalloc documents by this name; it refuses
    // names that it does not know.
    unsafe {
        let mallctl: Mallctl = core::mem::transmute(mallctl);
        mallctl(c"arena.4096.purge".as_ptr(), null, ptr::null_mut(), null, 0);
    }
}
