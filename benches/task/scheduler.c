/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel's run queues, on one thread: tasklets, tasks, tasks with nice values. */

#define _GNU_SOURCE
#include <keel/keel.h>

#include "../measure.h"
#include "entry.h"

#define BATCH 100
#define TASKS_N 1000

static struct tasklet *tasklets[BATCH];
static struct task *tasks[TASKS_N];
static uint32_t fired;

static struct task *handler(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx, (void)state;
	fired++;
	return t;
}

static bool start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 256;
	weigh_the_clock();
	return keel_init(&cfg) == 0 && keel_thread_enter(0) == 0;
}

static void run(uint32_t n)
{
	while (fired < n)
		process_runnable_tasks();
}

/* --- tasklets ------------------------------------------------------------------ */

static bool make_tasklets(int tid)
{
	if (!start())
		return false;
	for (int i = 0; i < BATCH; i++) {
		if (!(tasklets[i] = tasklet_new()))
			return false;
		tasklets[i]->process = handler;
		if (tid >= 0)
			tasklet_set_tid(tasklets[i], tid);
	}
	return true;
}

/* By its name, instructions are counted in here alone; so below. */
__attribute__((noinline)) void timed(uint32_t batches)
{
	while (batches--) {
		fired = 0;
		for (int i = 0; i < BATCH; i++)
			tasklet_wakeup(tasklets[i]);
		run(BATCH);
	}
}

static bool time_tasklets(int tid, int ms, double figures[COLUMNS])
{
	uint64_t end, runs = 0;
	double ns = 0;

	if (!make_tasklets(tid))
		return false;
	timed(100);
	for (end = now_ns() + (uint64_t)ms * 1000000; now_ns() < end; runs += 200 * BATCH) {
		uint64_t begin = cpu_ns();

		timed(200);
		ns += since(begin);
	}
	figures[0] = ns / (double)runs;
	return true;
}

static bool time_unbound(const int cores[2], int ms, double figures[COLUMNS])
{
	(void)cores;
	return time_tasklets(-1, ms, figures);
}

static bool time_bound(const int cores[2], int ms, double figures[COLUMNS])
{
	(void)cores;
	return time_tasklets(0, ms, figures);
}

static bool count_tasklets(int tid, uint32_t n)
{
	if (!make_tasklets(tid))
		return false;
	timed(n / BATCH);
	return true;
}

static bool count_unbound(uint32_t n) { return count_tasklets(-1, n); }
static bool count_bound(uint32_t n) { return count_tasklets(0, n); }

/* --- tasks --------------------------------------------------------------------- */

static bool make_tasks(bool niced)
{
	if (!start())
		return false;
	for (int i = 0; i < TASKS_N; i++) {
		if (!(tasks[i] = task_new_here()))
			return false;
		tasks[i]->process = handler;
		if (niced)
			tasks[i]->nice = (short)((int)below(2049) - 1024);
	}
	return true;
}

static void wake(void)
{
	fired = 0;
	for (int i = 0; i < TASKS_N; i++)
		task_wakeup(tasks[i], TASK_WOKEN_OTHER);
}

__attribute__((noinline)) static void timed_tasks(uint32_t times)
{
	while (times--) {
		wake();
		run(TASKS_N);
	}
}

static bool time_tasks(bool niced, int ms, double figures[COLUMNS])
{
	double both = 0, waking = 0, running = 0;
	uint64_t end, n = 0;

	if (!make_tasks(niced))
		return false;
	timed_tasks(10);
	for (end = now_ns() + (uint64_t)ms * 1000000; now_ns() < end; n++) {
		uint64_t begin = cpu_ns();

		timed_tasks(20);
		both += since(begin);
		for (int i = 0; i < 20; i++) {
			begin = cpu_ns();
			wake();
			waking += since(begin);
			begin = cpu_ns();
			run(TASKS_N);
			running += since(begin);
		}
	}
	n *= 20 * TASKS_N;
	figures[0] = both / (double)n;
	figures[1] = waking / (double)n;
	figures[2] = running / (double)n;
	return true;
}

static bool time_plain(const int cores[2], int ms, double figures[COLUMNS])
{
	(void)cores;
	return time_tasks(false, ms, figures);
}

static bool time_niced(const int cores[2], int ms, double figures[COLUMNS])
{
	(void)cores;
	return time_tasks(true, ms, figures);
}

static bool count_tasks(bool niced, uint32_t n)
{
	if (!make_tasks(niced))
		return false;
	timed_tasks(n / TASKS_N);
	return true;
}

static bool count_plain(uint32_t n) { return count_tasks(false, n); }
static bool count_niced(uint32_t n) { return count_tasks(true, n); }

const struct entry *const *contestants(void)
{
	static const struct entry unbound = { TASKLETS, "keel, whoever wakes it runs it", time_unbound, count_unbound },
				  bound = { TASKLETS, "keel, with a thread of its own, woken there", time_bound, count_bound },
				  plain = { TASKS, "keel, nice 0", time_plain, count_plain },
				  niced = { TASKS, "keel, nice at random", time_niced, count_niced };
	static const struct entry *const list[] = { &unbound, &bound, &plain, &niced, NULL };

	return list;
}
