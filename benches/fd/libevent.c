/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libevent, without its locks, as it comes. */

#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "bench.h"

struct watched {
	struct watch watch;
	struct event event;
};

static struct event_base *base;

static bool open_libevent(uint32_t maxfd)
{
	(void)maxfd;
	return (base = event_base_new());
}

static void handler(evutil_socket_t fd, short events, void *arg)
{
	struct watch *w = arg;

	(void)fd, (void)events;
	w->ready(w);
}

static bool watch(struct watch *w)
{
	struct event *e = &((struct watched *)w)->event;

	return event_assign(e, base, w->fd, EV_READ | EV_PERSIST, handler, w) == 0 && event_add(e, NULL) == 0;
}

static void unwatch(struct watch *w)
{
	event_del(&((struct watched *)w)->event);
	close(w->fd);
}

static void run(void) { event_base_dispatch(base); }
static void stop(void) { event_base_loopbreak(base); }

const struct peer *const *contestants(void)
{
	static const struct peer libevent = { "libevent", false, sizeof(struct watched), open_libevent, watch, unwatch, run,
					      stop, NULL };
	static const struct peer *const list[] = { &libevent, NULL };

	return list;
}
