//! The system's allocator and page mappings. Every call can fail and says so
//! with NULL.

use core::ffi::c_void;
use core::ptr;

/// `size` bytes aligned to `align` (a power of two), contents undefined.
pub fn alloc(size: usize, align: usize) -> *mut u8 {
    if align <= 16 {
        // SAFETY: malloc takes any size.
        return unsafe { libc::malloc(size).cast() };
    }
    let mut out: *mut c_void = ptr::null_mut();
    // SAFETY: `out` is valid for a pointer; align is a power of two ≥ 16.
    match unsafe { libc::posix_memalign(&mut out, align, size) } {
        0 => out.cast(),
        _ => ptr::null_mut(),
    }
}

/// As [`alloc`], filled with zeroes. Large areas cost nothing until touched.
pub fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    if align <= 16 {
        // SAFETY: calloc takes any size.
        return unsafe { libc::calloc(1, size).cast() };
    }
    let area = alloc(size, align);
    if !area.is_null() {
        // SAFETY: the area is ours and `size` bytes long.
        unsafe { ptr::write_bytes(area, 0, size) };
    }
    area
}

/// Gives back what [`alloc`] or [`alloc_zeroed`] returned. NULL is fine.
///
/// # Safety
/// Nobody uses `area` any more.
pub unsafe fn free(area: *mut u8) {
    // SAFETY: by this function's contract.
    unsafe { libc::free(area.cast()) }
}

/// A copy of `text` that ends with a NUL, for C to free; NULL for lack of memory.
pub fn copy_string(text: &[u8]) -> *mut core::ffi::c_char {
    let area = alloc(text.len() + 1, 1);
    if !area.is_null() {
        // SAFETY: the area is ours, and that long.
        unsafe {
            area.copy_from_nonoverlapping(text.as_ptr(), text.len());
            area.add(text.len()).write(0);
        }
    }
    area.cast()
}

/// Has the processor fetch what is at `at`, which need not be memory.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: fetching changes nothing, and never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The word at `at`, which need not be memory: None where it is not.
pub fn peek(at: *const u8) -> Option<usize> {
    let mut word = 0usize;
    let here = libc::iovec {
        iov_base: (&raw mut word).cast(),
        iov_len: size_of::<usize>(),
    };
    let there = libc::iovec {
        iov_base: at.cast_mut().cast(),
        iov_len: size_of::<usize>(),
    };
    // SAFETY: the kernel looks, and writes no more than the word.
    let n = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    if n < 0 && matches!(super::errno(), libc::ENOSYS | libc::EPERM) {
        return peek_by_pipe(at);
    }
    (n == size_of::<usize>() as isize).then_some(word)
}

/// As [`peek`], where the system has no such call or lets nobody use it, as in
/// some containers.
fn peek_by_pipe(at: *const u8) -> Option<usize> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return None;
    }
    let mut word = 0usize;
    // SAFETY: the kernel looks, and the pipe gives no more than the word; both
    // descriptors are ours.
    let n = unsafe {
        let n = match libc::write(ends[1], at.cast(), size_of::<usize>()) {
            n if n < 0 => n,
            n => libc::read(ends[0], (&raw mut word).cast(), n as usize),
        };
        libc::close(ends[0]);
        libc::close(ends[1]);
        n
    };
    (n == size_of::<usize>() as isize).then_some(word)
}

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Private zeroed pages, `size` rounded up by the kernel; NULL on failure.
pub fn map_pages(size: usize) -> *mut u8 {
    // SAFETY: an anonymous mapping at an address that the kernel chooses.
    let area = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if area == libc::MAP_FAILED {
        ptr::null_mut()
    } else {
        area.cast()
    }
}

/// Unmaps pages of [`map_pages`]; every later access faults.
///
/// # Safety
/// `area` is page aligned, came from `map_pages(size)`, and is unused.
pub unsafe fn unmap_pages(area: *mut u8, size: usize) {
    // SAFETY: by this function's contract.
    unsafe { libc::munmap(area.cast(), size) };
}

/// Makes every access to pages of [`map_pages`] fault; false on failure.
///
/// # Safety
/// `area` is page aligned, inside such a mapping, and unused.
pub unsafe fn forbid_pages(area: *mut u8, size: usize) -> bool {
    // SAFETY: by this function's contract.
    unsafe { libc::mprotect(area.cast(), size, libc::PROT_NONE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_looked_at_wherever_they_are_said_to_be() {
        let pages = map_pages(2 * PAGE);
        assert!(!pages.is_null());
        // SAFETY: the pages are ours.
        unsafe {
            let last = pages.add(PAGE - size_of::<usize>());
            last.cast::<usize>().write(42);
            assert!(forbid_pages(pages.add(PAGE), PAGE));
            for look in [peek, peek_by_pipe] {
                assert_eq!(look(last), Some(42));
                assert_eq!(look(last.add(1)), None);
                assert_eq!(look(pages.add(PAGE)), None);
                assert_eq!(look(ptr::null()), None);
            }
            unmap_pages(pages, 2 * PAGE);
        }
    }
}
