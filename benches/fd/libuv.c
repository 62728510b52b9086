/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libuv: a uv_poll_t for each descriptor. */

#include <unistd.h>

#include <uv.h>

#include "bench.h"

struct watched {
	struct watch watch;
	uv_poll_t poll;
};

static uv_loop_t loop;

static bool open_libuv(uint32_t maxfd)
{
	(void)maxfd;
	return uv_loop_init(&loop) == 0;
}

static void handler(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;

	(void)status, (void)events;
	w->ready(w);
}

static bool watch(struct watch *w)
{
	uv_poll_t *poll = &((struct watched *)w)->poll;

	if (uv_poll_init(&loop, poll, w->fd) != 0)
		return false;
	poll->data = w;
	return uv_poll_start(poll, UV_READABLE, handler) == 0;
}

/* The handle lives until the end of the loop's turn: the workload does not use
 * its memory anew before that. */
static void unwatch(struct watch *w)
{
	uv_close((uv_handle_t *)&((struct watched *)w)->poll, NULL);
	close(w->fd);
}

static void run(void) { uv_run(&loop, UV_RUN_DEFAULT); }
static void stop(void) { uv_stop(&loop); }

const struct peer *const *contestants(void)
{
	static const struct peer libuv = { "libuv", false, sizeof(struct watched), open_libuv, watch, unwatch, run, stop, NULL };
	static const struct peer *const list[] = { &libuv, NULL };

	return list;
}
