//! keel/runtime.h: starting and stopping, threads, the loop, the clock.

use crate::runtime::config::Request;
use crate::runtime::{self, config};
use crate::sys::EINVAL;
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// The most threads that can be registered at a time.
pub const KEEL_MAX_THREADS: c_uint = 64;

/// What keel_init() may be told. Zero means the default everywhere; start
/// from KEEL_CONFIG_INIT.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct keel_config {
    /// sizeof(struct keel_config): lets the structure grow.
    pub size: usize,
    /// Threads, 1 to KEEL_MAX_THREADS; 0: as many processors as the process
    /// may run on.
    pub nbthread: c_uint,
    /// Entries of fdtab, at most 1048576; 0: the soft RLIMIT_NOFILE.
    pub maxsock: c_uint,
    /// Tasks and tasklets run per turn of the loop; 0: 200.
    pub runqueue_depth: c_uint,
    /// Non-zero: return to more urgent work after each tasklet, for latency
    /// at the expense of throughput.
    pub low_latency: c_uint,
    /// Non-zero: account time and latency per task and, for
    /// keel_dump_tasks(), per handler.
    pub profiling: c_uint,
    /// Bytes that each thread's object caches may hold; 0: 512 KiB.
    pub pool_cache_bytes: usize,
    /// Ticks per second as callout_reset() counts them; 0: 1000.
    pub callout_hz: c_uint,
    /// Microseconds for which an idle thread looks for events before it
    /// sleeps; 0: not at all.
    pub spin_us: c_uint,
    /// Gets the library's messages: a syslog level and one line without a
    /// newline, valid during the call. Any thread. NULL: nobody.
    pub log: Option<unsafe extern "C" fn(level: c_int, message: *const c_char, arg: *mut c_void)>,
    /// Handed to log.
    pub log_arg: *mut c_void,
    /// Called when the library finds itself misused or broken; the process
    /// aborts when it returns. NULL: the sentence goes to stderr.
    pub panic: Option<
        unsafe extern "C" fn(
            file: *const c_char,
            line: c_int,
            message: *const c_char,
            arg: *mut c_void,
        ),
    >,
    /// Handed to panic.
    pub panic_arg: *mut c_void,
}

/// Starts the library with a configuration, NULL for all defaults. The
/// structure is copied. One from a newer header is fine as long as what this
/// library does not know is zero.
///
/// Returns 0; -EINVAL where a value is out of range, the size field wrong or
/// every poller disabled; -EALREADY where keel_deinit() has not been called
/// since the last time; -ENOMEM.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_init(cfg: *const keel_config) -> c_int {
    // SAFETY: NULL or valid by the caller's word.
    let request = match unsafe { cfg.as_ref() } {
        None => Request::DEFAULT,
        // SAFETY: the structure is as long as it says.
        Some(c) if !unsafe { is_known(c) } => return -EINVAL,
        Some(c) => Request {
            nbthread: c.nbthread,
            maxsock: c.maxsock,
            runqueue_depth: c.runqueue_depth,
            low_latency: c.low_latency,
            profiling: c.profiling,
            pool_cache_bytes: c.pool_cache_bytes,
            callout_hz: c.callout_hz,
            spin_us: c.spin_us,
            log: c.log,
            log_arg: c.log_arg,
            panic: c.panic,
            panic_arg: c.panic_arg,
        },
    };
    let config = match request.resolve() {
        Ok(config) => config,
        Err(rc) => return rc,
    };
    match runtime::init(config) {
        0 => {
            super::fd::publish();
            super::task::publish();
            0
        }
        rc => rc,
    }
}

// Whether the structure has all of our fields, and zeroes in any others.
unsafe fn is_known(c: &keel_config) -> bool {
    let ours = size_of::<keel_config>();
    let bytes = (&raw const *c).cast::<u8>();
    // A size beyond a page is no newer header, but garbage.
    (ours..=4096).contains(&c.size)
        // SAFETY: by this function's contract.
        && (ours..c.size).all(|i| unsafe { *bytes.add(i) } == 0)
}

/// Frees everything that the library holds, pools and their objects included,
/// after every other thread has left; the calling thread leaves by itself, and
/// keel_callout_start_threads()'s are ended. Descriptors stay open. Callouts
/// that are pending become idle. keel_init() may follow.
///
/// Threads that are still registered are a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_deinit() {
    runtime::end_threads();
    super::fd::unpublish();
    super::stick_table::unpublish();
    super::task::unpublish();
    runtime::leave();
    runtime::deinit();
}

/// Binds the calling thread to the id tid, 0 to nbthread - 1. Threads that
/// keel_run() starts are bound already. The thread must leave before it ends:
/// the id of one that does not stays taken, and thread_isolate() waits for it
/// for ever.
///
/// Returns 0; -EINVAL where there is no such id or no keel_init() yet; -EBUSY
/// where another thread has it; -EALREADY where the calling thread has one;
/// -EMFILE, -ENFILE or -ENOMEM where its poller cannot be made.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_thread_enter(tid: c_uint) -> c_int {
    runtime::enter(tid as usize)
}

/// Unbinds the calling thread: its object caches go back, tasks that others
/// may run go to them, what is bound to its id waits for the next thread that
/// enters under it. Nothing happens on a thread that is not registered.
///
/// Thread rule: *any thread*, outside of handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_thread_leave() {
    runtime::leave();
}

/// Starts nbthread - 1 threads, which inherit the signal mask, and makes the
/// caller thread 0. Each calls thread_init(tid, arg), unless that is NULL, and
/// then run_poll_loop(). Returns when keel_stop() has ended all loops and the
/// other threads are joined; may be called again.
///
/// Returns 0; what a thread_init returned that was not 0 (all loops end then);
/// -EAGAIN where a thread could not be started; -EMFILE, -ENFILE or -ENOMEM
/// where its poller cannot be made; -EALREADY where it runs already, or the
/// caller is registered under another id than 0; -EINVAL before keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_run(
    thread_init: Option<unsafe extern "C" fn(tid: c_uint, arg: *mut c_void) -> c_int>,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller's function and argument.
    unsafe { runtime::run(thread_init, arg) }
}

/// Runs the calling thread's loop (timers, tasks, events) until keel_stop().
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run_poll_loop() {
    runtime::run_loop();
}

/// One turn of that loop, for servers that own theirs: serves what is due,
/// waits at most max_wait_ms milliseconds for events (negative: until there is
/// something to do), but for no more than a minute, and handles them.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_poll_once(max_wait_ms: c_int) {
    runtime::poll_once(max_wait_ms);
}

/// A descriptor that a host's own loop can poll for reading: it is readable
/// when this thread has something to do, timers excepted, for which see
/// keel_next_deadline_ns(). The host then calls keel_poll_once(0). It belongs
/// to the library; do not close it. It stays the same until the thread leaves,
/// except after fork_poller().
///
/// Returns it, or a negative errno: -ENOTSUP with the poller poll, which has no
/// such descriptor, -EMFILE or -ENFILE where there are no more descriptors.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_poll_fd() -> c_int {
    runtime::poll_fd()
}

/// The CLOCK_MONOTONIC date, in nanoseconds, of the calling thread's next
/// timer; a date not after now if something waits to run; UINT64_MAX if
/// nothing does.
///
/// Thread rule: *registered threads*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_next_deadline_ns() -> u64 {
    runtime::next_deadline_ns()
}

/// Ends every loop. Before keel_run() it makes that return at once.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stop() {
    runtime::stop();
}

/// The calling thread's id, or ~0U where it has none.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_tid() -> c_uint {
    runtime::tid().map_or(c_uint::MAX, |tid| tid as c_uint)
}

/// How many threads there can be; 0 before keel_init().
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_nbthread() -> c_uint {
    runtime::core().map_or(0, |core| core.config.nbthread as c_uint)
}

/// A mask with one bit for each of these threads.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_all_threads_mask() -> c_ulong {
    runtime::core().map_or(0, |core| core.tasks.all())
}

/// The loop's cached monotonic clock, in ticks: milliseconds that wrap, with
/// an origin of their own. Fresh when a turn of the loop begins; on a thread
/// that is not registered it is read anew. May be 0, which as a date means
/// "never": add to it with tick_add().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_now_ms() -> c_uint {
    runtime::now_tick()
}

/// CLOCK_MONOTONIC, read now, in nanoseconds.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_now_ns() -> u64 {
    runtime::now_ns()
}

/// Refreshes keel_now_ms() for the calling thread.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_update_clock() {
    if let Some(t) = runtime::here() {
        t.set_now(runtime::require_core().now_ms());
    }
}

/// Wakes thread tid if it sleeps in its loop; if not, its next sleep returns
/// at once. Ids that do not exist are ignored.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wake_thread(tid: c_int) {
    if let Ok(tid) = usize::try_from(tid) {
        runtime::wake_thread(tid);
    }
}

/// Waits until every other registered thread is harmless: in its poller, or
/// between thread_harmless_now() and thread_harmless_end(). From then on the
/// caller is alone until thread_release(). Nests. The caller must hold no lock
/// that others may want.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_isolate() {
    runtime::require_core().isolation.isolate(runtime::tid());
}

/// Ends the isolation that the last thread_isolate() began.
///
/// Thread rule: the isolated thread, which may be *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_release() {
    runtime::require_core().isolation.release(runtime::tid());
}

/// Non-zero if the calling thread is isolated.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_isolated() -> c_int {
    c_int::from(runtime::core().is_some_and(|core| core.isolation.isolated(runtime::tid())))
}

/// Says that the calling thread touches nothing shared for a while, so that
/// others may be isolated meanwhile. Nothing happens on a thread that is not
/// registered.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_harmless_now() {
    if let Some(t) = runtime::here() {
        runtime::require_core().isolation.harmless(t.tid);
    }
}

/// Ends what thread_harmless_now() began, once nobody is isolated.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thread_harmless_end() {
    if let Some(t) = runtime::here() {
        runtime::require_core().isolation.busy_again(t.tid);
    }
}

/// The library's version: "MAJOR.MINOR.PATCH".
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

const _: () = assert!(KEEL_MAX_THREADS as usize == config::MAX_THREADS);
