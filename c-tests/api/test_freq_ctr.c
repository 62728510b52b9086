/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/freq_ctr.h: rates over a sliding window, sliding averages. Dates come
 * from the clock here; the exact figures at every date are tested beside the
 * code. */

#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <keel/keel.h>

#include "suite.h"

static void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 64;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

static void nap_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* On thread 0, whose date stands still until its next turn. */
static void enter(void)
{
	start(1);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static void leave(void)
{
	keel_thread_leave();
	keel_deinit();
}

/* A counter whose period began <ago> ms ago. */
static struct freq_ctr since(unsigned int ago, unsigned int curr, unsigned int prev)
{
	struct freq_ctr c = { keel_now_ms() - ago, curr, prev };

	return c;
}

/* The date is even: whatever is subtracted from it then is no lock. */
static void await_even_date(void)
{
	do {
		nap_ms(1);
		keel_update_clock();
	} while (keel_now_ms() & 1);
}

/* SHOWS: INV-123, INV-125, INV-126 */
START_TEST(worked_values)
{
	struct freq_ctr c;

	enter();
	await_even_date();
	c = since(250, 30, 100);
	ck_assert(freq_ctr_total(&c, 1000, -1) == 105000);
	ck_assert(freq_ctr_total(&c, 1000, 0) == 105000);
	ck_assert(freq_ctr_total(&c, 1000, 7) == 112000);
	ck_assert(freq_ctr_total_estimate(&c, 1000, -1) == 105000);
	ck_assert_uint_eq(read_freq_ctr(&c), 105);
	ck_assert_uint_eq(read_freq_ctr_period(&c, 1000), 105);
	ck_assert_double_eq(read_freq_ctr_flt(&c), 105.0);
	ck_assert_double_eq(read_freq_ctr_period_flt(&c, 1000), 105.0);
	ck_assert_uint_eq(freq_ctr_remain(&c, 120, 0), 15);
	ck_assert_uint_eq(freq_ctr_remain(&c, 120, 5), 10);
	ck_assert_uint_eq(freq_ctr_remain_period(&c, 1000, 100, 0), 0);
	ck_assert_uint_eq(next_event_delay(&c, 100, 0), 50);
	ck_assert_uint_eq(next_event_delay_period(&c, 1000, 105, 0), 1);
	ck_assert_uint_eq(next_event_delay_period(&c, 1000, 106, 0), 0);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 100), 5);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 200), -20);
	c = since(334, 1, 1);
	ck_assert_double_eq_tol(read_freq_ctr_flt(&c), 1.666, 1e-9);
	c = since(1000, 30, 100);
	ck_assert_uint_eq(read_freq_ctr(&c), 30);
	c = since(1500, 30, 100);
	ck_assert_uint_eq(read_freq_ctr(&c), 15);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 200), 0);
	c = since(2002, 30, 100);
	ck_assert_uint_eq(read_freq_ctr(&c), 0);
	/* what was read is as it was */
	ck_assert_uint_eq(c.curr_ctr, 30);
	ck_assert_uint_eq(c.prev_ctr, 100);
	leave();
}
END_TEST

START_TEST(events_go_through_their_periods)
{
	struct freq_ctr c = { 0, 0, 0 };
	unsigned int begin;

	enter();
	/* ticks may be anywhere: the zeroed start is long ago, or to come */
	ck_assert_uint_eq(update_freq_ctr(&c, 3), 3);
	begin = c.curr_tick;
	ck_assert_uint_eq(begin, keel_now_ms() & ~1u);
	ck_assert_uint_eq(update_freq_ctr(&c, 4), 7);
	ck_assert_uint_eq(update_freq_ctr_period(&c, 1000, 0), 7);
	ck_assert_uint_eq(read_freq_ctr(&c), 7);
	/* an edge, and the place of one */
	c.curr_tick -= 1000;
	ck_assert_uint_eq(update_freq_ctr(&c, 2), 2);
	ck_assert_uint_eq(c.curr_tick, begin);
	ck_assert_uint_eq(c.prev_ctr, 7);
	/* so long idle that nothing is left */
	c.curr_tick -= 2000;
	ck_assert_uint_eq(update_freq_ctr(&c, 1), 1);
	ck_assert_uint_eq(c.prev_ctr, 0);
	ck_assert_uint_eq(read_freq_ctr(&c), 1);
	leave();
}
END_TEST

/* Without a registered thread, without keel_init(): the clock is read. */
START_TEST(any_thread_reads_the_clock)
{
	struct freq_ctr c = { 0, 0, 0 };

	for (int round = 0; round < 2; round++) {
		if (round)
			start(1);
		memset(&c, 0, sizeof(c));
		ck_assert_uint_eq(update_freq_ctr_period(&c, 40, 8), 8);
		ck_assert_uint_eq(c.curr_tick & 1, 0);
		nap_ms(81);
		ck_assert_uint_eq(read_freq_ctr_period(&c, 40), 0);
		ck_assert_uint_eq(update_freq_ctr_period(&c, 40, 1), 1);
		if (round)
			keel_deinit();
	}
}
END_TEST

/* The registered thread's own date stands still; the process's does not. */
static void *counts_once(void *arg)
{
	update_freq_ctr_period(arg, 20, 1);
	return NULL;
}

START_TEST(stk_47_whoever_is_behind_does_not_rotate)
{
	struct freq_ctr c = { 0, 0, 0 };
	pthread_t other;
	unsigned int edge, late;

	enter();
	late = keel_now_ms();
	ck_assert_uint_eq(update_freq_ctr_period(&c, 20, 5), 5);
	nap_ms(50);
	ck_assert_int_eq(pthread_create(&other, NULL, counts_once, &c), 0);
	pthread_join(other, NULL);
	edge = c.curr_tick;
	ck_assert_uint_eq(c.curr_ctr, 1);
	ck_assert_int_gt((int)(edge - late), 20);
	ck_assert_uint_eq(keel_now_ms(), late);
	/* its date is before the edge; no time has passed for the process */
	ck_assert_uint_eq(update_freq_ctr_period(&c, 20, 1), 2);
	ck_assert_uint_eq(c.curr_tick, edge);
	ck_assert_uint_eq(read_freq_ctr_period(&c, 20), 2);
	leave();
}
END_TEST

/* Threads with dates of their own, some stale, count and read around many
 * edges. The start only advances, and whole periods hold every event. */
#define COUNTERS 4
#define ROUNDS 30000

static struct {
	struct freq_ctr edges, all;
	atomic_int go;
	atomic_uint events;
} shared;

static void *counts(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;
	unsigned int seen = 0, n;

	/* the last one is not registered */
	if (id < COUNTERS - 1)
		ck_assert_int_eq(keel_thread_enter(id), 0);
	while (!atomic_load(&shared.go))
		;
	for (n = 0; n < ROUNDS; n++) {
		unsigned int tick;

		if (n % (16u << id) == 0)
			keel_update_clock();
		update_freq_ctr_period(&shared.edges, 2, 1);
		update_freq_ctr_period(&shared.all, 1u << 30, 1);
		tick = __atomic_load_n(&shared.edges.curr_tick, __ATOMIC_ACQUIRE) & ~1u;
		ck_assert_msg(!n || (int)(tick - seen) >= 0, "from %u back to %u", seen, tick);
		seen = tick;
		if (n % 64 == 0)
			ck_assert_uint_le(read_freq_ctr_period(&shared.edges, 2), COUNTERS * ROUNDS);
	}
	atomic_fetch_add(&shared.events, n);
	if (id < COUNTERS - 1)
		keel_thread_leave();
	return NULL;
}

/* SHOWS: INV-121 */
START_TEST(stk_47_threads_lose_nothing)
{
	pthread_t t[COUNTERS];

	start(COUNTERS - 1);
	shared.all.curr_tick = keel_now_ms() & ~1u;
	for (size_t i = 0; i < COUNTERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, counts, (void *)i), 0);
	atomic_store(&shared.go, 1);
	for (int i = 0; i < COUNTERS; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(shared.all.curr_ctr, atomic_load(&shared.events));
	ck_assert_uint_eq(shared.edges.curr_tick & 1, 0);
	ck_assert_int_ge((int)(keel_now_ms() - shared.edges.curr_tick), 0);
	keel_deinit();
}
END_TEST

/* One edge, and all at it at once: both periods together hold every event. */
static void *meets_at_the_edge(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	if (id)
		ck_assert_int_eq(keel_thread_enter(id - 1), 0);
	atomic_fetch_add(&shared.go, 1);
	for (unsigned int n = 0; atomic_load(&shared.go) < 100; n++) {
		if (n % 8 == 0)
			keel_update_clock();
		update_freq_ctr_period(&shared.all, 5000, 1);
		atomic_fetch_add_explicit(&shared.events, 1, memory_order_relaxed);
	}
	if (id)
		keel_thread_leave();
	return NULL;
}

/* SHOWS: INV-121 */
START_TEST(stk_47_sum_matches_at_an_edge)
{
	pthread_t t[3];
	unsigned int edge;

	start(2);
	memset(&shared.all, 0, sizeof(shared.all));
	/* 100 ms from now */
	edge = (keel_now_ms() + 100) & ~1u;
	shared.all.curr_tick = edge - 5000;
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, meets_at_the_edge, (void *)i), 0);
	while (atomic_load(&shared.go) < 3 || (int)(keel_now_ms() - edge) < 50)
		nap_ms(10);
	atomic_store(&shared.go, 100);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(shared.all.curr_tick, edge);
	ck_assert_uint_gt(shared.all.prev_ctr, 0);
	ck_assert_uint_gt(shared.all.curr_ctr, 0);
	ck_assert_uint_eq(shared.all.curr_ctr + shared.all.prev_ctr, atomic_load(&shared.events));
	keel_deinit();
}
END_TEST

/* A date with bit 0 set, written by the program, is no lock for ever.
 * SHOWS: INV-120, INV-122 */
START_TEST(stk_46_odd_dates)
{
	struct freq_ctr c;

	enter();
	await_even_date();
	c = since(251, 30, 100);
	ck_assert_uint_eq(update_freq_ctr(&c, 1), 31);
	ck_assert_uint_eq(read_freq_ctr(&c), (100 * 748 + 31 * 1000) / 1000);
	ck_assert_uint_eq(c.curr_tick & 1, 0);
	c = since(1201, 30, 100);
	ck_assert_uint_eq(update_freq_ctr(&c, 1), 1);
	ck_assert_uint_eq(c.prev_ctr, 30);
	ck_assert_uint_eq(c.curr_tick & 1, 0);
	/* never waits, mends nothing */
	c = since(251, 30, 100);
	ck_assert(freq_ctr_total_estimate(&c, 1000, 0) == 100 * 748 + 30 * 1000);
	ck_assert_uint_eq(c.curr_tick & 1, 1);
	/* a period that begins at an odd date, and an odd period */
	for (int i = 0; i < 4; i++) {
		nap_ms(1);
		keel_update_clock();
		memset(&c, 0, sizeof(c));
		ck_assert_uint_eq(update_freq_ctr_period(&c, 3, 1), 1);
		ck_assert_uint_eq(c.curr_tick, keel_now_ms() & ~1u);
	}
	leave();
}
END_TEST

/* SHOWS: INV-124 */
START_TEST(stk_52_53_overshoot)
{
	struct freq_ctr c = { 0, 0, 0 };

	enter();
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 10), 0);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, UINT_MAX), 0);
	await_even_date();
	c = since(1u << 30, 50, 9);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 10), 0);
	c = since(998, 1000, 9);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, 3000000000u), INT_MIN);
	c = since(2, 5000000, 9);
	ck_assert_int_eq(freq_ctr_overshoot_period(&c, 1000, UINT_MAX), 5000000 - 8589934);
	leave();
}
END_TEST

START_TEST(huge_numbers)
{
	struct freq_ctr c = { 0, 0, 0 };

	enter();
	ck_assert_uint_eq(update_freq_ctr(&c, UINT_MAX), UINT_MAX);
	ck_assert_uint_eq(read_freq_ctr(&c), UINT_MAX);
	ck_assert_uint_eq(freq_ctr_remain(&c, UINT_MAX, 0), 0);
	ck_assert_uint_eq(next_event_delay(&c, 1, 0), UINT_MAX);
	await_even_date();
	c = since(0, UINT_MAX, UINT_MAX);
	ck_assert(freq_ctr_total(&c, 1000, INT_MAX) == 2000ull * UINT_MAX + 1000ull * INT_MAX);
	ck_assert_uint_eq(read_freq_ctr(&c), UINT_MAX);
	ck_assert_double_eq(read_freq_ctr_flt(&c), 2.0 * UINT_MAX);
	/* more pending events than an int holds are not a negative number */
	c = since(0, 0, 0);
	ck_assert_uint_eq(freq_ctr_remain(&c, UINT_MAX, 3000000000u), UINT_MAX - 3000000000u);
	/* a period of none counts as the shortest */
	ck_assert_uint_eq(read_freq_ctr_period(&c, 0), 0);
	update_freq_ctr_period(&c, 0, 1);
	leave();
}
END_TEST

/* SHOWS: INV-126 */
START_TEST(stk_51_delays)
{
	struct freq_ctr c;
	unsigned int last = 0;

	enter();
	await_even_date();
	c = since(500, 10, 0);
	for (unsigned int pend = 1; pend <= 100; pend++) {
		unsigned int delay = next_event_delay(&c, 10, pend);

		ck_assert_uint_eq(delay, pend * 100);
		ck_assert_uint_gt(delay, last);
		last = delay;
	}
	leave();
}
END_TEST

/* SHOWS: INV-125 */
START_TEST(sliding_averages)
{
	unsigned int sum = 0;

	ck_assert_uint_eq(swrate_add_scaled(&sum, 1024, 100, 256), 25600);
	ck_assert_uint_eq(swrate_avg(sum, 1024), 25);
	ck_assert_uint_eq(swrate_add(&sum, 1024, 100), 25600 - 25 + 100);
	ck_assert_uint_eq(sum, 25675);
	ck_assert_uint_eq(swrate_avg(sum, 1024), 26);
	ck_assert_uint_eq(swrate_add_dynamic(&sum, 0, 5), 25680);
	ck_assert_uint_eq(swrate_add_dynamic(&sum, 10, 5), 25680 - 2568 + 5);
	ck_assert_uint_eq(swrate_add_opportunistic(&sum, 1, 9), 9);
	ck_assert_uint_eq(swrate_add_scaled_opportunistic(&sum, 9, 1, 2), 9);
	ck_assert_uint_eq(sum, 9);
	/* POOL-13: from near nothing, not below it */
	sum = 1;
	ck_assert_uint_eq(swrate_add_scaled(&sum, 1024, 0, 5000), 0);
	ck_assert_uint_eq(swrate_add(&sum, 1024, 0), 0);
	/* STK-54 */
	for (int i = 0; i < 20 * 512; i++)
		swrate_add(&sum, 512, 1000000);
	ck_assert_uint_eq(swrate_avg(sum, 512), 1000000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("freq_ctr");
	TCase *rates = tcase_create("rates");
	TCase *threads = tcase_create("threads");

	tcase_add_test(rates, worked_values);
	tcase_add_test(rates, events_go_through_their_periods);
	tcase_add_test(rates, any_thread_reads_the_clock);
	tcase_add_test(rates, stk_46_odd_dates);
	tcase_add_test(rates, stk_52_53_overshoot);
	tcase_add_test(rates, huge_numbers);
	tcase_add_test(rates, stk_51_delays);
	tcase_add_test(rates, sliding_averages);
	suite_add_tcase(suite, rates);
	tcase_set_timeout(threads, 30);
	tcase_add_test(threads, stk_47_whoever_is_behind_does_not_rotate);
	tcase_add_test(threads, stk_47_threads_lose_nothing);
	tcase_add_test(threads, stk_47_sum_matches_at_an_edge);
	suite_add_tcase(suite, threads);
	return run_suite(suite);
}
