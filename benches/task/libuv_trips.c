/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libuv: two loops, each with a uv_async_t that the other one sends to. */

#define _GNU_SOURCE
#include <uv.h>

#include "entry.h"
#include "round_trips.h"

static uv_loop_t loops[2];
static uv_async_t asyncs[2];
static volatile bool over;

static void ping(uv_async_t *a)
{
	if (!over && !another_trip()) {
		over = true;
		uv_close((uv_handle_t *)a, NULL);
	}
	uv_async_send(&asyncs[1]);
}

static void pong(uv_async_t *a)
{
	if (over)
		uv_close((uv_handle_t *)a, NULL);
	else
		uv_async_send(&asyncs[0]);
}

static void *other(void *arg)
{
	uv_run(&loops[1], UV_RUN_DEFAULT);
	return arg;
}

static void own(void)
{
	uv_async_send(&asyncs[1]);
	uv_run(&loops[0], UV_RUN_DEFAULT);
}

static bool measure(const int cores[2], int ms, double figures[COLUMNS])
{
	for (int i = 0; i < 2; i++)
		if (uv_loop_init(&loops[i]) != 0 || uv_async_init(&loops[i], &asyncs[i], i ? pong : ping) != 0)
			return false;
	start_trips(ms);
	if (!in_both(cores, other, own))
		return false;
	figures[0] = median_trips();
	return true;
}

const struct entry *const *contestants(void)
{
	static const struct entry async = { PINGS, "libuv, uv_async_send()", measure, NULL };
	static const struct entry *const list[] = { &async, NULL };

	return list;
}
