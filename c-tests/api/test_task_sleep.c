/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads that sleep: whose timers they serve, and how they are woken. */

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

#define MAX 8

/* A thread that sleeps is woken by a write() of the library's, and that is this
 * one. */
static atomic_uint writes;

ssize_t write(int fd, const void *buf, size_t n)
{
	atomic_fetch_add(&writes, 1);
	return syscall(SYS_write, fd, buf, n);
}

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

static void serve_the_busy(unsigned int n, unsigned int busy, int before, int during, unsigned int spin_us)
{
	struct task *files, *works;

	start(n, spin_us);
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
	serve_the_busy(2, (unsigned int)_i, 300, 0, 0);
}
END_TEST

/* B sleeps while A, busy, files a date of its own. */
START_TEST(a_sleeper_serves_a_date_that_comes_later)
{
	serve_the_busy(2, (unsigned int)_i, 0, 20, 0);
}
END_TEST

START_TEST(among_many_one_does_it)
{
	serve_the_busy(8, (unsigned int)_i, _i % 2 ? 300 : 0, _i % 2 ? 0 : 20, 0);
}
END_TEST

/* --- spinning before the sleep ----------------------------------------------- */

#define LONG_US 20000000u /* spins that would outlast a test */
#define SOON    5         /* seconds: in the middle of such a spin */

static atomic_int runs;

static struct task *counts(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	return t;
}

static struct tasklet *tasklet_on(int thread)
{
	struct tasklet *tl = tasklet_new();

	ck_assert_ptr_nonnull(tl);
	tl->process = counts;
	tasklet_set_tid(tl, thread);
	return tl;
}

START_TEST(a_wakeup_during_the_spin_is_no_system_call)
{
	struct tasklet *tl;

	start(1, LONG_US);
	tl = tasklet_on(0);
	atomic_store(&writes, 0);
	for (int i = 1; i <= 200; i++) {
		tasklet_wakeup(tl);
		while (atomic_load(&runs) < i)
			sched_yield();
	}
	ck_assert_uint_eq(atomic_load(&writes), 0);
	tasklet_kill(tl);
	stop(1);
}
END_TEST

/* What the test above would see if it did not spin. */
START_TEST(a_wakeup_of_a_sleeper_is_one)
{
	struct tasklet *tl;

	start(1, 0);
	tl = tasklet_on(0);
	atomic_store(&writes, 0);
	for (int i = 1; i <= 1000 && atomic_load(&writes) == 0; i++) {
		nap(5);
		tasklet_wakeup(tl);
		must_become(&runs, i);
	}
	ck_assert_uint_eq(atomic_load(&writes), 1);
	tasklet_kill(tl);
	stop(1);
}
END_TEST

START_TEST(the_spin_ends_in_a_sleep)
{
	struct timespec before, after;
	struct tasklet *tl;
	clockid_t clock;
	double used;

	/* Each signal ends its sleep, and it spins anew. */
	if (in_storm())
		return;
	start(1, 20000);
	tl = tasklet_on(0);
	nap(200);
	ck_assert_int_eq(pthread_getcpuclockid(threads[0], &clock), 0);
	clock_gettime(clock, &before);
	nap(400);
	clock_gettime(clock, &after);
	used = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	ck_assert_double_lt(used, 0.2);
	/* And it is woken as any sleeper. */
	atomic_store(&writes, 0);
	for (int i = 1; i <= 100 && atomic_load(&writes) == 0; i++) {
		nap(50);
		tasklet_wakeup(tl);
		must_become(&runs, i);
	}
	ck_assert_uint_eq(atomic_load(&writes), 1);
	tasklet_kill(tl);
	stop(1);
}
END_TEST

static void reads(int fd)
{
	char c;

	if (read(fd, &c, 1) == 1)
		atomic_fetch_add(&runs, 1);
	fd_cant_recv(fd);
}

/* Everything that ends a sleep ends a spin. */
START_TEST(a_spinning_thread_serves_everything)
{
	uint64_t begin = keel_now_ns();
	int ends[2];

	start(2, LONG_US);
	ck_assert_ptr_nonnull(timer = task_new_on(1));
	timer->process = timer_runs;
	timer->state |= TASK_SHARED_WQ;
	task_schedule(timer, tick_add((int)keel_now_ms(), 20));
	must_become(&timer_ran, 1);
	ck_assert_int_eq(pipe(ends), 0);
	fd_set_nonblock(ends[0]);
	fd_insert(ends[0], ends, reads, 2);
	fd_want_recv(ends[0]);
	ck_assert_int_eq((int)syscall(SYS_write, ends[1], "x", 1), 1);
	must_become(&runs, 1);
	thread_isolate();
	ck_assert_int_eq(thread_isolated(), 1);
	thread_release();
	fd_delete(ends[0]);
	task_kill(timer);
	stop(2);
	close(ends[1]);
	ck_assert_uint_lt((unsigned int)((keel_now_ns() - begin) / 1000000000u), SOON);
}
END_TEST

START_TEST(a_spinning_thread_serves_the_busy)
{
	serve_the_busy(2, (unsigned int)_i, 0, 20, LONG_US);
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
	tcase_add_test(tc, a_wakeup_during_the_spin_is_no_system_call);
	tcase_add_test(tc, a_wakeup_of_a_sleeper_is_one);
	tcase_add_test(tc, the_spin_ends_in_a_sleep);
	tcase_add_test(tc, a_spinning_thread_serves_everything);
	tcase_add_loop_test(tc, a_spinning_thread_serves_the_busy, 0, 2);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
