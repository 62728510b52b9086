/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel, in three forms of arming. Every call takes and gives back the cpu's
 * lock, and takes the shared library's way through the PLT, as a server's do. */

#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include <keel/keel.h>

#include "loops.h"

static struct callout *timers;
static uint32_t fired;
static sbintime_t now;

static void handler(void *arg)
{
	(void)arg;
	fired++;
}

static void pin(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* This thread is cpu 0. cpu 1 is a thread of keel's, asleep on the other core. */
static const char *open_keel(const int cores[2])
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	static bool is_open;

	if (is_open)
		return NULL;
	cfg.nbthread = 2;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0)
		return "keel_init() failed";
	pin(cores[1]);
	if (keel_callout_start_threads(1) != 0)
		return "keel_callout_start_threads() failed";
	pin(cores[0]);
	is_open = true;
	return NULL;
}

static bool make(uint32_t n)
{
	timers = aligned_alloc(64, n * sizeof(*timers));
	softclock(0); /* as a loop's turn would */
	for (uint32_t i = 0; timers && i < n; i++)
		callout_init(&timers[i], 1);
	return timers;
}

static void drop(void) { free(timers); }

static void refresh(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec * SBT_1S + ((t.tv_nsec << 32) / 1000000000);
}

static void stop(uint32_t t, uint32_t ms)
{
	(void)ms;
	callout_stop(&timers[t]);
}

static void drain(uint32_t t, uint32_t ms)
{
	(void)ms;
	callout_drain(&timers[t]);
}

static void expire(uint32_t n)
{
	for (fired = 0; fired < n;)
		softclock(0);
}

/* Ticks of a millisecond, and the default precision, a sixteenth of the
 * delay. Each call reads the clock. */
static void ticks(uint32_t t, uint32_t ms) { callout_reset(&timers[t], (int)ms, handler, &timers[t]); }
static void on_cpu(uint32_t t, uint32_t ms, uint32_t cpu)
{
	callout_reset_on(&timers[t], (int)ms, handler, &timers[t], (int)cpu);
}

/* A date made from the loop's time, as the other libraries do it, and the
 * same precision. Nobody reads the clock. */
static void absolute(uint32_t t, uint32_t ms)
{
	sbintime_t delay = ms * SBT_1MS;

	callout_reset_sbt(&timers[t], now + delay, delay >> 4, handler, &timers[t], C_ABSOLUTE);
}

/* To the wheel's finest unit, 61 us, from the clock read at the call: filed
 * more than once on its way. */
static void precise(uint32_t t, uint32_t ms)
{
	callout_reset_sbt(&timers[t], ms * SBT_1MS, 0, handler, &timers[t], C_PREL(31));
}

static void run_ticks(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { ticks, ticks, stop, drain, on_cpu };

	if (op == EXPIRE)
		expire(n);
	loops(&calls, op, steps, n);
}

static void run_absolute(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { absolute, absolute, stop, drain, on_cpu };

	if (op == EXPIRE)
		expire(n);
	loops(&calls, op, steps, n);
}

static void run_precise(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { precise, precise, stop, drain, on_cpu };

	if (op == EXPIRE)
		expire(n);
	loops(&calls, op, steps, n);
}

static const struct peer by_ticks = { "keel, callout_reset", TIMER_OPS | DRAIN_OPS | BIT(ON_CPU), open_keel, make, drop,
				      refresh, run_ticks, NULL },
			 by_date = { "keel, C_ABSOLUTE", TIMER_OPS | DRAIN_OPS, open_keel, make, drop, refresh, run_absolute,
				     NULL },
			 precisely = { "keel, C_PREL(31)", TIMER_OPS | DRAIN_OPS, open_keel, make, drop, refresh, run_precise,
				       NULL };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &by_ticks, &by_date, &precisely, NULL };

	return list;
}
