/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables, in Markdown. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../goals.h"
#include "driver.h"

/* malloc's and free's pair on the machine for which the goals in ns were set. */
#define YARDSTICK_NS 8.3

static double median(const struct samples *s) { return s->n ? s->of[s->n / 2] : NAN; }

static void print_cell(const struct samples *s)
{
	if (s->n)
		printf(" %.1f (%.1f to %.1f) |", median(s), s->of[0], s->of[s->n - 1]);
	else
		printf(" – |");
}

static void print_ratio(const char *before, double ratio)
{
	if (isnan(ratio))
		printf("%s–", before);
	else
		printf("%s%.2f", before, ratio);
}

static void print_rules(int columns)
{
	printf("\n|");
	for (int c = 0; c < columns; c++)
		printf(" --- |");
	printf("\n");
}

/* --- timers ------------------------------------------------------------------------ */

static bool has_samples(enum figure f, int who)
{
	int n = 0;

	for (int s = 0; s < SIZES; s++)
		n += timer_samples[f][s][who].n;
	return n > 0;
}

void print_timers(void)
{
	for (int f = 0; f < FIGURES && npeers; f++) {
		printf("\n%s, ns: median (least to most) of the rounds\n\n| armed |", figures[f].title);
		for (int s = 0; s < SIZES; s++)
			printf(" %s, %d rounds |", sizes[s].name, timer_samples[f][s][0].n);
		printf(" %s / it |", peers[0]->name);
		print_rules(SIZES + 2);
		for (int p = 0; p < npeers; p++) {
			if (!has_samples((enum figure)f, p))
				continue;
			printf("| %s |", peers[p]->name);
			for (int s = 0; s < SIZES; s++)
				print_cell(&timer_samples[f][s][p]);
			for (int s = 0; s < SIZES; s++)
				print_ratio(s ? ", " : " ", median(&timer_samples[f][s][0]) / median(&timer_samples[f][s][p]));
			printf(" |\n");
		}
	}
}

/* --- the others --------------------------------------------------------------------- */

static const struct {
	const char *title;
	const char *columns[COLUMNS];
} tables[TABLES] = {
	[YARDSTICK] = { "the yardstick: glibc's malloc", { "ns" } },
	[TASKLETS] = { "tasklets, in batches of 100", { "wake and run, ns" } },
	[TASKS] = { "1000 tasks", { "wake and run, ns", "wake", "run" } },
	[PINGS] = { "one thread wakes another, which wakes it again", { "thousand round trips/s: more is better" } },
};

void print_entries(void)
{
	for (int t = 0; t < TABLES; t++) {
		int first = 0, columns = 0;

		while (first < nentries && entries[first]->table != (enum table)t)
			first++;
		if (first == nentries)
			continue;
		printf("\n%s, median (least to most) of %d rounds\n\n| |", tables[t].title, entry_samples[first][0].n);
		while (columns < COLUMNS && tables[t].columns[columns])
			printf(" %s |", tables[t].columns[columns++]);
		print_rules(columns + 1);
		for (int e = first; e < nentries; e++) {
			if (entries[e]->table != (enum table)t)
				continue;
			printf("| %s |", entries[e]->name);
			for (int c = 0; c < columns; c++)
				print_cell(&entry_samples[e][c]);
			printf("\n");
		}
	}
}

/* --- goals -------------------------------------------------------------------------- */

static double timer(enum figure f, const char *who)
{
	for (int p = 0; p < npeers; p++)
		if (!strcmp(peers[p]->name, who))
			return median(&timer_samples[f][LARGEST][p]);
	return NAN;
}

static double entry(const char *who)
{
	for (int e = 0; e < nentries; e++)
		if (!strcmp(entries[e]->name, who))
			return median(&entry_samples[e][0]);
	return NAN;
}

void print_goals(void)
{
	const char *keel = "keel, task_queue()";
	double yardstick = entry("malloc(64), write a word, free()"), scale = yardstick / YARDSTICK_NS;
	double plain = entry("keel, nice 0"), bare = entry("(eventfd and epoll)");

	printf("\ngoals; those in ns are for a machine where the yardstick takes %.1f ns, and here, where it takes %.1f ns, "
	       "times %.2f\n\n| | is | goal | |\n| --- | --- | --- | --- |\n", YARDSTICK_NS, yardstick, scale);
	if (npeers) {
		want("cancel and arm at random, 1M / libev", timer(F_CYCLE, keel) / timer(F_CYCLE, "libev"), AT_MOST, 0.6);
		want("cancel and arm at random, 1M / libevent", timer(F_CYCLE, keel) / timer(F_CYCLE, "libevent"), AT_MOST, 0.15);
		want("re-arm later, 1M / libev", timer(F_LATER, keel) / timer(F_LATER, "libev"), AT_MOST, 0.3);
		want("arm, each later, 1M / libev", timer(F_APPEND, keel) / timer(F_APPEND, "libev"), AT_MOST, 1.3);
		want("arm, dates at random, 1M / libev", timer(F_ARM, keel) / timer(F_ARM, "libev"), AT_MOST, 1.3);
		want("expire: find, wake and run, 1M, ns", timer(F_EXPIRE, keel), AT_MOST, 80 * scale);
	}
	if (!isnan(plain)) {
		want("tasklet with a thread of its own, wake and run, in batches, ns",
		     entry("keel, with a thread of its own, woken there"), AT_MOST, 9 * scale);
		want("tasklet without, wake and run, in batches, ns", entry("keel, whoever wakes it runs it"), AT_MOST, 9 * scale);
		want("1000 tasks, wake and run, ns", plain, AT_MOST, 25 * scale);
		want("1000 tasks, nice at random / nice 0", entry("keel, nice at random") / plain, AT_MOST, 1.3);
		want("tasklet ping-pong, process_runnable_tasks(), thousand/s",
		     entry("keel, process_runnable_tasks() again and again"), AT_LEAST, 2000);
		want("tasklet ping-pong, spin_us, thousand/s", entry("keel, run_poll_loop(), spin_us of a second"), AT_LEAST, 2000);
		want("tasklet ping-pong, spin_us / eventfd and epoll", entry("keel, run_poll_loop(), spin_us of a second") / bare,
		     AT_LEAST, 10);
		want("tasklet ping-pong, asleep in between / eventfd and epoll",
		     entry("keel, run_poll_loop(), asleep in between") / bare, AT_LEAST, 0.95);
	}
}
