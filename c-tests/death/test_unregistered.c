/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What only a registered thread may call: from another one it ends in a sentence, or in a value that says so. */

#include <check.h>
#include <errno.h>
#include <stdint.h>

#include <keel/keel.h>

#include "../api/panic.h"
#include "../api/suite.h"

/* keel runs, but this thread has not entered. */
static void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 64;
	cfg.panic = hear_panic;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

static struct tasklet *a_tasklet(void)
{
	struct tasklet *tl = tasklet_new();

	ck_assert_ptr_nonnull(tl);
	return tl;
}

static void wakes_on(void) { tasklet_wakeup_on(a_tasklet(), 0); }
static void wakes_after(void) { tasklet_wakeup_after(NULL, a_tasklet()); }
static void wakes_where_it_is(void) { tasklet_wakeup(a_tasklet()); }
static void cancels(void) { tasklet_remove_from_tasklet_list(a_tasklet()); }
static void next_expiry(void) { next_timer_expiry(); }
static void polls_once(void) { keel_poll_once(0); }
static void poll_descriptor(void) { keel_poll_fd(); }

static const struct misuse {
	const char *words;
	void (*call)(void);
} misuses[] = {
	{ "run_poll_loop: the calling thread is not registered", run_poll_loop },
	{ "process_runnable_tasks: the calling thread is not registered", process_runnable_tasks },
	{ "wake_expired_tasks: the calling thread is not registered", wake_expired_tasks },
	{ "next_timer_expiry: the calling thread is not registered", next_expiry },
	{ "keel_poll_once: the calling thread is not registered", polls_once },
	{ "keel_poll_fd: the calling thread is not registered", poll_descriptor },
	{ "tasklet_wakeup_after: the calling thread is not registered", wakes_after },
	{ "cancelled by a thread that is not registered", cancels },
	{ "woken by a thread that is not registered", wakes_where_it_is },
};
#define MISUSES ((int)(sizeof(misuses) / sizeof(*misuses)))

START_TEST(ends_in_a_sentence)
{
	start();
	expect_panic(misuses[_i].words, NULL, NULL);
	misuses[_i].call();
}
END_TEST

/* A thread of its own is needed where the tasklet shall run on the caller's. */
START_TEST(a_tasklet_for_the_callers_thread)
{
	start();
	expect_panic("tasklet_wakeup_on: the calling thread is not registered", NULL, NULL);
	tasklet_wakeup_on(a_tasklet(), -1);
}
END_TEST

START_TEST(a_tasklet_for_a_named_thread_is_welcome)
{
	start();
	wakes_on();
}
END_TEST

START_TEST(what_says_so_in_a_value)
{
	errno = 0;
	ck_assert_ptr_null(tasklet_new());
	ck_assert_int_eq(errno, EPERM);
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
	start();
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("unregistered");
	TCase *tc = tcase_create("unregistered");

	tcase_add_loop_exit_test(tc, ends_in_a_sentence, AS_EXPECTED, 0, MISUSES);
	tcase_add_exit_test(tc, a_tasklet_for_the_callers_thread, AS_EXPECTED);
	tcase_add_test(tc, a_tasklet_for_a_named_thread_is_welcome);
	tcase_add_test(tc, what_says_so_in_a_value);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
