/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* KEEL_TEST_POLLER=epoll or poll: the one that a program is to run with. */
#ifndef POLLERS_H
#define POLLERS_H

#include <stdlib.h>
#include <string.h>

#include <keel/fd.h>

/* Call it before keel_init(). */
static inline void choose_poller(void)
{
	const char *name = getenv("KEEL_TEST_POLLER");

	if (name && *name)
		disable_poller(strcmp(name, "epoll") ? "epoll" : "poll");
}

#endif
