/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs that test callouts share. */
#ifndef CALLOUTS_H
#define CALLOUTS_H

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

/* The library's first warning. */
static atomic_int warnings;
static char warning[1024];

static inline void note_warning(int level, const char *message, void *arg)
{
	(void)arg;
	if (level > 4 || atomic_load(&warnings))
		return;
	snprintf(warning, sizeof(warning), "%s", message);
	atomic_fetch_add(&warnings, 1);
}

static inline void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 64;
	cfg.log = note_warning;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

/* With threads of its own for each cpu. */
static inline void start_threads(unsigned int n)
{
	start(n);
	ck_assert_int_eq(keel_callout_start_threads(n), 0);
}

static inline void nap_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

/* Waits for <*flag>; half a minute is for ever. */
static inline void until(const atomic_int *flag, int value)
{
	uint64_t limit = keel_now_ns() + 30000000000u;

	while (atomic_load(flag) < value && keel_now_ns() < limit)
		nap_us(200);
	ck_assert_int_ge(atomic_load(flag), value);
}

/* For a date long past: due at the next granule. */
static inline int arm_now(struct callout *c, void (*fn)(void *), void *arg, int cpu)
{
	return callout_reset_sbt_on(c, 1, 0, fn, arg, cpu, C_ABSOLUTE);
}

/* A pass in which whatever has been due up to now is run. */
static inline void pass(void)
{
	nap_us(500);
	softclock(0);
}

static inline sbintime_t now_sbt(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((sbintime_t)t.tv_sec << 32) + (sbintime_t)(((uint64_t)t.tv_nsec << 32) / 1000000000);
}

static atomic_int runs;
static atomic_int cpu_seen = -2;

static inline void count(void *arg)
{
	(void)arg;
	atomic_store(&cpu_seen, (int)keel_tid());
	atomic_fetch_add(&runs, 1);
}

#endif
