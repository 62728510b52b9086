/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/pool.h: pools, their caches, limits, figures and debugging words. */

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

/* Starts the library with two ids; the caller gets id 0. */
static void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 1024;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static void stop(void)
{
	keel_thread_leave();
	keel_deinit();
}

static struct pool_head *make(unsigned int size, unsigned int flags)
{
	struct pool_head *pool = create_pool("test", size, flags);

	ck_assert_ptr_nonnull(pool);
	return pool;
}

static struct keel_pool_stats stats(const struct pool_head *pool)
{
	struct keel_pool_stats s;

	memset(&s, 0xff, sizeof(s));
	keel_pool_get_stats(pool, &s);
	ck_assert_uint_eq(s.allocated, s.used + s.cached);
	return s;
}

static void take(struct pool_head *pool, void **objects, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		objects[i] = pool_alloc(pool);
		ck_assert_ptr_nonnull(objects[i]);
	}
}

static void give(struct pool_head *pool, void **objects, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pool_free(pool, objects[i]);
}

static void gone(struct pool_head *pool)
{
	ck_assert_ptr_null(pool_destroy(pool));
}

/* The address of the word right behind an object. */
static unsigned char *behind(struct pool_head *pool, void *object)
{
	return (unsigned char *)object + pool->size;
}

static void *elsewhere(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, fn, arg), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	return result;
}

/* --- creation ------------------------------------------------------------ */

START_TEST(a_new_pool_has_what_was_asked_for)
{
	struct pool_head *pool = create_pool("connections and more", 100, 0);

	ck_assert_ptr_nonnull(pool);
	ck_assert_str_eq(pool->name, "connections");
	ck_assert_uint_eq(pool->size, 112);
	ck_assert_uint_ge(pool->align, sizeof(void *));
	ck_assert_uint_eq(pool->minavail, 0);
	ck_assert_uint_eq(pool->limit, 0);
	ck_assert_uint_eq((uintptr_t)pool % 64, 0);
	gone(pool);
}
END_TEST

START_TEST(an_exact_pool_keeps_its_size)
{
	for (unsigned int size = 0; size < 70; size++) {
		struct pool_head *pool = make(size, MEM_F_EXACT);

		ck_assert_uint_eq(pool->size, size);
		gone(pool);
	}
}
END_TEST

START_TEST(alignment_is_rounded_and_kept)
{
	static const unsigned int asked[] = { 0, 1, 3, 8, 24, 64, 4096, 10000 };
	static const unsigned int expected[] = { 16, 8, 8, 8, 32, 64, 4096, 16384 };
	void *objects[10];

	for (size_t i = 0; i < ARRAY(asked); i++) {
		struct pool_head *pool = create_aligned_pool("aligned", 40, asked[i], 0);

		ck_assert_ptr_nonnull(pool);
		ck_assert_uint_eq(pool->align, expected[i]);
		take(pool, objects, ARRAY(objects));
		for (size_t j = 0; j < ARRAY(objects); j++)
			ck_assert_uint_eq((uintptr_t)objects[j] % pool->align, 0);
		give(pool, objects, ARRAY(objects));
		gone(pool);
	}
}
END_TEST

START_TEST(what_cannot_be_a_pool_is_refused)
{
	errno = 0;
	ck_assert_ptr_null(create_pool(NULL, 64, 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(create_pool("huge", UINT_MAX, 0));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_ptr_null(create_aligned_pool("align", 64, UINT_MAX, 0));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(shared_pools_of_a_size_are_one)
{
	struct pool_head *a = make(100, MEM_F_SHARED);
	struct pool_head *b = make(4000, MEM_F_SHARED);
	struct pool_head *c;
	void *object;

	ck_assert_ptr_eq(make(104, MEM_F_SHARED), a);
	c = make(104, 0);
	ck_assert_ptr_ne(c, a);
	ck_assert_ptr_eq(make(4030, MEM_F_SHARED), b);
	ck_assert_uint_eq(b->size, 4032);
	object = pool_alloc(b);
	ck_assert_ptr_ne(make(4060, MEM_F_SHARED), b);
	/* The first destruction of two leaves the pool to the other user. */
	ck_assert_ptr_eq(pool_destroy(b), b);
	pool_free(b, object);
	gone(b);
	object = pool_alloc(b);
	ck_assert_ptr_nonnull(object);
	pool_free(b, object);
	gone(b);
	gone(a);
	gone(a);
	gone(c);
}
END_TEST

/* --- objects ------------------------------------------------------------- */

static void use_objects(void)
{
	struct pool_head *pool = make(64, 0);
	unsigned char *objects[200];

	for (int turn = 0; turn < 3; turn++) {
		take(pool, (void **)objects, ARRAY(objects));
		for (size_t i = 0; i < ARRAY(objects); i++)
			memset(objects[i], (int)i, pool->size);
		for (size_t i = 0; i < ARRAY(objects); i++)
			for (size_t j = 0; j < pool->size; j++)
				ck_assert_uint_eq(objects[i][j], (unsigned char)i);
		give(pool, (void **)objects, ARRAY(objects));
	}
	gone(pool);
}

START_TEST(objects_do_not_overlap_before_init)
{
	use_objects();
}
END_TEST

START_TEST(objects_do_not_overlap_on_a_registered_thread)
{
	start();
	use_objects();
	stop();
}
END_TEST

START_TEST(zalloc_zeroes_what_was_used)
{
	start();
	for (int registered = 1; registered >= 0; registered--) {
		struct pool_head *pool = make(300, 0);
		unsigned char *object = pool_alloc(pool);

		memset(object, 0xaa, pool->size);
		pool_free(pool, object);
		object = pool_zalloc(pool);
		for (size_t i = 0; i < pool->size; i++)
			ck_assert_uint_eq(object[i], 0);
		memset(object, 0xaa, pool->size);
		pool_free(pool, object);
		object = __pool_alloc(pool, POOL_F_MUST_ZERO | POOL_F_NO_FAIL);
		for (size_t i = 0; i < pool->size; i++)
			ck_assert_uint_eq(object[i], 0);
		__pool_free(pool, object);
		gone(pool);
		if (registered)
			keel_thread_leave();
	}
	keel_deinit();
}
END_TEST

START_TEST(freeing_nothing_is_fine)
{
	struct pool_head *pool = make(64, 0);

	pool_free(pool, NULL);
	pool_free(NULL, NULL);
	pool_free_nocache(pool, NULL);
	pool_flush(NULL);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	gone(pool);
	ck_assert_ptr_null(pool_destroy(NULL));
}
END_TEST

START_TEST(the_newest_object_comes_first)
{
	struct pool_head *pool;
	void *objects[20];

	start();
	pool = make(64, 0);
	take(pool, objects, ARRAY(objects));
	give(pool, objects, ARRAY(objects));
	for (size_t i = ARRAY(objects); i-- > 0;)
		ck_assert_ptr_eq(pool_alloc(pool), objects[i]);
	give(pool, objects, ARRAY(objects));
	gone(pool);
	stop();
}
END_TEST

START_TEST(nocache_goes_to_the_system)
{
	struct pool_head *pool;
	void *object;

	start();
	pool = make(64, 0);
	object = pool_alloc_nocache(pool);
	ck_assert_ptr_nonnull(object);
	ck_assert_uint_eq(stats(pool).used, 1);
	pool_free_nocache(pool, object);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	object = pool_alloc(pool);
	pool_free_nocache(pool, object);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	pool->limit = 1;
	object = pool_alloc_nocache(pool);
	ck_assert_ptr_nonnull(object);
	errno = 0;
	ck_assert_ptr_null(pool_alloc_nocache(pool));
	ck_assert_int_eq(errno, ENOMEM);
	pool_free(pool, object);
	gone(pool);
	stop();
}
END_TEST

/* --- limits and figures -------------------------------------------------- */

START_TEST(the_limit_refuses_and_recovers)
{
	struct pool_head *pool = make(64, 0);
	int failures = pool_total_failures();
	void *objects[5];

	pool->limit = 5;
	take(pool, objects, 5);
	for (int i = 0; i < 3; i++) {
		errno = 0;
		ck_assert_ptr_null(pool_alloc(pool));
		ck_assert_int_eq(errno, ENOMEM);
	}
	ck_assert_uint_eq(stats(pool).allocated, 5);
	ck_assert_uint_eq(stats(pool).failed, 3);
	ck_assert_int_eq(pool_total_failures(), failures + 3);
	pool_free(pool, objects[4]);
	take(pool, &objects[4], 1);
	pool->limit = 0;
	{
		void *more = pool_alloc(pool);

		ck_assert_ptr_nonnull(more);
		pool_free(pool, more);
	}
	give(pool, objects, 5);
	gone(pool);
}
END_TEST

START_TEST(figures_are_exact)
{
	struct keel_pool_stats before, now;
	unsigned long long allocated, used;
	struct pool_head *pool;
	void *objects[10];

	start();
	pool = make(100, 0);
	before = stats(NULL);
	allocated = pool_total_allocated();
	used = pool_total_used();
	take(pool, objects, 10);
	give(pool, objects, 4);
	now = stats(pool);
	ck_assert_uint_eq(now.allocated, 10);
	ck_assert_uint_eq(now.used, 6);
	ck_assert_uint_eq(now.cached, 4);
	ck_assert_uint_eq(now.failed, 0);
	ck_assert_uint_eq(now.bytes, 1120);
	now = stats(NULL);
	ck_assert_uint_eq(now.allocated, before.allocated + 10);
	ck_assert_uint_eq(now.used, before.used + 6);
	ck_assert_uint_eq(now.cached, before.cached + 4);
	ck_assert_uint_eq(now.bytes, before.bytes + 1120);
	ck_assert_uint_eq(pool_total_allocated(), allocated + 1120);
	ck_assert_uint_eq(pool_total_used(), used + 672);
	give(pool, objects + 4, 6);
	ck_assert_uint_eq(stats(pool).used, 0);
	gone(pool);
	stop();
}
END_TEST

START_TEST(a_threads_cache_is_bounded)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	static void *objects[1000];
	struct pool_head *pool;

	cfg.nbthread = 1;
	cfg.maxsock = 64;
	cfg.pool_cache_bytes = 16384;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pool = make(1024, 0);
	take(pool, objects, ARRAY(objects));
	give(pool, objects, ARRAY(objects));
	/* What stays in the shared list is another matter. */
	pool_flush(pool);
	ck_assert_uint_gt(stats(pool).cached, 0);
	ck_assert_uint_le(stats(pool).cached, 16);
	gone(pool);
	stop();
}
END_TEST

/* --- threads ------------------------------------------------------------- */

struct batch {
	struct pool_head *pool;
	void *objects[20];
};

static void *give_batch(void *arg)
{
	struct batch *b = arg;

	give(b->pool, b->objects, ARRAY(b->objects));
	return NULL;
}

static void *use_as_thread_1(void *arg)
{
	struct batch *b = arg;

	ck_assert_int_eq(keel_thread_enter(1), 0);
	take(b->pool, b->objects, ARRAY(b->objects));
	give(b->pool, b->objects, ARRAY(b->objects));
	keel_thread_leave();
	return NULL;
}

START_TEST(another_thread_may_free)
{
	struct batch b;

	start();
	b.pool = make(64, 0);
	take(b.pool, b.objects, ARRAY(b.objects));
	elsewhere(give_batch, &b);
	ck_assert_uint_eq(stats(b.pool).used, 0);
	take(b.pool, b.objects, ARRAY(b.objects));
	give(b.pool, b.objects, ARRAY(b.objects));
	gone(b.pool);
	stop();
}
END_TEST

START_TEST(a_thread_that_leaves_gives_its_cache_back)
{
	struct batch b;

	start();
	b.pool = make(64, 0);
	elsewhere(use_as_thread_1, &b);
	ck_assert_uint_eq(stats(b.pool).used, 0);
	pool_flush(b.pool);
	ck_assert_uint_eq(stats(b.pool).allocated, 0);
	gone(b.pool);
	stop();
}
END_TEST

/* A registered thread with a full cache, which turns its loop when told. */
static atomic_int phase;

static void wait_for(int value)
{
	while (atomic_load(&phase) < value)
		usleep(1000);
}

static void *turn_when_told(void *arg)
{
	struct batch *b = arg;

	ck_assert_int_eq(keel_thread_enter(1), 0);
	take(b->pool, b->objects, ARRAY(b->objects));
	give(b->pool, b->objects, ARRAY(b->objects));
	atomic_store(&phase, 1);
	wait_for(2);
	keel_poll_once(0);
	keel_poll_once(0);
	atomic_store(&phase, 3);
	wait_for(4);
	keel_thread_leave();
	return NULL;
}

START_TEST(gc_reaches_other_threads_at_their_next_turn)
{
	struct batch b;
	pthread_t thread;

	start();
	b.pool = make(64, 0);
	b.pool->minavail = 3;
	atomic_store(&phase, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, turn_when_told, &b), 0);
	wait_for(1);
	/* In another thread's cache: in nobody's hands, but not within reach. */
	ck_assert_uint_eq(stats(b.pool).cached, 20);
	ck_assert_ptr_eq(pool_destroy(b.pool), b.pool);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(b.pool).cached, 20);
	atomic_store(&phase, 2);
	wait_for(3);
	ck_assert_uint_eq(stats(b.pool).cached, 3);
	gone(b.pool);
	atomic_store(&phase, 4);
	pthread_join(thread, NULL);
	stop();
}
END_TEST

START_TEST(pool_11_gc_leaves_exactly_minavail)
{
	struct pool_head *pool;
	void *objects[32];

	start();
	pool = make(64, 0);
	pool->minavail = 10;
	take(pool, objects, 32);
	give(pool, objects, 12);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).used, 20);
	ck_assert_uint_eq(stats(pool).cached, 10);
	give(pool, objects + 12, 5);
	pool_gc(pool);
	ck_assert_uint_eq(stats(pool).cached, 10);
	pool->minavail = 0;
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).cached, 0);
	pool->minavail = 100;
	give(pool, objects + 17, 15);
	pool_gc(NULL);
	ck_assert_uint_eq(stats(pool).cached, 15);
	gone(pool);
	stop();
}
END_TEST

START_TEST(flush_ignores_minavail)
{
	struct pool_head *pool = make(64, 0);
	void *objects[30];

	/* Without a cache, minavail decides what stays in the shared list. */
	pool->minavail = 30;
	take(pool, objects, 30);
	give(pool, objects, 30);
	ck_assert_uint_eq(stats(pool).cached, 30);
	pool_flush(pool);
	ck_assert_uint_eq(stats(pool).allocated, 0);
	gone(pool);
}
END_TEST

/* --- destruction --------------------------------------------------------- */

START_TEST(a_pool_in_use_survives)
{
	struct pool_head *pool;
	void *object;

	start();
	pool = make(64, 0);
	object = pool_alloc(pool);
	ck_assert_ptr_eq(pool_destroy(pool), pool);
	memset(object, 1, pool->size);
	ck_assert_uint_eq(stats(pool).used, 1);
	pool_free(pool, object);
	/* POOL-25: the caller's own cache is no use. */
	gone(pool);
	stop();
}
END_TEST

START_TEST(destroy_all_minds_no_users)
{
	unsigned long long before;

	before = stats(NULL).allocated;
	for (int i = 0; i < 3; i++) {
		struct pool_head *pool = make(64, MEM_F_SHARED);

		pool_free(pool, pool_alloc(pool));
	}
	pool_destroy_all();
	ck_assert_uint_eq(stats(NULL).allocated, before);
	gone(make(64, MEM_F_SHARED));
}
END_TEST

START_TEST(deinit_destroys_and_init_starts_anew)
{
	for (int i = 0; i < 3; i++) {
		struct pool_head *pool;
		void *object;

		start();
		pool = make(64, MEM_F_SHARED);
		ck_assert_uint_eq(stats(pool).allocated, 0);
		object = pool_alloc(pool);
		pool_free(pool, object);
		stop();
		ck_assert_uint_eq(stats(NULL).allocated, 0);
	}
}
END_TEST

/* --- debugging words ----------------------------------------------------- */

START_TEST(words_are_checked)
{
	static const char *const good[] = {
		"tag", "no-merge,tag,poison", "merge,no-tag,no-poison", "65,tag", "-1", "0x41",
		"fail=0", "no-fail", "cold-first,hot-first", "no-global,global", "no-cache,cache",
		"uaf,no-uaf,cache", "no-integrity,no-caller,no-backup",
	};
	static const char *const bad[] = {
		"nonsense", "tag,nonsense", "TAG", "fail=101", "fail=-1", "fail=x", "tag=1",
		"12tag", "tag,12", " tag",
	};

	for (size_t i = 0; i < ARRAY(good); i++)
		ck_assert_int_eq(keel_pool_debug(good[i]), 0);
	for (size_t i = 0; i < ARRAY(bad); i++)
		ck_assert_int_eq(keel_pool_debug(bad[i]), -EINVAL);
	ck_assert_int_eq(keel_pool_debug(NULL), -EINVAL);
}
END_TEST

START_TEST(poison_fills_and_zero_wins)
{
	unsigned char *object;
	struct pool_head *pool;

	ck_assert_int_eq(keel_pool_debug("65"), 0);
	start();
	pool = make(50, 0);
	for (int turn = 0; turn < 2; turn++) {
		object = pool_alloc(pool);
		for (size_t i = 0; i < pool->size; i++)
			ck_assert_uint_eq(object[i], 65);
		memset(object, 7, pool->size);
		pool_free(pool, object);
	}
	object = pool_zalloc(pool);
	for (size_t i = 0; i < pool->size; i++)
		ck_assert_uint_eq(object[i], 0);
	memset(object, 7, pool->size);
	pool_free(pool, object);
	object = __pool_alloc(pool, POOL_F_NO_POISON);
	ck_assert_uint_eq(object[pool->size - 1], 7);
	pool_free(pool, object);
	gone(pool);
	stop();
}
END_TEST

START_TEST(no_merge_wants_the_same_name)
{
	struct pool_head *a, *b;

	ck_assert_int_eq(keel_pool_debug("no-merge"), 0);
	a = create_pool("a", 64, MEM_F_SHARED);
	b = create_pool("b", 64, MEM_F_SHARED);
	ck_assert_ptr_ne(a, b);
	ck_assert_ptr_eq(create_pool("a", 64, MEM_F_SHARED), a);
	gone(a);
	gone(a);
	gone(b);
}
END_TEST

START_TEST(cold_first_hands_out_the_oldest)
{
	struct pool_head *pool;
	void *objects[20];

	ck_assert_int_eq(keel_pool_debug("cold-first"), 0);
	start();
	pool = make(64, 0);
	take(pool, objects, ARRAY(objects));
	give(pool, objects, ARRAY(objects));
	for (size_t i = 0; i < ARRAY(objects); i++)
		ck_assert_ptr_eq(pool_alloc(pool), objects[i]);
	give(pool, objects, ARRAY(objects));
	gone(pool);
	stop();
}
END_TEST

START_TEST(no_cache_keeps_nothing)
{
	struct pool_head *pool;
	void *objects[20];

	ck_assert_int_eq(keel_pool_debug("no-cache"), 0);
	start();
	pool = make(64, 0);
	pool->minavail = 100;
	take(pool, objects, ARRAY(objects));
	give(pool, objects, ARRAY(objects));
	ck_assert_uint_eq(stats(pool).allocated, 0);
	gone(pool);
	stop();
}
END_TEST

START_TEST(no_global_keeps_caches_only)
{
	struct batch b;

	ck_assert_int_eq(keel_pool_debug("no-global"), 0);
	start();
	b.pool = make(64, 0);
	b.pool->minavail = 100;
	take(b.pool, b.objects, 20);
	give(b.pool, b.objects, 10);
	ck_assert_uint_eq(stats(b.pool).cached, 10);
	take(b.pool, b.objects, 10);
	elsewhere(give_batch, &b);
	ck_assert_uint_eq(stats(b.pool).allocated, 0);
	gone(b.pool);
	stop();
}
END_TEST

START_TEST(pool_38_failures_are_injected_after_the_start)
{
	struct pool_head *pool;
	void *object;

	ck_assert_int_eq(keel_pool_debug("fail=100"), 0);
	pool = make(64, 0);
	object = pool_alloc(pool);
	ck_assert_ptr_nonnull(object);
	pool_free(pool, object);
	ck_assert_int_eq(keel_pool_debug("fail=0"), 0);
	start();
	ck_assert_int_eq(keel_pool_debug("fail=100"), 0);
	errno = 0;
	ck_assert_ptr_null(pool_alloc(pool));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_null(pool_zalloc(pool));
	ck_assert_uint_eq(stats(pool).failed, 2);
	object = __pool_alloc(pool, POOL_F_NO_FAIL);
	ck_assert_ptr_nonnull(object);
	pool_free(pool, object);
	gone(pool);
	ck_assert_int_eq(keel_pool_debug("fail=0"), 0);
	stop();
}
END_TEST

START_TEST(pool_17_tags_are_on_every_path)
{
	struct pool_head *pool;

	ck_assert_int_eq(keel_pool_debug("tag"), 0);
	start();
	pool = make(64, 0);
	for (int i = 0; i < 30; i++) {
		pool_free(pool, pool_alloc(pool));
		pool_free(pool, pool_zalloc(pool));
		pool_free(pool, pool_alloc_nocache(pool));
		pool_free_nocache(pool, pool_alloc(pool));
		pool_free(pool, __pool_alloc(pool, POOL_F_NO_POISON));
	}
	gone(pool);
	stop();
}
END_TEST

/* --- crimes -------------------------------------------------------------- */

/* Expects a panic whose sentence contains `words`: its hook is the judge. */
static void judge(const char *file, int line, const char *message, void *words)
{
	(void)file;
	(void)line;
	if (!strstr(message, words)) {
		fprintf(stderr, "expected '%s' in '%s'\n", (const char *)words, message);
		_exit(1);
	}
}

static struct pool_head *scene(const char *options, const char *sentence)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	if (options)
		ck_assert_int_eq(keel_pool_debug(options), 0);
	cfg.nbthread = 1;
	cfg.maxsock = 64;
	cfg.panic = judge;
	cfg.panic_arg = (void *)sentence;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	return make(64, 0);
}

START_TEST(allocating_from_no_pool_is_a_panic)
{
	scene(NULL, "NULL pool");
	pool_alloc(NULL);
}
END_TEST

START_TEST(zeroed_from_no_pool_is_a_panic)
{
	scene(NULL, "NULL pool");
	pool_zalloc(NULL);
}
END_TEST

START_TEST(nocache_from_no_pool_is_a_panic)
{
	scene(NULL, "NULL pool");
	pool_alloc_nocache(NULL);
}
END_TEST

START_TEST(freeing_to_no_pool_is_a_panic)
{
	pool_free(NULL, pool_alloc(scene(NULL, "NULL pool")));
}
END_TEST

START_TEST(figures_without_a_place_are_a_panic)
{
	keel_pool_get_stats(scene(NULL, "NULL"), NULL);
}
END_TEST

START_TEST(a_double_free_is_a_panic)
{
	struct pool_head *pool = scene("tag", "pool test: object");
	void *object = pool_alloc(pool);

	pool_free(pool, object);
	pool_free(pool, object);
}
END_TEST

START_TEST(a_double_free_is_called_so)
{
	struct pool_head *pool = scene("tag", "freed twice");
	void *object = pool_alloc(pool);

	pool_free(pool, object);
	pool_free(pool, object);
}
END_TEST

START_TEST(a_free_to_the_wrong_pool_names_the_right_one)
{
	struct pool_head *pool = scene("tag", "allocated from pool test");
	struct pool_head *wrong = create_pool("wrong", 64, 0);

	pool_free(wrong, pool_alloc(pool));
}
END_TEST

START_TEST(an_overrun_is_a_panic)
{
	struct pool_head *pool = scene("tag", "overwritten");
	void *object = pool_alloc(pool);

	*behind(pool, object) ^= 1;
	pool_free(pool, object);
}
END_TEST

/* The sanitizers' own handlers would turn a fault into an exit. */
static void faults(void)
{
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

START_TEST(use_after_free_faults)
{
	struct pool_head *pool = make(64, MEM_F_UAF);
	volatile char *object = pool_alloc(pool);

	object[0] = 1;
	faults();
	pool_free(pool, (void *)object);
	object[0] = 2;
}
END_TEST

START_TEST(use_after_free_faults_with_the_word_too)
{
	struct pool_head *pool;
	volatile char *object;

	ck_assert_int_eq(keel_pool_debug("uaf"), 0);
	start();
	pool = make(64, 0);
	object = pool_alloc(pool);
	faults();
	pool_free(pool, (void *)object);
	object[0] = 2;
}
END_TEST

START_TEST(pool_19_a_double_free_faults_in_uaf_mode)
{
	struct pool_head *pool = make(4096, MEM_F_UAF);
	void *object = pool_alloc(pool);

	faults();
	pool_free(pool, object);
	pool_free(pool, object);
}
END_TEST

START_TEST(an_overrun_faults_in_uaf_mode)
{
	struct pool_head *pool = make(64, MEM_F_UAF);
	void *object = pool_alloc(pool);

	faults();
	*(volatile unsigned char *)behind(pool, object) = 1;
}
END_TEST

START_TEST(an_underrun_is_a_panic_in_uaf_mode)
{
	struct pool_head *pool = make(64, MEM_F_UAF);
	volatile char *object = pool_alloc(pool);

	object[-1] ^= 1;
	pool_free(pool, (void *)object);
}
END_TEST

/* --- reports ------------------------------------------------------------- */

START_TEST(the_dump_has_a_line_per_pool)
{
	struct pool_head *pool = create_pool("listed", 100, MEM_F_SHARED);
	char line[256], expected[256];
	void *object = pool_alloc(pool);
	FILE *out = tmpfile();
	int found = 0, total = 0, bytes;
	long end;

	ck_assert_ptr_nonnull(out);
	for (int i = 0; i < 500; i++)
		ck_assert_ptr_nonnull(create_pool("many", 1000 + i, 0));
	bytes = keel_dump_pools(fileno(out));
	ck_assert_int_gt(bytes, 0);
	fseek(out, 0, SEEK_END);
	end = ftell(out);
	ck_assert_int_eq(bytes, end);
	rewind(out);
	snprintf(expected, sizeof(expected), "  - Pool listed (112 bytes) : 1 allocated (112 bytes), 1 used");
	while (fgets(line, sizeof(line), out)) {
		found += !strncmp(line, expected, strlen(expected)) && strstr(line, "[SHARED]");
		total += !strncmp(line, "Total: 501 pools, 112 bytes allocated, 112 used", 47);
	}
	ck_assert_int_eq(found, 1);
	ck_assert_int_eq(total, 1);
	fclose(out);
	ck_assert_int_eq(keel_dump_pools(-1), -EBADF);
	pool_free(pool, object);
	pool_destroy_all();
}
END_TEST

/* --- several threads ----------------------------------------------------- */

#define SLOTS 64

static struct pool_head *busy[2];
static void *_Atomic slots[2][SLOTS];
static atomic_int over;

/* Swaps objects in and out of slots that all threads share. */
static void *work(void *arg)
{
	unsigned int tid = (unsigned int)(uintptr_t)arg;
	unsigned int dice = tid * 7919 + 1;

	/* Ids 0 and 1 are registered, others are not. */
	if (tid < 2)
		ck_assert_int_eq(keel_thread_enter(tid), 0);
	while (!atomic_load(&over)) {
		struct pool_head *pool;
		uintptr_t *object, *other;
		int p, n;

		dice = dice * 1664525 + 1013904223;
		p = dice >> 31;
		n = dice >> 20 & (SLOTS - 1);
		pool = busy[p];
		object = pool_alloc(pool);
		ck_assert_ptr_nonnull(object);
		object[0] = (uintptr_t)object;
		object[pool->size / sizeof(*object) - 1] = ~(uintptr_t)object;
		other = atomic_exchange(&slots[p][n], object);
		if (other) {
			ck_assert_uint_eq(other[0], (uintptr_t)other);
			ck_assert_uint_eq(other[pool->size / sizeof(*other) - 1], ~(uintptr_t)other);
			other[0] = 0;
			pool_free(pool, other);
		}
		if ((dice >> 12 & 255) == 0)
			pool_flush(pool);
		if ((dice >> 8 & 4095) == 0)
			pool_gc(NULL);
		if (tid < 2 && (dice >> 16 & 255) == 0)
			keel_poll_once(0);
	}
	if (tid < 2)
		keel_thread_leave();
	return NULL;
}

static void threads_at_work(void)
{
	pthread_t threads[4];
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 1024;
	cfg.pool_cache_bytes = 8192;
	ck_assert_int_eq(keel_init(&cfg), 0);
	busy[0] = make(64, 0);
	busy[1] = make(2000, 0);
	busy[0]->minavail = 5;
	for (uintptr_t i = 0; i < ARRAY(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	sleep(1);
	atomic_store(&over, 1);
	for (size_t i = 0; i < ARRAY(threads); i++)
		pthread_join(threads[i], NULL);
	for (int p = 0; p < 2; p++) {
		for (int n = 0; n < SLOTS; n++)
			pool_free(busy[p], slots[p][n]);
		ck_assert_uint_eq(stats(busy[p]).used, 0);
		pool_flush(busy[p]);
		ck_assert_uint_eq(stats(busy[p]).allocated, 0);
		gone(busy[p]);
	}
	keel_deinit();
}

START_TEST(inv_1_threads_lose_and_double_nothing)
{
	threads_at_work();
}
END_TEST

/* Every object that goes to the system is unmapped at once. */
START_TEST(pool_1_nothing_freed_is_read)
{
	ck_assert_int_eq(keel_pool_debug("uaf,cache"), 0);
	threads_at_work();
}
END_TEST

START_TEST(inv_9_tags_hold_across_threads)
{
	ck_assert_int_eq(keel_pool_debug("tag"), 0);
	threads_at_work();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *one = tcase_create("one thread");
	TCase *words = tcase_create("debugging words");
	TCase *many = tcase_create("many threads");
	TCase *bad = tcase_create("crimes");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(words, 30);
	tcase_set_timeout(many, 60);
	tcase_set_timeout(bad, 30);
	tcase_add_test(one, a_new_pool_has_what_was_asked_for);
	tcase_add_test(one, an_exact_pool_keeps_its_size);
	tcase_add_test(one, alignment_is_rounded_and_kept);
	tcase_add_test(one, what_cannot_be_a_pool_is_refused);
	tcase_add_test(one, shared_pools_of_a_size_are_one);
	tcase_add_test(one, objects_do_not_overlap_before_init);
	tcase_add_test(one, objects_do_not_overlap_on_a_registered_thread);
	tcase_add_test(one, zalloc_zeroes_what_was_used);
	tcase_add_test(one, freeing_nothing_is_fine);
	tcase_add_test(one, the_newest_object_comes_first);
	tcase_add_test(one, nocache_goes_to_the_system);
	tcase_add_test(one, the_limit_refuses_and_recovers);
	tcase_add_test(one, figures_are_exact);
	tcase_add_test(one, a_threads_cache_is_bounded);
	tcase_add_test(one, pool_11_gc_leaves_exactly_minavail);
	tcase_add_test(one, flush_ignores_minavail);
	tcase_add_test(one, a_pool_in_use_survives);
	tcase_add_test(one, destroy_all_minds_no_users);
	tcase_add_test(one, deinit_destroys_and_init_starts_anew);
	tcase_add_test(one, the_dump_has_a_line_per_pool);
	tcase_add_test(words, words_are_checked);
	tcase_add_test(words, poison_fills_and_zero_wins);
	tcase_add_test(words, no_merge_wants_the_same_name);
	tcase_add_test(words, cold_first_hands_out_the_oldest);
	tcase_add_test(words, no_cache_keeps_nothing);
	tcase_add_test(words, no_global_keeps_caches_only);
	tcase_add_test(words, pool_38_failures_are_injected_after_the_start);
	tcase_add_test(words, pool_17_tags_are_on_every_path);
	tcase_add_test(many, another_thread_may_free);
	tcase_add_test(many, a_thread_that_leaves_gives_its_cache_back);
	tcase_add_test(many, gc_reaches_other_threads_at_their_next_turn);
	tcase_add_test(many, inv_1_threads_lose_and_double_nothing);
	tcase_add_test(many, pool_1_nothing_freed_is_read);
	tcase_add_test(many, inv_9_tags_hold_across_threads);
	tcase_add_test_raise_signal(bad, allocating_from_no_pool_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, zeroed_from_no_pool_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, nocache_from_no_pool_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, freeing_to_no_pool_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, figures_without_a_place_are_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_double_free_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_double_free_is_called_so, SIGABRT);
	tcase_add_test_raise_signal(bad, a_free_to_the_wrong_pool_names_the_right_one, SIGABRT);
	tcase_add_test_raise_signal(bad, an_overrun_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, use_after_free_faults, SIGSEGV);
	tcase_add_test_raise_signal(bad, use_after_free_faults_with_the_word_too, SIGSEGV);
	tcase_add_test_raise_signal(bad, pool_19_a_double_free_faults_in_uaf_mode, SIGSEGV);
	tcase_add_test_raise_signal(bad, an_overrun_faults_in_uaf_mode, SIGSEGV);
	tcase_add_test_raise_signal(bad, an_underrun_is_a_panic_in_uaf_mode, SIGABRT);
	suite_add_tcase(s, one);
	suite_add_tcase(s, words);
	suite_add_tcase(s, many);
	suite_add_tcase(s, bad);
	return run_suite(s);
}
