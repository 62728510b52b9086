/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is measured, and on what. */

#ifndef FD_DRIVER_H
#define FD_DRIVER_H

#include "../task/entry.h"
#include "bench.h"

#define MAX_ROUNDS 99
#define MAX_PEERS  16
#define FIGURES    2

/* --- workloads --------------------------------------------------------------- */

enum op {
	CHAIN,       /* <size> pipes, <active> bytes on their way along them */
	PING_PONG,   /* <size> pairs of sockets, a byte in each */
	ACCEPT,      /* accept and close */
	ACCEPT_READ, /* accept, watch, read a byte, delete */
	OPS
};

struct workload {
	enum op op;
	const char *column;
	uint32_t size, active;
};

enum { CHAINS = 6, PING_PONGS = 3, WORKLOADS = CHAINS + PING_PONGS + 2 };
extern const struct workload workloads[WORKLOADS];

/* Descriptors that it takes, those of a library included; numbers are below it. */
uint32_t descriptors_of(const struct workload *w);

/* Who may read a byte from <mine> has the processor, until he writes it to
 * <next>. <mine> < 0: nobody else wants it. */
struct turns {
	int mine, next;
};

/* One round: thousand events a second; for ACCEPT and ACCEPT_READ also the
 * server's processor time, us each. False: it cannot, or something is wrong. */
bool measure(const struct peer *p, const struct workload *w, const int cores[2],
	     const struct turns *turns, int ms, double figures[FIGURES]);
/* <events> events in a function called timed(). */
bool count(const struct peer *p, const struct workload *w, uint32_t events);

/* --- results ----------------------------------------------------------------- */

/* One for each round. */
struct samples {
	int n;
	double of[MAX_ROUNDS];
};

extern const struct peer *peers[MAX_PEERS];
extern int npeers;
extern struct samples samples[WORKLOADS][MAX_PEERS][FIGURES];

/* One thread wakes another: entries as those of ../task. */
extern const struct entry *wakes[MAX_PEERS];
extern int nwakes;
extern struct samples wake_samples[MAX_PEERS];

void print_workloads(void);
void print_wakes(void);
void print_goals(void);

#endif
