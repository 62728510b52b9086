//! keel/callout.h: functions that are called at a date, after FreeBSD's
//! callout(9).
//!
//! A callout is armed with a date, a function and an argument; the function,
//! its handler, is called on a callout cpu: a thread registered with keel, each
//! of which has a wheel of its own. The loop serves them; so do softclock() and
//! the threads of keel_callout_start_threads().
//!
//! A callout may have an associated lock. Its handler then runs under that
//! lock, and whoever holds it and stops or resets the callout knows that the
//! handler of the former arming will not run. Only a drain tells that nobody
//! touches the callout, its argument and its lock any more, so that they may be
//! freed.
//!
//! The default cpu is 0; while no thread is registered as 0 the lowest that is
//! stands in for it. Arming for a cpu where nobody is registered arms on the
//! default cpu, callouts of a thread that leaves move there, and with no thread
//! at all they wait for the first that comes.
//!
//! The child of a fork() may go on using callouts: what was pending is pending
//! there, what another thread was executing counts as over, and the drain
//! functions of such executions are not called.
//!
//! Differences from FreeBSD: there is no Giant; the active mark is cleared by
//! every stop and drain; stop tells the truth while softclock waits for the
//! associated lock or has just left it; an asynchronous drain prevents a handler
//! that waits for the lock; a drain takes at most one run of the handler, and
//! counts a re-arming that it removed; a drain that would wait inside a handler
//! is a panic, and so is a second asynchronous drain with another function;
//! C_DIRECT_EXEC means "before what else is due", in the same slot; schedule
//! reads function, argument and cpu under the lock; locks are given as tables of
//! operations; cpus come and go.

use crate::callout::{Call, Callout, Func, Lock, LockOps, dump};
use crate::runtime::{self, callouts};
use crate::sys::{EINVAL, locks};
use core::ffi::{c_int, c_uint, c_void};

/// Seconds of CLOCK_MONOTONIC in 32.32 fixed point.
pub type sbintime_t = i64;

/// Run before what else is due.
pub const C_DIRECT_EXEC: c_int = 0x0001;
/// Count the interval from the last tick.
pub const C_HARDCLOCK: c_int = 0x0100;
/// The time is absolute, and the precision used as it is given.
pub const C_ABSOLUTE: c_int = 0x0200;
/// Time and precision come from callout_when().
pub const C_PRECALC: c_int = 0x0400;
/// Accepted and without a meaning here.
pub const C_CATCH: c_int = 0x0800;

/// For init: the lock is tried instead of waited for. While it is taken the
/// callout is put off by half its precision, at least 61 microseconds. For
/// locks that are held long, and where nothing but the stop can tell that the
/// lock may go.
pub const CALLOUT_TRYLOCK: c_int = 0x0001;
/// FreeBSD's name of the caller's mark; see callout_active().
pub const CALLOUT_ACTIVE: c_int = 0x0002;
/// FreeBSD's name of the state that callout_pending() tells.
pub const CALLOUT_PENDING: c_int = 0x0004;
/// A non-zero argument for callout_init().
pub const CALLOUT_MPSAFE: c_int = 0x0008;
/// For init: the handler frees the associated lock itself.
pub const CALLOUT_RETURNUNLOCKED: c_int = 0x0010;
/// For init: the handler runs under the read side of the lock. Ignored for
/// locks that have none.
pub const CALLOUT_SHAREDLOCK: c_int = 0x0020;
/// FreeBSD's name of an internal state; never set or taken here.
pub const CALLOUT_LOCAL_ALLOC: c_int = 0x0001;
/// FreeBSD's name of an internal state; never set or taken here.
pub const CALLOUT_DFRMIGRATION: c_int = 0x0040;
/// FreeBSD's name of an internal state; never set or taken here.
pub const CALLOUT_PROCESSED: c_int = 0x0080;
/// FreeBSD's name of an internal state; never set or taken here.
pub const CALLOUT_DIRECT: c_int = 0x0100;

/// A callout: public size, private fields. It belongs to the caller, in whose
/// objects it is embedded, and stays where it is from init to the last drain.
/// All zeroes is a callout without a lock that was never armed.
#[repr(C)]
pub struct callout {
    /// The library's.
    pub keel_private: [u64; 16],
}

const _: () = assert!(size_of::<callout>() == size_of::<Callout>());
const _: () = assert!(align_of::<callout>() == align_of::<Callout>());

/// What can be done with a caller's lock. The table outlives the callouts that
/// use it.
#[repr(C)]
pub struct keel_lock_ops {
    /// Waits for the lock and takes it.
    pub lock: Option<unsafe extern "C" fn(lock: *mut c_void)>,
    /// Frees the lock.
    pub unlock: Option<unsafe extern "C" fn(lock: *mut c_void)>,
    /// Takes the lock if it is free: non-zero if so. Never waits; may be called
    /// with a lock of keel's held, so it calls nothing of keel. NULL: the lock
    /// cannot be tried.
    pub trylock: Option<unsafe extern "C" fn(lock: *mut c_void) -> c_int>,
    /// Non-zero if the calling thread holds the lock, exclusively if it can be
    /// shared. NULL: nobody can tell. With it, a stop without the lock and a
    /// drain that would wait with it are panics.
    pub owned: Option<unsafe extern "C" fn(lock: *mut c_void) -> c_int>,
}

const _: () = assert!(size_of::<keel_lock_ops>() == size_of::<LockOps>());

const fn table(
    lock: unsafe extern "C" fn(*mut c_void),
    unlock: unsafe extern "C" fn(*mut c_void),
    trylock: unsafe extern "C" fn(*mut c_void) -> c_int,
) -> keel_lock_ops {
    keel_lock_ops {
        lock: Some(lock),
        unlock: Some(unlock),
        trylock: Some(trylock),
        owned: None,
    }
}

/// For a pthread_mutex_t.
#[unsafe(no_mangle)]
pub static keel_lock_mutex: keel_lock_ops =
    table(locks::mutex_lock, locks::mutex_unlock, locks::mutex_trylock);
/// For the write side of a pthread_rwlock_t.
#[unsafe(no_mangle)]
pub static keel_lock_rwlock: keel_lock_ops = table(
    locks::rwlock_wrlock,
    locks::rwlock_unlock,
    locks::rwlock_trywrlock,
);
/// For the read side of a pthread_rwlock_t.
#[unsafe(no_mangle)]
pub static keel_lock_rwlock_shared: keel_lock_ops = table(
    locks::rwlock_rdlock,
    locks::rwlock_unlock,
    locks::rwlock_tryrdlock,
);
/// For a pthread_spinlock_t.
#[unsafe(no_mangle)]
pub static keel_lock_spin: keel_lock_ops =
    table(locks::spin_lock, locks::spin_unlock, locks::spin_trylock);

unsafe fn init(
    c: *mut callout,
    ops: *const keel_lock_ops,
    lock: *mut c_void,
    flags: c_int,
    name: &str,
) {
    assert!(!c.is_null(), "{name}: no callout");
    let known = CALLOUT_TRYLOCK | CALLOUT_RETURNUNLOCKED | CALLOUT_SHAREDLOCK;
    assert!(
        flags & !known == 0,
        "{name}: unknown flags {:#x}",
        flags & !known
    );
    let lock = if lock.is_null() {
        assert!(
            flags & CALLOUT_RETURNUNLOCKED == 0,
            "{name}: CALLOUT_RETURNUNLOCKED without a lock"
        );
        Lock::NONE
    } else {
        // SAFETY: the caller's table, which outlives the callout.
        match unsafe { ops.as_ref() } {
            Some(keel_lock_ops {
                lock: Some(_),
                unlock: Some(_),
                trylock,
                ..
            }) => assert!(
                trylock.is_some() || flags & CALLOUT_TRYLOCK == 0,
                "{name}: CALLOUT_TRYLOCK, but the lock cannot be tried"
            ),
            _ => panic!("{name}: the table lacks lock or unlock"),
        }
        // SAFETY: both tables have the same layout; the rest was checked.
        unsafe { Lock::new(ops.cast(), lock) }
    };
    if cfg!(debug_assertions)
        && runtime::core().is_some_and(|core| core.callouts.is_awaited(c.cast()))
    {
        panic!("{name}: callout {c:p} is about to be executed");
    }
    // SAFETY: the caller's memory, not in use as a callout.
    unsafe { Callout::init(c.cast(), lock, flags as u8) };
}

#[inline(always)]
unsafe fn the<'a>(c: *mut callout, name: &str) -> &'a Callout {
    if c.is_null() {
        panic!("{name}: no callout");
    }
    // SAFETY: a callout by the caller's word; the layouts agree.
    unsafe { &*c.cast::<Callout>() }
}

#[inline(always)]
fn on(cpu: c_int, name: &str) -> Option<usize> {
    if cpu == -1 {
        return None;
    }
    match usize::try_from(cpu) {
        Ok(n) if n < runtime::require_core().config.nbthread => Some(n),
        _ => panic!("{name}: there is no cpu {cpu}"),
    }
}

#[inline(always)]
fn call(func: Option<Func>, arg: *mut c_void, name: &str) -> Option<Call> {
    if func.is_none() {
        panic!("{name}: no function");
    }
    Some(Call { func, arg })
}

#[inline(always)]
fn ticks(n: c_int) -> (sbintime_t, sbintime_t) {
    (callouts::tick().length * sbintime_t::from(n), 0)
}

/// Makes c an idle callout without an associated lock. mpsafe is FreeBSD's
/// and makes no difference: there is no Giant.
///
/// c must not be in use as a callout; debug builds panic if it is pending or
/// about to be executed.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_init(c: *mut callout, mpsafe: c_int) {
    let _ = mpsafe;
    // SAFETY: by the caller's word.
    unsafe {
        init(
            c,
            core::ptr::null(),
            core::ptr::null_mut(),
            0,
            "callout_init",
        )
    };
}

/// As callout_init(), with the associated mutex m; NULL: none. flags:
/// CALLOUT_RETURNUNLOCKED, CALLOUT_TRYLOCK. Other flags are a panic. The mutex
/// lives until a drain has returned.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_init_mtx(
    c: *mut callout,
    m: *mut libc::pthread_mutex_t,
    flags: c_int,
) {
    // SAFETY: by the caller's word.
    unsafe { init(c, &keel_lock_mutex, m.cast(), flags, "callout_init_mtx") };
}

/// As callout_init_mtx() with a read-write lock; with CALLOUT_SHAREDLOCK the
/// handler runs under its read side, and only a writer can prevent it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_init_rw(
    c: *mut callout,
    rw: *mut libc::pthread_rwlock_t,
    flags: c_int,
) {
    let ops = if flags & CALLOUT_SHAREDLOCK != 0 {
        &keel_lock_rwlock_shared
    } else {
        &keel_lock_rwlock
    };
    // SAFETY: by the caller's word.
    unsafe { init(c, ops, rw.cast(), flags, "callout_init_rw") };
}

/// As callout_init_mtx() with any lock, given by its operations: one of
/// keel_lock_mutex, keel_lock_rwlock, keel_lock_rwlock_shared, keel_lock_spin,
/// or the caller's own table. A lock of NULL: none.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_callout_init_lock(
    c: *mut callout,
    ops: *const keel_lock_ops,
    lock: *mut c_void,
    flags: c_int,
) {
    // SAFETY: by the caller's word.
    unsafe { init(c, ops, lock, flags, "keel_callout_init_lock") };
}

/// Arms c: fn(arg) is called ticks ticks after the last one, hence up to one
/// tick earlier than that many after the call; less than one counts as one.
/// It may be late by a sixteenth of the interval; callout_reset_sbt() can ask
/// for better. What c was armed with before is replaced. A callout that is
/// executed is armed all the same, and runs again afterwards. The associated
/// lock must be held, if there is one.
///
/// Returns 1 if this replaced an arming whose handler had not started, else 0.
/// 0 also where the arming is refused, since somebody drains c:
/// callout_pending() tells. fn NULL is a panic, and so are calls before
/// keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset(
    c: *mut callout,
    ticks: c_int,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: by the caller's word, here and below.
    unsafe {
        let c = the(c, "callout_reset");
        let call = call(r#fn, arg, "callout_reset");
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, call, None)
    }
}

/// As callout_reset(), and moves c to the cpu: a registered thread's id, -1 for
/// the cpu where it is. One that is executed moves when its handler has
/// returned. A number out of range is a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset_on(
    c: *mut callout,
    ticks: c_int,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
    cpu: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_reset_on");
        let call = call(r#fn, arg, "callout_reset_on");
        let cpu = on(cpu, "callout_reset_on");
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, call, cpu)
    }
}

/// As callout_reset_on() with the calling thread's cpu, or the default where
/// it is not registered.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset_curcpu(
    c: *mut callout,
    ticks: c_int,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_reset_curcpu");
        let call = call(r#fn, arg, "callout_reset_curcpu");
        let cpu = Some(callouts::current_cpu());
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, call, cpu)
    }
}

/// As callout_reset(), after an interval sbt, or with C_ABSOLUTE at the time
/// sbt. The handler starts between that date and precision later. Without
/// C_ABSOLUTE the precision is at least a sixteenth of the interval, or with
/// C_PREL(x) the interval >> x; see callout_when(). Dates are kept to 61
/// microseconds, rounded up.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset_sbt(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_reset_sbt");
        let call = call(r#fn, arg, "callout_reset_sbt");
        callouts::reset(c, (sbt, precision), flags, call, None)
    }
}

/// callout_reset_sbt() with the cpu of callout_reset_on(). Every other form of
/// arming is a case of this.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset_sbt_on(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
    cpu: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_reset_sbt_on");
        let call = call(r#fn, arg, "callout_reset_sbt_on");
        let cpu = on(cpu, "callout_reset_sbt_on");
        callouts::reset(c, (sbt, precision), flags, call, cpu)
    }
}

/// callout_reset_sbt() with the cpu of callout_reset_curcpu().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_reset_sbt_curcpu(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    r#fn: Option<unsafe extern "C" fn(arg: *mut c_void)>,
    arg: *mut c_void,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_reset_sbt_curcpu");
        let call = call(r#fn, arg, "callout_reset_sbt_curcpu");
        let cpu = Some(callouts::current_cpu());
        callouts::reset(c, (sbt, precision), flags, call, cpu)
    }
}

/// callout_reset() with the function and the argument of the last arming. A
/// callout that was never armed is a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule(c: *mut callout, ticks: c_int) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule");
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, None, None)
    }
}

/// callout_schedule() with the cpu of callout_reset_on().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule_on(c: *mut callout, ticks: c_int, cpu: c_int) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule_on");
        let cpu = on(cpu, "callout_schedule_on");
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, None, cpu)
    }
}

/// callout_schedule() with the cpu of callout_reset_curcpu().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule_curcpu(c: *mut callout, ticks: c_int) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule_curcpu");
        let cpu = Some(callouts::current_cpu());
        callouts::reset(c, self::ticks(ticks), C_HARDCLOCK, None, cpu)
    }
}

/// callout_reset_sbt() with the function and the argument of the last arming.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule_sbt(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule_sbt");
        callouts::reset(c, (sbt, precision), flags, None, None)
    }
}

/// callout_schedule_sbt() with the cpu of callout_reset_on().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule_sbt_on(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    cpu: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule_sbt_on");
        let cpu = on(cpu, "callout_schedule_sbt_on");
        callouts::reset(c, (sbt, precision), flags, None, cpu)
    }
}

/// callout_schedule_sbt() with the cpu of callout_reset_curcpu().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_schedule_sbt_curcpu(
    c: *mut callout,
    sbt: sbintime_t,
    precision: sbintime_t,
    flags: c_int,
) -> c_int {
    // SAFETY: as for callout_reset.
    unsafe {
        let c = the(c, "callout_schedule_sbt_curcpu");
        let cpu = Some(callouts::current_cpu());
        callouts::reset(c, (sbt, precision), flags, None, cpu)
    }
}

/// Takes back what has not started, without waiting for anything. The
/// associated lock must be held, exclusively, if there is one: then the handler
/// of the arming that was taken back will not run. That does not make it safe
/// to free anything; a drain does.
///
/// Returns 1 if an invocation that had not started was taken back and nothing
/// is executed; 0 if the handler is being executed (a next run was taken back
/// nevertheless, if there was one); -1 if there was nothing. So never
/// if (callout_stop(c)).
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_stop(c: *mut callout) -> c_int {
    // SAFETY: by the caller's word.
    unsafe { callouts::stop(the(c, "callout_stop")) }
}

/// Takes back what has not started, refuses what is armed meanwhile, and waits
/// until no handler of c is executed: afterwards nothing of keel's touches the
/// callout, its argument or its lock. The handler may free the callout while
/// the drain waits for it, but not while it begins: a handler that frees what
/// others may drain stops the callout first. The associated lock, and whatever else the handler
/// waits for, must not be held. While it waits the calling thread is harmless
/// in thread_isolate()'s sense.
///
/// Returns 1 if it took something back, else -1. Waiting inside a handler, or
/// inside the function of callout_async_drain(), is a panic.
///
/// Thread rule: *any thread*, outside of handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_drain(c: *mut callout) -> c_int {
    // SAFETY: by the caller's word.
    unsafe { callouts::drain(the(c, "callout_drain"), false) }
}

/// For those who cannot wait: takes back what has not started, and has
/// drained(arg) called when what is executed has ended, with that execution's
/// argument, on the callout's cpu, with no lock held. drained may free the
/// callout, its lock and its argument. The associated lock must be held, if
/// there is one.
///
/// Returns 0 if drained will be called, exactly once; until then nothing can be
/// armed. 1 or -1, as callout_stop(), if it will not. A second call for the same
/// execution with another function is a panic, with the same one changes
/// nothing.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_async_drain(
    c: *mut callout,
    drained: Option<unsafe extern "C" fn(arg: *mut c_void)>,
) -> c_int {
    let Some(drained) = drained else {
        panic!("callout_async_drain: no function");
    };
    // SAFETY: by the caller's word.
    unsafe { callouts::async_drain(the(c, "callout_async_drain"), drained) }
}

/// callout_drain(), after which c refuses to be armed until callout_init*().
///
/// Thread rule: *any thread*, outside of handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_callout_shutdown(c: *mut callout) -> c_int {
    // SAFETY: by the caller's word.
    unsafe { callouts::drain(the(c, "keel_callout_shutdown"), true) }
}

/// Non-zero if c has a date, also while it is executed. The answer lasts as
/// long as the associated lock is held.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_pending(c: *mut callout) -> c_int {
    // SAFETY: by the caller's word.
    c_int::from(unsafe { the(c, "callout_pending") }.is_pending())
}

/// Non-zero if c was armed and not stopped, drained or deactivated since: a mark
/// of the caller's, which the execution does not clear.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_active(c: *mut callout) -> c_int {
    // SAFETY: by the caller's word.
    c_int::from(unsafe { the(c, "callout_active") }.is_active())
}

/// Clears that mark.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_deactivate(c: *mut callout) {
    // SAFETY: by the caller's word.
    unsafe { the(c, "callout_deactivate") }.deactivate();
}

/// The date and the precision that sbt, precision and flags would be turned
/// into now, to be used with C_PRECALC. Either result may be NULL.
///
/// With C_ABSOLUTE or C_PRECALC they are unchanged. Else the date is sbt after
/// now: with C_HARDCLOCK after the last tick, and sbt at least one tick; for 16
/// ticks and more one tick and sbt after the last tick. The precision is the
/// larger of precision and sbt / 16, or with C_PREL(x) of precision and
/// sbt >> x.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn callout_when(
    sbt: sbintime_t,
    precision: sbintime_t,
    flags: c_int,
    res: *mut sbintime_t,
    prec_res: *mut sbintime_t,
) {
    let (date, precision) = callouts::date(sbt, precision, flags);
    // SAFETY: NULL or valid by the caller's word.
    unsafe {
        if let Some(res) = res.as_mut() {
            *res = date;
        }
        if let Some(res) = prec_res.as_mut() {
            *res = precision;
        }
    }
}

/// Ticks per second, as callout_reset() counts them: callout_hz of
/// struct keel_config, 1000 before keel_init(). A tick lasts SBT_1S divided by
/// that, rounded down.
///
/// Thread rule: *any thread*, *async-signal-safe*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_callout_hz() -> c_uint {
    callouts::hz()
}

/// Runs what is due on the cpu, for servers with their own loop: run_poll_loop()
/// and keel_poll_once() do it by themselves. Usually the thread registered as
/// cpu calls it. While another thread is in it for the same cpu it returns at
/// once. From within a handler of that cpu it is a panic, as it is after one
/// was left by a jump. keel_next_deadline_ns() tells when to come back.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softclock(cpu: c_uint) {
    let n = runtime::require_core().config.nbthread;
    assert!((cpu as usize) < n, "softclock: there is no cpu {cpu}");
    callouts::softclock(cpu as usize);
}

/// Starts n threads that serve callouts, for programs without a loop. They
/// register under the lowest ids that are free, inherit the signal mask, and
/// end with keel_deinit(), not with keel_stop().
///
/// Returns 0; -EINVAL where n is 0 or more than nbthread, or before
/// keel_init(); -EBUSY where fewer ids are free; -EAGAIN where a thread could
/// not be started; -EMFILE, -ENFILE or -ENOMEM where its poller cannot be made.
/// On failure none is left behind.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_callout_start_threads(n: c_uint) -> c_int {
    runtime::start_threads(n as usize)
}

/// Writes one line per callout cpu to the descriptor fd: what is pending, when
/// the next is due, what happened so far, what it executes or executed last.
///
/// Returns the bytes written or a negative errno; -EINVAL before keel_init().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_dump_callouts(fd: c_int) -> c_int {
    match runtime::core() {
        Some(core) => dump(&core.callouts, callouts::now_sbt(), fd),
        None => -EINVAL,
    }
}
