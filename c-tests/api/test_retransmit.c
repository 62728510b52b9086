/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The example examples/retransmit.c, kernel-style code on keel: with and without losses everything arrives. */
#define main retransmit
#include "../../examples/retransmit.c"
#undef main

#include <check.h>

#include "suite.h"

static char *runs[][6] = {
	{ "retransmit", "8", "60", NULL },
	{ "retransmit", "4", "60", "0", NULL },
	{ "retransmit", "5", "30", "30", "2", NULL },
	{ "retransmit", "1", "1", "50", "3", NULL },
};

START_TEST(everything_arrives_in_order_and_once)
{
	int argc = 0;

	while (runs[_i][argc] != NULL)
		argc++;
	ck_assert_int_eq(retransmit(argc, runs[_i]), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("retransmit");
	TCase *tests = tcase_create("runs");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, everything_arrives_in_order_and_once, 0, 4);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}
