/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/compat/freebsd.h: lets callout code that was written for FreeBSD's
 * kernel compile unchanged. docs/porting-freebsd.md says what differs.
 *
 *   struct mtx, struct rwlock, struct cv, and what takes and asserts them
 *   callout_init_mtx(), _rw() and _lock() for these, in place of those of
 *   keel/callout.h for pthread locks (in parentheses, the name still means
 *   that one: (callout_init_mtx)(c, &pthread_mutex, 0))
 *   hz, ticks, tick_sbt, sbinuptime() and the conversions of sbintime_t
 *   curcpu, mp_ncpus, CPU_FOREACH(); KASSERT(), MPASS(), panic()
 *   with KEEL_COMPAT_MALLOC defined: malloc(9) and free(9), instead of libc's
 *
 * It defines short names, hz and ticks among them: include it after all other
 * headers, in the files that need it, and never together with <threads.h>.
 *
 * The assertions (KASSERT, mtx_assert, rw_assert, a lock that was never
 * initialised) are there unless NDEBUG is defined; INVARIANTS tells.
 */
#ifndef KEEL_COMPAT_FREEBSD_H
#define KEEL_COMPAT_FREEBSD_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>

/* All of them, before ticks and hz mean something else. */
#include <keel/callout.h>
#include <keel/keel.h>

#if !defined(NDEBUG) && !defined(INVARIANTS)
#define INVARIANTS 1
#endif

/* What glibc's <sys/queue.h> lacks: loops whose body may remove <var>. */
#ifndef SLIST_FOREACH_SAFE
#define SLIST_FOREACH_SAFE(var, head, field, next) KEEL_FOREACH_SAFE(var, SLIST_FIRST(head), SLIST_NEXT(var, field), next)
#endif
#ifndef LIST_FOREACH_SAFE
#define LIST_FOREACH_SAFE(var, head, field, next) KEEL_FOREACH_SAFE(var, LIST_FIRST(head), LIST_NEXT(var, field), next)
#endif
#ifndef STAILQ_FOREACH_SAFE
#define STAILQ_FOREACH_SAFE(var, head, field, next) KEEL_FOREACH_SAFE(var, STAILQ_FIRST(head), STAILQ_NEXT(var, field), next)
#endif
#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, next) KEEL_FOREACH_SAFE(var, TAILQ_FIRST(head), TAILQ_NEXT(var, field), next)
#endif
#define KEEL_FOREACH_SAFE(var, first, following, next) \
    for ((var) = (first); (var) != NULL && ((next) = (following), 1); (var) = (next))

#ifdef __cplusplus
extern "C" {
#endif

/* --- panics and assertions -------------------------------------------------- */

/** Ends the process with a message on stderr. */
__attribute__((noreturn, format(printf, 1, 2)))
static inline void keel_compat_panic(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("panic: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

#define panic(...) keel_compat_panic(__VA_ARGS__)

/** <msg> comes in parentheses of its own: KASSERT(n > 0, ("n is %d", n)). */
#ifdef INVARIANTS
#define KASSERT(exp, msg) do { if (!(exp)) keel_compat_panic msg; } while (0)
#else
#define KASSERT(exp, msg) do { } while (0)
#endif
#define MPASS(exp) MPASS4(exp, #exp, __FILE__, __LINE__)
#define MPASS2(exp, what) MPASS4(exp, what, __FILE__, __LINE__)
#define MPASS3(exp, file, line) MPASS4(exp, #exp, file, line)
#define MPASS4(exp, what, file, line) KASSERT((exp), ("assertion %s failed at %s:%d", what, file, line))

/* The calling thread, as a number that is never 0. */
static inline uintptr_t keel_compat_self(void)
{
    return (uintptr_t)pthread_self();
}

/* --- mutexes ------------------------------------------------------------------ */

/** Options of mtx_init(). Those marked so mean nothing here. */
#define MTX_DEF       0x0000
#define MTX_SPIN      0x0001  /* sleeps as the others do; mtx_lock_spin() takes it */
#define MTX_RECURSE   0x0004
#define MTX_NOWITNESS 0x0008  /* nothing */
#define MTX_NOPROFILE 0x0020  /* nothing */
#define MTX_NEW       0x0040  /* nothing: mtx_init() never looks at what was there */
#define MTX_QUIET     0x0080  /* nothing */
#define MTX_DUPOK     0x0100  /* nothing */

/** What mtx_assert() may be asked. */
#define MA_OWNED       0x01
#define MA_NOTOWNED    0x02
#define MA_RECURSED    0x04
#define MA_NOTRECURSED 0x08

/** A mutex that knows its owner. All fields are private. */
struct mtx {
    pthread_mutex_t mutex;
    uintptr_t owner;        /* 0: nobody; written by who holds the mutex */
    unsigned int recursed;  /* under the mutex */
    unsigned int magic;
    int opts;
    const char *name;
};

#define KEEL_MTX_MAGIC 0x6b6d7478u

static inline int keel_mtx_initialized(const struct mtx *m)
{
    return m->magic == KEEL_MTX_MAGIC;
}

/* Nobody but the calling thread writes the calling thread's number there. */
static inline int keel_mtx_owned(const struct mtx *m)
{
    return __atomic_load_n(&m->owner, __ATOMIC_RELAXED) == keel_compat_self();
}

static inline void keel_mtx_check(const struct mtx *m, const char *file, int line)
{
    KASSERT(keel_mtx_initialized(m), ("mutex %p used at %s:%d is not initialised", (const void *)m, file, line));
    (void)m, (void)file, (void)line;
}

static inline void keel_mtx_check_kind(const struct mtx *m, int spin, const char *file, int line)
{
    keel_mtx_check(m, file, line);
    KASSERT((m->opts & MTX_SPIN) == spin,
            ("%s mutex %s used as the other kind at %s:%d", spin ? "sleep" : "spin", m->name, file, line));
    (void)spin;
}

static inline void keel_mtx_init(struct mtx *m, const char *name, const char *type, int opts)
{
    int error = pthread_mutex_init(&m->mutex, NULL);

    (void)type;
    if (error != 0)
        keel_compat_panic("mutex %s cannot be initialised: error %d", name, error);
    m->owner = 0;
    m->recursed = 0;
    m->opts = opts;
    m->name = name != NULL ? name : "(unnamed)";
    m->magic = KEEL_MTX_MAGIC;
}

static inline void keel_mtx_acquire(struct mtx *m, const char *file, int line)
{
    if (keel_mtx_owned(m)) {
        if (!(m->opts & MTX_RECURSE))
            keel_compat_panic("mutex %s locked by its owner at %s:%d", m->name, file, line);
        m->recursed++;
        return;
    }
    (void)pthread_mutex_lock(&m->mutex);
    __atomic_store_n(&m->owner, keel_compat_self(), __ATOMIC_RELAXED);
}

static inline int keel_mtx_try(struct mtx *m)
{
    if (keel_mtx_owned(m)) {
        if (!(m->opts & MTX_RECURSE))
            return 0;
        m->recursed++;
        return 1;
    }
    if (pthread_mutex_trylock(&m->mutex) != 0)
        return 0;
    __atomic_store_n(&m->owner, keel_compat_self(), __ATOMIC_RELAXED);
    return 1;
}

static inline void keel_mtx_release(struct mtx *m, const char *file, int line)
{
    if (!keel_mtx_owned(m))
        keel_compat_panic("mutex %s unlocked at %s:%d by who does not hold it", m->name, file, line);
    if (m->recursed > 0) {
        m->recursed--;
        return;
    }
    __atomic_store_n(&m->owner, (uintptr_t)0, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&m->mutex);
}

static inline void keel_mtx_lock(struct mtx *m, int spin, const char *file, int line)
{
    keel_mtx_check_kind(m, spin, file, line);
    keel_mtx_acquire(m, file, line);
}

static inline int keel_mtx_trylock(struct mtx *m, int spin, const char *file, int line)
{
    keel_mtx_check_kind(m, spin, file, line);
    return keel_mtx_try(m);
}

static inline void keel_mtx_unlock(struct mtx *m, int spin, const char *file, int line)
{
    keel_mtx_check_kind(m, spin, file, line);
    keel_mtx_release(m, file, line);
}

static inline int keel_mtx_recursed(const struct mtx *m)
{
    return keel_mtx_owned(m) && m->recursed > 0;
}

static inline void keel_mtx_assert(const struct mtx *m, int what, const char *file, int line)
{
    keel_mtx_check(m, file, line);
    if (what & MA_OWNED) {
        if (!keel_mtx_owned(m))
            keel_compat_panic("mutex %s not owned at %s:%d", m->name, file, line);
        if ((what & MA_RECURSED) && !keel_mtx_recursed(m))
            keel_compat_panic("mutex %s not recursed at %s:%d", m->name, file, line);
        if ((what & MA_NOTRECURSED) && keel_mtx_recursed(m))
            keel_compat_panic("mutex %s recursed at %s:%d", m->name, file, line);
    } else if (what == MA_NOTOWNED) {
        if (keel_mtx_owned(m))
            keel_compat_panic("mutex %s owned at %s:%d", m->name, file, line);
    } else {
        keel_compat_panic("mtx_assert(%s, %#x) at %s:%d asks nothing", m->name, (unsigned int)what, file, line);
    }
}

/* Its owner may destroy it, as long as it is not recursed. */
static inline void keel_mtx_destroy(struct mtx *m, const char *file, int line)
{
    keel_mtx_check(m, file, line);
    if (keel_mtx_recursed(m))
        keel_compat_panic("mutex %s destroyed while recursed at %s:%d", m->name, file, line);
    if (keel_mtx_owned(m))
        keel_mtx_release(m, file, line);
    if (__atomic_load_n(&m->owner, __ATOMIC_RELAXED) != 0 || pthread_mutex_destroy(&m->mutex) != 0)
        keel_compat_panic("mutex %s destroyed while held at %s:%d", m->name, file, line);
    m->magic = 0;
}

#define mtx_init(m, name, type, opts) keel_mtx_init((m), (name), (type), (opts))
#define mtx_destroy(m)         keel_mtx_destroy((m), __FILE__, __LINE__)
#define mtx_initialized(m)     keel_mtx_initialized(m)
#define mtx_name(m)            ((m)->name)
#define mtx_lock(m)            keel_mtx_lock((m), 0, __FILE__, __LINE__)
#define mtx_trylock(m)         keel_mtx_trylock((m), 0, __FILE__, __LINE__)
#define mtx_unlock(m)          keel_mtx_unlock((m), 0, __FILE__, __LINE__)
#define mtx_lock_spin(m)       keel_mtx_lock((m), MTX_SPIN, __FILE__, __LINE__)
#define mtx_trylock_spin(m)    keel_mtx_trylock((m), MTX_SPIN, __FILE__, __LINE__)
#define mtx_unlock_spin(m)     keel_mtx_unlock((m), MTX_SPIN, __FILE__, __LINE__)
#define mtx_lock_flags(m, f)   ((void)(f), mtx_lock(m))
#define mtx_unlock_flags(m, f) ((void)(f), mtx_unlock(m))
#define mtx_owned(m)           keel_mtx_owned(m)
#define mtx_recursed(m)        keel_mtx_recursed(m)
#ifdef INVARIANTS
#define mtx_assert(m, what)    keel_mtx_assert((m), (what), __FILE__, __LINE__)
#else
#define mtx_assert(m, what)    ((void)0)
#endif

/** Initialises a mutex of static storage before main(). */
#define MTX_SYSINIT(id, m, desc, opts) \
    __attribute__((constructor)) static void keel_mtx_sysinit_##id(void) \
    { \
        keel_mtx_init((m), (desc), NULL, (opts)); \
    } \
    struct keel_mtx_sysinit_##id

/* --- reader/writer locks -------------------------------------------------------- */

/** Options of rw_init_flags(). The others than RW_RECURSE mean nothing here. */
#define RW_RECURSE   0x0004
#define RW_NOWITNESS 0x0008
#define RW_NOPROFILE 0x0020
#define RW_NEW       0x0040
#define RW_QUIET     0x0080
#define RW_DUPOK     0x0100

/** What rw_assert() may be asked. That this very thread is among the readers is not known. */
#define RA_LOCKED      0x01
#define RA_RLOCKED     0x02
#define RA_WLOCKED     0x04
#define RA_UNLOCKED    0x08
#define RA_RECURSED    0x10
#define RA_NOTRECURSED 0x20

/**
 * A reader/writer lock that knows its writer. All fields are private.
 *
 * Readers do not wait for waiting writers, so that a reader may become one
 * twice; readers that never leave it all free starve the writers.
 */
struct rwlock {
    pthread_mutex_t gate;
    pthread_cond_t freed;
    uintptr_t writer;       /* 0: nobody; changes under the gate */
    unsigned int readers;   /* under the gate */
    unsigned int recursed;  /* the writer's */
    unsigned int magic;
    int opts;
    const char *name;
};

#define KEEL_RW_MAGIC 0x6b72776cu

static inline int keel_rw_initialized(const struct rwlock *rw)
{
    return rw->magic == KEEL_RW_MAGIC;
}

static inline int keel_rw_wowned(const struct rwlock *rw)
{
    return __atomic_load_n(&rw->writer, __ATOMIC_RELAXED) == keel_compat_self();
}

static inline void keel_rw_check(const struct rwlock *rw, const char *file, int line)
{
    KASSERT(keel_rw_initialized(rw), ("rwlock %p used at %s:%d is not initialised", (const void *)rw, file, line));
    (void)rw, (void)file, (void)line;
}

static inline void keel_rw_init(struct rwlock *rw, const char *name, int opts)
{
    int error = pthread_mutex_init(&rw->gate, NULL);

    if (error == 0)
        error = pthread_cond_init(&rw->freed, NULL);
    if (error != 0)
        keel_compat_panic("rwlock %s cannot be initialised: error %d", name, error);
    rw->writer = 0;
    rw->readers = 0;
    rw->recursed = 0;
    rw->opts = opts;
    rw->name = name != NULL ? name : "(unnamed)";
    rw->magic = KEEL_RW_MAGIC;
}

/* The gate is held, here and below. */
static inline void keel_rw_set_writer(struct rwlock *rw, uintptr_t writer)
{
    __atomic_store_n(&rw->writer, writer, __ATOMIC_RELAXED);
}

static inline int keel_rw_readable(const struct rwlock *rw)
{
    return __atomic_load_n(&rw->writer, __ATOMIC_RELAXED) == 0;
}

static inline int keel_rw_writable(const struct rwlock *rw)
{
    return keel_rw_readable(rw) && rw->readers == 0;
}

static inline void keel_rw_rlock(struct rwlock *rw, const char *file, int line)
{
    keel_rw_check(rw, file, line);
    if (keel_rw_wowned(rw))
        keel_compat_panic("rwlock %s locked for reading by its writer at %s:%d", rw->name, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    while (!keel_rw_readable(rw))
        (void)pthread_cond_wait(&rw->freed, &rw->gate);
    rw->readers++;
    (void)pthread_mutex_unlock(&rw->gate);
}

static inline int keel_rw_try_rlock(struct rwlock *rw, const char *file, int line)
{
    int got;

    keel_rw_check(rw, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    got = keel_rw_readable(rw);
    if (got)
        rw->readers++;
    (void)pthread_mutex_unlock(&rw->gate);
    return got;
}

static inline void keel_rw_runlock(struct rwlock *rw, const char *file, int line)
{
    keel_rw_check(rw, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    if (rw->readers == 0)
        keel_compat_panic("rwlock %s, which nobody reads, unlocked at %s:%d", rw->name, file, line);
    if (--rw->readers == 0)
        (void)pthread_cond_broadcast(&rw->freed);
    (void)pthread_mutex_unlock(&rw->gate);
}

static inline void keel_rw_wlock(struct rwlock *rw, const char *file, int line)
{
    keel_rw_check(rw, file, line);
    if (keel_rw_wowned(rw)) {
        if (!(rw->opts & RW_RECURSE))
            keel_compat_panic("rwlock %s locked by its writer at %s:%d", rw->name, file, line);
        rw->recursed++;
        return;
    }
    (void)pthread_mutex_lock(&rw->gate);
    while (!keel_rw_writable(rw))
        (void)pthread_cond_wait(&rw->freed, &rw->gate);
    keel_rw_set_writer(rw, keel_compat_self());
    (void)pthread_mutex_unlock(&rw->gate);
}

static inline int keel_rw_try_wlock(struct rwlock *rw, const char *file, int line)
{
    int got;

    keel_rw_check(rw, file, line);
    if (keel_rw_wowned(rw)) {
        if (!(rw->opts & RW_RECURSE))
            return 0;
        rw->recursed++;
        return 1;
    }
    (void)pthread_mutex_lock(&rw->gate);
    got = keel_rw_writable(rw);
    if (got)
        keel_rw_set_writer(rw, keel_compat_self());
    (void)pthread_mutex_unlock(&rw->gate);
    return got;
}

static inline void keel_rw_wunlock(struct rwlock *rw, const char *file, int line)
{
    keel_rw_check(rw, file, line);
    if (!keel_rw_wowned(rw))
        keel_compat_panic("rwlock %s unlocked at %s:%d by who does not write", rw->name, file, line);
    if (rw->recursed > 0) {
        rw->recursed--;
        return;
    }
    (void)pthread_mutex_lock(&rw->gate);
    keel_rw_set_writer(rw, 0);
    (void)pthread_cond_broadcast(&rw->freed);
    (void)pthread_mutex_unlock(&rw->gate);
}

static inline void keel_rw_unlock(struct rwlock *rw, const char *file, int line)
{
    if (keel_rw_wowned(rw))
        keel_rw_wunlock(rw, file, line);
    else
        keel_rw_runlock(rw, file, line);
}

static inline int keel_rw_try_upgrade(struct rwlock *rw, const char *file, int line)
{
    int got;

    keel_rw_check(rw, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    got = keel_rw_readable(rw) && rw->readers == 1;
    if (got) {
        rw->readers = 0;
        keel_rw_set_writer(rw, keel_compat_self());
    }
    (void)pthread_mutex_unlock(&rw->gate);
    return got;
}

static inline void keel_rw_downgrade(struct rwlock *rw, const char *file, int line)
{
    keel_rw_check(rw, file, line);
    if (!keel_rw_wowned(rw) || rw->recursed > 0)
        keel_compat_panic("rwlock %s downgraded at %s:%d, but not held once for writing", rw->name, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    keel_rw_set_writer(rw, 0);
    rw->readers = 1;
    (void)pthread_cond_broadcast(&rw->freed);
    (void)pthread_mutex_unlock(&rw->gate);
}

static inline void keel_rw_assert(struct rwlock *rw, int what, const char *file, int line)
{
    int writer = keel_rw_wowned(rw), reader;

    keel_rw_check(rw, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    reader = rw->readers > 0;
    (void)pthread_mutex_unlock(&rw->gate);
    if ((what & RA_LOCKED) && !writer && !reader)
        keel_compat_panic("rwlock %s not locked at %s:%d", rw->name, file, line);
    if ((what & RA_RLOCKED) && !reader)
        keel_compat_panic("rwlock %s not read-locked at %s:%d", rw->name, file, line);
    if ((what & RA_WLOCKED) && !writer)
        keel_compat_panic("rwlock %s not write-locked at %s:%d", rw->name, file, line);
    if ((what & RA_UNLOCKED) && writer)
        keel_compat_panic("rwlock %s locked at %s:%d", rw->name, file, line);
    if ((what & RA_RECURSED) && !(writer && rw->recursed > 0))
        keel_compat_panic("rwlock %s not recursed at %s:%d", rw->name, file, line);
    if ((what & RA_NOTRECURSED) && writer && rw->recursed > 0)
        keel_compat_panic("rwlock %s recursed at %s:%d", rw->name, file, line);
}

static inline void keel_rw_destroy(struct rwlock *rw, const char *file, int line)
{
    int used;

    keel_rw_check(rw, file, line);
    (void)pthread_mutex_lock(&rw->gate);
    used = !keel_rw_writable(rw);
    (void)pthread_mutex_unlock(&rw->gate);
    if (used || pthread_cond_destroy(&rw->freed) != 0 || pthread_mutex_destroy(&rw->gate) != 0)
        keel_compat_panic("rwlock %s destroyed while held at %s:%d", rw->name, file, line);
    rw->magic = 0;
}

#define rw_init(rw, name)             keel_rw_init((rw), (name), 0)
#define rw_init_flags(rw, name, opts) keel_rw_init((rw), (name), (opts))
#define rw_destroy(rw)                keel_rw_destroy((rw), __FILE__, __LINE__)
#define rw_initialized(rw)            keel_rw_initialized(rw)
#define rw_rlock(rw)                  keel_rw_rlock((rw), __FILE__, __LINE__)
#define rw_try_rlock(rw)              keel_rw_try_rlock((rw), __FILE__, __LINE__)
#define rw_runlock(rw)                keel_rw_runlock((rw), __FILE__, __LINE__)
#define rw_wlock(rw)                  keel_rw_wlock((rw), __FILE__, __LINE__)
#define rw_try_wlock(rw)              keel_rw_try_wlock((rw), __FILE__, __LINE__)
#define rw_wunlock(rw)                keel_rw_wunlock((rw), __FILE__, __LINE__)
#define rw_unlock(rw)                 keel_rw_unlock((rw), __FILE__, __LINE__)
#define rw_try_upgrade(rw)            keel_rw_try_upgrade((rw), __FILE__, __LINE__)
#define rw_downgrade(rw)              keel_rw_downgrade((rw), __FILE__, __LINE__)
#define rw_wowned(rw)                 keel_rw_wowned(rw)
#ifdef INVARIANTS
#define rw_assert(rw, what)           keel_rw_assert((rw), (what), __FILE__, __LINE__)
#else
#define rw_assert(rw, what)           ((void)0)
#endif

/** Initialises a reader/writer lock of static storage before main(). */
#define RW_SYSINIT(id, rw, desc) \
    __attribute__((constructor)) static void keel_rw_sysinit_##id(void) \
    { \
        keel_rw_init((rw), (desc), 0); \
    } \
    struct keel_rw_sysinit_##id

/* --- condition variables ---------------------------------------------------------- */

/** A condition variable for struct mtx. All fields are private. */
struct cv {
    pthread_cond_t cond;
    const char *name;
};

static inline void keel_cv_init(struct cv *cv, const char *name)
{
    int error = pthread_cond_init(&cv->cond, NULL);

    if (error != 0)
        keel_compat_panic("condition variable %s cannot be initialised: error %d", name, error);
    cv->name = name;
}

static inline void keel_cv_wait(struct cv *cv, struct mtx *m, const char *file, int line)
{
    keel_mtx_assert(m, MA_OWNED | MA_NOTRECURSED, file, line);
    __atomic_store_n(&m->owner, (uintptr_t)0, __ATOMIC_RELAXED);
    (void)pthread_cond_wait(&cv->cond, &m->mutex);
    __atomic_store_n(&m->owner, keel_compat_self(), __ATOMIC_RELAXED);
}

#define cv_init(cv, name) keel_cv_init((cv), (name))
#define cv_destroy(cv)    ((void)pthread_cond_destroy(&(cv)->cond))
#define cv_wait(cv, m)    keel_cv_wait((cv), (m), __FILE__, __LINE__)
#define cv_signal(cv)     ((void)pthread_cond_signal(&(cv)->cond))
#define cv_broadcast(cv)  ((void)pthread_cond_broadcast(&(cv)->cond))

/* --- callouts with these locks ------------------------------------------------------ */

static inline void keel_mtx_op_lock(void *m)
{
    keel_mtx_acquire((struct mtx *)m, "softclock", 0);
}

static inline void keel_mtx_op_unlock(void *m)
{
    keel_mtx_release((struct mtx *)m, "softclock", 0);
}

static inline int keel_mtx_op_trylock(void *m)
{
    return keel_mtx_try((struct mtx *)m);
}

static inline int keel_mtx_op_owned(void *m)
{
    return keel_mtx_owned((struct mtx *)m);
}

static inline void keel_rw_op_wlock(void *rw)
{
    keel_rw_wlock((struct rwlock *)rw, "softclock", 0);
}

static inline void keel_rw_op_wunlock(void *rw)
{
    keel_rw_wunlock((struct rwlock *)rw, "softclock", 0);
}

static inline int keel_rw_op_try_wlock(void *rw)
{
    return keel_rw_try_wlock((struct rwlock *)rw, "softclock", 0);
}

static inline void keel_rw_op_rlock(void *rw)
{
    keel_rw_rlock((struct rwlock *)rw, "softclock", 0);
}

static inline void keel_rw_op_runlock(void *rw)
{
    keel_rw_runlock((struct rwlock *)rw, "softclock", 0);
}

static inline int keel_rw_op_try_rlock(void *rw)
{
    return keel_rw_try_rlock((struct rwlock *)rw, "softclock", 0);
}

static inline int keel_rw_op_wowned(void *rw)
{
    return keel_rw_wowned((struct rwlock *)rw);
}

static inline void keel_compat_init_mtx(struct callout *c, struct mtx *m, int flags)
{
    static const struct keel_lock_ops ops = {
        keel_mtx_op_lock, keel_mtx_op_unlock, keel_mtx_op_trylock, keel_mtx_op_owned
    };

    if (m == NULL) {
        callout_init_mtx(c, NULL, flags);
        return;
    }
    keel_mtx_check(m, "callout_init_mtx", 0);
    /* A mutex has but one side. */
    keel_callout_init_lock(c, &ops, m, flags & ~CALLOUT_SHAREDLOCK);
}

static inline void keel_compat_init_rw(struct callout *c, struct rwlock *rw, int flags)
{
    static const struct keel_lock_ops exclusive = {
        keel_rw_op_wlock, keel_rw_op_wunlock, keel_rw_op_try_wlock, keel_rw_op_wowned
    };
    /* stop and async_drain ask for the write side of these too. */
    static const struct keel_lock_ops shared = {
        keel_rw_op_rlock, keel_rw_op_runlock, keel_rw_op_try_rlock, keel_rw_op_wowned
    };

    if (rw == NULL) {
        callout_init_rw(c, NULL, flags);
        return;
    }
    keel_rw_check(rw, "callout_init_rw", 0);
    keel_callout_init_lock(c, flags & CALLOUT_SHAREDLOCK ? &shared : &exclusive, rw, flags & ~CALLOUT_SHAREDLOCK);
}

#define callout_init_mtx(c, m, flags) keel_compat_init_mtx((c), (m), (flags))
#define callout_init_rw(c, rw, flags) keel_compat_init_rw((c), (rw), (flags))

/** For either kind of lock; in C it needs C11. */
#ifndef __cplusplus
#define callout_init_lock(c, lock, flags) \
    __extension__ _Generic((lock), struct mtx *: keel_compat_init_mtx, struct rwlock *: keel_compat_init_rw) \
    ((c), (lock), (flags))
#else
} /* overloads have C++ linkage */
static inline void keel_compat_init_lock(struct callout *c, struct mtx *m, int flags)
{
    keel_compat_init_mtx(c, m, flags);
}
static inline void keel_compat_init_lock(struct callout *c, struct rwlock *rw, int flags)
{
    keel_compat_init_rw(c, rw, flags);
}
#define callout_init_lock(c, lock, flags) keel_compat_init_lock((c), (lock), (flags))
extern "C" {
#endif

/* --- time ----------------------------------------------------------------------------- */

/* <n> parts of a second, rounded down to whole seconds. */
static inline int64_t keel_compat_seconds(int64_t n, int64_t parts)
{
    return n / parts - (n % parts < 0);
}

/* <n> parts of a second as sbintime_t, rounded up, so that the way back leads to <n>, and nothing comes early. */
static inline sbintime_t keel_compat_to_sbt(int64_t n, int64_t parts)
{
    int64_t seconds = keel_compat_seconds(n, parts);
    uint64_t rest;

    if (seconds > INT32_MAX)
        return SBT_MAX;
    if (seconds < INT32_MIN)
        return -SBT_MAX - 1;
    rest = (uint64_t)(n - seconds * parts);
    return seconds * SBT_1S + (int64_t)(((rest << 32) + (uint64_t)parts - 1) / (uint64_t)parts);
}

/* And back, rounded down. */
static inline int64_t keel_compat_from_sbt(sbintime_t sbt, int64_t parts)
{
    int64_t seconds = keel_compat_seconds(sbt, SBT_1S);
    uint64_t fraction = (uint64_t)sbt & 0xffffffffu;

    return seconds * parts + (int64_t)((fraction * (uint64_t)parts) >> 32);
}

static inline sbintime_t nstosbt(int64_t ns) { return keel_compat_to_sbt(ns, 1000000000); }
static inline sbintime_t ustosbt(int64_t us) { return keel_compat_to_sbt(us, 1000000); }
static inline sbintime_t mstosbt(int64_t ms) { return keel_compat_to_sbt(ms, 1000); }
static inline int64_t sbttons(sbintime_t sbt) { return keel_compat_from_sbt(sbt, 1000000000); }
static inline int64_t sbttous(sbintime_t sbt) { return keel_compat_from_sbt(sbt, 1000000); }
static inline int64_t sbttoms(sbintime_t sbt) { return keel_compat_from_sbt(sbt, 1000); }

static inline sbintime_t tstosbt(struct timespec ts)
{
    return (sbintime_t)ts.tv_sec * SBT_1S + nstosbt(ts.tv_nsec);
}

static inline sbintime_t tvtosbt(struct timeval tv)
{
    return (sbintime_t)tv.tv_sec * SBT_1S + ustosbt(tv.tv_usec);
}

static inline struct timespec sbttots(sbintime_t sbt)
{
    struct timespec ts;

    ts.tv_sec = (time_t)keel_compat_seconds(sbt, SBT_1S);
    ts.tv_nsec = (long)sbttons(sbt & 0xffffffff);
    return ts;
}

static inline struct timeval sbttotv(sbintime_t sbt)
{
    struct timeval tv;

    tv.tv_sec = (time_t)keel_compat_seconds(sbt, SBT_1S);
    tv.tv_usec = (suseconds_t)sbttous(sbt & 0xffffffff);
    return tv;
}

/** The clock that callouts go by: CLOCK_MONOTONIC, rounded down. */
static inline sbintime_t sbinuptime(void)
{
    uint64_t ns = keel_now_ns();

    return (sbintime_t)((ns / 1000000000) << 32 | ((ns % 1000000000) << 32) / 1000000000);
}

/** There is no cheaper clock. */
static inline sbintime_t getsbinuptime(void) { return sbinuptime(); }

static inline void microuptime(struct timeval *tv) { *tv = sbttotv(sbinuptime()); }
static inline void getmicrouptime(struct timeval *tv) { microuptime(tv); }
static inline void nanouptime(struct timespec *ts) { *ts = sbttots(sbinuptime()); }
static inline void getnanouptime(struct timespec *ts) { nanouptime(ts); }

static inline int keel_compat_hz(void)
{
    return (int)keel_callout_hz();
}

static inline sbintime_t keel_compat_tick_sbt(void)
{
    return SBT_1S / keel_compat_hz();
}

static inline int keel_compat_ticks(void)
{
    return (int)(unsigned int)((uint64_t)sbinuptime() / (uint64_t)keel_compat_tick_sbt());
}

/** callout_hz of struct keel_config, and what follows from it. */
#define hz       keel_compat_hz()
#define tick_sbt keel_compat_tick_sbt()
/** Ticks since CLOCK_MONOTONIC's 0: an int that wraps. */
#define ticks    keel_compat_ticks()

#define time_uptime ((time_t)(sbinuptime() >> 32))
#define time_second time(NULL)

/** Ticks that last at least as long as <tv>, whenever they begin: 1 to INT_MAX. */
static inline int tvtohz(const struct timeval *tv)
{
    sbintime_t length = tick_sbt, sbt;

    if (tv->tv_sec < 0 || (tv->tv_sec == 0 && tv->tv_usec <= 0))
        return 1;
    if (tv->tv_sec >= INT32_MAX)
        return INT_MAX;
    sbt = tvtosbt(*tv);
    sbt = sbt / length + (sbt % length != 0);
    return sbt < INT_MAX ? (int)sbt + 1 : INT_MAX;
}

/**
 * Sleeps until the date that callout_when() makes of these. Returns
 * EWOULDBLOCK; with C_CATCH, EINTR where a signal came first.
 */
static inline int pause_sbt(const char *wmesg, sbintime_t sbt, sbintime_t precision, int flags)
{
    sbintime_t date, rest;
    struct timeval tv;

    (void)wmesg;
    callout_when(sbt, precision, flags, &date, &precision);
    while ((rest = date - sbinuptime()) > 0) {
        /* Rounded up, lest it turn round and round at the end. */
        tv = sbttotv(rest < 3600 * SBT_1S ? rest + SBT_1US : 3600 * SBT_1S);
        if (select(0, NULL, NULL, NULL, &tv) != 0 && errno == EINTR && (flags & C_CATCH))
            return EINTR;
    }
    return EWOULDBLOCK;
}

/* --- processors --------------------------------------------------------------------------- */

/** The callout cpu that this thread is, or the default one. */
static inline int keel_compat_curcpu(void)
{
    unsigned int tid = keel_tid();

    return tid == ~0U ? 0 : (int)tid;
}

#define curcpu          keel_compat_curcpu()
#define mp_ncpus        ((int)keel_nbthread())
#define mp_maxid        (keel_nbthread() - 1)
/** An arming for a cpu that no thread is goes to the default one: none is absent. */
#define CPU_ABSENT(cpu) ((void)(cpu), 0)
#define CPU_FOREACH(cpu) for ((cpu) = 0; (int)(cpu) < mp_ncpus; (cpu)++)

/* --- malloc(9), on request ------------------------------------------------------------------- */

#ifdef KEEL_COMPAT_MALLOC

#define M_NOWAIT 0x0001
#define M_WAITOK 0x0002  /* a panic where there is no memory */
#define M_ZERO   0x0100

struct malloc_type {
    const char *shortdesc, *longdesc;
};

#define MALLOC_DECLARE(type) extern struct malloc_type type[1]
#define MALLOC_DEFINE(type, shortdesc, longdesc) struct malloc_type type[1] = { { shortdesc, longdesc } }

static inline void *keel_compat_malloc(size_t size, struct malloc_type *type, int flags)
{
    void *p = flags & M_ZERO ? calloc(1, size) : malloc(size);

    if (p == NULL && (flags & M_WAITOK))
        keel_compat_panic("no memory for %zu bytes of %s", size, type->shortdesc);
    return p;
}

static inline void keel_compat_free(void *p, struct malloc_type *type)
{
    (void)type;
    free(p);
}

#define malloc(size, type, flags) keel_compat_malloc((size), (type), (flags))
#define free(addr, type) keel_compat_free((addr), (type))

#endif /* KEEL_COMPAT_MALLOC */

#ifdef __cplusplus
}
#endif

#endif /* KEEL_COMPAT_FREEBSD_H */
