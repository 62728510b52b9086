/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables, in Markdown. */

#define _GNU_SOURCE
#include "../goals.h"
#include "../measure.h"
#include "driver.h"

static const char *const law_names[LAWS] = { "uniform", "Zipf" };

void print_preface(const int rounds[SIZES])
{
	printf("\nNanoseconds per operation, median (least to most) of %d rounds at %s keys and %d at %s that take all\n"
	       "contestants in turn, each time in a new process. Keys of four bytes; each entry has a plain counter, two\n"
	       "sliding ones of ten seconds, and a date. The entries were made in random order; keys are asked for with\n"
	       "the same chance each, or by Zipf's law with 0.99. One thread: its processor time. Two threads: on a core\n"
	       "each, by the clock, without the slices of 4 ms in which either was preempted.\n\n"
	       "Only keel and moka keep references and expire by themselves: the others find what is expired by a walk\n"
	       "over the whole table, which uthash makes with its mutex held. lfht has a spinlock per entry, papaya a\n"
	       "mutex; dashmap locks one of its parts. All that lets them choose is made for the final size, but uthash\n"
	       "and keel grow; moka has no limit, and so needs not choose what to keep. A create at 1M takes memory that\n"
	       "was never used before. Memory is resident memory, the index included.\n",
	       rounds[SMALL], sizes[SMALL].name, rounds[LARGE], sizes[LARGE].name);
}

static double median(int f, int column, int peer)
{
	return median_of(samples[f][column][peer].of, samples[f][column][peer].n);
}

static bool has(int f, int column) { return figures[f].threads || column % LAWS == 0; }

void print(int f)
{
	printf("\n**%c%s**\n\n| median (least to most) |", figures[f].title[0] - 'a' + 'A', figures[f].title + 1);
	for (int c = 0; c < COLUMNS; c++)
		if (has(f, c))
			printf(" %s%s%s |", sizes[c / LAWS].name, figures[f].threads ? " " : "", figures[f].threads ? law_names[c % LAWS] : "");
	printf(" %s / it |\n|", peers[0]->name);
	for (int c = -2; c < COLUMNS; c++)
		if (c < 0 || has(f, c))
			printf(" --- |");
	printf("\n");
	for (int p = 0; p < npeers; p++) {
		const char *between = " ";

		printf("| %s |", peers[p]->name);
		for (int c = 0; c < COLUMNS; c++) {
			double middle = median(f, c, p), *of = samples[f][c][p].of;

			if (!has(f, c))
				continue;
			if (isnan(middle))
				printf(" – |");
			else
				printf(" %.1f (%.1f to %.1f) |", middle, of[0], of[samples[f][c][p].n - 1]);
		}
		for (int c = 0; c < COLUMNS; c++)
			if (has(f, c)) {
				double ratio = median(f, c, 0) / median(f, c, p);

				if (isnan(ratio))
					printf("%s–", between);
				else
					printf("%s%.2f", between, ratio);
				between = ", ";
			}
		printf(" |\n");
	}
}

static int find(const char *name)
{
	for (int p = 0; p < npeers; p++)
		if (!strcmp(peers[p]->name, name))
			return p;
	return -1;
}

void print_goals(void)
{
	static const char *const beaten[] = { "moka", "dashmap", "mutex + uthash" };
	int lfht = find("liburcu lfht");

	printf("\n| %s | is | goal | |\n| --- | --- | --- | --- |\n", peers[0]->name);
	want("hit, 10k uniform, one thread, ns", median(F_HIT, COLUMN(SMALL, UNIFORM), 0), AT_MOST, 45);
	want("hit, 10k uniform, each of two threads, ns", median(F_HIT_2, COLUMN(SMALL, UNIFORM), 0), AT_MOST, 70);
	if (lfht >= 0) {
		want("hit, 1M uniform / lfht's lookup alone",
		     median(F_HIT, COLUMN(LARGE, UNIFORM), 0) / median(F_LOOKUP, COLUMN(LARGE, UNIFORM), lfht), AT_MOST, 2);
		want("create, 1M / lfht's, made for its size", median(F_CREATE, COLUMN(LARGE, 0), 0) / median(F_CREATE, COLUMN(LARGE, 0), lfht),
		     AT_MOST, 1.2);
	}
	want("expiry, 1M, ns per entry", median(F_EXPIRE, COLUMN(LARGE, 0), 0), AT_MOST, 70);
	want("memory per entry, 1M, bytes", median(F_BYTES, COLUMN(LARGE, 0), 0), AT_MOST, 104);
	if (cost[0])
		want("keel_stktable_cost() off from that, %",
		     fabs(cost[0] / median(F_BYTES, COLUMN(LARGE, 0), 0) - 1) * 100, AT_MOST, 5);
	for (size_t i = 0; i < sizeof(beaten) / sizeof(*beaten); i++) {
		int p = find(beaten[i]), measured = 0;
		double worst = NAN;
		char what[80], where[40] = "";

		for (int f = 0; p >= 0 && f < FIGURES; f++)
			for (int c = 0; figures[f].op == HIT && c < COLUMNS; c++) {
				double ratio = median(f, c, 0) / median(f, c, p);

				measured += !isnan(ratio);
				if (!isnan(ratio) && !(ratio <= worst)) {
					worst = ratio;
					snprintf(where, sizeof(where), "%s %s, %d", sizes[c / LAWS].name, law_names[c % LAWS],
						 figures[f].threads);
				}
			}
		if (p < 0)
			continue;
		snprintf(what, sizeof(what), "hit / %s's, worst of %d cells (%s)", beaten[i], measured, where);
		want(what, worst, AT_MOST, 1);
	}
}
