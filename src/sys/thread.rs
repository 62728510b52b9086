//! Threads, and the one pointer of thread-local storage.

use core::ffi::c_void;
use core::mem::MaybeUninit;

/// A joinable thread.
pub type Handle = libc::pthread_t;

/// What a new thread does.
pub trait Body: Sync {
    /// Its whole life.
    fn run(&self);
}

extern "C" fn entry<B: Body>(body: *mut c_void) -> *mut c_void {
    // SAFETY: spawn's caller keeps the body alive.
    unsafe { (*body.cast::<B>()).run() };
    core::ptr::null_mut()
}

/// Runs `body` on a new thread that inherits the signal mask.
///
/// # Safety
/// `body` lives until the thread is joined.
pub unsafe fn spawn<B: Body>(body: &B) -> Result<Handle, i32> {
    let mut handle = MaybeUninit::uninit();
    let arg = (&raw const *body).cast_mut().cast();
    // SAFETY: `handle` is written on success.
    match unsafe { libc::pthread_create(handle.as_mut_ptr(), core::ptr::null(), entry::<B>, arg) } {
        // SAFETY: pthread_create succeeded.
        0 => Ok(unsafe { handle.assume_init() }),
        e => Err(e),
    }
}

/// Waits for the thread's end.
///
/// # Safety
/// The handle was not joined before.
pub unsafe fn join(handle: Handle) {
    // SAFETY: by this function's contract.
    unsafe { libc::pthread_join(handle, core::ptr::null_mut()) };
}

/// Lets another thread run.
pub fn yield_now() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// The calling thread's id in the kernel, unique in the process.
pub fn kernel_id() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

/// A number that no other living thread has, at no cost; never 0.
#[inline(always)]
pub fn identity() -> usize {
    #[cfg(all(target_arch = "x86_64", not(model)))]
    {
        let p: usize;
        // SAFETY: by the ABI the thread pointer's first word is its own address.
        unsafe {
            core::arch::asm!(
                "mov {p}, qword ptr fs:[0]",
                p = out(reg) p,
                options(nostack, readonly, preserves_flags)
            );
        }
        p
    }
    #[cfg(all(not(target_arch = "x86_64"), not(model)))]
    // SAFETY: the location is this thread's own.
    unsafe {
        keel_self_location() as usize
    }
    #[cfg(model)]
    unreachable!("models name their threads")
}

/// The number of processors that the process may run on, at least 1.
pub fn usable_cpus() -> usize {
    // SAFETY: all-zero is a valid empty set, filled in by the kernel.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the set is valid for its size.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if rc != 0 {
        return 1;
    }
    // SAFETY: the set was filled in.
    (unsafe { libc::CPU_COUNT(&set) } as usize).max(1)
}

/// Ends the process with SIGABRT.
pub fn abort() -> ! {
    // SAFETY: never returns.
    unsafe { libc::abort() }
}

// The pointer is defined in self.c: C's `__thread` gives it the initial-exec
// model on stable Rust, and no destructor hangs off it.
unsafe extern "C" {
    #[cfg(not(target_arch = "x86_64"))]
    fn keel_self_location() -> *mut *mut c_void;
}

/// The calling thread's pointer, NULL until [`set_self`].
#[inline(always)]
pub fn get_self() -> *mut c_void {
    #[cfg(target_arch = "x86_64")]
    {
        let p: *mut c_void;
        // SAFETY: reads this thread's `keel_self`: its offset from the thread
        // pointer stands in the GOT.
        unsafe {
            core::arch::asm!(
                "mov {p}, qword ptr [rip + keel_self@GOTTPOFF]",
                "mov {p}, qword ptr fs:[{p}]",
                p = out(reg) p,
                options(nostack, readonly, preserves_flags)
            );
        }
        p
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the location is this thread's own.
    unsafe {
        *keel_self_location()
    }
}

/// Sets the calling thread's pointer.
pub fn set_self(p: *mut c_void) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes this thread's `keel_self`.
    unsafe {
        core::arch::asm!(
            "mov {t}, qword ptr [rip + keel_self@GOTTPOFF]",
            "mov qword ptr fs:[{t}], {p}",
            t = out(reg) _,
            p = in(reg) p,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the location is this thread's own.
    unsafe {
        *keel_self_location() = p;
    }
}
