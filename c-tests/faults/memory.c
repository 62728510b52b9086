/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The n-th allocation or mapping fails, for every n. Nothing crashes, nothing
 * is left behind, what was handed out before is as it was, and whoever asked
 * learns why there is nothing.
 */
#define _GNU_SOURCE
#include "each.h"

static int null_device;

static void init(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 512;
	cfg.profiling = 1;
	must(keel_init(&cfg) == 0);
}

static void start(unsigned int nbthread)
{
	init(nbthread);
	must(keel_thread_enter(0) == 0);
}

static void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

/* --- starting ------------------------------------------------------------------ */

static void starts_and_stops(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 3;
	cfg.maxsock = 512;
	cfg.profiling = 1;
	again();
	if (!good(keel_init(&cfg))) {
		must(keel_nbthread() == 0 && keel_tid() == ~0U);
		return;
	}
	if (good(keel_thread_enter(0))) {
		turns(2);
		keel_thread_leave();
	}
	must(keel_tid() == ~0U);
	keel_deinit();
}

START_TEST(starting)
{
	each_failure(MEMORY, ENOMEM, starts_and_stops, 8);
}
END_TEST

static void runs_once(void)
{
	init(3);
	again();
	good(keel_run(stops, NULL));
	disarm();
	must(keel_tid() == ~0U);
	/* What failed is no obstacle. */
	must(keel_run(stops, NULL) == 0);
	keel_deinit();
	init(3);
	again();
	if (good(keel_callout_start_threads(3))) {
		must(keel_thread_enter(0) == -EBUSY);
	} else {
		disarm();
		must(keel_thread_enter(0) == 0);
		keel_thread_leave();
	}
	keel_deinit();
}

START_TEST(running)
{
	each_failure(MEMORY, ENOMEM, runs_once, 3);
}
END_TEST

/* A thread less than was asked for. */
START_TEST(running_without_threads)
{
	each_failure(THREADS, EAGAIN, runs_once, 2);
}
END_TEST

/* --- pools and tasks ------------------------------------------------------------ */

enum { OBJECTS = 40, TASKS = 12 };
static struct task *tasks[TASKS];
static struct tasklet *tasklets[TASKS];
static int ran[TASKS], ran_too[TASKS];

static struct task *runs(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	++*(int *)ctx;
	t->expire = TICK_ETERNITY;
	return t;
}

static struct task *runs_too(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	++*(int *)ctx;
	return t;
}

static void fill(unsigned char *object, size_t size, int i)
{
	memset(object, 'a' + i % 20, size);
}

static int is_intact(const unsigned char *object, size_t size, int i)
{
	for (size_t at = 0; at < size; at++)
		if (object[at] != 'a' + i % 20)
			return 0;
	return 1;
}

/* Objects of this pool, through the thread's cache and beside it. */
static void uses_pool(struct pool_head *pool)
{
	unsigned char *objects[OBJECTS];
	struct keel_pool_stats stats;

	if (!some(pool))
		return;
	/* A second round finds caches and shared list filled. */
	for (int round = 0; round < 2; round++) {
		unsigned int have = 0;

		for (int i = 0; i < OBJECTS; i++) {
			objects[i] = i % 7 ? pool_alloc(pool) : pool_alloc_nocache(pool);
			if (some(objects[i])) {
				fill(objects[i], pool->size, i);
				have++;
			}
		}
		keel_pool_get_stats(pool, &stats);
		must(stats.used == have);
		for (int i = 0; i < OBJECTS; i++) {
			if (!objects[i])
				continue;
			must(is_intact(objects[i], pool->size, i));
			if (i % 7)
				pool_free(pool, objects[i]);
			else
				pool_free_nocache(pool, objects[i]);
		}
		if (round == 0)
			pool_flush(pool);
	}
	keel_pool_get_stats(pool, &stats);
	must(stats.used == 0);
	pool_gc(NULL);
	good(keel_dump_pools_with(null_device, "byusage detailed"));
	must(!pool_destroy(pool));
}

static void pools_of_each_kind(void)
{
	start(1);
	again();
	uses_pool(create_pool("plain", 100, 0));
	uses_pool(create_pool("shared", 100, MEM_F_SHARED));
	uses_pool(create_aligned_pool("aligned", 100, 256, 0));
	uses_pool(create_pool("guarded", 100, MEM_F_UAF));
	keel_thread_leave();
	keel_deinit();
}

START_TEST(pools)
{
	each_failure(MEMORY, ENOMEM, pools_of_each_kind, 4 * OBJECTS);
}
END_TEST

/* Prepared ones carry more: marks, and who asked for them. */
START_TEST(pools_with_marks)
{
	must(keel_pool_debug("tag,integrity,caller,no-merge") == 0);
	each_failure(MEMORY, ENOMEM, pools_of_each_kind, 4 * OBJECTS);
}
END_TEST

/* Whatever there is memory for runs; a queue by priority that could not be
 * made costs the order, not the run. */
static void tasks_with_everything(void)
{
	start(2);
	again();
	for (int i = 0; i < TASKS; i++) {
		ran[i] = ran_too[i] = 0;
		tasks[i] = i % 2 ? task_new_here() : task_new(3);
		if (some(tasks[i])) {
			tasks[i]->process = runs;
			tasks[i]->context = &ran[i];
			tasks[i]->nice = (short)(i % 3 * 300 - 300);
		}
		tasklets[i] = tasklet_new();
		if (some(tasklets[i])) {
			tasklets[i]->process = runs_too;
			tasklets[i]->context = &ran_too[i];
		}
	}
	for (int i = 0; i < TASKS; i++) {
		if (tasks[i] && i % 4 < 2)
			task_wakeup(tasks[i], TASK_WOKEN_MSG);
		else if (tasks[i])
			task_schedule(tasks[i], tick_add((int)keel_now_ms(), 1));
		if (tasklets[i])
			tasklet_wakeup(tasklets[i]);
	}
	good(keel_dump_tasks(null_device));
	usleep(1500);
	turns(4);
	for (int i = 0; i < TASKS; i++) {
		must(ran[i] == !!tasks[i]);
		must(ran_too[i] == !!tasklets[i]);
		task_destroy(tasks[i]);
		if (tasklets[i])
			tasklet_free(tasklets[i]);
	}
	good(keel_dump_tasks(null_device));
	must(total_allocated_tasks() == 0);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(tasks_and_wait_queues)
{
	each_failure(MEMORY, ENOMEM, tasks_with_everything, 2 * TASKS);
}
END_TEST

/* --- stick tables ------------------------------------------------------------------ */

enum { SIZE = 40, KEYS = 60 };

static struct task *teaches(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	t->expire = TICK_ETERNITY;
	return t;
}

/* Counts for this key: its entry with a reference, or NULL. */
static struct stksess *counts(struct stktable *t, const char *text)
{
	struct stktable_key key = { (void *)text, strlen(text) };
	struct stksess *ts = stktable_get_entry(t, &key);

	/* HAProxy's function: NULL and no more words. */
	if (!ts) {
		must(atomic_load(&faults.failed) > 0);
		return NULL;
	}
	stksess_wrlock(ts);
	stktable_data_cast(stktable_data_ptr(t, ts, STKTABLE_DT_GPC0), std_t_uint)++;
	update_freq_ctr_period(&stktable_data_cast(stktable_data_ptr(t, ts, STKTABLE_DT_CONN_RATE), std_t_frqp),
	                       10000, 1);
	stksess_wrunlock(ts);
	return ts;
}

static void fills_a_table(void)
{
	struct stksess *kept[5], *ts;
	struct stktable *t;
	struct task *sync;
	char *says = NULL, text[16];
	unsigned int number, found, seen = 0;

	start(1);
	sync = task_new_here();
	must(sync != NULL);
	sync->process = teaches;
	again();
	t = keel_stktable_new("names", "type string len 32 size 40 expire 3ms store gpc0,conn_rate(10s),gpt(3)", &says);
	if (!t) {
		/* Unless there was no memory for the sentence either. */
		refused(ENOMEM);
		must(says ? strstr(says, "memory") != NULL : for_good);
		free(says);
		must(!stktable_find_by_name("names"));
	} else {
		t->sync_task = sync;
		for (int i = 0; i < KEYS; i++) {
			snprintf(text, sizeof(text), "name %d", i);
			if ((ts = counts(t, text))) {
				stktable_touch_local(t, ts, i >= 5);
				seen++;
			}
			if (i < 5)
				kept[i] = ts;
		}
		found = keel_stktable_current(t);
		must(found <= SIZE && (found == SIZE || seen < KEYS));
		number = 0;
		while ((ts = keel_stktable_next_update(t, number, t->localupdate, &number)))
			stktable_release(t, ts);
		good(keel_dump_stktable(t, null_device, NULL));
		good(keel_dump_stktable(t, null_device, "data.gpc0 gt 0 data.gpc0 lt 5"));
		good(keel_dump_stktable(t, null_device, "key name"));
		/* Those that somebody holds stay what they are. */
		usleep(4000);
		turns(3);
		for (int i = 0; i < 5; i++) {
			if (!kept[i])
				continue;
			snprintf(text, sizeof(text), "name %d", i);
			must(strcmp(keel_stksess_key(kept[i]), text) == 0);
			must(stktable_data_cast(stktable_data_ptr(t, kept[i], STKTABLE_DT_GPC0), std_t_uint) == 1);
			stktable_release(t, kept[i]);
		}
		for (int i = 0; i < 1000 && keel_stktable_current(t); i++) {
			usleep(100);
			turns(1);
		}
		must(keel_stktable_current(t) == 0);
		keel_stktable_free(t);
	}
	task_destroy(sync);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(a_table_fills)
{
	each_failure(MEMORY, ENOMEM, fills_a_table, SIZE);
}
END_TEST

/* --- callouts ---------------------------------------------------------------------- */

enum { CALLOUTS = 24, CPUS = 3 };
static struct callout callouts[CALLOUTS];
static atomic_int fired[CALLOUTS];

/* Twice each, on one cpu and on the next. */
static void fires(void *arg)
{
	int i = (int)(intptr_t)arg;

	if (atomic_fetch_add(&fired[i], 1) == 0)
		callout_reset_sbt_on(&callouts[i], SBT_1US * 200, 0, fires, arg, (i + 1) % CPUS, 0);
}

static void arm_all(void)
{
	for (int i = 0; i < CALLOUTS; i++) {
		atomic_store(&fired[i], 0);
		callout_init(&callouts[i], 1);
		callout_reset_sbt_on(&callouts[i], SBT_1US * 100 * (i % 5), 0, fires, (void *)(intptr_t)i, i % CPUS, 0);
	}
}

/* Comes and goes under id <arg>. */
static void *visits(void *arg)
{
	for (int i = 0; i < 3; i++) {
		if (good(keel_thread_enter((unsigned int)(intptr_t)arg))) {
			keel_poll_once(1);
			keel_thread_leave();
		}
	}
	return NULL;
}

/* Needs no memory: only the threads that serve it do, and what is armed waits for
 * one that has some. */
static void storms(void)
{
	pthread_t visitors[CPUS - 1];
	int done;

	init(CPUS);
	again();
	arm_all();
	if (good(keel_thread_enter(0))) {
		for (intptr_t i = 1; i < CPUS; i++)
			must(pthread_create(&visitors[i - 1], NULL, visits, (void *)i) == 0);
		keel_poll_once(1);
		for (int i = 1; i < CPUS; i++)
			pthread_join(visitors[i - 1], NULL);
	} else {
		disarm();
		must(keel_thread_enter(0) == 0);
	}
	for (int turn = 0; turn < 20000; turn++) {
		keel_poll_once(1);
		done = 0;
		for (int i = 0; i < CALLOUTS; i++)
			done += atomic_load(&fired[i]) == 2;
		if (done == CALLOUTS)
			break;
	}
	must(done == CALLOUTS);
	for (int i = 0; i < CALLOUTS; i++)
		must(callout_drain(&callouts[i]) != 1);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(a_storm_of_callouts)
{
	each_failure(MEMORY, ENOMEM, storms, 3);
}
END_TEST

/* --- descriptors --------------------------------------------------------------------- */

enum { EVENTS = 100 };
static int events[EVENTS], heard[EVENTS];

static void hears(int fd)
{
	uint64_t count;
	int *n = fdtab[fd].owner;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		*n += (int)count;
	fd_cant_recv(fd);
}

static void watches_many(void)
{
	uint64_t one = 1;
	int in = 0;

	init(2);
	for (int i = 0; i < EVENTS; i++) {
		events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		heard[i] = 0;
	}
	again();
	in = good(keel_thread_enter(0));
	for (int i = 0; i < EVENTS; i++) {
		fd_insert(events[i], &heard[i], hears, 1 + i % 3);
		fd_want_recv(events[i]);
		must(write(events[i], &one, sizeof(one)) == sizeof(one));
	}
	if (!in) {
		disarm();
		must(keel_thread_enter(0) == 0);
	}
	good(keel_dump_fds(null_device));
	for (int i = 0; i < 5; i++)
		turns(1);
	for (int i = 0; i < EVENTS; i++)
		must(heard[i] == (i % 3 != 1));
	for (int i = 0; i < EVENTS; i++)
		fd_delete(events[i]);
	must(keel_used_fds() == 0);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(descriptors_with_each_poller)
{
	disable_poller(_i ? "epoll" : "poll");
	/* poll() has a table of its own. */
	each_failure(MEMORY, ENOMEM, watches_many, _i ? 3 : 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory");
	TCase *tc = tcase_create("the n-th allocation");

	null_device = open("/dev/null", O_WRONLY | O_CLOEXEC);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, starting);
	tcase_add_test(tc, running);
	tcase_add_test(tc, running_without_threads);
	tcase_add_test(tc, pools);
	tcase_add_test(tc, pools_with_marks);
	tcase_add_test(tc, tasks_and_wait_queues);
	tcase_add_test(tc, a_table_fills);
	tcase_add_test(tc, a_storm_of_callouts);
	tcase_add_loop_test(tc, descriptors_with_each_poller, 0, 2);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
