/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: draining, and who may free what when. */

#include "callouts.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int inside;

/* --- freeing -------------------------------------------------------------- */

struct object {
	struct callout c;
	pthread_mutex_t lock;
	int cpu;
};

static struct object *new_object(int locked)
{
	struct object *o = malloc(sizeof(*o));

	pthread_mutex_init(&o->lock, NULL);
	o->cpu = 0;
	if (locked)
		callout_init_mtx(&o->c, &o->lock, CALLOUT_RETURNUNLOCKED);
	else
		callout_init(&o->c, 1);
	return o;
}

static void scrap(struct object *o)
{
	pthread_mutex_destroy(&o->lock);
	memset(o, 0x5a, sizeof(*o));
	free(o);
	atomic_fetch_add(&runs, 1);
}

static void free_me(void *arg)
{
	scrap(arg);
}

static void unlock_and_free_me(void *arg)
{
	struct object *o = arg;

	pthread_mutex_unlock(&o->lock);
	scrap(o);
}

static void rearm_stop_and_free_me(void *arg)
{
	struct object *o = arg;

	ck_assert_int_eq(arm_now(&o->c, rearm_stop_and_free_me, o, o->cpu), 0);
	ck_assert_int_eq(callout_stop(&o->c), 0);
	scrap(o);
}

static void drain_and_go(void *arg)
{
	struct object *o = arg;

	ck_assert_int_eq(callout_async_drain(&o->c, free_me), 0);
}

static void drain_unlock_and_go(void *arg)
{
	struct object *o = arg;

	ck_assert_int_eq(callout_async_drain(&o->c, free_me), 0);
	pthread_mutex_unlock(&o->lock);
}

/* SHOWS: CINV-12, CINV-13, CINV-16 */
START_TEST(T_4_who_may_free_a_callout)
{
	static void (*const handlers[])(void *) = {
		free_me, unlock_and_free_me, rearm_stop_and_free_me, rearm_stop_and_free_me, drain_and_go,
		drain_unlock_and_go
	};
	static struct callout neighbour;

	start_threads(2);
	callout_init(&neighbour, 1);
	for (int i = 1; i <= 20; i++) {
		struct object *o = new_object(_i == 1 || _i == 5);

		o->cpu = _i == 3;
		arm_now(&o->c, handlers[_i], o, 0);
		until(&runs, i);
		/* the cpu is well */
		arm_now(&neighbour, count, NULL, 0);
		until(&runs, ++i);
	}
	callout_drain(&neighbour);
	keel_deinit();
}
END_TEST

static atomic_int go;

static void free_me_on_demand(void *arg)
{
	struct object *o = arg;

	atomic_store(&inside, 1);
	until(&go, 1);
	/* waits for the drain's first half to be over: now it sleeps */
	ck_assert_int_eq(callout_stop(&o->c), 0);
	scrap(o);
}

static void *drain_object(void *arg)
{
	return (void *)(intptr_t)callout_drain(&((struct object *)arg)->c);
}

START_TEST(T_4_freed_while_a_drain_waits)
{
	struct object *o;
	pthread_t th;
	void *ret;

	start_threads(1);
	o = new_object(0);
	arm_now(&o->c, free_me_on_demand, o, 0);
	until(&inside, 1);
	pthread_create(&th, NULL, drain_object, o);
	/* the first half of a drain clears this */
	while (callout_active(&o->c))
		sched_yield();
	atomic_store(&go, 1);
	pthread_join(th, &ret);
	ck_assert_int_eq((int)(intptr_t)ret, -1);
	ck_assert_int_eq(runs, 1);
	keel_deinit();
}
END_TEST

/* --- draining ------------------------------------------------------------- */

struct hasty {
	struct callout c;
	int cpu, flags, first;
	atomic_int started;
};

static void hasty(void *arg);

static void leave_due(struct hasty *h)
{
	callout_reset_sbt_on(&h->c, 1, 0, hasty, h, h->cpu, C_ABSOLUTE | h->flags);
}

/* Waits to be let go, and leaves itself due: afterwards, or first thing. */
static void hasty(void *arg)
{
	struct hasty *h = arg;

	if (h->first)
		leave_due(h);
	atomic_fetch_add(&h->started, 1);
	until(&go, 1);
	if (!h->first)
		leave_due(h);
}

/* SHOWS: CINV-17 */
START_TEST(T_5_a_drain_takes_one_run)
{
	static struct hasty h;
	pthread_t th;
	void *ret;

	start_threads(2);
	callout_init(&h.c, 1);
	h.cpu = _i % 3 - 1;
	h.flags = _i / 3 & 1 ? C_DIRECT_EXEC : 0;
	h.first = _i / 6;
	callout_reset_sbt_on(&h.c, 1, 0, hasty, &h, 0, C_ABSOLUTE);
	until(&h.started, 1);
	pthread_create(&th, NULL, drain_object, &h);
	while (callout_active(&h.c))
		sched_yield();
	atomic_store(&go, 1);
	pthread_join(th, &ret);
	ck_assert_int_eq((int)(intptr_t)ret, h.first ? 1 : -1);
	ck_assert_int_eq(h.started, 1);
	ck_assert_int_eq(callout_pending(&h.c), 0);
	nap_us(2000);
	ck_assert_int_eq(h.started, 1);
	keel_deinit();
}
END_TEST

START_TEST(T_5_a_drain_at_any_time)
{
	static struct hasty h;

	start_threads(2);
	callout_init(&h.c, 1);
	go = 1;
	h.cpu = _i - 1;
	for (int i = 0; i < 50; i++) {
		int seen;

		callout_reset_sbt_on(&h.c, 1, 0, hasty, &h, i % 2, C_ABSOLUTE);
		nap_us(i * 10);
		callout_drain(&h.c);
		seen = h.started;
		ck_assert_int_eq(callout_pending(&h.c), 0);
		nap_us(200);
		ck_assert_int_eq(h.started, seen);
	}
	keel_deinit();
}
END_TEST

/* A handler that re-arms itself outlives one stop, but not a shutdown. */
START_TEST(M_32_one_stop_is_not_enough)
{
	static struct hasty h;

	start_threads(1);
	callout_init(&h.c, 1);
	h.cpu = -1;
	arm_now(&h.c, hasty, &h, 0);
	until(&h.started, 1);
	ck_assert_int_eq(callout_stop(&h.c), 0);
	atomic_store(&go, 1);
	until(&h.started, 2);
	ck_assert_int_ge(keel_callout_shutdown(&h.c), -1);
	ck_assert_int_eq(callout_pending(&h.c), 0);
	ck_assert_int_eq(callout_reset(&h.c, 1, hasty, &h), 0);
	ck_assert_int_eq(callout_pending(&h.c), 0);
	ck_assert_int_eq(callout_active(&h.c), 0);
	keel_deinit();
}
END_TEST

/* SHOWS: DEV-11 */
START_TEST(shutdown_answers_as_drain)
{
	struct callout c;

	start(1);
	callout_init(&c, 1);
	ck_assert_int_eq(keel_callout_shutdown(&c), -1);
	ck_assert_int_eq(callout_reset(&c, 1, count, NULL), 0);
	ck_assert_int_eq(callout_pending(&c), 0);
	/* a new life */
	callout_init(&c, 1);
	callout_reset(&c, 1000, count, NULL);
	ck_assert_int_ne(callout_pending(&c), 0);
	ck_assert_int_eq(keel_callout_shutdown(&c), 1);
	ck_assert_int_eq(callout_reset(&c, 1, count, NULL), 0);
	ck_assert_int_eq(callout_schedule(&c, 1), 0);
	ck_assert_int_eq(callout_pending(&c), 0);
	keel_deinit();
}
END_TEST

/* M-15, M-30: an object with several callouts, torn down by whoever holds its
 * lock. Each 0 owes one call of the drain function; the last one frees. */
enum { TIMERS = 4 };

static struct connection {
	struct callout timers[TIMERS];
	pthread_mutex_t lock;
	int open, owed;
} *conn;
static atomic_int freed, late;

static void timer(void *arg)
{
	struct connection *n = arg;

	atomic_fetch_add(&inside, 1);
	pthread_mutex_lock(&n->lock);
	if (!n->open)
		atomic_fetch_add(&late, 1);
	pthread_mutex_unlock(&n->lock);
}

static void timer_drained(void *arg)
{
	struct connection *n = arg;
	int left;

	pthread_mutex_lock(&n->lock);
	left = --n->owed;
	pthread_mutex_unlock(&n->lock);
	if (left == 0) {
		pthread_mutex_destroy(&n->lock);
		memset(n, 0x5a, sizeof(*n));
		free(n);
		atomic_fetch_add(&freed, 1);
	}
}

START_TEST(M_15_and_M_30_the_last_of_several_frees)
{
	start_threads(2);
	for (int i = 1; i <= 10; i++) {
		int owed = 0;

		conn = malloc(sizeof(*conn));
		memset(conn, 0, sizeof(*conn));
		pthread_mutex_init(&conn->lock, NULL);
		conn->open = 1;
		atomic_store(&inside, 0);
		pthread_mutex_lock(&conn->lock);
		for (int k = 0; k < TIMERS; k++) {
			callout_init(&conn->timers[k], 1);
			arm_now(&conn->timers[k], timer, conn, k % 2);
		}
		until(&inside, 2); /* one on each cpu, waiting for our lock */
		for (int k = 0; k < TIMERS; k++) {
			int ret = callout_async_drain(&conn->timers[k], timer_drained);

			ck_assert_int_ge(ret, 0);
			owed += ret == 0;
		}
		ck_assert_int_eq(owed, 2);
		conn->owed = owed;
		conn->open = 0;
		pthread_mutex_unlock(&conn->lock);
		until(&freed, i);
		ck_assert_int_eq(late, 2 * i);
	}
	keel_deinit();
}
END_TEST

/* FreeBSD's own callout test, with something to pass: all handlers announced
 * and stuck on a mutex, all drained asynchronously. */
enum { BATCH = 64 };

static struct callout batch[BATCH];
static atomic_int announced, bailed, completed, drain_calls;

static void announce(void *arg)
{
	struct callout *c = arg;

	atomic_fetch_add(&announced, 1);
	pthread_mutex_lock(&mutex);
	if (callout_pending(c) || !callout_active(c)) {
		atomic_fetch_add(&bailed, 1);
	} else {
		callout_deactivate(c);
		atomic_fetch_add(&completed, 1);
	}
	pthread_mutex_unlock(&mutex);
}

static void batch_drained(void *arg)
{
	(void)arg;
	atomic_fetch_add(&drain_calls, 1);
}

/* SHOWS: CINV-20 */
START_TEST(T_10_async_drain_of_a_batch)
{
	int cpus = _i + 1, zeroes = 0, removed = 0, idle = 0;

	start_threads(2);
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < BATCH; i++) {
		callout_init(&batch[i], CALLOUT_MPSAFE);
		ck_assert_int_eq(callout_reset_sbt_on(&batch[i], 3, 0, announce, &batch[i], i % cpus, 0), 0);
	}
	until(&announced, cpus);
	for (int i = 0; i < BATCH; i++) {
		int ret = callout_async_drain(&batch[i], batch_drained);

		zeroes += ret == 0;
		removed += ret == 1;
		idle += ret == -1;
	}
	ck_assert_int_eq(idle, 0);
	ck_assert_int_eq(zeroes, cpus);
	ck_assert_int_eq(removed, BATCH - cpus);
	ck_assert_int_eq(drain_calls, 0);
	pthread_mutex_unlock(&mutex);
	until(&drain_calls, zeroes);
	for (int i = 0; i < BATCH; i++)
		ck_assert_int_eq(callout_drain(&batch[i]), -1);
	ck_assert_int_eq(drain_calls, zeroes);
	ck_assert_int_eq(completed, 0);
	ck_assert_int_eq(completed + bailed + removed, BATCH);
	keel_deinit();
}
END_TEST

static atomic_int hammering;

static void *deactivate_for_ever(void *c)
{
	while (atomic_load(&hammering)) {
		callout_deactivate(c);
		sched_yield();
	}
	return NULL;
}

/* T-13, M-13, U-2: the caller's bit is in no word of the library's.
 * SHOWS: CINV-5 */
START_TEST(M_13_deactivate_loses_nothing)
{
	static struct callout c;
	int accepted = 0, removed = 0;
	pthread_t th;

	start_threads(2);
	callout_init(&c, 1);
	atomic_store(&hammering, 1);
	pthread_create(&th, NULL, deactivate_for_ever, &c);
	for (int i = 0; i < 4000; i++) {
		removed += arm_now(&c, count, NULL, i % 3 - 1) == 1;
		accepted++;
		if (i % 16 == 0)
			nap_us(70);
		if (i % 8 == 0)
			removed += callout_drain(&c) == 1;
	}
	removed += callout_drain(&c) == 1;
	ck_assert_int_eq(accepted, runs + removed);
	atomic_store(&hammering, 0);
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* The idiom itself: a handler that was too late sees so under the lock. */
static struct callout idiom;
static int stopped, worked;

static void idiomatic(void *arg)
{
	(void)arg;
	atomic_fetch_add(&inside, 1);
	pthread_mutex_lock(&mutex);
	if (!callout_pending(&idiom) && callout_active(&idiom)) {
		callout_deactivate(&idiom);
		ck_assert_int_eq(stopped, 0);
		worked++;
	}
	pthread_mutex_unlock(&mutex);
	atomic_fetch_add(&runs, 1);
}

START_TEST(T_13_the_active_idiom)
{
	start_threads(1);
	callout_init(&idiom, 1);
	for (int i = 1; i <= 30; i++) {
		pthread_mutex_lock(&mutex);
		stopped = 0;
		arm_now(&idiom, idiomatic, NULL, 0);
		until(&inside, i); /* it waits for our lock */
		ck_assert_int_eq(callout_stop(&idiom), 0);
		stopped = 1;
		pthread_mutex_unlock(&mutex);
		until(&runs, i);
	}
	ck_assert_int_eq(worked, 0);
	pthread_mutex_lock(&mutex);
	stopped = 0;
	arm_now(&idiom, idiomatic, NULL, 0);
	pthread_mutex_unlock(&mutex);
	until(&runs, 31);
	ck_assert_int_eq(worked, 1);
	callout_drain(&idiom);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout ends");
	TCase *ends = tcase_create("ends");

	tcase_set_timeout(ends, 40);
	tcase_add_loop_test(ends, T_4_who_may_free_a_callout, 0, 6);
	tcase_add_test(ends, T_4_freed_while_a_drain_waits);
	tcase_add_loop_test(ends, T_5_a_drain_takes_one_run, 0, 12);
	tcase_add_loop_test(ends, T_5_a_drain_at_any_time, 0, 3);
	tcase_add_test(ends, M_32_one_stop_is_not_enough);
	tcase_add_test(ends, shutdown_answers_as_drain);
	tcase_add_test(ends, M_15_and_M_30_the_last_of_several_frees);
	tcase_add_loop_test(ends, T_10_async_drain_of_a_batch, 0, 2);
	tcase_add_test(ends, M_13_deactivate_loses_nothing);
	tcase_add_test(ends, T_13_the_active_idiom);
	suite_add_tcase(s, ends);
	return run_suite(s);
}
