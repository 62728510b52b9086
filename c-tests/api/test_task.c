/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/task.h: wake-ups, timers, run queue, classes, killing. */

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "loops.h"
#include "suite.h"

static void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 1024;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static int date(int ms)
{
	return tick_add((int)keel_now_ms(), MS_TO_TICKS(ms));
}

/* Runs the loop until <*flag> reaches <value>, or for 10 s. */
static void until(const atomic_int *flag, int value)
{
	uint64_t limit = keel_now_ns() + 10000000000u;

	while (atomic_load(flag) < value && keel_now_ns() < limit)
		keel_poll_once(5);
	ck_assert_int_ge(atomic_load(flag), value);
}

static void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

/* What most tasks here do: count, keep the reasons, expect no more. */
static atomic_int runs;
static atomic_uint reasons;

static struct task *note(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	atomic_store(&reasons, state);
	t->expire = TICK_ETERNITY;
	atomic_fetch_add(&runs, 1);
	return t;
}

static struct task *task_with(struct task *t,
                              struct task *(*process)(struct task *, void *, unsigned int))
{
	ck_assert_ptr_nonnull(t);
	t->process = process;
	return t;
}

START_TEST(a_new_task_is_asleep)
{
	struct task *t;

	start(2);
	t = task_new_here();
	ck_assert_uint_eq(t->state, TASK_SLEEPING);
	ck_assert_int_eq(t->expire, TICK_ETERNITY);
	ck_assert_int_eq(t->nice, 0);
	ck_assert_uint_eq(t->thread_mask, 1);
	ck_assert_uint_eq(t->calls, 0);
	ck_assert_int_eq(task_in_rq(t), 0);
	ck_assert_int_eq(task_in_wq(t), 0);
	ck_assert_int_eq(total_allocated_tasks(), 1);
	task_destroy(t);
	t = task_new_anywhere();
	ck_assert_uint_eq(t->state, TASK_SHARED_WQ);
	ck_assert_uint_eq(t->thread_mask, 3);
	task_destroy(t);
	t = task_new_on(1);
	ck_assert_uint_eq(t->state, TASK_SLEEPING);
	ck_assert_int_eq(total_allocated_tasks(), 1);
	/* another thread's private task: freed there, or by the end */
	task_destroy(t);
	task_destroy(NULL);
	tasklet_free(NULL);
	keel_thread_leave();
	ck_assert_int_eq(keel_thread_enter(1), 0);
	turns(1);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	keel_deinit();
}
END_TEST

static void *new_here(void *arg)
{
	(void)arg;
	ck_assert_ptr_null(task_new_here());
	ck_assert_int_eq(errno, EPERM);
	return NULL;
}

START_TEST(task_new_here_wants_a_registered_thread)
{
	pthread_t th;

	start(1);
	pthread_create(&th, NULL, new_here, NULL);
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-32 */
START_TEST(wakeups_add_up_to_one_run)
{
	struct task *t;

	start(1);
	t = task_with(task_new_here(), note);
	task_wakeup(t, TASK_WOKEN_IO);
	ck_assert_int_ne(task_in_rq(t), 0);
	ck_assert_int_ne(thread_has_tasks(), 0);
	ck_assert_int_eq(total_run_queues(), 1);
	task_wakeup(t, TASK_WOKEN_MSG);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_uint_eq(atomic_load(&reasons) & TASK_WOKEN_ANY, TASK_WOKEN_IO | TASK_WOKEN_MSG);
	ck_assert_uint_eq(t->calls, 1);
	ck_assert_uint_eq(t->state, TASK_SLEEPING);
	ck_assert_int_eq(total_run_queues(), 0);
	ck_assert_int_eq(thread_has_tasks(), 0);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(unlinking_from_the_run_queue_cancels)
{
	struct task *t;

	start(1);
	t = task_with(task_new_here(), note);
	t->nice = 5;
	task_wakeup(t, TASK_WOKEN_IO);
	ck_assert_ptr_eq(task_unlink_rq(t), t);
	ck_assert_int_eq(task_in_rq(t), 0);
	task_unlink_rq(t);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 0);
	task_wakeup(t, TASK_WOKEN_IO);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_int_eq(total_run_queues(), 0);
	task_destroy(t);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-56 */
START_TEST(a_timer_is_never_early)
{
	struct task *t;
	uint64_t begin;
	int when;

	start(1);
	t = task_with(task_new_here(), note);
	keel_update_clock();
	begin = keel_now_ns();
	when = date(30);
	task_schedule(t, when);
	ck_assert_int_eq(t->expire, when);
	ck_assert_int_ne(task_in_wq(t), 0);
	ck_assert_int_eq(next_timer_expiry(), when);
	until(&runs, 1);
	ck_assert_uint_ge(keel_now_ns() - begin, 29000000);
	ck_assert_uint_eq(atomic_load(&reasons) & TASK_WOKEN_ANY, TASK_WOKEN_TIMER);
	ck_assert_int_eq(task_in_wq(t), 0);
	ck_assert_int_eq(next_timer_expiry(), TICK_ETERNITY);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(scheduling_only_brings_forward)
{
	struct task *t;
	int soon;

	start(1);
	t = task_with(task_new_here(), note);
	task_schedule(t, date(10000));
	soon = date(20);
	task_schedule(t, soon);
	ck_assert_int_eq(t->expire, soon);
	task_schedule(t, date(5000));
	ck_assert_int_eq(t->expire, soon);
	until(&runs, 1);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(postponing_needs_no_call)
{
	struct task *t;
	int later;

	start(1);
	t = task_with(task_new_here(), note);
	task_schedule(t, date(10));
	later = date(80);
	t->expire = later;
	while (tick_is_lt((int)keel_now_ms(), tick_add(later, -20))) {
		keel_poll_once(10);
		ck_assert_int_eq(atomic_load(&runs), 0);
	}
	until(&runs, 1);
	/* TASK-14: dates switched off while queued, then scanned */
	task_schedule(t, date(10));
	t->expire = TICK_ETERNITY;
	for (int i = 0; i < 10; i++)
		keel_poll_once(3);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_int_eq(task_in_wq(t), 0);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(unlinking_from_the_wait_queue_cancels)
{
	struct task *t, *s;

	start(2);
	t = task_with(task_new_here(), note);
	s = task_with(task_new_anywhere(), note);
	task_schedule(t, date(5));
	task_schedule(s, date(5));
	ck_assert_int_ne(task_in_wq(s), 0);
	ck_assert_ptr_eq(task_unlink_wq(t), t);
	ck_assert_ptr_eq(task_unlink_wq(s), s);
	task_unlink_wq(s);
	for (int i = 0; i < 8; i++)
		keel_poll_once(2);
	ck_assert_int_eq(atomic_load(&runs), 0);
	task_destroy(t);
	task_destroy(s);
	keel_deinit();
}
END_TEST

/* Random dates, re-armed by the handler; nobody is early, all come. */
struct timed {
	struct task *t;
	int due;
	int left;
};

static atomic_int finished;

static struct task *timed_run(struct task *t, void *ctx, unsigned int state)
{
	struct timed *timed = ctx;

	ck_assert_uint_ne(state & TASK_WOKEN_TIMER, 0);
	ck_assert_int_ne(tick_is_expired(timed->due, (int)keel_now_ms()), 0);
	if (--timed->left == 0) {
		atomic_fetch_add(&finished, 1);
		task_destroy(t);
		return NULL;
	}
	timed->due = t->expire = date(1 + rand() % 40);
	return t;
}

/* SHOWS: INV-38 */
START_TEST(many_timers_all_come)
{
	static struct timed all[2000];

	start(2);
	for (int i = 0; i < 2000; i++) {
		all[i].t = task_with(i & 1 ? task_new_here() : task_new_anywhere(), timed_run);
		all[i].t->context = &all[i];
		all[i].left = 5;
		all[i].due = date(1 + rand() % 40);
		task_schedule(all[i].t, all[i].due);
	}
	until(&finished, 2000);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	keel_deinit();
}
END_TEST

/* TASK-15, INV-55: ticks wrap five seconds after keel_init(). Timers on both
 * sides of that moment, armed before it, come neither early nor late. */
static int latest;

static struct task *across(struct task *t, void *ctx, unsigned int state)
{
	int late;

	(void)state;
	keel_update_clock();
	late = (int)(keel_now_ms() - (unsigned int)(long)ctx);
	ck_assert_int_ge(late, 0);
	if (late > latest)
		latest = late;
	atomic_fetch_add(&finished, 1);
	t->expire = TICK_ETERNITY;
	return t;
}

/* SHOWS: INV-55 */
START_TEST(task_15_timers_cross_the_wrap)
{
	enum { TIMERS = 400 };
	static struct task *all[TIMERS];
	unsigned int begin;

	start(2);
	begin = keel_now_ms();
	for (int i = 0; i < TIMERS; i++) {
		int when = date(4000 + i * 5);

		all[i] = task_with(i & 1 ? task_new_here() : task_new_anywhere(), across);
		all[i]->context = (void *)(long)when;
		task_schedule(all[i], when);
	}
	for (int i = 0; i < 100000 && atomic_load(&finished) < TIMERS; i++)
		keel_poll_once(100);
	ck_assert_int_eq(atomic_load(&finished), TIMERS);
	ck_assert_msg(keel_now_ms() < begin, "the ticks have not wrapped");
	/* no test asserts a time, but a timer lost in the wrap comes days late */
	ck_assert_int_lt(latest, 5000);
	for (int i = 0; i < TIMERS; i++)
		task_destroy(all[i]);
	keel_deinit();
}
END_TEST

/* TASK-35, TASK-36: the smallest budget still runs everything.
 * SHOWS: INV-42, TASK-35, TASK-36 */
START_TEST(a_depth_of_one_runs_everything)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct task *t[20];

	cfg.nbthread = 1;
	cfg.maxsock = 256;
	cfg.runqueue_depth = 1;
	cfg.low_latency = 1;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	for (int i = 0; i < 20; i++) {
		t[i] = task_with(task_new_here(), note);
		t[i]->nice = (short)(i % 5 - 2);
		task_schedule(t[i], date(1 + i % 3));
	}
	until(&runs, 20);
	for (int i = 0; i < 20; i++)
		task_destroy(t[i]);
	keel_deinit();
}
END_TEST

/* -- priorities ---------------------------------------------------------- */

static int order[64], ordered;

static struct task *note_order(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	order[ordered++] = (int)(long)ctx;
	return t;
}

/* SHOWS: INV-51 */
START_TEST(nice_decides_the_order)
{
	static const short nice[] = { 1024, 0, 5, -1024, -5, 0, 1, -1 };
	static const int expected[] = { -1024, -5, -1, 0, 0, 1, 5, 1024 };
	struct task *t[8];

	start(1);
	for (int i = 0; i < 8; i++) {
		t[i] = task_with(task_new_here(), note_order);
		t[i]->nice = nice[i];
		t[i]->context = (void *)(long)nice[i];
		task_wakeup(t[i], TASK_WOKEN_OTHER);
	}
	turns(2);
	ck_assert_int_eq(ordered, 8);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(order[i], expected[i]);
	for (int i = 0; i < 8; i++)
		task_destroy(t[i]);
	keel_deinit();
}
END_TEST

static struct task *endless(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	task_wakeup(t, TASK_WOKEN_OTHER);
	return t;
}

/* TASK-26, TASK-28, TASK-30: niced and foreign work among endless work.
 * SHOWS: INV-43, INV-51, TASK-26, TASK-28, TASK-30 */
START_TEST(endless_tasks_starve_nobody)
{
	struct task *busy[8], *t;

	start(1);
	for (int i = 0; i < 8; i++) {
		busy[i] = task_with(task_new_here(), endless);
		busy[i]->nice = i & 1 ? -512 : 0;
		task_wakeup(busy[i], TASK_WOKEN_OTHER);
	}
	turns(5);
	t = task_with(task_new_here(), note);
	t->nice = -1024;
	task_wakeup(t, TASK_WOKEN_OTHER);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	t->nice = 1024;
	task_wakeup(t, TASK_WOKEN_OTHER);
	for (int i = 0; i < 20000 && atomic_load(&runs) < 2; i++)
		keel_poll_once(0);
	ck_assert_int_eq(atomic_load(&runs), 2);
	task_destroy(t);
	for (int i = 0; i < 8; i++)
		task_destroy(busy[i]);
	turns(2);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(total_run_queues(), 0);
	keel_deinit();
}
END_TEST

/* -- tasklets ------------------------------------------------------------ */

static struct task *tasklet_note(struct task *t, void *ctx, unsigned int state)
{
	ck_assert_uint_ne(state & TASK_F_TASKLET, 0);
	order[ordered++ & 63] = (int)(long)ctx;
	atomic_fetch_add(&runs, 1);
	return t;
}

static struct tasklet *tasklet_with(long id,
                                    struct task *(*process)(struct task *, void *, unsigned int))
{
	struct tasklet *tl = tasklet_new();

	ck_assert_ptr_nonnull(tl);
	ck_assert_int_eq(tl->tid, -1);
	tl->process = process;
	tl->context = (void *)id;
	return tl;
}

/* The second time with a thread of their own. */
START_TEST(tasklets_run_in_order_and_once)
{
	struct tasklet *a, *b;

	start(1);
	a = tasklet_with(1, tasklet_note);
	b = tasklet_with(2, tasklet_note);
	if (_i) {
		tasklet_set_tid(a, 0);
		tasklet_set_tid(b, 0);
	}
	tasklet_wakeup(b);
	tasklet_wakeup(a);
	tasklet_wakeup(b);
	turns(1);
	ck_assert_int_eq(ordered, 2);
	ck_assert_int_eq(order[0], 2);
	ck_assert_int_eq(order[1], 1);
	/* a cancelled one does not run; TASK-47: cancelling twice is harmless */
	tasklet_wakeup(a);
	tasklet_remove_from_tasklet_list(a);
	tasklet_remove_from_tasklet_list(a);
	ck_assert_int_eq(total_run_queues(), 0);
	turns(1);
	ck_assert_int_eq(ordered, 2);
	tasklet_wakeup_on(a, 0);
	tasklet_wakeup_on(b, -1);
	turns(1);
	ck_assert_int_eq(ordered, 4);
	/* freed while queued */
	tasklet_wakeup(a);
	tasklet_free(a);
	tasklet_free(b);
	turns(1);
	ck_assert_int_eq(ordered, 4);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(total_run_queues(), 0);
	keel_deinit();
}
END_TEST

static void *wakes_it(void *tl)
{
	tasklet_wakeup(tl);
	tasklet_wakeup_on(tl, 0);
	return NULL;
}

static void *kills_it(void *tl)
{
	tasklet_kill(tl);
	return NULL;
}

static void *frees_it(void *tl)
{
	tasklet_free(tl);
	return NULL;
}

static void elsewhere(void *(*f)(void *), void *arg)
{
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, f, arg), 0);
	pthread_join(th, NULL);
}

/* Woken here, elsewhere, and both, in either order, it runs once; cancelled,
 * killed or freed from elsewhere, queued or not, it does not. */
START_TEST(an_owned_tasklet_has_mail)
{
	struct tasklet *tl = NULL;

	start(2);
	for (int i = 0; i < 4 * 4; i++) {
		int here = i & 1, there = i & 2;

		if (!tl) {
			tl = tasklet_with(1, tasklet_note);
			tasklet_set_tid(tl, 0);
		}
		ordered = 0;
		if (here)
			tasklet_wakeup(tl);
		if (there)
			elsewhere(wakes_it, tl);
		if (here)
			tasklet_wakeup(tl);
		switch (i / 4) {
		case 0:
			turns(1);
			ck_assert_int_eq(ordered, here || there);
			continue;
		case 1:
			tasklet_remove_from_tasklet_list(tl);
			ck_assert_int_eq(total_run_queues(), 0);
			turns(1);
			ck_assert_int_eq(ordered, 0);
			continue;
		case 2: elsewhere(kills_it, tl); break;
		default: elsewhere(frees_it, tl);
		}
		turns(2);
		tl = NULL;
		ck_assert_int_eq(ordered, 0);
		ck_assert_int_eq(total_allocated_tasks(), 0);
		ck_assert_int_eq(total_run_queues(), 0);
	}
	keel_deinit();
}
END_TEST

/* Objects of the same size in pools of other users' are no tasks. */
START_TEST(tasks_alone_are_counted)
{
	struct pool_head *pool[2];
	void *object[2];

	start(1);
	pool[0] = create_pool("like tasks", sizeof(struct task), MEM_F_SHARED);
	pool[1] = create_pool("like tasklets", sizeof(struct tasklet), MEM_F_SHARED);
	for (int i = 0; i < 2; i++) {
		object[i] = pool_alloc(pool[i]);
		ck_assert_ptr_nonnull(object[i]);
	}
	ck_assert_int_eq(total_allocated_tasks(), 0);
	for (int i = 0; i < 2; i++)
		pool_free(pool[i], object[i]);
	keel_deinit();
}
END_TEST

/* A master process: what waits goes, whoever's it is, and the rest goes on. */
START_TEST(a_master_cleans_up)
{
	struct tasklet *woken[2];
	struct task *idle, *t;
	struct stktable *table;

	start(3);
	table = keel_stktable_new("kept", "type ip size 10 expire 10s", NULL);
	ck_assert_ptr_nonnull(table);
	task_schedule(table->exp_task, date(20000));
	idle = task_with(task_new_here(), note);
	for (unsigned int thr = 0; thr < 3; thr++) {
		task_wakeup(task_with(task_new_on(thr), note), TASK_WOKEN_MSG);
		task_instant_wakeup(task_with(task_new_on(thr), note), TASK_WOKEN_MSG);
		task_kill(task_with(task_new_on(thr), note));
		t = task_with(task_new_on(thr), note);
		t->nice = -100;
		task_wakeup(t, TASK_WOKEN_MSG);
		/* armed as well as woken; and armed alone */
		t = task_with(task_new(7), note);
		task_schedule(t, date(5));
		task_wakeup(t, TASK_WOKEN_MSG);
		task_schedule(task_with(task_new(7), note), date(5 + (int)thr));
	}
	task_schedule(task_with(task_new_here(), note), date(5));
	woken[0] = tasklet_with(1, tasklet_note);
	woken[1] = tasklet_with(2, tasklet_note);
	tasklet_set_tid(woken[1], 0);
	tasklet_wakeup(woken[0]);
	tasklet_wakeup(woken[1]);
	mworker_cleantasks();
	/* the idle one, the table's, and the tasklets */
	ck_assert_int_eq(total_allocated_tasks(), 4);
	ck_assert_int_eq(total_run_queues(), 2);
	ck_assert_int_ne(task_in_wq(table->exp_task), 0);
	usleep(20000);
	turns(3);
	ck_assert_int_eq(atomic_load(&runs), 2);
	task_wakeup(idle, TASK_WOKEN_MSG);
	t = task_with(task_new_here(), note);
	task_schedule(t, date(2));
	until(&runs, 4);
	mworker_cleantasks();
	ck_assert_int_eq(total_allocated_tasks(), 5);
	tasklet_free(woken[0]);
	tasklet_free(woken[1]);
	task_destroy(idle);
	task_destroy(t);
	ck_assert_int_eq(total_allocated_tasks(), 1);
	keel_stktable_free(table);
	keel_deinit();
}
END_TEST

START_TEST(cleaning_up_beside_others_is_a_panic)
{
	start_loops(2);
	mworker_cleantasks();
}
END_TEST

START_TEST(waking_an_owned_tasklet_on_another_thread_is_a_panic)
{
	struct tasklet *tl;

	start(2);
	tl = tasklet_with(1, tasklet_note);
	tasklet_set_tid(tl, 1);
	if (_i)
		tasklet_wakeup_on(tl, 0);
	else
		tasklet_wakeup_after(NULL, tl);
}
END_TEST

START_TEST(an_embedded_tasklet_works)
{
	struct { char pad[3]; struct tasklet tl; } box;

	start(1);
	memset(&box, 0xa5, sizeof(box));
	tasklet_init(&box.tl);
	box.tl.process = tasklet_note;
	box.tl.context = (void *)7L;
	tasklet_wakeup(&box.tl);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	keel_deinit();
}
END_TEST

static struct tasklet *chain[3];

static struct task *chained(struct task *t, void *ctx, unsigned int state)
{
	struct list *head = NULL;

	(void)ctx;
	(void)state;
	for (int i = 0; i < 3; i++)
		head = tasklet_wakeup_after(head, chain[i]);
	order[ordered++] = 0;
	return t;
}

START_TEST(wakeup_after_keeps_its_place)
{
	struct tasklet *first, *last;

	start(1);
	for (long i = 0; i < 3; i++)
		chain[i] = tasklet_with(10 + i, tasklet_note);
	first = tasklet_with(0, chained);
	last = tasklet_with(99, tasklet_note);
	tasklet_wakeup(first);
	tasklet_wakeup(last);
	turns(1);
	ck_assert_int_eq(ordered, 5);
	ck_assert_int_eq(order[1], 10);
	ck_assert_int_eq(order[2], 11);
	ck_assert_int_eq(order[3], 12);
	ck_assert_int_eq(order[4], 99);
	for (int i = 0; i < 3; i++)
		tasklet_free(chain[i]);
	tasklet_free(first);
	tasklet_free(last);
	keel_deinit();
}
END_TEST

static struct task *wakes_itself(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&finished, 1);
	tasklet_wakeup((struct tasklet *)t);
	return t;
}

static struct task *frees_itself(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	tasklet_free((struct tasklet *)t);
	return NULL;
}

START_TEST(self_waking_tasklets_do_not_starve_tasks)
{
	struct tasklet *self[50];
	struct task *t;

	start(1);
	for (int i = 0; i < 50; i++) {
		self[i] = tasklet_with(i, wakes_itself);
		tasklet_wakeup(self[i]);
	}
	turns(3);
	ck_assert_uint_ne(self[0]->state & TASK_SELF_WAKING, 0);
	t = task_with(task_new_here(), note);
	task_wakeup(t, TASK_WOKEN_OTHER);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	task_destroy(t);
	for (int i = 0; i < 50; i++)
		tasklet_free(self[i]);
	self[0] = tasklet_with(0, frees_itself);
	tasklet_wakeup(self[0]);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 2);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	keel_deinit();
}
END_TEST

/* TASK-33: a backlog of heavy work is worked off, not one a turn.
 * SHOWS: INV-45, TASK-33 */
START_TEST(heavy_backlog_shrinks)
{
	struct tasklet *heavy[4000];
	int turn;

	start(1);
	for (int i = 0; i < 4000; i++) {
		heavy[i] = tasklet_with(0, tasklet_note);
		heavy[i]->state |= TASK_HEAVY;
		tasklet_wakeup(heavy[i]);
	}
	keel_poll_once(0);
	ck_assert_int_ge(atomic_load(&runs), 2);
	for (turn = 0; turn < 3000 && atomic_load(&runs) < 4000; turn++)
		keel_poll_once(0);
	ck_assert_int_eq(atomic_load(&runs), 4000);
	for (int i = 0; i < 4000; i++)
		tasklet_free(heavy[i]);
	keel_deinit();
}
END_TEST

/* -- the end ------------------------------------------------------------- */

static struct task *destroys_itself(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	task_destroy(t);
	return NULL;
}

static struct task *victim;

static struct task *destroys_other(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	task_destroy(victim);
	return t;
}

/* SHOWS: INV-34 */
START_TEST(destroy_in_every_state)
{
	struct task *t, *killer;

	start(2);
	/* in its own handler, queued again by itself before */
	t = task_with(task_new_here(), destroys_itself);
	task_schedule(t, date(1000));
	task_wakeup(t, TASK_WOKEN_OTHER);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	/* idle with a timer; shared with a timer */
	t = task_with(task_new_here(), note);
	task_schedule(t, date(1000));
	task_destroy(t);
	t = task_with(task_new_anywhere(), note);
	task_schedule(t, date(1000));
	task_destroy(t);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	/* queued: freed unrun */
	t = task_with(task_new_here(), note);
	task_wakeup(t, TASK_WOKEN_OTHER);
	task_destroy(t);
	turns(1);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	/* TASK-22: by another handler, already in the list of the same turn */
	killer = task_with(task_new_here(), destroys_other);
	victim = task_with(task_new_here(), note);
	task_wakeup(killer, TASK_WOKEN_OTHER);
	task_wakeup(victim, TASK_WOKEN_OTHER);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 1);
	task_destroy(killer);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	/* TASK-41: killed before it ever ran; killed while it runs */
	t = task_with(task_new_here(), note);
	task_schedule(t, date(1000));
	task_kill(t);
	turns(1);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(next_timer_expiry(), TICK_ETERNITY);
	ck_assert_int_eq(total_run_queues(), 0);
	/* TASK-62: queued while the end comes: deinit frees it */
	t = task_with(task_new_here(), note);
	task_wakeup(t, TASK_WOKEN_OTHER);
	task_kill(t);
	keel_deinit();
}
END_TEST

static struct task *kills_itself(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	t->expire = date(10);
	task_kill(t);
	return t;
}

/* SHOWS: INV-48 */
START_TEST(a_task_killed_in_its_run_is_freed_after_it)
{
	start(1);
	task_wakeup(task_with(task_new_here(), kills_itself), TASK_WOKEN_OTHER);
	turns(2);
	ck_assert_int_eq(atomic_load(&runs), 1);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	keel_deinit();
}
END_TEST

/* -- several threads ----------------------------------------------------- */

static struct task *ticks_forever(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	t->expire = date(10);
	return t;
}

/* TASK-48: a sleeping thread is really woken, long before its poll timeout.
 * SHOWS: INV-46, TASK-48 */
START_TEST(remote_wakeups_reach_sleepers)
{
	pthread_t th = start_loops(3);
	struct task *t = task_with(task_new_on(2), note);
	struct tasklet *tl = tasklet_with(0, tasklet_note);

	tasklet_set_tid(tl, 1);
	for (int i = 0; i < 200; i++) {
		int before = atomic_load(&runs);

		usleep(500);
		task_wakeup(t, TASK_WOKEN_MSG);
		wait_for(&runs, before + 1);
		tasklet_wakeup(tl);
		wait_for(&runs, before + 2);
	}
	task_kill(t);
	tasklet_kill(tl);
	all_gone();
	stop_loops(th);
}
END_TEST

/* A shared timer that an unregistered thread brings forward, again and again. */
START_TEST(foreign_schedule_wakes_in_time)
{
	pthread_t th = start_loops(2);
	struct task *t = task_with(task_new_anywhere(), note);

	for (int i = 1; i <= 50; i++) {
		task_schedule(t, date(30000));
		task_schedule(t, date(2));
		wait_for(&runs, i);
		/* the handler may not have returned yet */
		while (__atomic_load_n(&t->state, __ATOMIC_ACQUIRE) & (TASK_RUNNING | TASK_QUEUED))
			usleep(10);
	}
	task_destroy(t);
	stop_loops(th);
}
END_TEST

/* TASK-18: no wake-up is lost, however it falls. Each wake-up carries a
 * number that a later run must have seen. */
static atomic_int wanted, got;

static struct task *sees(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_store(&got, atomic_load(&wanted));
	return t;
}

/* SHOWS: INV-31 */
START_TEST(task_18_no_wakeup_is_lost)
{
	pthread_t th = start_loops(4);
	struct task *t = task_with(task_new_anywhere(), sees);

	for (int i = 1; i <= 20000; i++) {
		atomic_store(&wanted, i);
		task_wakeup(t, TASK_WOKEN_MSG);
		if (i % 64 == 0)
			wait_for(&got, i);
	}
	wait_for(&got, 20000);
	task_kill(t);
	stop_loops(th);
}
END_TEST

/* TASK-43, INV-30: one instance at a time, whoever wakes. */
static atomic_int inside[2], overlaps;

static struct task *alone(struct task *t, void *ctx, unsigned int state)
{
	atomic_int *within = ctx;

	(void)state;
	if (atomic_fetch_add(within, 1))
		atomic_fetch_add(&overlaps, 1);
	for (int i = 0; i < 200; i++)
		__asm__ volatile("" ::: "memory");
	atomic_fetch_sub(within, 1);
	atomic_fetch_add(&runs, 1);
	return t;
}

/* SHOWS: INV-30 */
START_TEST(task_43_one_instance_at_a_time)
{
	pthread_t th = start_loops(4);
	struct task *t = task_with(task_new_anywhere(), alone);
	struct tasklet *tl = tasklet_with(0, alone);

	t->context = &inside[0];
	tl->context = &inside[1];
	for (int i = 0; i < 20000; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		tasklet_wakeup_on(tl, i & 3);
	}
	usleep(100000);
	ck_assert_int_eq(atomic_load(&overlaps), 0);
	ck_assert_int_gt(atomic_load(&runs), 0);
	task_kill(t);
	tasklet_set_tid(tl, 0);
	tasklet_kill(tl);
	all_gone();
	stop_loops(th);
}
END_TEST

/* TASK-1, the seed: foreign threads reschedule tasks that run soon. */
static struct task *crowd[200];
static atomic_int hammering = 1;

static struct task *crowd_run(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	/* TASK-2, TASK-4: the handler switches its date off while others set it */
	t->expire = t->calls % 3 ? date(1 + (int)(t->calls % 7)) : TICK_ETERNITY;
	return t;
}

static void *hammer(void *arg)
{
	unsigned int seed = (unsigned int)(size_t)arg;

	while (atomic_load(&hammering)) {
		struct task *t = crowd[rand_r(&seed) % 200];

		task_schedule(t, date(1 + (int)(rand_r(&seed) % 10)));
		if (rand_r(&seed) % 8 == 0)
			task_wakeup(t, TASK_WOKEN_MSG);
	}
	return NULL;
}

/* SHOWS: INV-36 */
START_TEST(task_1_foreign_threads_move_shared_timers)
{
	pthread_t th = start_loops(4), h[3];
	struct task *last;
	int before;

	for (int i = 0; i < 200; i++) {
		crowd[i] = task_with(i & 1 ? task_new_anywhere() : task_new_on(i % 4), crowd_run);
		crowd[i]->state |= TASK_SHARED_WQ;
	}
	for (size_t i = 0; i < 3; i++)
		pthread_create(&h[i], NULL, hammer, (void *)i);
	sleep(1);
	atomic_store(&hammering, 0);
	for (int i = 0; i < 3; i++)
		pthread_join(h[i], NULL);
	/* nobody is stuck: each still answers to a date */
	before = atomic_load(&runs);
	usleep(20000);
	for (int i = 0; i < 200; i++) {
		unsigned int calls = __atomic_load_n(&crowd[i]->calls, __ATOMIC_RELAXED);
		int tries = 0;

		task_schedule(crowd[i], date(1));
		while (__atomic_load_n(&crowd[i]->calls, __ATOMIC_RELAXED) == calls && tries++ < 5000)
			usleep(1000);
		ck_assert_uint_ne(__atomic_load_n(&crowd[i]->calls, __ATOMIC_RELAXED), calls);
	}
	ck_assert_int_gt(before, 0);
	for (int i = 0; i < 200; i++)
		task_kill(crowd[i]);
	all_gone();
	last = task_with(task_new_anywhere(), ticks_forever);
	task_destroy(last);
	stop_loops(th);
}
END_TEST

/* TASK-9, TASK-21: kills, destroys, schedules and wake-ups at random. */
static void *churn(void *arg)
{
	unsigned int seed = (unsigned int)(size_t)arg;

	for (int i = 0; i < 20000; i++) {
		struct task *t = task_with(rand_r(&seed) & 1 ? task_new_anywhere()
		                                            : task_new_on(rand_r(&seed) % 4), note);

		__atomic_fetch_or(&t->state, TASK_SHARED_WQ, __ATOMIC_RELAXED);
		if (rand_r(&seed) & 1)
			task_schedule(t, date(1 + (int)(rand_r(&seed) % 3)));
		if (rand_r(&seed) & 1)
			task_wakeup(t, TASK_WOKEN_MSG);
		if (rand_r(&seed) & 1)
			task_kill(t);
		else
			task_destroy(t);
	}
	return NULL;
}

/* SHOWS: INV-34, INV-48 */
START_TEST(task_9_kill_and_destroy_at_random)
{
	pthread_t th = start_loops(4), c[3];

	for (size_t i = 0; i < 3; i++)
		pthread_create(&c[i], NULL, churn, (void *)i);
	for (int i = 0; i < 3; i++)
		pthread_join(c[i], NULL);
	all_gone();
	stop_loops(th);
}
END_TEST

/* TASK-5: scheduling a task whose running handler wants the caller's lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct task *wants_lock(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	pthread_mutex_lock(&lock);
	atomic_fetch_add(&runs, 1);
	pthread_mutex_unlock(&lock);
	t->expire = TICK_ETERNITY;
	return t;
}

/* SHOWS: INV-57 */
START_TEST(task_5_scheduling_never_waits_for_a_handler)
{
	pthread_t th = start_loops(2);
	struct task *t = task_with(task_new_anywhere(), wants_lock);

	for (int i = 0; i < 300; i++) {
		pthread_mutex_lock(&lock);
		task_wakeup(t, TASK_WOKEN_MSG);
		usleep(100);
		task_schedule(t, date(1));
		task_queue(t);
		pthread_mutex_unlock(&lock);
	}
	wait_for(&runs, 1);
	task_kill(t);
	stop_loops(th);
}
END_TEST

/* TASK-24: the affinity changes at each run, with a timer armed. */
static struct task *wanders(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	ck_assert_uint_ne(t->thread_mask & (1UL << keel_tid()), 0);
	atomic_fetch_add(&runs, 1);
	task_set_affinity(t, 1UL << (t->calls % 4));
	t->expire = date(1);
	return t;
}

/* SHOWS: INV-35 */
START_TEST(task_24_affinity_changes_with_a_timer)
{
	pthread_t th = start_loops(4);
	struct task *t = task_with(task_new_on(0), wanders);

	task_wakeup(t, TASK_WOKEN_INIT);
	wait_for(&runs, 100);
	ck_assert_uint_ne(__atomic_load_n(&t->state, __ATOMIC_RELAXED) & TASK_SHARED_WQ, 0);
	task_kill(t);
	stop_loops(th);
}
END_TEST

/* A busy thread delays nobody's shared timers. */
static atomic_int release_it;

static struct task *arms_and_hogs(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	task_schedule(ctx, date(20));
	for (int i = 0; i < 5000 && !atomic_load(&release_it); i++)
		usleep(1000);
	return t;
}

START_TEST(a_busy_thread_delays_nobodys_timers)
{
	pthread_t th = start_loops(2);
	struct task *shared = task_with(task_new_anywhere(), note);
	struct task *hog = task_with(task_new_on(1), arms_and_hogs);
	struct task *pulse = task_with(task_new_on(0), ticks_forever);

	/* thread 0 turns now and then, as a serving thread does */
	task_wakeup(pulse, TASK_WOKEN_INIT);
	hog->context = shared;
	task_wakeup(hog, TASK_WOKEN_OTHER);
	wait_for(&runs, 1);
	atomic_store(&release_it, 1);
	task_kill(hog);
	task_kill(shared);
	task_kill(pulse);
	stop_loops(th);
}
END_TEST

/* -- misuse -------------------------------------------------------------- */

static void *queues_private(void *arg)
{
	struct task *t = arg;

	t->expire = date(10);
	task_queue(t);
	return NULL;
}

START_TEST(queueing_a_foreign_private_task_is_a_panic)
{
	pthread_t th;

	start(2);
	pthread_create(&th, NULL, queues_private, task_with(task_new_here(), note));
	pthread_join(th, NULL);
}
END_TEST

START_TEST(scheduling_at_eternity_is_a_panic)
{
	start(1);
	task_schedule(task_with(task_new_here(), note), TICK_ETERNITY);
}
END_TEST

START_TEST(a_null_task_is_a_panic)
{
	start(1);
	task_wakeup(NULL, TASK_WOKEN_MSG);
}
END_TEST

START_TEST(a_mask_without_threads_is_a_panic)
{
	start(2);
	task_new(1UL << 9);
}
END_TEST

START_TEST(a_task_without_handler_is_a_panic)
{
	start(1);
	task_wakeup(task_new_here(), TASK_WOKEN_MSG);
	turns(1);
}
END_TEST

static struct task *polls(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	keel_poll_once(0);
	return t;
}

START_TEST(polling_inside_a_handler_is_a_panic)
{
	start(1);
	task_wakeup(task_with(task_new_here(), polls), TASK_WOKEN_MSG);
	turns(1);
}
END_TEST

static struct task *leaves(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	keel_thread_leave();
	return t;
}

START_TEST(leaving_inside_a_handler_is_a_panic)
{
	start(1);
	task_wakeup(task_with(task_new_here(), leaves), TASK_WOKEN_MSG);
	turns(1);
}
END_TEST

static atomic_int staying;

static void *stays(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	atomic_store(&staying, 1);
	until(&runs, 1);
	keel_thread_leave();
	return arg;
}

/* What a thread that leaves holds for others goes to them.
 * SHOWS: INV-59 */
START_TEST(leaving_hands_work_to_those_who_stay)
{
	struct task *shared;
	pthread_t th;

	start(2);
	pthread_create(&th, NULL, stays, NULL);
	while (!atomic_load(&staying))
		usleep(1000);
	shared = task_with(task_new_anywhere(), note);
	task_wakeup(shared, TASK_WOKEN_MSG);
	keel_thread_leave();
	pthread_join(th, NULL);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	task_destroy(shared);
	keel_deinit();
}
END_TEST

/* Where nobody is there it waits, and what is bound to an id waits for that.
 * SHOWS: INV-59 */
START_TEST(leaving_hands_work_over)
{
	struct task *shared, *bound, *timer;

	start(2);
	shared = task_with(task_new_anywhere(), note);
	bound = task_with(task_new_here(), note);
	timer = task_with(task_new_here(), note);
	task_schedule(timer, date(5));
	task_wakeup(shared, TASK_WOKEN_MSG);
	task_wakeup(bound, TASK_WOKEN_MSG);
	keel_thread_leave();
	ck_assert_int_eq(keel_thread_enter(1), 0);
	turns(2);
	/* nobody was there to take it when thread 0 left */
	ck_assert_int_le(atomic_load(&runs), 1);
	keel_thread_leave();
	ck_assert_int_eq(keel_thread_enter(0), 0);
	until(&runs, 3);
	task_destroy(shared);
	task_destroy(bound);
	task_destroy(timer);
	keel_deinit();
}
END_TEST

START_TEST(the_dump_names_every_thread)
{
	char text[4096];
	int p[2], n;

	start(3);
	ck_assert_int_eq(pipe(p), 0);
	n = keel_dump_tasks(p[1]);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(read(p[0], text, sizeof(text) - 1), n);
	text[n] = 0;
	ck_assert_ptr_nonnull(strstr(text, "thread 2"));
	ck_assert_int_eq(keel_dump_tasks(-1), -EBADF);
	keel_deinit();
}
END_TEST

START_TEST(profiling_accounts_runs)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct task *t;

	cfg.nbthread = 1;
	cfg.maxsock = 256;
	cfg.profiling = 1;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	t = task_with(task_new_here(), note);
	task_wakeup(t, TASK_WOKEN_MSG);
	usleep(2000);
	turns(1);
	ck_assert_uint_ge(t->lat_time, 2000000);
	ck_assert_uint_gt(t->cpu_time, 0);
	ck_assert_uint_ne(t->call_date, 0);
	task_destroy(t);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("task");
	TCase *one = tcase_create("one thread");
	TCase *many = tcase_create("many threads");
	TCase *bad = tcase_create("misuse");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(many, 60);
	tcase_add_test(one, a_new_task_is_asleep);
	tcase_add_test(one, task_new_here_wants_a_registered_thread);
	tcase_add_test(one, wakeups_add_up_to_one_run);
	tcase_add_test(one, unlinking_from_the_run_queue_cancels);
	tcase_add_test(one, a_timer_is_never_early);
	tcase_add_test(one, scheduling_only_brings_forward);
	tcase_add_test(one, postponing_needs_no_call);
	tcase_add_test(one, unlinking_from_the_wait_queue_cancels);
	tcase_add_test(one, many_timers_all_come);
	tcase_add_test(one, task_15_timers_cross_the_wrap);
	tcase_add_test(one, a_depth_of_one_runs_everything);
	tcase_add_test(one, nice_decides_the_order);
	tcase_add_test(one, endless_tasks_starve_nobody);
	tcase_add_loop_test(one, tasklets_run_in_order_and_once, 0, 2);
	tcase_add_test(one, an_owned_tasklet_has_mail);
	tcase_add_test(one, tasks_alone_are_counted);
	tcase_add_test(one, a_master_cleans_up);
	tcase_add_test(one, an_embedded_tasklet_works);
	tcase_add_test(one, wakeup_after_keeps_its_place);
	tcase_add_test(one, self_waking_tasklets_do_not_starve_tasks);
	tcase_add_test(one, heavy_backlog_shrinks);
	tcase_add_test(one, destroy_in_every_state);
	tcase_add_test(one, a_task_killed_in_its_run_is_freed_after_it);
	tcase_add_test(one, the_dump_names_every_thread);
	tcase_add_test(one, profiling_accounts_runs);
	tcase_add_test(one, leaving_hands_work_to_those_who_stay);
	tcase_add_test(one, leaving_hands_work_over);
	tcase_add_test(many, remote_wakeups_reach_sleepers);
	tcase_add_test(many, foreign_schedule_wakes_in_time);
	tcase_add_test(many, task_18_no_wakeup_is_lost);
	tcase_add_test(many, task_43_one_instance_at_a_time);
	tcase_add_test(many, task_1_foreign_threads_move_shared_timers);
	tcase_add_test(many, task_9_kill_and_destroy_at_random);
	tcase_add_test(many, task_5_scheduling_never_waits_for_a_handler);
	tcase_add_test(many, task_24_affinity_changes_with_a_timer);
	tcase_add_test(many, a_busy_thread_delays_nobodys_timers);
	tcase_add_test_raise_signal(bad, queueing_a_foreign_private_task_is_a_panic, SIGABRT);
	tcase_add_loop_test_raise_signal(bad, waking_an_owned_tasklet_on_another_thread_is_a_panic, SIGABRT, 0, 2);
	tcase_add_test_raise_signal(bad, cleaning_up_beside_others_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, scheduling_at_eternity_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, polling_inside_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, leaving_inside_a_handler_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_null_task_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_mask_without_threads_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_task_without_handler_is_a_panic, SIGABRT);
	suite_add_tcase(s, one);
	suite_add_tcase(s, many);
	suite_add_tcase(s, bad);
	return run_suite(s);
}
