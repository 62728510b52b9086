/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What every program of this suite ends with. */
#ifndef SUITE_H
#define SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/fd.h>

/* With KEEL_TEST_POLLER=epoll or poll in the environment, that poller alone is
 * left. */
static inline void choose_poller(void)
{
	static const char *const names[] = { "epoll", "poll" };
	const char *only = getenv("KEEL_TEST_POLLER");
	int known = 0;

	if (!only)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], only) == 0)
			known = 1;
		else
			disable_poller(names[i]);
	}
	if (!known) {
		fprintf(stderr, "KEEL_TEST_POLLER: there is no \"%s\"\n", only);
		exit(EXIT_FAILURE);
	}
}

/* Whether it is poll(), which has no descriptor for a host to poll, and knows
 * numbers where epoll knows files. */
static inline int with_poll(void)
{
	const char *only = getenv("KEEL_TEST_POLLER");

	return only && strcmp(only, "poll") == 0;
}

/* Runs a suite: main()'s result. */
static int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	choose_poller();
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
