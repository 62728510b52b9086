/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What may befall a process: signals, threads that die, lack of memory and of
 * descriptors, fork. Nothing crashes, nothing is lost, the error says what. */

#define _GNU_SOURCE             /* pipe2 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/keel.h>

#include "fds.h"
#include "memory.h"
#include "suite.h"

static int date(int ms)
{
	return tick_add((int)keel_now_ms(), MS_TO_TICKS(ms));
}

/* --- signals --------------------------------------------------------------- */

static atomic_int signals, runs, rings;

static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&signals, 1);
	/* what api.md calls async-signal-safe */
	wake_thread(0);
	(void)keel_tid();
	(void)keel_now_ns();
}

static struct task *periodic(struct task *t, void *ctx, unsigned int state)
{
	int *due = ctx;

	(void)state;
	ck_assert(tick_is_expired(*due, (int)keel_now_ms()));
	atomic_fetch_add(&runs, 1);
	*due = t->expire = date(3);
	return t;
}

static void on_ring(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		atomic_fetch_add(&rings, (int)count);
	fd_cant_recv(fd);
}

START_TEST(a_storm_of_signals_loses_nothing)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct itimerval every = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };
	uint64_t one = 1, limit;
	struct task *t;
	int due, fd, rung = 0;

	start(1);
	sigaction(SIGALRM, &sa, NULL);
	t = task_new_here();
	t->process = periodic;
	t->context = &due;
	due = date(3);
	fd = watch(event(0), on_ring, 1);
	setitimer(ITIMER_REAL, &every, NULL);
	task_schedule(t, due);
	limit = keel_now_ns() + 10000000000u;
	while (atomic_load(&runs) < 50 && keel_now_ns() < limit) {
		rung += write(fd, &one, sizeof(one)) == sizeof(one);
		keel_poll_once(20);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	turns(2);
	ck_assert_int_ge(atomic_load(&runs), 50);
	ck_assert_int_gt(atomic_load(&signals), 10);
	ck_assert_int_eq(atomic_load(&rings), rung);
	fd_delete(fd);
	task_destroy(t);
	keel_deinit();
}
END_TEST

/* --- threads that die ------------------------------------------------------- */

static void *dies(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	return NULL;
}

static void *leaves(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(2), 0);
	keel_thread_leave();
	return NULL;
}

/* A thread that ends without keel_thread_leave() keeps its id; the others and
 * other ids go on. */
START_TEST(a_dead_thread_harms_nobody_else)
{
	struct task *t;
	int due;
	pthread_t th;

	start(3);
	pthread_create(&th, NULL, dies, NULL);
	pthread_join(th, NULL);
	pthread_create(&th, NULL, leaves, NULL);
	pthread_join(th, NULL);
	ck_assert_int_eq(keel_thread_enter(1), -EALREADY);
	t = task_new_here();
	t->process = periodic;
	t->context = &due;
	due = date(2);
	task_schedule(t, due);
	while (atomic_load(&runs) < 3)
		keel_poll_once(10);
	keel_thread_leave();
	ck_assert_int_eq(keel_thread_enter(1), -EBUSY);
	ck_assert_int_eq(keel_thread_enter(2), 0);
}
END_TEST

/* --- memory ------------------------------------------------------------------ */

START_TEST(keel_init_without_memory_says_so)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct rlimit now, tight;
	int rc;

	if (checked())
		return;
	NOT_UNDER_QEMU("it ignores RLIMIT_AS");
	cfg.nbthread = 64;
	cfg.maxsock = 1048576;
	getrlimit(RLIMIT_AS, &now);
	tight = now;
	tight.rlim_cur = 48 << 20;
	setrlimit(RLIMIT_AS, &tight);
	rc = keel_init(&cfg);
	setrlimit(RLIMIT_AS, &now);
	ck_assert_int_eq(rc, -ENOMEM);
	ck_assert_uint_eq(keel_nbthread(), 0);
	ck_assert_int_eq(keel_init(&cfg), 0);
	keel_deinit();
}
END_TEST

START_TEST(no_task_without_memory)
{
	struct task *t;
	struct tasklet *tl;

	start(1);
	t = task_new_here();
	tl = tasklet_new();
	pool_head_task->limit = 1;
	pool_head_tasklet->limit = 1;
	errno = 0;
	ck_assert_ptr_null(task_new_here());
	ck_assert_int_eq(errno, ENOMEM);
	errno = 0;
	ck_assert_ptr_null(tasklet_new());
	ck_assert_int_eq(errno, ENOMEM);
	task_destroy(t);
	ck_assert_ptr_nonnull(t = task_new_here());
	task_destroy(t);
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

/* Every allocation may fail: the n-th for every n, until none is left to. */
START_TEST(allocation_failures_at_every_point)
{
	start(1);
	for (unsigned int n = 1; n < 20; n++) {
		struct pool_head *pool = create_pool("scarce", 64, 0);
		void *got[20];
		unsigned int have = 0;

		pool->limit = n;
		while (have < 20 && (got[have] = pool_alloc(pool)))
			have++;
		ck_assert_uint_eq(have, n);
		while (have)
			pool_free(pool, got[--have]);
		ck_assert_ptr_null(pool_destroy(pool));
	}
	keel_deinit();
}
END_TEST

/* --- descriptors ------------------------------------------------------------- */

START_TEST(keel_run_without_descriptors_says_so)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct rlimit now, tight;
	int rc, room = dup(2);

	cfg.nbthread = 4;
	cfg.maxsock = 64;
	ck_assert_int_eq(keel_init(&cfg), 0);
	getrlimit(RLIMIT_NOFILE, &now);
	tight = now;
	/* Two more: enough for one thread, or two. */
	tight.rlim_cur = room + 2;
	close(room);
	setrlimit(RLIMIT_NOFILE, &tight);
	rc = keel_run(NULL, NULL);
	setrlimit(RLIMIT_NOFILE, &now);
	ck_assert_int_eq(rc, -EMFILE);
	ck_assert_uint_eq(keel_tid(), ~0U);
	keel_deinit();
}
END_TEST

/* --- fork -------------------------------------------------------------------- */

/* The child has the calling thread alone: it renews the poller and goes on. */
START_TEST(a_forked_child_goes_on_alone)
{
	uint64_t one = 1;
	struct task *t;
	int due, fd, status;
	pid_t child;

	start(1);
	fd = watch(event(0), on_ring, 1);
	keel_poll_once(0);
	t = task_new_here();
	t->process = periodic;
	t->context = &due;
	due = date(5);
	task_schedule(t, due);
	child = fork();
	if (child == 0) {
		if (!fork_poller())
			_exit(1);
		for (int i = 0; i < 1000 && (atomic_load(&runs) < 3 || atomic_load(&rings) < 1); i++) {
			if (i == 0 && write(fd, &one, sizeof(one)) < 0)
				_exit(2);
			keel_poll_once(10);
		}
		wake_thread(0);
		keel_poll_once(10000);
		_exit(atomic_load(&runs) >= 3 && atomic_load(&rings) == 1 ? 33 : 3);
	}
	status = reap(child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 33);
	/* the parent's poller is its own still */
	while (atomic_load(&runs) < 3)
		keel_poll_once(10);
	ck_assert_int_eq(atomic_load(&rings), 0);
	fd_delete(fd);
	task_destroy(t);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("adversity");
	TCase *tc = tcase_create("adversity");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, a_storm_of_signals_loses_nothing);
	tcase_add_test(tc, a_dead_thread_harms_nobody_else);
	tcase_add_test(tc, keel_init_without_memory_says_so);
	tcase_add_test(tc, no_task_without_memory);
	tcase_add_test(tc, allocation_failures_at_every_point);
	tcase_add_test(tc, keel_run_without_descriptors_says_so);
	tcase_add_test(tc, a_forked_child_goes_on_alone);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
