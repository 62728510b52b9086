/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Time, in short slices by the clock. A slice in which its thread lost its
 * core is left out, and so is one during which the other thread lost its own or
 * was not at work: then they ran one after the other. Waiting in the kernel, as
 * for the address space's lock, counts. */

#ifndef SLICES_H
#define SLICES_H

#include <math.h>
#include <sys/resource.h>

#include "../measure.h"

#define MAX_SLICES 8192

struct slice {
	uint64_t begin, end;
	bool lost;
};

struct track {
	uint32_t n;
	long switches;
	struct slice of[MAX_SLICES];
};

static inline long involuntary_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static inline void begin_slice(struct track *t)
{
	if (t->n == 0)
		t->switches = involuntary_switches();
	t->of[t->n].begin = now_ns();
}

static inline void end_slice(struct track *t)
{
	long before = t->switches;

	t->of[t->n].end = now_ns();
	t->switches = involuntary_switches();
	t->of[t->n++].lost = t->switches != before;
}

/* What an empty slice takes. */
static inline void weigh_the_slices(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t begin = now_ns(), gone = now_ns() - begin;

		least = gone < least ? gone : least;
	}
	reading = (double)least;
}

struct span {
	double ns; /* a slice, on average; NAN where none counts */
	uint32_t clean, all;
};

/* What <t>'s slices took, the first eighth, in which caches fill, left out.
 * <other>, or NULL, is the track of the thread that has to be at work too. */
static inline struct span add_up(const struct track *t, const struct track *other)
{
	struct span s = { .ns = 0 };
	uint32_t o = 0;

	for (uint32_t i = t->n / 8; i < t->n; i++) {
		const struct slice *it = &t->of[i];
		bool clean = !it->lost;

		s.all++;
		if (other) {
			while (o < other->n && other->of[o].end <= it->begin)
				o++;
			clean &= o < other->n && other->of[0].begin <= it->begin && other->of[other->n - 1].end >= it->end;
			for (uint32_t j = o; j < other->n && other->of[j].begin < it->end; j++)
				clean &= !other->of[j].lost;
		}
		if (clean) {
			s.ns += (double)(it->end - it->begin) - reading;
			s.clean++;
		}
	}
	s.ns = s.clean ? s.ns / s.clean : NAN;
	return s;
}

#endif
