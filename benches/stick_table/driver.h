/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver's files share: what is measured, and the samples. */

#ifndef DRIVER_H
#define DRIVER_H

#include <math.h>

#include "bench.h"

#define MAX_PEERS  8
#define MAX_ROUNDS 49
#define MAX_FILLS  5
#define DRAWN      (1u << 20)

enum figure { F_HIT, F_HIT_2, F_HIT_ALONE, F_LOOKUP, F_LOOKUP_2, F_CREATE, F_EXPIRE, F_BYTES, FIGURES };

/* The threads' figures have a column for each size and law, the others use the
 * first of each size. */
enum { UNIFORM, ZIPF, LAWS };
enum { SMALL, LARGE, SIZES };
#define COLUMNS        (SIZES * LAWS)
#define COLUMN(s, law) ((s) * LAWS + (law))

struct figure_kind {
	const char *title;
	enum op op;
	int threads;
};

struct size {
	const char *name;
	uint32_t n;
	uint32_t slice;     /* operations in one thread's slice */
	uint32_t expire_ms; /* time enough to make them all */
	int fills, quick_rounds;
};

struct samples {
	int n;
	double of[MAX_ROUNDS * MAX_FILLS];
};

extern const struct figure_kind figures[FIGURES];
extern const struct size sizes[SIZES];
extern const struct peer *peers[MAX_PEERS];
extern int npeers;
extern uint32_t cost[MAX_PEERS]; /* as the peer says, 0 where it does not */
extern struct samples samples[FIGURES][COLUMNS][MAX_PEERS];

double median_of(double *of, int n); /* NAN of none; sorts them */

/* keys.c: for a table of n */
extern uint32_t *keys;           /* all of them, in the order of creation */
extern uint32_t *drawn[LAWS][2]; /* for each law and thread: DRAWN keys to ask for */
void draw_keys(uint32_t n);

/* print.c */
void print_preface(const int rounds[SIZES]);
void print(int figure);
void print_goals(void);

#endif
