/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What pools got wrong elsewhere: a test for each mistake that threads, gc and
 * bursts can bring back, named after its row in docs/pool-museum.md. */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

/* How long threads race. */
#define RACE_NS 300000000ull

static void start(unsigned int threads, size_t cache)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = threads;
	cfg.maxsock = 256;
	cfg.pool_cache_bytes = cache;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

static struct pool_head *make(unsigned int size)
{
	struct pool_head *pool = create_pool("museum", size, 0);

	ck_assert_ptr_nonnull(pool);
	return pool;
}

static struct keel_pool_stats stats(const struct pool_head *pool)
{
	struct keel_pool_stats s;

	keel_pool_get_stats(pool, &s);
	return s;
}

static void *grab(struct pool_head *pool)
{
	void *object = pool_alloc(pool);

	ck_assert_ptr_nonnull(object);
	return object;
}

/* Everything is back; no thread has a cache. */
static void all_gone(struct pool_head *pool)
{
	ck_assert_uint_eq(stats(pool).used, 0);
	pool_flush(pool);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	ck_assert_ptr_null(pool_destroy(pool));
}

/* --- threads that race ----------------------------------------------------- */

#define RACERS 6

static struct pool_head *raced;
static atomic_int over;
static atomic_ulong laps;

static void *flushes(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		pool_flush(raced);
		atomic_fetch_add(&laps, 1);
	}
	return NULL;
}

static void *collects(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		pool_gc(NULL);
		atomic_fetch_add(&laps, 1);
	}
	return NULL;
}

/* Takes and gives back a few at a time, and sees that they are its own. */
static void uses_once(void)
{
	uintptr_t *objects[12];

	for (size_t i = 0; i < ARRAY(objects); i++) {
		objects[i] = grab(raced);
		objects[i][0] = (uintptr_t)objects[i];
		objects[i][3] = (uintptr_t)&objects;
	}
	for (size_t i = 0; i < ARRAY(objects); i++) {
		ck_assert_uint_eq(objects[i][0], (uintptr_t)objects[i]);
		ck_assert_uint_eq(objects[i][3], (uintptr_t)&objects);
		pool_free(raced, objects[i]);
	}
}

/* Unregistered: everything goes through the shared list. */
static void *uses(void *arg)
{
	(void)arg;
	while (!atomic_load(&over))
		uses_once();
	return NULL;
}

static void *uses_with_a_cache(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(uintptr_t)arg), 0);
	while (!atomic_load(&over)) {
		uses_once();
		keel_poll_once(0);
	}
	keel_thread_leave();
	return NULL;
}

/* Starts a thread for each function, up to a NULL, with its number. Ends them
 * after RACE_NS or, if there is one, when the caller's own part is done. */
static void race(void *(*const threads[])(void *), void (*own)(void))
{
	pthread_t th[RACERS];
	size_t n;

	atomic_store(&over, 0);
	for (n = 0; threads[n]; n++)
		ck_assert_int_eq(pthread_create(&th[n], NULL, threads[n], (void *)n), 0);
	if (own) {
		own();
	} else {
		uint64_t end = keel_now_ns() + RACE_NS;

		while (keel_now_ns() < end)
			usleep(1000);
	}
	atomic_store(&over, 1);
	while (n--)
		pthread_join(th[n], NULL);
}

/* One flush finds the list full, another empties it, and the first one leaves
 * its mark in the empty head: the next user waits for ever, and the test with it.
 * SHOWS: INV-3 */
START_TEST(pool_2_flushes_leave_no_mark)
{
	static void *(*const threads[])(void *) = { flushes, flushes, uses, uses, NULL };

	start(2, 0);
	raced = make(64);
	raced->minavail = 100;
	race(threads, NULL);
	uses_once();
	ck_assert_uint_gt(atomic_load(&laps), 0);
	all_gone(raced);
	keel_deinit();
}
END_TEST

#define MANY 3000

static void *many[3][MANY];
static atomic_uint freed;

static void *frees_many(void *arg)
{
	void **objects = many[(uintptr_t)arg];

	for (int i = 0; i < MANY; i++) {
		pool_free(raced, objects[i]);
		atomic_fetch_add(&freed, 1);
	}
	return NULL;
}

static void until_all_are_freed(void)
{
	while (atomic_load(&freed) < ARRAY(many) * MANY)
		usleep(1000);
}

static void frees_under_flushes(void *(*last)(void *))
{
	void *(*const threads[])(void *) = { frees_many, frees_many, frees_many, flushes, last, NULL };

	start(2, 0);
	raced = make(64);
	raced->minavail = 1000;
	for (int round = 0; round < 8; round++) {
		for (size_t t = 0; t < ARRAY(many); t++)
			for (int i = 0; i < MANY; i++)
				many[t][i] = grab(raced);
		atomic_store(&freed, 0);
		race(threads, until_all_are_freed);
		ck_assert_uint_eq(stats(raced).used, 0);
		pool_flush(raced);
		ck_assert_uint_eq(stats(raced).allocated, 0);
	}
	ck_assert_ptr_null(pool_destroy(raced));
	keel_deinit();
}

/* A flush that stores NULL once too often loses what was freed meanwhile.
 * SHOWS: INV-26 */
START_TEST(pool_3_flushes_lose_nothing)
{
	frees_under_flushes(NULL);
}
END_TEST

/* The same, with somebody who takes: a stale link would come back. */
START_TEST(pool_4_flushes_put_nothing_back)
{
	frees_under_flushes(uses);
}
END_TEST

static void race_collections(const char *words, void *(*const threads[])(void *), unsigned int floor)
{
	if (words)
		ck_assert_int_eq(keel_pool_debug(words), 0);
	start(RACERS, 500);
	raced = make(64);
	raced->minavail = floor;
	race(threads, NULL);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(raced).used, 0);
	ck_assert_uint_le(stats(raced).cached, floor);
	all_gone(raced);
	keel_deinit();
}

/* What gc frees is unmapped at once: whoever looks at it later faults.
 * SHOWS: INV-5 */
START_TEST(pool_5_gc_frees_what_nobody_looks_at)
{
	static void *(*const threads[])(void *) = { uses_with_a_cache, collects, uses, uses, NULL };

	race_collections("uaf,cache", threads, 20);
}
END_TEST

/* It keeps no place in a list that others change while it frees: unmapping takes
 * its time, and several collect at once. */
START_TEST(pool_7_gc_keeps_no_place_in_the_list)
{
	static void *(*const threads[])(void *) = { uses_with_a_cache, uses_with_a_cache, collects,
						    collects, uses, NULL };

	race_collections("uaf,cache", threads, 7);
}
END_TEST

START_TEST(pool_7_nor_without_pages_of_their_own)
{
	static void *(*const threads[])(void *) = { uses_with_a_cache, uses_with_a_cache, collects,
						    flushes, uses, NULL };

	race_collections(NULL, threads, 50);
}
END_TEST

/* --- empty lists ----------------------------------------------------------- */

static void empty_and_flush(void)
{
	struct pool_head *pool = make(64);

	pool_flush(pool);
	pool_flush(pool);
	for (int i = 0; i < 3; i++) {
		void *object = grab(pool);

		/* the list was empty just now */
		pool_flush(pool);
		pool_gc(NULL);
		pool_free(pool, object);
		object = grab(pool);
		pool_flush(pool);
		pool_free(pool, object);
		pool_flush(pool);
		pool_gc(NULL);
	}
	ck_assert_uint_eq(stats(pool).used, 0);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	ck_assert_ptr_null(pool_destroy(pool));
}

/* SHOWS: INV-3 */
START_TEST(pool_6_an_empty_list_is_left_unlocked)
{
	start(1, 0);
	empty_and_flush();
	ck_assert_int_eq(keel_thread_enter(0), 0);
	empty_and_flush();
	keel_thread_leave();
	keel_deinit();
}
END_TEST

/* --- bursts ---------------------------------------------------------------- */

static void trickle(struct pool_head *pool, int turns, int objects)
{
	void *held[200];

	ck_assert_int_le(objects, (int)ARRAY(held));
	while (turns--) {
		for (int i = 0; i < objects; i++)
			held[i] = grab(pool);
		for (int i = 0; i < objects; i++)
			pool_free(pool, held[i]);
	}
}

/* 10000 objects at once, then 200 at a time: what was once needed goes.
 * SHOWS: INV-11 */
START_TEST(pool_8_a_burst_is_given_back)
{
	static void *burst[10000];
	struct pool_head *pool;

	start(1, 8192);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pool = make(1024);
	for (size_t i = 0; i < ARRAY(burst); i++)
		burst[i] = grab(pool);
	for (size_t i = 0; i < ARRAY(burst); i++)
		pool_free(pool, burst[i]);
	trickle(pool, 300, 200);
	ck_assert_uint_lt(stats(pool).allocated, 1000);
	keel_thread_leave();
	all_gone(pool);
	keel_deinit();
}
END_TEST

#define CROWD 16
#define EACH  200

static struct pool_head *crowded;
static pthread_barrier_t together;

/* All have their objects at the same time, then all give them back. */
static void *bursts(void *arg)
{
	static void *objects[CROWD][EACH];
	void **own = objects[(uintptr_t)arg];

	ck_assert_int_eq(keel_thread_enter((unsigned int)(uintptr_t)arg), 0);
	for (int i = 0; i < EACH; i++)
		own[i] = grab(crowded);
	pthread_barrier_wait(&together);
	for (int i = 0; i < EACH; i++)
		pool_free(crowded, own[i]);
	keel_thread_leave();
	return NULL;
}

static void crowd_bursts(unsigned int minavail)
{
	pthread_t th[CROWD];

	start(CROWD, 4096);
	crowded = make(64);
	crowded->minavail = minavail;
	pthread_barrier_init(&together, NULL, CROWD);
	for (size_t i = 0; i < CROWD; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, bursts, (void *)i), 0);
	for (size_t i = 0; i < CROWD; i++)
		pthread_join(th[i], NULL);
	ck_assert_uint_eq(stats(crowded).used, 0);
}

/* 16 threads leave objects in whatever list is theirs. One goes on: it finds
 * them all, and the pool shrinks to what that one needs. */
START_TEST(pool_9_one_thread_shrinks_what_many_left)
{
	crowd_bursts(0);
	ck_assert_uint_gt(stats(crowded).cached, 700);
	ck_assert_int_eq(keel_thread_enter(3), 0);
	for (int i = 0; i < 100 && stats(crowded).allocated >= 400; i++)
		trickle(crowded, 50, 200);
	ck_assert_uint_lt(stats(crowded).allocated, 400);
	keel_thread_leave();
	all_gone(crowded);
	keel_deinit();
}
END_TEST

static void *found[CROWD * EACH];

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

/* Every object that 16 threads have left, though the pool may not obtain another
 * one: none lies where nobody looks. */
static void find_all(void)
{
	size_t n = 0;

	ck_assert_uint_eq(stats(crowded).cached, ARRAY(found));
	crowded->limit = ARRAY(found);
	/* One try may miss: it looks into another list than its own, not into all. */
	for (int misses = 0; n < ARRAY(found) && misses < 100000;) {
		found[n] = pool_alloc(crowded);
		if (found[n])
			n++;
		else
			misses++;
	}
	ck_assert_uint_eq(n, ARRAY(found));
	ck_assert_uint_eq(stats(crowded).used, ARRAY(found));
	ck_assert_uint_eq(stats(crowded).allocated, ARRAY(found));
	qsort(found, ARRAY(found), sizeof(*found), by_address);
	for (size_t i = 1; i < ARRAY(found); i++)
		ck_assert_ptr_ne(found[i - 1], found[i]);
	for (size_t i = 0; i < ARRAY(found); i++)
		pool_free(crowded, found[i]);
}

/* SHOWS: INV-17 */
START_TEST(inv_17_a_thread_finds_what_others_left)
{
	crowd_bursts(ARRAY(found));
	ck_assert_int_eq(keel_thread_enter(_i), 0);
	find_all();
	keel_thread_leave();
	all_gone(crowded);
	keel_deinit();
}
END_TEST

START_TEST(inv_17_so_does_an_unregistered_one)
{
	crowd_bursts(ARRAY(found));
	find_all();
	all_gone(crowded);
	keel_deinit();
}
END_TEST

/* --- gc -------------------------------------------------------------------- */

/* 20 in use, 12 free, 10 to be kept: not what is allocated is compared with it. */
START_TEST(pool_11_gc_minds_free_objects_only)
{
	void *objects[32];
	struct pool_head *pool;

	start(1, 0);
	pool = make(64);
	pool->minavail = 12;
	for (size_t i = 0; i < ARRAY(objects); i++)
		objects[i] = grab(pool);
	for (size_t i = 20; i < ARRAY(objects); i++)
		pool_free(pool, objects[i]);
	ck_assert_uint_eq(stats(pool).cached, 12);
	pool->minavail = 10;
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).used, 20);
	ck_assert_uint_eq(stats(pool).cached, 10);
	for (size_t i = 0; i < 20; i++)
		pool_free(pool, objects[i]);
	all_gone(pool);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-14 */
START_TEST(pool_12_what_is_refused_is_not_counted)
{
	void *objects[8];
	struct pool_head *pool = make(64);

	pool->limit = 5;
	for (size_t i = 0; i < ARRAY(objects); i++) {
		errno = 0;
		objects[i] = pool_alloc(pool);
		ck_assert_int_eq(objects[i] != NULL, i < 5);
		ck_assert_int_eq(errno, i < 5 ? 0 : ENOMEM);
	}
	ck_assert_uint_eq(stats(pool).allocated, 5);
	ck_assert_uint_eq(stats(pool).failed, 3);
	pool_free(pool, objects[0]);
	objects[0] = grab(pool);
	ck_assert_ptr_null(pool_alloc(pool));
	for (size_t i = 0; i < 5; i++)
		pool_free(pool, objects[i]);
	all_gone(pool);
}
END_TEST

static atomic_int sitting, let_go;

/* A handler that does not come back to the loop. */
static struct task *sits(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_store(&sitting, 1);
	while (!atomic_load(&let_go))
		usleep(100);
	keel_stop();
	return t;
}

static void *sits_in_a_handler(void *arg)
{
	struct tasklet *tl;

	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	tl = tasklet_new();
	ck_assert_ptr_nonnull(tl);
	tl->process = sits;
	tasklet_wakeup(tl);
	run_poll_loop();
	tasklet_free(tl);
	keel_thread_leave();
	return NULL;
}

/* gc neither isolates nor waits: another thread is inside a handler all the time.
 * SHOWS: INV-13 */
START_TEST(inv_13_gc_waits_for_nobody)
{
	struct pool_head *pool;
	pthread_t th;

	start(2, 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pool = make(64);
	ck_assert_int_eq(pthread_create(&th, NULL, sits_in_a_handler, NULL), 0);
	while (!atomic_load(&sitting))
		usleep(100);
	trickle(pool, 1, 100);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	ck_assert_int_eq(thread_isolated(), 0);
	ck_assert_int_eq(atomic_load(&let_go), 0);
	atomic_store(&let_go, 1);
	pthread_join(th, NULL);
	keel_thread_leave();
	all_gone(pool);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-13 */
START_TEST(inv_13_gc_works_in_isolation)
{
	struct pool_head *pool;

	start(2, 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pool = make(64);
	trickle(pool, 1, 100);
	thread_isolate();
	pool_gc(NULL);
	ck_assert_int_eq(thread_isolated(), 1);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	thread_release();
	ck_assert_int_eq(thread_isolated(), 0);
	keel_thread_leave();
	all_gone(pool);
	keel_deinit();
}
END_TEST

/* --- heads ----------------------------------------------------------------- */

/* SHOWS: INV-20 */
START_TEST(pool_29_heads_lie_in_lines_of_their_own)
{
	struct pool_head *pools[100];
	void *between[100];

	for (size_t i = 0; i < ARRAY(pools); i++) {
		pools[i] = make(1 + (unsigned int)i * 37);
		between[i] = malloc(1 + i * 13);
		ck_assert_uint_eq((uintptr_t)pools[i] % 64, 0);
	}
	for (size_t i = 0; i < ARRAY(pools); i++) {
		free(between[i]);
		ck_assert_ptr_null(pool_destroy(pools[i]));
	}
}
END_TEST

/* --- memory ---------------------------------------------------------------- */

/* Pages in memory; 0 where a checker's own would be counted. */
static size_t resident(void)
{
	size_t total, pages = 0;
	FILE *f;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return 0;
#endif
	if (getenv("LD_PRELOAD") && strstr(getenv("LD_PRELOAD"), "vgpreload"))
		return 0;
	f = fopen("/proc/self/statm", "r");
	if (!f)
		return 0;
	if (fscanf(f, "%zu %zu", &total, &pages) != 2)
		pages = 0;
	fclose(f);
	return pages;
}

/* 64 MiB are used at once, then not: the process shrinks. */
static void burst_of_memory(unsigned int size)
{
	size_t n = (64u << 20) / size, before, most, after;
	void **objects = calloc(n, sizeof(*objects));
	struct pool_head *pool = make(size);

	ck_assert_ptr_nonnull(objects);
	before = resident();
	for (size_t i = 0; i < n; i++)
		memset(objects[i] = grab(pool), 1, size);
	most = resident();
	for (size_t i = 0; i < n; i++)
		pool_free(pool, objects[i]);
	pool_gc(NULL);
	after = resident();
	if (before) {
		ck_assert_uint_gt(most - before, (60u << 20) / 4096);
		ck_assert_msg(after < before + (most - before) / 4, "%zu pages before, %zu at most, %zu after gc",
			      before, most, after);
	}
	ck_assert_uint_eq(stats(pool).allocated, 0);
	ck_assert_ptr_null(pool_destroy(pool));
	free(objects);
}

START_TEST(gc_gives_memory_back_to_the_kernel)
{
	static const unsigned int sizes[] = { 256, 16384, 2 << 20 };

	start(1, 0);
	if (_i)
		ck_assert_int_eq(keel_thread_enter(0), 0);
	for (size_t i = 0; i < ARRAY(sizes); i++)
		burst_of_memory(sizes[i]);
	keel_thread_leave();
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool museum");
	TCase *races = tcase_create("races");
	TCase *rest = tcase_create("one thread at a time");

	tcase_set_timeout(races, 60);
	tcase_set_timeout(rest, 60);
	tcase_add_test(races, pool_2_flushes_leave_no_mark);
	tcase_add_test(races, pool_3_flushes_lose_nothing);
	tcase_add_test(races, pool_4_flushes_put_nothing_back);
	tcase_add_test(races, pool_5_gc_frees_what_nobody_looks_at);
	tcase_add_test(races, pool_7_gc_keeps_no_place_in_the_list);
	tcase_add_test(races, pool_7_nor_without_pages_of_their_own);
	tcase_add_test(races, inv_13_gc_waits_for_nobody);
	tcase_add_test(rest, pool_6_an_empty_list_is_left_unlocked);
	tcase_add_test(rest, pool_8_a_burst_is_given_back);
	tcase_add_test(rest, pool_9_one_thread_shrinks_what_many_left);
	tcase_add_loop_test(rest, inv_17_a_thread_finds_what_others_left, 0, 2);
	tcase_add_test(rest, inv_17_so_does_an_unregistered_one);
	tcase_add_test(rest, pool_11_gc_minds_free_objects_only);
	tcase_add_test(rest, pool_12_what_is_refused_is_not_counted);
	tcase_add_test(rest, inv_13_gc_works_in_isolation);
	tcase_add_test(rest, pool_29_heads_lie_in_lines_of_their_own);
	tcase_add_loop_test(rest, gc_gives_memory_back_to_the_kernel, 0, 2);
	suite_add_tcase(s, races);
	suite_add_tcase(s, rest);
	return run_suite(s);
}
