/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is measured, and on what. */

#ifndef POOL_DRIVER_H
#define POOL_DRIVER_H

#include <stdbool.h>

#define MAX_ROUNDS 99
#define WIDTH      4

/* A table, and its columns. */
enum figure { PAIR, BATCH, RING, RANDOM, BUFFERS, PAIR_BOTH, BATCH_BOTH, FIGURES };

struct figure_is {
	const char *title, *workload;
	bool is_rate; /* shown as a million objects a second */
	struct column {
		const char *name;
		unsigned int bytes, threads;
	} columns[WIDTH];
};

enum who { KEEL, INLINE, LARGE_CACHE, GLIBC, JEMALLOC, MIMALLOC, TCMALLOC, NOTHING, CONTESTANTS };

extern const struct figure_is figures[FIGURES];
extern const char *const names[CONTESTANTS];

/* In ns per object, in order. */
struct samples {
	int n;
	double of[MAX_ROUNDS];
};
extern struct samples samples[FIGURES][WIDTH][CONTESTANTS];

void print_preface(int rounds, int ms);
void print_figure(enum figure f);
void print_goals(void);

#endif
