/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel as a guest in libuv's loop: one descriptor, one timer, keel_poll_once(0). */

#ifndef HAVE_LIBUV
#include <stdio.h>

int main(void)
{
	puts("ok test_host_libuv # skip libuv is not here");
	return 0;
}
#else

#define _GNU_SOURCE             /* pipe2 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <keel/keel.h>

#include "fds.h"
#include "suite.h"

/* --- the host ------------------------------------------------------------------ */

/* A loop of libuv's on a thread that keel knows. */
struct host {
	uv_loop_t loop;
	uv_poll_t events;       /* on keel_poll_fd() */
	uv_timer_t timer;       /* for keel_next_deadline_ns() */
	uv_prepare_t prepare;
	uv_timer_t watchdog;
	unsigned int turns;     /* calls of keel_poll_once() */
	int expired;            /* the watchdog had to end it */
};

static void on_events(uv_poll_t *events, int status, int what)
{
	struct host *h = events->data;

	(void)status;
	(void)what;
	h->turns++;
	keel_poll_once(0);
}

static void on_timer(uv_timer_t *timer)
{
	struct host *h = timer->data;

	h->turns++;
	keel_poll_once(0);
}

/* Before each wait: the date may be another one since the host's own handlers ran. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct host *h = prepare->data;
	uint64_t date = keel_next_deadline_ns(), now, ms;

	if (date == UINT64_MAX) {
		uv_timer_stop(&h->timer);
		return;
	}
	/* Absolute and rounded up, so that libuv's milliseconds are not early. */
	uv_update_time(&h->loop);
	now = uv_now(&h->loop);
	ms = date / 1000000 + (date % 1000000 != 0);
	uv_timer_start(&h->timer, on_timer, ms > now ? ms - now : 0, 0);
}

static void on_watchdog(uv_timer_t *watchdog)
{
	struct host *h = watchdog->data;

	h->expired = 1;
	uv_stop(&h->loop);
}

static void host_begin(struct host *h, unsigned int tid)
{
	int fd;

	memset(h, 0, sizeof(*h));
	if (keel_thread_enter(tid) != 0)
		abort();
	fd = keel_poll_fd();
	if (fd < 0 || uv_loop_init(&h->loop) != 0 || uv_poll_init(&h->loop, &h->events, fd) != 0 ||
	    uv_timer_init(&h->loop, &h->timer) != 0 || uv_prepare_init(&h->loop, &h->prepare) != 0 ||
	    uv_timer_init(&h->loop, &h->watchdog) != 0)
		abort();
	h->events.data = h->timer.data = h->prepare.data = h->watchdog.data = h;
	uv_poll_start(&h->events, UV_READABLE, on_events);
	uv_prepare_start(&h->prepare, on_prepare);
	uv_timer_start(&h->watchdog, on_watchdog, 60000, 0);
}

/* Until uv_stop(). */
static void host_run(struct host *h)
{
	uv_run(&h->loop, UV_RUN_DEFAULT);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void host_end(struct host *h)
{
	uv_walk(&h->loop, close_handle, NULL);
	uv_run(&h->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&h->loop) != 0)
		abort();
	keel_thread_leave();
}

/* Around each test: one host, which is all of keel's threads or has room beside
 * it. */
static struct host host;

static void begin_alone(void)
{
	init(1);
	host_begin(&host, 0);
}

static void begin_beside_another(void)
{
	init(2);
	host_begin(&host, 0);
}

static void end(void)
{
	host_end(&host);
	keel_deinit();
}

/* The longest time that something was late, and whether it was ever early. */
static uint64_t latest;
static int early;

static void arrived(uint64_t date)
{
	uint64_t now = keel_now_ns();

	if (now < date)
		early++;
	else if (now - date > latest)
		latest = now - date;
}

static void nothing_was_late(void)
{
	ck_assert_int_eq(early, 0);
	ck_assert_uint_lt(latest, 10000000000u);        /* a watchdog */
}

/* --- each engine in turn -------------------------------------------------------- */

enum { PERIODS = 10, PERIOD_MS = 10 };

/* How much has to happen until the host may stop. */
static int left;

static void run_until(int events)
{
	left = events;
	host_run(&host);
	ck_assert(!host.expired);
}

static void one_less(void)
{
	if (--left == 0)
		uv_stop(&host.loop);
}

static struct task *tick_tock(struct task *t, void *context, unsigned int state)
{
	int *periods = context;

	if (state & TASK_WOKEN_TIMER)
		++*periods;
	if (*periods == PERIODS) {
		t->expire = TICK_ETERNITY;
		one_less();
	} else {
		t->expire = tick_add(keel_now_ms(), PERIOD_MS);
	}
	return t;
}

START_TEST(tasks_are_on_time)
{
	struct task *t;
	uint64_t begin;
	int periods = 0;

	t = task_new_here();
	t->process = tick_tock;
	t->context = &periods;
	begin = keel_now_ns();
	task_wakeup(t, TASK_WOKEN_INIT);
	run_until(1);
	ck_assert_int_eq(periods, PERIODS);
	/* The loop's clock is whole milliseconds. */
	arrived(begin + (PERIODS * PERIOD_MS - 1) * 1000000ull);
	nothing_was_late();
	/* It slept in between. */
	ck_assert_uint_le(host.turns, 5 * PERIODS);
	task_destroy(t);
}
END_TEST

static struct callout callouts[20];
static uint64_t due[20];

static void callout_fires(void *arg)
{
	arrived(*(uint64_t *)arg);
	one_less();
}

START_TEST(callouts_fire)
{
	for (int i = 0; i < 20; i++) {
		int ms = 1 + (i * 7) % 40;

		callout_init(&callouts[i], 1);
		due[i] = keel_now_ns() + ms * 1000000ull;
		callout_reset_sbt(&callouts[i], ms * SBT_1MS, 0, callout_fires, &due[i], 0);
		/* SBT_1MS is cut off: a few nanoseconds early is on time. */
		due[i] -= 1000;
	}
	run_until(20);
	nothing_was_late();
	ck_assert_uint_le(host.turns, 5 * 20);
}
END_TEST

enum { RINGS = 200 };
static int bell;
static atomic_int rings, answered;

static void on_bell(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0) {
		fd_cant_recv(fd);
		return;
	}
	if (atomic_fetch_add(&answered, 1) + 1 == RINGS)
		one_less();
}

static void await_answer(int number)
{
	for (int wait = 0; wait < 60000 && atomic_load(&answered) < number; wait++)
		usleep(wait < 100 ? 10 : 1000);
}

/* From a thread that keel does not know: the answer first, then the next ring. */
static void *ring_from_outside(void *arg)
{
	(void)arg;
	for (int i = 0; i < RINGS; i++) {
		ring(bell);
		await_answer(i + 1);
	}
	return NULL;
}

START_TEST(descriptors_ring)
{
	pthread_t th;

	bell = watch(event(0), on_bell, 1);
	pthread_create(&th, NULL, ring_from_outside, NULL);
	run_until(1);
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&answered), RINGS);
	/* A turn for the ring, and one that finds nothing more. */
	ck_assert_uint_le(host.turns, 3 * RINGS + 20);
	fd_delete(bell);
}
END_TEST

static struct task *answer(struct task *t, void *context, unsigned int state)
{
	(void)context;
	if (state & TASK_WOKEN_MSG && atomic_fetch_add(&answered, 1) + 1 == RINGS)
		one_less();
	return t;
}

static void *wake_from_outside(void *arg)
{
	for (int i = 0; i < RINGS; i++) {
		task_wakeup(arg, TASK_WOKEN_MSG);
		await_answer(i + 1);
	}
	return NULL;
}

START_TEST(wakeups_by_another_thread)
{
	struct task *t;
	pthread_t th;

	t = task_new_anywhere();
	t->process = answer;
	pthread_create(&th, NULL, wake_from_outside, t);
	run_until(1);
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&answered), RINGS);
	ck_assert_uint_le(host.turns, 3 * RINGS + 20);
	task_destroy(t);
}
END_TEST

static void *just_wake(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++) {
		atomic_fetch_add(&rings, 1);
		wake_thread(0);
		usleep(5000);
	}
	return NULL;
}

static void on_end(uv_timer_t *end)
{
	(void)end;
	uv_stop(&host.loop);
}

/* For how many turns of keel's <ms> milliseconds of the host's time are good. */
static unsigned int turns_within(unsigned int ms)
{
	unsigned int before = host.turns;
	uv_timer_t end;

	uv_timer_init(&host.loop, &end);
	uv_update_time(&host.loop);
	uv_timer_start(&end, on_end, ms, 0);
	host_run(&host);
	uv_close((uv_handle_t *)&end, NULL);
	uv_run(&host.loop, UV_RUN_NOWAIT);
	return host.turns - before;
}

START_TEST(wake_thread_is_heard)
{
	unsigned int turns;
	pthread_t th;

	pthread_create(&th, NULL, just_wake, NULL);
	do
		turns_within(20);
	while (atomic_load(&rings) < 20 && !host.expired);
	pthread_join(th, NULL);
	turns = turns_within(20);
	ck_assert(!host.expired);
	ck_assert_uint_ge(host.turns, 1);
	ck_assert_uint_le(host.turns, 20 * 2 + 20);
	/* Each once. */
	ck_assert_uint_le(turns, 5);
	wake_thread(0);
	ck_assert_uint_ge(turns_within(20), 1);
}
END_TEST

/* An idle guest costs nothing, not even with work that is not due yet. */
START_TEST(nothing_spins)
{
	struct task *t;
	int periods = 0, quiet;

	turns_within(20);
	ck_assert_uint_le(turns_within(200), 3);
	t = task_new_here();
	t->process = tick_tock;
	t->context = &periods;
	task_schedule(t, tick_add(keel_now_ms(), 40000));
	quiet = watch(event(0), on_bell, 1);
	ck_assert_uint_le(turns_within(200), 5);
	fd_delete(quiet);
	task_destroy(t);
}
END_TEST

static void on_own_timer(uv_timer_t *timer)
{
	task_wakeup(timer->data, TASK_WOKEN_MSG);
}

/* The host's handlers may call keel like keel's own. */
START_TEST(the_hosts_handlers_wake_tasks)
{
	static uv_timer_t own;  /* the loop has it to its end */
	struct task *t;

	t = task_new_here();
	t->process = answer;
	uv_timer_init(&host.loop, &own);
	own.data = t;
	uv_timer_start(&own, on_own_timer, 0, 1);
	atomic_store(&answered, RINGS - 20);
	run_until(1);
	ck_assert_int_eq(atomic_load(&answered), RINGS);
	task_destroy(t);
}
END_TEST

static void on_first_wish(uv_timer_t *timer)
{
	(void)timer;
	watch(bell, on_bell, 1);
}

START_TEST(the_hosts_handlers_want_events)
{
	static uv_timer_t own;  /* the loop has it to its end */

	bell = event(1);
	uv_timer_init(&host.loop, &own);
	uv_timer_start(&own, on_first_wish, 10, 0);
	atomic_store(&answered, RINGS - 1);
	run_until(1);
	fd_delete(bell);
}
END_TEST

static struct task *dated;

static struct task *date_came(struct task *t, void *context, unsigned int state)
{
	(void)context;
	if (state & TASK_WOKEN_TIMER) {
		t->expire = TICK_ETERNITY;
		one_less();
	}
	return t;
}

static void *schedule_from_outside(void *arg)
{
	(void)arg;
	usleep(20000);
	task_schedule(dated, tick_add(keel_now_ms(), 20));
	due[0] = keel_now_ns() + 30000000 - 1000;
	callout_reset_sbt(&callouts[0], 30 * SBT_1MS, 0, callout_fires, &due[0], 0);
	return NULL;
}

/* The host sleeps for long, and is told of dates that come before that. */
START_TEST(another_thread_sets_dates)
{
	pthread_t th;

	dated = task_new_anywhere();
	dated->process = date_came;
	callout_init(&callouts[0], 1);
	pthread_create(&th, NULL, schedule_from_outside, NULL);
	run_until(2);
	pthread_join(th, NULL);
	nothing_was_late();
	ck_assert_uint_le(host.turns, 20);
	task_destroy(dated);
}
END_TEST

/* More than one turn's worth: the host is called again, without any event. */
static struct task *again(struct task *t, void *context, unsigned int state)
{
	(void)context;
	(void)state;
	if (atomic_fetch_add(&answered, 1) + 1 == 5000)
		one_less();
	else
		task_wakeup(t, TASK_WOKEN_OTHER);
	return t;
}

START_TEST(what_is_left_of_a_turn_runs_in_the_next)
{
	struct task *t;

	t = task_new_here();
	t->process = again;
	task_wakeup(t, TASK_WOKEN_INIT);
	run_until(1);
	ck_assert_int_eq(atomic_load(&answered), 5000);
	task_destroy(t);
}
END_TEST

/* --- two hosts ------------------------------------------------------------------ */

enum { ROUNDS = 1000 };
static struct host hosts[2];
static struct task *player[2];
static atomic_int rounds, entered;

/* Each wakes the other; who plays the last round ends both loops, the other one's
 * by waking its player. */
static struct task *play(struct task *t, void *context, unsigned int state)
{
	unsigned int me = keel_tid();

	(void)state;
	if ((intptr_t)context != (intptr_t)me)
		abort();
	if (atomic_load(&rounds) >= ROUNDS)
		uv_stop(&hosts[me].loop);
	else
		atomic_fetch_add(&rounds, 1);
	task_wakeup(player[!me], TASK_WOKEN_MSG);
	return t;
}

static void *host_thread(void *arg)
{
	intptr_t tid = (intptr_t)arg;
	struct host *h = &hosts[tid];

	host_begin(h, tid);
	atomic_fetch_add(&entered, 1);
	while (atomic_load(&entered) < 2)
		usleep(1000);
	if (tid == 0)
		task_wakeup(player[0], TASK_WOKEN_INIT);
	host_run(h);
	host_end(h);
	return NULL;
}

START_TEST(two_hosts_talk_through_tasks)
{
	pthread_t th[2];

	init(2);
	for (intptr_t i = 0; i < 2; i++) {
		player[i] = task_new_on(i);
		player[i]->process = play;
		player[i]->context = (void *)i;
	}
	for (intptr_t i = 0; i < 2; i++)
		pthread_create(&th[i], NULL, host_thread, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(th[i], NULL);
	ck_assert(!hosts[0].expired && !hosts[1].expired);
	ck_assert_int_eq(atomic_load(&rounds), ROUNDS);
	/* Half of the rounds are each one's. */
	ck_assert_uint_le(hosts[0].turns, 3 * (ROUNDS / 2) + 50);
	ck_assert_uint_le(hosts[1].turns, 3 * (ROUNDS / 2) + 50);
	task_destroy(player[0]);
	task_destroy(player[1]);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s;
	TCase *one, *beside, *two;

	if (with_poll()) {
		puts("ok test_host_libuv # skip poll() has no descriptor for the host");
		return 0;
	}
	s = suite_create("libuv's loop");
	one = tcase_create("one host");
	beside = tcase_create("one host beside another thread");
	two = tcase_create("two hosts");
	tcase_set_timeout(one, 90);
	tcase_set_timeout(beside, 90);
	tcase_set_timeout(two, 90);
	tcase_add_checked_fixture(one, begin_alone, end);
	/* With one thread there are no shared timers. */
	tcase_add_checked_fixture(beside, begin_beside_another, end);
	tcase_add_test(one, tasks_are_on_time);
	tcase_add_test(one, callouts_fire);
	tcase_add_test(one, descriptors_ring);
	tcase_add_test(one, wakeups_by_another_thread);
	tcase_add_test(one, wake_thread_is_heard);
	tcase_add_test(one, nothing_spins);
	tcase_add_test(one, the_hosts_handlers_wake_tasks);
	tcase_add_test(one, the_hosts_handlers_want_events);
	tcase_add_test(one, what_is_left_of_a_turn_runs_in_the_next);
	tcase_add_test(beside, another_thread_sets_dates);
	tcase_add_test(two, two_hosts_talk_through_tasks);
	suite_add_tcase(s, one);
	suite_add_tcase(s, beside);
	suite_add_tcase(s, two);
	return run_suite(s);
}

#endif
