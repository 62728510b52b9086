/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/task.h: what went wrong elsewhere, by the ids of docs/task-museum.md.
 * What needs a clock of the test's own is in tests/task_timers.rs.
 */

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "loops.h"
#include "panic.h"
#include "suite.h"

typedef struct task *handler(struct task *t, void *ctx, unsigned int state);

/* -- one thread, number 0, that turns when told ----------------------------- */

static void start_with(unsigned int nbthread, unsigned int depth, unsigned int low_latency,
                       unsigned int profiling)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 256;
	cfg.runqueue_depth = depth;
	cfg.low_latency = low_latency;
	cfg.profiling = profiling;
	cfg.panic = hear_panic;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static void start(unsigned int nbthread)
{
	start_with(nbthread, 0, 0, 0);
}

/* Everything that was made is gone, and no queue holds anything. */
static void empty(void)
{
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(total_run_queues(), 0);
	ck_assert_int_eq(thread_has_tasks(), 0);
	ck_assert_int_eq(next_timer_expiry(), TICK_ETERNITY);
	keel_deinit();
}

static void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

static int date(int ms)
{
	return tick_add((int)keel_now_ms(), MS_TO_TICKS(ms));
}

static struct task *with(struct task *t, handler *process, void *ctx)
{
	ck_assert_ptr_nonnull(t);
	t->process = process;
	t->context = ctx;
	return t;
}

static struct tasklet *tasklet_with(int thr, handler *process, void *ctx)
{
	struct tasklet *tl = tasklet_new();

	ck_assert_ptr_nonnull(tl);
	tl->process = process;
	tl->context = ctx;
	if (thr >= 0)
		tasklet_set_tid(tl, thr);
	return tl;
}

static unsigned int state_of(struct task *t)
{
	return __atomic_load_n(&t->state, __ATOMIC_ACQUIRE);
}

/* Does <f> on a thread that is not registered. */
static void elsewhere(void *(*f)(void *), void *arg)
{
	pthread_t th;

	pthread_create(&th, NULL, f, arg);
	pthread_join(th, NULL);
}

static atomic_int runs;

/* Counts, in <*ctx> too where there is one, and expects no more. */
static struct task *note(struct task *t, void *ctx, unsigned int state)
{
	if (!(state & TASK_F_TASKLET))
		t->expire = TICK_ETERNITY;
	atomic_fetch_add(&runs, 1);
	if (ctx)
		++*(int *)ctx;
	return t;
}

static char order[64];
static int ordered;

static struct task *note_order(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	order[ordered++] = *(char *)ctx;
	return t;
}

static struct task *endless(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	atomic_fetch_add(&runs, 1);
	if (state & TASK_F_TASKLET)
		tasklet_wakeup((struct tasklet *)t);
	else
		task_wakeup(t, TASK_WOKEN_OTHER);
	return t;
}

/* -- timers ---------------------------------------------------------------- */

/* The panic names the task's handler and both threads. */
static void *touches(void *arg)
{
	struct task *t = arg;

	ck_assert_int_eq(keel_thread_enter(1), 0);
	switch (t->calls) {
	case 0:
		task_queue(t);
		break;
	case 1:
		task_schedule(t, date(10));
		break;
	default:
		task_unlink_wq(t);
	}
	return NULL;
}

START_TEST(task_1_a_foreign_private_timer_is_refused)
{
	static char handler_is[32];
	struct task *t;

	start(2);
	t = with(task_new_here(), note, NULL);
	task_schedule(t, date(10000));
	t->calls = (unsigned int)_i;
	snprintf(handler_is, sizeof(handler_is), "%#lx", (unsigned long)note);
	expect_panic(handler_is, "private to thread 0", "thread 1 touches");
	elsewhere(touches, t);
}
END_TEST

/* Switches its date off and on again; others wake it all the time. */
static struct task *pulse(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	t->expire = TICK_ETERNITY;
	for (int i = 0; i < 20; i++)
		__asm__ volatile("" ::: "memory");
	t->expire = date(1);
	return t;
}

enum { CROWD = 100 };
static struct task *crowd[CROWD];
static atomic_int hammering = 1;

static void *hammer(void *arg)
{
	unsigned int seed = (unsigned int)(size_t)arg;

	while (atomic_load(&hammering)) {
		struct task *t = crowd[rand_r(&seed) % CROWD];

		switch (rand_r(&seed) % 4) {
		case 0:
			task_schedule(t, date(1));
			break;
		default:
			task_wakeup(t, TASK_WOKEN_MSG);
		}
	}
	return NULL;
}

/* SHOWS: INV-39, INV-40 */
START_TEST(task_2_3_25_unbound_tasks_of_a_millisecond)
{
	pthread_t th = start_loops(4), h[3];

	for (int i = 0; i < CROWD; i++) {
		crowd[i] = with(task_new_anywhere(), pulse, NULL);
		task_wakeup(crowd[i], TASK_WOKEN_INIT);
	}
	for (size_t i = 0; i < 3; i++)
		pthread_create(&h[i], NULL, hammer, (void *)i);
	usleep(300000);
	atomic_store(&hammering, 0);
	for (int i = 0; i < 3; i++)
		pthread_join(h[i], NULL);
	/* nobody wakes them any more: each goes on by its own date */
	for (int i = 0; i < CROWD; i++) {
		unsigned int calls = __atomic_load_n(&crowd[i]->calls, __ATOMIC_RELAXED);
		int tries = 0;

		while (__atomic_load_n(&crowd[i]->calls, __ATOMIC_RELAXED) < calls + 3 && tries++ < 10000)
			usleep(1000);
		ck_assert_int_lt(tries, 10000);
	}
	for (int i = 0; i < CROWD; i++)
		task_kill(crowd[i]);
	all_gone();
	stop_loops(th);
}
END_TEST

/* Tells when it is inside, waits there, and switches its date off. */
static atomic_int inside, go_on;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct task *waits(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	if (state & TASK_WOKEN_MSG) {
		atomic_fetch_add(&inside, 1);
		for (int i = 0; i < 10000 && !atomic_load(&go_on); i++)
			usleep(1000);
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
	t->expire = TICK_ETERNITY;
	atomic_fetch_add(&runs, 1);
	return t;
}

/* SHOWS: INV-39 */
START_TEST(task_4_6_a_date_given_during_the_run_counts_after_it)
{
	pthread_t th = start_loops(2);
	struct task *t = with(task_new_anywhere(), waits, NULL);

	for (int i = 1; i <= 50; i++) {
		atomic_store(&go_on, 0);
		task_wakeup(t, TASK_WOKEN_MSG);
		wait_for(&inside, i);
		task_schedule(t, date(1 + i % 3));
		atomic_store(&go_on, 1);
		wait_for(&runs, 2 * i);
	}
	task_kill(t);
	all_gone();
	stop_loops(th);
}
END_TEST

/* SHOWS: INV-57 */
START_TEST(task_5_nobody_waits_for_a_handler)
{
	pthread_t th = start_loops(2);
	struct task *t = with(task_new_anywhere(), waits, NULL);

	atomic_store(&go_on, 1);
	for (int i = 1; i <= 20; i++) {
		pthread_mutex_lock(&lock);
		task_wakeup(t, TASK_WOKEN_MSG);
		wait_for(&inside, i);
		task_schedule(t, date(1));
		task_queue(t);
		task_unlink_wq(t);
		task_schedule(t, date(1));
		task_wakeup(t, TASK_WOKEN_RES);
		if (i == 20)
			task_kill(t);
		pthread_mutex_unlock(&lock);
		while (i < 20 && state_of(t) & (TASK_RUNNING | TASK_QUEUED))
			usleep(10);
	}
	all_gone();
	stop_loops(th);
}
END_TEST

/* Woken by the test it goes; by its date, which is always near, it stays. */
static struct task *goes_when_told(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	if (state & TASK_WOKEN_MSG) {
		task_destroy(t);
		return NULL;
	}
	t->expire = date(1);
	return t;
}

START_TEST(task_7_woken_and_freed_while_its_timer_expires)
{
	pthread_t th = start_loops(4);

	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < CROWD; i++) {
			crowd[i] = with(task_new_anywhere(), goes_when_told, NULL);
			task_schedule(crowd[i], date(1));
		}
		usleep((unsigned int)(round % 4) * 500);
		for (int i = 0; i < CROWD; i++)
			task_wakeup(crowd[i], TASK_WOKEN_MSG);
	}
	all_gone();
	stop_loops(th);
}
END_TEST

/* The next date is a date: with one timer far ahead the loop sleeps.
 * SHOWS: INV-56 */
START_TEST(task_17_the_next_date_is_a_date)
{
	struct task *t;
	int when, sleeps = 0;

	start(1);
	ck_assert_int_eq(next_timer_expiry(), TICK_ETERNITY);
	t = with(task_new_here(), note, NULL);
	keel_update_clock();
	when = date(150);
	task_schedule(t, when);
	ck_assert_int_eq(next_timer_expiry(), when);
	while (!atomic_load(&runs) && sleeps++ < (in_storm() ? 1000 : 30))
		keel_poll_once(200);
	ck_assert_msg(atomic_load(&runs), "thirty turns and 150 ms are not over: a busy loop");
	ck_assert_int_ne(tick_is_expired(when, (int)keel_now_ms()), 0);
	task_destroy(t);
	empty();
}
END_TEST

/* -- tickets and counters ---------------------------------------------------- */

/* QUEUED is set if and only if the item waits to run, whatever was done to it,
 * and in the end everything can be woken again and nothing is left. A tasklet
 * that its own thread wakes has a ticket beside the state word.
 * SHOWS: INV-33, INV-44 */
START_TEST(task_20_38_queued_means_that_it_will_run)
{
	enum { TASKS = 30, TASKLETS = 20, ALL = TASKS + TASKLETS };
	struct task *t[ALL];
	int ran[ALL] = { 0 }, due[ALL] = { 0 }, pending[ALL] = { 0 }, armed[ALL] = { 0 };
	unsigned int seed = 20;

	start(1);
	for (int i = 0; i < ALL; i++) {
		if (i >= TASKS) {
			t[i] = (struct task *)tasklet_with(i & 1 ? 0 : -1, note, &ran[i]);
			continue;
		}
		t[i] = with(task_new_here(), note, &ran[i]);
		t[i]->nice = (short)(i % 3 ? 0 : i * 70 - 1024);
		if (i % 4 == 0)
			t[i]->state |= TASK_SHARED_WQ;
	}
	for (int step = 0; step < 20000; step++) {
		int i = (int)(rand_r(&seed) % ALL);
		struct tasklet *tl = (struct tasklet *)t[i];

		switch (rand_r(&seed) % 8) {
		case 0:
		case 1:
			if (i < TASKS)
				task_wakeup(t[i], TASK_WOKEN_IO);
			else
				tasklet_wakeup(tl);
			pending[i] = 1;
			break;
		case 2:
			if (i < TASKS)
				task_instant_wakeup(t[i], TASK_WOKEN_IO);
			else
				tasklet_wakeup_after(NULL, tl);
			pending[i] = 1;
			break;
		case 3:
			if (i >= TASKS) {
				tasklet_remove_from_tasklet_list(tl);
				pending[i] = 0;
			} else if (task_in_rq(t[i])) {
				task_unlink_rq(t[i]);
				pending[i] = 0;
			}
			break;
		case 4:
			if (i < TASKS && !pending[i]) {
				task_schedule(t[i], date(1000000));
				armed[i] = 1;
			}
			break;
		case 5:
			if (i < TASKS) {
				task_unlink_wq(t[i]);
				t[i]->expire = TICK_ETERNITY;
				armed[i] = 0;
			}
			break;
		default:
			if (step % 4)
				break;
			turns(1);
			for (int k = 0; k < ALL; k++) {
				due[k] += pending[k];
				pending[k] = 0;
				ck_assert_int_eq(ran[k], due[k]);
			}
		}
		ck_assert_int_eq(!!(t[i]->state & TASK_QUEUED), i >= TASKS && (i & 1) ? 0 : pending[i]);
		/* a run that was cancelled leaves no reason for another one */
		if (!pending[i])
			ck_assert_uint_eq(t[i]->state & TASK_WOKEN_ANY, 0);
		if (i < TASKS)
			ck_assert_int_eq(!!task_in_wq(t[i]), armed[i]);
	}
	for (int i = 0; i < ALL; i++) {
		if (i < TASKS)
			task_wakeup(t[i], TASK_WOKEN_IO);
		else
			tasklet_wakeup((struct tasklet *)t[i]);
	}
	turns(1);
	for (int i = 0; i < ALL; i++) {
		ck_assert_int_eq(ran[i], due[i] + 1);
		if (i < TASKS)
			task_destroy(t[i]);
		else
			tasklet_free((struct tasklet *)t[i]);
	}
	empty();
}
END_TEST

static struct task *victims[3];

static struct task *destroys_others(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	for (int i = 0; i < 3; i++)
		task_destroy(victims[i]);
	return t;
}

/* SHOWS: INV-34 */
START_TEST(task_22_a_handler_destroys_what_is_about_to_run)
{
	struct task *killer;

	start(1);
	killer = with(task_new_here(), destroys_others, NULL);
	killer->nice = -1;
	for (int i = 0; i < 3; i++) {
		victims[i] = with(i == 2 ? task_new_anywhere() : task_new_here(), note, NULL);
		task_schedule(victims[i], date(10000));
		task_wakeup(victims[i], TASK_WOKEN_OTHER);
	}
	task_wakeup(killer, TASK_WOKEN_OTHER);
	turns(2);
	ck_assert_uint_eq(killer->calls, 1);
	ck_assert_int_eq(atomic_load(&runs), 0);
	task_destroy(killer);
	empty();
}
END_TEST

static void *wakes(void *t)
{
	task_wakeup(t, TASK_WOKEN_MSG);
	return NULL;
}

START_TEST(task_23_woken_from_elsewhere_and_unlinked_by_its_owner)
{
	struct task *t;

	start(2);
	t = with(task_new_here(), note, NULL);
	elsewhere(wakes, t);
	ck_assert_int_ne(thread_has_tasks(), 0);
	task_unlink_rq(t);
	ck_assert_uint_eq(t->state & TASK_QUEUED, 0);
	ck_assert_int_eq(thread_has_tasks(), 0);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 0);
	elsewhere(wakes, t);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	task_destroy(t);
	empty();
}
END_TEST

/* -- order and shares ---------------------------------------------------------- */

/* SHOWS: INV-51 */
START_TEST(task_26_a_nicer_task_is_not_passed_over)
{
	struct task *busy[400], *t;

	start(1);
	for (int i = 0; i < 400; i++) {
		busy[i] = with(task_new_here(), endless, NULL);
		task_wakeup(busy[i], TASK_WOKEN_OTHER);
	}
	t = with(task_new_here(), note, NULL);
	t->nice = -1024;
	for (unsigned int i = 1; i <= 20; i++) {
		process_runnable_tasks();
		task_wakeup(t, TASK_WOKEN_OTHER);
		process_runnable_tasks();
		ck_assert_uint_eq(t->calls, i);
	}
	task_destroy(t);
	for (int i = 0; i < 400; i++)
		task_destroy(busy[i]);
	turns(10);
	empty();
}
END_TEST

START_TEST(task_27_nice_counts_for_the_first_one_too)
{
	struct task *a, *b;

	start(1);
	a = with(task_new_here(), note_order, "a");
	a->nice = 1024;
	b = with(task_new_here(), note_order, "b");
	task_wakeup(a, TASK_WOKEN_OTHER);
	task_wakeup(b, TASK_WOKEN_OTHER);
	turns(2);
	ck_assert_str_eq(order, "ba");
	task_destroy(a);
	task_destroy(b);
	empty();
}
END_TEST

/* By default all at once; with the smallest budgets, a quarter of which is
 * nothing, still one a call.
 * SHOWS: INV-51, INV-42 */
START_TEST(task_28_few_niced_tasks_run_at_once)
{
	struct task *t[3];

	start_with(1, (unsigned int)_i, 0, 0);
	for (int i = 0; i < 3; i++) {
		t[i] = with(task_new_here(), note, NULL);
		t[i]->nice = (short)(500 * (i - 1) + 1);
	}
	for (int n = 1; n <= 3; n++) {
		atomic_store(&runs, 0);
		for (int i = 0; i < n; i++)
			task_wakeup(t[i], TASK_WOKEN_OTHER);
		for (int call = 1; call <= (_i ? n : 1); call++) {
			process_runnable_tasks();
			ck_assert_int_ge(atomic_load(&runs), call);
		}
		ck_assert_int_eq(atomic_load(&runs), n);
	}
	for (int i = 0; i < 3; i++)
		task_destroy(t[i]);
	empty();
}
END_TEST

/* Any number of tasks up to that of the threads, and nothing else to do.
 * SHOWS: INV-43 */
START_TEST(task_29_none_of_a_few_is_left_over)
{
	pthread_t th = start_loops(8);
	struct task *t[8];

	for (int i = 0; i < 8; i++)
		t[i] = with(i & 1 ? task_new_anywhere() : task_new((1UL << i) | 1), note, NULL);
	for (int round = 0; round < 5; round++) {
		for (int n = 1; n <= 8; n++) {
			atomic_store(&runs, 0);
			for (int i = 0; i < n; i++)
				task_wakeup(t[i], TASK_WOKEN_MSG);
			wait_for(&runs, n);
			/* and let them all end */
			for (int i = 0; i < n; i++)
				while (state_of(t[i]) & (TASK_RUNNING | TASK_QUEUED))
					usleep(10);
		}
	}
	for (int i = 0; i < 8; i++)
		task_kill(t[i]);
	all_gone();
	stop_loops(th);
}
END_TEST

START_TEST(task_30_endless_local_work_and_a_foreign_task)
{
	struct task *busy, *t;

	start(2);
	busy = with(task_new_here(), endless, NULL);
	task_wakeup(busy, TASK_WOKEN_OTHER);
	t = with(task_new_anywhere(), note, NULL);
	for (unsigned int i = 1; i <= 10; i++) {
		elsewhere(wakes, t);
		turns(2);
		ck_assert_uint_eq(t->calls, i);
	}
	task_destroy(t);
	task_destroy(busy);
	turns(1);
	empty();
}
END_TEST

START_TEST(task_31_tasklets_do_not_use_up_the_tasks_share)
{
	struct tasklet *busy[3000];
	struct task *t;

	start(1);
	for (int i = 0; i < 3000; i++) {
		busy[i] = tasklet_with(-1, endless, NULL);
		tasklet_wakeup(busy[i]);
	}
	t = with(task_new_here(), note, NULL);
	for (unsigned int i = 1; i <= 20; i++) {
		task_wakeup(t, TASK_WOKEN_OTHER);
		process_runnable_tasks();
		ck_assert_uint_eq(t->calls, i);
	}
	task_destroy(t);
	for (int i = 0; i < 3000; i++)
		tasklet_free(busy[i]);
	empty();
}
END_TEST

/* A tasklet that is woken in a task's run gets into that task's class, not
 * into the urgent one, and so does the one that it wakes itself. */
static struct tasklet *next_one[2];

static struct task *wakes_next(struct task *t, void *ctx, unsigned int state)
{
	char me = *(char *)ctx;

	if (me == 'b')
		tasklet_wakeup(next_one[0]);
	if (me == 'd')
		tasklet_wakeup(next_one[1]);
	return note_order(t, ctx, state);
}

START_TEST(task_32_a_chain_of_tasklets_stays_in_its_class)
{
	struct tasklet *urgent;
	struct task *first, *second;

	/* which would return to the urgent class after each item */
	start_with(1, 0, 1, 0);
	urgent = tasklet_with(-1, note_order, "a");
	first = with(task_new_here(), wakes_next, "b");
	second = with(task_new_here(), note_order, "c");
	next_one[0] = tasklet_with(-1, wakes_next, "d");
	next_one[1] = tasklet_with(-1, note_order, "e");
	tasklet_wakeup(urgent);
	task_wakeup(first, TASK_WOKEN_OTHER);
	task_wakeup(second, TASK_WOKEN_OTHER);
	turns(3);
	ck_assert_str_eq(order, "abcde");
	task_destroy(first);
	task_destroy(second);
	tasklet_free(urgent);
	tasklet_free(next_one[0]);
	tasklet_free(next_one[1]);
	empty();
}
END_TEST

/* Heavy items: at least one a call, more while many wait, and still more if
 * nothing else does.
 * SHOWS: INV-45 */
START_TEST(task_33_a_heavy_backlog_is_worked_off)
{
	enum { HEAVY = 4000 };
	struct tasklet *heavy[HEAVY];
	struct task *busy = NULL;
	int done = 0, calls = 0, first, last = 0;

	start(1);
	if (_i)
		task_wakeup(busy = with(task_new_here(), endless, NULL), TASK_WOKEN_OTHER);
	for (int i = 0; i < HEAVY; i++) {
		heavy[i] = tasklet_with(-1, note, &done);
		heavy[i]->state |= TASK_HEAVY;
		tasklet_wakeup(heavy[i]);
	}
	process_runnable_tasks();
	first = done;
	ck_assert_int_ge(first, _i ? 2 : 10);
	for (calls = 1; done < HEAVY && calls < HEAVY; calls++) {
		last = done;
		process_runnable_tasks();
		ck_assert_int_gt(done, last);
		ck_assert_int_le(done - last, first);
	}
	ck_assert_int_eq(done, HEAVY);
	ck_assert_int_lt(calls, 3000);
	if (busy)
		task_destroy(busy);
	for (int i = 0; i < HEAVY; i++)
		tasklet_free(heavy[i]);
	turns(1);
	empty();
}
END_TEST

/* What the dump says of thread 0 behind <word>. */
static int figure(const char *word)
{
	char text[8192], *at;
	int p[2], n;

	ck_assert_int_eq(pipe(p), 0);
	n = keel_dump_tasks(p[1]);
	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, (int)sizeof(text));
	ck_assert_int_eq(read(p[0], text, sizeof(text) - 1), n);
	text[n] = 0;
	close(p[0]);
	close(p[1]);
	at = strstr(text, "thread 0");
	ck_assert_ptr_nonnull(at);
	at = strstr(at, word);
	ck_assert_ptr_nonnull(at);
	return atoi(at + strlen(word));
}

/* SHOWS: INV-44 */
START_TEST(task_34_work_that_is_left_is_counted)
{
	struct tasklet *heavy[3];

	start(1);
	for (int i = 0; i < 3; i++) {
		heavy[i] = tasklet_with(-1, note, NULL);
		heavy[i]->state |= TASK_HEAVY;
		tasklet_wakeup(heavy[i]);
	}
	for (int left = 2; left >= 0; left--) {
		process_runnable_tasks();
		ck_assert_int_eq(atomic_load(&runs), 3 - left);
		ck_assert_int_eq(figure("long "), left ? 3 - left : 2);
		ck_assert_int_eq(total_run_queues(), left);
	}
	for (int i = 0; i < 3; i++)
		tasklet_free(heavy[i]);
	empty();
}
END_TEST

/* Budgets as small as they get, and all classes busy: a call does as much as
 * its budget says, but for rounding up, and each class has its share.
 * SHOWS: INV-42, INV-43 */
START_TEST(task_35_a_small_budget_is_kept)
{
	struct tasklet *urgent[9], *bulk[9], *heavy[9];
	struct task *normal[9];
	int ran[4] = { 0 }, before;

	start_with(1, (unsigned int)_i, 0, 0);
	for (int i = 0; i < 9; i++) {
		urgent[i] = tasklet_with(-1, note, &ran[0]);
		normal[i] = with(task_new_here(), note, &ran[1]);
		bulk[i] = tasklet_with(-1, note, &ran[2]);
		bulk[i]->state |= TASK_SELF_WAKING;
		heavy[i] = tasklet_with(-1, note, &ran[3]);
		heavy[i]->state |= TASK_HEAVY;
	}
	for (int call = 0; call < 50; call++) {
		for (int i = 0; i < 9; i++) {
			tasklet_wakeup(urgent[i]);
			task_wakeup(normal[i], TASK_WOKEN_OTHER);
			tasklet_wakeup(bulk[i]);
			tasklet_wakeup(heavy[i]);
		}
		before = atomic_load(&runs);
		process_runnable_tasks();
		ck_assert_int_gt(atomic_load(&runs), before);
		ck_assert_int_le(atomic_load(&runs), before + _i + 3);
	}
	for (int class = 0; class < 4; class++)
		ck_assert_int_ge(ran[class], 50);
	for (int i = 0; i < 9; i++) {
		tasklet_free(urgent[i]);
		task_destroy(normal[i]);
		tasklet_free(bulk[i]);
		tasklet_free(heavy[i]);
	}
	turns(20);
	empty();
}
END_TEST

START_TEST(task_36_more_tasks_than_budget)
{
	enum { DEPTH = 50, TASKS = 1000 };
	struct task *t[TASKS];
	uint64_t begin;

	start_with(1, DEPTH, 0, 0);
	for (int i = 0; i < TASKS; i++) {
		t[i] = with(task_new_here(), note, NULL);
		task_wakeup(t[i], TASK_WOKEN_OTHER);
	}
	process_runnable_tasks();
	ck_assert_int_eq(atomic_load(&runs), DEPTH);
	ck_assert_int_eq(total_run_queues(), TASKS - DEPTH);
	/* and it does not sleep on the rest */
	begin = keel_now_ns();
	for (int i = 0; i < 2 * TASKS / DEPTH && atomic_load(&runs) < TASKS; i++)
		keel_poll_once(1000);
	ck_assert_int_eq(atomic_load(&runs), TASKS);
	ck_assert_uint_lt(keel_now_ns() - begin, TASKS / DEPTH * 1000000000u / 2);
	for (int i = 0; i < TASKS; i++)
		task_destroy(t[i]);
	empty();
}
END_TEST

/* -- several producers ---------------------------------------------------------- */

enum { PRODUCERS = 3, ROUNDS = 20000 };

/* Each producer says a number, and its item has seen it in the end. */
static struct producer {
	struct tasklet *tl;
	struct task *t;
	atomic_int said, seen[2];
} producers[PRODUCERS];
static struct tasklet *common;
static atomic_int common_seen[PRODUCERS];

static struct task *sees(struct task *t, void *ctx, unsigned int state)
{
	struct producer *p = ctx;

	atomic_store(&p->seen[!(state & TASK_F_TASKLET)], atomic_load(&p->said));
	return t;
}

static struct task *sees_all(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	for (int i = 0; i < PRODUCERS; i++)
		atomic_store(&common_seen[i], atomic_load(&producers[i].said));
	atomic_fetch_add(&runs, 1);
	/* it runs constantly: its owner wakes it too, inside and outside */
	if (atomic_load(&hammering))
		tasklet_wakeup((struct tasklet *)t);
	return t;
}

static void *produces(void *arg)
{
	struct producer *p = arg;

	for (int i = 1; i <= ROUNDS; i++) {
		atomic_store(&p->said, i);
		if (common) {
			tasklet_wakeup(common);
		} else {
			tasklet_wakeup(p->tl);
			task_wakeup(p->t, TASK_WOKEN_MSG);
		}
	}
	return NULL;
}

/* SHOWS: INV-42, INV-52 */
START_TEST(task_37_two_producers_and_an_idle_thread)
{
	pthread_t th[2];
	int all = 0;

	start(2);
	for (int i = 0; i < 2; i++) {
		producers[i].tl = tasklet_with(0, sees, &producers[i]);
		producers[i].t = with(task_new_here(), sees, &producers[i]);
		pthread_create(&th[i], NULL, produces, &producers[i]);
	}
	for (int turn = 0; turn < 10000000 && all < 4; turn++) {
		keel_poll_once(turn % 64 ? 0 : 5000);
		all = 0;
		for (int i = 0; i < 4; i++)
			all += atomic_load(&producers[i & 1].seen[i >> 1]) == ROUNDS;
	}
	ck_assert_int_eq(all, 4);
	for (int i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		tasklet_free(producers[i].tl);
		task_destroy(producers[i].t);
	}
	turns(1);
	empty();
}
END_TEST

/* SHOWS: INV-33, INV-52 */
START_TEST(task_44_45_owner_and_others_wake_a_tasklet_that_runs)
{
	pthread_t th[PRODUCERS];
	int left = PRODUCERS;

	start(1);
	common = tasklet_with(0, sees_all, NULL);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_create(&th[i], NULL, produces, &producers[i]);
	while (left) {
		left = PRODUCERS;
		tasklet_wakeup(common);
		turns(1);
		tasklet_remove_from_tasklet_list(common);
		for (int i = 0; i < PRODUCERS; i++)
			left -= atomic_load(&producers[i].said) == ROUNDS;
	}
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(th[i], NULL);
	atomic_store(&hammering, 0);
	tasklet_wakeup(common);
	turns(2);
	for (int i = 0; i < PRODUCERS; i++)
		ck_assert_int_eq(atomic_load(&common_seen[i]), ROUNDS);
	ck_assert_int_eq((int)common->calls, atomic_load(&runs));
	tasklet_free(common);
	empty();
}
END_TEST

/* -- killing and cancelling ------------------------------------------------------ */

/* SHOWS: INV-44, INV-48 */
START_TEST(task_39_killed_items_leave_the_counts)
{
	struct task *last;

	start(1);
	for (int i = 0; i < 400; i++) {
		struct task *t = with(task_new_here(), note, NULL);
		struct tasklet *tl = tasklet_with(i & 1 ? 0 : -1, note, NULL);

		t->nice = (short)(i % 21 - 10);
		if (i & 2) {
			task_wakeup(t, TASK_WOKEN_OTHER);
			tasklet_wakeup(tl);
		}
		task_kill(t);
		tasklet_kill(tl);
	}
	turns(20);
	ck_assert_int_eq(atomic_load(&runs), 0);
	ck_assert_int_eq(total_run_queues(), 0);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	last = with(task_new_here(), note, NULL);
	task_wakeup(last, TASK_WOKEN_OTHER);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	task_destroy(last);
	empty();
}
END_TEST

/* SHOWS: INV-44 */
START_TEST(task_40_niced_tasks_leave_no_trace)
{
	enum { DEPTH = 100 };
	struct task *t[DEPTH];

	start_with(2, DEPTH, 0, 0);
	for (int i = 0; i < DEPTH; i++) {
		t[i] = with(i & 1 ? task_new_here() : task_new_anywhere(), note, NULL);
		t[i]->nice = (short)(i % 7 - 3);
		if (i % 3)
			elsewhere(wakes, t[i]);
		else
			wakes(t[i]);
		if (i % 5 == 0)
			task_unlink_rq(t[i]);
	}
	turns(10);
	ck_assert_int_eq(total_run_queues(), 0);
	/* while niced ones wait, a call does but a quarter */
	atomic_store(&runs, 0);
	for (int i = 0; i < DEPTH; i++) {
		t[i]->nice = 0;
		task_wakeup(t[i], TASK_WOKEN_OTHER);
	}
	process_runnable_tasks();
	ck_assert_int_eq(atomic_load(&runs), DEPTH);
	for (int i = 0; i < DEPTH; i++)
		task_destroy(t[i]);
	empty();
}
END_TEST

static void *kills(void *t)
{
	task_kill(t);
	return NULL;
}

/* Killed right after they were made, from here and from elsewhere.
 * SHOWS: INV-48 */
START_TEST(task_41_killed_before_it_ever_ran)
{
	start(2);
	for (int i = 0; i < 200; i++) {
		struct task *t = with(i & 1 ? task_new_here() : task_new_anywhere(), note, NULL);

		if (i & 2)
			task_schedule(t, date(10000));
		if (i & 4)
			elsewhere(kills, t);
		else
			task_kill(t);
		tasklet_kill(tasklet_with(i & 1 ? 0 : -1, note, NULL));
	}
	ck_assert_int_eq(total_allocated_tasks(), 400);
	turns(5);
	ck_assert_int_eq(atomic_load(&runs), 0);
	empty();
}
END_TEST

static void *kills_tasklet(void *tl)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	tasklet_kill(tl);
	turns(5);
	ck_assert_int_eq(total_allocated_tasks(), 1);
	keel_thread_leave();
	return NULL;
}

/* SHOWS: INV-48 */
START_TEST(task_42_a_killed_tasklet_dies_on_its_own_thread)
{
	start(2);
	elsewhere(kills_tasklet, tasklet_with(0, note, NULL));
	ck_assert_int_eq(total_allocated_tasks(), 1);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 0);
	empty();
}
END_TEST

static void *wakes_three(void *arg)
{
	struct tasklet **tl = arg;

	for (int i = 0; i < 3; i++)
		tasklet_wakeup(tl[i]);
	return NULL;
}

START_TEST(task_46_cancelled_and_freed_behind_remote_wakeups)
{
	struct tasklet *tl[3];
	int ran[3] = { 0 };

	start(1);
	for (int i = 0; i < 3; i++)
		tl[i] = tasklet_with(0, note, &ran[i]);
	elsewhere(wakes_three, tl);
	tasklet_remove_from_tasklet_list(tl[1]);
	tasklet_free(tl[0]);
	turns(2);
	ck_assert_int_eq(ran[0], 0);
	ck_assert_int_eq(ran[1], 0);
	ck_assert_int_eq(ran[2], 1);
	/* the cancelled one is none the worse */
	tasklet_wakeup(tl[1]);
	turns(1);
	ck_assert_int_eq(ran[1], 1);
	tasklet_free(tl[1]);
	tasklet_free(tl[2]);
	empty();
}
END_TEST

/* SHOWS: INV-44 */
START_TEST(task_47_cancelling_twice_is_once)
{
	struct tasklet *tl;
	struct task *t;

	start(1);
	tl = tasklet_with(-1, note, NULL);
	t = with(task_new_here(), note, NULL);
	tasklet_remove_from_tasklet_list(tl);
	tasklet_wakeup(tl);
	task_wakeup(t, TASK_WOKEN_OTHER);
	ck_assert_int_eq(total_run_queues(), 2);
	for (int i = 0; i < 2; i++) {
		tasklet_remove_from_tasklet_list(tl);
		task_unlink_rq(t);
		task_unlink_wq(t);
		ck_assert_int_eq(total_run_queues(), 0);
		ck_assert_int_eq(thread_has_tasks(), 0);
	}
	tasklet_free(tl);
	task_destroy(t);
	empty();
}
END_TEST

/* -- waking sleepers ------------------------------------------------------------- */

static atomic_int release_it;

static struct task *hogs(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&inside, 1);
	for (int i = 0; i < 20000 && !atomic_load(&release_it); i++)
		usleep(1000);
	return t;
}

/* Threads that have nothing to do sleep for a minute; one of the others holds
 * a task that each of them might run.
 * SHOWS: INV-46, INV-47 */
START_TEST(task_48_sleepers_are_really_woken)
{
	pthread_t th = start_loops(4);
	struct task *hog = with(task_new(0xc), hogs, NULL), *t[2];
	struct tasklet *tl = tasklet_with(1, note, NULL);

	task_wakeup(hog, TASK_WOKEN_OTHER);
	wait_for(&inside, 1);
	/* and it is pending once more */
	task_wakeup(hog, TASK_WOKEN_OTHER);
	t[0] = with(task_new_on(0), note, NULL);
	t[1] = with(task_new(3), note, NULL);
	for (int i = 0; i < 30; i++) {
		atomic_store(&runs, 0);
		usleep(i % 3 ? 100 : 5000);
		switch (i % 4) {
		case 0:
			task_wakeup(t[0], TASK_WOKEN_MSG);
			break;
		case 1:
			task_wakeup(t[1], TASK_WOKEN_MSG);
			break;
		case 2:
			task_instant_wakeup(t[0], TASK_WOKEN_MSG);
			break;
		default:
			tasklet_wakeup(tl);
		}
		wait_for(&runs, 1);
	}
	atomic_store(&release_it, 1);
	task_kill(hog);
	task_kill(t[0]);
	task_kill(t[1]);
	tasklet_kill(tl);
	all_gone();
	stop_loops(th);
}
END_TEST

/* Tasks for all threads, at moments at which those are about to sleep.
 * SHOWS: INV-46, INV-58 */
START_TEST(task_49_no_thread_sleeps_on_its_work)
{
	pthread_t th = start_loops(4);
	struct task *t = with(task_new_anywhere(), note, NULL);
	unsigned int seed = 49;

	for (int i = 1; i <= 400; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		wait_for(&runs, i);
		for (unsigned int n = rand_r(&seed) % 20000; n; n--)
			__asm__ volatile("" ::: "memory");
		while (state_of(t) & (TASK_RUNNING | TASK_QUEUED))
			usleep(10);
	}
	task_kill(t);
	all_gone();
	stop_loops(th);
}
END_TEST

static atomic_int asleep;

static void *sleeps(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(size_t)arg), 0);
	atomic_fetch_add(&asleep, 1);
	while (!atomic_load(&release_it))
		keel_poll_once(30000);
	keel_thread_leave();
	return NULL;
}

/* Threads with numbers beyond 31 are woken as any other.
 * SHOWS: INV-47 */
START_TEST(task_50_more_than_32_threads)
{
	static const unsigned int ids[] = { 31, 32, 33, 63 };
	pthread_t th[4];
	struct task *t[4];

	start(64);
	for (int i = 0; i < 4; i++) {
		pthread_create(&th[i], NULL, sleeps, (void *)(size_t)ids[i]);
		t[i] = with(task_new_on(ids[i]), note, NULL);
	}
	wait_for(&asleep, 4);
	usleep(20000);
	for (int round = 1; round <= 10; round++) {
		for (int i = 0; i < 4; i++) {
			struct task *two = with(task_new(3UL << 62), note, NULL);
			int before = atomic_load(&runs);

			ck_assert_uint_eq(t[i]->thread_mask, 1UL << ids[i]);
			ck_assert_uint_eq(two->state, TASK_SHARED_WQ);
			task_wakeup(t[i], TASK_WOKEN_MSG);
			wait_for(&runs, before + 1);
			task_wakeup(two, TASK_WOKEN_MSG);
			wait_for(&runs, before + 2);
			task_kill(two);
		}
	}
	for (int i = 0; i < 4; i++)
		task_kill(t[i]);
	for (int i = 0; i < 10000 && total_allocated_tasks(); i++)
		usleep(1000);
	atomic_store(&release_it, 1);
	for (int i = 0; i < 4; i++) {
		wake_thread((int)ids[i]);
		pthread_join(th[i], NULL);
	}
	empty();
}
END_TEST

START_TEST(task_51_a_single_thread_runs_what_is_for_all)
{
	struct task *t;

	start(1);
	t = with(task_new_anywhere(), note, NULL);
	task_wakeup(t, TASK_WOKEN_MSG);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	elsewhere(wakes, t);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 2);
	task_schedule(t, date(2));
	for (int i = 0; i < 1000 && atomic_load(&runs) < 3; i++)
		keel_poll_once(5);
	ck_assert_int_eq(atomic_load(&runs), 3);
	task_destroy(t);
	empty();
}
END_TEST

/* -- flags and figures ------------------------------------------------------------- */

static struct task *knows_its_flags(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	ck_assert_uint_eq(state & ~(unsigned int)TASK_F_USR1,
	                  TASK_SHARED_WQ | TASK_QUEUED | TASK_WOKEN_MSG);
	ck_assert_uint_ne(state_of(t) & TASK_RUNNING, 0);
	atomic_fetch_add(&runs, 1);
	return t;
}

static void *wakes_on(void *t)
{
	while (atomic_load(&hammering))
		task_wakeup(t, TASK_WOKEN_MSG);
	return NULL;
}

/* No flag appears by itself, and none that stays is lost to a transition.
 * SHOWS: INV-49 */
START_TEST(task_52_flags_neither_appear_nor_vanish)
{
	pthread_t th = start_loops(2), waker;
	struct task *t = with(task_new_anywhere(), knows_its_flags, NULL);
	int wrong = 0;

	pthread_create(&waker, NULL, wakes_on, t);
	/* counted, not asserted: an assertion is a system call, and those cost valgrind a turn of all */
	for (int i = 0; i < 2000 || atomic_load(&runs) < 100; i++) {
		__atomic_fetch_or(&t->state, TASK_F_USR1, __ATOMIC_RELAXED);
		for (int k = 0; k < 50; k++)
			wrong += !(state_of(t) & TASK_F_USR1);
		__atomic_fetch_and(&t->state, ~(unsigned int)TASK_F_USR1, __ATOMIC_RELAXED);
		for (int k = 0; k < 50; k++)
			wrong += (state_of(t) & TASK_F_USR1) != 0;
	}
	ck_assert_int_eq(wrong, 0);
	atomic_store(&hammering, 0);
	pthread_join(waker, NULL);
	task_kill(t);
	all_gone();
	stop_loops(th);
}
END_TEST

/* Wakes itself, takes its time, and in the end, after the longest run, goes. */
static uint64_t woken_at;

static struct task *takes_time(struct task *t, void *ctx, unsigned int state)
{
	uint64_t begin = keel_now_ns();

	(void)ctx;
	(void)state;
	if (atomic_fetch_add(&runs, 1) == 4) {
		/* of four runs; it waited between them, not while they went on */
		ck_assert_uint_ge(t->cpu_time, 4 * 2000000);
		ck_assert_uint_le(t->lat_time + t->cpu_time, begin - woken_at);
		while (keel_now_ns() < begin + 10000000)
			;
		task_destroy(t);
		return NULL;
	}
	task_wakeup(t, TASK_WOKEN_OTHER);
	while (keel_now_ns() < begin + 2000000)
		;
	return t;
}

/* SHOWS: INV-50 */
START_TEST(task_53_profiling_of_what_wakes_itself_and_goes)
{
	char line[512], unit = 0;
	double total = 0;
	int calls = 0, p[2];
	FILE *dump;

	start_with(1, 0, 0, 1);
	woken_at = keel_now_ns();
	task_wakeup(with(task_new_here(), takes_time, NULL), TASK_WOKEN_OTHER);
	turns(10);
	ck_assert_int_eq(atomic_load(&runs), 5);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_gt(keel_dump_tasks(p[1]), 0);
	close(p[1]);
	dump = fdopen(p[0], "r");
	ck_assert_ptr_nonnull(dump);
	/* the only line that begins with two numbers is that of the handler */
	while (fgets(line, sizeof(line), dump) && sscanf(line, "%d %lf%c", &calls, &total, &unit) != 3)
		;
	fclose(dump);
	ck_assert_int_eq(calls, 5);
	/* milliseconds, or even seconds */
	ck_assert_msg(unit == ' ' || (unit == 'm' && total >= 4 * 2 + 10), "%.2f%c", total, unit);
	empty();
}
END_TEST

/* However it was woken, it has not waited for longer than the test runs. */
START_TEST(task_54_no_wait_of_centuries)
{
	uint64_t begin;
	struct task *t;

	start_with(1, 0, 0, 1);
	begin = keel_now_ns();
	t = with(task_new_anywhere(), note, NULL);
	for (int i = 1; i <= 40; i++) {
		switch (i % 4) {
		case 0:
			task_wakeup(t, TASK_WOKEN_MSG);
			break;
		case 1:
			task_instant_wakeup(t, TASK_WOKEN_MSG);
			break;
		case 2:
			elsewhere(wakes, t);
			break;
		default:
			task_schedule(t, date(1));
		}
		while (atomic_load(&runs) < i)
			keel_poll_once(2);
		ck_assert_uint_ge(t->call_date, begin);
		ck_assert_uint_le(t->call_date, keel_now_ns());
		ck_assert_uint_le(t->lat_time, keel_now_ns() - begin);
	}
	task_destroy(t);
	empty();
}
END_TEST

/* -- beginning and end -------------------------------------------------------------- */

START_TEST(task_55_destroying_nothing)
{
	task_destroy(NULL);
	tasklet_free(NULL);
	start(1);
	task_destroy(NULL);
	tasklet_free(NULL);
	empty();
}
END_TEST

static struct task *of_thread[2];

static int arms_timers(void)
{
	struct task *t = with(task_new_here(), note, NULL);

	task_schedule(t, date(1000000));
	of_thread[keel_tid()] = t;
	return 0;
}

/* Private timers of threads that have ended are freed by the one that cleans
 * up, whether it is registered or not.
 * SHOWS: INV-59 */
START_TEST(task_56_the_last_one_cleans_up_for_all)
{
	pthread_t th;

	prepare = arms_timers;
	th = start_loops(2);
	keel_stop();
	pthread_join(th, NULL);
	if (_i)
		ck_assert_int_eq(keel_thread_enter(0), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_ne(task_in_wq(of_thread[i]), 0);
		task_destroy(of_thread[i]);
	}
	if (_i)
		keel_thread_leave();
	keel_deinit();
	/* the end of the library frees what nobody turns for any more */
	start(1);
	empty();
}
END_TEST

/* Whatever an engine is asked for before the loops begin works. */
static int made_fd[2][2];

static void readable(int fd)
{
	char c;

	ck_assert_int_eq(read(fd, &c, 1), 1);
	atomic_fetch_add(&runs, 1);
	fd_delete(fd);
}

static int uses_everything(void)
{
	unsigned int me = keel_tid();
	int *p = made_fd[me];

	ck_assert_int_eq(pipe(p), 0);
	fd_insert(p[0], p, readable, 1UL << me);
	fd_want_recv(p[0]);
	ck_assert_int_eq(write(p[1], "x", 1), 1);
	task_wakeup(with(task_new_anywhere(), goes_when_told, NULL), TASK_WOKEN_MSG);
	return 0;
}

START_TEST(task_57_the_beginning_may_use_everything)
{
	pthread_t th;

	prepare = uses_everything;
	th = start_loops(2);
	wait_for(&runs, 2);
	all_gone();
	stop_loops(th);
	close(made_fd[0][1]);
	close(made_fd[1][1]);
}
END_TEST

static struct tasklet *followers[2];

static struct task *wakes_followers(struct task *t, void *ctx, unsigned int state)
{
	struct list *head = tasklet_wakeup_after(NULL, followers[0]);

	ck_assert_ptr_nonnull(head);
	ck_assert_ptr_ne(tasklet_wakeup_after(head, followers[1]), head);
	/* queued already */
	ck_assert_ptr_eq(tasklet_wakeup_after(head, followers[0]), head);
	return note_order(t, ctx, state);
}

START_TEST(task_60_wakeup_after_with_and_without_owner)
{
	struct tasklet *first, *last;

	start(1);
	first = tasklet_with(0, wakes_followers, "a");
	followers[0] = tasklet_with(-1, note_order, "b");
	followers[1] = tasklet_with(0, note_order, "c");
	last = tasklet_with(-1, note_order, "d");
	tasklet_wakeup(first);
	tasklet_wakeup(last);
	turns(1);
	ck_assert_str_eq(order, "abcd");
	tasklet_free(first);
	tasklet_free(last);
	tasklet_free(followers[0]);
	tasklet_free(followers[1]);
	empty();
}
END_TEST

/* A new task knows nothing of the one that had its memory.
 * SHOWS: INV-33, INV-53 */
START_TEST(task_61_recycled_memory_is_fresh)
{
	start_with(2, 0, 0, 1);
	for (int round = 0; round < 3; round++) {
		struct task *t[20];
		struct tasklet *tl[20];

		for (int i = 0; i < 20; i++) {
			t[i] = with(i & 1 ? task_new_here() : task_new_anywhere(), note, NULL);
			ck_assert_uint_eq(t[i]->state, i & 1 ? TASK_SLEEPING : TASK_SHARED_WQ);
			ck_assert_uint_eq(t[i]->calls, 0);
			ck_assert_int_eq(t[i]->expire, TICK_ETERNITY);
			ck_assert_int_eq(t[i]->nice, 0);
			ck_assert_uint_eq(t[i]->call_date, 0);
			ck_assert_uint_eq(t[i]->lat_time, 0);
			ck_assert_uint_eq(t[i]->cpu_time, 0);
			ck_assert_int_eq(task_in_rq(t[i]), 0);
			ck_assert_int_eq(task_in_wq(t[i]), 0);
			tl[i] = tasklet_with(-1, note, NULL);
			ck_assert_uint_eq(tl[i]->state, TASK_F_TASKLET);
			ck_assert_uint_eq(tl[i]->calls, 0);
			ck_assert_int_eq(tl[i]->tid, -1);
			t[i]->nice = (short)(i * 3);
			t[i]->state |= TASK_F_USR1 | TASK_HEAVY;
			task_schedule(t[i], date(100000));
			task_wakeup(t[i], TASK_WOKEN_RES);
			tl[i]->state |= TASK_SELF_WAKING;
			tasklet_set_tid(tl[i], 0);
			tasklet_wakeup(tl[i]);
		}
		atomic_store(&runs, 0);
		turns(1);
		ck_assert_int_eq(atomic_load(&runs), 40);
		for (int i = 0; i < 20; i++) {
			task_schedule(t[i], date(100000));
			task_destroy(t[i]);
			tasklet_free(tl[i]);
		}
	}
	empty();
}
END_TEST

/* Destroyed while queued, when nobody turns any more: freed by the end, which
 * is seen by the pools' count in the next life.
 * SHOWS: INV-59 */
START_TEST(task_62_queues_are_drained_at_the_end)
{
	struct task *t[4];

	start(2);
	for (int i = 0; i < 4; i++) {
		t[i] = with(i & 1 ? task_new_anywhere() : task_new_on((unsigned int)i / 2), note, NULL);
		task_wakeup(t[i], TASK_WOKEN_MSG);
	}
	tasklet_kill(tasklet_with(1, note, NULL));
	keel_thread_leave();
	for (int i = 0; i < 4; i++)
		task_destroy(t[i]);
	ck_assert_int_eq(total_allocated_tasks(), 5);
	keel_deinit();
	ck_assert_int_eq(atomic_load(&runs), 0);
	start(1);
	empty();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("task museum");
	TCase *one = tcase_create("one thread");
	TCase *many = tcase_create("many threads");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(many, 60);
	tcase_add_loop_exit_test(one, task_1_a_foreign_private_timer_is_refused, AS_EXPECTED, 0, 3);
	tcase_add_test(one, task_17_the_next_date_is_a_date);
	tcase_add_test(one, task_20_38_queued_means_that_it_will_run);
	tcase_add_test(one, task_22_a_handler_destroys_what_is_about_to_run);
	tcase_add_test(one, task_23_woken_from_elsewhere_and_unlinked_by_its_owner);
	tcase_add_test(one, task_26_a_nicer_task_is_not_passed_over);
	tcase_add_test(one, task_27_nice_counts_for_the_first_one_too);
	tcase_add_loop_test(one, task_28_few_niced_tasks_run_at_once, 0, 4);
	tcase_add_test(one, task_30_endless_local_work_and_a_foreign_task);
	tcase_add_test(one, task_31_tasklets_do_not_use_up_the_tasks_share);
	tcase_add_test(one, task_32_a_chain_of_tasklets_stays_in_its_class);
	tcase_add_loop_test(one, task_33_a_heavy_backlog_is_worked_off, 0, 2);
	tcase_add_test(one, task_34_work_that_is_left_is_counted);
	tcase_add_loop_test(one, task_35_a_small_budget_is_kept, 1, 4);
	tcase_add_test(one, task_36_more_tasks_than_budget);
	tcase_add_test(one, task_39_killed_items_leave_the_counts);
	tcase_add_test(one, task_40_niced_tasks_leave_no_trace);
	tcase_add_test(one, task_41_killed_before_it_ever_ran);
	tcase_add_test(one, task_42_a_killed_tasklet_dies_on_its_own_thread);
	tcase_add_test(one, task_46_cancelled_and_freed_behind_remote_wakeups);
	tcase_add_test(one, task_47_cancelling_twice_is_once);
	tcase_add_test(one, task_51_a_single_thread_runs_what_is_for_all);
	tcase_add_test(one, task_53_profiling_of_what_wakes_itself_and_goes);
	tcase_add_test(one, task_54_no_wait_of_centuries);
	tcase_add_test(one, task_55_destroying_nothing);
	tcase_add_test(one, task_60_wakeup_after_with_and_without_owner);
	tcase_add_test(one, task_61_recycled_memory_is_fresh);
	tcase_add_test(one, task_62_queues_are_drained_at_the_end);
	tcase_add_test(many, task_2_3_25_unbound_tasks_of_a_millisecond);
	tcase_add_test(many, task_4_6_a_date_given_during_the_run_counts_after_it);
	tcase_add_test(many, task_5_nobody_waits_for_a_handler);
	tcase_add_test(many, task_7_woken_and_freed_while_its_timer_expires);
	tcase_add_test(many, task_29_none_of_a_few_is_left_over);
	tcase_add_test(many, task_37_two_producers_and_an_idle_thread);
	tcase_add_test(many, task_44_45_owner_and_others_wake_a_tasklet_that_runs);
	tcase_add_test(many, task_48_sleepers_are_really_woken);
	tcase_add_test(many, task_49_no_thread_sleeps_on_its_work);
	tcase_add_test(many, task_50_more_than_32_threads);
	tcase_add_test(many, task_52_flags_neither_appear_nor_vanish);
	tcase_add_loop_test(many, task_56_the_last_one_cleans_up_for_all, 0, 2);
	tcase_add_test(many, task_57_the_beginning_may_use_everything);
	suite_add_tcase(s, one);
	suite_add_tcase(s, many);
	return run_suite(s);
}
