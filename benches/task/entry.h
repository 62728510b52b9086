/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is measured beside timers, in plugins too: a row of a table each. */

#ifndef TASK_ENTRY_H
#define TASK_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#define COLUMNS 3

/* With the figures of their columns. */
enum table {
	YARDSTICK, /* ns */
	TASKLETS,  /* ns: wake and run */
	TASKS,     /* ns: wake and run, wake, run */
	PINGS,     /* thousand round trips a second */
	TABLES
};

struct entry {
	enum table table;
	const char *name;
	/* Runs in a process of its own, for about <ms>. False: it cannot. */
	bool (*measure)(const int cores[2], int ms, double figures[COLUMNS]);
	/* <n> wakes and runs in a function that is called timed(); or NULL */
	bool (*count)(uint32_t n);
};

/* Each plugin has this one function: its entries, then NULL. */
typedef const struct entry *const *entries_fn(void);

#endif
