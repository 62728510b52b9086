/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: dates, precision, and who is due when. */

#include "callouts.h"

static const sbintime_t tick = ((sbintime_t)1 << 32) / 1000;

/* Rounding of two clocks' readings, and what the library's may be ahead by: 10 us. */
enum { ROUNDING = 16, AHEAD = 42950 };

static sbintime_t last_tick(sbintime_t t)
{
	return t - t % tick;
}

/* callout_when()'s answers, and the clock before and after. */
static sbintime_t before, after, date, window;

static void when(sbintime_t sbt, sbintime_t precision, int flags)
{
	before = now_sbt() - ROUNDING;
	callout_when(sbt, precision, flags, &date, &window);
	after = now_sbt() + AHEAD;
}

START_TEST(T_7_given_dates_stay)
{
	start(1);
	for (int i = 0; i < 2; i++) {
		int flags = i ? C_PRECALC : C_ABSOLUTE;

		when(12345, 67, flags);
		ck_assert_int_eq(date, 12345);
		ck_assert_int_eq(window, 67);
		when(SBT_MAX, SBT_MAX, flags);
		ck_assert_int_eq(date, SBT_MAX);
		ck_assert_int_eq(window, SBT_MAX);
		when(-5, 0, flags | C_HARDCLOCK | C_PREL(3));
		ck_assert_int_eq(date, -5);
		ck_assert_int_eq(window, 0);
	}
	keel_deinit();
}
END_TEST

START_TEST(T_7_hardclock_counts_from_the_tick)
{
	static const sbintime_t spans[] = { 0, -1, -SBT_1S, 1, 4294966, 4294967, 5 * (SBT_1S / 1000), SBT_1S };

	start(1);
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		sbintime_t span = spans[i] < tick ? tick : spans[i];

		when(spans[i], 0, C_HARDCLOCK);
		ck_assert_int_ge(date, last_tick(before) + span);
		ck_assert_int_le(date, last_tick(after) + span);
		ck_assert_int_eq((date - span) % tick, 0);
		ck_assert_int_eq(window, span >> 4);
	}
	keel_deinit();
}
END_TEST

START_TEST(T_7_short_spans_count_from_the_clock)
{
	static const sbintime_t spans[] = { 0, 1, SBT_1S / 10000, SBT_1S / 200 };

	start(1);
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		when(spans[i], 0, 0);
		ck_assert_int_ge(date, before + spans[i]);
		ck_assert_int_le(date, after + spans[i]);
		ck_assert_int_eq(window, spans[i] >> 4);
	}
	keel_deinit();
}
END_TEST

START_TEST(T_7_long_spans_count_from_the_next_tick)
{
	static const sbintime_t spans[] = { SBT_1S / 50, SBT_1S, 3600 * SBT_1S };

	start(1);
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		when(spans[i], 0, 0);
		ck_assert_int_ge(date, last_tick(before) + tick + spans[i]);
		ck_assert_int_le(date, last_tick(after) + tick + spans[i]);
		ck_assert_int_eq((date - spans[i]) % tick, 0);
		ck_assert_int_ge(date, before + spans[i]);
	}
	keel_deinit();
}
END_TEST

START_TEST(T_7_precision)
{
	static const int shifts[] = { 0, 1, 8, 31, 33, 63, 64, 126 };

	start(1);
	for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
		when(SBT_1S, 0, C_PREL(shifts[i]));
		ck_assert_int_eq(window, shifts[i] > 62 ? 0 : SBT_1S >> shifts[i]);
		when(SBT_1S, 0, C_HARDCLOCK | C_PREL(shifts[i]));
		ck_assert_int_eq(window, shifts[i] > 62 ? 0 : SBT_1S >> shifts[i]);
	}
	/* the larger one of the two that are given */
	when(SBT_1S, SBT_1S / 4, 0);
	ck_assert_int_eq(window, SBT_1S / 4);
	when(SBT_1S, SBT_1S / 64, 0);
	ck_assert_int_eq(window, SBT_1S >> 4);
	when(SBT_1S, SBT_1S / 64, C_PREL(8));
	ck_assert_int_eq(window, SBT_1S / 64);
	ck_assert_int_eq(C_PRELGET(C_PREL(7)), 7);
	ck_assert_int_eq(C_PRELGET(C_PREL(126) | C_HARDCLOCK), 126);
	ck_assert_int_eq(C_PRELGET(C_ABSOLUTE), -1);
	keel_deinit();
}
END_TEST

START_TEST(T_7_the_end_of_time)
{
	struct callout c;

	start(1);
	when(SBT_MAX, 0, 0);
	ck_assert_int_eq(date, SBT_MAX);
	when(SBT_MAX, 0, C_HARDCLOCK);
	ck_assert_int_eq(date, SBT_MAX);
	when(SBT_MAX - 1, SBT_MAX, 0);
	ck_assert_int_eq(date, SBT_MAX);
	callout_init(&c, 1);
	for (int i = 0; i < 4; i++) {
		callout_reset_sbt(&c, SBT_MAX, i & 1 ? SBT_MAX : 0, count, NULL, i & 2 ? C_ABSOLUTE : 0);
		ck_assert_int_ne(callout_pending(&c), 0);
		pass();
		ck_assert_int_eq(callout_stop(&c), 1);
	}
	ck_assert_int_eq(runs, 0);
	keel_deinit();
}
END_TEST

/* U-5, too: ticks are an int, and no sum of them overflows. */
START_TEST(T_7_ticks)
{
	struct callout c;

	start(1);
	callout_init(&c, 1);
	ck_assert_int_eq(callout_reset(&c, INT_MAX, count, NULL), 0);
	pass();
	ck_assert_int_eq(callout_stop(&c), 1);
	/* not positive means one */
	for (int ticks = -1; ticks <= 1; ticks++) {
		runs = 0;
		callout_reset(&c, ticks ? ticks : INT_MIN, count, NULL);
		ck_assert_int_ne(callout_pending(&c), 0);
		nap_us(3000);
		softclock(0);
		ck_assert_int_eq(runs, 1);
	}
	ck_assert_int_eq(callout_reset(&c, 0, count, NULL), 0);
	nap_us(3000);
	softclock(0);
	ck_assert_int_eq(runs, 2);
	keel_deinit();
}
END_TEST

START_TEST(T_7_another_hz)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct callout c;
	sbintime_t hundredth = ((sbintime_t)1 << 32) / 100, begin;

	cfg.nbthread = 1;
	cfg.maxsock = 64;
	cfg.callout_hz = 100;
	ck_assert_int_eq(keel_init(&cfg), 0);
	when(0, 0, C_HARDCLOCK);
	ck_assert_int_eq(date % hundredth, 0);
	ck_assert_int_ge(date, before);
	callout_init(&c, 1);
	begin = now_sbt() - ROUNDING;
	callout_reset(&c, 3, count, NULL);
	while (!runs && now_sbt() < begin + 30 * SBT_1S)
		pass();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_ge(now_sbt(), begin - begin % hundredth + 3 * hundredth);
	keel_deinit();
}
END_TEST

struct dated {
	struct callout c;
	sbintime_t date;
	sbintime_t ran;
};

static void note_date(void *arg)
{
	((struct dated *)arg)->ran = now_sbt();
	atomic_fetch_add(&runs, 1);
}

/* SHOWS: CINV-10 */
START_TEST(T_7_never_early)
{
	enum { N = 200 };
	static struct dated d[N];
	static const int flags[] = { 0, C_HARDCLOCK, C_PREL(0), C_PREL(31), C_DIRECT_EXEC };
	uint64_t limit;

	start(1);
	for (int i = 0; i < N; i++) {
		sbintime_t span = (sbintime_t)i * i * (SBT_1S / 400000), pr;

		callout_init(&d[i].c, 1);
		callout_when(span, 0, flags[i % 5], &d[i].date, &pr);
		callout_reset_sbt(&d[i].c, d[i].date, pr, note_date, &d[i], C_PRECALC | (flags[i % 5] & C_DIRECT_EXEC));
	}
	limit = keel_now_ns() + 30000000000u;
	while (runs < N && keel_now_ns() < limit)
		softclock(0);
	ck_assert_int_eq(runs, N);
	for (int i = 0; i < N; i++)
		ck_assert_msg(d[i].ran >= d[i].date, "%d: %lld units early", i, (long long)(d[i].date - d[i].ran));
	keel_deinit();
}
END_TEST

/* A callout that is due at once is not run by the pass that armed it. */
static struct callout *again;
static int again_flags;

static void rearm_past(void *arg)
{
	atomic_fetch_add(&runs, 1);
	callout_reset_sbt(again, *(sbintime_t *)arg, 0, rearm_past, arg, C_ABSOLUTE | again_flags);
}

/* SHOWS: CINV-21 */
START_TEST(M_25_once_per_pass)
{
	static sbintime_t dates[] = { 0, 1, -SBT_1S };
	struct callout c;

	start(1);
	again = &c;
	for (int i = 0; i < 6; i++) {
		callout_init(&c, 1);
		runs = 0;
		again_flags = i % 2 ? C_DIRECT_EXEC : 0;
		callout_reset_sbt(&c, dates[i / 2], 0, rearm_past, &dates[i / 2], C_ABSOLUTE | again_flags);
		for (int n = 1; n <= 4; n++) {
			pass();
			ck_assert_int_eq(runs, n);
		}
		ck_assert_int_eq(callout_stop(&c), 1);
	}
	keel_deinit();
}
END_TEST

enum { MANY = 128 };
static struct callout many[MANY];

static void stop_all(void *arg)
{
	(void)arg;
	atomic_fetch_add(&runs, 1);
	for (int i = 0; i < MANY; i++)
		callout_stop(&many[i]);
}

START_TEST(K_2_cancelled_when_due)
{
	sbintime_t now;

	start(1);
	/* around every kind of boundary: the wheel's granules are 2^18 units, each level 8 times coarser */
	now = now_sbt();
	for (int i = 0; i < MANY; i++) {
		sbintime_t boundary = (now >> (18 + i % 4 * 3)) << (18 + i % 4 * 3);

		callout_init(&many[i], 1);
		callout_reset_sbt(&many[i], boundary + (i / 4) * ((sbintime_t)1 << 18) + i % 3 - 1, 0, stop_all, NULL,
		                  C_ABSOLUTE);
	}
	nap_us(5000);
	if (_i == 0) {
		/* all due, none run */
		for (int i = 0; i < MANY; i++)
			ck_assert_int_eq(callout_stop(&many[i]), 1);
		pass();
		ck_assert_int_eq(runs, 0);
	} else {
		/* the first one stops the rest of its pass; a pass may have too much to file again to get so far */
		for (int n = 0; n < 20; n++)
			pass();
		ck_assert_int_eq(runs, 1);
	}
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(callout_pending(&many[i]), 0);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout dates");
	TCase *dates = tcase_create("dates");

	tcase_set_timeout(dates, 40);
	tcase_add_test(dates, T_7_given_dates_stay);
	tcase_add_test(dates, T_7_hardclock_counts_from_the_tick);
	tcase_add_test(dates, T_7_short_spans_count_from_the_clock);
	tcase_add_test(dates, T_7_long_spans_count_from_the_next_tick);
	tcase_add_test(dates, T_7_precision);
	tcase_add_test(dates, T_7_the_end_of_time);
	tcase_add_test(dates, T_7_ticks);
	tcase_add_test(dates, T_7_another_hz);
	tcase_add_test(dates, T_7_never_early);
	tcase_add_test(dates, M_25_once_per_pass);
	tcase_add_loop_test(dates, K_2_cancelled_when_due, 0, 2);
	suite_add_tcase(s, dates);
	return run_suite(s);
}
