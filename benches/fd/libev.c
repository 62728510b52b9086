/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libev. */

#include <unistd.h>

#include <ev.h>

#include "bench.h"

struct watched {
	struct watch watch;
	ev_io io;
};

static struct ev_loop *loop;

static bool open_libev(uint32_t maxfd)
{
	(void)maxfd;
	return (loop = ev_loop_new(EVBACKEND_EPOLL));
}

static void handler(struct ev_loop *l, ev_io *io, int events)
{
	struct watch *w = io->data;

	(void)l, (void)events;
	w->ready(w);
}

static bool watch(struct watch *w)
{
	ev_io *io = &((struct watched *)w)->io;

	ev_io_init(io, handler, w->fd, EV_READ);
	io->data = w;
	ev_io_start(loop, io);
	return true;
}

static void unwatch(struct watch *w)
{
	ev_io_stop(loop, &((struct watched *)w)->io);
	close(w->fd);
}

static void run(void) { ev_run(loop, 0); }
static void stop(void) { ev_break(loop, EVBREAK_ALL); }

const struct peer *const *contestants(void)
{
	static const struct peer libev = { "libev", false, sizeof(struct watched), open_libev, watch, unwatch, run, stop, NULL };
	static const struct peer *const list[] = { &libev, NULL };

	return list;
}
