/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver asks of each contestant. A contestant is a plugin, so that
 * libraries with the same names meet in one process, and one that is not
 * installed is left out. */

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op {
	NOTHING,       /* the loop alone */
	RESET_IDLE,
	RESET_PENDING,
	STOP,
	CYCLE,         /* stop, then reset */
	CYCLE_ALONE,   /* the same, and no pair overlaps with the next */
	DRAIN_IDLE,
	DRAIN_PENDING,
	ON_CPU,        /* reset of a pending timer, with the cpu named */
	EXPIRE,        /* runs the loop until <n> handlers have run */
	OPS
};

/* One operation: on which timer, how far away in milliseconds, and where. */
struct step {
	uint32_t timer, ms, cpu;
};

struct peer {
	const char *name;
	uint32_t ops;                           /* a bit for each op it has */
	const char *(*open)(const int cores[2]); /* NULL, or why it is left out */
	bool (*make)(uint32_t n);               /* n idle timers in one array */
	void (*drop)(void);                     /* frees them; all are idle */
	void (*refresh)(void);                  /* where it caches the time: reads it */
	void (*run)(enum op op, const struct step *steps, uint32_t n);
	/* where it works better inside its loop: calls <body> from there */
	void (*inside)(void (*body)(void *), void *arg);
};

#define BIT(op)   (1u << (op))
#define TIMER_OPS (BIT(NOTHING) | BIT(RESET_IDLE) | BIT(RESET_PENDING) | BIT(STOP) | BIT(CYCLE) | BIT(CYCLE_ALONE) | BIT(EXPIRE))
#define DRAIN_OPS (BIT(DRAIN_IDLE) | BIT(DRAIN_PENDING))

/* Each plugin has this one function: its contestants, then NULL. */
typedef const struct peer *const *contestants_fn(void);
contestants_fn contestants;

#endif
