/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that their host ends without keel_thread_leave(): by pthread_exit()
 * or pthread_cancel(), in each kind of callback and asleep in the poller. Their
 * ids are lost, as keel_thread_enter() says; everybody else goes on.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

#include "../api/fds.h"
#include "../api/suite.h"

enum place { IN_TASK, IN_TASKLET, IN_IOCB, IN_CALLOUT, IN_EXPIRY, ASLEEP, PLACES };

static enum place place;
static atomic_int there, cancelled, ended;

/* How a thread ends: itself, or when somebody else said so. */
static int by_cancel;

static void ends_here(void)
{
	atomic_store(&there, 1);
	if (!by_cancel)
		pthread_exit(NULL);
	while (!atomic_load(&cancelled))
		usleep(100);
	pthread_testcancel();
	ck_abort_msg("still alive");
}

static struct task *task_ends(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	ends_here();
	return t;
}

static void iocb_ends(int fd)
{
	(void)fd;
	ends_here();
}

static void callout_ends(void *arg)
{
	(void)arg;
	ends_here();
}

static void note_end(void *arg)
{
	(void)arg;
	atomic_store(&ended, 1);
}

static struct task *victim;
static struct tasklet *small_victim;
static struct callout last_call;
static int last_fd;

static void *short_life(void *arg)
{
	(void)arg;
	pthread_cleanup_push(note_end, NULL);
	ck_assert_int_eq(keel_thread_enter(1), 0);
	switch (place) {
	case IN_TASK:
		task_wakeup(victim, TASK_WOKEN_MSG);
		break;
	case IN_EXPIRY:
		task_schedule(victim, tick_add((int)keel_now_ms(), 2));
		break;
	case IN_TASKLET:
		tasklet_wakeup_on(small_victim, 1);
		break;
	case IN_IOCB:
		fd_want_recv(last_fd);
		break;
	case IN_CALLOUT:
		callout_reset_sbt_on(&last_call, SBT_1MS, 0, callout_ends, NULL, 1, 0);
		break;
	default:
		break;
	}
	for (;;) {
		if (place == ASLEEP)
			atomic_store(&there, 1);
		keel_poll_once(10000);
	}
	pthread_cleanup_pop(1);
	return NULL;
}

/* --- the living ------------------------------------------------------------------- */

static atomic_int runs, fired;

static struct task *works(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	t->expire = tick_add((int)keel_now_ms(), 1);
	return t;
}

static void fires(void *arg)
{
	(void)arg;
	atomic_fetch_add(&fired, 1);
}

/* Everything that the others have works as before. */
static void the_others_go_on(void)
{
	struct stktable *table = keel_stktable_new("after", "type integer size 8 expire 1s store gpc0", NULL);
	struct pool_head *pool = create_pool("after", 64, 0);
	struct task *shared = task_new(3);
	struct callout c;
	uint64_t limit = keel_now_ns() + 20000000000u;
	int fd = event(0), before = atomic_load(&runs), key = 7;
	struct stktable_key k = { &key, sizeof(key) };
	void *object = pool_alloc(pool);

	atomic_store(&fired, 0);
	atomic_store(&heard[fd], 0);
	ck_assert(table && pool && shared && object);
	shared->process = works;
	task_wakeup(shared, TASK_WOKEN_MSG);
	callout_init(&c, 1);
	callout_reset_sbt_on(&c, SBT_1MS, 0, fires, NULL, 0, 0);
	watch(fd, drain_and_note, 3);
	ring(fd);
	/* Wakes the dead one: nobody may wait for the answer. */
	wake_thread(1);
	while ((atomic_load(&runs) < before + 5 || atomic_load(&fired) < 1 || atomic_load(&heard[fd]) < 1) &&
	       keel_now_ns() < limit)
		keel_poll_once(5);
	ck_assert_int_ge(atomic_load(&runs), before + 5);
	ck_assert_int_eq(atomic_load(&fired), 1);
	ck_assert_int_eq(atomic_load(&heard[fd]), 1);
	callout_drain(&c);
	stktable_release(table, stktable_get_entry(table, &k));
	ck_assert_uint_eq(keel_stktable_current(table), 1);
	keel_stktable_free(table);
	pool_free(pool, object);
	ck_assert_ptr_null(pool_destroy(pool));
	fd_delete(fd);
	ck_assert(!is_open(fd));
	task_destroy(shared);
}

/* What it died in is where it was: inside. */
static void what_it_had_is_told_of(void)
{
	ck_assert_int_eq(keel_thread_enter(1), -EALREADY);
	ck_assert_int_gt(keel_dump_fds(open("/dev/null", O_WRONLY | O_CLOEXEC)), 0);
	ck_assert_int_gt(keel_dump_tasks(open("/dev/null", O_WRONLY | O_CLOEXEC)), 0);
	ck_assert_int_gt(keel_dump_callouts(open("/dev/null", O_WRONLY | O_CLOEXEC)), 0);
	if (place != IN_IOCB)
		return;
	/* Nobody waits for it, and the number stays until it comes out: never. */
	fd_delete(last_fd);
	ck_assert(is_open(last_fd));
	turns(2);
}

static void *enters_as(void *arg)
{
	return (void *)(intptr_t)keel_thread_enter((unsigned int)(intptr_t)arg);
}

static int entering_says(int tid)
{
	pthread_t th;
	void *rc;

	ck_assert_int_eq(pthread_create(&th, NULL, enters_as, (void *)(intptr_t)tid), 0);
	pthread_join(th, &rc);
	return (int)(intptr_t)rc;
}

START_TEST(a_thread_ends_inside)
{
	pthread_t th;

	place = (enum place)(_i / 2);
	by_cancel = _i % 2 || place == ASLEEP;
	start(3);
	if (place == IN_TASK || place == IN_EXPIRY) {
		victim = task_new(2);
		victim->process = task_ends;
	}
	small_victim = tasklet_new();
	small_victim->process = task_ends;
	callout_init(&last_call, 1);
	last_fd = event(1);
	fd_insert(last_fd, &owner, iocb_ends, 2);
	ck_assert_int_eq(pthread_create(&th, NULL, short_life, NULL), 0);
	while (!atomic_load(&there))
		usleep(200);
	if (by_cancel) {
		if (place == ASLEEP)
			usleep(20000);
		ck_assert_int_eq(pthread_cancel(th), 0);
		atomic_store(&cancelled, 1);
		/* Where the wait is no cancellation point, it acts at the next one. */
		wake_thread(1);
	}
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&ended), 1);
	the_others_go_on();
	ck_assert_int_eq(entering_says(1), -EBUSY);
	ck_assert_int_eq(entering_says(2), 0);
	what_it_had_is_told_of();
	the_others_go_on();
}
END_TEST

/* --- in keel's own threads ---------------------------------------------------------- */

static atomic_int in_loop;

static int note_loop(unsigned int tid, void *arg)
{
	(void)tid;
	(void)arg;
	atomic_fetch_add(&in_loop, 1);
	return 0;
}

static struct task *exits(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	/* From now on thread 0 is alone; it stops when it has seen that. */
	if (keel_tid() == 1)
		ends_here();
	return t;
}

static struct task *stops(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	if (atomic_load(&there))
		keel_stop();
	t->expire = tick_add((int)keel_now_ms(), 5);
	return t;
}

START_TEST(one_of_keel_runs_threads_ends)
{
	struct task *t, *watcher;

	init(2);
	t = task_new(2);
	t->process = exits;
	watcher = task_new(1);
	watcher->process = stops;
	task_wakeup(t, TASK_WOKEN_MSG);
	task_wakeup(watcher, TASK_WOKEN_MSG);
	/* It comes back: what is gone is joined, not waited for. */
	ck_assert_int_eq(keel_run(note_loop, NULL), 0);
	ck_assert_int_eq(atomic_load(&in_loop), 2);
	ck_assert_int_eq(entering_says(1), -EBUSY);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("threads");
	TCase *tc = tcase_create("threads that end");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, a_thread_ends_inside, 0, 2 * PLACES);
	tcase_add_test(tc, one_of_keel_runs_threads_ends);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
