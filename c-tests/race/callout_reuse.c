/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A handler frees its callout and goes on for a while; the memory becomes
 * another callout, on the same cpu. Neither that execution nor a drain that
 * waits for it is the new one's.
 *
 * SHOWS: CINV-13, CINV-18 */

#include "cpus.h"

static struct callout c;
static atomic_int stage, ran;

static void reach(int n)
{
	while (atomic_load(&stage) < n)
		sched_yield();
}

/* Its callout is gone at stage 2. Where somebody drains it, that has begun when
 * the active mark is gone, and stop comes after it. */
static void frees(void *arg)
{
	atomic_store(&stage, 1);
	while (arg && callout_active(&c))
		sched_yield();
	must(callout_stop(&c) == 0, "it does not run");
	atomic_store(&stage, 2);
	reach(3);
}

static void runs(void *arg)
{
	must(arg == &ran, "a handler with another's argument");
	atomic_fetch_add(&ran, 1);
}

static void drained(void *arg)
{
	must(0, "a drain function for %p, whose handler never ran", arg);
}

static void *drains_it(void *arg)
{
	callout_drain(&c);
	return arg;
}

int main(void)
{
	pthread_t th;

	cpus_start(2, 2);
	watchdog();
	for (int round = 0; round < 8; round++) {
		int waited = round % 2;

		atomic_store(&stage, 0);
		callout_init(&c, CALLOUT_MPSAFE);
		callout_reset_on(&c, 0, frees, waited ? &c : NULL, 1);
		reach(1);
		if (waited)
			must(pthread_create(&th, NULL, drains_it, NULL) == 0, "no thread");
		reach(2);
		callout_init(&c, CALLOUT_MPSAFE);
		callout_reset_sbt_on(&c, 3600 * SBT_1S, 0, runs, &ran, 1, 0);
		must(callout_pending(&c), "an arming was refused for a drain of what was there before");
		must(callout_async_drain(&c, drained) == 1, "async_drain waits for what was there before");
		callout_reset_sbt_on(&c, 3600 * SBT_1S, 0, runs, &ran, 1, 0);
		must(callout_stop(&c) == 1, "stop sees what was there before");
		callout_reset_sbt_on(&c, 1, 0, runs, &ran, 1, C_ABSOLUTE);
		must(callout_pending(&c), "not armed");
		atomic_store(&stage, 3);
		if (waited)
			pthread_join(th, NULL);
		while (atomic_load(&ran) <= round)
			sched_yield();
		callout_drain(&c);
		atomic_fetch_add(&progress, 1);
	}
	cpus_stop();
	printf("ok reuse: what a handler freed is another callout\n");
	return 0;
}
