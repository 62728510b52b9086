/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libuv: a binary heap of pointers. No lock, no clock read: dates are relative
 * to the loop's cached time, in milliseconds. uv_timer_start() on an active
 * timer is its way of re-arming with another delay. */

#include <stdlib.h>

#include <uv.h>

#include "loops.h"

static uv_loop_t loop;
static uv_timer_t *timers;
static uint32_t made, fired;

static void handler(uv_timer_t *t)
{
	(void)t;
	fired++;
}

static const char *open_libuv(const int cores[2])
{
	(void)cores;
	return uv_loop_init(&loop) == 0 ? NULL : "uv_loop_init() failed";
}

static bool make(uint32_t n)
{
	timers = aligned_alloc(64, (n * sizeof(*timers) + 63) & ~63ul);
	for (uint32_t i = 0; timers && i < n; i++)
		uv_timer_init(&loop, &timers[i]);
	made = n;
	return timers;
}

static void drop(void)
{
	for (uint32_t i = 0; i < made; i++)
		uv_close((uv_handle_t *)&timers[i], NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	free(timers);
}

static void refresh(void) { uv_update_time(&loop); }
static void start(uint32_t t, uint32_t ms) { uv_timer_start(&timers[t], handler, ms, 0); }

static void stop(uint32_t t, uint32_t ms)
{
	(void)ms;
	uv_timer_stop(&timers[t]);
}

static void run(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { start, start, stop, NULL, NULL };

	if (op == EXPIRE)
		for (fired = 0; fired < n;)
			uv_run(&loop, UV_RUN_NOWAIT);
	loops(&calls, op, steps, n);
}

static const struct peer libuv = { "libuv", TIMER_OPS, open_libuv, make, drop, refresh, run, NULL };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &libuv, NULL };

	return list;
}
