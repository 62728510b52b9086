/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* <keel/compat/freebsd.h>: the locks, the clock's arithmetic, and the idioms of kernel callout code. */
#include <keel/keel.h>

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

#include <keel/compat/freebsd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- helpers -------------------------------------------------------------------- */

/* What <f> answers on a thread of its own. */
struct asked {
	int (*f)(void *);
	void *arg;
	int answer;
};

static void *ask(void *arg)
{
	struct asked *a = arg;

	a->answer = a->f(a->arg);
	return NULL;
}

static int elsewhere(int (*f)(void *), void *arg)
{
	struct asked a = { f, arg, -1 };
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, ask, &a), 0);
	ck_assert_int_eq(pthread_join(th, NULL), 0);
	return a.answer;
}

/* <f> aborts, with <words> on stderr. */
static void dies(void (*f)(void), const char *words)
{
	char text[4096];
	size_t length = 0;
	ssize_t n;
	int ends[2], status;
	pid_t child;

	ck_assert_int_eq(pipe(ends), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		f();
		_exit(0);
	}
	close(ends[1]);
	while (length < sizeof(text) - 1 && (n = read(ends[0], text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	close(ends[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "ended with %#x: %s", (unsigned)status, text);
	ck_assert_msg(strstr(text, words) != NULL, "\"%s\" is not in: %s", words, text);
}

static void start(unsigned int frequency, unsigned int threads)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 4;
	cfg.callout_hz = frequency;
	ck_assert_int_eq(keel_init(&cfg), 0);
	if (threads > 0)
		ck_assert_int_eq(keel_callout_start_threads(threads), 0);
}

/* Until <flag> is set; the suite's time limit ends it otherwise. */
static void await(atomic_int *flag)
{
	while (!atomic_load(flag))
		pause_sbt("await", SBT_1MS, 0, 0);
}

/* --- mutexes ---------------------------------------------------------------------- */

static struct mtx sysinit_mtx;
MTX_SYSINIT(test, &sysinit_mtx, "sysinit", MTX_DEF);
static struct rwlock sysinit_rw;
RW_SYSINIT(test, &sysinit_rw, "sysinit");

static int try_mtx(void *m)
{
	if (!mtx_trylock((struct mtx *)m))
		return 0;
	mtx_unlock((struct mtx *)m);
	return 1;
}

static int owns_mtx(void *m)
{
	return mtx_owned((struct mtx *)m);
}

START_TEST(a_mutex_knows_its_owner)
{
	struct mtx m;

	memset(&m, 0xa5, sizeof(m));
	mtx_init(&m, "m", NULL, MTX_DEF);
	ck_assert(mtx_initialized(&m));
	ck_assert_str_eq(mtx_name(&m), "m");
	ck_assert(!mtx_owned(&m));
	mtx_assert(&m, MA_NOTOWNED);
	mtx_lock(&m);
	ck_assert(mtx_owned(&m));
	ck_assert(!mtx_recursed(&m));
	mtx_assert(&m, MA_OWNED);
	mtx_assert(&m, MA_OWNED | MA_NOTRECURSED);
	ck_assert_int_eq(elsewhere(owns_mtx, &m), 0);
	ck_assert_int_eq(elsewhere(try_mtx, &m), 0);
	ck_assert_int_eq(mtx_trylock(&m), 0); /* not recursive */
	ck_assert(mtx_owned(&m));
	mtx_unlock(&m);
	ck_assert(!mtx_owned(&m));
	ck_assert_int_eq(elsewhere(try_mtx, &m), 1);
	ck_assert_int_eq(mtx_trylock(&m), 1);
	ck_assert(mtx_owned(&m));
	mtx_destroy(&m); /* its owner may */
	ck_assert(!mtx_initialized(&m));
}
END_TEST

START_TEST(a_recursive_mutex_counts)
{
	struct mtx m;

	mtx_init(&m, "m", "type", MTX_RECURSE);
	mtx_lock(&m);
	ck_assert(!mtx_recursed(&m));
	mtx_lock(&m);
	ck_assert(mtx_recursed(&m));
	mtx_assert(&m, MA_OWNED | MA_RECURSED);
	ck_assert_int_eq(mtx_trylock(&m), 1);
	mtx_unlock(&m);
	mtx_unlock(&m);
	ck_assert(mtx_owned(&m) && !mtx_recursed(&m));
	ck_assert_int_eq(elsewhere(try_mtx, &m), 0);
	mtx_unlock(&m);
	ck_assert(!mtx_owned(&m));
	ck_assert_int_eq(elsewhere(try_mtx, &m), 1);
	mtx_destroy(&m);
}
END_TEST

START_TEST(a_spin_mutex_has_calls_of_its_own)
{
	struct mtx m;

	mtx_init(&m, "m", NULL, MTX_SPIN);
	mtx_lock_spin(&m);
	ck_assert(mtx_owned(&m));
	ck_assert_int_eq(mtx_trylock_spin(&m), 0);
	mtx_unlock_spin(&m);
	ck_assert_int_eq(mtx_trylock_spin(&m), 1);
	mtx_unlock_spin(&m);
	mtx_destroy(&m);
}
END_TEST

START_TEST(sysinit_comes_before_main)
{
	ck_assert(mtx_initialized(&sysinit_mtx));
	ck_assert_str_eq(mtx_name(&sysinit_mtx), "sysinit");
	mtx_lock(&sysinit_mtx);
	mtx_unlock(&sysinit_mtx);
	ck_assert(rw_initialized(&sysinit_rw));
	rw_wlock(&sysinit_rw);
	rw_wunlock(&sysinit_rw);
}
END_TEST

static struct mtx counted;
static int count, turns;
static struct cv turned;

/* Half of it by trying. */
static int add(void *arg)
{
	(void)arg;
	for (int i = 0; i < 4000; i++) {
		if (i % 2 || !mtx_trylock(&counted))
			mtx_lock(&counted);
		count++;
		mtx_unlock(&counted);
	}
	return 0;
}

START_TEST(a_mutex_excludes)
{
	struct asked a = { add, NULL, -1 };
	pthread_t th;

	mtx_init(&counted, "counted", NULL, MTX_DEF);
	ck_assert_int_eq(pthread_create(&th, NULL, ask, &a), 0);
	add(NULL);
	pthread_join(th, NULL);
	ck_assert_int_eq(count, 8000);
	mtx_destroy(&counted);
}
END_TEST

/* Takes the even turns. */
static int even(void *arg)
{
	(void)arg;
	mtx_lock(&counted);
	while (turns < 100) {
		while (turns % 2 == 0)
			cv_wait(&turned, &counted);
		mtx_assert(&counted, MA_OWNED);
		turns++;
		cv_signal(&turned);
	}
	mtx_unlock(&counted);
	return 0;
}

START_TEST(a_condition_gives_the_mutex_back)
{
	struct asked a = { even, NULL, -1 };
	pthread_t th;

	mtx_init(&counted, "counted", NULL, MTX_DEF);
	cv_init(&turned, "turned");
	ck_assert_int_eq(pthread_create(&th, NULL, ask, &a), 0);
	mtx_lock(&counted);
	while (turns < 100) {
		while (turns % 2 == 1)
			cv_wait(&turned, &counted);
		ck_assert(mtx_owned(&counted));
		turns++;
		cv_broadcast(&turned);
	}
	mtx_unlock(&counted);
	pthread_join(th, NULL);
	cv_destroy(&turned);
	mtx_destroy(&counted);
}
END_TEST

static struct mtx bad;
static struct rwlock badrw;

static int hold_bad(void *arg)
{
	(void)arg;
	mtx_lock(&bad); /* for ever */
	return 0;
}

static void m_init(int opts) { mtx_init(&bad, "bad", NULL, opts); }
static void m_twice(void) { m_init(MTX_DEF); mtx_lock(&bad); mtx_lock(&bad); }
static void m_stranger(void) { m_init(MTX_DEF); mtx_unlock(&bad); }
static void m_not_owned(void) { m_init(MTX_DEF); mtx_assert(&bad, MA_OWNED); }
static void m_owned(void) { m_init(MTX_DEF); mtx_lock(&bad); mtx_assert(&bad, MA_NOTOWNED); }
static void m_not_recursed(void) { m_init(MTX_RECURSE); mtx_lock(&bad); mtx_assert(&bad, MA_OWNED | MA_RECURSED); }
static void m_recursed(void)
{
	m_init(MTX_RECURSE);
	mtx_lock(&bad);
	mtx_lock(&bad);
	mtx_assert(&bad, MA_OWNED | MA_NOTRECURSED);
}
static void m_nothing(void) { m_init(MTX_DEF); mtx_assert(&bad, 0); }
static void m_raw(void) { mtx_lock(&bad); }
static void m_spin(void) { m_init(MTX_SPIN); mtx_lock(&bad); }
static void m_sleep(void) { m_init(MTX_DEF); mtx_lock_spin(&bad); }
static void m_dead(void) { m_init(MTX_DEF); mtx_destroy(&bad); mtx_lock(&bad); }
static void m_held(void) { m_init(MTX_DEF); elsewhere(hold_bad, NULL); mtx_destroy(&bad); }
static void m_destroy_recursed(void) { m_init(MTX_RECURSE); mtx_lock(&bad); mtx_lock(&bad); mtx_destroy(&bad); }
static void c_not_owned(void) { struct cv cv; cv_init(&cv, "cv"); m_init(MTX_DEF); cv_wait(&cv, &bad); }
static void k_assert(void) { KASSERT(1 > 2, ("%d is not more than %d", 1, 2)); }
static void k_pass(void) { MPASS(1 > 2); }
static void k_panic(void) { panic("the %s is broken", "world"); }

START_TEST(wrong_use_of_mutexes_is_a_panic)
{
	dies(m_twice, "mutex bad locked by its owner");
	dies(m_stranger, "by who does not hold it");
	dies(m_not_owned, "mutex bad not owned at " __FILE__);
	dies(m_owned, "mutex bad owned");
	dies(m_not_recursed, "mutex bad not recursed");
	dies(m_recursed, "mutex bad recursed");
	dies(m_nothing, "asks nothing");
	dies(m_raw, "is not initialised");
	dies(m_spin, "spin");
	dies(m_sleep, "sleep");
	dies(m_dead, "is not initialised");
	dies(m_held, "destroyed while held");
	dies(m_destroy_recursed, "destroyed while recursed");
	dies(c_not_owned, "mutex bad not owned");
}
END_TEST

START_TEST(assertions_say_their_words)
{
	KASSERT(2 > 1, ("never"));
	MPASS(2 > 1);
	dies(k_assert, "panic: 1 is not more than 2");
	dies(k_pass, "assertion 1 > 2 failed at " __FILE__);
	dies(k_panic, "panic: the world is broken");
}
END_TEST

/* --- reader/writer locks ---------------------------------------------------------- */

static int try_read(void *rw)
{
	if (!rw_try_rlock((struct rwlock *)rw))
		return 0;
	rw_runlock((struct rwlock *)rw);
	return 1;
}

static int try_write(void *rw)
{
	if (!rw_try_wlock((struct rwlock *)rw))
		return 0;
	rw_wunlock((struct rwlock *)rw);
	return 1;
}

static int owns_write(void *rw)
{
	return rw_wowned((struct rwlock *)rw);
}

START_TEST(readers_share_and_a_writer_does_not)
{
	struct rwlock rw;

	memset(&rw, 0xa5, sizeof(rw));
	rw_init(&rw, "rw");
	ck_assert_int_eq(elsewhere(try_write, &rw), 1);
	rw_assert(&rw, RA_UNLOCKED);
	rw_rlock(&rw);
	rw_assert(&rw, RA_LOCKED);
	rw_assert(&rw, RA_RLOCKED);
	ck_assert(!rw_wowned(&rw));
	rw_rlock(&rw);
	ck_assert_int_eq(elsewhere(try_read, &rw), 1);
	ck_assert_int_eq(elsewhere(try_write, &rw), 0);
	rw_runlock(&rw);
	ck_assert_int_eq(elsewhere(try_write, &rw), 0);
	rw_unlock(&rw);
	rw_wlock(&rw);
	rw_assert(&rw, RA_LOCKED);
	rw_assert(&rw, RA_WLOCKED | RA_NOTRECURSED);
	ck_assert(rw_wowned(&rw));
	ck_assert_int_eq(elsewhere(owns_write, &rw), 0);
	ck_assert_int_eq(elsewhere(try_read, &rw), 0);
	ck_assert_int_eq(elsewhere(try_write, &rw), 0);
	ck_assert_int_eq(rw_try_wlock(&rw), 0);
	rw_unlock(&rw);
	ck_assert(!rw_wowned(&rw));
	ck_assert_int_eq(elsewhere(try_write, &rw), 1);
	rw_destroy(&rw);
	ck_assert(!rw_initialized(&rw));
}
END_TEST

START_TEST(a_writer_recurses_if_it_may)
{
	struct rwlock rw;

	rw_init_flags(&rw, "rw", RW_RECURSE | RW_NEW);
	rw_wlock(&rw);
	rw_wlock(&rw);
	rw_assert(&rw, RA_WLOCKED | RA_RECURSED);
	ck_assert_int_eq(rw_try_wlock(&rw), 1);
	rw_wunlock(&rw);
	rw_wunlock(&rw);
	ck_assert_int_eq(elsewhere(try_read, &rw), 0);
	rw_wunlock(&rw);
	ck_assert_int_eq(elsewhere(try_read, &rw), 1);
	rw_destroy(&rw);
}
END_TEST

START_TEST(a_reader_becomes_the_writer_and_back)
{
	struct rwlock rw;

	rw_init(&rw, "rw");
	rw_rlock(&rw);
	rw_rlock(&rw);
	ck_assert_int_eq(rw_try_upgrade(&rw), 0); /* not the only one */
	rw_runlock(&rw);
	ck_assert_int_eq(rw_try_upgrade(&rw), 1);
	ck_assert(rw_wowned(&rw));
	ck_assert_int_eq(elsewhere(try_read, &rw), 0);
	rw_downgrade(&rw);
	ck_assert(!rw_wowned(&rw));
	ck_assert_int_eq(elsewhere(try_read, &rw), 1);
	ck_assert_int_eq(elsewhere(try_write, &rw), 0);
	rw_runlock(&rw);
	rw_destroy(&rw);
}
END_TEST

static struct rwlock pair_lock;
static int pair[2];

/* Writers keep both equal, readers look. */
static int read_or_write(void *arg)
{
	int differing = 0;

	for (int i = 0; i < 2000; i++) {
		if (i % 4 == 0) {
			rw_wlock(&pair_lock);
			pair[0]++;
			pair[1]++;
			rw_wunlock(&pair_lock);
		} else {
			rw_rlock(&pair_lock);
			differing += pair[0] != pair[1];
			rw_runlock(&pair_lock);
		}
	}
	(void)arg;
	return differing;
}

START_TEST(a_writer_is_alone)
{
	struct asked a[2] = { { read_or_write, NULL, -1 }, { read_or_write, NULL, -1 } };
	pthread_t th[2];

	rw_init(&pair_lock, "pair");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, ask, &a[i]), 0);
	ck_assert_int_eq(read_or_write(NULL), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		ck_assert_int_eq(a[i].answer, 0);
	}
	ck_assert_int_eq(pair[0], 1500);
	rw_destroy(&pair_lock);
}
END_TEST

static void r_init(void) { rw_init(&badrw, "badrw"); }
static void r_raw(void) { rw_rlock(&badrw); }
static void r_read_own(void) { r_init(); rw_wlock(&badrw); rw_rlock(&badrw); }
static void r_write_own(void) { r_init(); rw_wlock(&badrw); rw_wlock(&badrw); }
static void r_stranger(void) { r_init(); rw_rlock(&badrw); rw_wunlock(&badrw); }
static void r_nobody(void) { r_init(); rw_runlock(&badrw); }
static void r_not_locked(void) { r_init(); rw_assert(&badrw, RA_LOCKED); }
static void r_not_read(void) { r_init(); rw_wlock(&badrw); rw_assert(&badrw, RA_RLOCKED); }
static void r_not_written(void) { r_init(); rw_rlock(&badrw); rw_assert(&badrw, RA_WLOCKED); }
static void r_locked(void) { r_init(); rw_wlock(&badrw); rw_assert(&badrw, RA_UNLOCKED); }
static void r_downgrade(void) { r_init(); rw_rlock(&badrw); rw_downgrade(&badrw); }
static void r_held(void) { r_init(); rw_rlock(&badrw); rw_destroy(&badrw); }

START_TEST(wrong_use_of_rwlocks_is_a_panic)
{
	dies(r_raw, "is not initialised");
	dies(r_read_own, "locked for reading by its writer");
	dies(r_write_own, "locked by its writer");
	dies(r_stranger, "by who does not write");
	dies(r_nobody, "which nobody reads");
	dies(r_not_locked, "not locked");
	dies(r_not_read, "not read-locked");
	dies(r_not_written, "not write-locked");
	dies(r_locked, "badrw locked");
	dies(r_downgrade, "downgraded");
	dies(r_held, "destroyed while held");
}
END_TEST

/* --- time -------------------------------------------------------------------------- */

static const struct unit {
	sbintime_t (*to)(int64_t);
	int64_t (*from)(sbintime_t);
	int64_t parts;
} units[] = {
	{ nstosbt, sbttons, 1000000000 },
	{ ustosbt, sbttous, 1000000 },
	{ mstosbt, sbttoms, 1000 },
};

START_TEST(conversions_are_exact)
{
	const struct unit *u = &units[_i];
	int64_t n;

	ck_assert_int_eq(u->to(0), 0);
	ck_assert_int_eq(u->to(u->parts), SBT_1S);
	ck_assert_int_eq(u->to(-u->parts), -SBT_1S);
	ck_assert_int_eq(u->to(60 * u->parts), SBT_1M);
	ck_assert_int_eq(u->from(SBT_1S), u->parts);
	ck_assert_int_eq(u->from(-SBT_1S), -u->parts);
	ck_assert_int_eq(u->from(SBT_1S / 2), u->parts / 2);
	ck_assert_int_eq(u->from(SBT_1S - 1), u->parts - 1);
	ck_assert_int_eq(u->from(1), 0);
	ck_assert_int_eq(u->from(-1), -1);
	/* The smallest one that is not shorter than one part. */
	ck_assert_int_eq(u->to(1), SBT_1S / u->parts + 1);
	/* There and back, and never less than n parts. */
	for (n = -3; n < 3 * 1000; n++)
		for (int64_t base = 0; base < 2000 * u->parts; base = base * 7 + 1) {
			int64_t x = base + n;
			sbintime_t sbt = u->to(x);

			ck_assert_int_eq(u->from(sbt), x);
			ck_assert_int_eq(u->from(sbt - 1), x - 1);
			ck_assert_int_eq(u->from(u->to(-x)), -x);
		}
	/* The ends of the range. */
	n = (int64_t)INT32_MAX * u->parts + (u->parts - 1);
	ck_assert_int_eq(u->from(u->to(n)), n);
	ck_assert_int_eq(u->to(n + 1), SBT_MAX);
	ck_assert_int_eq(u->to(INT64_MAX), SBT_MAX);
	ck_assert_int_eq(u->to((int64_t)INT32_MIN * u->parts), INT64_MIN);
	ck_assert_int_eq(u->to(INT64_MIN), INT64_MIN);
	ck_assert_int_eq(u->from(SBT_MAX), n);
	ck_assert_int_eq(u->from(INT64_MIN), (int64_t)INT32_MIN * u->parts);
}
END_TEST

/* n * SBT_1NS would be 7 % short. */
START_TEST(many_nanoseconds_are_not_many_times_one)
{
	ck_assert_int_eq(nstosbt(1500000000), SBT_1S + SBT_1S / 2);
	ck_assert_int_eq(nstosbt(250000000), SBT_1S / 4);
	ck_assert_int_eq(ustosbt(125000), SBT_1S / 8);
	ck_assert_int_ne(nstosbt(250000000), 250000000 * SBT_1NS);
}
END_TEST

START_TEST(structures_are_exact)
{
	const sbintime_t dates[] = { 0, 1, SBT_1S - 1, SBT_1S, SBT_1S + 12345, SBT_1M, -1, -SBT_1S, -SBT_1S - 1, SBT_MAX };

	for (size_t i = 0; i < COUNT(dates); i++) {
		struct timespec ts = sbttots(dates[i]);
		struct timeval tv = sbttotv(dates[i]);

		ck_assert(ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
		ck_assert(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
		ck_assert_int_eq(ts.tv_sec * 1000000000ll + ts.tv_nsec, sbttons(dates[i]));
		ck_assert_int_eq(tv.tv_sec * 1000000ll + tv.tv_usec, sbttous(dates[i]));
		ck_assert_int_eq(tstosbt(ts), nstosbt(sbttons(dates[i])));
		ck_assert_int_eq(tvtosbt(tv), ustosbt(sbttous(dates[i])));
	}
}
END_TEST

START_TEST(the_clock_is_the_callouts_clock)
{
	sbintime_t before, date, precision, after;
	struct timespec ts, monotonic;
	struct timeval tv;
	int t0, t1;

	start(1000, 0);
	for (int i = 0; i < 1000; i++) {
		before = sbinuptime();
		callout_when(0, 0, 0, &date, &precision);
		after = getsbinuptime();
		ck_assert(before <= date && date <= after);
		t0 = ticks;
		callout_when(0, 0, C_HARDCLOCK, &date, &precision);
		t1 = ticks;
		/* The tick after the last one. */
		ck_assert_int_eq(date % tick_sbt, 0);
		ck_assert(t0 + 1 <= date / tick_sbt && date / tick_sbt <= t1 + 1);
	}
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	nanouptime(&ts);
	microuptime(&tv);
	ck_assert(tstosbt(ts) >= tstosbt(monotonic) - 1 && tvtosbt(tv) >= tstosbt(monotonic) - ustosbt(2));
	ck_assert(time_uptime >= monotonic.tv_sec);
	ck_assert(time_second >= 1700000000);
	keel_deinit();
}
END_TEST

static const unsigned int frequencies[] = { 1, 7, 100, 128, 999, 1000, 1024, 4096, 10000, 999999, 1000000 };

START_TEST(hz_is_what_was_configured)
{
	struct timeval tv = { 2, 0 };
	int f = (int)frequencies[_i];
	sbintime_t date, length;

	start(frequencies[_i], 0);
	ck_assert_int_eq(hz, f);
	ck_assert_int_eq(tick_sbt, SBT_1S / f);
	callout_when(0, 0, C_HARDCLOCK | C_PREL(0), &date, &length); /* one tick, with a precision of all of it */
	ck_assert_int_eq(tick_sbt, length);
	tv.tv_sec = tv.tv_usec = 0;
	ck_assert_int_eq(tvtohz(&tv), 1);
	tv.tv_sec = -1;
	tv.tv_usec = 999999;
	ck_assert_int_eq(tvtohz(&tv), 1);
	/* Long enough from any point between two ticks, and at most two ticks more. */
	for (tv.tv_sec = 0, tv.tv_usec = 1; tv.tv_sec < 3; tv.tv_sec++) {
		ck_assert((tvtohz(&tv) - 1) * tick_sbt >= tvtosbt(tv));
		ck_assert((tvtohz(&tv) - 2) * tick_sbt < tvtosbt(tv));
	}
	tv.tv_sec = INT32_MAX;
	ck_assert_int_eq(tvtohz(&tv), INT_MAX);
	keel_deinit();
}
END_TEST

START_TEST(hz_has_a_default)
{
	ck_assert_int_eq(hz, 1000);
	start(0, 0);
	ck_assert_int_eq(hz, 1000);
	keel_deinit();
}
END_TEST

static void on_alarm(int number)
{
	(void)number;
}

START_TEST(pausing_is_never_short)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval once = { { 0, 0 }, { 0, 2000 } };
	sbintime_t begin, date, precision;

	start(0, 0);
	begin = sbinuptime();
	ck_assert_int_eq(pause_sbt("test", 3 * SBT_1MS, 0, 0), EWOULDBLOCK);
	ck_assert(sbinuptime() - begin >= 3 * SBT_1MS);
	ck_assert_int_eq(pause_sbt("test", begin, 0, C_ABSOLUTE), EWOULDBLOCK); /* past */
	callout_when(2, 0, C_HARDCLOCK, &date, &precision);
	pause_sbt("test", date, precision, C_PRECALC);
	ck_assert(sbinuptime() >= date);
	/* A signal ends it only where it was asked to. */
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
	begin = sbinuptime();
	ck_assert_int_eq(pause_sbt("test", 6 * SBT_1MS, 0, 0), EWOULDBLOCK);
	ck_assert(sbinuptime() - begin >= 6 * SBT_1MS);
	setitimer(ITIMER_REAL, &once, NULL);
	ck_assert_int_eq(pause_sbt("test", SBT_1M, 0, C_CATCH), EINTR);
	keel_deinit();
}
END_TEST

START_TEST(processors_are_registered_threads)
{
	int i, n = 0;
	unsigned int u, sum = 0;

	start(0, 0);
	ck_assert_int_eq(curcpu, 0); /* not registered: the default */
	ck_assert_int_eq(keel_thread_enter(3), 0);
	ck_assert_int_eq(curcpu, 3);
	keel_thread_leave();
	ck_assert_int_eq(mp_ncpus, 4);
	ck_assert_uint_eq(mp_maxid, 3);
	CPU_FOREACH(i)
		n += !CPU_ABSENT(i);
	CPU_FOREACH(u)
		sum += u;
	ck_assert_int_eq(n, 4);
	ck_assert_uint_eq(sum, 6);
	keel_deinit();
}
END_TEST

/* --- callouts ------------------------------------------------------------------------ */

struct client {
	struct mtx mtx;
	struct rwlock rw;
	struct callout c;
	atomic_int ran, entered, leave, wrong;
	int want;
	bool stopped;	/* under the mutex */
};

static void client_init(struct client *cl, int opts)
{
	memset(cl, 0, sizeof(*cl));
	mtx_init(&cl->mtx, "client", NULL, opts);
	rw_init(&cl->rw, "client");
}

static void client_fini(struct client *cl)
{
	callout_drain(&cl->c);
	mtx_destroy(&cl->mtx);
	rw_destroy(&cl->rw);
}

static void under_mutex(void *arg)
{
	struct client *cl = arg;

	if (!mtx_owned(&cl->mtx) || cl->stopped)
		atomic_fetch_add(&cl->wrong, 1);
	atomic_fetch_add(&cl->ran, 1);
}

static void unlocks(void *arg)
{
	struct client *cl = arg;

	mtx_assert(&cl->mtx, MA_OWNED);
	mtx_unlock(&cl->mtx);
	atomic_fetch_add(&cl->ran, 1);
}

START_TEST(a_handler_owns_the_mutex)
{
	struct client cl;

	start(0, 1);
	client_init(&cl, MTX_DEF | MTX_RECURSE);
	callout_init_mtx(&cl.c, &cl.mtx, _i ? CALLOUT_SHAREDLOCK : 0);
	mtx_lock(&cl.mtx);
	ck_assert_int_eq(callout_reset(&cl.c, hz / 500, under_mutex, &cl), 0);
	mtx_unlock(&cl.mtx);
	await(&cl.ran);
	ck_assert_int_eq(callout_drain(&cl.c), -1);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	ck_assert_int_eq(elsewhere(try_mtx, &cl.mtx), 1); /* it was given back */

	callout_init_lock(&cl.c, &cl.mtx, CALLOUT_RETURNUNLOCKED);
	mtx_lock(&cl.mtx);
	atomic_store(&cl.ran, 0);
	callout_reset(&cl.c, 1, unlocks, &cl);
	mtx_unlock(&cl.mtx);
	await(&cl.ran);
	ck_assert_int_eq(callout_drain(&cl.c), -1);
	ck_assert_int_eq(elsewhere(try_mtx, &cl.mtx), 1);

	/* With TRYLOCK, for as long as it is held elsewhere, nothing happens. */
	callout_init_mtx(&cl.c, &cl.mtx, CALLOUT_TRYLOCK);
	mtx_lock(&cl.mtx);
	atomic_store(&cl.ran, 0);
	callout_reset(&cl.c, 1, under_mutex, &cl);
	pause_sbt("test", 10 * SBT_1MS, 0, 0);
	ck_assert_int_eq(atomic_load(&cl.ran), 0);
	mtx_unlock(&cl.mtx);
	await(&cl.ran);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

static void spins(void *arg)
{
	struct client *cl = arg;

	if (!mtx_owned(&cl->mtx))
		atomic_fetch_add(&cl->wrong, 1);
	mtx_unlock_spin(&cl->mtx);
	mtx_lock_spin(&cl->mtx);
	atomic_fetch_add(&cl->ran, 1);
}

START_TEST(spin_mutexes_are_associated_too)
{
	struct client cl;

	start(0, 1);
	client_init(&cl, MTX_SPIN);
	callout_init_mtx(&cl.c, &cl.mtx, 0);
	mtx_lock_spin(&cl.mtx);
	callout_reset_sbt(&cl.c, SBT_1MS, 0, spins, &cl, C_DIRECT_EXEC);
	mtx_unlock_spin(&cl.mtx);
	await(&cl.ran);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

static void under_rwlock(void *arg)
{
	struct client *cl = arg;

	if (rw_wowned(&cl->rw) != cl->want)
		atomic_fetch_add(&cl->wrong, 1);
	rw_assert(&cl->rw, cl->want ? RA_WLOCKED : RA_RLOCKED);
	atomic_store(&cl->entered, 1);
	await(&cl->leave);
	atomic_fetch_add(&cl->ran, 1);
}

START_TEST(a_handler_owns_its_side_of_the_rwlock)
{
	struct client cl;

	start(0, 1);
	client_init(&cl, MTX_DEF);
	cl.want = _i;
	callout_init_rw(&cl.c, &cl.rw, cl.want ? 0 : CALLOUT_SHAREDLOCK);
	rw_wlock(&cl.rw);
	callout_reset(&cl.c, 1, under_rwlock, &cl);
	rw_wunlock(&cl.rw);
	await(&cl.entered);
	ck_assert_int_eq(rw_try_wlock(&cl.rw), 0);
	ck_assert_int_eq(try_read(&cl.rw), !cl.want);
	atomic_store(&cl.leave, 1);
	ck_assert_int_eq(callout_drain(&cl.c), -1);
	ck_assert_int_eq(atomic_load(&cl.ran), 1);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	ck_assert_int_eq(try_write(&cl.rw), 1);
	/* The same by the name that takes either. */
	callout_init_lock(&cl.c, &cl.rw, cl.want ? 0 : CALLOUT_SHAREDLOCK);
	rw_wlock(&cl.rw);
	callout_reset(&cl.c, hz, under_rwlock, &cl);
	ck_assert_int_eq(callout_stop(&cl.c), 1);
	rw_wunlock(&cl.rw);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

START_TEST(no_lock_is_no_lock)
{
	struct client cl;
	struct mtx *no_mtx = NULL;
	struct rwlock *no_rw = NULL;

	start(0, 1);
	client_init(&cl, MTX_DEF);
	callout_init_mtx(&cl.c, no_mtx, 0);
	callout_reset(&cl.c, hz, under_mutex, &cl);
	ck_assert_int_eq(callout_stop(&cl.c), 1); /* nothing asks who holds what */
	callout_init_rw(&cl.c, no_rw, CALLOUT_SHAREDLOCK);
	callout_reset(&cl.c, hz, under_mutex, &cl);
	ck_assert_int_eq(callout_stop(&cl.c), 1);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

/* In parentheses the name means keel/callout.h's. */
START_TEST(pthread_locks_can_still_be_had)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct client cl;

	start(0, 0);
	client_init(&cl, MTX_DEF);
	(callout_init_mtx)(&cl.c, &mutex, 0);
	pthread_mutex_lock(&mutex);
	callout_reset(&cl.c, hz, under_mutex, &cl);
	ck_assert_int_eq(callout_stop(&cl.c), 1);
	pthread_mutex_unlock(&mutex);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

/* M-3: whoever holds the lock and stops knows that the handler does not run, even when softclock waits for that lock. */
START_TEST(stopped_under_the_lock_means_stopped)
{
	struct client cl;
	int stopped[3] = { 0, 0, 0 };

	start(0, 1);
	client_init(&cl, MTX_DEF);
	callout_init_mtx(&cl.c, &cl.mtx, 0);
	for (int i = 0; i < 60; i++) {
		mtx_lock(&cl.mtx);
		cl.stopped = false;
		callout_reset_sbt(&cl.c, 0, 0, under_mutex, &cl, C_PREL(31));
		if (i % 2)
			pause_sbt("test", SBT_1MS, 0, 0); /* softclock gets to the lock */
		stopped[callout_stop(&cl.c) + 1]++;
		cl.stopped = true;
		ck_assert(!callout_pending(&cl.c) && !callout_active(&cl.c));
		mtx_unlock(&cl.mtx);
	}
	ck_assert_int_eq(callout_drain(&cl.c), -1);
	ck_assert_int_eq(stopped[2], 60);
	ck_assert_int_eq(atomic_load(&cl.ran), 0);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

/* The idiom of a callout without an associated lock: what was armed anew, or stopped, is not its handler's business. */
static void idiom(void *arg)
{
	struct client *cl = arg;

	atomic_store(&cl->entered, 1);
	mtx_lock(&cl->mtx);
	if (callout_pending(&cl->c)) {
		atomic_store(&cl->leave, 1);
		mtx_unlock(&cl->mtx);
		return;
	}
	if (!callout_active(&cl->c)) {
		atomic_store(&cl->leave, 2);
		mtx_unlock(&cl->mtx);
		return;
	}
	callout_deactivate(&cl->c);
	atomic_fetch_add(&cl->ran, 1);
	mtx_unlock(&cl->mtx);
}

START_TEST(an_unlocked_handler_finds_out_whether_it_counts)
{
	struct client cl;

	start(0, 1);
	client_init(&cl, MTX_DEF);
	callout_init(&cl.c, CALLOUT_MPSAFE);

	/* stopped while it comes to the lock */
	mtx_lock(&cl.mtx);
	callout_reset(&cl.c, 1, idiom, &cl);
	await(&cl.entered);
	ck_assert_int_eq(callout_stop(&cl.c), 0);
	mtx_unlock(&cl.mtx);
	await(&cl.leave);
	ck_assert_int_eq(atomic_load(&cl.leave), 2);
	ck_assert_int_eq(callout_drain(&cl.c), -1);

	/* armed anew meanwhile: the second one works */
	atomic_store(&cl.entered, 0);
	atomic_store(&cl.leave, 0);
	mtx_lock(&cl.mtx);
	callout_reset(&cl.c, 1, idiom, &cl);
	await(&cl.entered);
	ck_assert(!callout_pending(&cl.c) && callout_active(&cl.c));
	ck_assert_int_eq(callout_schedule(&cl.c, hz / 50), 0);
	mtx_unlock(&cl.mtx);
	await(&cl.ran);
	ck_assert_int_eq(atomic_load(&cl.leave), 1);
	ck_assert_int_eq(callout_drain(&cl.c), -1);
	ck_assert_int_eq(atomic_load(&cl.ran), 1);
	ck_assert(!callout_active(&cl.c));
	client_fini(&cl);
	keel_deinit();
}
END_TEST

/* One object, several callouts, one lock: the last drain that reports frees it (7.8). */
#define TIMERS 4
struct object {
	struct mtx mtx;
	struct callout timer[TIMERS];
	int drains;
};
static atomic_int promised, reported, freed, fired;

static void object_release(struct object *o)
{
	int last = --o->drains == 0;

	mtx_unlock(&o->mtx);
	if (last) {
		mtx_destroy(&o->mtx);
		memset(o, 0x5a, sizeof(*o));
		free(o);
		atomic_fetch_add(&freed, 1);
	}
}

static void object_drained(void *arg)
{
	struct object *o = arg;

	atomic_fetch_add(&reported, 1);
	mtx_lock(&o->mtx);
	object_release(o);
}

static void object_timer(void *arg)
{
	struct object *o = arg;

	mtx_assert(&o->mtx, MA_OWNED);
	atomic_fetch_add(&fired, 1);
}

START_TEST(the_last_asynchronous_drain_frees)
{
	enum { OBJECTS = 40 };
	int i, j;

	start(0, 3);
	for (i = 0; i < OBJECTS; i++) {
		struct object *o = calloc(1, sizeof(*o));

		mtx_init(&o->mtx, "object", NULL, MTX_DEF | MTX_NEW);
		mtx_lock(&o->mtx);
		for (j = 0; j < TIMERS; j++) {
			callout_init_mtx(&o->timer[j], &o->mtx, 0);
			callout_reset_sbt_on(&o->timer[j], j == 0 ? SBT_1M : 0, 0, object_timer, o, j % 3, 0);
		}
		pause_sbt("test", i % 4 * SBT_1MS / 2, 0, 0); /* softclocks come to the lock, or not yet */
		o->drains = 1;
		for (j = 0; j < TIMERS; j++)
			if (callout_async_drain(&o->timer[j], object_drained) == 0) {
				o->drains++;
				atomic_fetch_add(&promised, 1);
			}
		object_release(o);
	}
	while (atomic_load(&freed) < OBJECTS)
		pause_sbt("test", SBT_1MS, 0, 0);
	keel_deinit();
	ck_assert_int_eq(atomic_load(&freed), OBJECTS);
	ck_assert_int_eq(atomic_load(&reported), atomic_load(&promised));
	ck_assert_int_gt(atomic_load(&promised), 0);
	ck_assert_int_eq(atomic_load(&fired), 0); /* DEV-4: cancelled while it waited for the lock */
}
END_TEST

static void rearms_elsewhere(void *arg)
{
	struct client *cl = arg;

	if (!mtx_owned(&cl->mtx))
		atomic_fetch_add(&cl->wrong, 1);
	atomic_fetch_add(&cl->ran, 1);
	callout_reset_on(&cl->c, 1, rearms_elsewhere, cl, (curcpu + 1) % mp_ncpus);
}

START_TEST(a_periodic_callout_travels_until_it_is_drained)
{
	struct client cl;
	int ran;

	start(0, 4);
	client_init(&cl, MTX_DEF);
	callout_init_mtx(&cl.c, &cl.mtx, 0);
	mtx_lock(&cl.mtx);
	callout_reset_curcpu(&cl.c, 1, rearms_elsewhere, &cl);
	mtx_unlock(&cl.mtx);
	while (atomic_load(&cl.ran) < 20)
		pause_sbt("test", SBT_1MS, 0, 0);
	ck_assert_int_eq(callout_drain(&cl.c), 1);
	ran = atomic_load(&cl.ran);
	ck_assert(!callout_pending(&cl.c) && !callout_active(&cl.c));
	pause_sbt("test", 5 * SBT_1MS, 0, 0);
	ck_assert_int_eq(atomic_load(&cl.ran), ran);
	ck_assert_int_eq(atomic_load(&cl.wrong), 0);
	client_fini(&cl);
	keel_deinit();
}
END_TEST

/* The handler frees what it is in, with the lock that it gave back. */
static void frees_itself(void *arg)
{
	struct client *cl = arg;

	mtx_unlock(&cl->mtx);
	mtx_destroy(&cl->mtx);
	memset(cl, 0x5a, sizeof(*cl));
	free(cl);
	atomic_fetch_add(&freed, 1);
}

START_TEST(a_handler_that_returns_unlocked_may_free)
{
	start(0, 2);
	for (int i = 0; i < 30; i++) {
		struct client *cl = calloc(1, sizeof(*cl));

		mtx_init(&cl->mtx, "client", NULL, MTX_DEF);
		callout_init_mtx(&cl->c, &cl->mtx, CALLOUT_RETURNUNLOCKED);
		mtx_lock(&cl->mtx);
		callout_reset_on(&cl->c, 1, frees_itself, cl, i % 2);
		mtx_unlock(&cl->mtx);
	}
	while (atomic_load(&freed) < 30)
		pause_sbt("test", SBT_1MS, 0, 0);
	keel_deinit();
}
END_TEST

/* keel asks the lock itself. */
static struct client wrongly;

static void w_start(void)
{
	start(0, 1);
	client_init(&wrongly, MTX_DEF);
	callout_init_mtx(&wrongly.c, &wrongly.mtx, 0);
	mtx_lock(&wrongly.mtx);
	callout_reset(&wrongly.c, hz, under_mutex, &wrongly);
	mtx_unlock(&wrongly.mtx);
}

static void w_stop(void) { w_start(); callout_stop(&wrongly.c); }
static void w_async(void) { w_start(); callout_async_drain(&wrongly.c, under_mutex); }
static void w_read(void)
{
	start(0, 1);
	client_init(&wrongly, MTX_DEF);
	callout_init_rw(&wrongly.c, &wrongly.rw, CALLOUT_SHAREDLOCK);
	rw_wlock(&wrongly.rw);
	callout_reset(&wrongly.c, hz, under_mutex, &wrongly);
	rw_wunlock(&wrongly.rw);
	rw_rlock(&wrongly.rw);
	callout_stop(&wrongly.c);
}
static void w_drain(void)
{
	w_start();
	mtx_lock(&wrongly.mtx);
	callout_reset_sbt(&wrongly.c, 0, 0, under_mutex, &wrongly, 0);
	/* Until softclock waits for the mutex. */
	while (callout_pending(&wrongly.c))
		pause_sbt("test", SBT_1MS, 0, 0);
	callout_drain(&wrongly.c);
}
static void w_raw(void) { struct mtx raw; struct callout c; memset(&raw, 0, sizeof(raw)); callout_init_mtx(&c, &raw, 0); }
static void w_flags(void) { struct callout c; m_init(MTX_DEF); callout_init_mtx(&c, &bad, 0x4000); }
static void w_returns(void) { struct callout c; callout_init_mtx(&c, (struct mtx *)NULL, CALLOUT_RETURNUNLOCKED); }

START_TEST(keel_asks_the_lock)
{
	dies(w_stop, "callout_stop");
	dies(w_async, "callout_async_drain");
	dies(w_read, "callout_stop");
	dies(w_drain, "callout_drain");
	dies(w_raw, "is not initialised");
	dies(w_flags, "callout_init");
	dies(w_returns, "callout_init");
}
END_TEST

/* --- lists --------------------------------------------------------------------------- */

struct element {
	LIST_ENTRY(element) list;
	TAILQ_ENTRY(element) tailq;
	SLIST_ENTRY(element) slist;
	STAILQ_ENTRY(element) stailq;
};

START_TEST(safe_loops_survive_removal)
{
	LIST_HEAD(, element) list = LIST_HEAD_INITIALIZER(list);
	TAILQ_HEAD(, element) tailq = TAILQ_HEAD_INITIALIZER(tailq);
	SLIST_HEAD(, element) slist = SLIST_HEAD_INITIALIZER(slist);
	STAILQ_HEAD(, element) stailq = STAILQ_HEAD_INITIALIZER(stailq);
	struct element *e, *next, elements[5];
	int n = 0;

	for (size_t i = 0; i < COUNT(elements); i++) {
		LIST_INSERT_HEAD(&list, &elements[i], list);
		TAILQ_INSERT_TAIL(&tailq, &elements[i], tailq);
		SLIST_INSERT_HEAD(&slist, &elements[i], slist);
		STAILQ_INSERT_TAIL(&stailq, &elements[i], stailq);
	}
	LIST_FOREACH_SAFE(e, &list, list, next) {
		LIST_REMOVE(e, list);
		memset(&e->list, 0x5a, sizeof(e->list));
		n++;
	}
	TAILQ_FOREACH_SAFE(e, &tailq, tailq, next) {
		TAILQ_REMOVE(&tailq, e, tailq);
		memset(&e->tailq, 0x5a, sizeof(e->tailq));
		n++;
	}
	SLIST_FOREACH_SAFE(e, &slist, slist, next) {
		SLIST_REMOVE(&slist, e, element, slist);
		memset(&e->slist, 0x5a, sizeof(e->slist));
		n++;
	}
	STAILQ_FOREACH_SAFE(e, &stailq, stailq, next) {
		STAILQ_REMOVE(&stailq, e, element, stailq);
		memset(&e->stailq, 0x5a, sizeof(e->stailq));
		n++;
	}
	ck_assert_int_eq(n, 20);
	ck_assert(LIST_EMPTY(&list) && TAILQ_EMPTY(&tailq) && SLIST_EMPTY(&slist) && STAILQ_EMPTY(&stailq));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compat/freebsd");
	TCase *locks = tcase_create("locks"), *clock = tcase_create("time"), *callouts = tcase_create("callouts");

	tcase_set_timeout(locks, 30);
	tcase_add_test(locks, a_mutex_knows_its_owner);
	tcase_add_test(locks, a_recursive_mutex_counts);
	tcase_add_test(locks, a_spin_mutex_has_calls_of_its_own);
	tcase_add_test(locks, sysinit_comes_before_main);
	tcase_add_test(locks, a_mutex_excludes);
	tcase_add_test(locks, a_condition_gives_the_mutex_back);
	tcase_add_test(locks, wrong_use_of_mutexes_is_a_panic);
	tcase_add_test(locks, assertions_say_their_words);
	tcase_add_test(locks, readers_share_and_a_writer_does_not);
	tcase_add_test(locks, a_writer_recurses_if_it_may);
	tcase_add_test(locks, a_reader_becomes_the_writer_and_back);
	tcase_add_test(locks, a_writer_is_alone);
	tcase_add_test(locks, wrong_use_of_rwlocks_is_a_panic);
	tcase_add_test(locks, safe_loops_survive_removal);
	suite_add_tcase(suite, locks);

	tcase_set_timeout(clock, 30);
	tcase_add_loop_test(clock, conversions_are_exact, 0, (int)COUNT(units));
	tcase_add_test(clock, many_nanoseconds_are_not_many_times_one);
	tcase_add_test(clock, structures_are_exact);
	tcase_add_test(clock, the_clock_is_the_callouts_clock);
	tcase_add_loop_test(clock, hz_is_what_was_configured, 0, (int)COUNT(frequencies));
	tcase_add_test(clock, hz_has_a_default);
	tcase_add_test(clock, pausing_is_never_short);
	tcase_add_test(clock, processors_are_registered_threads);
	suite_add_tcase(suite, clock);

	tcase_set_timeout(callouts, 30);
	tcase_add_loop_test(callouts, a_handler_owns_the_mutex, 0, 2);
	tcase_add_test(callouts, spin_mutexes_are_associated_too);
	tcase_add_loop_test(callouts, a_handler_owns_its_side_of_the_rwlock, 0, 2);
	tcase_add_test(callouts, no_lock_is_no_lock);
	tcase_add_test(callouts, pthread_locks_can_still_be_had);
	tcase_add_test(callouts, stopped_under_the_lock_means_stopped);
	tcase_add_test(callouts, an_unlocked_handler_finds_out_whether_it_counts);
	tcase_add_test(callouts, the_last_asynchronous_drain_frees);
	tcase_add_test(callouts, a_periodic_callout_travels_until_it_is_drained);
	tcase_add_test(callouts, a_handler_that_returns_unlocked_may_free);
	tcase_add_test(callouts, keel_asks_the_lock);
	suite_add_tcase(suite, callouts);
	return run_suite(suite);
}
