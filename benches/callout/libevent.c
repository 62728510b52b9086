/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libevent: a binary heap. The base has no lock (no evthread_use_pthreads()).
 * The calls come from a callback, as a server's do: there it uses a cached
 * time, elsewhere it would read the clock. */

#include <stdlib.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "loops.h"

static struct event_base *base;
static struct event *timers;
static uint32_t fired;

static void handler(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	fired++;
}

static const char *open_libevent(const int cores[2])
{
	(void)cores;
	base = event_base_new();
	return base ? NULL : "event_base_new() failed";
}

static bool make(uint32_t n)
{
	timers = aligned_alloc(64, (n * sizeof(*timers) + 63) & ~63ul);
	for (uint32_t i = 0; timers && i < n; i++)
		evtimer_assign(&timers[i], base, handler, NULL);
	return timers;
}

static void drop(void) { free(timers); }
static void refresh(void) { event_base_update_cache_time(base); }

static void add(uint32_t t, uint32_t ms)
{
	struct timeval delay = { ms / 1000, ms % 1000 * 1000 };

	event_add(&timers[t], &delay);
}

static void del(uint32_t t, uint32_t ms)
{
	(void)ms;
	event_del(&timers[t]);
}

static void run(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { add, add, del, NULL, NULL };

	if (op == EXPIRE)
		for (fired = 0; fired < n;)
			event_base_loop(base, EVLOOP_NONBLOCK);
	loops(&calls, op, steps, n);
}

struct call {
	void (*body)(void *);
	void *arg;
};

static void call(evutil_socket_t fd, short what, void *arg)
{
	struct call *c = arg;

	(void)fd, (void)what;
	c->body(c->arg);
}

static void inside(void (*body)(void *), void *arg)
{
	struct call c = { body, arg };
	struct event once;

	evtimer_assign(&once, base, call, &c);
	event_active(&once, EV_TIMEOUT, 0);
	event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
}

static const struct peer libevent = { "libevent", TIMER_OPS, open_libevent, make, drop, refresh, run, inside };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &libevent, NULL };

	return list;
}
