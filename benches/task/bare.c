/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the machine allows. */

#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "entry.h"
#include "round_trips.h"

/* --- two threads that sleep in epoll_wait() --------------------------------------- */

static int events[2], polls[2];
static atomic_bool over;
static bool edges;

static void wait_for(int which)
{
	struct epoll_event e;
	uint64_t value;

	while (epoll_wait(polls[which], &e, 1, -1) != 1)
		;
	if (!edges && read(events[which], &value, sizeof(value)) != sizeof(value))
		abort();
}

static void wake(int which)
{
	uint64_t one = 1;

	if (write(events[which], &one, sizeof(one)) != sizeof(one))
		abort();
}

static void *wakes_back(void *arg)
{
	do {
		wait_for(1);
		wake(0);
	} while (!atomic_load(&over));
	return arg;
}

static void wakes(void)
{
	do {
		wake(1);
		wait_for(0);
	} while (another_trip());
	atomic_store(&over, true);
	wake(1);
}

static bool sleeping(const int cores[2], int ms, double figures[COLUMNS], bool with_edges)
{
	edges = with_edges;
	for (int i = 0; i < 2; i++) {
		struct epoll_event e = { .events = EPOLLIN | (edges ? EPOLLET : 0) };

		events[i] = eventfd(0, EFD_NONBLOCK);
		polls[i] = epoll_create1(0);
		if (events[i] < 0 || polls[i] < 0 || epoll_ctl(polls[i], EPOLL_CTL_ADD, events[i], &e) != 0)
			return false;
	}
	start_trips(ms);
	if (!in_both(cores, wakes_back, wakes))
		return false;
	figures[0] = median_trips();
	return true;
}

static bool levels(const int cores[2], int ms, double figures[COLUMNS]) { return sleeping(cores, ms, figures, false); }
static bool edge(const int cores[2], int ms, double figures[COLUMNS]) { return sleeping(cores, ms, figures, true); }

/* --- two threads that write to one cache line ---------------------------------------- */

static atomic_int turn __attribute__((aligned(128)));

static void pass_to(int me)
{
	while (atomic_load_explicit(&turn, memory_order_acquire) != me)
		;
	atomic_store_explicit(&turn, 1 - me, memory_order_release);
}

static void *passes_back(void *arg)
{
	while (!atomic_load_explicit(&over, memory_order_relaxed))
		pass_to(1);
	return arg;
}

static void passes(void)
{
	do
		pass_to(0);
	while (another_trip());
	atomic_store(&over, true);
	pass_to(0);
}

static bool line(const int cores[2], int ms, double figures[COLUMNS])
{
	start_trips(ms);
	if (!in_both(cores, passes_back, passes))
		return false;
	figures[0] = median_trips();
	return true;
}

/* --- the yardstick ------------------------------------------------------------------- */

static bool allocate(const int cores[2], int ms, double figures[COLUMNS])
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000, pairs = 0;
	double ns = 0;

	(void)cores;
	weigh_the_clock();
	for (; now_ns() < end; pairs += 100000) {
		uint64_t begin = cpu_ns();

		for (int i = 0; i < 100000; i++) {
			volatile uint64_t *p = malloc(64);

			if (!p)
				return false;
			*p = 1;
			free((void *)p);
		}
		ns += since(begin);
	}
	figures[0] = ns / (double)pairs;
	return true;
}

const struct entry *const *contestants(void)
{
	static const struct entry malloc_is = { YARDSTICK, "malloc(64), write a word, free()", allocate, NULL },
				  plain = { PINGS, "(eventfd and epoll)", levels, NULL },
				  triggered = { PINGS, "(eventfd and epoll, EPOLLET, never read)", edge, NULL },
				  cache_line = { PINGS, "(one cache line)", line, NULL };
	static const struct entry *const list[] = { &malloc_is, &plain, &triggered, &cache_line, NULL };

	return list;
}
