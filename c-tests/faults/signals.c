/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Signals without SA_RESTART that arrive all the time: what sleeps in the
 * library sleeps on, and what the headers call async-signal-safe may be called
 * by a handler that interrupted the library in this very thread.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "../api/fds.h"
#include "../api/suite.h"

static atomic_int arrived, stop_storm;

static void arrives(int number)
{
	(void)number;
	atomic_fetch_add(&arrived, 1);
}

static void *strikes(void *arg)
{
	while (!atomic_load(&stop_storm)) {
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
		usleep(200);
	}
	return NULL;
}

static pthread_t striker, struck;

/* From here on the calling thread is interrupted five thousand times a second. */
static void storm(void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler };

	sigaction(SIGUSR1, &sa, NULL);
	struck = pthread_self();
	ck_assert_int_eq(pthread_create(&striker, NULL, strikes, &struck), 0);
}

static void calm(void)
{
	atomic_store(&stop_storm, 1);
	pthread_join(striker, NULL);
	ck_assert_int_gt(atomic_load(&arrived), 10);
}

/* --- what waits ---------------------------------------------------------------------- */

static void *empties(void *arg)
{
	char some[512];
	long all = 0;
	ssize_t n;

	while ((n = read(*(int *)arg, some, sizeof(some))) > 0) {
		all += n;
		usleep(20000);
	}
	return (void *)all;
}

/* A dump is whole, or says that it is not: it waits for room in a pipe. */
START_TEST(a_dump_waits_for_room)
{
	static char full[65536];
	pthread_t reader;
	void *got;
	int ends[2], said;

	start(1);
	for (int i = 0; i < 200; i++)
		watch(event(0), note, 1);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	ck_assert_int_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	while (write(ends[1], full, 1) == 1)
		;
	said = fcntl(ends[1], F_GETPIPE_SZ);
	pthread_create(&reader, NULL, empties, &ends[0]);
	storm(arrives);
	int rc = keel_dump_fds(ends[1]);
	calm();
	close(ends[1]);
	pthread_join(reader, &got);
	ck_assert_int_gt(rc, 2 * said);
	ck_assert_int_eq((long)got, rc + said);
}
END_TEST

static atomic_int begun, done;

static void takes_long(void *arg)
{
	(void)arg;
	atomic_store(&begun, 1);
	usleep(60000);
	atomic_store(&done, 1);
}

static struct task *takes_long_too(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	takes_long(NULL);
	return t;
}

static atomic_int leave, entered;

static void *serves(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	atomic_store(&entered, 1);
	while (!atomic_load(&leave))
		keel_poll_once(10);
	keel_thread_leave();
	return NULL;
}

/* 0: a drain; 1: isolation. */
START_TEST(waits_end_when_they_should)
{
	struct callout c;
	struct task *t;
	pthread_t th;

	start(2);
	pthread_create(&th, NULL, serves, NULL);
	while (!atomic_load(&entered))
		usleep(100);
	t = task_new(2);
	t->process = takes_long_too;
	callout_init(&c, 1);
	storm(arrives);
	for (int round = 0; round < 3; round++) {
		atomic_store(&begun, 0);
		atomic_store(&done, 0);
		if (_i == 0)
			callout_reset_sbt_on(&c, SBT_1MS, 0, takes_long, NULL, 1, 0);
		else
			task_wakeup(t, TASK_WOKEN_MSG);
		for (int i = 0; i < 100000 && !atomic_load(&begun); i++)
			usleep(100);
		if (_i == 0)
			callout_drain(&c);
		else
			thread_isolate();
		ck_assert_int_eq(atomic_load(&begun), 1);
		ck_assert_int_eq(atomic_load(&done), 1);
		if (_i)
			thread_release();
	}
	calm();
	atomic_store(&leave, 1);
	wake_thread(1);
	pthread_join(th, NULL);
	task_destroy(t);
	keel_thread_leave();
	keel_deinit();
}
END_TEST

/* --- what handlers may call ---------------------------------------------------------- */

static struct callout often;
static struct freq_ctr rate;
static unsigned int sums[5];
static atomic_int wrong, end_now, stopped;

static void calls_everything(int number)
{
	int saved = errno = 4711;

	(void)number;
	wake_thread(0);
	wake_thread(1);
	wake_thread(-1);
	wake_thread(64);
	if ((keel_tid() != 0 && !atomic_load(&stopped)) || keel_nbthread() != 2 ||
	    keel_all_threads_mask() != 3 || keel_callout_hz() != 1000 ||
	    keel_now_ns() == 0 || strcmp(keel_version(), "1.0.0") != 0)
		atomic_fetch_add(&wrong, 1);
	(void)callout_pending(&often);
	(void)callout_active(&often);
	callout_deactivate(&often);
	(void)freq_ctr_total_estimate(&rate, 1000, 0);
	swrate_add(&sums[0], 16, 100);
	swrate_add_dynamic(&sums[1], 16, 100);
	swrate_add_scaled(&sums[2], 512, 100, 2);
	swrate_add_opportunistic(&sums[3], 16, 100);
	swrate_add_scaled_opportunistic(&sums[4], 512, 100, 2);
	if (swrate_avg(sums[0], 16) > 100)
		atomic_fetch_add(&wrong, 1);
	if (errno != saved)
		atomic_fetch_add(&wrong, 1);
	if (atomic_fetch_add(&arrived, 1) > 3000 && atomic_load(&end_now)) {
		atomic_store(&stopped, 1);     /* and soon it is no thread of keel's */
		keel_stop();
	}
}

static atomic_int works_done, calls_done;
static struct pool_head *pool;
static struct stktable *table;

static void again_soon(void *arg)
{
	(void)arg;
	atomic_fetch_add(&calls_done, 1);
	callout_reset_sbt(&often, SBT_1US * 100, 0, again_soon, NULL, 0);
}

/* Everything that a handler could interrupt. */
static struct task *works(struct task *t, void *ctx, unsigned int state)
{
	unsigned int n = (unsigned int)atomic_fetch_add(&works_done, 1) % 500;
	struct stktable_key key = { &n, sizeof(n) };
	struct stksess *ts = stktable_get_entry(table, &key);
	void *objects[20];

	(void)ctx;
	(void)state;
	for (int i = 0; i < 20; i++)
		objects[i] = i % 2 ? pool_alloc(pool) : pool_alloc_nocache(pool);
	for (int i = 0; i < 20; i++)
		pool_free(pool, objects[i]);
	if (ts)
		stktable_touch_local(table, ts, 1);
	update_freq_ctr_period(&rate, 1000, 1);
	swrate_add(&sums[0], 16, 100);
	fd_delete(watch(event(0), note, 3));
	if (n % 50 == 0)
		atomic_store(&end_now, 1);
	task_wakeup(t, TASK_WOKEN_MSG);
	t->expire = tick_add((int)keel_now_ms(), 1);
	return t;
}

static int begins(unsigned int tid, void *arg)
{
	(void)arg;
	if (tid == 0) {
		task_wakeup(arg, TASK_WOKEN_MSG);
		callout_reset_sbt(&often, SBT_1US * 100, 0, again_soon, NULL, 0);
		storm(calls_everything);
	}
	return 0;
}

START_TEST(handlers_call_what_is_safe)
{
	struct task *t;

	init(2);
	pool = create_pool("safe", 64, 0);
	table = keel_stktable_new("safe", "type integer size 300 expire 10ms store gpc0", NULL);
	t = task_new(1);
	t->process = works;
	callout_init(&often, 1);
	/* The handler ends it. */
	ck_assert_int_eq(keel_run(begins, t), 0);
	calm();
	ck_assert_int_eq(atomic_load(&wrong), 0);
	ck_assert_int_gt(atomic_load(&arrived), 3000);
	ck_assert_int_gt(atomic_load(&works_done), 500);
	ck_assert_int_gt(atomic_load(&calls_done), 50);
	/* So many equal samples, none of which was half of one. */
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(swrate_avg(sums[i], i % 3 == 2 || i == 4 ? 512 : 16), 100);
	callout_drain(&often);
	keel_stktable_free(table);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("signals");
	TCase *tc = tcase_create("signals at any time");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_dump_waits_for_room);
	tcase_add_loop_test(tc, waits_end_when_they_should, 0, 2);
	tcase_add_test(tc, handlers_call_what_is_safe);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
