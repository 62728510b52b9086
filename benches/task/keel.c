/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel's tasks as timers. Every call takes the shared library's way through the
 * PLT, as a server's do. Dates are made from the loop's time, read beforehand,
 * as a handler does that asks for it once. */

#include <errno.h>
#include <stdlib.h>

#include <keel/keel.h>

#include "../callout/loops.h"

static struct task **tasks;
static uint32_t made, fired;
static int now;

static struct task *handler(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx, (void)state;
	fired++;
	t->expire = TICK_ETERNITY;
	return t;
}

/* This thread is thread 0. Nobody is thread 1: but tasks that others might
 * touch do not pass for this thread's own. */
static const char *open_keel(const int cores[2])
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	(void)cores;
	if (keel_thread_enter(0) == -EALREADY)
		return NULL;
	cfg.nbthread = 2;
	cfg.maxsock = 256;
	return keel_init(&cfg) == 0 && keel_thread_enter(0) == 0 ? NULL : "keel_init() failed";
}

static bool make_tasks(uint32_t n, unsigned int flags)
{
	tasks = malloc(n * sizeof(*tasks));
	keel_update_clock();
	wake_expired_tasks(); /* as a loop's turn would */
	for (made = 0; tasks && made < n; made++) {
		struct task *t = task_new_here();

		if (!t)
			return false;
		t->process = handler;
		t->state |= flags;
		tasks[made] = t;
	}
	return tasks;
}

static bool make(uint32_t n) { return make_tasks(n, 0); }
static bool make_shared(uint32_t n) { return make_tasks(n, TASK_SHARED_WQ); }

static void drop(void)
{
	for (uint32_t i = 0; i < made; i++)
		task_destroy(tasks[i]);
	free(tasks);
}

static void refresh(void)
{
	keel_update_clock();
	now = (int)keel_now_ms();
}

/* Arms, and arms again: HAProxy's usual way. */
static void queue(uint32_t t, uint32_t ms)
{
	tasks[t]->expire = tick_add(now, (int)ms);
	task_queue(tasks[t]);
}

static void schedule(uint32_t t, uint32_t ms) { task_schedule(tasks[t], tick_add(now, (int)ms)); }

static void cancel(uint32_t t, uint32_t ms)
{
	(void)ms;
	task_unlink_wq(tasks[t]);
}

#define BLOCK 64

/* A server has its task in hand. Here it is looked up, by a number drawn at
 * random: some lookups beforehand, whose cache misses overlap. */
static uint32_t look_up(const struct step *steps, uint32_t n)
{
	n = n < BLOCK ? n : BLOCK;
	for (uint32_t i = 0; i < n; i++)
		__asm__ volatile("" : : "r"(tasks[steps[i].timer]));
	return n;
}

#define IN_BLOCKS(calls, op, steps, n)                              \
	for (uint32_t done = 0, m; done < (n); done += m) {         \
		m = look_up((steps) + done, (n) - done);            \
		loops(&(calls), op, (steps) + done, m);             \
	}

static void run_queue(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { queue, queue, cancel, NULL, NULL };

	if (op == EXPIRE) {
		for (fired = 0; fired < n;) {
			keel_update_clock();
			wake_expired_tasks();
			process_runnable_tasks();
		}
		return;
	}
	IN_BLOCKS(calls, op, steps, n);
}

static void run_schedule(enum op op, const struct step *steps, uint32_t n)
{
	const struct calls calls = { schedule, NULL, cancel, NULL, NULL };

	IN_BLOCKS(calls, op, steps, n);
}

static void run_turns(enum op op, const struct step *steps, uint32_t n)
{
	if (op != EXPIRE) {
		run_queue(op, steps, n);
		return;
	}
	for (fired = 0; fired < n;)
		keel_poll_once(0);
}

#define CHURN (BIT(NOTHING) | BIT(RESET_IDLE) | BIT(STOP) | BIT(CYCLE) | BIT(CYCLE_ALONE))

/* task_schedule() only ever brings a date forward. */
static const struct peer own = { "keel, task_queue()", TIMER_OPS, open_keel, make, drop, refresh, run_queue, NULL },
			 by_schedule = { "keel, task_schedule()", CHURN, open_keel, make, drop, refresh, run_schedule, NULL },
			 shared = { "keel, shared tasks", TIMER_OPS, open_keel, make_shared, drop, refresh, run_queue, NULL },
			 turns = { "keel, keel_poll_once()", BIT(EXPIRE), open_keel, make, drop, refresh, run_turns, NULL };

const struct peer *const *contestants(void)
{
	static const struct peer *const list[] = { &own, &by_schedule, &shared, &turns, NULL };

	return list;
}
