//! Giving the free pages of malloc()'s heap back to the kernel.
//!
//! Whose heap that is does not show in the symbols that are there: programs
//! preload other allocators, and link them without using them. It shows in
//! what malloc() returns, which is looked at once.

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

// KEEPS: INV-27
fn detect() -> u8 {
    if is_glibc(3) {
        return GLIBC;
    }
    let file = |name| find(name).and_then(|at| symbol::file_start(at.addr()));
    match (file(c"malloc"), file(c"mallctl")) {
        (Some(malloc), Some(mallctl)) if malloc == mallctl => JEMALLOC,
        _ => OTHER,
    }
}

/// Whether a new object may be used as far as one of glibc's: to the end of its
/// chunk, which is a multiple of two words less one. Others round in coarser
/// steps at this size, or not at all. It is neither recycled as it is nor
/// mapped by itself.
#[cfg(target_env = "gnu")]
fn is_glibc(tries: u32) -> bool {
    const ASKED: usize = 100_000;
    const WORD: usize = size_of::<usize>();
    let object = memory::alloc(ASKED, 1);
    if object.is_null() {
        return false;
    }
    let found = if object.addr() % memory::PAGE == 0 {
        // Where malloc() alone was replaced, glibc would look for its size in
        // the page before it, which need not be there. glibc's own next object
        // lies elsewhere.
        tries > 0 && is_glibc(tries - 1)
    } else {
        // SAFETY: the object is malloc()'s.
        let usable = unsafe { libc::malloc_usable_size(object.cast()) };
        let least = (ASKED + WORD).next_multiple_of(2 * WORD) - WORD;
        // What is too small to be a chunk of its own stays with it.
        (least..least + 4 * WORD).contains(&usable)
    };
    // SAFETY: nobody knows the object.
    unsafe { memory::free(object) };
    found
}

#[cfg(not(target_env = "gnu"))]
fn is_glibc(_tries: u32) -> bool {
    false
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
