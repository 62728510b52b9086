/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver asks of each contestant: a loop that watches descriptors for
 * reading, level triggered. A contestant is a plugin, so that libraries with
 * the same names meet in one process, and one that is not installed is left
 * out. What is done with the descriptors is the driver's, the same for all. */

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The beginning of what a contestant keeps for a descriptor. */
struct watch {
	int fd;
	uint32_t number;               /* the workload's */
	void (*ready)(struct watch *w);
};

struct peer {
	const char *name;
	bool edges;                      /* reports once: for handlers that take all there is */
	size_t watch_size;
	bool (*open)(uint32_t maxfd);    /* descriptors are below that */
	bool (*watch)(struct watch *w);
	void (*unwatch)(struct watch *w); /* and close it; inside its ready() at the earliest */
	void (*run)(void);
	void (*stop)(void);              /* inside a ready(): run() returns soon */
	long (*changes)(void);           /* of the kernel's set so far, or NULL: it does not count them */
};

/* Each plugin has this one function: its contestants, then NULL. */
typedef const struct peer *const *contestants_fn(void);
contestants_fn contestants;

#endif
