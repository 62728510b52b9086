/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the machine allows: epoll_wait() without a timeout, then the handlers.
 * With EPOLLET, too, under which the kernel need not look again at what it
 * reported: each handler here happens to take all there is. */

#include <sys/epoll.h>
#include <unistd.h>

#include "bench.h"

#define MAX_EVENTS 256 /* as keel */

static int set;
static uint32_t wanted = EPOLLIN | EPOLLRDHUP;
static bool stopped;

static bool open_bare(uint32_t maxfd)
{
	(void)maxfd;
	return (set = epoll_create1(EPOLL_CLOEXEC)) >= 0;
}

static bool open_edges(uint32_t maxfd)
{
	wanted |= EPOLLET;
	return open_bare(maxfd);
}

static bool watch(struct watch *w)
{
	struct epoll_event e = { .events = wanted, .data.ptr = w };

	return epoll_ctl(set, EPOLL_CTL_ADD, w->fd, &e) == 0;
}

static void unwatch(struct watch *w) { close(w->fd); }

static void run(void)
{
	static struct epoll_event events[MAX_EVENTS];

	while (!stopped) {
		int n = epoll_wait(set, events, MAX_EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct watch *w = events[i].data.ptr;

			w->ready(w);
		}
	}
}

static void stop(void) { stopped = true; }

const struct peer *const *contestants(void)
{
	static const struct peer bare = { "(bare epoll)", false, sizeof(struct watch), open_bare, watch, unwatch, run, stop, NULL },
				 edges = { "(bare epoll, EPOLLET)", true, sizeof(struct watch), open_edges, watch, unwatch, run, stop, NULL };
	static const struct peer *const list[] = { &bare, &edges, NULL };

	return list;
}
