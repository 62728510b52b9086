/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel_config.profiling: what each handler costs, as keel_dump_tasks() tells it. */

#define _GNU_SOURCE
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

typedef struct task *handler(struct task *t, void *ctx, unsigned int state);

/*
 * Stands before libc's, also for the library: who reads the clock is counted,
 * relaxed, so that ThreadSanitizer does not take that for an order.
 */
static atomic_ulong clock_reads;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	atomic_fetch_add_explicit(&clock_reads, 1, memory_order_relaxed);
	return (int)syscall(SYS_clock_gettime, id, ts);
}

static void start(unsigned int nbthread, unsigned int profiling)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 256;
	cfg.profiling = profiling;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static struct task *task_with(struct task *t, handler *process)
{
	ck_assert_ptr_nonnull(t);
	t->process = process;
	return t;
}

static struct tasklet *tasklet_with(handler *process)
{
	struct tasklet *tl = tasklet_new();

	ck_assert_ptr_nonnull(tl);
	tl->process = process;
	return tl;
}

/* --- what the dump says ------------------------------------------------- */

struct row {
	unsigned long long calls;
	double total, average, latency, longest; /* ns, rounded down to four digits */
	char name[128];
};

static struct row rows[600];
static int nrows; /* -1: the dump has no table of handlers */

static double ns_of(double value, const char *unit)
{
	static const struct { const char *name; double ns; } units[] = {
		{ "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(unit, units[i].name) == 0)
			return value * units[i].ns;
	ck_abort_msg("unit '%s'", unit);
}

/* Reads the table into <rows>, and sees that it is one. */
static void dump(void)
{
	static char text[1 << 17];
	int fd = memfd_create("dump", 0), n, said;
	char *line, *rest;

	ck_assert_int_ge(fd, 0);
	n = keel_dump_tasks(fd);
	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, sizeof(text));
	ck_assert_int_eq(pread(fd, text, sizeof(text), 0), n);
	text[n] = 0;
	close(fd);
	ck_assert_int_eq(strncmp(text, "Tasks: ", 7), 0);
	ck_assert_ptr_nonnull(strstr(text, "- thread 0: "));
	nrows = -1;
	line = strstr(text, "\nHandlers: ");
	if (!line) {
		ck_assert_ptr_null(strstr(text, "cpu_tot"));
		return;
	}
	ck_assert_int_eq(sscanf(line, "\nHandlers: %d", &said), 1);
	strtok_r(line + 1, "\n", &rest);
	line = strtok_r(NULL, "\n", &rest);
	ck_assert_ptr_nonnull(strstr(line, "cpu_avg"));
	for (nrows = 0; (line = strtok_r(NULL, "\n", &rest)); nrows++) {
		struct row *r = rows + nrows;
		char unit[4][3];

		ck_assert_int_lt(nrows, (int)(sizeof(rows) / sizeof(*rows)));
		ck_assert_int_eq(sscanf(line, "%llu %lf%2s %lf%2s %lf%2s %lf%2s %127[^\n]", &r->calls, &r->total, unit[0],
		                        &r->average, unit[1], &r->latency, unit[2], &r->longest, unit[3], r->name), 10);
		r->total = ns_of(r->total, unit[0]);
		r->average = ns_of(r->average, unit[1]);
		r->latency = ns_of(r->latency, unit[2]);
		r->longest = ns_of(r->longest, unit[3]);
		ck_assert_uint_gt(r->calls, 0);
		ck_assert_double_le(r->average, r->total);
		ck_assert_double_le(r->latency, r->longest);
		if (nrows)
			ck_assert_double_le(r->total, r[-1].total);
	}
	ck_assert_int_eq(nrows, said);
}

static const struct row *row_named(const char *name)
{
	const struct row *found = NULL;

	for (int i = 0; i < nrows; i++)
		if (strcmp(rows[i].name, name) == 0) {
			ck_assert_ptr_null(found);
			found = rows + i;
		}
	return found;
}

/* The row of a handler, NULL if it has none. */
static const struct row *row_of(handler *h)
{
	Dl_info info;
	char name[128];
	const char *file;

	ck_assert_int_ne(dladdr((void *)h, &info), 0);
	if (info.dli_sname && info.dli_saddr == (void *)h)
		return row_named(info.dli_sname);
	file = strrchr(info.dli_fname, '/');
	snprintf(name, sizeof(name), "%s+%#zx", file ? file + 1 : info.dli_fname,
	         (size_t)((char *)h - (char *)info.dli_fbase));
	return row_named(name);
}

static unsigned long long calls_of(handler *h)
{
	const struct row *r = row_of(h);

	return r ? r->calls : 0;
}

/* Whether <shown> is <ns>, as exactly as the dump tells it. */
static void assert_shown(double shown, uint64_t ns)
{
	ck_assert_double_le(shown, (double)ns + 0.5);
	ck_assert_double_ge(shown, (double)ns * 0.999 - 0.5);
}

/* --- handlers ----------------------------------------------------------- */

static void burn(unsigned int us)
{
	uint64_t end = keel_now_ns() + us * 1000ull;

	while (keel_now_ns() < end)
		;
}

static atomic_int runs;

static struct task *idle(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&runs, 1);
	return t;
}

static struct task *quick(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	*(int *)ctx += 1;
	return t;
}

static struct task *slow(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	burn(5000);
	return t;
}

START_TEST(off_nothing_is_read_written_or_shown)
{
	struct task *t;
	struct tasklet *tl;
	unsigned long reads;

	start(1, 0);
	t = task_with(task_new_here(), idle);
	tl = tasklet_with(idle);
	reads = atomic_load(&clock_reads);
	for (int i = 0; i < 10; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		tasklet_wakeup(tl);
		process_runnable_tasks();
	}
	ck_assert_int_eq(atomic_load(&runs), 20);
	ck_assert_uint_eq(atomic_load(&clock_reads), reads);
	ck_assert_uint_eq(t->call_date, 0);
	ck_assert_uint_eq(t->lat_time, 0);
	ck_assert_uint_eq(t->cpu_time, 0);
	dump();
	ck_assert_int_eq(nrows, -1);
	task_destroy(t);
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

/* So the test above would have seen it. */
START_TEST(on_the_clock_is_read_at_wakeup_begin_and_end)
{
	struct task *t;
	struct tasklet *tl;
	unsigned long reads;

	start(1, 1);
	dump();
	ck_assert_int_eq(nrows, 0);
	t = task_with(task_new_here(), idle);
	tl = tasklet_with(idle);
	reads = atomic_load(&clock_reads);
	for (int i = 0; i < 10; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		tasklet_wakeup(tl);
		process_runnable_tasks();
	}
	ck_assert_int_eq(atomic_load(&runs), 20);
	ck_assert_uint_eq(atomic_load(&clock_reads) - reads, 60);
	dump();
	ck_assert_int_eq(nrows, 1);
	ck_assert_uint_eq(calls_of(idle), 20);
	task_destroy(t);
	tasklet_free(tl);
	keel_deinit();
	/* what is known ends with the library's life */
	start(1, 1);
	dump();
	ck_assert_int_eq(nrows, 0);
	keel_deinit();
}
END_TEST

START_TEST(calls_are_exact)
{
	struct task *a, *b;
	struct tasklet *tl;
	int n = 0;

	start(1, 1);
	a = task_with(task_new_here(), idle);
	b = task_with(task_new_anywhere(), idle);
	b->nice = -7;
	tl = tasklet_with(quick);
	tl->context = &n;
	for (int i = 0; i < 100; i++) {
		task_wakeup(a, TASK_WOKEN_MSG);
		task_wakeup(a, TASK_WOKEN_IO); /* one run with the other */
		if (i % 4 == 0)
			task_wakeup(b, TASK_WOKEN_MSG);
		tasklet_wakeup(tl);
		tasklet_wakeup(tl);
		if (i == 50)
			tasklet_remove_from_tasklet_list(tl); /* no run */
		process_runnable_tasks();
	}
	dump();
	ck_assert_int_eq(nrows, 2);
	ck_assert_uint_eq(calls_of(idle), 125);
	ck_assert_uint_eq(calls_of(quick), 99);
	ck_assert_int_eq(n, 99);
	ck_assert_uint_eq(a->calls, 100);
	ck_assert_uint_eq(b->calls, 25);
	/* killed ones do not run */
	task_wakeup(a, TASK_WOKEN_MSG);
	task_kill(a);
	tasklet_wakeup(tl);
	tasklet_kill(tl);
	task_destroy(b);
	process_runnable_tasks();
	ck_assert_int_eq(total_allocated_tasks(), 0);
	dump();
	ck_assert_uint_eq(calls_of(idle), 125);
	ck_assert_uint_eq(calls_of(quick), 99);
	keel_deinit();
}
END_TEST

START_TEST(time_and_latency_are_those_of_the_task)
{
	struct task *t;
	uint64_t begin, elapsed;
	const struct row *r;

	start(1, 1);
	t = task_with(task_new_here(), slow);
	begin = keel_now_ns();
	task_wakeup(t, TASK_WOKEN_MSG);
	ck_assert_uint_ge(t->call_date, begin);
	ck_assert_uint_le(t->call_date, keel_now_ns());
	usleep(3000);
	process_runnable_tasks();
	for (int i = 0; i < 3; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		process_runnable_tasks();
	}
	elapsed = keel_now_ns() - begin;
	ck_assert_uint_ge(t->cpu_time, 20000000);
	ck_assert_uint_ge(t->lat_time, 3000000);
	ck_assert_uint_le(t->cpu_time + t->lat_time, elapsed);
	dump();
	r = row_of(slow);
	ck_assert_ptr_nonnull(r);
	ck_assert_uint_eq(r->calls, 4);
	assert_shown(r->total, t->cpu_time);
	assert_shown(r->average, t->cpu_time / 4);
	assert_shown(r->latency, t->lat_time / 4);
	ck_assert_double_ge(r->longest, 3e6);
	ck_assert_double_le(r->longest, (double)t->lat_time);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(the_longest_latency_stays)
{
	struct tasklet *tl;
	const struct row *r;
	double longest;

	start(1, 1);
	tl = tasklet_with(idle);
	tasklet_wakeup(tl);
	usleep(5000);
	process_runnable_tasks();
	dump();
	r = row_of(idle);
	ck_assert_double_ge(r->latency, 5e6 * 0.999);
	longest = r->longest;
	ck_assert(r->latency == longest);
	for (int i = 0; i < 99; i++) {
		tasklet_wakeup(tl);
		process_runnable_tasks();
	}
	dump();
	r = row_of(idle);
	ck_assert_uint_eq(r->calls, 100);
	ck_assert_double_ge(r->longest, longest);
	ck_assert_double_lt(r->latency, r->longest);
	/* a shorter one than a hundred such waits took no part */
	ck_assert_double_ge(r->latency, longest / 100 * 0.999);
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

/* --- TASK-53: values that outlive the item ------------------------------ */

static struct task *dies(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	burn(2000);
	task_destroy(t);
	if (ctx) /* the next one takes the memory, and must stay as it is */
		*(struct task **)ctx = task_new_here();
	return NULL;
}

static struct task *tasklet_dies(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	burn(2000);
	tasklet_free((struct tasklet *)t);
	return NULL;
}

static struct task *is_killed(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	burn(2000);
	task_kill(t);
	return t;
}

START_TEST(task_53_who_dies_in_its_handler_is_accounted)
{
	static handler *const all[] = { dies, tasklet_dies, is_killed };
	struct task *t, *heir = NULL;
	uint64_t begin, elapsed;
	double sum = 0;

	start(1, 1);
	begin = keel_now_ns();
	for (int i = 0; i < 3; i++) {
		t = task_with(task_new_here(), dies);
		if (i == 2)
			t->context = &heir;
		task_wakeup(t, TASK_WOKEN_MSG);
		tasklet_wakeup(tasklet_with(tasklet_dies));
		task_wakeup(task_with(task_new_here(), is_killed), TASK_WOKEN_MSG);
		process_runnable_tasks();
	}
	elapsed = keel_now_ns() - begin;
	dump();
	for (int i = 0; i < 3; i++) {
		const struct row *r = row_of(all[i]);

		ck_assert_ptr_nonnull(r);
		ck_assert_uint_eq(r->calls, 3);
		ck_assert_double_ge(r->total, 6e6 * 0.999);
		ck_assert_double_le(r->longest, (double)elapsed);
		sum += r->total;
	}
	ck_assert_double_le(sum, (double)elapsed);
	ck_assert_ptr_nonnull(heir);
	ck_assert_uint_eq(heir->cpu_time, 0);
	ck_assert_uint_eq(heir->lat_time, 0);
	task_destroy(heir);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	keel_deinit();
}
END_TEST

static struct task *wakes_itself(struct task *t, void *ctx, unsigned int state)
{
	int *left = ctx;

	if (--*left > 0) {
		if (state & TASK_F_TASKLET)
			tasklet_wakeup((struct tasklet *)t);
		else
			task_wakeup(t, TASK_WOKEN_MSG);
	}
	burn(2000);
	return t;
}

START_TEST(task_53_who_is_woken_while_it_runs_is_accounted)
{
	struct task *t = NULL;
	struct tasklet *tl = NULL;
	const struct row *r;
	uint64_t begin, elapsed;
	int left = 5;

	start(1, 1);
	begin = keel_now_ns();
	if (_i) {
		t = task_with(task_new_here(), wakes_itself);
		t->context = &left;
		task_wakeup(t, TASK_WOKEN_MSG);
	} else {
		tl = tasklet_with(wakes_itself);
		tl->context = &left;
		tasklet_wakeup(tl);
	}
	usleep(2000);
	while (left > 0)
		process_runnable_tasks();
	elapsed = keel_now_ns() - begin;
	dump();
	r = row_of(wakes_itself);
	ck_assert_ptr_nonnull(r);
	ck_assert_uint_eq(r->calls, 5);
	ck_assert_double_ge(r->total, 10e6 * 0.999);
	ck_assert_double_le(r->total, (double)elapsed);
	/* a tasklet's next wait begins in its handler, a task's after it */
	ck_assert_double_ge(r->latency * 5, (_i ? 2e6 : 10e6) * 0.999);
	ck_assert_double_le(r->latency * 5, (double)elapsed);
	if (t) {
		assert_shown(r->total, t->cpu_time);
		task_destroy(t);
	}
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

/* --- TASK-54: each way to wake something has its date ------------------- */

#define WAY(name) \
	static struct task *name(struct task *t, void *ctx, unsigned int state) \
	{ \
		t = idle(t, ctx, state); \
		if (!(state & TASK_F_TASKLET)) \
			t->expire = TICK_ETERNITY; \
		return t; \
	}
WAY(by_wakeup) WAY(by_nice_wakeup) WAY(by_instant_wakeup) WAY(by_timer) WAY(by_shared_timer) WAY(by_foreign_wakeup)
WAY(by_foreign_instant_wakeup) WAY(by_tasklet_wakeup) WAY(by_wakeup_on) WAY(by_wakeup_here) WAY(by_wakeup_after)
WAY(by_embedded) WAY(by_foreign_tasklet_wakeup)

static handler *const ways[] = {
	by_wakeup, by_nice_wakeup, by_instant_wakeup, by_timer, by_shared_timer, by_foreign_wakeup,
	by_foreign_instant_wakeup, by_tasklet_wakeup, by_wakeup_on, by_wakeup_here, by_wakeup_after,
	by_embedded, by_foreign_tasklet_wakeup,
};
#define WAYS ((int)(sizeof(ways) / sizeof(*ways)))

struct foreign { struct task *t, *now; struct tasklet *tl; };

static void *wake_from_elsewhere(void *arg)
{
	struct foreign *f = arg;

	task_wakeup(f->t, TASK_WOKEN_MSG);
	task_instant_wakeup(f->now, TASK_WOKEN_MSG);
	tasklet_wakeup_on(f->tl, 0);
	return NULL;
}

START_TEST(task_54_every_wakeup_has_a_date)
{
	struct task *t[7];
	struct tasklet *tl[5], embedded;
	struct foreign foreign;
	uint64_t begin, elapsed;
	pthread_t thread;

	start(2, 1);
	/* so that memory that was used before is used again */
	for (int i = 0; i < 7; i++) {
		t[i] = task_with(task_new_here(), idle);
		task_wakeup(t[i], TASK_WOKEN_MSG);
	}
	process_runnable_tasks();
	for (int i = 0; i < 7; i++)
		task_destroy(t[i]);
	usleep(10000);

	begin = keel_now_ns();
	for (int i = 0; i < 7; i++)
		t[i] = task_with(ways[i] == by_shared_timer ? task_new_anywhere() : task_new_here(), ways[i]);
	for (int i = 0; i < 5; i++)
		tl[i] = tasklet_with(ways[7 + i]);
	tl[4]->process = by_foreign_tasklet_wakeup;
	memset(&embedded, 0x55, sizeof(embedded));
	tasklet_init(&embedded);
	embedded.process = by_embedded;

	t[1]->nice = 100;
	keel_update_clock();
	task_schedule(t[3], tick_add((int)keel_now_ms(), 1));
	task_schedule(t[4], tick_add((int)keel_now_ms(), 1));
	usleep(3000);
	task_wakeup(t[0], TASK_WOKEN_MSG);
	task_wakeup(t[1], TASK_WOKEN_MSG);
	task_instant_wakeup(t[2], TASK_WOKEN_MSG);
	keel_update_clock();
	wake_expired_tasks();
	tasklet_wakeup(tl[0]);
	tasklet_wakeup_on(tl[1], 0);
	tasklet_wakeup_on(tl[2], -1);
	ck_assert_ptr_nonnull(tasklet_wakeup_after(NULL, tl[3]));
	tasklet_wakeup(&embedded);
	foreign = (struct foreign){ t[5], t[6], tl[4] };
	pthread_create(&thread, NULL, wake_from_elsewhere, &foreign);
	pthread_join(thread, NULL);

	usleep(2000);
	atomic_store(&runs, 0);
	while (atomic_load(&runs) < WAYS)
		process_runnable_tasks();
	elapsed = keel_now_ns() - begin;
	dump();
	for (int i = 0; i < WAYS; i++) {
		const struct row *r = row_of(ways[i]);

		ck_assert_msg(r, "way %d", i);
		ck_assert_msg(r->calls == 1, "way %d: %llu calls", i, r->calls);
		ck_assert_msg(r->latency >= 2e6 * 0.999, "way %d: woken %.0f ns before", i, r->latency);
		ck_assert_msg(r->longest <= (double)elapsed, "way %d: woken %.0f ns before", i, r->longest);
	}
	for (int i = 0; i < 7; i++)
		task_destroy(t[i]);
	for (int i = 0; i < 5; i++)
		tasklet_free(tl[i]);
	keel_deinit();
}
END_TEST

/* --- tables -------------------------------------------------------------- */

#define TEN(X, n) X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7) X(n##8) X(n##9)
#define HUNDRED(X, n) \
	TEN(X, n##0) TEN(X, n##1) TEN(X, n##2) TEN(X, n##3) TEN(X, n##4) \
	TEN(X, n##5) TEN(X, n##6) TEN(X, n##7) TEN(X, n##8) TEN(X, n##9)
#define MANY(X) HUNDRED(X, 1) HUNDRED(X, 2) HUNDRED(X, 3) HUNDRED(X, 4) HUNDRED(X, 5)

static unsigned int ran[1000];
/* The number keeps the compiler from making one function of them all. */
#define DEFINE(n) \
	static struct task *one_of_many_##n(struct task *t, void *ctx, unsigned int state) \
	{ \
		(void)ctx; \
		(void)state; \
		ran[n]++; \
		return t; \
	}
MANY(DEFINE)
#define NAME(n) one_of_many_##n,
static handler *const many[] = { MANY(NAME) };
#define MANY_HANDLERS ((int)(sizeof(many) / sizeof(*many)))

START_TEST(more_handlers_than_the_table_has_rows)
{
	struct tasklet *tl;
	const struct row *others;
	unsigned long long sum = 0;
	int told = 0;

	start(1, 1);
	tl = tasklet_with(NULL);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < MANY_HANDLERS; i++) {
			tl->process = many[i];
			tasklet_wakeup(tl);
			process_runnable_tasks();
		}
	dump();
	for (int i = 0; i < nrows; i++)
		sum += rows[i].calls;
	ck_assert_uint_eq(sum, 3 * MANY_HANDLERS);
	for (int i = 0; i < MANY_HANDLERS; i++) {
		const struct row *r = row_of(many[i]);

		ck_assert_uint_eq(ran[100 + i], 3);
		if (!r)
			continue;
		ck_assert_uint_eq(r->calls, 3);
		told++;
	}
	others = row_named("(others)");
	ck_assert_ptr_nonnull(others);
	ck_assert_int_eq(nrows, told + 1);
	ck_assert_uint_eq(others->calls, 3 * (MANY_HANDLERS - told));
	/* the table serves hundreds well before it is full */
	ck_assert_int_ge(told, 200);
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

START_TEST(the_costly_come_first)
{
	struct tasklet *tl;

	start(1, 1);
	tl = tasklet_with(NULL);
	for (int i = 0; i < 20; i++) {
		tl->process = many[i];
		for (int n = i * 7 % 20 * 10; n >= 0; n--) {
			tasklet_wakeup(tl);
			process_runnable_tasks();
		}
	}
	tl->process = slow;
	tasklet_wakeup(tl);
	process_runnable_tasks();
	dump(); /* sees that each row has taken no more time than the one before */
	ck_assert_int_eq(nrows, 21);
	ck_assert_double_lt(rows[20].total, row_of(slow)->total);
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

static void *run_on_thread_1(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	process_runnable_tasks();
	keel_thread_leave();
	return NULL;
}

START_TEST(threads_are_added_up)
{
	struct task *here, *there;
	pthread_t thread;
	const struct row *r;

	start(2, 1);
	here = task_with(task_new_on(0), slow);
	there = task_with(task_new_on(1), slow);
	for (int i = 0; i < 3; i++) {
		task_wakeup(there, TASK_WOKEN_MSG);
		usleep(2000);
		pthread_create(&thread, NULL, run_on_thread_1, NULL);
		pthread_join(thread, NULL);
	}
	task_wakeup(here, TASK_WOKEN_MSG);
	process_runnable_tasks();
	dump();
	ck_assert_int_eq(nrows, 1);
	r = row_of(slow);
	ck_assert_uint_eq(r->calls, 4);
	assert_shown(r->total, here->cpu_time + there->cpu_time);
	assert_shown(r->latency, (here->lat_time + there->lat_time) / 4);
	ck_assert_double_ge(r->longest, 2e6);
	task_destroy(here);
	task_destroy(there);
	/* it frees its private task */
	pthread_create(&thread, NULL, run_on_thread_1, NULL);
	pthread_join(thread, NULL);
	keel_deinit();
}
END_TEST

static struct task *dumps(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	dump();
	*(unsigned long long *)ctx = calls_of(dumps);
	return t;
}

START_TEST(a_run_counts_when_it_ends)
{
	unsigned long long seen = 99;
	struct task *t;

	start(1, 1);
	t = task_with(task_new_here(), dumps);
	t->context = &seen;
	for (unsigned long long i = 0; i < 3; i++) {
		task_wakeup(t, TASK_WOKEN_MSG);
		process_runnable_tasks();
		ck_assert_uint_eq(seen, i);
	}
	dump();
	ck_assert_uint_eq(calls_of(dumps), 3);
	task_destroy(t);
	keel_deinit();
}
END_TEST

START_TEST(functions_that_the_linker_knows_have_names)
{
	struct tasklet *tl;

	start(1, 1);
	/* Takes nothing and returns something: as good a handler as any. */
	tl = tasklet_with((handler *)dlsym(RTLD_DEFAULT, "getpid"));
	tasklet_wakeup(tl);
	process_runnable_tasks();
	dump();
	ck_assert_int_eq(nrows, 1);
	ck_assert_ptr_nonnull(strstr(rows[0].name, "getpid"));
	ck_assert_ptr_null(strchr(rows[0].name, '+'));
	tasklet_free(tl);
	keel_deinit();
}
END_TEST

static atomic_int over;

static void *dump_often(void *arg)
{
	int fd = open("/dev/null", O_WRONLY), *dumped = arg;

	while (!atomic_load(&over)) {
		ck_assert_int_gt(keel_dump_tasks(fd), 0);
		++*dumped;
		usleep(100);
	}
	close(fd);
	return NULL;
}

START_TEST(anybody_may_dump_while_tasks_run)
{
	struct tasklet *tl;
	pthread_t thread;
	int dumped = 0;

	start(1, 1);
	tl = tasklet_with(NULL);
	pthread_create(&thread, NULL, dump_often, &dumped);
	for (int i = 0; i < 20000; i++) {
		tl->process = many[i / 100];
		tasklet_wakeup(tl);
		process_runnable_tasks();
	}
	atomic_store(&over, 1);
	pthread_join(thread, NULL);
	ck_assert_int_gt(dumped, 0);
	dump();
	for (int i = 0; i < 200; i++) {
		const struct row *r = row_of(many[i]);

		if (r)
			ck_assert_uint_eq(r->calls, 100);
	}
	tasklet_free(tl);
	ck_assert_int_eq(keel_dump_tasks(-1), -EBADF);
	keel_deinit();
}
END_TEST

#define ROUNDS 200
static struct tasklet *target;
static atomic_int inside, woken;

/* Relaxed, so that this orders nothing else. */
static void await(atomic_int *word, int value)
{
	while (atomic_load_explicit(word, memory_order_relaxed) < value)
		sched_yield();
}

static struct task *is_woken_inside(struct task *t, void *ctx, unsigned int state)
{
	int run = ++*(int *)ctx;

	(void)state;
	if (run <= ROUNDS) {
		atomic_store_explicit(&inside, run, memory_order_relaxed);
		await(&woken, run);
	}
	return t;
}

static void *wake_inside(void *arg)
{
	(void)arg;
	for (int i = 1; i <= ROUNDS; i++) {
		await(&inside, i);
		tasklet_wakeup_on(target, 0);
		atomic_store_explicit(&woken, i, memory_order_relaxed);
	}
	return NULL;
}

/* The new wake-up's date must not meet that of the run. */
START_TEST(task_53_others_wake_what_runs)
{
	const struct row *r;
	uint64_t begin, elapsed;
	pthread_t thread;
	int n = 0;

	start(1, 1);
	target = tasklet_with(is_woken_inside);
	target->context = &n;
	begin = keel_now_ns();
	tasklet_wakeup(target);
	pthread_create(&thread, NULL, wake_inside, NULL);
	while (n <= ROUNDS)
		process_runnable_tasks();
	pthread_join(thread, NULL);
	elapsed = keel_now_ns() - begin;
	dump();
	r = row_of(is_woken_inside);
	ck_assert_ptr_nonnull(r);
	ck_assert_uint_eq(r->calls, ROUNDS + 1);
	ck_assert_double_le(r->total, (double)elapsed);
	ck_assert_double_le(r->longest, (double)elapsed);
	ck_assert_uint_eq(target->calls, ROUNDS + 1);
	tasklet_free(target);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("task profiling");
	TCase *tc = tcase_create("profiling");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, off_nothing_is_read_written_or_shown);
	tcase_add_test(tc, on_the_clock_is_read_at_wakeup_begin_and_end);
	tcase_add_test(tc, calls_are_exact);
	tcase_add_test(tc, time_and_latency_are_those_of_the_task);
	tcase_add_test(tc, the_longest_latency_stays);
	tcase_add_test(tc, the_costly_come_first);
	tcase_add_test(tc, task_53_who_dies_in_its_handler_is_accounted);
	tcase_add_loop_test(tc, task_53_who_is_woken_while_it_runs_is_accounted, 0, 2);
	tcase_add_test(tc, task_54_every_wakeup_has_a_date);
	tcase_add_test(tc, more_handlers_than_the_table_has_rows);
	tcase_add_test(tc, threads_are_added_up);
	tcase_add_test(tc, a_run_counts_when_it_ends);
	tcase_add_test(tc, functions_that_the_linker_knows_have_names);
	tcase_add_test(tc, anybody_may_dump_while_tasks_run);
	tcase_add_test(tc, task_53_others_wake_what_runs);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
