/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Races that other callout engines have had, each held still where it
 * happened. The names are those of docs/callout-museum.md.
 */

#include <stdatomic.h>
#include <stdio.h>

#include "pause.h"
#include "../api/suite.h"

/* What handlers here do: count, note the argument and the cpu, keep inside. */
static atomic_int runs, inside, crowd;
static atomic_int last_arg, last_cpu;

static void enter(void *arg)
{
	if (atomic_fetch_add(&inside, 1))
		atomic_fetch_add(&crowd, 1);
	atomic_store(&last_arg, (int)(size_t)arg);
	atomic_store(&last_cpu, (int)keel_tid());
	atomic_fetch_add(&runs, 1);
}

static void count(void *arg)
{
	enter(arg);
	atomic_fetch_sub(&inside, 1);
}

/* A callout in memory of its own. */
static struct callout *c;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void stage_with(int locked)
{
	open_stage();
	c = mapped();
	if (locked)
		callout_init_mtx(c, &lock, 0);
	else
		callout_init(c, 1);
}

/* Armed, dequeued, and cpu 0 held at <point>. */
static void held_at(int point, void (*fn)(void *), void *arg)
{
	park_at(point, c);
	ck_assert_int_eq(arm_now(c, fn, arg, 0), 0);
	begin_pass(CPU0);
	await_parked(point);
}

static void finish(int point)
{
	let_go(point);
	await_done(CPU0);
}

static atomic_int drain_ret;

static void drain_c(void *arg)
{
	(void)arg;
	atomic_store(&drain_ret, callout_drain(c));
}

/* A drain on a thread of its own, until it is about to sleep. */
static void begin_drain(void)
{
	int before = times_reached(KEEL_AT_DRAIN_BEFORE_SLEEP);

	begin(HELPER, drain_c, NULL);
	await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, before + 1);
	ck_assert_int_eq(is_busy(HELPER), 1);
}

/* How the handler re-arms itself: on which cpu, and for what result. */
static int rearm_cpu = -1;

static void rearm_once(void *arg)
{
	enter(arg);
	if (atomic_load(&runs) == 1)
		arm_now(c, rearm_once, (void *)2, rearm_cpu);
	atomic_fetch_sub(&inside, 1);
}

START_TEST(M_1_stop_of_the_dequeued)
{
	stage_with(0);
	held_at(KEEL_AT_DEQUEUED, count, NULL);
	/* it cannot be stopped, and says so; drain is what waits for it */
	ck_assert_int_eq(callout_stop(c), 0);
	begin_drain();
	ck_assert_int_eq(runs, 0);
	finish(KEEL_AT_DEQUEUED);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, -1);
	ck_assert_int_eq(runs, 1);
	gone(c);
	settle();
	close_stage();
}
END_TEST

START_TEST(M_1_stop_under_the_lock)
{
	stage_with(1);
	held_at(KEEL_AT_DEQUEUED, count, NULL);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(callout_stop(c), 1);
	pthread_mutex_unlock(&lock);
	begin_drain();
	finish(KEEL_AT_DEQUEUED);
	await_done(HELPER);
	gone(c);
	settle();
	ck_assert_int_eq(runs, 0);
	close_stage();
}
END_TEST

START_TEST(M_2_reset_of_the_dequeued)
{
	stage_with(0);
	held_at(KEEL_AT_DEQUEUED, count, (void *)1);
	ck_assert_int_eq(arm_now(c, count, (void *)2, -1), 0);
	finish(KEEL_AT_DEQUEUED);
	/* both run, the old one first */
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(last_arg, 1);
	settle();
	ck_assert_int_eq(runs, 2);
	ck_assert_int_eq(last_arg, 2);
	close_stage();
}
END_TEST

START_TEST(M_2_reset_under_the_lock)
{
	stage_with(1);
	held_at(KEEL_AT_DEQUEUED, count, (void *)1);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(arm_now(c, count, (void *)2, -1), 1);
	pthread_mutex_unlock(&lock);
	finish(KEEL_AT_DEQUEUED);
	ck_assert_int_eq(runs, 0);
	settle();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(last_arg, 2);
	close_stage();
}
END_TEST

static int stopped; /* under lock */
static atomic_int surprises, quit;

static void must_not_be_stopped(void *arg)
{
	(void)arg;
	if (stopped)
		atomic_fetch_add(&surprises, 1);
	atomic_fetch_add(&runs, 1);
}

static void passes(void *arg)
{
	(void)arg;
	while (!atomic_load(&quit))
		softclock(0);
}

START_TEST(M_3_no_run_after_a_stop_under_the_lock)
{
	int accepted = 0, removed = 0;

	stage_with(1);
	begin(CPU0, passes, NULL);
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&lock);
		stopped = 0;
		removed += arm_now(c, must_not_be_stopped, NULL, 0) == 1;
		accepted++;
		pthread_mutex_unlock(&lock);
		for (volatile int k = 0; k < (i % 64) * 64; k++)
			;
		pthread_mutex_lock(&lock);
		removed += callout_stop(c) == 1;
		stopped = 1;
		pthread_mutex_unlock(&lock);
	}
	removed += callout_drain(c) == 1;
	atomic_store(&quit, 1);
	await_done(CPU0);
	ck_assert_int_eq(surprises, 0);
	ck_assert_int_eq(accepted, runs + removed);
	close_stage();
}
END_TEST

/* Problem 1: a drain that comes between the two locks of a move. */
START_TEST(M_5_drain_during_hand_over)
{
	stage_with(0);
	rearm_cpu = 1;
	park_at(KEEL_AT_BETWEEN_LOCKS, c);
	arm_now(c, rearm_once, (void *)1, 0);
	begin_pass(CPU0);
	await_parked(KEEL_AT_BETWEEN_LOCKS);
	begin(HELPER, drain_c, NULL);
	nap_ms(2);
	ck_assert_int_eq(is_busy(HELPER), 1);
	finish(KEEL_AT_BETWEEN_LOCKS);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, 1);
	gone(c);
	settle();
	ck_assert_int_eq(runs, 1);
	close_stage();
}
END_TEST

static void move_c(void *arg)
{
	(void)arg;
	ck_assert_int_eq(arm_now(c, count, (void *)2, 1), 1);
}

START_TEST(M_5_drain_during_a_move_from_outside)
{
	stage_with(0);
	arm_now(c, count, (void *)1, 0);
	park_at(KEEL_AT_BETWEEN_LOCKS, c);
	begin(CALLER, move_c, NULL);
	await_parked(KEEL_AT_BETWEEN_LOCKS);
	begin(HELPER, drain_c, NULL);
	nap_ms(2);
	ck_assert_int_eq(is_busy(HELPER), 1);
	let_go(KEEL_AT_BETWEEN_LOCKS);
	await_done(HELPER);
	await_done(CALLER);
	ck_assert_int_eq(drain_ret, 1);
	gone(c);
	settle();
	ck_assert_int_eq(runs, 0);
	close_stage();
}
END_TEST

/* Problem 2: due on another cpu before its handler has returned. */
START_TEST(M_6_never_on_two_cpus)
{
	stage_with(0);
	rearm_cpu = 1;
	held_at(KEEL_AT_HANDLER_EXIT, rearm_once, (void *)1);
	for (int i = 0; i < 4; i++) {
		whole_pass(CPU1);
		ck_assert_int_eq(runs, 1);
		ck_assert_int_ne(callout_pending(c), 0);
	}
	finish(KEEL_AT_HANDLER_EXIT);
	whole_pass(CPU1);
	ck_assert_int_eq(runs, 2);
	ck_assert_int_eq(last_cpu, 1);
	ck_assert_int_eq(crowd, 0);
	close_stage();
}
END_TEST

static struct callout other;

/* Problem 3: the drainer is late to its bed; the execution is over, and
 * the cpu is in another one by then.
 * SHOWS: CINV-18 */
START_TEST(M_7_a_late_sleeper_is_not_forgotten)
{
	stage_with(0);
	rearm_cpu = 1;
	callout_init(&other, 1);
	held_at(KEEL_AT_HANDLER_EXIT, rearm_once, (void *)1);
	park_at(KEEL_AT_DRAIN_BEFORE_SLEEP, c);
	begin(HELPER, drain_c, NULL);
	await_parked(KEEL_AT_DRAIN_BEFORE_SLEEP);
	finish(KEEL_AT_HANDLER_EXIT);
	whole_pass(CPU1);
	park_at(KEEL_AT_HANDLER_ENTER, &other);
	arm_now(&other, count, NULL, 0);
	begin_pass(CPU0);
	await_parked(KEEL_AT_HANDLER_ENTER);
	let_go(KEEL_AT_DRAIN_BEFORE_SLEEP);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, 1);
	gone(c);
	finish(KEEL_AT_HANDLER_ENTER);
	settle();
	ck_assert_int_eq(runs, 2); /* c's first and the other's */
	close_stage();
}
END_TEST

START_TEST(M_7_all_sleepers_wake)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, count, NULL);
	begin_drain();
	begin(CALLER, drain_c, NULL);
	await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, 2);
	begin(CPU1, drain_c, NULL);
	await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, 3);
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	await_done(CALLER);
	await_done(CPU1);
	ck_assert_int_eq(times_reached(KEEL_AT_DRAIN_WOKEN), 3);
	close_stage();
}
END_TEST

START_TEST(M_8_stop_drops_the_deferral)
{
	stage_with(0);
	rearm_cpu = 1;
	held_at(KEEL_AT_HANDLER_EXIT, rearm_once, (void *)1);
	ck_assert_int_eq(callout_stop(c), 0);
	ck_assert_int_eq(callout_pending(c), 0);
	finish(KEEL_AT_HANDLER_EXIT);
	settle();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(callout_stop(c), -1);
	close_stage();
}
END_TEST

/* Re-arms itself elsewhere, stops that, and goes. */
static void rearm_stop_free(void *arg)
{
	enter(arg);
	ck_assert_int_eq(arm_now(c, rearm_stop_free, arg, rearm_cpu), 0);
	ck_assert_int_eq(callout_stop(c), 0);
	gone(c);
	atomic_fetch_sub(&inside, 1);
}

/* SHOWS: CINV-23 */
START_TEST(M_9_nothing_left_of_a_stopped_deferral)
{
	stage_with(0);
	rearm_cpu = 1 - _i;
	arm_now(c, rearm_stop_free, NULL, 0);
	whole_pass(CPU0);
	settle();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(times_reached(KEEL_AT_BETWEEN_LOCKS), 0);
	close_stage();
}
END_TEST

static void rearm_and_look(void *arg)
{
	enter(arg);
	if (atomic_load(&runs) == 1) {
		ck_assert_int_eq(callout_pending(c), 0);
		arm_now(c, rearm_and_look, arg, 1);
		ck_assert_int_ne(callout_pending(c), 0);
		ck_assert_int_ne(callout_active(c), 0);
	}
	atomic_fetch_sub(&inside, 1);
}

START_TEST(M_10_pending_while_deferred)
{
	stage_with(0);
	arm_now(c, rearm_and_look, NULL, 0);
	whole_pass(CPU0);
	ck_assert_int_ne(callout_pending(c), 0);
	ck_assert_int_ne(callout_active(c), 0);
	settle();
	ck_assert_int_eq(runs, 2);
	ck_assert_int_eq(callout_pending(c), 0);
	close_stage();
}
END_TEST

enum { NEIGHBOURS = 32 };

static void neighbour(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

START_TEST(M_11_resets_to_and_fro_while_dequeued)
{
	static struct callout around[NEIGHBOURS];
	static atomic_int fired[NEIGHBOURS];

	stage_with(1);
	held_at(KEEL_AT_LOCKWAIT, count, (void *)1);
	pthread_mutex_lock(&lock);
	for (int i = 0; i < NEIGHBOURS; i++) {
		callout_init(&around[i], 1);
		ck_assert_int_eq(arm_now(&around[i], neighbour, &fired[i], i % 2), 0);
		if (i % 8 == 0)
			ck_assert_int_eq(arm_now(c, count, (void *)2, 1 - i / 8 % 2), 1);
	}
	ck_assert_int_eq(arm_now(c, count, (void *)3, 1), 1);
	pthread_mutex_unlock(&lock);
	finish(KEEL_AT_LOCKWAIT);
	settle();
	for (int i = 0; i < NEIGHBOURS; i++)
		ck_assert_int_eq(fired[i], 1);
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(last_arg, 3);
	ck_assert_int_eq(last_cpu, 1);
	close_stage();
}
END_TEST

static void schedule_c(void *arg)
{
	(void)arg;
	ck_assert_int_eq(callout_schedule(c, 1), 1);
}

/* SHOWS: DEV-9 */
START_TEST(M_14_schedule_during_hand_over)
{
	stage_with(0);
	arm_now(c, count, (void *)1, 0);
	park_at(KEEL_AT_BETWEEN_LOCKS, c);
	begin(CALLER, move_c, NULL);
	await_parked(KEEL_AT_BETWEEN_LOCKS);
	begin(HELPER, schedule_c, NULL);
	nap_ms(2);
	ck_assert_int_eq(is_busy(HELPER), 1);
	let_go(KEEL_AT_BETWEEN_LOCKS);
	await_done(HELPER);
	await_done(CALLER);
	nap_ms(2);
	settle();
	/* it stayed on the new cpu, with what the move had brought */
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(last_arg, 2);
	ck_assert_int_eq(last_cpu, 1);
	close_stage();
}
END_TEST

/* A timed wait built on a callout that moves each time: after stop it must
 * know whether a wake-up is still to come. */
START_TEST(M_17_stop_tells_whether_the_wake_up_comes)
{
	static const int points[] = { KEEL_AT_DEQUEUED, KEEL_AT_HANDLER_ENTER, KEEL_AT_HANDLER_EXIT, KEEL_AT_UNLOCKED };

	stage_with(0);
	held_at(points[_i], count, NULL);
	ck_assert_int_eq(arm_now(c, count, NULL, 1), 0);
	ck_assert_int_eq(callout_stop(c), 0);
	finish(points[_i]);
	settle();
	ck_assert_int_eq(runs, 1);
	close_stage();
}
END_TEST

START_TEST(M_17_stop_tells_that_none_comes)
{
	stage_with(1);
	held_at(KEEL_AT_UNLOCKED, count, NULL);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(arm_now(c, count, NULL, 1), 0);
	ck_assert_int_eq(callout_stop(c), 1);
	ck_assert_int_eq(callout_stop(c), -1);
	pthread_mutex_unlock(&lock);
	finish(KEEL_AT_UNLOCKED);
	settle();
	ck_assert_int_eq(runs, 1);
	close_stage();
}
END_TEST

/* SHOWS: CINV-17 */
START_TEST(M_18_drain_of_pending_and_running)
{
	stage_with(0);
	rearm_cpu = _i;
	held_at(KEEL_AT_HANDLER_EXIT, rearm_once, (void *)1);
	ck_assert_int_ne(callout_pending(c), 0);
	begin_drain();
	ck_assert_int_eq(callout_pending(c), 0);
	finish(KEEL_AT_HANDLER_EXIT);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, 1);
	gone(c);
	settle();
	ck_assert_int_eq(runs, 1);
	close_stage();
}
END_TEST

/* The choice that M-21 asks for: ACTIVE goes when the drain begins. */
START_TEST(M_21_active_ends_with_the_drains_begin)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, count, NULL);
	ck_assert_int_ne(callout_active(c), 0);
	begin_drain();
	ck_assert_int_eq(callout_active(c), 0);
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	ck_assert_int_eq(callout_active(c), 0);
	close_stage();
}
END_TEST

START_TEST(M_23_stop_of_the_cancelled)
{
	stage_with(1);
	held_at(KEEL_AT_LOCKWAIT, count, NULL);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(arm_now(c, count, NULL, -1), 1);
	ck_assert_int_eq(callout_stop(c), 1);
	ck_assert_int_eq(callout_stop(c), -1);
	pthread_mutex_unlock(&lock);
	finish(KEEL_AT_LOCKWAIT);
	settle();
	ck_assert_int_eq(runs, 0);
	close_stage();
}
END_TEST

static void rearm_direct(void *arg)
{
	int flags = atomic_load(&runs) % 2 ? C_DIRECT_EXEC : 0;

	enter(arg);
	if (atomic_load(&runs) < 5)
		callout_reset_sbt_on(c, 1, 0, rearm_direct, arg, atomic_load(&runs) % 2, flags | C_ABSOLUTE);
	atomic_fetch_sub(&inside, 1);
}

START_TEST(M_24_direct_and_not_in_turn)
{
	stage_with(0);
	callout_reset_sbt_on(c, 1, 0, rearm_direct, NULL, 0, C_DIRECT_EXEC | C_ABSOLUTE);
	for (int i = 0; i < 5; i++)
		settle();
	ck_assert_int_eq(runs, 5);
	ck_assert_int_eq(crowd, 0);
	/* and from outside, while it runs the other way */
	for (int direct = 0; direct < 2; direct++) {
		atomic_store(&runs, 5);
		park_at(KEEL_AT_HANDLER_ENTER, c);
		callout_reset_sbt_on(c, 1, 0, count, NULL, 0, C_ABSOLUTE | (direct ? C_DIRECT_EXEC : 0));
		begin_pass(CPU0);
		await_parked(KEEL_AT_HANDLER_ENTER);
		ck_assert_int_eq(callout_reset_sbt_on(c, 1, 0, count, NULL, 1, C_ABSOLUTE | (direct ? 0 : C_DIRECT_EXEC)), 0);
		whole_pass(CPU1);
		ck_assert_int_eq(runs, 5);
		finish(KEEL_AT_HANDLER_ENTER);
		settle();
		ck_assert_int_eq(runs, 7);
		ck_assert_int_eq(crowd, 0);
	}
	close_stage();
}
END_TEST

/* Each run leaves the next one due. */
static void rearm_always(void *arg)
{
	enter(arg);
	arm_now(c, rearm_always, arg, rearm_cpu);
	atomic_fetch_sub(&inside, 1);
}

/* SHOWS: CINV-17 */
START_TEST(M_34_one_run_ends_a_drain)
{
	stage_with(0);
	rearm_cpu = _i;
	held_at(KEEL_AT_HANDLER_ENTER, rearm_always, NULL);
	begin_drain();
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	/* the re-arm came during the drain: refused, as if it had not been */
	ck_assert_int_eq(drain_ret, -1);
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(callout_pending(c), 0);
	gone(c);
	settle();
	ck_assert_int_eq(runs, 1);
	close_stage();
}
END_TEST

/* What a drain has removed must not run while it waits. */
START_TEST(E_1_removed_first_then_waited_for)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, count, (void *)1);
	ck_assert_int_eq(arm_now(c, count, (void *)2, _i), 0);
	begin_drain();
	whole_pass(CPU1);
	ck_assert_int_eq(runs, 0);
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, 1);
	settle();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(last_arg, 1);
	close_stage();
}
END_TEST

/* An async drain where the caller holds what the handler wants. */
START_TEST(E_2_async_drain_under_the_handlers_lock)
{
	stage_with(1);
	held_at(KEEL_AT_LOCKWAIT, count, NULL);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(callout_async_drain(c, count), 0);
	pthread_mutex_unlock(&lock);
	finish(KEEL_AT_LOCKWAIT);
	/* the handler was skipped: the one run is the drain function's */
	ck_assert_int_eq(runs, 1);
	gone(c);
	settle();
	close_stage();
}
END_TEST

static void drained_and_gone(void *arg)
{
	count(arg);
	gone(c);
}

START_TEST(E_4_the_drain_function_frees)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, count, NULL);
	ck_assert_int_eq(callout_async_drain(c, drained_and_gone), 0);
	finish(KEEL_AT_HANDLER_ENTER);
	ck_assert_int_eq(runs, 2);
	settle();
	close_stage();
}
END_TEST

static void free_self(void *arg)
{
	count(arg);
	gone(c);
}

/* SHOWS: CINV-12, CINV-13 */
START_TEST(N_2_the_handler_frees_while_a_drain_waits)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, free_self, NULL);
	begin_drain();
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, -1);
	ck_assert_int_eq(runs, 1);
	settle();
	close_stage();
}
END_TEST

static pthread_mutex_t clients = PTHREAD_MUTEX_INITIALIZER;

static void wants_the_clients_lock(void *arg)
{
	pthread_mutex_lock(&clients);
	count(arg);
	pthread_mutex_unlock(&clients);
}

START_TEST(N_3_stop_never_waits)
{
	stage_with(0);
	pthread_mutex_lock(&clients);
	ck_assert_int_eq(arm_now(c, wants_the_clients_lock, NULL, 0), 0);
	begin_pass(CPU0);
	await_reached(KEEL_AT_HANDLER_ENTER, 1);
	ck_assert_int_eq(callout_stop(c), 0);
	ck_assert_int_eq(callout_async_drain(c, count), 0);
	ck_assert_int_eq(is_busy(CPU0), 1);
	pthread_mutex_unlock(&clients);
	await_done(CPU0);
	ck_assert_int_eq(runs, 2);
	close_stage();
}
END_TEST

static atomic_int rearmers_quit;

static void rearm_for_ever(void *arg)
{
	(void)arg;
	while (!atomic_load(&rearmers_quit))
		arm_now(c, count, (void *)2, 0);
}

/* A third thread's endless resets do not keep a drain.
 * SHOWS: CINV-17, CINV-22 */
START_TEST(D_1_drain_against_endless_resets)
{
	stage_with(0);
	held_at(KEEL_AT_HANDLER_ENTER, count, (void *)1);
	begin(CALLER, rearm_for_ever, NULL);
	begin_drain();
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	atomic_store(&rearmers_quit, 1);
	await_done(CALLER);
	callout_drain(c);
	close_stage();
}
END_TEST

static void shut_down(void *arg)
{
	(void)arg;
	atomic_store(&drain_ret, keel_callout_shutdown(c));
}

/* SHOWS: DEV-11 */
START_TEST(L_4_after_shutdown_nothing_is_armed)
{
	stage_with(0);
	rearm_cpu = _i;
	held_at(KEEL_AT_HANDLER_ENTER, rearm_always, NULL);
	begin(HELPER, shut_down, NULL);
	await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, 1);
	ck_assert_int_eq(arm_now(c, count, NULL, 0), 0);
	ck_assert_int_eq(callout_pending(c), 0);
	finish(KEEL_AT_HANDLER_ENTER);
	await_done(HELPER);
	ck_assert_int_eq(drain_ret, -1);
	/* for good, not only while somebody waits */
	ck_assert_int_eq(arm_now(c, count, NULL, 0), 0);
	ck_assert_int_eq(arm_now(c, count, NULL, 1), 0);
	ck_assert_int_eq(callout_reset(c, 1, count, NULL), 0);
	ck_assert_int_eq(callout_pending(c), 0);
	ck_assert_int_eq(callout_active(c), 0);
	nap_ms(2);
	settle();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(keel_callout_shutdown(c), -1);
	close_stage();
}
END_TEST

/* Several timers due at once; the first handler dwells while the others are
 * reset: what waits for its turn is on no private list. */
START_TEST(P_1_resets_of_what_waits_for_its_turn)
{
	static struct callout due[NEIGHBOURS];
	static atomic_int fired[NEIGHBOURS];

	open_stage();
	for (int i = 0; i < NEIGHBOURS; i++) {
		callout_init(&due[i], 1);
		arm_now(&due[i], neighbour, &fired[i], 0);
	}
	park_at(KEEL_AT_HANDLER_ENTER, NULL);
	begin_pass(CPU0);
	await_parked(KEEL_AT_HANDLER_ENTER);
	for (int i = 0; i < NEIGHBOURS; i++) {
		if (!callout_pending(&due[i]))
			continue;
		if (i % 4 == 0)
			ck_assert_int_eq(callout_stop(&due[i]), 1);
		else
			ck_assert_int_eq(arm_now(&due[i], neighbour, &fired[i], i % 2), 1);
	}
	finish(KEEL_AT_HANDLER_ENTER);
	settle();
	for (int i = 0, ran = 0; i < NEIGHBOURS; i++) {
		if (i % 4)
			ck_assert_int_eq(fired[i], 1);
		else /* one of these may have been the first */
			ck_assert_int_le(ran += fired[i], 1);
	}
	close_stage();
}
END_TEST

/* --- misuse that debug builds detect ----------------------------------------- */

/* SHOWS: CINV-31 */
START_TEST(a_pending_callout_made_anew)
{
	stage_with(0);
	callout_reset(c, 1000, count, NULL);
	expect_panic("callout_init", "is pending", NULL);
	callout_init(c, 1);
}
END_TEST

START_TEST(a_waiting_callout_made_anew)
{
	stage_with(1);
	held_at(KEEL_AT_LOCKWAIT, count, NULL);
	expect_panic("callout_init", "about to be executed", NULL);
	callout_init(c, 1);
}
END_TEST

/* One that runs may be: its handler may free it, and whoever gets the memory
 * then may have a callout there. */
static void make_anew(void *arg)
{
	enter(arg);
	memset(c, 0, sizeof(*c));
	callout_init(c, 1);
	ck_assert_int_eq(arm_now(c, count, (void *)2, 0), 0);
	atomic_fetch_sub(&inside, 1);
}

START_TEST(a_new_callout_where_the_running_one_was)
{
	stage_with(0);
	arm_now(c, make_anew, (void *)1, 0);
	whole_pass(CPU0);
	ck_assert_int_eq(runs, 1);
	settle();
	ck_assert_int_eq(runs, 2);
	ck_assert_int_eq(last_arg, 2);
	close_stage();
}
END_TEST

/* SHOWS: CINV-31 */
START_TEST(a_moved_callout)
{
	struct callout *moved = mapped();

	stage_with(0);
	callout_reset(c, 1000, count, NULL);
	memcpy(moved, c, sizeof(*moved));
	expect_panic("callout_stop", "was moved", NULL);
	callout_stop(moved);
}
END_TEST

/* SHOWS: CINV-31 */
START_TEST(a_pending_callout_in_freed_memory)
{
	stage_with(0);
	arm_now(c, count, NULL, 0);
	memset(c, 0xa5, sizeof(*c));
	expect_panic("softclock", "was freed or overwritten", NULL);
	whole_pass(CPU0);
}
END_TEST

/* M-29: the handler destroys its lock and scribbles over its callout,
 * without having said that it returns unlocked. */
static void destroy_all(void *arg)
{
	(void)arg;
	pthread_mutex_destroy(&lock);
	memset(c, 0x5a, sizeof(*c));
	memset(&lock, 0x5a, sizeof(lock));
}

START_TEST(M_29_the_handler_destroys_its_lock)
{
	stage_with(1);
	arm_now(c, destroy_all, NULL, 0);
	expect_panic("pthread_mutex_unlock", "last on callout cpu 0", NULL);
	whole_pass(CPU0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("museum");
	TCase *tc = tcase_create("races"), *bad = tcase_create("misuse");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, M_1_stop_of_the_dequeued);
	tcase_add_test(tc, M_1_stop_under_the_lock);
	tcase_add_test(tc, M_2_reset_of_the_dequeued);
	tcase_add_test(tc, M_2_reset_under_the_lock);
	tcase_add_test(tc, M_3_no_run_after_a_stop_under_the_lock);
	tcase_add_test(tc, M_5_drain_during_hand_over);
	tcase_add_test(tc, M_5_drain_during_a_move_from_outside);
	tcase_add_test(tc, M_6_never_on_two_cpus);
	tcase_add_test(tc, M_7_a_late_sleeper_is_not_forgotten);
	tcase_add_test(tc, M_7_all_sleepers_wake);
	tcase_add_test(tc, M_8_stop_drops_the_deferral);
	tcase_add_loop_test(tc, M_9_nothing_left_of_a_stopped_deferral, 0, 2);
	tcase_add_test(tc, M_10_pending_while_deferred);
	tcase_add_test(tc, M_11_resets_to_and_fro_while_dequeued);
	tcase_add_test(tc, M_14_schedule_during_hand_over);
	tcase_add_loop_test(tc, M_17_stop_tells_whether_the_wake_up_comes, 0, 4);
	tcase_add_test(tc, M_17_stop_tells_that_none_comes);
	tcase_add_loop_test(tc, M_18_drain_of_pending_and_running, 0, 2);
	tcase_add_test(tc, M_21_active_ends_with_the_drains_begin);
	tcase_add_test(tc, M_23_stop_of_the_cancelled);
	tcase_add_test(tc, M_24_direct_and_not_in_turn);
	tcase_add_loop_test(tc, M_34_one_run_ends_a_drain, 0, 2);
	tcase_add_loop_test(tc, E_1_removed_first_then_waited_for, 0, 2);
	tcase_add_test(tc, E_2_async_drain_under_the_handlers_lock);
	tcase_add_test(tc, E_4_the_drain_function_frees);
	tcase_add_test(tc, N_2_the_handler_frees_while_a_drain_waits);
	tcase_add_test(tc, N_3_stop_never_waits);
	tcase_add_test(tc, D_1_drain_against_endless_resets);
	tcase_add_loop_test(tc, L_4_after_shutdown_nothing_is_armed, 0, 2);
	tcase_add_test(tc, P_1_resets_of_what_waits_for_its_turn);
	tcase_add_test(tc, a_new_callout_where_the_running_one_was);
	suite_add_tcase(s, tc);
	tcase_add_exit_test(bad, a_pending_callout_made_anew, AS_EXPECTED);
	tcase_add_exit_test(bad, a_waiting_callout_made_anew, AS_EXPECTED);
	tcase_add_exit_test(bad, a_moved_callout, AS_EXPECTED);
	tcase_add_exit_test(bad, a_pending_callout_in_freed_memory, AS_EXPECTED);
	tcase_add_exit_test(bad, M_29_the_handler_destroys_its_lock, AS_EXPECTED);
	suite_add_tcase(s, bad);
	return run_suite(s);
}
