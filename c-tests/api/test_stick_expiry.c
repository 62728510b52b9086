/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: dates, who moves them, and who leaves when. */

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "stick.h"
#include "suite.h"

/* How often a table's expiry task has run. */
static unsigned int wake_ups(const struct stktable *t)
{
	return __atomic_load_n(&t->exp_task->calls, __ATOMIC_RELAXED);
}

static int due(const struct stksess *ts)
{
	return (int)__atomic_load_n(&ts->expire, __ATOMIC_RELAXED);
}

/* --- who leaves when --------------------------------------------------------------- */

START_TEST(entries_leave_by_themselves)
{
	struct stktable t;

	start(1);
	integers(&t, 1000, 20);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 500; i++)
			put(&t, NUM(i));
		ck_assert_uint_eq(keel_stktable_current(&t), 500);
		shrinks(&t, 0);
		for (int i = 0; i < 500; i++)
			ck_assert_int_eq(has(&t, NUM(i)), 0);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(nobody_leaves_early)
{
	enum { N = 400 };
	static int dates[N];
	struct stktable t;
	int left = N;
	uint64_t limit;

	start(1);
	integers(&t, N, 60000);
	for (int i = 0; i < N; i++) {
		struct stksess *ts = get(&t, NUM(i));

		dates[i] = date(1 + i * 37 % 300);
		stktable_touch_with_exp(&t, ts, 1, dates[i]);
		ck_assert_int_eq(due(ts), dates[i]);
	}
	limit = keel_now_ns() + WATCHDOG_NS;
	while (left && keel_now_ns() < limit) {
		keel_poll_once(5);
		left = 0;
		for (int i = 0; i < N; i++) {
			int there = has(&t, NUM(i));

			left += there;
			if (!there) {
				keel_update_clock();
				ck_assert_int_ne(tick_is_expired(dates[i], (int)keel_now_ms()), 0);
			}
		}
	}
	ck_assert_int_eq(left, 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-29: where nothing expires, nothing does, whoever looks at it.
 * SHOWS: INV-109 */
START_TEST(stk_29_never)
{
	struct stktable t;
	int null = open("/dev/null", O_WRONLY);

	start(1);
	integers(&t, 100, 0);
	ck_assert_ptr_null(t.exp_task);
	for (int i = 0; i < 50; i++)
		put(&t, NUM(i));
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 50; i++) {
			struct stksess *ts = stktable_lookup_key(&t, NUM(i));

			ck_assert_ptr_nonnull(ts);
			stktable_requeue_exp(&t, ts);
			switch (i % 5) {
			case 0:
				stktable_touch_local(&t, ts, 1);
				break;
			case 1:
				stktable_touch_remote(&t, ts, 1);
				break;
			case 2:
				stktable_touch_with_exp(&t, ts, 1, date(1));
				break;
			case 3:
				stksess_kill_if_expired(&t, ts, 1);
				break;
			default:
				stktable_release(&t, ts);
			}
		}
		ck_assert_int_gt(keel_dump_stktable(&t, null, NULL), 0);
		keel_poll_once(3);
	}
	ck_assert_uint_eq(keel_stktable_current(&t), 50);
	close(null);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-20: more at once than one run of the task deals with.
 * SHOWS: INV-96, INV-100 */
START_TEST(stk_20_a_crowd_expires)
{
	enum { N = 20000 };
	struct stktable t;

	start(1);
	integers(&t, N, 10);
	for (int round = 0; round < 2; round++) {
		unsigned int before = wake_ups(&t);

		for (int i = 0; i < N; i++)
			put(&t, NUM(i));
		ck_assert_uint_eq(keel_stktable_current(&t), N);
		idle(30);
		shrinks(&t, 0);
		for (int i = 0; i < N; i++)
			ck_assert_int_eq(has(&t, NUM(i)), 0);
		/* bounded work: it took several */
		ck_assert_uint_ge(wake_ups(&t) - before, 3);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-4: the last touch, then silence: everybody leaves still.
 * SHOWS: INV-97 */
START_TEST(stk_4_silence_after_creation)
{
	struct stktable t;

	start(1);
	integers(&t, 1000, 1);
	for (int round = 0; round < 150; round++) {
		for (int i = 0; i <= round % 5; i++)
			put(&t, NUM(round * 10 + i));
		/* close to where the task is about to run, or runs */
		if (round % 3)
			keel_poll_once(round % 2);
		stktable_update_key(&t, NUM(round * 10));
		shrinks(&t, 0);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(an_earlier_date_counts)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, 100, 3600000);
	for (int i = 0; i < 10; i++)
		put(&t, NUM(i));
	turns(5);
	ts = get(&t, NUM(3));
	stktable_touch_with_exp(&t, ts, 1, date(15));
	shrinks(&t, 9);
	ck_assert_int_eq(has(&t, NUM(3)), 0);
	ts = get(&t, NUM(4));
	stktable_touch_with_exp(&t, ts, 0, date(15));
	stktable_release(&t, ts);
	shrinks(&t, 8);
	ck_assert_int_eq(has(&t, NUM(4)), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Two tables mind their own dates. */
START_TEST(tables_do_not_share_dates)
{
	struct stktable quick, slow;

	start(1);
	integers(&quick, 100, 10);
	integers(&slow, 100, 3600000);
	for (int i = 0; i < 100; i++) {
		put(&quick, NUM(i));
		put(&slow, NUM(i));
	}
	shrinks(&quick, 0);
	ck_assert_uint_eq(keel_stktable_current(&slow), 100);
	stktable_deinit(&quick);
	pass(10);
	ck_assert_uint_eq(keel_stktable_current(&slow), 100);
	stktable_deinit(&slow);
	keel_deinit();
}
END_TEST

/* --- who moves dates ----------------------------------------------------------------- */

START_TEST(each_touch_and_its_date)
{
	struct stktable t;
	struct stksess *ts;
	int before, now;

	start(1);
	integers(&t, 10, 60000);
	ts = get(&t, NUM(1));
	before = due(ts);
	idle(5);
	/* a remote touch keeps it */
	stktable_touch_remote(&t, ts, 0);
	ck_assert_int_eq(due(ts), before);
	/* so do looking, requeueing, releasing */
	stktable_requeue_exp(&t, ts);
	get(&t, NUM(1));
	stktable_release(&t, ts);
	ck_assert_int_eq(due(ts), before);
	/* a local touch moves it to a whole life from now */
	now = date(60000);
	stktable_touch_local(&t, ts, 0);
	ck_assert_int_eq(due(ts), now);
	/* an absolute date is taken as it is, whether later or earlier */
	stktable_touch_with_exp(&t, ts, 0, date(500000));
	ck_assert_int_eq(due(ts), date(500000));
	stktable_touch_with_exp(&t, ts, 0, date(7));
	ck_assert_int_eq(due(ts), date(7));
	ck_assert_int_eq(tick_remain((int)keel_now_ms(), due(ts)), 7);
	ck_assert_uint_eq(refs(ts), 1);
	stktable_touch_local(&t, ts, 1);
	ck_assert_uint_eq(refs(ts), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(touching_keeps_alive)
{
	struct stktable t;
	uint64_t end;

	start(1);
	integers(&t, 100, 400);
	for (int i = 0; i < 10; i++)
		put(&t, NUM(i));
	end = keel_now_ns() + 700000000u;
	while (keel_now_ns() < end) {
		for (int i = 0; i < 5; i++)
			stktable_touch_local(&t, get(&t, NUM(i)), 1);
		keel_poll_once(2);
	}
	ck_assert_uint_eq(keel_stktable_current(&t), 5);
	for (int i = 0; i < 5; i++)
		ck_assert_int_ne(has(&t, NUM(i)), 0);
	shrinks(&t, 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Dates written by hand: later ones need no call, earlier ones a requeue. */
START_TEST(dates_written_by_hand)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, 10, 100);
	ts = get(&t, NUM(1));
	__atomic_store_n(&ts->expire, (unsigned int)date(3600000), __ATOMIC_RELAXED);
	stktable_release(&t, ts);
	put(&t, NUM(2));
	shrinks(&t, 1);
	pass(20);
	ts = stktable_lookup_key(&t, NUM(1));
	ck_assert_ptr_nonnull(ts);
	__atomic_store_n(&ts->expire, (unsigned int)date(10), __ATOMIC_RELAXED);
	stktable_requeue_exp(&t, ts);
	stktable_release(&t, ts);
	shrinks(&t, 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- entries that are held ------------------------------------------------------------ */

/* STK-21: held beyond its date, then released: it leaves.
 * SHOWS: INV-96 */
START_TEST(stk_21_held_across_its_date)
{
	struct stktable t;
	struct stksess *ts[300];

	start(1);
	integers(&t, 1000, 20);
	for (size_t i = 0; i < ARRAY(ts); i++)
		ts[i] = get(&t, NUM(i));
	pass(80);
	ck_assert_uint_eq(keel_stktable_current(&t), ARRAY(ts));
	for (size_t i = 0; i < ARRAY(ts); i++) {
		ck_assert_uint_eq(refs(ts[i]), 1);
		ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(i)), ts[i]);
		stktable_release(&t, ts[i]);
	}
	/* some now, and nobody touches the table any more */
	for (size_t i = 0; i < ARRAY(ts) - 10; i++)
		stktable_release(&t, ts[i]);
	shrinks(&t, 10);
	for (size_t i = ARRAY(ts) - 10; i < ARRAY(ts); i++)
		stktable_release(&t, ts[i]);
	shrinks(&t, 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-22: ten thousand expired entries that cannot leave yet do not keep the
 * task running: fewer runs than there are turns of a millisecond.
 * SHOWS: INV-101 */
START_TEST(stk_22_held_entries_are_waited_for)
{
	enum { N = 10000 };
	static struct stksess *held[N];
	struct stktable t;
	unsigned int before;
	uint64_t begin, ms;

	start(1);
	integers(&t, N, 50);
	for (int i = 0; i < N; i++)
		held[i] = get(&t, NUM(i));
	pass(120);
	ck_assert_uint_eq(keel_stktable_current(&t), N);
	before = wake_ups(&t);
	begin = keel_now_ns();
	pass(300);
	ms = (keel_now_ns() - begin) / 1000000;
	ck_assert_uint_eq(keel_stktable_current(&t), N);
	/* once a life for each batch of a hundred, and then some */
	ck_assert_uint_le(wake_ups(&t) - before, (ms / 50 + 2) * (N / 100 + 10));
	for (int i = 0; i < N; i++)
		stktable_release(&t, held[i]);
	shrinks(&t, 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- at rest ----------------------------------------------------------------------------- */

/* STK-23, STK-24: a table that is empty, or whose entries have a long time to
 * live, costs nothing.
 * SHOWS: INV-97, INV-101 */
START_TEST(stk_23_and_stk_24_nothing_to_do_nothing_done)
{
	struct stktable t;
	struct stksess *ts;
	unsigned int before;

	start(1);
	integers(&t, 1000, 10);
	for (int i = 0; i < 500; i++)
		put(&t, NUM(i));
	shrinks(&t, 0);
	pass(30);
	before = wake_ups(&t);
	pass(150);
	ck_assert_uint_le(wake_ups(&t) - before, 1);
	stktable_deinit(&t);
	/* the task has already been due once when the others are there for long */
	integers(&t, 1000, 3600000);
	ts = get(&t, NUM(0));
	stktable_touch_with_exp(&t, ts, 1, date(5));
	for (int i = 1; i < 500; i++)
		put(&t, NUM(i));
	shrinks(&t, 499);
	pass(10);
	before = wake_ups(&t);
	pass(150);
	ck_assert_uint_le(wake_ups(&t) - before, 1);
	/* a touched one, which moves its date away */
	stktable_touch_local(&t, get(&t, NUM(7)), 1);
	before = wake_ups(&t);
	pass(150);
	ck_assert_uint_le(wake_ups(&t) - before, 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* A touched table wakes up once per life of its entries, not once per touch. */
START_TEST(touches_do_not_wake_the_task)
{
	struct stktable t;
	unsigned int before;
	uint64_t end;

	start(1);
	integers(&t, 100, 3600000);
	put(&t, NUM(1));
	turns(5);
	before = wake_ups(&t);
	end = keel_now_ns() + 200000000u;
	while (keel_now_ns() < end) {
		for (int i = 0; i < 100; i++)
			stktable_update_key(&t, NUM(i % 3));
		keel_poll_once(0);
	}
	ck_assert_uint_le(wake_ups(&t) - before, 3);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- the wrap ------------------------------------------------------------------------------ */

/* STK-25: ticks wrap five seconds after keel_init(). Dates on both sides of it
 * come in their order, and not one per wake-up.
 * SHOWS: INV-99 */
START_TEST(stk_25_dates_cross_the_wrap)
{
	enum { N = 3000 };
	static int dates[N];
	struct stktable t;
	unsigned int begin, before;
	int latest = 0, left = N;
	uint64_t limit;

	start(1);
	begin = keel_now_ms();
	integers(&t, N, 60000);
	for (int i = 0; i < N; i++) {
		struct stksess *ts = get(&t, NUM(i * 7919 % N));

		dates[i * 7919 % N] = date(4600 + i * 1701 % 800);
		stktable_touch_with_exp(&t, ts, 1, dates[i * 7919 % N]);
	}
	before = wake_ups(&t);
	limit = keel_now_ns() + WATCHDOG_NS;
	while (left && keel_now_ns() < limit) {
		keel_poll_once(100);
		left = 0;
		for (int i = 0; i < N; i++) {
			int late;

			if (!dates[i])
				continue;
			left++;
			if (has(&t, NUM(i)))
				continue;
			keel_update_clock();
			late = (int)(keel_now_ms() - (unsigned int)dates[i]);
			ck_assert_int_ge(late, 0);
			if (late > latest)
				latest = late;
			dates[i] = 0;
		}
	}
	ck_assert_int_eq(left, 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	ck_assert_msg(keel_now_ms() < begin, "the ticks have not wrapped");
	/* no test asserts a time, but an entry lost in the wrap leaves days late */
	ck_assert_int_lt(latest, 5000);
	before = wake_ups(&t);
	pass(50);
	ck_assert_uint_le(wake_ups(&t) - before, 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-26: what is due before the wrap is older than what is due behind it, at
 * whichever half of the circle its number lies. Where nothing expires, dates
 * are last touches, and dates seconds apart in the future may change places.
 * SHOWS: INV-99 */
START_TEST(stk_26_the_oldest_before_the_wrap)
{
	enum { N = 40 };
	struct stktable t;

	start(1);
	for (int expire = 0; expire <= 3600000; expire += 3600000) {
		integers(&t, N, expire);
		for (int i = 0; i < N; i++) {
			/* half of them behind the wrap, one far beyond */
			int n = i * 11 % N;
			int when = n == N - 1 ? date(2000000000) : date(n * 250);

			ck_assert_int_eq(when < 0, n < 20);
			stktable_touch_with_exp(&t, get(&t, NUM(n)), 1, when);
		}
		for (int gone = 1; gone < N; gone++) {
			evict_one(&t);
			for (int n = 0; n < N; n++)
				if (expire || gone == N / 2 || gone == N - 1)
					ck_assert_int_eq(has(&t, NUM(n)), n >= gone);
		}
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* --- several threads ------------------------------------------------------------------------- */

static struct stktable shared;
static atomic_int over;

static void *serves(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(size_t)arg), 0);
	while (!atomic_load(&over))
		keel_poll_once(2);
	keel_thread_leave();
	return NULL;
}

/* Not registered: it only creates. */
static void *creates(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; !atomic_load(&over); i++) {
		struct stksess *ts = stktable_get_entry(&shared, NUM(i % 64));

		ck_assert_ptr_nonnull(ts);
		if (i % 2)
			stktable_touch_local(&shared, ts, 1);
		else
			stktable_release(&shared, ts);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* STK-1, STK-2, STK-3: creators and the expiry task meet at the table's date,
 * a millisecond apart. Nothing aborts, and the table empties when they stop.
 * SHOWS: INV-98 */
START_TEST(stk_1_and_stk_2_creators_against_the_task)
{
	pthread_t th[4];

	start(2);
	integers(&shared, 10000, 1);
	for (int round = 0; round < 10; round++) {
		atomic_store(&over, 0);
		pthread_create(&th[0], NULL, serves, (void *)1);
		for (int i = 1; i < 4; i++)
			pthread_create(&th[i], NULL, creates, NULL);
		pass(30);
		atomic_store(&over, 1);
		for (int i = 0; i < 4; i++)
			pthread_join(th[i], NULL);
		shrinks(&shared, 0);
	}
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

static void *enters_creates_leaves(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	for (unsigned int i = 0; i < 100; i++)
		put(&shared, NUM((size_t)arg << 16 | i));
	keel_poll_once(0);
	keel_thread_leave();
	return NULL;
}

/* The date outlives the thread that set it. */
START_TEST(any_thread_sees_to_it)
{
	pthread_t th;

	start(2);
	integers(&shared, 1000, 20);
	for (size_t round = 0; round < 5; round++) {
		pthread_create(&th, NULL, enters_creates_leaves, (void *)round);
		pthread_join(th, NULL);
		shrinks(&shared, 0);
	}
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_expiry");
	TCase *tc = tcase_create("leaving");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, entries_leave_by_themselves);
	tcase_add_test(tc, nobody_leaves_early);
	tcase_add_test(tc, stk_29_never);
	tcase_add_test(tc, stk_20_a_crowd_expires);
	tcase_add_test(tc, stk_4_silence_after_creation);
	tcase_add_test(tc, an_earlier_date_counts);
	tcase_add_test(tc, tables_do_not_share_dates);
	suite_add_tcase(s, tc);
	tc = tcase_create("dates");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, each_touch_and_its_date);
	tcase_add_test(tc, touching_keeps_alive);
	tcase_add_test(tc, dates_written_by_hand);
	suite_add_tcase(s, tc);
	tc = tcase_create("held");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, stk_21_held_across_its_date);
	tcase_add_test(tc, stk_22_held_entries_are_waited_for);
	suite_add_tcase(s, tc);
	tc = tcase_create("rest");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, stk_23_and_stk_24_nothing_to_do_nothing_done);
	tcase_add_test(tc, touches_do_not_wake_the_task);
	suite_add_tcase(s, tc);
	tc = tcase_create("wrap");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, stk_25_dates_cross_the_wrap);
	tcase_add_test(tc, stk_26_the_oldest_before_the_wrap);
	suite_add_tcase(s, tc);
	tc = tcase_create("threads");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, stk_1_and_stk_2_creators_against_the_task);
	tcase_add_test(tc, any_thread_sees_to_it);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
