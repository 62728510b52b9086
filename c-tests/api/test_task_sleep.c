/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads that sleep: whose timers they serve, and how they are woken. */

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

#define MAX 8

static atomic_uint entered;
static pthread_t threads[MAX];

static void *loops(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	ck_assert_int_eq(keel_thread_enter(id), 0);
	atomic_fetch_add(&entered, 1);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

static void nap(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };

	nanosleep(&ts, NULL);
}

/* That many threads, asleep. */
static void start(unsigned int n, unsigned int spin_us)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = n;
	cfg.maxsock = 1024;
	cfg.spin_us = spin_us;
	ck_assert_int_eq(keel_init(&cfg), 0);
	for (size_t i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, loops, (void *)i);
	while (atomic_load(&entered) < n)
		sched_yield();
	nap(50);
}

static void stop(unsigned int n)
{
	keel_stop();
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	keel_deinit();
}

static void must_become(atomic_int *flag, int value)
{
	for (int i = 0; i < 20000 && atomic_load(flag) != value; i++)
		nap(1);
	ck_assert_int_eq(atomic_load(flag), value);
}

/* A handler that is busy until its date has been served by somebody else, or
 * for ten seconds: so nothing here depends on how fast the machine is. */
static atomic_int timer_ran, timer_on = -1, busy_on = -1, gave_up, busy_ended;

static struct task *timer_runs(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	t->expire = TICK_ETERNITY;
	atomic_store(&timer_on, (int)keel_tid());
	atomic_fetch_add(&timer_ran, 1);
	return t;
}

static struct task *timer;
static int date_before_work, date_from_handler;

static struct task *works_long(struct task *t, void *ctx, unsigned int state)
{
	uint64_t limit = keel_now_ns() + 10000000000u;
	int before = atomic_load(&timer_ran);

	(void)ctx;
	(void)state;
	atomic_store(&busy_on, (int)keel_tid());
	if (date_from_handler)
		task_schedule(timer, tick_add((int)keel_now_ms(), date_from_handler));
	while (atomic_load(&timer_ran) == before && keel_now_ns() < limit)
		sched_yield();
	if (atomic_load(&timer_ran) == before)
		atomic_store(&gave_up, 1);
	atomic_store(&busy_ended, 1);
	return t;
}

/* Files a date where <files> runs, so that it is that thread's to serve. */
static struct task *files_here(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	task_schedule(timer, tick_add((int)keel_now_ms(), date_before_work));
	return t;
}

static struct task *task_on(unsigned int thread, struct task *(*process)(struct task *, void *, unsigned int))
{
	struct task *t = task_new_on(thread);

	ck_assert_ptr_nonnull(t);
	t->process = process;
	return t;
}

static void serve_the_busy(unsigned int n, unsigned int busy, int before, int during)
{
	struct task *files, *works;

	start(n, 0);
	date_before_work = before;
	date_from_handler = during;
	ck_assert_ptr_nonnull(timer = task_new_anywhere());
	timer->process = timer_runs;
	files = task_on(busy, files_here);
	works = task_on(busy, works_long);
	if (before) {
		task_wakeup(files, TASK_WOKEN_MSG);
		/* All are asleep again, and the date has not come. */
		nap(50);
	}
	task_wakeup(works, TASK_WOKEN_MSG);
	must_become(&busy_ended, 1);
	ck_assert_int_eq(atomic_load(&busy_on), (int)busy);
	ck_assert_msg(!atomic_load(&gave_up), "the timer of a busy thread waits for it");
	ck_assert_int_ne(atomic_load(&timer_on), (int)busy);
	task_kill(files);
	task_kill(works);
	task_kill(timer);
	stop(n);
}

/* A sleeps until the date that is filed there, B does not know of it; then A
 * is woken for something that takes long. */
START_TEST(a_sleeper_serves_one_that_becomes_busy)
{
	serve_the_busy(2, (unsigned int)_i, 300, 0);
}
END_TEST

/* B sleeps while A, busy, files a date of its own. */
START_TEST(a_sleeper_serves_a_date_that_comes_later)
{
	serve_the_busy(2, (unsigned int)_i, 0, 20);
}
END_TEST

START_TEST(among_many_one_does_it)
{
	serve_the_busy(8, (unsigned int)_i, _i % 2 ? 300 : 0, _i % 2 ? 0 : 20);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sleep");
	TCase *tc = tcase_create("sleep");

	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, a_sleeper_serves_one_that_becomes_busy, 0, 2);
	tcase_add_loop_test(tc, a_sleeper_serves_a_date_that_comes_later, 0, 2);
	tcase_add_loop_test(tc, among_many_one_does_it, 0, 4);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
