/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver asks of each contestant. A contestant is a plugin, so that
 * libraries with the same names meet in one program, and one that is not
 * installed is left out. Each works in a process of its own, for one table. */

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op {
	NOTHING,   /* the loop alone */
	LOOKUP,    /* finds the entry, and lets go of it */
	HIT,       /* finds it, locks it, counts in three counters, renews its date */
	HIT_ALONE, /* the same, and none overlaps with the next */
	CREATE,    /* finds that there is none, and makes it */
	EXPIRE,    /* removes all whose date has come; no keys are given */
	COUNTED,   /* adds up the entries' first counters: the driver's own check */
	OPS
};

struct peer {
	const char *name;
	const char *(*open)(void);                  /* NULL, or why it is left out */
	bool (*make)(uint32_t n, uint32_t expire_ms); /* a table for n entries */
	void (*enter)(unsigned int thread);         /* a thread of the bench: 0, then 1 */
	void (*turn)(void);                         /* a turn of a server's loop: the time is read */
	/* of LOOKUP, HIT, HIT_ALONE, CREATE: how many there were; of EXPIRE: how many are left */
	uint64_t (*run)(enum op op, const uint32_t *keys, uint32_t n);
	uint32_t (*cost)(void);                     /* what it says that an entry takes, or NULL */
};

#define EXPIRE_MS 30000u /* of the tables that are not to expire */
#define PERIOD_MS 10000u /* of the sliding counters */

/* Each plugin has this one function: its contestants, then NULL. */
typedef const struct peer *const *contestants_fn(void);
contestants_fn contestants;

#endif
