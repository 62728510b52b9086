/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables, in Markdown. */

#include <math.h>
#include <stdio.h>

#include "../goals.h"
#include "driver.h"

void print_preface(int rounds, int ms)
{
	printf("\nMedian (least to most) of %d rounds that take all contestants in turn, each time in a new process, for %d ms.\n"
	       "By the clock, in short slices, without those in which a thread lost its core or waited for it. Threads are\n"
	       "pinned to a core each. keel's are registered, and have the default cache of 512 KiB where nothing else is\n"
	       "said. The other allocators are what LD_PRELOAD put in glibc's place, as they are when installed.\n",
	       rounds, ms);
}

/* In the figure's unit, or NAN. */
static double shown(enum figure f, double ns) { return figures[f].is_rate ? 1000 / ns : ns; }

static double median(enum figure f, int column, int who)
{
	const struct samples *s = &samples[f][column][who];

	return s->n ? shown(f, s->of[s->n / 2]) : NAN;
}

static bool took_part(enum figure f, int who)
{
	int n = 0;

	for (int i = 0; i < WIDTH; i++)
		n += samples[f][i][who].n;
	return n > 0;
}

static void print_cell(enum figure f, int column, int who)
{
	const struct samples *s = &samples[f][column][who];
	double least, most;

	if (s->n == 0) {
		printf(" – |");
		return;
	}
	least = shown(f, s->of[figures[f].is_rate ? s->n - 1 : 0]);
	most = shown(f, s->of[figures[f].is_rate ? 0 : s->n - 1]);
	printf(" %.2f (%.2f to %.2f) |", median(f, column, who), least, most);
}

static void print_ratio(const char *between, double ratio)
{
	if (isnan(ratio))
		printf("%s–", between);
	else
		printf("%s%.2f", between, ratio);
}

void print_figure(enum figure f)
{
	bool per_thread = f == PAIR_BOTH || f == BATCH_BOTH;

	if (!took_part(f, KEEL))
		return;
	printf("\n%s, %s\n\n| |", figures[f].title, figures[f].is_rate ? "million objects/s: more is better" : "ns per object");
	for (int i = 0; i < WIDTH; i++)
		if (figures[f].columns[i].name)
			printf(" %s |", figures[f].columns[i].name);
	printf(per_thread ? " of two / one | keel / it |\n| --- | --- |" : " keel / it |\n| --- |");
	for (int i = 0; i < WIDTH; i++)
		if (figures[f].columns[i].name)
			printf(" --- |");
	printf(" --- |\n");
	for (int who = 0; who < CONTESTANTS; who++) {
		if (!took_part(f, who))
			continue;
		printf("| %s |", names[who]);
		for (int i = 0; i < WIDTH; i++)
			if (figures[f].columns[i].name)
				print_cell(f, i, who);
		if (per_thread) {
			print_ratio(" ", median(f, 1, who) / median(f, 0, who));
			printf(" |");
		}
		for (int i = 0; i < WIDTH && figures[f].columns[i].name; i++)
			print_ratio(i ? ", " : " ", median(f, i, KEEL) / median(f, i, who));
		printf(" |\n");
	}
}

/* --- goals ------------------------------------------------------------------ */

static double against(enum figure f, int column, int mine, int theirs)
{
	return median(f, column, mine) / median(f, column, theirs);
}

/* Beside the best of the four; NAN where one of them lacks. */
static double against_all(enum figure f, int column, int mine)
{
	double worst = NAN;

	for (int who = GLIBC; who <= TCMALLOC; who++) {
		double ratio = against(f, column, mine, who);

		if (isnan(ratio))
			return NAN;
		if (isnan(worst) || (figures[f].is_rate ? ratio < worst : ratio > worst))
			worst = ratio;
	}
	return worst;
}

void print_goals(void)
{
	printf("\ngoals\n\n| keel / the others, in the figure's unit | is | goal | |\n| --- | --- | --- | --- |\n");
	want("pair, 64 B, plain calls / the fastest of the four, ns", against_all(PAIR, 0, KEEL), AT_MOST, 0.9);
	want("pair, 64 B, KEEL_INLINE / the fastest of the four, ns", against_all(PAIR, 0, INLINE), AT_MOST, 0.4);
	want("pair, 16 KiB, plain calls / mimalloc, ns", against(PAIR, 2, KEEL, MIMALLOC), AT_MOST, 0.35);
	want("batch of 64, 16 KiB, plain calls, default cache / tcmalloc, ns", against(BATCH, 2, KEEL, TCMALLOC), AT_MOST, 1);
	want("producer to consumer, 64 B / tcmalloc, objects/s", against(RING, 0, KEEL, TCMALLOC), AT_LEAST, 1);
	want("producer to consumer, 512 B / the best of the four, objects/s", against_all(RING, 1, KEEL), AT_LEAST, 1);
	want("producer to consumer, 16 KiB / the best of the four, objects/s", against_all(RING, 2, KEEL), AT_LEAST, 1);
	want("pair, 64 B, each of two threads at once / one thread, ns", median(PAIR_BOTH, 1, KEEL) / median(PAIR_BOTH, 0, KEEL),
	     AT_MOST, 1.15);
	want("batch of 64, 64 B, each of two threads at once / one thread, ns",
	     median(BATCH_BOTH, 1, KEEL) / median(BATCH_BOTH, 0, KEEL), AT_MOST, 1.15);
	want("2 MiB buffers from thread to thread / glibc, buffers/s", against(BUFFERS, 0, KEEL, GLIBC), AT_LEAST, 5);
}
