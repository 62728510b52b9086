/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h and the clock: never early (T-7, CINV-10), earlier armings
 * into cpus that sleep (T-6: M-28, K-4, L-6), idle cpus that stay asleep, hosts
 * that poll. */

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

static void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

static void nap(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

/* CLOCK_MONOTONIC as callouts count it, rounded down. */
static sbintime_t uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((sbintime_t)ts.tv_sec << 32) |
	       (sbintime_t)(((uint64_t)ts.tv_nsec << 32) / 1000000000u);
}

/* Waits for a condition, long enough for any machine, and less long than a
 * sleep that nobody ends: 60 s. */
#define await(condition, ...) \
	do { \
		uint64_t limit_ = keel_now_ns() + 20000000000u; \
		while (!(condition)) { \
			ck_assert_msg(keel_now_ns() < limit_, "waited in vain for %s", #condition); \
			__VA_ARGS__; \
		} \
	} while (0)

static int under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

/* A callout that knows when it may run. */
struct dated {
	struct callout c;
	sbintime_t date;
	atomic_int runs, early;
};

static void runs_at_its_date(void *arg)
{
	struct dated *d = arg;

	if (uptime() < d->date)
		atomic_store(&d->early, 1);
	atomic_fetch_add(&d->runs, 1);
}

static pid_t sleeper;

static void *sleeps_as_1(void *arg)
{
	sleeper = (pid_t)syscall(SYS_gettid);
	ck_assert_int_eq(keel_thread_enter(1), 0);
	atomic_store((atomic_int *)arg, 1);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

static pthread_t cpu_1(void)
{
	atomic_int ready = 0;
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, sleeps_as_1, &ready), 0);
	await(atomic_load(&ready), nap(100));
	return th;
}

/* --- into cpus that sleep ------------------------------------------------------ */

/* M-28: as a cpu goes to sleep until a far date, or has long done so, something
 * earlier comes. It must not be found out after the sleep.
 * SHOWS: CINV-27 */
START_TEST(earlier_armings_end_a_sleep)
{
	struct dated far = { .runs = 0 }, near = { .runs = 0 };
	int rounds = under_valgrind() ? 200 : 3000;
	pthread_t th;

	start(2);
	th = cpu_1();
	callout_reset_sbt_on(&far.c, 3600 * SBT_1S, 0, runs_at_its_date, &far, 1, 0);
	for (int i = 0; i < rounds; i++) {
		int delay = i % 7 * 40;

		near.date = uptime() + delay * SBT_1US;
		ck_assert_int_eq(callout_reset_sbt_on(&near.c, near.date, 0, runs_at_its_date, &near, 1,
		                                      C_ABSOLUTE), 0);
		/* it runs, and the cpu is about to sleep again */
		await(atomic_load(&near.runs) > i, ;);
		for (volatile int spin = i % 64 * 50; spin > 0; spin--)
			;
		if (i % 50 == 0)
			nap(3000);
	}
	ck_assert_int_eq(atomic_load(&near.early), 0);
	ck_assert_int_eq(atomic_load(&near.runs), rounds);
	ck_assert_int_eq(atomic_load(&far.runs), 0);
	ck_assert_int_eq(callout_drain(&far.c), 1);
	callout_drain(&near.c);
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* K-4: what is overdue when it is armed counts for the next wake-up too. L-6:
 * after a long sleep, a short interval is short. */
START_TEST(overdue_armings_end_a_sleep)
{
	static const sbintime_t past[] = { 0, 1, -SBT_1S, INT64_MIN };
	struct dated d = { .runs = 0 };
	pthread_t th;
	int runs = 0;

	start(2);
	th = cpu_1();
	for (int i = 0; i < 20; i++) {
		nap(i % 5 == 0 ? 60000 : 2000);
		if (i < 4)
			callout_reset_sbt_on(&d.c, past[i], 0, runs_at_its_date, &d, 1, C_ABSOLUTE);
		else
			callout_reset_sbt_on(&d.c, uptime() - (i % 4) * SBT_1MS, 0, runs_at_its_date, &d, 1, C_ABSOLUTE);
		runs++;
		await(atomic_load(&d.runs) == runs, nap(100));
		/* pending already, and moved into the past */
		callout_reset_sbt_on(&d.c, 3600 * SBT_1S, 0, runs_at_its_date, &d, 1, 0);
		nap(1000);
		ck_assert_int_eq(callout_reset_sbt_on(&d.c, 1, 0, runs_at_its_date, &d, 1, C_ABSOLUTE), 1);
		runs++;
		await(atomic_load(&d.runs) == runs, nap(100));
	}
	callout_drain(&d.c);
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* --- never early ----------------------------------------------------------------- */

#define MANY 1000
static struct dated many[MANY];

/* SHOWS: CINV-10, CINV-28 */
START_TEST(nothing_is_ever_early)
{
	pthread_t th;

	start(2);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	th = cpu_1();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++) {
			struct dated *d = &many[i];
			sbintime_t interval = (i * 7919 % 80000) * SBT_1US, precision;
			int flags = i % 3 == 0 ? C_PREL(i % 10) : 0;

			switch (i % 5) {
			case 0:
				d->date = uptime() + interval;
				callout_reset_sbt_on(&d->c, d->date, i % 4 * SBT_1MS, runs_at_its_date, d, i % 2, C_ABSOLUTE);
				break;
			case 1: /* from the last tick */
				callout_when(interval, 0, flags | C_HARDCLOCK, &d->date, &precision);
				callout_reset_sbt_on(&d->c, d->date, precision, runs_at_its_date, d, i % 2, C_PRECALC);
				break;
			case 2:
				callout_when(interval, 0, flags, &d->date, &precision);
				callout_reset_sbt_on(&d->c, d->date, precision, runs_at_its_date, d, i % 2, C_PRECALC);
				break;
			case 3:
				d->date = uptime() + interval;
				callout_reset_sbt_on(&d->c, interval, 0, runs_at_its_date, d, i % 2, flags);
				break;
			default: /* at most a tick before the ticks have passed */
				d->date = uptime() + (i % 70 - 1) * (SBT_1S / 1000);
				callout_reset_on(&d->c, i % 70, runs_at_its_date, d, i % 2);
			}
		}
		for (int i = 0; i < MANY; i++) {
			await(atomic_load(&many[i].runs) > round, keel_poll_once(1));
			ck_assert_msg(!atomic_load(&many[i].early), "callout %d ran early", i);
		}
	}
	for (int i = 0; i < MANY; i++) {
		callout_drain(&many[i].c);
		ck_assert_int_eq(atomic_load(&many[i].runs), 3);
	}
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* A date that cannot come does not come, and does not stop others. */
START_TEST(the_end_of_time_does_not_come)
{
	struct dated never = { .runs = 0 }, far = { .runs = 0 }, soon = { .runs = 0 };
	sbintime_t date, precision;

	start(1);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_reset_sbt(&never.c, SBT_MAX, 0, runs_at_its_date, &never, C_ABSOLUTE);
	callout_reset_sbt(&far.c, SBT_MAX, SBT_MAX, runs_at_its_date, &far, 0);
	callout_when(SBT_MAX, 0, 0, &date, &precision);
	ck_assert_int_eq(date, SBT_MAX);
	soon.date = uptime() + 5 * SBT_1MS;
	callout_reset_sbt(&soon.c, 5 * SBT_1MS, 0, runs_at_its_date, &soon, 0);
	await(atomic_load(&soon.runs), keel_poll_once(1));
	ck_assert_int_eq(atomic_load(&soon.early), 0);
	for (int i = 0; i < 20; i++)
		keel_poll_once(1);
	ck_assert_int_eq(atomic_load(&never.runs) + atomic_load(&far.runs), 0);
	ck_assert_int_eq(callout_stop(&never.c), 1);
	ck_assert_int_eq(callout_stop(&far.c), 1);
	keel_deinit();
}
END_TEST

/* --- an idle cpu sleeps ------------------------------------------------------------ */

static long voluntary_switches(pid_t tid)
{
	char path[64], line[128];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	fclose(f);
	ck_assert_int_ge(n, 0);
	return n;
}

/* SHOWS: CINV-28 */
START_TEST(far_callouts_leave_a_cpu_asleep)
{
	pthread_t th;
	long before;

	start(2);
	th = cpu_1();
	for (int i = 0; i < MANY; i++)
		callout_reset_sbt_on(&many[i].c, (3600 + i) * SBT_1S, 0, runs_at_its_date, &many[i], 1,
		                     i % 2 ? C_PREL(31) : 0);
	nap(300000);
	before = voluntary_switches(sleeper);
	sleep(3);
	/* under valgrind threads wait for each other all the time */
	if (!under_valgrind())
		ck_assert_int_le(voluntary_switches(sleeper) - before, 2);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(callout_drain(&many[i].c), 1);
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* --- hosts that own the loop -------------------------------------------------------- */

START_TEST(a_host_knows_when_to_come_back)
{
	struct dated d = { .runs = 0 };
	sbintime_t precision;
	uint64_t deadline, latest;
	int turns = 0;

	start(1);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
	callout_when(50 * SBT_1MS, 0, 0, &d.date, &precision);
	callout_reset_sbt(&d.c, d.date, precision, runs_at_its_date, &d, C_PRECALC);
	/* rounded up to keel's unit of 61 us, and no later */
	latest = (uint64_t)((double)(d.date + precision) / (double)SBT_1S * 1e9) + 62000;
	while (!atomic_load(&d.runs)) {
		deadline = keel_next_deadline_ns();
		ck_assert_uint_le(deadline, latest);
		while (keel_now_ns() < deadline)
			nap((long)((deadline - keel_now_ns()) / 1000) + 1);
		keel_poll_once(0);
		ck_assert_int_lt(++turns, 10);
	}
	ck_assert_int_eq(atomic_load(&d.early), 0);
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
	/* what is overdue is at once, what is stopped is never */
	callout_reset_sbt(&d.c, 1, 0, runs_at_its_date, &d, C_ABSOLUTE);
	ck_assert_uint_le(keel_next_deadline_ns(), keel_now_ns() + 62000);
	ck_assert_int_eq(callout_stop(&d.c), 1);
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
	keel_deinit();
}
END_TEST

static struct dated handed;

static void *arms_for_the_host(void *arg)
{
	nap(20000);
	if (arg)
		handed.date = uptime() + 10 * SBT_1MS;
	callout_reset_sbt_on(&handed.c, arg ? handed.date : 1, 0, runs_at_its_date, &handed, 0, C_ABSOLUTE);
	return NULL;
}

START_TEST(a_hosts_poll_hears_of_earlier_callouts)
{
	struct dated far = { .runs = 0 };
	struct pollfd p = { .events = POLLIN };
	pthread_t th;

	start(1);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_reset_sbt(&far.c, 3600 * SBT_1S, 0, runs_at_its_date, &far, 0);
	p.fd = keel_poll_fd();
	for (int i = 0; i < 6; i++) {
		keel_poll_once(0);
		ck_assert_int_eq(poll(&p, 1, 0), 0);
		pthread_create(&th, NULL, arms_for_the_host, i % 2 ? &far : NULL);
		/* the host sleeps for its own sake, far beyond the new date */
		ck_assert_int_eq(poll(&p, 1, 20000), 1);
		await(atomic_load(&handed.runs) > i, {
			uint64_t deadline = keel_next_deadline_ns(), now = keel_now_ns();

			ck_assert_uint_lt(deadline, now + 1000000000);
			poll(&p, 1, deadline > now ? (int)((deadline - now) / 1000000) + 1 : 0);
			keel_poll_once(0);
		});
		pthread_join(th, NULL);
		ck_assert_int_eq(atomic_load(&handed.early), 0);
	}
	ck_assert_int_eq(callout_stop(&far.c), 1);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout_time");
	TCase *tc = tcase_create("callout_time");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, earlier_armings_end_a_sleep);
	tcase_add_test(tc, overdue_armings_end_a_sleep);
	tcase_add_test(tc, nothing_is_ever_early);
	tcase_add_test(tc, the_end_of_time_does_not_come);
	tcase_add_test(tc, far_callouts_leave_a_cpu_asleep);
	tcase_add_test(tc, a_host_knows_when_to_come_back);
	tcase_add_test(tc, a_hosts_poll_hears_of_earlier_callouts);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
