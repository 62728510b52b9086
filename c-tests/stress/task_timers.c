/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A million armed timers that four foreign threads keep bringing forward.
 *
 *     task_timers [seconds [timers]]
 *
 * Every handler checks that it runs no earlier than the earliest date that it
 * was given, and takes down how late it is. The pace leaves the processors idle
 * half of the time, or more. What a machine that does other things adds is told
 * apart by one plain clock_nanosleep() thread per processor beside it, and by
 * what the kernel says of how long threads of this program waited for a
 * processor: a timer that came more than 2 ms late while nothing of that
 * happened is keel's own. Early timers and lost ones are errors; lateness is
 * printed, since the machine has its part in it. In the end every queue is
 * empty.
 *
 * Default: three seconds and 100,000 timers, as long as a test among others may
 * take; `make timer-stress` is a minute with a million.
 * SHOWS: INV-36, INV-38, INV-39 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "../race/cpus.h"

#define THREADS 4
#define MOVERS  4
#define MAX_CPU 16
#define LIMIT   60     /* seconds late that a machine may add at the worst */
#define SPAN    60000u /* dates are up to so many ms ahead */
#define BATCH   250    /* moves at a time */
#define PERIOD  10000  /* us between two batches of one mover */
#define BUCKETS 200000 /* of 10 us */
#define WINDOWS 65536

#define MS 1000000ull

struct timer {
	struct task *task;
	/* The earliest date asked for since the last run, CLOCK_MONOTONIC in ms,
	 * above the bits below; 0: none. */
	atomic_uint_least64_t due;
};

#define SHIFT  8
#define MOVING 1u   /* how many are in the middle of a move */
#define STALE  128u /* the date says nothing about lateness */

static struct timer *timers;
static unsigned int n_timers;
/* Before <measuring> nothing counts. */
static atomic_int measuring, over, stop_probes;
static atomic_ulong moved, fired;

/* --- lateness -------------------------------------------------------------- */

static struct lateness {
	atomic_uint count[BUCKETS];
	atomic_ulong total, over_2ms;
	atomic_uint_least64_t worst;
} of_timers, of_machine;

static void note(struct lateness *l, uint64_t ns)
{
	uint64_t b = ns / 10000, worst = atomic_load_explicit(&l->worst, memory_order_relaxed);

	if (!atomic_load(&measuring))
		return;
	atomic_fetch_add_explicit(&l->count[b < BUCKETS ? b : BUCKETS - 1], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->total, 1, memory_order_relaxed);
	if (ns > 2 * MS)
		atomic_fetch_add_explicit(&l->over_2ms, 1, memory_order_relaxed);
	while (ns > worst && !atomic_compare_exchange_weak(&l->worst, &worst, ns))
		;
}

static double percentile(struct lateness *l, double p)
{
	unsigned long upto = (unsigned long)((double)atomic_load(&l->total) * p), sum = 0;

	for (unsigned int b = 0; b < BUCKETS; b++)
		if ((sum += atomic_load(&l->count[b])) > upto)
			return b / 100.0;
	return (double)atomic_load(&l->worst) / 1e6;
}

static void print(const char *what, struct lateness *l)
{
	printf("%-13s %9lu times, late by ms: median %.2f, 99 %% %.2f, 99.9 %% %.2f, 99.99 %% %.2f, worst %.2f; "
	       "%lu by more than 2\n",
	       what, atomic_load(&l->total), percentile(l, 0.5), percentile(l, 0.99), percentile(l, 0.999),
	       percentile(l, 0.9999), (double)atomic_load(&l->worst) / 1e6, atomic_load(&l->over_2ms));
}

/* From when to when something was late. */
struct window {
	uint64_t from, to;
};

static struct windows {
	struct window at[WINDOWS];
	unsigned int n;
} late_timers, late_machine;
static pthread_mutex_t windows_lock = PTHREAD_MUTEX_INITIALIZER;

static void remember(struct windows *w, uint64_t from, uint64_t to)
{
	if (!atomic_load(&measuring))
		return;
	pthread_mutex_lock(&windows_lock);
	if (w->n < WINDOWS)
		w->at[w->n++] = (struct window){ from, to };
	pthread_mutex_unlock(&windows_lock);
}

/* Late timers during which nobody waited for a processor. */
static unsigned int of_keel(uint64_t *worst)
{
	unsigned int mine = 0;

	*worst = 0;
	for (unsigned int i = 0; i < late_timers.n; i++) {
		struct window t = late_timers.at[i];
		int excused = 0;

		for (unsigned int k = 0; k < late_machine.n && !excused; k++)
			excused = late_machine.at[k].from < t.to && late_machine.at[k].to > t.from;
		if (excused)
			continue;
		mine++;
		if (t.to - t.from > *worst)
			*worst = t.to - t.from;
	}
	return mine;
}

/* Says how late this processor wakes anybody. */
static void *probes(void *arg)
{
	unsigned int cpu = (unsigned int)(size_t)arg;
	uint64_t next = keel_now_ns();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	while (!atomic_load(&stop_probes)) {
		struct timespec ts;
		uint64_t now;

		next += MS;
		ts = (struct timespec){ (time_t)(next / 1000000000), (long)(next % 1000000000) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		now = keel_now_ns();
		note(&of_machine, now - next);
		/* A timer's own wake-up may take the rest of its 2 ms. */
		if (now - next > MS / 2)
			remember(&late_machine, next, now);
		if (now > next + MS)
			next = now;
	}
	return NULL;
}

static int by_begin(const void *a, const void *b)
{
	const struct window *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* Seconds in which somebody waited for a processor. */
static double excused_time(void)
{
	unsigned int n = late_machine.n;
	uint64_t sum = 0, end = 0;

	qsort(late_machine.at, n, sizeof(late_machine.at[0]), by_begin);
	for (unsigned int i = 0; i < n; i++) {
		struct window w = late_machine.at[i];

		if (w.from < end)
			w.from = end;
		if (w.to > w.from) {
			sum += w.to - w.from;
			end = w.to;
		}
	}
	return (double)sum / 1e9;
}

/* The kernel's figures of the threads that handle timers: descriptors, plus 1. */
static atomic_int figures[THREADS + MOVERS];
static atomic_uint n_figures;

static void watch_me(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)gettid());
	atomic_store(&figures[atomic_fetch_add(&n_figures, 1)], open(path, O_RDONLY | O_CLOEXEC) + 1);
}

/* ns that a thread has waited for a processor; 0 where the kernel does not say. */
static uint64_t waited(int fd)
{
	char text[100] = "";
	unsigned long long ns = 0;

	if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) <= 0 || sscanf(text, "%*u %llu", &ns) != 1)
		return 0;
	return ns;
}

static void *observes(void *arg)
{
	uint64_t before[THREADS + MOVERS] = { 0 }, last = keel_now_ns();

	(void)arg;
	while (!atomic_load(&stop_probes)) {
		uint64_t begin = keel_now_ns();

		for (unsigned int i = 0; i < THREADS + MOVERS; i++) {
			uint64_t now = waited(atomic_load(&figures[i]) - 1), more = now - before[i];

			if (before[i] && more > MS / 2)
				remember(&late_machine, last - more, keel_now_ns());
			before[i] = now;
		}
		last = begin;
		nap(1000);
	}
	return NULL;
}

/* --- timers ---------------------------------------------------------------- */

/* What ticks count from. */
static unsigned int offset;

static void find_offset(void)
{
	uint64_t before, after;

	do {
		before = keel_now_ns() / MS;
		offset = keel_now_ms() - (unsigned int)before;
		after = keel_now_ns() / MS;
	} while (before != after);
}

/* The date in ms from now, as a tick, and on CLOCK_MONOTONIC. */
static int date_in(unsigned int ms, uint64_t *due)
{
	int tick = tick_add((int)keel_now_ms(), (int)ms);
	uint64_t now = keel_now_ns() / MS;

	*due = now + (uint64_t)(int64_t)(tick - (int)((unsigned int)now + offset));
	return tick;
}

/* The earlier date counts; <more> is added. */
static void asked_for(struct timer *tm, uint64_t due, unsigned int more)
{
	uint64_t old = atomic_load(&tm->due), new;

	do {
		new = old >> SHIFT && old >> SHIFT < due ? old : due << SHIFT | (old & ((1u << SHIFT) - 1));
	} while (!atomic_compare_exchange_weak(&tm->due, &old, new + more));
}

static struct task *fires(struct task *t, void *ctx, unsigned int state)
{
	struct timer *tm = ctx;
	uint64_t now = keel_now_ns(), old = atomic_load(&tm->due), new, due;

	must(state & TASK_WOKEN_TIMER, "woken by nobody: %#x", state);
	/* Somebody in the middle of a move: the date may come a second time. */
	do {
		new = old % STALE ? old | STALE : 0;
	} while (!atomic_compare_exchange_weak(&tm->due, &old, new));
	due = (old >> SHIFT) * MS;
	must(now >= due, "%.3f ms early", (double)(due - now) / 1e6);
	if (!(old % (1u << SHIFT))) {
		must(due, "woken without a date");
		must(now - due < LIMIT * 1000 * MS, "%.0f s late", (double)(now - due) / 1e9);
		note(&of_timers, now - due);
		if (now - due > 2 * MS)
			remember(&late_timers, due, now);
	}
	atomic_fetch_add_explicit(&fired, 1, memory_order_relaxed);
	t->expire = TICK_ETERNITY;
	if (!atomic_load(&over)) {
		t->expire = date_in(1000 + dice(SPAN), &due);
		asked_for(tm, due, 0);
	}
	return t;
}

/* Brings some forward, at most times by seconds, at times to the next ms. */
static void *moves(void *arg)
{
	(void)arg;
	watch_me();
	while (!atomic_load(&over)) {
		for (unsigned int i = 0; i < BATCH; i++) {
			struct timer *tm = &timers[dice(n_timers)];
			uint64_t due;
			int when = date_in(1 + (dice(4) ? dice(3000) : dice(5)), &due);

			/* Before the call: the handler must not see it later. */
			asked_for(tm, due, MOVING);
			task_schedule(tm->task, when);
			/* It came too late itself. */
			if (keel_now_ns() >= due * MS)
				atomic_fetch_or(&tm->due, STALE);
			atomic_fetch_sub(&tm->due, MOVING);
			atomic_fetch_add_explicit(&moved, 1, memory_order_relaxed);
		}
		nap(PERIOD);
	}
	return NULL;
}

static void *loops(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	watch_me();
	/* Each arms its share. */
	for (unsigned int i = id; i < n_timers; i += THREADS) {
		struct timer *tm = &timers[i];
		uint64_t due;

		must(tm->task = task_new_anywhere(), "no task");
		tm->task->process = fires;
		tm->task->context = tm;
		tm->task->expire = date_in(1000 + dice(SPAN), &due);
		asked_for(tm, due, 0);
		task_queue(tm->task);
		if (i % 1000 == 0)
			keel_update_clock();
	}
	atomic_fetch_add(&cpus.entered, 1);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

/* Processor time of this process in seconds. */
static double busy(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 3, cpu;
	long n_cpu = sysconf(_SC_NPROCESSORS_ONLN);
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th[THREADS], mover[MOVERS], probe[MAX_CPU], observer;
	uint64_t worst;
	unsigned int own;

	n_timers = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 0) : argc > 1 ? 1000000 : 100000;
	if (seconds <= 0 || n_timers == 0) {
		fprintf(stderr, "usage: task_timers [seconds [timers]]\n");
		return 2;
	}
	if (n_cpu > MAX_CPU)
		n_cpu = MAX_CPU;
	cfg.nbthread = THREADS;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	find_offset();
	must(timers = calloc(n_timers, sizeof(*timers)), "no memory for timers");
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, loops, (void *)i) == 0, "no thread");
	while (atomic_load(&cpus.entered) < THREADS)
		nap(1000);
	atomic_store(&measuring, 1);
	for (size_t i = 0; i < (size_t)n_cpu; i++)
		must(pthread_create(&probe[i], NULL, probes, (void *)i) == 0, "no thread");
	cpu = busy();
	for (size_t i = 0; i < MOVERS; i++)
		must(pthread_create(&mover[i], NULL, moves, NULL) == 0, "no thread");
	while (atomic_load(&n_figures) < THREADS + MOVERS)
		nap(1000);
	must(pthread_create(&observer, NULL, observes, NULL) == 0, "no thread");
	nap((long)(seconds * 1000000));
	cpu = (busy() - cpu) / seconds / (double)n_cpu;
	atomic_store(&over, 1);
	for (size_t i = 0; i < MOVERS; i++)
		pthread_join(mover[i], NULL);
	atomic_store(&stop_probes, 1);
	for (size_t i = 0; i < (size_t)n_cpu; i++)
		pthread_join(probe[i], NULL);
	pthread_join(observer, NULL);
	for (unsigned int i = 0; i < THREADS + MOVERS; i++)
		if (atomic_load(&figures[i]) > 0)
			close(atomic_load(&figures[i]) - 1);
	print("timers:", &of_timers);
	print("the machine:", &of_machine);
	/* The timers go on, and so may their lateness. */
	pthread_mutex_lock(&windows_lock);
	own = of_keel(&worst);
	printf("%u timers (worst %.2f ms) were late by more than 2 ms while no thread waited 0.5 for a processor; "
	       "some did for %.0f %% of the time\n",
	       own, (double)worst / 1e6, excused_time() / seconds * 100);
	pthread_mutex_unlock(&windows_lock);
	for (unsigned int i = 0; i < n_timers; i++)
		task_kill(timers[i].task);
	for (uint64_t limit = keel_now_ns() + LIMIT * 1000 * MS; total_allocated_tasks() && keel_now_ns() < limit;)
		nap(1000);
	must(total_allocated_tasks() == 0, "%d tasks were killed and are not freed", total_allocated_tasks());
	must(total_run_queues() == 0, "%d items wait to run, and none exists", total_run_queues());
	keel_stop();
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	/* Whoever enters has that id's queues. */
	for (unsigned int i = 0; i < THREADS; i++) {
		must(keel_thread_enter(i) == 0, "thread %u cannot enter", i);
		must(next_timer_expiry() == TICK_ETERNITY, "thread %u: a wait queue is not empty", i);
		keel_thread_leave();
	}
	must(atomic_load(&fired) && atomic_load(&moved), "nothing happened");
	printf("ok %.0f s, %u timers, %lu brought forward, %lu runs, %.0f %% of the processors used; none early, every "
	       "queue empty in the end\n",
	       seconds, n_timers, atomic_load(&moved), atomic_load(&fired), cpu * 100);
	keel_deinit();
	free(timers);
	return 0;
}
