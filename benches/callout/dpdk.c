/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DPDK's rte_timer: a skip list per core. Every call changes the timer's state
 * word with an atomic exchange; reset reads the time-stamp counter and takes
 * the list's spinlock, stop of a pending timer takes it too. */

#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_timer.h>

#include "loops.h"

static struct rte_timer *timers;
static uint64_t cycles_per_ms;
static uint32_t fired;

static void handler(struct rte_timer *t, void *arg)
{
	(void)t, (void)arg;
	fired++;
}

static const char *open_dpdk(const int cores[2])
{
	char where[64];
	char *argv[] = { "callout", "--no-huge", "-m", "256", "--no-pci", "--no-shconf", "--no-telemetry",
			 "--log-level=error", "--lcores", where, NULL };

	snprintf(where, sizeof(where), "0@%d,1@%d", cores[0], cores[1]);
	if (rte_eal_init(sizeof(argv) / sizeof(*argv) - 1, argv) < 0)
		return "rte_eal_init() failed";
	if (rte_timer_subsystem_init() != 0)
		return "rte_timer_subsystem_init() failed";
	cycles_per_ms = rte_get_timer_hz() / 1000;
	return NULL;
}

static bool make(uint32_t n)
{
	timers = aligned_alloc(64, (n * sizeof(*timers) + 63) & ~63ul);
	for (uint32_t i = 0; timers && i < n; i++)
		rte_timer_init(&timers[i]);
	return timers;
}

static void drop(void) { free(timers); }
static void refresh(void) { }

static void on_cpu(uint32_t t, uint32_t ms, uint32_t cpu)
{
	rte_timer_reset(&timers[t], ms * cycles_per_ms, SINGLE, cpu, handler, NULL);
}

static void reset(uint32_t t, uint32_t ms) { on_cpu(t, ms, 0); }

static void stop(uint32_t t, uint32_t ms)
{
	(void)ms;
	rte_timer_stop(&timers[t]);
}

static void run(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { reset, reset, stop, NULL, on_cpu };

	if (op == EXPIRE)
		for (fired = 0; fired < n;)
			rte_timer_manage();
	loops(&calls, op, steps, n);
}

static const struct peer dpdk = { "DPDK", TIMER_OPS | BIT(ON_CPU), open_dpdk, make, drop, refresh, run, NULL };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &dpdk, NULL };

	return list;
}
