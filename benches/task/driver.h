/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is measured, and on what. The contestants for timers are those of
 * ../callout, with its bench.h; the others are entries. */

#ifndef TASK_DRIVER_H
#define TASK_DRIVER_H

#include "../callout/bench.h"
#include "entry.h"

#define MAX_ROUNDS 99
#define MAX_PEERS  16

/* --- timers ------------------------------------------------------------------ */

enum figure { F_APPEND, F_ARM, F_LATER, F_EARLIER, F_CYCLE, F_CYCLE_ALONE, F_CANCEL, F_EXPIRE, FIGURES };

struct figure_is {
	const char *title, *count_as; /* its name for count.sh */
};
extern const struct figure_is figures[FIGURES];

enum { SIZES = 3, MIDDLE = 1, LARGEST = 2 };
struct size {
	const char *name;
	uint32_t n;
	uint32_t repeat;     /* of all but expiry in a round */
	uint32_t soon_ms;    /* for expiry: time enough to arm them all, */
	uint32_t spread_ms;  /* and for how long they come */
	int expiries, quick_rounds;
};
extern const struct size sizes[SIZES];

bool takes_part(const struct peer *p, enum figure f);
/* One round of one contestant: ns per operation. */
void time_timers(const struct peer *p, const struct size *size, int round, double ns[FIGURES]);
/* <n> operations, with $PENDING timers armed: what count.sh counts. */
bool count_timers(const struct peer *p, const char *figure, uint32_t n);

/* --- results ----------------------------------------------------------------- */

/* In order. */
struct samples {
	int n;
	double of[MAX_ROUNDS];
};

extern const struct peer *peers[MAX_PEERS];
extern int npeers;
extern struct samples timer_samples[FIGURES][SIZES][MAX_PEERS];

extern const struct entry *entries[MAX_PEERS];
extern int nentries;
extern struct samples entry_samples[MAX_PEERS][COLUMNS];

void print_timers(void);
void print_entries(void);
void print_goals(void);

#endif
