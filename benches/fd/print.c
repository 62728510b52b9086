/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tables, in Markdown. */

#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../goals.h"
#include "../measure.h"
#include "driver.h"

static struct samples in_order(const struct samples *s)
{
	struct samples sorted = *s;

	qsort(sorted.of, (size_t)sorted.n, sizeof(double), by_value);
	return sorted;
}

static double median(const struct samples *s) { return s->n ? in_order(s).of[s->n / 2] : NAN; }

/* The median of the rounds' ratios: those of a round had the same weather. */
static double ratio(const struct samples *a, const struct samples *b)
{
	struct samples each = { .n = a->n };

	if (a->n != b->n)
		return median(a) / median(b);
	for (int i = 0; i < each.n; i++)
		each.of[i] = a->of[i] / b->of[i];
	return median(&each);
}

static void print_cell(const struct samples *s)
{
	const struct samples o = in_order(s);
	const char *form = median(s) < 10 ? " %.2f (%.2f to %.2f) |" : " %.0f (%.0f to %.0f) |";

	if (s->n)
		printf(form, median(s), o.of[0], o.of[o.n - 1]);
	else
		printf(" – |");
}

static void print_ratio(const char *before, double is)
{
	if (isnan(is))
		printf("%s–", before);
	else
		printf("%s%.2f", before, is);
}

static void print_rules(int columns)
{
	printf("\n|");
	for (int c = 0; c < columns; c++)
		printf(" --- |");
	printf("\n");
}

/* --- workloads ----------------------------------------------------------------------- */

static int rounds_of(int workload, int figure)
{
	int n = 0;

	for (int p = 0; p < npeers; p++)
		n = samples[workload][p][figure].n > n ? samples[workload][p][figure].n : n;
	return n;
}

static bool has_samples(int who, int first, int last, int figure)
{
	int n = 0;

	for (int w = first; w < last; w++)
		n += samples[w][who][figure].n;
	return n > 0;
}

static void print_table(const char *title, int first, int last, int figure)
{
	if (rounds_of(first, figure) == 0)
		return;
	printf("\n**%s** (%d rounds)\n\n| |", title, rounds_of(first, figure));
	for (int w = first; w < last; w++)
		printf(" %s |", workloads[w].column);
	printf(" %s / it |", peers[0]->name);
	print_rules(last - first + 2);
	for (int p = 0; p < npeers; p++) {
		if (!has_samples(p, first, last, figure))
			continue;
		printf("| %s |", peers[p]->name);
		for (int w = first; w < last; w++)
			print_cell(&samples[w][p][figure]);
		for (int w = first; w < last; w++)
			print_ratio(w > first ? ", " : " ", ratio(&samples[w][0][figure], &samples[w][p][figure]));
		printf(" |\n");
	}
}

enum { ACCEPTS = CHAINS + PING_PONGS };

void print_workloads(void)
{
	print_table("A chain of pipes, thousand events/s: more is better", 0, CHAINS, 0);
	print_table("Pairs of sockets, thousand events/s: more is better", CHAINS, ACCEPTS, 0);
	print_table("Connections, thousand/s: more is better", ACCEPTS, WORKLOADS, 0);
	print_table("Connections, the server's processor time, us each: less is better", ACCEPTS, WORKLOADS, 1);
}

void print_wakes(void)
{
	if (!nwakes || !wake_samples[0].n)
		return;
	printf("\n**One thread wakes another, which wakes it again, thousand round trips/s: more is better** (%d rounds)\n\n"
	       "| | round trips | %s / it |", wake_samples[0].n, wakes[0]->name);
	print_rules(3);
	for (int e = 0; e < nwakes; e++) {
		printf("| %s |", wakes[e]->name);
		print_cell(&wake_samples[e]);
		print_ratio(" ", ratio(&wake_samples[0], &wake_samples[e]));
		printf(" |\n");
	}
}

/* --- goals --------------------------------------------------------------------------- */

static int named(const char *who)
{
	for (int p = 0; p < npeers; p++)
		if (!strcmp(peers[p]->name, who))
			return p;
	return -1;
}

static void want_chain(const char *who, double goal)
{
	int p = named(who), bare = named("(bare epoll)"), where = -1;
	double least = NAN, most = NAN;
	char what[160];

	for (int w = 0; w < CHAINS && p >= 0; w++) {
		double is = ratio(&samples[w][0][0], &samples[w][p][0]);

		if (!isnan(is) && !(is >= least)) {
			least = is;
			where = w;
		}
	}
	snprintf(what, sizeof(what), "chain, keel / %s, least of all cells (%s)", who,
		 where < 0 ? "none" : workloads[where].column);
	want(what, least, AT_LEAST, goal);
	/* no loop that makes the same calls can be much better than that one */
	for (int w = 0; w < CHAINS && p >= 0 && bare >= 0; w++) {
		double is = ratio(&samples[w][bare][0], &samples[w][p][0]);

		if (!isnan(is) && !(is <= most))
			most = is;
	}
	if (!isnan(most))
		printf("| chain, bare epoll / %s, most of all cells | %.2f | | |\n", who, most);
}

void print_goals(void)
{
	int bare = named("(bare epoll)");

	printf("\n| goal, in events/s | is | goal | |\n| --- | --- | --- | --- |\n");
	want_chain("libevent", 1.2);
	want_chain("libev", 1.0);
	want_chain("libuv", 1.2);
	for (int w = CHAINS; w < ACCEPTS; w++) {
		char what[80];

		snprintf(what, sizeof(what), "ping-pong, keel / bare epoll, %s", workloads[w].column);
		want(what, bare < 0 ? NAN : ratio(&samples[w][0][0], &samples[w][bare][0]), AT_LEAST, 0.95);
	}
}
