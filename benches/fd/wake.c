/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A thread in keel's loop wakes another one, which wakes it again. */

#define _GNU_SOURCE
#include <stdatomic.h>

#include <keel/keel.h>

#include "../task/entry.h"
#include "../task/round_trips.h"

static atomic_int turn; /* whose it is: a loop may return for other reasons */
static atomic_bool entered, over;

static void wait_for(int me)
{
	while (atomic_load(&turn) != me)
		keel_poll_once(-1);
}

static void pass_to(int other)
{
	atomic_store(&turn, other);
	wake_thread(other);
}

static void *wakes_back(void *arg)
{
	if (keel_thread_enter(1) != 0)
		abort();
	atomic_store(&entered, true);
	for (;;) {
		wait_for(1);
		if (atomic_load(&over))
			break;
		pass_to(0);
	}
	keel_thread_leave();
	return arg;
}

static void wakes(void)
{
	while (!atomic_load(&entered))
		sched_yield();
	do {
		pass_to(1);
		wait_for(0);
	} while (another_trip());
	atomic_store(&over, true);
	pass_to(1);
}

static bool measure(const int cores[2], int ms, double figures[COLUMNS])
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 256;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0)
		return false;
	start_trips(ms);
	if (!in_both(cores, wakes_back, wakes))
		return false;
	figures[0] = median_trips();
	return true;
}

const struct entry *const *contestants(void)
{
	static const struct entry wake = { PINGS, "keel, wake_thread() and keel_poll_once()", measure, NULL };
	static const struct entry *const list[] = { &wake, NULL };

	return list;
}
