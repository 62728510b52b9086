/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fork() while other threads are inside every engine. The parent goes on as if
 * nothing had been; the child goes on with what the headers let it have: its own
 * tasks, descriptors, callouts, and the objects of its pools.
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

enum { WORKERS = 2, FORKS = 100, FINE = 33 };

static struct pool_head *pool;
static struct stktable *table;
static atomic_int stop;
static atomic_ulong rounds[WORKERS + 1];

static struct task *nothing(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	t->expire = TICK_ETERNITY;
	return t;
}

static void no_call(void *arg)
{
	(void)arg;
}

/* Inside of all engines by turns, as fast as it can. */
static void *works(void *arg)
{
	unsigned int me = 1 + (unsigned int)(intptr_t)arg;
	struct task *t, *shared;
	struct callout c;
	int fd;

	ck_assert_int_eq(keel_thread_enter(me), 0);
	t = task_new_here();
	t->process = nothing;
	shared = task_new_anywhere();
	shared->process = nothing;
	callout_init(&c, 1);
	fd = event(0);
	watch(fd, drain_and_note, 7);
	for (int i = 0; !atomic_load(&stop); i++) {
		struct stktable_key key = { &i, sizeof(i) };
		struct stksess *ts = stktable_get_entry(table, &key);
		void *objects[40];

		for (int k = 0; k < 40; k++)
			objects[k] = k % 2 ? pool_alloc(pool) : pool_alloc_nocache(pool);
		for (int k = 0; k < 40; k++) {
			if (k % 3)
				pool_free(pool, objects[k]);
			else
				pool_free_nocache(pool, objects[k]);
		}
		if (ts)
			stktable_touch_local(table, ts, 1);
		task_schedule(t, tick_add((int)keel_now_ms(), 1 + i % 50));
		/* Most of the time under the lock of its timers. */
		for (int k = 0; k < 200; k++) {
			task_schedule(shared, tick_add((int)keel_now_ms(), 60 - k % 50));
			task_unlink_wq(shared);
		}
		task_schedule(shared, tick_add((int)keel_now_ms(), 1 + i % 30));
		task_wakeup(shared, TASK_WOKEN_MSG);
		callout_reset_sbt_on(&c, SBT_1US * (100 + i % 1000), 0, no_call, NULL, i % (WORKERS + 1), 0);
		ring(fd);
		keel_poll_once(0);
		atomic_fetch_add(&rounds[me], 1);
	}
	callout_drain(&c);
	fd_delete(fd);
	task_destroy(t);
	task_kill(shared);
	keel_poll_once(0);
	keel_thread_leave();
	return NULL;
}

static atomic_int mine, called_back;

static struct task *runs(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&mine, 1);
	t->expire = tick_add((int)keel_now_ms(), 1);
	return t;
}

static void calls_back(void *arg)
{
	(void)arg;
	atomic_fetch_add(&called_back, 1);
}

/* The child's life: FINE, or what does not work. */
static int lives(void)
{
	unsigned char *objects[100];
	struct task *t;
	struct callout c;
	int fd;

	signal(SIGALRM, SIG_DFL); /* not the one that ends the whole group */
	alarm(20);
	if (!fork_poller())
		return 1;
	t = task_new_here();
	fd = event(0);
	if (!t)
		return 2;
	for (int i = 0; i < 100; i++) {
		if (!(objects[i] = pool_alloc(pool)))
			return 3;
		memset(objects[i], i, 64);
	}
	for (int i = 0; i < 100; i++) {
		if (objects[i][0] != i || objects[i][63] != i)
			return 4;
		pool_free(pool, objects[i]);
	}
	atomic_store(&mine, 0);
	atomic_store(&called_back, 0);
	t->process = runs;
	task_schedule(t, tick_add((int)keel_now_ms(), 1));
	callout_init(&c, 1);
	callout_reset_sbt(&c, SBT_1MS, 0, calls_back, NULL, 0);
	atomic_store(&heard[fd], 0);
	watch(fd, drain_and_note, 1);
	ring(fd);
	while (atomic_load(&mine) < 3 || atomic_load(&called_back) < 1 || atomic_load(&heard[fd]) < 1)
		keel_poll_once(10);
	callout_drain(&c);
	fd_delete(fd);
	if (is_open(fd))
		return 5;
	task_destroy(t);
	return FINE;
}

/* Whether the workers still work: each has come around since. */
static int all_work(void)
{
	unsigned long before[WORKERS + 1];
	int late = 0;

	for (int i = 1; i <= WORKERS; i++)
		before[i] = atomic_load(&rounds[i]);
	for (int ms = 0; ms < 10000; ms++) {
		late = 0;
		for (int i = 1; i <= WORKERS; i++)
			late += atomic_load(&rounds[i]) == before[i];
		if (!late)
			break;
		usleep(1000);
	}
	return !late;
}

START_TEST(in_the_midst_of_everything)
{
	pthread_t workers[WORKERS];
	struct task *t;

	start(WORKERS + 1);
	pool = create_pool("midst", 64, 0);
	table = keel_stktable_new("midst", "type integer size 200 expire 20ms store gpc0", NULL);
	t = task_new_here();
	ck_assert(pool && table && t);
	t->process = runs;
	task_schedule(t, tick_add((int)keel_now_ms(), 1));
	for (intptr_t i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&workers[i], NULL, works, (void *)i), 0);
	ck_assert(all_work());
	for (int i = 0; i < FORKS; i++) {
		int status, before = atomic_load(&mine);
		pid_t child;

		usleep((unsigned int)(i * 37 % 500));
		child = fork();
		if (child == 0)
			_exit(lives());
		ck_assert_int_gt(child, 0);
		for (int k = 0; k < 1000 && atomic_load(&mine) == before; k++)
			keel_poll_once(10);
		ck_assert_int_gt(atomic_load(&mine), before);
		status = reap(child);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != FINE)
			ck_abort_msg("child %d: status %#x", i, status);
	}
	ck_assert(all_work());
	atomic_store(&stop, 1);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	task_destroy(t);
	keel_stktable_free(table);
	turns(3);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(keel_used_fds(), 0);
	ck_assert_ptr_null(pool_destroy(pool));
	keel_thread_leave();
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("forks");
	TCase *tc = tcase_create("fork while others work");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, in_the_midst_of_everything);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
