/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A tasklet wakes another one on the other thread, which wakes it again. */

#define _GNU_SOURCE
#include <stdatomic.h>

#include <keel/keel.h>

#include "entry.h"
#include "round_trips.h"

#define LONG_ENOUGH 1000000 /* us: nobody ever sleeps */

static struct tasklet *tasklets[2];
static atomic_bool entered, over;
static bool in_loop;

static struct task *ping(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx, (void)state;
	if (another_trip()) {
		tasklet_wakeup_on(tasklets[1], 1);
		return t;
	}
	atomic_store(&over, true);
	keel_stop();
	return t;
}

static struct task *pong(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx, (void)state;
	tasklet_wakeup_on(tasklets[0], 0);
	return t;
}

static void turn(void)
{
	if (in_loop)
		run_poll_loop();
	else
		while (!atomic_load_explicit(&over, memory_order_relaxed))
			process_runnable_tasks();
}

static void *other(void *arg)
{
	if (keel_thread_enter(1) == 0) {
		atomic_store(&entered, true);
		turn();
		keel_thread_leave();
	}
	return arg;
}

static void own(void)
{
	while (!atomic_load(&entered))
		sched_yield();
	tasklet_wakeup_on(tasklets[1], 1);
	turn();
}

static bool measure(const int cores[2], int ms, double figures[COLUMNS], bool loop, unsigned int spin_us)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 256;
	cfg.spin_us = spin_us;
	in_loop = loop;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0)
		return false;
	for (int i = 0; i < 2; i++) {
		if (!(tasklets[i] = tasklet_new()))
			return false;
		tasklets[i]->process = i ? pong : ping;
		tasklet_set_tid(tasklets[i], i);
	}
	start_trips(ms);
	if (!in_both(cores, other, own))
		return false;
	figures[0] = median_trips();
	/* a round trip is one run of each */
	return tasklets[0]->calls == tasklets[1]->calls;
}

static bool calling(const int cores[2], int ms, double figures[COLUMNS]) { return measure(cores, ms, figures, false, 0); }
static bool spinning(const int cores[2], int ms, double figures[COLUMNS]) { return measure(cores, ms, figures, true, LONG_ENOUGH); }
static bool sleeping(const int cores[2], int ms, double figures[COLUMNS]) { return measure(cores, ms, figures, true, 0); }

const struct entry *const *contestants(void)
{
	static const struct entry calls = { PINGS, "keel, process_runnable_tasks() again and again", calling, NULL },
				  spins = { PINGS, "keel, run_poll_loop(), spin_us of a second", spinning, NULL },
				  sleeps = { PINGS, "keel, run_poll_loop(), asleep in between", sleeping, NULL };
	static const struct entry *const list[] = { &calls, &spins, &sleeps, NULL };

	return list;
}
