/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: the structure, results, cpus, diagnostics. */

#include "callouts.h"

static atomic_int inside, go;

/* --- the structure -------------------------------------------------------- */

static struct callout in_bss;

START_TEST(size_and_alignment_are_frozen)
{
	ck_assert_uint_eq(sizeof(struct callout), 128);
	ck_assert_uint_eq(_Alignof(struct callout), 8);
}
END_TEST

START_TEST(zeroes_are_an_idle_callout)
{
	ck_assert_int_eq(callout_pending(&in_bss), 0);
	ck_assert_int_eq(callout_active(&in_bss), 0);
	start(1);
	ck_assert_int_eq(callout_stop(&in_bss), -1);
	ck_assert_int_eq(callout_drain(&in_bss), -1);
	ck_assert_int_eq(callout_async_drain(&in_bss, count), -1);
	if (_i)
		callout_init(&in_bss, 1);
	ck_assert_int_eq(arm_now(&in_bss, count, NULL, -1), 0);
	pass();
	ck_assert_int_eq(runs, 1);
	keel_deinit();
}
END_TEST

START_TEST(init_wipes_garbage)
{
	struct callout c;

	start(1);
	memset(&c, 0xff, sizeof(c));
	callout_init(&c, _i); /* with or without MPSAFE: there is no Giant */
	ck_assert_int_eq(callout_pending(&c), 0);
	ck_assert_int_eq(callout_active(&c), 0);
	ck_assert_int_eq(callout_stop(&c), -1);
	ck_assert_int_eq(arm_now(&c, count, NULL, 0), 0);
	pass();
	ck_assert_int_eq(runs, 1);
	keel_deinit();
}
END_TEST

/* --- results -------------------------------------------------------------- */

START_TEST(M_16_idle_is_not_stopped)
{
	struct callout c;

	start(1);
	callout_init(&c, 1);
	ck_assert_int_eq(callout_stop(&c), -1);
	ck_assert_int_eq(callout_reset(&c, 1000, count, NULL), 0);
	ck_assert_int_eq(callout_reset(&c, 1000, count, NULL), 1);
	ck_assert_int_ne(callout_pending(&c), 0);
	ck_assert_int_eq(callout_stop(&c), 1);
	ck_assert_int_eq(callout_stop(&c), -1);
	callout_reset(&c, 1000, count, NULL);
	ck_assert_int_eq(callout_drain(&c), 1);
	ck_assert_int_eq(callout_drain(&c), -1);
	callout_reset(&c, 1000, count, NULL);
	ck_assert_int_eq(callout_async_drain(&c, count), 1);
	ck_assert_int_eq(callout_async_drain(&c, count), -1);
	arm_now(&c, count, NULL, 0);
	pass();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(callout_stop(&c), -1);
	ck_assert_int_eq(callout_drain(&c), -1);
	keel_deinit();
}
END_TEST

static int stop_it(struct callout *c)
{
	return callout_stop(c);
}

static int async_drain_it(struct callout *c)
{
	return callout_async_drain(c, count);
}

/* SHOWS: DEV-2 */
START_TEST(M_22_whatever_stops_ends_active)
{
	static int (*const enders[])(struct callout *) = { stop_it, callout_drain, async_drain_it };
	struct callout c;

	start(1);
	for (int i = 0; i < 3; i++) {
		callout_init(&c, 1);
		callout_reset(&c, 1000, count, NULL);
		ck_assert_int_ne(callout_active(&c), 0);
		ck_assert_int_eq(enders[i](&c), 1);
		ck_assert_int_eq(callout_active(&c), 0);
		/* expiry leaves it set, the idle forms clear it then */
		arm_now(&c, count, NULL, 0);
		pass();
		ck_assert_int_ne(callout_active(&c), 0);
		ck_assert_int_eq(enders[i](&c), -1);
		ck_assert_int_eq(callout_active(&c), 0);
	}
	keel_deinit();
}
END_TEST

START_TEST(deactivate_touches_nothing_else)
{
	struct callout c;

	start(1);
	callout_init(&c, 1);
	arm_now(&c, count, NULL, 0);
	callout_deactivate(&c);
	ck_assert_int_eq(callout_active(&c), 0);
	ck_assert_int_ne(callout_pending(&c), 0);
	pass();
	ck_assert_int_eq(runs, 1);
	keel_deinit();
}
END_TEST

static void note_arg(void *arg)
{
	atomic_store((atomic_int *)arg, 1);
}

/* SHOWS: DEV-9 */
START_TEST(schedule_reuses_handler_argument_and_cpu)
{
	static atomic_int ran;
	struct callout c;

	start(1);
	callout_init(&c, 1);
	arm_now(&c, note_arg, &ran, 0);
	pass();
	ck_assert_int_eq(ran, 1);
	for (int i = 0; i < 6; i++) {
		ran = 0;
		switch (i) {
		case 0:
			ck_assert_int_eq(callout_schedule(&c, 1), 0);
			break;
		case 1:
			ck_assert_int_eq(callout_schedule_on(&c, 1, 0), 0);
			break;
		case 2:
			ck_assert_int_eq(callout_schedule_curcpu(&c, 1), 0);
			break;
		case 3:
			ck_assert_int_eq(callout_schedule_sbt(&c, 1, 0, C_ABSOLUTE), 0);
			break;
		case 4:
			ck_assert_int_eq(callout_schedule_sbt_on(&c, 1, 0, 0, C_ABSOLUTE), 0);
			break;
		default:
			ck_assert_int_eq(callout_schedule_sbt_curcpu(&c, 1, 0, C_ABSOLUTE), 0);
		}
		ck_assert_int_eq(callout_schedule_sbt(&c, 1, 0, C_ABSOLUTE), 1);
		pass();
		ck_assert_int_eq(ran, 1);
	}
	keel_deinit();
}
END_TEST

/* --- cpus ----------------------------------------------------------------- */

static void *arm_curcpu(void *c)
{
	callout_reset_curcpu(c, 1, count, NULL);
	return NULL;
}

START_TEST(strangers_arm_on_the_default_cpu)
{
	struct callout c;
	pthread_t th;

	start_threads(2);
	callout_init(&c, 1);
	pthread_create(&th, NULL, arm_curcpu, &c);
	pthread_join(th, NULL);
	until(&runs, 1);
	ck_assert_int_eq(cpu_seen, 0);
	callout_drain(&c);
	keel_deinit();
}
END_TEST

static void rearm_curcpu(void *arg)
{
	callout_reset_curcpu(arg, 1, count, NULL);
}

START_TEST(a_callout_keeps_its_cpu)
{
	struct callout c, d;

	start_threads(2);
	callout_init(&c, 1);
	callout_init(&d, 1);
	callout_reset_on(&c, 1, count, NULL, 1);
	until(&runs, 1);
	ck_assert_int_eq(cpu_seen, 1);
	callout_reset(&c, 1, count, NULL);
	until(&runs, 2);
	ck_assert_int_eq(cpu_seen, 1);
	callout_reset_on(&c, 1, count, NULL, 0);
	until(&runs, 3);
	ck_assert_int_eq(cpu_seen, 0);
	/* a handler's cpu is the current one */
	arm_now(&d, rearm_curcpu, &c, 1);
	until(&runs, 4);
	ck_assert_int_eq(cpu_seen, 1);
	callout_drain(&c);
	callout_drain(&d);
	keel_deinit();
}
END_TEST

START_TEST(the_loop_runs_callouts)
{
	struct callout c;
	uint64_t deadline;

	start(1);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	callout_init(&c, 1);
	callout_reset_sbt(&c, 3600 * SBT_1S, 0, count, NULL, 0);
	deadline = keel_next_deadline_ns();
	ck_assert_uint_ge(deadline, keel_now_ns() + 3500000000000u);
	ck_assert_uint_le(deadline, keel_now_ns() + 3900000000000u);
	callout_reset(&c, 5, count, NULL);
	ck_assert_uint_le(keel_next_deadline_ns(), keel_now_ns() + 10000000000u);
	for (int i = 0; i < 1000 && !runs; i++)
		keel_poll_once(1000);
	ck_assert_int_eq(runs, 1);
	keel_deinit();
}
END_TEST

/* --- diagnostics ---------------------------------------------------------- */

static void says(const void *p)
{
	char hex[32];

	snprintf(hex, sizeof(hex), "%lx", (unsigned long)p);
	ck_assert_msg(strstr(warning, hex) != NULL, "'%s' lacks %s", warning, hex);
}

static void slow(void *arg)
{
	nap_us(*(int *)arg);
	atomic_fetch_add(&runs, 1);
}

START_TEST(slow_handlers_are_named)
{
	static int us = 5000;
	struct callout c;

	start(1);
	callout_init(&c, 1);
	arm_now(&c, slow, &us, 0);
	pass();
	ck_assert_int_eq(runs, 1);
	ck_assert_int_eq(warnings, 1);
	says((const void *)slow);
	says(&us);
	keel_deinit();
}
END_TEST

static void dwell(void *arg)
{
	atomic_store(&inside, 1);
	until(&go, 1);
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void *let_go_when_warned(void *arg)
{
	(void)arg;
	until(&warnings, 1);
	atomic_store(&go, 1);
	return NULL;
}

START_TEST(long_drains_are_reported)
{
	static struct callout c;
	pthread_t th;

	start_threads(1);
	callout_init(&c, 1);
	arm_now(&c, dwell, &runs, 0);
	until(&inside, 1);
	pthread_create(&th, NULL, let_go_when_warned, NULL);
	ck_assert_int_eq(callout_drain(&c), -1);
	pthread_join(th, NULL);
	ck_assert_int_eq(runs, 1);
	says(&c);
	says((const void *)dwell);
	keel_deinit();
}
END_TEST

START_TEST(the_dump)
{
	struct callout c, d;
	char text[8192], hex[32];
	int fds[2], n;
	ssize_t got;

	start(2);
	callout_init(&c, 1);
	callout_init(&d, 1);
	arm_now(&c, count, NULL, 0);
	callout_reset(&d, 100000, count, NULL);
	pass();
	ck_assert_int_eq(pipe(fds), 0);
	n = keel_dump_callouts(fds[1]);
	close(fds[1]);
	got = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(n, (int)got);
	text[got] = '\0';
	close(fds[0]);
	/* what ran last */
	snprintf(hex, sizeof(hex), "%lx", (unsigned long)count);
	ck_assert_msg(strstr(text, hex) != NULL, "%s", text);
	ck_assert_int_eq(keel_dump_callouts(-1), -EBADF);
	callout_stop(&d);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout");
	TCase *basics = tcase_create("basics"), *cpus = tcase_create("cpus"), *says_so = tcase_create("diagnostics");

	tcase_add_test(basics, size_and_alignment_are_frozen);
	tcase_add_loop_test(basics, zeroes_are_an_idle_callout, 0, 2);
	tcase_add_loop_test(basics, init_wipes_garbage, 0, 2);
	tcase_add_test(basics, M_16_idle_is_not_stopped);
	tcase_add_test(basics, M_22_whatever_stops_ends_active);
	tcase_add_test(basics, deactivate_touches_nothing_else);
	tcase_add_test(basics, schedule_reuses_handler_argument_and_cpu);
	suite_add_tcase(s, basics);
	tcase_set_timeout(cpus, 40);
	tcase_add_test(cpus, strangers_arm_on_the_default_cpu);
	tcase_add_test(cpus, a_callout_keeps_its_cpu);
	tcase_add_test(cpus, the_loop_runs_callouts);
	suite_add_tcase(s, cpus);
	tcase_set_timeout(says_so, 40);
	tcase_add_test(says_so, slow_handlers_are_named);
	tcase_add_test(says_so, long_drains_are_reported);
	tcase_add_test(says_so, the_dump);
	suite_add_tcase(s, says_so);
	return run_suite(s);
}
