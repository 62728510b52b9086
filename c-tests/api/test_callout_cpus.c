/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: cpus that come and go (T-12, X-1, CINV-29, CINV-30), threads
 * that keel starts, the end of the library, fork (CINV-32). */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "memory.h"
#include "suite.h"

static void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

static void nap(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

static sbintime_t uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((sbintime_t)ts.tv_sec << 32) |
	       (sbintime_t)(((uint64_t)ts.tv_nsec << 32) / 1000000000u);
}

/* Waits for a condition, long enough for any machine; <turn> goes on meanwhile. */
#define await(condition, ...) \
	do { \
		for (int left_ = 20000; !(condition); left_--) { \
			ck_assert_msg(left_ > 0, "waited in vain for %s", #condition); \
			__VA_ARGS__; \
			nap(1000); \
		} \
	} while (0)

/* What a handler saw. */
struct note {
	struct callout c;
	atomic_int runs;
	atomic_uint tid;
	sbintime_t date;
	atomic_int early;
};

static void takes_note(void *arg)
{
	struct note *n = arg;

	if (n->date && uptime() < n->date)
		atomic_store(&n->early, 1);
	atomic_store(&n->tid, keel_tid());
	atomic_fetch_add(&n->runs, 1);
}

static int arm_at(struct note *n, sbintime_t delay, int cpu)
{
	n->date = uptime() + delay;
	return callout_reset_sbt_on(&n->c, n->date, 0, takes_note, n, cpu, C_ABSOLUTE);
}

/* Whether the process has no other thread; one that was joined may still show
 * for a moment. */
static int alone(void)
{
	int n = 0;
	DIR *d;

#ifdef __SANITIZE_THREAD__
	return 1; /* the checker has threads of its own */
#endif
	if (emulated())
		return 1; /* so has qemu */
	d = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n == 2 + 1; /* ., .. and this one */
}

/* --- cpus that come and go --------------------------------------------------- */

START_TEST(any_thread_may_run_softclock)
{
	struct note n = { .runs = 0 };

	start(2);
	callout_init(&n.c, CALLOUT_MPSAFE);
	ck_assert_int_eq(arm_at(&n, 5 * SBT_1MS, -1), 0);
	softclock(0);
	await(atomic_load(&n.runs), softclock(0));
	ck_assert_uint_eq(atomic_load(&n.tid), ~0U);
	ck_assert_int_eq(atomic_load(&n.early), 0);
	ck_assert(!callout_pending(&n.c));
	keel_deinit();
}
END_TEST

START_TEST(who_enters_first_runs_what_waited)
{
	struct note n = { .runs = 0 }, elsewhere = { .runs = 0 };

	start(4);
	callout_init(&n.c, CALLOUT_MPSAFE);
	callout_init(&elsewhere.c, CALLOUT_MPSAFE);
	arm_at(&n, 0, -1);
	arm_at(&elsewhere, 20 * SBT_1MS, 3);
	nap(3000);
	ck_assert_int_eq(atomic_load(&n.runs), 0);
	ck_assert_int_eq(keel_thread_enter(2), 0);
	await(atomic_load(&n.runs) && atomic_load(&elsewhere.runs), keel_poll_once(0));
	ck_assert_uint_eq(atomic_load(&n.tid), 2);
	ck_assert_uint_eq(atomic_load(&elsewhere.tid), 2);
	ck_assert_int_eq(atomic_load(&elsewhere.early), 0);
	keel_deinit();
}
END_TEST

static void *sleeps_as(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	ck_assert_int_eq(keel_thread_enter(id), 0);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

static pthread_t cpu_thread(unsigned int id)
{
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, sleeps_as, (void *)(size_t)id), 0);
	return th;
}

/* SHOWS: CINV-29 */
START_TEST(a_closed_cpu_means_the_default)
{
	struct note n = { .runs = 0 };
	pthread_t th;

	start(4);
	callout_init(&n.c, CALLOUT_MPSAFE);
	ck_assert_int_eq(keel_thread_enter(1), 0);
	/* 1 stands in for 0 */
	arm_at(&n, 0, 3);
	await(atomic_load(&n.runs) == 1, keel_poll_once(0));
	ck_assert_uint_eq(atomic_load(&n.tid), 1);
	/* and no longer when 0 is there */
	th = cpu_thread(0);
	await(atomic_load(&n.runs) >= 2 && atomic_load(&n.tid) == 0, {
		arm_at(&n, 0, 3);
		keel_poll_once(0);
	});
	/* a cpu that is open is taken at its word */
	arm_at(&n, 0, 1);
	await(atomic_load(&n.tid) == 1, keel_poll_once(0));
	keel_stop();
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&n.early), 0);
	keel_deinit();
}
END_TEST

#define MANY 1000
static struct note many[MANY];

static void *arms_and_leaves(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(2), 0);
	for (int i = 0; i < MANY; i++) {
		callout_init(&many[i].c, CALLOUT_MPSAFE);
		many[i].date = uptime() + (i * 37 % 50) * SBT_1MS;
		callout_reset_sbt_curcpu(&many[i].c, many[i].date, 0, takes_note, &many[i], C_ABSOLUTE);
	}
	keel_thread_leave();
	return NULL;
}

/* SHOWS: CINV-29 */
START_TEST(who_leaves_hands_its_callouts_over)
{
	pthread_t th;
	int runs = 0;

	start(4);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pthread_create(&th, NULL, arms_and_leaves, NULL);
	pthread_join(th, NULL);
	for (int i = 0; i < MANY; i++) {
		await(atomic_load(&many[i].runs), keel_poll_once(0));
		ck_assert_uint_eq(atomic_load(&many[i].tid), 0);
		ck_assert_int_eq(atomic_load(&many[i].early), 0);
	}
	nap(5000);
	keel_poll_once(0);
	for (int i = 0; i < MANY; i++)
		runs += atomic_load(&many[i].runs);
	ck_assert_int_eq(runs, MANY);
	keel_deinit();
}
END_TEST

/* The one that takes over sleeps for longer than what it gets. */
START_TEST(who_takes_over_is_woken)
{
	struct note far = { .runs = 0 }, near = { .runs = 0 };
	pthread_t th;

	start(2);
	callout_init(&far.c, CALLOUT_MPSAFE);
	callout_init(&near.c, CALLOUT_MPSAFE);
	th = cpu_thread(0);
	arm_at(&far, 3600 * SBT_1S, 0);
	nap(20000);
	ck_assert_int_eq(keel_thread_enter(1), 0);
	arm_at(&near, 30 * SBT_1MS, 1);
	keel_thread_leave();
	await(atomic_load(&near.runs), ;);
	ck_assert_uint_eq(atomic_load(&near.tid), 0);
	ck_assert_int_eq(atomic_load(&near.early), 0);
	ck_assert_int_eq(callout_stop(&far.c), 1);
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* A callout whose handler runs on a cpu that closes meanwhile: another thread
 * is in softclock() for it. It stays in use until the handler is through, and
 * what the handler armed goes where somebody is. */
static atomic_int in_handler, go_on;
static struct note survivor;

static void holds_the_slot(void *arg)
{
	struct callout *c = arg;

	atomic_store(&in_handler, 1);
	while (!atomic_load(&go_on))
		nap(500);
	survivor.date = uptime() + 5 * SBT_1MS;
	callout_reset_sbt_on(c, survivor.date, 0, takes_note, &survivor, 1, C_ABSOLUTE);
}

static void *runs_softclock_1(void *arg)
{
	while (!atomic_load(&in_handler)) {
		softclock(1);
		nap(100);
	}
	return arg;
}

static void *owns_1(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	callout_reset_on(arg, 0, holds_the_slot, arg, 1);
	while (!atomic_load(&in_handler))
		nap(500);
	keel_thread_leave();
	atomic_store(&go_on, 1);
	return NULL;
}

START_TEST(a_cpu_closes_while_it_executes)
{
	static struct callout c;
	pthread_t owner, runner;

	start(2);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_init(&c, CALLOUT_MPSAFE);
	pthread_create(&runner, NULL, runs_softclock_1, NULL);
	pthread_create(&owner, NULL, owns_1, &c);
	await(atomic_load(&go_on), keel_poll_once(0));
	pthread_join(owner, NULL);
	pthread_join(runner, NULL);
	await(atomic_load(&survivor.runs), keel_poll_once(0));
	ck_assert_uint_eq(atomic_load(&survivor.tid), 0);
	ck_assert_int_eq(atomic_load(&survivor.early), 0);
	ck_assert_int_eq(callout_drain(&c), -1);
	keel_deinit();
}
END_TEST

/* --- the storm ---------------------------------------------------------------- */

#define STORMY 40
#define CPUS   4

static struct stormy {
	struct callout c;
	int with_lock;
	pthread_mutex_t lock;
	sbintime_t date; /* under the lock */
	atomic_ulong armed, started, removed, drained;
} storm[STORMY];

static atomic_int calm, over;
static atomic_ulong comings;

static unsigned int dice(unsigned int sides)
{
	static __thread unsigned int seed;

	if (!seed)
		seed = (unsigned int)(size_t)&seed ^ (unsigned int)getpid();
	return (unsigned int)rand_r(&seed) / 7 % sides;
}

static void storms(void *arg);

/* With the lock held, if it has one. */
static void arm_stormy(struct stormy *s)
{
	s->date = s->with_lock ? uptime() + dice(2000) * SBT_1US : uptime();
	atomic_fetch_add(&s->armed, 1);
	atomic_fetch_add(&s->removed, (unsigned long)callout_reset_sbt_on(&s->c,
	        s->with_lock ? s->date : uptime() + dice(2000) * SBT_1US, 0, storms, s,
	        (int)dice(CPUS), C_ABSOLUTE));
}

static void storms(void *arg)
{
	struct stormy *s = arg;

	if (s->with_lock)
		ck_assert(uptime() >= s->date);
	atomic_fetch_add(&s->started, 1);
	if (!dice(8))
		nap(100);
	if (dice(2) && !atomic_load(&calm)) {
		if (s->with_lock) {
			arm_stormy(s);
		} else {
			atomic_fetch_add(&s->armed, 1);
			atomic_fetch_add(&s->removed, (unsigned long)callout_reset_on(&s->c, 1, storms, s,
			        (int)dice(CPUS)));
		}
	}
}

static void *comes_and_goes(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	while (!atomic_load(&over)) {
		ck_assert_int_eq(keel_thread_enter(id), 0);
		for (unsigned int i = dice(20); i; i--) {
			if (dice(2))
				keel_poll_once((int)dice(2));
			else
				softclock(id);
		}
		keel_thread_leave();
		atomic_fetch_add(&comings, 1);
		if (!dice(4))
			nap(dice(1000));
	}
	return NULL;
}

static void *runs_any(void *arg)
{
	while (!atomic_load(&over)) {
		softclock(dice(CPUS));
		nap(dice(200));
	}
	return arg;
}

START_TEST(cpus_come_and_go_under_load)
{
	pthread_t th[CPUS + 1];
	uint64_t limit;

	start(CPUS);
	for (int i = 0; i < STORMY; i++) {
		storm[i].with_lock = i % 2;
		pthread_mutex_init(&storm[i].lock, NULL);
		callout_init_mtx(&storm[i].c, i % 2 ? &storm[i].lock : NULL, 0);
	}
	for (size_t i = 0; i < CPUS; i++)
		pthread_create(&th[i], NULL, comes_and_goes, (void *)i);
	pthread_create(&th[CPUS], NULL, runs_any, NULL);
	limit = keel_now_ns() + 1500000000u;
	while (keel_now_ns() < limit) {
		struct stormy *s = &storm[dice(STORMY)];
		int rc;

		if (!s->with_lock) {
			if (dice(20)) {
				arm_stormy(s);
			} else {
				/* a refused re-arming is told from a removed one by nobody */
				rc = callout_drain(&s->c);
				ck_assert_int_ne(rc, 0);
				atomic_fetch_add(&s->drained, 1);
				atomic_fetch_add(&s->removed, rc == 1);
			}
		} else {
			pthread_mutex_lock(&s->lock);
			if (dice(4)) {
				arm_stormy(s);
			} else {
				rc = callout_stop(&s->c);
				ck_assert_int_ne(rc, 0);
				atomic_fetch_add(&s->removed, rc == 1);
			}
			pthread_mutex_unlock(&s->lock);
		}
		if (!dice(4))
			nap(dice(100));
	}
	atomic_store(&calm, 1);
	/* nothing was lost: what is armed comes */
	for (int i = 0; i < STORMY; i++)
		await(!callout_pending(&storm[i].c), ;);
	for (int i = 0; i < STORMY; i++) {
		struct stormy *s = &storm[i];
		unsigned long missing;

		ck_assert_int_eq(callout_drain(&s->c), -1);
		missing = s->armed - s->started - s->removed;
		ck_assert_msg(missing <= s->drained, "%lu armed, %lu started, %lu removed", s->armed, s->started,
		              s->removed);
		ck_assert_uint_gt(s->started, 0);
	}
	atomic_store(&over, 1);
	for (int i = 0; i <= CPUS; i++)
		pthread_join(th[i], NULL);
	ck_assert_uint_gt(atomic_load(&comings), CPUS);
	keel_deinit();
}
END_TEST

/* --- what a handler must not do (CINV-30) ------------------------------------- */

static sigjmp_buf out;

static void leaves(void *arg) { (void)arg; keel_thread_leave(); }
static void runs_softclock(void *arg) { (void)arg; softclock(0); }
static void turns(void *arg) { (void)arg; keel_poll_once(0); }
static void jumps(void *arg) { (void)arg; siglongjmp(out, 1); }

static void run_handler(void (*fn)(void *))
{
	static struct callout c;

	start(2);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_init(&c, CALLOUT_MPSAFE);
	callout_reset(&c, 0, fn, NULL);
	for (int i = 0; i < 2000; i++) {
		softclock(0);
		nap(1000);
	}
}

/* SHOWS: CINV-30 */
START_TEST(leaving_in_a_handler_is_a_panic) { run_handler(leaves); }
END_TEST

/* SHOWS: CINV-30 */
START_TEST(softclock_in_a_handler_is_a_panic) { run_handler(runs_softclock); }
END_TEST

START_TEST(a_turn_of_the_loop_in_a_handler_is_a_panic) { run_handler(turns); }
END_TEST

/* SHOWS: CINV-30 */
START_TEST(jumping_out_of_a_handler_is_a_panic)
{
	if (sigsetjmp(out, 0) == 0)
		run_handler(jumps);
	softclock(0);
}
END_TEST

/* Another cpu's pass is another matter. */
static struct note other;

static void runs_the_others(void *arg)
{
	(void)arg;
	softclock(1);
	softclock(1);
}

START_TEST(a_handler_may_run_another_cpu)
{
	static struct callout c;
	pthread_t th;

	start(2);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_init(&c, CALLOUT_MPSAFE);
	callout_init(&other.c, CALLOUT_MPSAFE);
	th = cpu_thread(1);
	for (int i = 0; i < 20; i++) {
		int before = atomic_load(&other.runs);

		arm_at(&other, 0, 1);
		callout_reset(&c, 0, runs_the_others, NULL);
		await(atomic_load(&other.runs) > before && !callout_pending(&c), keel_poll_once(0));
	}
	ck_assert_int_eq(atomic_load(&other.runs), 20);
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

START_TEST(a_cpu_out_of_range_is_a_panic)
{
	start(2);
	softclock(2);
}
END_TEST

/* --- threads that keel starts -------------------------------------------------- */

START_TEST(threads_of_keel_have_their_returns)
{
	ck_assert_int_eq(keel_callout_start_threads(1), -EINVAL);
	start(3);
	ck_assert_int_eq(keel_callout_start_threads(0), -EINVAL);
	ck_assert_int_eq(keel_callout_start_threads(4), -EINVAL);
	ck_assert_int_eq(keel_thread_enter(1), 0);
	ck_assert_int_eq(keel_callout_start_threads(3), -EBUSY);
	await(alone(), ;);
	ck_assert_int_eq(keel_callout_start_threads(1), 0);
	ck_assert_int_eq(keel_callout_start_threads(2), -EBUSY);
	ck_assert_int_eq(keel_callout_start_threads(1), 0);
	ck_assert_int_eq(keel_callout_start_threads(1), -EBUSY);
	keel_deinit();
	await(alone(), ;);
	ck_assert_int_eq(keel_callout_start_threads(1), -EINVAL);
}
END_TEST

START_TEST(threads_that_cannot_start_leave_none)
{
	struct rlimit now, tight;
	FILE *f;
	long pages = 0;
	int rc;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return;
#endif
	if (getenv("LD_PRELOAD") && strstr(getenv("LD_PRELOAD"), "vgpreload"))
		return;
	NOT_UNDER_QEMU("it ignores RLIMIT_AS");
	start(16);
	f = fopen("/proc/self/statm", "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
	fclose(f);
	getrlimit(RLIMIT_AS, &now);
	tight = now;
	/* room for some stacks, not for sixteen */
	tight.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (40 << 20);
	setrlimit(RLIMIT_AS, &tight);
	rc = keel_callout_start_threads(16);
	setrlimit(RLIMIT_AS, &now);
	ck_assert_int_eq(rc, -EAGAIN);
	await(alone(), ;);
	ck_assert_int_eq(keel_callout_start_threads(16), 0);
	keel_deinit();
}
END_TEST

START_TEST(threads_of_keel_serve_callouts)
{
	struct note n[3] = { { .runs = 0 } };
	unsigned int seen = 0;

	start(3);
	for (int i = 0; i < 3; i++) {
		callout_init(&n[i].c, CALLOUT_MPSAFE);
		arm_at(&n[i], 5 * SBT_1MS, i); /* all wait for the first that comes */
	}
	ck_assert_int_eq(keel_callout_start_threads(3), 0);
	for (int i = 0; i < 3; i++) {
		await(atomic_load(&n[i].runs) == 1, ;);
		arm_at(&n[i], 2 * SBT_1MS, i);
		await(atomic_load(&n[i].runs) == 2, ;);
		seen |= 1U << atomic_load(&n[i].tid);
		ck_assert_int_eq(atomic_load(&n[i].early), 0);
	}
	ck_assert_uint_eq(seen, 7);
	/* drains of what they run work from here */
	arm_at(&n[0], 0, 2);
	ck_assert_int_ne(callout_drain(&n[0].c), 0);
	keel_deinit();
	await(alone(), ;);
}
END_TEST

START_TEST(host_threads_and_keels_live_together)
{
	struct note mine = { .runs = 0 }, theirs[2] = { { .runs = 0 } }, hosts = { .runs = 0 };
	pthread_t th;

	start(4);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	th = cpu_thread(2);
	callout_init(&hosts.c, CALLOUT_MPSAFE);
	await(atomic_load(&hosts.tid) == 2, {
		arm_at(&hosts, 0, 2);
		keel_poll_once(0);
	});
	ck_assert_int_eq(keel_callout_start_threads(2), 0); /* 1 and 3 */
	callout_init(&mine.c, CALLOUT_MPSAFE);
	for (int i = 0; i < 2; i++)
		callout_init(&theirs[i].c, CALLOUT_MPSAFE);
	arm_at(&mine, 0, 0);
	arm_at(&theirs[0], 0, 1);
	arm_at(&theirs[1], 0, 3);
	await(atomic_load(&theirs[0].runs) && atomic_load(&theirs[1].runs), ;);
	ck_assert_uint_eq(atomic_load(&theirs[0].tid), 1);
	ck_assert_uint_eq(atomic_load(&theirs[1].tid), 3);
	ck_assert_int_eq(atomic_load(&mine.runs), 0);
	await(atomic_load(&mine.runs), keel_poll_once(0));
	ck_assert_uint_eq(atomic_load(&mine.tid), 0);
	/* keel_stop() ends the host's loops, not theirs */
	keel_stop();
	pthread_join(th, NULL);
	arm_at(&theirs[0], 5 * SBT_1MS, 1);
	await(atomic_load(&theirs[0].runs) == 2, ;);
	ck_assert_uint_eq(atomic_load(&theirs[0].tid), 1);
	keel_deinit();
	await(alone(), ;);
}
END_TEST

/* --- the end ------------------------------------------------------------------- */

START_TEST(deinit_makes_callouts_idle)
{
	struct note n[8] = { { .runs = 0 } };

	for (int round = 0; round < 3; round++) {
		start(4);
		ck_assert_int_eq(keel_thread_enter(0), 0);
		if (round == 1)
			ck_assert_int_eq(keel_callout_start_threads(3), 0);
		for (int i = 0; i < 8; i++) {
			/* never initialised but by zeroes, in the first round */
			ck_assert_int_eq(arm_at(&n[i], (i % 2 ? 3600 : 36000) * SBT_1S, i % 4), 0);
			ck_assert(callout_pending(&n[i].c) && callout_active(&n[i].c));
		}
		keel_deinit();
		for (int i = 0; i < 8; i++) {
			ck_assert(!callout_pending(&n[i].c));
			ck_assert_int_eq(callout_stop(&n[i].c), -1);
			ck_assert_int_eq(callout_drain(&n[i].c), -1);
			ck_assert(!callout_active(&n[i].c));
		}
	}
	start(1);
	arm_at(&n[7], 0, 0);
	await(atomic_load(&n[7].runs), softclock(0));
	keel_deinit();
}
END_TEST

static void again(void *arg)
{
	takes_note(arg);
	callout_schedule_on(&((struct note *)arg)->c, 1, (int)dice(keel_nbthread()));
}

START_TEST(deinit_ends_what_never_ends)
{
	struct note n[8] = { { .runs = 0 } };

	for (int round = 0; round < 5; round++) {
		start(3);
		ck_assert_int_eq(keel_callout_start_threads(3), 0);
		for (int i = 0; i < 8; i++)
			callout_reset_on(&n[i].c, 1, again, &n[i], i % 3);
		await(atomic_load(&n[round].runs) > 10, ;);
		keel_deinit();
		await(alone(), ;);
		for (int i = 0; i < 8; i++) {
			ck_assert(!callout_pending(&n[i].c));
			atomic_store(&n[i].runs, 0);
		}
		nap(3000);
		for (int i = 0; i < 8; i++)
			ck_assert_int_eq(atomic_load(&n[i].runs), 0);
	}
}
END_TEST

START_TEST(arming_before_init_is_a_panic)
{
	struct note n = { .runs = 0 };

	arm_at(&n, 0, 0);
}
END_TEST

/* --- fork ------------------------------------------------------------------------ */

/* In the child: 0, or what went wrong. */
static int child(struct note *n, struct note *parents)
{
	alarm(30);
	callout_init(&n->c, CALLOUT_MPSAFE);
	for (int cpu = 0; cpu < 3; cpu++) {
		int before = atomic_load(&n->runs);

		if (arm_at(n, 2 * SBT_1MS, cpu) != 0)
			return 1;
		for (int left = 10000; atomic_load(&n->runs) == before; left--) {
			if (!left)
				return 2;
			nap(1000);
			for (unsigned int i = 0; i < 3; i++)
				softclock(i);
		}
		if (atomic_load(&n->early))
			return 3;
	}
	arm_at(n, 3600 * SBT_1S, 1);
	if (callout_stop(&n->c) != 1 || callout_stop(&n->c) != -1)
		return 4;
	arm_at(n, 3600 * SBT_1S, 2);
	if (callout_drain(&n->c) != 1 || callout_drain(&n->c) != -1)
		return 5;
	/* what the parent's threads were executing is not executed here */
	for (int i = 0; i < 8; i++)
		if (callout_drain(&parents[i].c) == 0 || callout_pending(&parents[i].c))
			return 6;
	return 0;
}

/* Whenever the parent forks, its threads are in the midst of one. */
static void busy(void *arg)
{
	struct note *n = arg;
	uint64_t end = keel_now_ns() + 50000;

	takes_note(n);
	while (keel_now_ns() < end)
		;
	callout_reset_on(&n->c, 0, busy, n, (int)dice(3));
}

/* SHOWS: CINV-32 */
START_TEST(a_child_of_fork_has_callouts)
{
	struct note n = { .runs = 0 };
	static struct note parents[8];

	start(3);
	ck_assert_int_eq(keel_callout_start_threads(3), 0);
	for (int i = 0; i < 8; i++)
		callout_reset_on(&parents[i].c, 0, busy, &parents[i], i % 3);
	for (int round = 0; round < 30; round++) {
		int status, before;
		pid_t pid;

		nap(1000);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			_exit(child(&n, parents));
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %#x", status);
		before = atomic_load(&parents[round % 8].runs);
		await(atomic_load(&parents[round % 8].runs) > before, ;);
	}
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout_cpus");
	TCase *tc = tcase_create("callout_cpus");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, any_thread_may_run_softclock);
	tcase_add_test(tc, who_enters_first_runs_what_waited);
	tcase_add_test(tc, a_closed_cpu_means_the_default);
	tcase_add_test(tc, who_leaves_hands_its_callouts_over);
	tcase_add_test(tc, who_takes_over_is_woken);
	tcase_add_test(tc, a_cpu_closes_while_it_executes);
	tcase_add_test(tc, cpus_come_and_go_under_load);
	tcase_add_test_raise_signal(tc, leaving_in_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(tc, softclock_in_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(tc, a_turn_of_the_loop_in_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(tc, jumping_out_of_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(tc, a_cpu_out_of_range_is_a_panic, SIGABRT);
	tcase_add_test(tc, a_handler_may_run_another_cpu);
	tcase_add_test(tc, threads_of_keel_have_their_returns);
	tcase_add_test(tc, threads_that_cannot_start_leave_none);
	tcase_add_test(tc, threads_of_keel_serve_callouts);
	tcase_add_test(tc, host_threads_and_keels_live_together);
	tcase_add_test(tc, deinit_makes_callouts_idle);
	tcase_add_test(tc, deinit_ends_what_never_ends);
	tcase_add_test_raise_signal(tc, arming_before_init_is_a_panic, SIGABRT);
	tcase_add_test(tc, a_child_of_fork_has_callouts);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
