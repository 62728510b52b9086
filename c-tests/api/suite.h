/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What every program of this suite ends with. */
#ifndef SUITE_H
#define SUITE_H

#include <check.h>
#include <stdlib.h>

#include "pollers.h"
#include "storm.h"

/* Runs a suite: main()'s result. */
static int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	pid_t sender;
	int failed;

	choose_poller();
	sender = begin_storm();
	srunner_run_all(sr, CK_ENV);
	end_storm(sender);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
