/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libev: a 4-ary heap with cached dates. No lock, no clock read: dates are
 * relative to the loop's cached time. Re-arming goes the way its manual
 * advises, ev_timer_again(), which moves the timer in place. */

#include <stdlib.h>

#include <ev.h>

#include "loops.h"

static struct ev_loop *loop;
static ev_timer *timers;
static uint32_t fired;

static void handler(struct ev_loop *l, ev_timer *w, int events)
{
	(void)l, (void)w, (void)events;
	fired++;
}

static const char *open_libev(const int cores[2])
{
	(void)cores;
	loop = ev_loop_new(EVFLAG_AUTO);
	return loop ? NULL : "ev_loop_new() failed";
}

static bool make(uint32_t n)
{
	timers = aligned_alloc(64, (n * sizeof(*timers) + 63) & ~63ul);
	for (uint32_t i = 0; timers && i < n; i++)
		ev_timer_init(&timers[i], handler, 0, 0);
	return timers;
}

static void drop(void) { free(timers); }
static void refresh(void) { ev_now_update(loop); }

static void start(uint32_t t, uint32_t ms)
{
	ev_timer_set(&timers[t], ms * 1e-3, 0);
	ev_timer_start(loop, &timers[t]);
}

static void again(uint32_t t, uint32_t ms)
{
	timers[t].repeat = ms * 1e-3;
	ev_timer_again(loop, &timers[t]);
}

static void stop(uint32_t t, uint32_t ms)
{
	(void)ms;
	ev_timer_stop(loop, &timers[t]);
}

static void run(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { start, again, stop, NULL, NULL };

	if (op == EXPIRE)
		for (fired = 0; fired < n;)
			ev_run(loop, EVRUN_NOWAIT);
	loops(&calls, op, steps, n);
}

static const struct peer libev = { "libev", TIMER_OPS, open_libev, make, drop, refresh, run, NULL };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &libev, NULL };

	return list;
}
