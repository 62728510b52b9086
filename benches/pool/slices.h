/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Time, in short slices by the clock. A slice in which its thread lost its
 * core is left out, and so is one during which the other thread lost its own or
 * was not at work: then they ran one after the other. Waiting in the kernel, as
 * for the address space's lock, counts; waiting for the core afterwards, because
 * somebody else has it, loses the slice too. */

#ifndef SLICES_H
#define SLICES_H

#include <fcntl.h>
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
	struct rusage usage;
	int delays; /* open, for <waited> */
	uint64_t waited;
	struct slice of[MAX_SLICES];
};

/* How long the calling thread was ready to run and did not, in ns; 0 where the
 * kernel does not say. */
static inline uint64_t waited_for_a_core(const struct track *t)
{
	char text[64];
	ssize_t n = t->delays < 0 ? -1 : pread(t->delays, text, sizeof(text) - 1, 0);
	unsigned long long ran, waited;

	text[n < 0 ? 0 : n] = 0;
	return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

/* By the thread whose slices these will be. */
static inline void open_track(struct track *t)
{
	t->delays = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	t->waited = waited_for_a_core(t);
	getrusage(RUSAGE_THREAD, &t->usage);
}

static inline void begin_slice(struct track *t) { t->of[t->n].begin = now_ns(); }

static inline void end_slice(struct track *t)
{
	struct slice *it = &t->of[t->n++];
	long lost = t->usage.ru_nivcsw, slept = t->usage.ru_nvcsw;
	uint64_t waited = t->waited;

	it->end = now_ns();
	getrusage(RUSAGE_THREAD, &t->usage);
	if (t->usage.ru_nivcsw == lost && t->usage.ru_nvcsw == slept)
		return;
	t->waited = waited_for_a_core(t);
	it->lost = t->usage.ru_nivcsw != lost || t->waited - waited > (it->end - it->begin) / 4;
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
