/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/runtime.h: who may not call keel_run(). */

#include <check.h>
#include <errno.h>
#include <stdatomic.h>

#include <keel/keel.h>

#include "suite.h"

static atomic_int asked, refused;

static void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 64;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

/* Of the first thread, which is the caller's, and of one that keel_run() has started. */
static int ask(unsigned int tid, void *arg)
{
	(void)tid;
	(void)arg;
	atomic_fetch_add(&refused, keel_run(NULL, NULL) == -EALREADY);
	if (atomic_fetch_add(&asked, 1) == 1)
		keel_stop();
	return 0;
}

START_TEST(not_while_it_runs)
{
	start();
	ck_assert_int_eq(keel_run(ask, NULL), 0);
	ck_assert_int_eq(asked, 2);
	ck_assert_int_eq(refused, 2);
	keel_deinit();
}
END_TEST

START_TEST(not_by_another_thread_than_the_first)
{
	start();
	ck_assert_int_eq(keel_thread_enter(1), 0);
	ck_assert_int_eq(keel_run(ask, NULL), -EALREADY);
	ck_assert_int_eq(asked, 0);
	keel_thread_leave();
	/* nothing was begun */
	ck_assert_int_eq(keel_run(ask, NULL), 0);
	ck_assert_int_eq(refused, 2);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("run refusals");
	TCase *tc = tcase_create("run refusals");

	tcase_add_test(tc, not_while_it_runs);
	tcase_add_test(tc, not_by_another_thread_than_the_first);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
