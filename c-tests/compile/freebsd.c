/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Kernel-style code: each macro of the compat header, where a warning would show, in C and in C++. */
#define KEEL_COMPAT_MALLOC
#include <keel/compat/freebsd.h>

static MALLOC_DEFINE(M_SOFTC, "softc", "the driver's");

struct softc {
    LIST_ENTRY(softc) link;
    struct mtx mtx;
    struct rwlock rw;
    struct cv cv;
    struct callout timer, shared, plain;
};

static LIST_HEAD(, softc) all;
static struct mtx all_mtx;
static struct rwlock all_rw;
MTX_SYSINIT(all, &all_mtx, "all", MTX_DEF);
RW_SYSINIT(all, &all_rw, "all");

static void handler(void *arg)
{
    struct softc *sc = (struct softc *)arg;

    mtx_assert(&sc->mtx, MA_OWNED | MA_NOTRECURSED);
    callout_schedule(&sc->timer, hz);
}

static struct softc *attach(void)
{
    struct softc *sc = (struct softc *)malloc(sizeof(*sc), M_SOFTC, M_NOWAIT | M_ZERO);
    unsigned int u;
    int i;

    if (sc == NULL)
        return NULL;
    mtx_init(&sc->mtx, "softc", NULL, MTX_DEF | MTX_RECURSE | MTX_DUPOK | MTX_NEW | MTX_QUIET);
    rw_init(&sc->rw, "softc");
    cv_init(&sc->cv, "softc");
    callout_init(&sc->plain, 1);
    callout_init_mtx(&sc->timer, &sc->mtx, CALLOUT_RETURNUNLOCKED);
    callout_init_rw(&sc->shared, &sc->rw, CALLOUT_SHAREDLOCK);
#if defined(__cplusplus) || __STDC_VERSION__ >= 201112L
    callout_init_lock(&sc->timer, &sc->mtx, 0);
    callout_init_lock(&sc->shared, &sc->rw, 0);
#endif
    mtx_lock(&sc->mtx);
    CPU_FOREACH(i)
        if (!CPU_ABSENT(i))
            callout_reset_on(&sc->timer, hz / 10, handler, sc, i);
    CPU_FOREACH(u)
        callout_reset_sbt_on(&sc->timer, 5 * SBT_1MS, 0, handler, sc, (int)u, C_PREL(1));
    mtx_unlock(&sc->mtx);
    mtx_lock(&all_mtx);
    LIST_INSERT_HEAD(&all, sc, link);
    mtx_unlock(&all_mtx);
    return sc;
}

static void detach(struct softc *sc)
{
    struct softc *other, *next;

    mtx_lock(&all_mtx);
    LIST_FOREACH_SAFE(other, &all, link, next)
        if (other == sc)
            LIST_REMOVE(other, link);
    mtx_unlock(&all_mtx);
    callout_drain(&sc->timer);
    callout_drain(&sc->shared);
    callout_drain(&sc->plain);
    cv_destroy(&sc->cv);
    rw_destroy(&sc->rw);
    mtx_destroy(&sc->mtx);
    free(sc, M_SOFTC);
}

static int locks(struct softc *sc)
{
    int n = 0;

    if (mtx_trylock(&sc->mtx)) {
        n += mtx_owned(&sc->mtx) + mtx_recursed(&sc->mtx) + mtx_initialized(&sc->mtx) + (mtx_name(&sc->mtx) != NULL);
        cv_signal(&sc->cv);
        cv_broadcast(&sc->cv);
        mtx_unlock(&sc->mtx);
    }
    mtx_lock_flags(&sc->mtx, MTX_QUIET);
    mtx_unlock_flags(&sc->mtx, MTX_QUIET);
    rw_wlock(&sc->rw);
    rw_assert(&sc->rw, RA_WLOCKED | RA_NOTRECURSED);
    n += rw_wowned(&sc->rw) + rw_initialized(&sc->rw);
    rw_downgrade(&sc->rw);
    if (rw_try_upgrade(&sc->rw))
        rw_wunlock(&sc->rw);
    else
        rw_unlock(&sc->rw);
    if (rw_try_rlock(&sc->rw))
        rw_runlock(&sc->rw);
    if (rw_try_wlock(&sc->rw))
        rw_unlock(&sc->rw);
    return n;
}

static sbintime_t times(void)
{
    struct timeval tv;
    struct timespec ts;

    microuptime(&tv);
    getmicrouptime(&tv);
    nanouptime(&ts);
    getnanouptime(&ts);
    return nstosbt(sbttons(SBT_1S)) + ustosbt(sbttous(SBT_1US)) + mstosbt(sbttoms(SBT_1MS)) + tstosbt(ts) + tvtosbt(tv) +
        tvtosbt(sbttotv(SBT_1M)) + tstosbt(sbttots(SBT_1M)) + tvtohz(&tv) + sbinuptime() + getsbinuptime() +
        (sbintime_t)time_uptime + (sbintime_t)time_second + ticks + tick_sbt + (curcpu < mp_ncpus) + mp_maxid;
}

int main(void)
{
    struct softc *sc = attach();

    KASSERT(sc != NULL, ("no memory for %s", "softc"));
    MPASS(sc != NULL);
    MPASS2(sc != NULL, "memory");
    MPASS3(sc != NULL, __FILE__, __LINE__);
    if (locks(sc) < 0 || times() == 0)
        panic("%s", "impossible");
    pause_sbt("main", SBT_1MS, 0, C_CATCH);
    detach(sc);
    return 0;
}
