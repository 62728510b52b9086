//! keel/pool.h: pools of fixed-size objects.
//!
//! A pool hands out objects of one size and recycles them. What a registered
//! thread frees stays in a cache of its own, from which its next allocation is
//! served without touching memory that other threads use; beyond the cache's
//! limit (keel_config.pool_cache_bytes) objects go to a list that all threads
//! share, or to the system where the pool has more than it needs. An object
//! may be freed by another thread than the one that allocated it. Threads that
//! were never registered may use every function; they work on the shared list.

use crate::pool::{self, Declaration, Head, Parsed, Registry, Stats};
use crate::runtime;
use crate::sys::{self, memory};
use core::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use core::fmt::{self, Write};
use core::mem::offset_of;
use core::ptr::{self, NonNull};

/// create_pool(): the pool may be merged with another one of about the same
/// size.
pub const MEM_F_SHARED: c_uint = 0x1;
/// create_pool(): the size is neither rounded up nor changed by merging.
pub const MEM_F_EXACT: c_uint = 0x2;
/// create_pool(): each object has pages of its own that are unmapped when it
/// is freed, so that any use after free and most overruns fault at once. Slow.
pub const MEM_F_UAF: c_uint = 0x4;
/// __pool_alloc(): leaves the object's contents alone even if the word
/// "poison" is on.
pub const POOL_F_NO_POISON: c_uint = 0x1;
/// __pool_alloc(): zeroes the object.
pub const POOL_F_MUST_ZERO: c_uint = 0x2;
/// __pool_alloc(): escapes the failures that the word "fail" injects. Memory
/// may still lack.
pub const POOL_F_NO_FAIL: c_uint = 0x4;

/// A pool, made by create_pool() and by nothing else: private fields follow.
/// name, size and align are for reading; minavail and limit may be set, best
/// before first use.
#[repr(C)]
pub struct pool_head {
    /// The name, cut to 11 characters.
    pub name: [c_char; 12],
    /// Bytes usable in each object: what was asked for, rounded up.
    pub size: c_uint,
    /// Bytes that the address of each object is a multiple of.
    pub align: c_uint,
    /// Free objects that pool_gc() leaves in the pool. 0 at first.
    pub minavail: c_uint,
    /// The most objects that the pool may hold, in use and free; beyond,
    /// allocations fail. 0: no limit, as at first.
    pub limit: c_uint,
}

const _: () = assert!(offset_of!(pool_head, name) == 0);
const _: () = assert!(offset_of!(pool_head, size) == 12);
const _: () = assert!(offset_of!(pool_head, align) == 16);
const _: () = assert!(offset_of!(pool_head, minavail) == 20);
const _: () = assert!(offset_of!(pool_head, limit) == 24);
const _: () = assert!(size_of::<pool_head>() <= size_of::<Head>());
const _: () = assert!(MEM_F_SHARED == pool::MEM_F_SHARED);
const _: () = assert!(MEM_F_EXACT == pool::MEM_F_EXACT);
const _: () = assert!(MEM_F_UAF == pool::MEM_F_UAF);
const _: () = assert!(POOL_F_NO_POISON == pool::POOL_F_NO_POISON);
const _: () = assert!(POOL_F_MUST_ZERO == pool::POOL_F_MUST_ZERO);
const _: () = assert!(POOL_F_NO_FAIL == pool::POOL_F_NO_FAIL);

/// A pool's figures; exact while no other thread is inside the library.
#[repr(C)]
pub struct keel_pool_stats {
    /// Objects that the pool holds: used + cached.
    pub allocated: c_ulonglong,
    /// Objects in callers' hands.
    pub used: c_ulonglong,
    /// Free objects, in the threads' caches and in the shared list.
    pub cached: c_ulonglong,
    /// Allocations that were refused: for lack of memory, by the limit, or by
    /// the word "fail".
    pub failed: c_ulonglong,
    /// Bytes taken from the system for the allocated objects.
    pub bytes: c_ulonglong,
}

/// A pool that is declared by a variable, as <keel/compat/haproxy.h> does it:
/// fill in the first five fields and leave the rest zero.
#[repr(C)]
pub struct keel_pool_registration {
    /// Where the pool's address goes. NULL there means that it does not exist.
    pub pool: *mut *mut pool_head,
    /// The arguments of create_aligned_pool().
    pub name: *const c_char,
    /// Bytes of an object.
    pub size: usize,
    /// Its alignment; 0: the default.
    pub align: c_uint,
    /// MEM_F_*.
    pub flags: c_uint,
    /// Private.
    pub next: *mut keel_pool_registration,
}

const _: () = assert!(size_of::<keel_pool_registration>() == size_of::<Declaration>());
const _: () = assert!(offset_of!(keel_pool_registration, pool) == offset_of!(Declaration, pool));
const _: () = assert!(offset_of!(keel_pool_registration, name) == offset_of!(Declaration, name));
const _: () = assert!(offset_of!(keel_pool_registration, size) == offset_of!(Declaration, size));
const _: () = assert!(offset_of!(keel_pool_registration, align) == offset_of!(Declaration, align));
const _: () = assert!(offset_of!(keel_pool_registration, flags) == offset_of!(Declaration, flags));

/// Creates a pool for objects of `size` bytes, or finds one that suits and may
/// be shared: MEM_F_SHARED on both, and the same size or, as long as the found
/// pool was never used, nearly the same. `flags` are MEM_F_*. Each call is to
/// be matched by one pool_destroy(). Works before keel_init().
///
/// Returns the pool, or NULL with errno ENOMEM, or EINVAL if `name` is NULL or
/// `size` leaves no room in 32 bits.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn create_pool(
    name: *const c_char,
    size: c_uint,
    flags: c_uint,
) -> *mut pool_head {
    // SAFETY: the caller's name is a C string or NULL.
    unsafe { create(name, size, 0, flags) }
}

/// As create_pool(), with objects aligned to `align` bytes, rounded up to a
/// power of two and to the size of a pointer. EINVAL also if `align` is above
/// 2^31. 0 means create_pool()'s alignment, 16.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn create_aligned_pool(
    name: *const c_char,
    size: c_uint,
    align: c_uint,
    flags: c_uint,
) -> *mut pool_head {
    // SAFETY: the caller's name is a C string or NULL.
    unsafe { create(name, size, align, flags) }
}

/// Creates the pool that `declared` describes and stores its address where it
/// says. When keel_deinit() or pool_destroy_all() destroys the pool, NULL is
/// stored there, and the next keel_init() creates it again. The record, the
/// name and the place of the address stay where they are until
/// keel_pool_unregister(). Works before keel_init() and before main().
///
/// Returns 0, -EALREADY for a record that is registered, or as create_pool()
/// -ENOMEM or -EINVAL, both with nothing stored.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_pool_register(declared: *mut keel_pool_registration) -> c_int {
    // SAFETY: the caller's record may be read.
    let complete =
        unsafe { declared.as_ref() }.is_some_and(|d| !d.pool.is_null() && !d.name.is_null());
    match NonNull::new(declared.cast::<Declaration>()) {
        // SAFETY: the caller keeps the record in place.
        Some(record) if complete => unsafe { pools().declare(record) },
        _ => -sys::EINVAL,
    }
}

/// Forgets a record of keel_pool_register(), which may then go, as it does with
/// a module that is unloaded. The pool stays, since others may use it: the next
/// record that says the same gets it, and keel_deinit() destroys it. A record
/// that is not registered, and NULL, are fine.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_pool_unregister(declared: *mut keel_pool_registration) {
    if let Some(record) = NonNull::new(declared.cast::<Declaration>()) {
        // SAFETY: the caller's record exists.
        unsafe { pools().undeclare(record) };
    }
}

/// Ends one use of the pool after giving its free objects to the system. When
/// the last use ends, the pool is gone. NULL is accepted.
///
/// Returns NULL if no object of it is in use, else the pool, which then stays
/// as it is: `p = pool_destroy(p)`. Objects in the caches of other registered
/// threads count as in use; those threads let go of them in keel_thread_leave()
/// or, after pool_gc(), in the next turn of their loop.
///
/// Thread rule: *any thread*, provided that nobody uses the pool any more if
/// this ends its last use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pool_destroy(pool: *mut pool_head) -> *mut c_void {
    let Some(head) = NonNull::new(pool.cast::<Head>()) else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's pool exists and, at its last use, is left alone.
    if unsafe { pools().destroy(head, runtime::pool_local()) } {
        ptr::null_mut()
    } else {
        pool.cast()
    }
}

/// Destroys every pool of which no object is in callers' hands, whatever its
/// number of uses, and empties the caches of all threads. keel_deinit() does
/// the same.
///
/// Thread rule: *any thread*, while no other one uses the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pool_destroy_all() {
    // SAFETY: the caller vouches for all threads. A pool that is left has
    // objects in callers' hands, which is theirs to know.
    unsafe { pools().destroy_all(runtime::pool_local()) };
}

/// Gives the free objects of the pool's shared list to the system, whatever
/// minavail says. Those in the threads' caches stay. NULL is accepted.
///
/// Thread rule: *any thread*, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pool_flush(pool: *mut pool_head) {
    // SAFETY: the caller's pool exists, if it is not NULL.
    if let Some(pool) = unsafe { pool.cast::<Head>().as_ref() } {
        pools().flush(pool);
    }
}

/// Gives free objects of every pool to the system until minavail of them are
/// left, then the free pages of the libc heap. The calling thread's caches are
/// emptied at once, those of other registered threads in the next turn of
/// their loop. Isolates and waits for nobody. The argument is not used.
///
/// Thread rule: *any thread*, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pool_gc(unused: *mut pool_head) {
    let _ = unused;
    pools().gc(runtime::pool_local());
}

/// Stores the pool's figures in `out`; those of all pools together if `pool`
/// is NULL. A NULL `out` is a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_pool_get_stats(pool: *const pool_head, out: *mut keel_pool_stats) {
    if out.is_null() {
        panic!("keel_pool_get_stats() needs a place for its result, not NULL");
    }
    // SAFETY: the caller's pool exists, if it is not NULL.
    let stats: Stats = match unsafe { pool.cast::<Head>().as_ref() } {
        Some(pool) => pool.stats(),
        None => pools().totals(),
    };
    // SAFETY: the caller's structure may be written.
    unsafe {
        out.write(keel_pool_stats {
            allocated: stats.allocated,
            used: stats.used,
            cached: stats.cached,
            failed: stats.failed,
            bytes: stats.bytes,
        });
    }
}

/// Returns the bytes of all objects that the pools hold: for each pool, their
/// number times its size.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub extern "C" fn pool_total_allocated() -> c_ulonglong {
    pools().total_bytes().0
}

/// Returns the bytes of all objects in callers' hands: for each pool, their
/// number times its size.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub extern "C" fn pool_total_used() -> c_ulonglong {
    pools().total_bytes().1
}

/// Returns the number of refused allocations, all pools together, at most
/// INT_MAX.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub extern "C" fn pool_total_failures() -> c_int {
    c_int::try_from(pools().totals().failed).unwrap_or(c_int::MAX)
}

/// Sets debugging words for the pools that are created from now on: HAProxy's
/// -dM, comma separated, later ones winning. A leading number is the poison
/// byte ("" means 0x50, a negative number none). The words:
///
///   poison     fills objects with the poison byte when they are allocated, so
///              that a stale pointer does not read what it wrote
///   tag        detects double frees, frees to the wrong pool, small overruns
///   integrity  detects writes to free objects: in a thread's cache to any byte
///              of the size, in the shared list to those behind the links,
///              once the object leaves its place again
///   backup     the same by a copy, which leaves the contents alone; together
///              with integrity, reports tell what the object held
///   caller     remembers who allocated or freed an object last, for reports
///   fail       makes 1 % of the allocations fail; fail=N makes it N %; only
///              once keel_init() has returned
///   no-merge   merges pools of the same name only
///   cold-first hands the oldest cached object out instead of the newest
///   no-global  has no shared list; no-cache has no caches either
///   uaf        as MEM_F_UAF, for every pool: uses after free fault, so do
///              overruns as far as the alignment leaves no gap, a write right
///              before the object is seen when it is freed
///
/// and their opposites no-poison, no-tag, no-integrity, no-backup, no-caller,
/// no-fail, merge, hot-first, global, cache, no-uaf. uaf implies no-cache, and
/// "uaf,cache" is a mixture. What is detected is a panic; its sentence names
/// the pool, the object and the call sites: addresses, with offsets into the
/// file and function where the dynamic linker knows them.
///
/// At first those words are on that the environment variable KEEL_POOL_DEBUG
/// has, or none. It is read once, before the first pool is created; what it
/// says wrong is told on stderr, and none of it applies. Programs with
/// privileges (set-user-ID) ignore it.
///
/// Returns 0, or with nothing changed -EINVAL for anything else.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_pool_debug(options: *const c_char) -> c_int {
    if options.is_null() {
        return -sys::EINVAL;
    }
    // SAFETY: the caller's options are a C string.
    pools().debug(unsafe { CStr::from_ptr(options) }.to_bytes())
}

/// Writes a table of all pools to a descriptor: a line for each, with what it
/// holds, what is used (by callers and, as in HAProxy, by caches), the average
/// need, failures and users; then a line of totals.
///
/// Returns the bytes written, or a negative errno.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub extern "C" fn keel_dump_pools(fd: c_int) -> c_int {
    pools().dump(fd)
}

/// As keel_dump_pools(), of the pools and in the order that `options` says: the
/// words of the command 'show pools', separated by blanks; NULL and "" mean
/// all, smallest objects first.
///
///   byname, bysize, byusage   sort by name, by size from the largest down, or
///                             by allocated bytes from the most down, without
///                             the pools that hold none; the last word wins
///   match PREFIX              only pools whose names begin so
///   detailed                  a line more for each different request that a
///                             pool was created or found for
///   NUMBER                    only so many pools, the first ones; 0: all. What
///                             leaves some out says so
///
/// The totals are those of all selected pools, whether or not they are among
/// the first.
///
/// Returns the bytes written, or a negative errno; -EINVAL for other words and
/// -ENOMEM if sorting lacks memory, both with nothing written.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_dump_pools_with(fd: c_int, options: *const c_char) -> c_int {
    if options.is_null() {
        return pools().dump(fd);
    }
    // SAFETY: the caller's options are a C string.
    pools().dump_with(fd, unsafe { CStr::from_ptr(options) }.to_bytes())
}

/// HAProxy's parser of -dM: as keel_pool_debug(), but the words act also on the
/// pools of keel_pool_register() that nobody has used yet, which are made anew.
/// The word "help" asks for a table of all words.
///
/// Returns 1; 0 with a warning if pools exist that the words do not act on; -1
/// with the table, or -2 with what is wrong, and no word set. The text goes to
/// `*err`, for the caller to free(), if `err` is not NULL; `*err` is NULL
/// without one, or for lack of memory.
///
/// Thread rule: *any thread*, before others use pools.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pool_parse_debugging(str: *const c_char, err: *mut *mut c_char) -> c_int {
    let words = if str.is_null() {
        b""
    } else {
        // SAFETY: the caller's words are a C string.
        unsafe { CStr::from_ptr(str) }.to_bytes()
    };
    // SAFETY: the caller vouches for the declared pools.
    let parsed = unsafe { pools().parse_debugging(words) };
    // SAFETY: the caller's place for the text may be written.
    if let Some(err) = unsafe { err.as_mut() } {
        let mut text = Text {
            len: 0,
            bytes: [0; 2048],
        };
        // What is too long is cut.
        let _ = pools().explain(words, parsed, &mut text);
        *err = match text.len {
            0 => ptr::null_mut(),
            len => memory::copy_string(&text.bytes[..len]),
        };
    }
    match parsed {
        Parsed::Done => 1,
        Parsed::TooLate(_) => 0,
        Parsed::Help => -1,
        Parsed::Unknown | Parsed::NoMemory => -2,
    }
}

struct Text {
    len: usize,
    bytes: [u8; 2048],
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let rest = &mut self.bytes[self.len..];
        let n = s.len().min(rest.len());
        rest[..n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

#[inline(always)]
fn pools() -> &'static Registry {
    runtime::pools()
}

#[cold]
fn null_pool() -> ! {
    panic!("a pool function was called with a NULL pool");
}

unsafe fn create(
    name: *const c_char,
    size: c_uint,
    align: c_uint,
    flags: c_uint,
) -> *mut pool_head {
    if name.is_null() {
        sys::set_errno(sys::EINVAL);
        return ptr::null_mut();
    }
    // SAFETY: the caller's name is a C string.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    match pools().create(name, size, align, flags) {
        Ok(pool) => pool.as_ptr().cast(),
        Err(errno) => {
            sys::set_errno(errno);
            ptr::null_mut()
        }
    }
}

// The functions that take and give back objects are in pool_calls.c: they have
// the fast path of the header, and know where they were called from. These two
// are what they call when that does not do.

/// The flag of pool_alloc_nocache() and pool_free_nocache().
const NOCACHE: c_uint = 1 << 31;

/// An object that the calling thread's cache does not have. Thread rule: *any
/// thread*.
#[unsafe(no_mangle)]
unsafe extern "C" fn keel_pool_take(
    pool: *mut pool_head,
    flags: c_uint,
    from: *const c_void,
) -> *mut c_void {
    // SAFETY: the caller's pool exists, if it is not NULL.
    let Some(head) = (unsafe { pool.cast::<Head>().as_ref() }) else {
        null_pool();
    };
    let object = if flags & NOCACHE != 0 {
        // SAFETY: the pool is alive.
        unsafe { pools().alloc_nocache(head, from.addr()) }
    } else {
        // SAFETY: the pool is alive; the local caches are this thread's.
        unsafe { pools().miss(head, runtime::pool_local(), flags, from.addr()) }
    };
    if object.is_null() {
        sys::set_errno(sys::ENOMEM);
    }
    object.cast()
}

/// Takes an object that the calling thread's cache does not. Thread rule: *any
/// thread*.
#[unsafe(no_mangle)]
unsafe extern "C" fn keel_pool_give_back(
    pool: *mut pool_head,
    ptr: *mut c_void,
    flags: c_uint,
    from: *const c_void,
) {
    let Some(object) = NonNull::new(ptr.cast()) else {
        return;
    };
    // SAFETY: the caller's pool exists, if it is not NULL.
    let Some(head) = (unsafe { pool.cast::<Head>().as_ref() }) else {
        null_pool();
    };
    // SAFETY: the object is one of the pool's; the local caches are this
    // thread's.
    unsafe {
        if flags & NOCACHE != 0 {
            pools().free_nocache(head, object.as_ptr(), from.addr());
        } else {
            pools().free_slow(head, runtime::pool_local(), object, from.addr());
        }
    }
}
