/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tasks and tasklets under 8 threads, and two that keel does not know.
 *
 *     task [seconds]
 *
 * Everybody wakes, schedules, kills and destroys at random what others run;
 * handlers change their own affinity and dates, wake themselves, and at times
 * end themselves; threads leave keel and come back. Seen are: a handler that
 * does not run alone (INV-30), a wake-up after which no run starts (INV-31), a
 * run of what was killed (INV-48), an item that is freed twice or never, a
 * queue that does not become empty (INV-44), and what hangs.
 *
 * Rounds of a few seconds differ in the number of items and in the scheduler's
 * settings. Default: three seconds; `make task-stress` is a minute. SEED in the
 * environment repeats the random numbers.
 * SHOWS: INV-30, INV-31, INV-44, INV-48 */

#include <errno.h>
#include <string.h>

#include "../race/cpus.h"

#define THREADS  8
#define FOREIGN  2
#define ROUND_S  3
#define HANG     30
#define SLOTS    1024
#define ITEMS    (1u << 17) /* that a round may make */
#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

enum kind {
	SHARED,   /* a task that several threads may run */
	MOVABLE,  /* a task of one thread whose date others move */
	PRIVATE,  /* a task of one thread */
	OWNED,    /* a tasklet of one thread */
	ROAMING,  /* a tasklet that runs where it is woken */
	KINDS
};

#define GONE (1u << 31)

struct item {
	enum kind kind;
	unsigned int thread;
	struct task *task;
	struct tasklet *tasklet;
	/* How many threads are at it, or GONE: somebody has freed it, or will. */
	atomic_uint users;
	atomic_uint inside;
	/* Wake-ups asked for, and those that the last run to start has seen. */
	atomic_ulong asked, seen;
	/* The handler's: a race here is a run that was not alone. */
	unsigned long body;
	atomic_ulong runs;
	/* Of a dead one: the runs when the kill had returned. */
	unsigned long runs_at_death;
	atomic_int dead;
};

static const struct {
	unsigned int slots, depth, low_latency, profiling, spin_us;
	int leave;   /* threads leave one turn in so many */
	int sleep;   /* every other thread does nothing but sleep until it is woken */
} rounds[] = {
	{ 16, 0, 0, 0, 0, 200, 0 },
	{ 400, 7, 1, 0, 0, 1000, 1 },
	{ 64, 1, 0, 1, 50, 50, 0 },
	{ SLOTS, 0, 0, 0, 0, 3000, 1 },
};

static struct item *items;
static atomic_uint made;
static struct item *_Atomic slot[SLOTS];
static unsigned int slots;
static int leaves, sleeps;
static atomic_int over, quit;
static atomic_ulong turn_of[THREADS + FOREIGN];
static atomic_ulong total_runs, total_kills, total_ends, total_leaves, total_wakes;

static void wake(struct item *it, unsigned int me);

/* --- handlers -------------------------------------------------------------- */

/* Nobody else is at it, and nobody will be: its end is the caller's. */
static int claim(struct item *it)
{
	unsigned int none = 0;

	return atomic_compare_exchange_strong(&it->users, &none, GONE);
}

static void died(struct item *it, unsigned long runs)
{
	it->runs_at_death = runs;
	atomic_store(&it->dead, 1);
}

static void begins(struct item *it, unsigned int state)
{
	must(atomic_fetch_add(&it->inside, 1) == 0, "kind %d: a handler runs twice at the same time", it->kind);
	must(!(state & TASK_KILLED), "kind %d: it runs after it was killed", it->kind);
	must(!it->task || (state & TASK_WOKEN_ANY), "a task runs without a reason");
	atomic_fetch_add_explicit(&it->runs, 1, memory_order_relaxed);
	it->body++;
	/* Relaxed: it is keel that makes what precedes a wake-up visible. */
	atomic_store_explicit(&it->seen, atomic_load_explicit(&it->asked, memory_order_relaxed),
	                      memory_order_relaxed);
	switch (dice(40)) {
	case 0:
		sched_yield();
		break;
	case 1:
		spin(dice(100));
	}
	it->body++;
}

static void ends(struct item *it)
{
	must(it->body % 2 == 0, "kind %d: somebody else wrote", it->kind);
	atomic_fetch_sub(&it->inside, 1);
	atomic_fetch_add_explicit(&total_runs, 1, memory_order_relaxed);
}

static unsigned long some_threads(void)
{
	return 1ul << dice(THREADS) | (dice(2) ? 1ul << dice(THREADS) : dice(256));
}

static struct task *task_runs(struct task *t, void *ctx, unsigned int state)
{
	struct item *it = ctx;

	must(it->task == t, "another task's handler");
	must(it->kind == SHARED || keel_tid() == it->thread, "a task of thread %u runs on %u", it->thread, keel_tid());
	begins(it, state);
	/* Others queue it meanwhile, without a lock that this one shares. */
	__atomic_store_n(&t->expire, TICK_ETERNITY, __ATOMIC_RELAXED);
	if (!atomic_load(&over)) {
		if (dice(3) == 0)
			__atomic_store_n(&t->expire, tick_add((int)keel_now_ms(), 1 + (int)dice(10)),
			                 __ATOMIC_RELAXED);
		if (it->kind == SHARED && dice(8) == 0)
			task_set_affinity(t, some_threads());
		if (dice(30) == 0)
			t->nice = (short)((int)dice(2049) - 1024);
		if (dice(20) == 0)
			wake(it, keel_tid());
		if (dice(60) == 0 && claim(it)) {
			ends(it);
			died(it, atomic_load(&it->runs));
			atomic_fetch_add(&total_ends, 1);
			task_destroy(t);
			return NULL;
		}
	}
	ends(it);
	return t;
}

static struct task *tasklet_runs(struct task *t, void *ctx, unsigned int state)
{
	struct item *it = ctx;

	must(it->tasklet == (struct tasklet *)t, "another tasklet's handler");
	must(it->kind == ROAMING || keel_tid() == it->thread, "a tasklet of thread %u runs on %u", it->thread,
	     keel_tid());
	begins(it, state);
	if (!atomic_load(&over)) {
		if (dice(20) == 0)
			wake(it, keel_tid());
		if (it->kind == OWNED && dice(60) == 0 && claim(it)) {
			ends(it);
			died(it, atomic_load(&it->runs));
			atomic_fetch_add(&total_ends, 1);
			tasklet_free(it->tasklet);
			return NULL;
		}
	}
	ends(it);
	return t;
}

/* --- what everybody does --------------------------------------------------- */

static struct item *new_item(void)
{
	unsigned int n = atomic_fetch_add(&made, 1);
	struct item *it;

	if (n >= ITEMS)
		return NULL;
	it = &items[n];
	it->kind = dice(KINDS);
	it->thread = dice(THREADS);
	if (it->kind == OWNED || it->kind == ROAMING) {
		must(it->tasklet = tasklet_new(), "no tasklet");
		it->tasklet->process = tasklet_runs;
		it->tasklet->context = it;
		if (it->kind == OWNED)
			tasklet_set_tid(it->tasklet, (int)it->thread);
		if (dice(10) == 0)
			it->tasklet->state |= TASK_HEAVY;
		return it;
	}
	must(it->task = it->kind == SHARED ? task_new(3ul << dice(THREADS - 1)) : task_new_on(it->thread), "no task");
	it->task->process = task_runs;
	it->task->context = it;
	if (it->kind == MOVABLE)
		it->task->state |= TASK_SHARED_WQ;
	if (dice(4) == 0)
		it->task->nice = (short)((int)dice(2049) - 1024);
	return it;
}

/* Any thread may; <me> is the caller's id. The item cannot go meanwhile. */
static void wake(struct item *it, unsigned int me)
{
	struct task *t = it->task;

	if (it->kind == ROAMING && me >= THREADS && dice(2))
		return;
	atomic_fetch_add_explicit(&it->asked, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&total_wakes, 1, memory_order_relaxed);
	switch (it->kind) {
	case SHARED:
	case MOVABLE:
		switch (dice(8)) {
		case 0:
		case 1:
		case 2:
			task_schedule(t, tick_add((int)keel_now_ms(), 1 + (int)dice(8)));
			return;
		case 3:
			task_unlink_wq(t);
			break;
		case 4:
			task_queue(t);
			break;
		case 5:
			task_instant_wakeup(t, TASK_WOKEN_RES);
			return;
		}
		break;
	case PRIVATE:
		if (me == it->thread && dice(2)) {
			task_schedule(t, tick_add((int)keel_now_ms(), 1 + (int)dice(8)));
			return;
		}
		if (dice(4) == 0) {
			task_instant_wakeup(t, TASK_WOKEN_RES);
			return;
		}
		break;
	case OWNED:
		if (me == it->thread && dice(4) == 0)
			tasklet_wakeup_after(NULL, it->tasklet);
		else if (dice(2))
			tasklet_wakeup_on(it->tasklet, (int)it->thread);
		else
			tasklet_wakeup(it->tasklet);
		return;
	default:
		if (me < THREADS && dice(2))
			tasklet_wakeup(it->tasklet);
		else
			tasklet_wakeup_on(it->tasklet, (int)dice(THREADS));
		return;
	}
	task_wakeup(t, dice(2) ? TASK_WOKEN_MSG : TASK_WOKEN_IO);
}

static int hold(struct item *it)
{
	unsigned int users = atomic_load(&it->users);

	while (!(users & GONE))
		if (atomic_compare_exchange_weak(&it->users, &users, users + 1))
			return 1;
	return 0;
}

/* The caller has claimed it. */
static void end(struct item *it, unsigned int me)
{
	if (it->task && dice(3) == 0)
		task_destroy(it->task);
	else if (it->task)
		task_kill(it->task);
	else if (it->kind == OWNED && me == it->thread && dice(2))
		tasklet_free(it->tasklet);
	else
		tasklet_kill(it->tasklet);
	died(it, atomic_load(&it->runs));
	atomic_fetch_add(&total_kills, 1);
}

static void one_step(unsigned int me)
{
	unsigned int s = dice(slots);
	struct item *it = atomic_load(&slot[s]), *new;

	if (it && hold(it)) {
		for (unsigned int n = 1 + dice(4); n; n--)
			wake(it, me);
		atomic_fetch_sub(&it->users, 1);
		/* A roaming one without a registered killer belongs to nobody. */
		if (dice(20) == 0 && (it->kind != ROAMING || me < THREADS) && claim(it)) {
			if (dice(4) == 0)
				sched_yield();
			end(it, me);
		}
		return;
	}
	if (it && !atomic_load(&it->dead))
		return;
	if (it && !atomic_compare_exchange_strong(&slot[s], &it, NULL))
		return;
	if (!it && dice(4))
		return;
	new = new_item();
	it = NULL;
	if (new && !atomic_compare_exchange_strong(&slot[s], &it, new)) {
		/* Never used: its creator alone knows it. */
		atomic_store(&new->users, GONE);
		if (new->task)
			task_destroy(new->task);
		else if (me < THREADS)
			tasklet_kill(new->tasklet);
		else
			tasklet_free(new->tasklet);
		died(new, 0);
	}
}

/* --- threads --------------------------------------------------------------- */

static atomic_uint settled;

static void *keel_thread(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	while (!atomic_load(&over)) {
		int sleepy = sleeps && id % 2 == 0;

		for (unsigned int burst = sleepy ? 0 : dice(8); burst; burst--)
			one_step(id);
		keel_poll_once(sleepy ? -1 : dice(4) ? 0 : (int)dice(200));
		atomic_fetch_add_explicit(&turn_of[id], 1, memory_order_relaxed);
		if (leaves && dice((unsigned int)leaves) == 0) {
			keel_thread_leave();
			atomic_fetch_add(&total_leaves, 1);
			if (dice(2))
				nap(dice(3000));
			must(keel_thread_enter(id) == 0, "thread %u cannot enter again", id);
		}
	}
	/* Those that sleep for ever have to be woken for what they owe. */
	while (!atomic_load(&quit))
		keel_poll_once(id % 2 ? 2 : -1);
	if (id == 0)
		for (unsigned int s = 0; s < slots; s++) {
			struct item *it = atomic_load(&slot[s]);

			if (it && claim(it))
				end(it, id);
		}
	atomic_fetch_add(&settled, 1);
	while (atomic_load(&settled) < THREADS || total_allocated_tasks() || total_run_queues())
		keel_poll_once(1);
	must(next_timer_expiry() == TICK_ETERNITY, "thread %u: no task is left, and a wait queue is not empty", id);
	keel_thread_leave();
	return NULL;
}

static void *foreign_thread(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	while (!atomic_load(&over)) {
		for (unsigned int burst = dice(30); burst; burst--)
			one_step(id);
		atomic_fetch_add_explicit(&turn_of[id], 1, memory_order_relaxed);
		nap(dice(4) ? 0 : dice(1000));
	}
	return NULL;
}

static void *hangs(void *arg)
{
	unsigned long before[THREADS] = { 0 };
	int idle[THREADS] = { 0 };

	(void)arg;
	for (;; sleep(1))
		for (unsigned int i = 0; i < THREADS; i++) {
			unsigned long now = atomic_load(&turn_of[i]);

			idle[i] = now == before[i] && !atomic_load(&over) ? idle[i] + 1 : 0;
			before[i] = now;
			must(idle[i] < HANG, "thread %u has not ended its turn for %d seconds", i, HANG);
		}
}

/* --- rounds ---------------------------------------------------------------- */

/* The first item of which a wake-up was not followed by a run, if any. */
static struct item *owed(void)
{
	unsigned int n = atomic_load(&made) < ITEMS ? atomic_load(&made) : ITEMS;

	for (unsigned int i = 0; i < n; i++)
		if (!atomic_load(&items[i].dead) && atomic_load(&items[i].asked) != atomic_load(&items[i].seen))
			return &items[i];
	return NULL;
}

/* Every wake-up is followed by a run, however long that takes here. */
static void settle(void)
{
	uint64_t limit = keel_now_ns() + HANG * 1000000000ull;
	struct item *it;

	while ((it = owed()) && keel_now_ns() < limit)
		nap(1000);
	must(!it, "kind %d, state %#x: a wake-up is lost, of %lu asked for the last run saw %lu", it->kind,
	     it->task ? it->task->state : it->tasklet->state, atomic_load(&it->asked), atomic_load(&it->seen));
}

/* Once more, when all that may are asleep, and no timer ends that. */
static void wake_all(void)
{
	nap(30000);
	for (unsigned int s = 0; s < slots; s++) {
		struct item *it = atomic_load(&slot[s]);

		if (!it || !hold(it))
			continue;
		atomic_fetch_add(&it->asked, 1);
		if (it->task)
			task_wakeup(it->task, TASK_WOKEN_MSG);
		else
			tasklet_wakeup_on(it->tasklet, (int)it->thread);
		atomic_fetch_sub(&it->users, 1);
		settle();
	}
}

static void round_of(unsigned int number, double seconds)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th[THREADS + FOREIGN];
	uint64_t limit;
	unsigned int n;

	number %= ARRAY(rounds);
	slots = rounds[number].slots;
	leaves = rounds[number].leave;
	sleeps = rounds[number].sleep;
	cfg.nbthread = THREADS;
	cfg.maxsock = 256;
	cfg.runqueue_depth = rounds[number].depth;
	cfg.low_latency = rounds[number].low_latency;
	cfg.profiling = rounds[number].profiling;
	cfg.spin_us = rounds[number].spin_us;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	must(items = calloc(ITEMS, sizeof(*items)), "no memory for items");
	atomic_store(&made, 0);
	atomic_store(&over, 0);
	atomic_store(&quit, 0);
	atomic_store(&settled, 0);
	for (unsigned int s = 0; s < SLOTS; s++)
		atomic_store(&slot[s], NULL);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, keel_thread, (void *)i) == 0, "no thread");
	for (size_t i = THREADS; i < THREADS + FOREIGN; i++)
		must(pthread_create(&th[i], NULL, foreign_thread, (void *)i) == 0, "no thread");
	nap((long)(seconds * 1000000));
	atomic_store(&over, 1);
	for (size_t i = THREADS; i < THREADS + FOREIGN; i++)
		pthread_join(th[i], NULL);
	settle();
	wake_all();
	atomic_store(&quit, 1);
	for (unsigned int i = 0; i < THREADS; i++)
		wake_thread((int)i);
	for (limit = keel_now_ns() + HANG * 1000000000ull;
	     (atomic_load(&settled) < THREADS || total_allocated_tasks() || total_run_queues()) &&
	     keel_now_ns() < limit;)
		nap(1000);
	must(total_allocated_tasks() == 0, "%d tasks and tasklets were killed and are not freed",
	     total_allocated_tasks());
	must(total_run_queues() == 0, "%d items wait to run, and none exists", total_run_queues());
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	n = atomic_load(&made) < ITEMS ? atomic_load(&made) : ITEMS;
	for (unsigned int i = 0; i < n; i++) {
		must(atomic_load(&items[i].dead), "item %u is not dead", i);
		/* One run may have begun before, and not yet said so. */
		must(atomic_load(&items[i].runs) <= items[i].runs_at_death + 1, "kind %d: it ran after its death",
		     items[i].kind);
		must(atomic_load(&items[i].inside) == 0, "kind %d: its handler still runs", items[i].kind);
	}
	keel_deinit();
	free(items);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
	unsigned int n = seconds / ROUND_S < ARRAY(rounds) ? ARRAY(rounds) : (unsigned int)(seconds / ROUND_S);
	pthread_t th;

	if (seconds <= 0) {
		fprintf(stderr, "usage: task [seconds]\n");
		return 2;
	}
	must(pthread_create(&th, NULL, hangs, NULL) == 0, "no thread");
	pthread_detach(th);
	for (unsigned int i = 0; i < n; i++)
		round_of(i, seconds / n);
	must(atomic_load(&total_kills) && atomic_load(&total_ends) && atomic_load(&total_leaves), "nothing happened");
	printf("ok %.0f s, %d threads and %d foreign ones, %u rounds: %lu wake-ups, %lu runs, %lu killed, %lu ended by "
	       "their handlers, %lu times a thread left; no wake-up lost, every queue empty in the end\n",
	       seconds, THREADS, FOREIGN, n, atomic_load(&total_wakes), atomic_load(&total_runs),
	       atomic_load(&total_kills), atomic_load(&total_ends), atomic_load(&total_leaves));
	return 0;
}
