/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: what is refused with a panic. */

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include <keel/keel.h>

#include "../api/panic.h"
#include "../api/suite.h"

static struct callout c, second;

static void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 64;
	cfg.panic = hear_panic;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_init(&c, 1);
	callout_init(&second, 1);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void something(void *arg)
{
	(void)arg;
}

static void run_now(void (*fn)(void *), void *arg)
{
	const struct timespec ms = { 0, 1000000 };

	callout_reset_sbt(&c, 1, 0, fn, arg, C_ABSOLUTE);
	nanosleep(&ms, NULL);
	softclock(0);
}

static void drain_me(void *arg)
{
	callout_drain(arg);
}

/* SHOWS: DEV-6 */
START_TEST(drain_in_its_own_handler)
{
	start();
	expect_panic("callout_drain", NULL, NULL);
	run_now(drain_me, &c);
}
END_TEST

static void drain_re_armed(void *arg)
{
	(void)arg;
	callout_reset(&c, 1, nothing, NULL);
	callout_drain(&c);
}

START_TEST(drain_in_its_own_handler_after_a_re_arm)
{
	start();
	expect_panic("callout_drain", NULL, NULL);
	run_now(drain_re_armed, NULL);
}
END_TEST

static atomic_int dwelling;

/* Runs on cpu 1 for ever. */
static void dwell(void *arg)
{
	const struct timespec ms = { 0, 1000000 };

	(void)arg;
	atomic_store(&dwelling, 1);
	for (;;)
		nanosleep(&ms, NULL);
}

static void *cpu_1(void *arg)
{
	const struct timespec ms = { 0, 1000000 };

	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	callout_reset_sbt_on(&second, 1, 0, dwell, NULL, 1, C_ABSOLUTE);
	for (;;) {
		nanosleep(&ms, NULL);
		softclock(1);
	}
	return NULL;
}

static void drain_the_other(void *arg)
{
	const struct timespec ms = { 0, 1000000 };

	(void)arg;
	while (!atomic_load(&dwelling))
		nanosleep(&ms, NULL);
	callout_drain(&second);
}

START_TEST(drain_of_another_in_a_handler)
{
	pthread_t th;

	start();
	pthread_create(&th, NULL, cpu_1, NULL);
	expect_panic("callout_drain", NULL, NULL);
	run_now(drain_the_other, NULL);
}
END_TEST

static void drain_in_fn(void *arg)
{
	(void)arg;
	ck_assert_int_eq(callout_async_drain(&c, drain_the_other), 0);
}

/* SHOWS: DEV-6 */
START_TEST(drain_in_a_drain_function)
{
	pthread_t th;

	start();
	pthread_create(&th, NULL, cpu_1, NULL);
	expect_panic("callout_drain", NULL, NULL);
	run_now(drain_in_fn, NULL);
}
END_TEST

static void drain_twice(void *arg)
{
	(void)arg;
	ck_assert_int_eq(callout_async_drain(&c, nothing), 0);
	/* the same one again is no harm */
	ck_assert_int_eq(callout_async_drain(&c, nothing), 0);
	expect_panic("callout_async_drain", NULL, NULL);
	callout_async_drain(&c, something);
}

/* SHOWS: DEV-7 */
START_TEST(a_second_drain_function)
{
	start();
	run_now(drain_twice, NULL);
}
END_TEST

START_TEST(a_cpu_out_of_range)
{
	static const int cpus[] = { 2, 64, -2, 1 << 30 };

	start();
	expect_panic("cpu", NULL, NULL);
	callout_reset_on(&c, 1, nothing, NULL, cpus[_i]);
}
END_TEST

START_TEST(softclock_out_of_range)
{
	start();
	expect_panic("cpu", NULL, NULL);
	softclock(2);
}
END_TEST

START_TEST(unknown_init_flags)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

	start();
	expect_panic("flag", NULL, NULL);
	callout_init_mtx(&c, &m, 0x100);
}
END_TEST

START_TEST(unlocked_return_without_a_lock)
{
	start();
	expect_panic("lock", NULL, NULL);
	callout_init_mtx(&c, NULL, CALLOUT_RETURNUNLOCKED);
}
END_TEST

static void do_nothing(void *lock)
{
	(void)lock;
}

static int owned;

static int is_owned(void *lock)
{
	(void)lock;
	return owned;
}

START_TEST(trylock_that_the_table_lacks)
{
	static const struct keel_lock_ops ops = { do_nothing, do_nothing, NULL, NULL };

	start();
	expect_panic("CALLOUT_TRYLOCK", NULL, NULL);
	keel_callout_init_lock(&c, &ops, &c, CALLOUT_TRYLOCK);
}
END_TEST

START_TEST(no_handler)
{
	start();
	expect_panic("callout_reset: no function", NULL, NULL);
	callout_reset(&c, 1, NULL, NULL);
}
END_TEST

START_TEST(schedule_before_any_reset)
{
	start();
	expect_panic("callout_schedule: the callout was never reset", NULL, NULL);
	callout_schedule(&c, 1);
}
END_TEST

START_TEST(no_drain_function)
{
	start();
	expect_panic("callout_async_drain: no function", NULL, NULL);
	callout_async_drain(&c, NULL);
}
END_TEST

/* Before keel_init() nobody has a hook yet: the sentence goes to stderr. */
START_TEST(arming_before_keel_init)
{
	callout_init(&c, 1);
	callout_reset(&c, 1, nothing, NULL);
}
END_TEST

static const struct keel_lock_ops owned_ops = { do_nothing, do_nothing, NULL, is_owned };

START_TEST(stop_without_the_lock)
{
	start();
	keel_callout_init_lock(&c, &owned_ops, &c, 0);
	owned = 1;
	callout_stop(&c);
	owned = 0;
	expect_panic("lock", NULL, NULL);
	callout_stop(&c);
}
END_TEST

START_TEST(async_drain_without_the_lock)
{
	start();
	keel_callout_init_lock(&c, &owned_ops, &c, 0);
	expect_panic("lock", NULL, NULL);
	callout_async_drain(&c, nothing);
}
END_TEST

START_TEST(drain_that_would_wait_with_the_lock)
{
	pthread_t th;

	start();
	keel_callout_init_lock(&second, &owned_ops, &c, 0);
	pthread_create(&th, NULL, cpu_1, NULL);
	owned = 1;
	expect_panic("lock", NULL, NULL);
	drain_the_other(NULL);
}
END_TEST

static void named(void *arg)
{
	(void)arg;
}

/* Every panic tells what the cpus ran last. */
START_TEST(the_last_handlers)
{
	static char address[32];

	start();
	run_now(named, &c);
	snprintf(address, sizeof(address), "%lx", (unsigned long)named);
	expect_panic("cpu", address, NULL);
	fd_delete(-1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout");
	TCase *tc = tcase_create("panics");

	tcase_add_exit_test(tc, drain_in_its_own_handler, AS_EXPECTED);
	tcase_add_exit_test(tc, drain_in_its_own_handler_after_a_re_arm, AS_EXPECTED);
	tcase_add_exit_test(tc, drain_of_another_in_a_handler, AS_EXPECTED);
	tcase_add_exit_test(tc, drain_in_a_drain_function, AS_EXPECTED);
	tcase_add_exit_test(tc, a_second_drain_function, AS_EXPECTED);
	tcase_add_loop_exit_test(tc, a_cpu_out_of_range, AS_EXPECTED, 0, 4);
	tcase_add_exit_test(tc, softclock_out_of_range, AS_EXPECTED);
	tcase_add_exit_test(tc, unknown_init_flags, AS_EXPECTED);
	tcase_add_exit_test(tc, unlocked_return_without_a_lock, AS_EXPECTED);
	tcase_add_exit_test(tc, trylock_that_the_table_lacks, AS_EXPECTED);
	tcase_add_exit_test(tc, no_handler, AS_EXPECTED);
	tcase_add_exit_test(tc, schedule_before_any_reset, AS_EXPECTED);
	tcase_add_exit_test(tc, no_drain_function, AS_EXPECTED);
	tcase_add_test_raise_signal(tc, arming_before_keel_init, SIGABRT);
	tcase_add_exit_test(tc, stop_without_the_lock, AS_EXPECTED);
	tcase_add_exit_test(tc, async_drain_without_the_lock, AS_EXPECTED);
	tcase_add_exit_test(tc, drain_that_would_wait_with_the_lock, AS_EXPECTED);
	tcase_add_exit_test(tc, the_last_handlers, AS_EXPECTED);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
