/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* KEEL_TEST_POLLER=epoll or poll: the one that a program is to run with. */
#ifndef POLLERS_H
#define POLLERS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/fd.h>

/* NULL: the library chooses. */
static inline const char *chosen_poller(void)
{
	return getenv("KEEL_TEST_POLLER");
}

/* Leaves that poller alone; call it before keel_init(). */
static inline void choose_poller(void)
{
	static const char *const names[] = { "epoll", "poll" };
	const char *only = chosen_poller();
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
	const char *only = chosen_poller();

	return only && strcmp(only, "poll") == 0;
}

#endif
