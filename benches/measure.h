/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the benchmarks with plugins have in common: clocks, chance, cores, and
 * the plugins beside the program. */

#ifndef MEASURE_H
#define MEASURE_H

#include <dlfcn.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t read_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* The thread's time on a processor: what others run there meanwhile does not
 * count. Reading it is a system call, whose price <reading> is taken off. */
static inline uint64_t cpu_ns(void) { return read_ns(CLOCK_THREAD_CPUTIME_ID); }
static inline uint64_t now_ns(void) { return read_ns(CLOCK_MONOTONIC); }

static double reading;

static inline double since(uint64_t begin)
{
	double gone = (double)(cpu_ns() - begin) - reading;

	return gone > 0 ? gone : 0;
}

static inline void weigh_the_clock(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 10000; i++) {
		uint64_t begin = cpu_ns(), gone = cpu_ns() - begin;

		least = gone < least ? gone : least;
	}
	reading = (double)least;
}

static inline uint32_t below(uint32_t n)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)((x >> 32) * n >> 32);
}

/* The first <m> of <order>'s <n>, drawn anew. */
static inline void draw(uint32_t *order, uint32_t m, uint32_t n)
{
	for (uint32_t i = 0; i < m; i++) {
		uint32_t j = i + below(n - i), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline void pin_to(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* The first two that this process may run on, or one twice. */
static inline void find_cores(int cores[2])
{
	cpu_set_t mine;

	CPU_ZERO(&mine);
	sched_getaffinity(0, sizeof(mine), &mine);
	for (int i = 0, found = 0; i < CPU_SETSIZE && found < 2; i++)
		if (CPU_ISSET(i, &mine)) {
			cores[1] = i;
			if (found++ == 0)
				cores[0] = i;
		}
}

/* $ROUNDS, else <quick> where QUICK=1, else 7. */
static inline int rounds_wanted(int quick, int most)
{
	const char *is_quick = getenv("QUICK"), *want = getenv("ROUNDS");
	int n = want ? atoi(want) : is_quick && *is_quick == '1' ? quick : 7;

	return n < 1 || n > most ? 7 : n;
}

/* The function `contestants` of the plugin NAME.so beside the program. */
static inline void *find_contestants(const char *name)
{
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 64);
	void *plugin, *fn;

	if (length < 0)
		return NULL;
	path[length] = 0;
	snprintf(strrchr(path, '/') + 1, 64, "%s.so", name);
	if (access(path, F_OK) != 0) {
		printf("%s: not built, left out\n", name);
		return NULL;
	}
	plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	fn = plugin ? dlsym(plugin, "contestants") : NULL;
	if (!fn)
		printf("%s: left out: %s\n", name, dlerror());
	return fn;
}

#endif
