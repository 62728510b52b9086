/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/callout.h: functions that are called at a date, after FreeBSD's
 * callout(9).
 *
 * A callout is armed with a date, a function and an argument; the function,
 * its handler, is called on a callout cpu: a thread registered with keel, each
 * of which has a wheel of its own. The loop serves them; so do softclock() and
 * the threads of keel_callout_start_threads().
 *
 * A callout may have an associated lock. Its handler then runs under that
 * lock, and whoever holds it and stops or resets the callout knows that the
 * handler of the former arming will not run. Only a drain tells that nobody
 * touches the callout, its argument and its lock any more, so that they may be
 * freed.
 *
 * The default cpu is 0; while no thread is registered as 0 the lowest that is
 * stands in for it. Arming for a cpu where nobody is registered arms on the
 * default cpu, callouts of a thread that leaves move there, and with no thread
 * at all they wait for the first that comes.
 *
 * The child of a fork() may go on using callouts: what was pending is pending
 * there, what another thread was executing counts as over, and the drain
 * functions of such executions are not called.
 *
 * Differences from FreeBSD: there is no Giant; the active mark is cleared by
 * every stop and drain; stop tells the truth while softclock waits for the
 * associated lock or has just left it; an asynchronous drain prevents a handler
 * that waits for the lock; a drain takes at most one run of the handler, and
 * counts a re-arming that it removed; a drain that would wait inside a handler
 * is a panic, and so is a second asynchronous drain with another function;
 * C_DIRECT_EXEC means "before what else is due", in the same slot; schedule
 * reads function, argument and cpu under the lock; locks are given as tables of
 * operations; cpus come and go.
 *
 * Made from src/abi/callout.rs: edit that.
 */
#ifndef KEEL_CALLOUT_H
#define KEEL_CALLOUT_H

#include <stdint.h>
#include <pthread.h>

/* Strict C without POSIX hides the type: there nobody has such a lock. */
#ifndef PTHREAD_RWLOCK_INITIALIZER
typedef struct keel_no_rwlock pthread_rwlock_t;
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct keel_config;

/** Run before what else is due. */
#define C_DIRECT_EXEC 0x0001

/** Count the interval from the last tick. */
#define C_HARDCLOCK 0x0100

/** The time is absolute, and the precision used as it is given. */
#define C_ABSOLUTE 0x0200

/** Time and precision come from callout_when(). */
#define C_PRECALC 0x0400

/** Accepted and without a meaning here. */
#define C_CATCH 0x0800

/**
 * For init: the lock is tried instead of waited for. While it is taken the
 * callout is put off by half its precision, at least 61 microseconds. For
 * locks that are held long, and where nothing but the stop can tell that the
 * lock may go.
 */
#define CALLOUT_TRYLOCK 0x0001

/** FreeBSD's name of the caller's mark; see callout_active(). */
#define CALLOUT_ACTIVE 0x0002

/** FreeBSD's name of the state that callout_pending() tells. */
#define CALLOUT_PENDING 0x0004

/** A non-zero argument for callout_init(). */
#define CALLOUT_MPSAFE 0x0008

/** For init: the handler frees the associated lock itself. */
#define CALLOUT_RETURNUNLOCKED 0x0010

/**
 * For init: the handler runs under the read side of the lock. Ignored for
 * locks that have none.
 */
#define CALLOUT_SHAREDLOCK 0x0020

/** FreeBSD's name of an internal state; never set or taken here. */
#define CALLOUT_LOCAL_ALLOC 0x0001

/** FreeBSD's name of an internal state; never set or taken here. */
#define CALLOUT_DFRMIGRATION 0x0040

/** FreeBSD's name of an internal state; never set or taken here. */
#define CALLOUT_PROCESSED 0x0080

/** FreeBSD's name of an internal state; never set or taken here. */
#define CALLOUT_DIRECT 0x0100

/**
 * A callout: public size, private fields. It belongs to the caller, in whose
 * objects it is embedded, and stays where it is from init to the last drain.
 * All zeroes is a callout without a lock that was never armed.
 */
struct callout {
    /** The library's. */
    uint64_t keel_private[16];
};

/**
 * What can be done with a caller's lock. The table outlives the callouts that
 * use it.
 */
struct keel_lock_ops {
    /** Waits for the lock and takes it. */
    void (*lock)(void *lock);
    /** Frees the lock. */
    void (*unlock)(void *lock);
    /**
     * Takes the lock if it is free: non-zero if so. Never waits; may be called
     * with a lock of keel's held, so it calls nothing of keel. NULL: the lock
     * cannot be tried.
     */
    int (*trylock)(void *lock);
    /**
     * Non-zero if the calling thread holds the lock, exclusively if it can be
     * shared. NULL: nobody can tell. With it, a stop without the lock and a
     * drain that would wait with it are panics.
     */
    int (*owned)(void *lock);
};

/** Seconds of CLOCK_MONOTONIC in 32.32 fixed point. */
typedef int64_t sbintime_t;

/** For a pthread_mutex_t. */
extern const struct keel_lock_ops keel_lock_mutex;

/** For the write side of a pthread_rwlock_t. */
extern const struct keel_lock_ops keel_lock_rwlock;

/** For the read side of a pthread_rwlock_t. */
extern const struct keel_lock_ops keel_lock_rwlock_shared;

/** For a pthread_spinlock_t. */
extern const struct keel_lock_ops keel_lock_spin;

/**
 * Makes c an idle callout without an associated lock. mpsafe is FreeBSD's
 * and makes no difference: there is no Giant.
 *
 * c must not be in use as a callout; debug builds panic if it is pending or
 * about to be executed.
 *
 * Thread rule: *any thread*.
 */
void callout_init(struct callout *c, int mpsafe);

/**
 * As callout_init(), with the associated mutex m; NULL: none. flags:
 * CALLOUT_RETURNUNLOCKED, CALLOUT_TRYLOCK. Other flags are a panic. The mutex
 * lives until a drain has returned.
 *
 * Thread rule: *any thread*.
 */
void callout_init_mtx(struct callout *c, pthread_mutex_t *m, int flags);

/**
 * As callout_init_mtx() with a read-write lock; with CALLOUT_SHAREDLOCK the
 * handler runs under its read side, and only a writer can prevent it.
 *
 * Thread rule: *any thread*.
 */
void callout_init_rw(struct callout *c, pthread_rwlock_t *rw, int flags);

/**
 * As callout_init_mtx() with any lock, given by its operations: one of
 * keel_lock_mutex, keel_lock_rwlock, keel_lock_rwlock_shared, keel_lock_spin,
 * or the caller's own table. A lock of NULL: none.
 *
 * Thread rule: *any thread*.
 */
void keel_callout_init_lock(struct callout *c,
                            const struct keel_lock_ops *ops,
                            void *lock,
                            int flags);

/**
 * Arms c: fn(arg) is called ticks ticks after the last one, hence up to one
 * tick earlier than that many after the call; less than one counts as one.
 * It may be late by a sixteenth of the interval; callout_reset_sbt() can ask
 * for better. What c was armed with before is replaced. A callout that is
 * executed is armed all the same, and runs again afterwards. The associated
 * lock must be held, if there is one.
 *
 * Returns 1 if this replaced an arming whose handler had not started, else 0.
 * 0 also where the arming is refused, since somebody drains c:
 * callout_pending() tells. fn NULL is a panic, and so are calls before
 * keel_init().
 *
 * Thread rule: *any thread*.
 */
int callout_reset(struct callout *c, int ticks, void (*fn)(void *arg), void *arg);

/**
 * As callout_reset(), and moves c to the cpu: a registered thread's id, -1 for
 * the cpu where it is. One that is executed moves when its handler has
 * returned. A number out of range is a panic.
 *
 * Thread rule: *any thread*.
 */
int callout_reset_on(struct callout *c, int ticks, void (*fn)(void *arg), void *arg, int cpu);

/**
 * As callout_reset_on() with the calling thread's cpu, or the default where
 * it is not registered.
 *
 * Thread rule: *any thread*.
 */
int callout_reset_curcpu(struct callout *c, int ticks, void (*fn)(void *arg), void *arg);

/**
 * As callout_reset(), after an interval sbt, or with C_ABSOLUTE at the time
 * sbt. The handler starts between that date and precision later. Without
 * C_ABSOLUTE the precision is at least a sixteenth of the interval, or with
 * C_PREL(x) the interval >> x; see callout_when(). Dates are kept to 61
 * microseconds, rounded up.
 *
 * Thread rule: *any thread*.
 */
int callout_reset_sbt(struct callout *c,
                      sbintime_t sbt,
                      sbintime_t precision,
                      void (*fn)(void *arg),
                      void *arg,
                      int flags);

/**
 * callout_reset_sbt() with the cpu of callout_reset_on(). Every other form of
 * arming is a case of this.
 *
 * Thread rule: *any thread*.
 */
int callout_reset_sbt_on(struct callout *c,
                         sbintime_t sbt,
                         sbintime_t precision,
                         void (*fn)(void *arg),
                         void *arg,
                         int cpu,
                         int flags);

/**
 * callout_reset_sbt() with the cpu of callout_reset_curcpu().
 *
 * Thread rule: *any thread*.
 */
int callout_reset_sbt_curcpu(struct callout *c,
                             sbintime_t sbt,
                             sbintime_t precision,
                             void (*fn)(void *arg),
                             void *arg,
                             int flags);

/**
 * callout_reset() with the function and the argument of the last arming. A
 * callout that was never armed is a panic.
 *
 * Thread rule: *any thread*.
 */
int callout_schedule(struct callout *c, int ticks);

/**
 * callout_schedule() with the cpu of callout_reset_on().
 *
 * Thread rule: *any thread*.
 */
int callout_schedule_on(struct callout *c, int ticks, int cpu);

/**
 * callout_schedule() with the cpu of callout_reset_curcpu().
 *
 * Thread rule: *any thread*.
 */
int callout_schedule_curcpu(struct callout *c, int ticks);

/**
 * callout_reset_sbt() with the function and the argument of the last arming.
 *
 * Thread rule: *any thread*.
 */
int callout_schedule_sbt(struct callout *c, sbintime_t sbt, sbintime_t precision, int flags);

/**
 * callout_schedule_sbt() with the cpu of callout_reset_on().
 *
 * Thread rule: *any thread*.
 */
int callout_schedule_sbt_on(struct callout *c,
                            sbintime_t sbt,
                            sbintime_t precision,
                            int cpu,
                            int flags);

/**
 * callout_schedule_sbt() with the cpu of callout_reset_curcpu().
 *
 * Thread rule: *any thread*.
 */
int callout_schedule_sbt_curcpu(struct callout *c, sbintime_t sbt, sbintime_t precision, int flags);

/**
 * Takes back what has not started, without waiting for anything. The
 * associated lock must be held, exclusively, if there is one: then the handler
 * of the arming that was taken back will not run. That does not make it safe
 * to free anything; a drain does.
 *
 * Returns 1 if an invocation that had not started was taken back and nothing
 * is executed; 0 if the handler is being executed (a next run was taken back
 * nevertheless, if there was one); -1 if there was nothing. So never
 * if (callout_stop(c)).
 *
 * Thread rule: *any thread*.
 */
int callout_stop(struct callout *c);

/**
 * Takes back what has not started, refuses what is armed meanwhile, and waits
 * until no handler of c is executed: afterwards nothing of keel's touches the
 * callout, its argument or its lock. The handler may free the callout while
 * the drain waits for it, but not while it begins: a handler that frees what
 * others may drain stops the callout first. The associated lock, and whatever else the handler
 * waits for, must not be held. While it waits the calling thread is harmless
 * in thread_isolate()'s sense.
 *
 * Returns 1 if it took something back, else -1. Waiting inside a handler, or
 * inside the function of callout_async_drain(), is a panic.
 *
 * Thread rule: *any thread*, outside of handlers.
 */
int callout_drain(struct callout *c);

/**
 * For those who cannot wait: takes back what has not started, and has
 * drained(arg) called when what is executed has ended, with that execution's
 * argument, on the callout's cpu, with no lock held. drained may free the
 * callout, its lock and its argument. The associated lock must be held, if
 * there is one.
 *
 * Returns 0 if drained will be called, exactly once; until then nothing can be
 * armed. 1 or -1, as callout_stop(), if it will not. A second call for the same
 * execution with another function is a panic, with the same one changes
 * nothing.
 *
 * Thread rule: *any thread*.
 */
int callout_async_drain(struct callout *c, void (*drained)(void *arg));

/**
 * callout_drain(), after which c refuses to be armed until callout_init*().
 *
 * Thread rule: *any thread*, outside of handlers.
 */
int keel_callout_shutdown(struct callout *c);

/**
 * Non-zero if c has a date, also while it is executed. The answer lasts as
 * long as the associated lock is held.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
int callout_pending(struct callout *c);

/**
 * Non-zero if c was armed and not stopped, drained or deactivated since: a mark
 * of the caller's, which the execution does not clear.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
int callout_active(struct callout *c);

/**
 * Clears that mark.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
void callout_deactivate(struct callout *c);

/**
 * The date and the precision that sbt, precision and flags would be turned
 * into now, to be used with C_PRECALC. Either result may be NULL.
 *
 * With C_ABSOLUTE or C_PRECALC they are unchanged. Else the date is sbt after
 * now: with C_HARDCLOCK after the last tick, and sbt at least one tick; for 16
 * ticks and more one tick and sbt after the last tick. The precision is the
 * larger of precision and sbt / 16, or with C_PREL(x) of precision and
 * sbt >> x.
 *
 * Thread rule: *any thread*.
 */
void callout_when(sbintime_t sbt,
                  sbintime_t precision,
                  int flags,
                  sbintime_t *res,
                  sbintime_t *prec_res);

/**
 * Ticks per second, as callout_reset() counts them: callout_hz of
 * struct keel_config, 1000 before keel_init(). A tick lasts SBT_1S divided by
 * that, rounded down.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int keel_callout_hz(void);

/**
 * Runs what is due on the cpu, for servers with their own loop: run_poll_loop()
 * and keel_poll_once() do it by themselves. Usually the thread registered as
 * cpu calls it. While another thread is in it for the same cpu it returns at
 * once. From within a handler of that cpu it is a panic, as it is after one
 * was left by a jump. keel_next_deadline_ns() tells when to come back.
 *
 * Thread rule: *any thread*.
 */
void softclock(unsigned int cpu);

/**
 * Starts n threads that serve callouts, for programs without a loop. They
 * register under the lowest ids that are free, inherit the signal mask, and
 * end with keel_deinit(), not with keel_stop().
 *
 * Returns 0; -EINVAL where n is 0 or more than nbthread, or before
 * keel_init(); -EBUSY where fewer ids are free; -EAGAIN where a thread could
 * not be started; -EMFILE, -ENFILE or -ENOMEM where its poller cannot be made.
 * On failure none is left behind.
 *
 * Thread rule: *any thread*.
 */
int keel_callout_start_threads(unsigned int n);

/**
 * Writes one line per callout cpu to the descriptor fd: what is pending, when
 * the next is due, what happened so far, what it executes or executed last.
 *
 * Returns the bytes written or a negative errno; -EINVAL before keel_init().
 *
 * Thread rule: *any thread*.
 */
int keel_dump_callouts(int fd);

/* The type of handlers, as FreeBSD names it. */
typedef void callout_func_t(void *);

/* sbintime_t's units. All but the first two are cut off: multiply the seconds, or
 * shift last, never add up many of the small ones. */
#define SBT_1S  ((sbintime_t)1 << 32)
#define SBT_1M  (SBT_1S * 60)
#define SBT_1MS (SBT_1S / 1000)
#define SBT_1US (SBT_1S / 1000000)
#define SBT_1NS (SBT_1S / 1000000000)
#define SBT_MAX ((sbintime_t)0x7fffffffffffffffLL)

/* The precision as a fraction of the interval: interval >> x, x from 0 to 126. */
#define C_PREL(x)            (((x) + 1) << 1)
#define C_PRELGET(x)         ((((x) >> 1) & 0x7f) - 1)

#ifdef __cplusplus
}
#endif

#endif /* KEEL_CALLOUT_H */
