/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/pool.h: pools, their caches, limits and figures. */

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "pools.h"
#include "suite.h"

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

/* SHOWS: INV-23 */
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

/* SHOWS: INV-1 */
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

/* SHOWS: INV-7 */
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

/* SHOWS: INV-12 */
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

/* SHOWS: INV-19 */
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

/* SHOWS: INV-19 */
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

/* SHOWS: INV-1, INV-2, INV-6 */
START_TEST(inv_1_threads_lose_and_double_nothing)
{
	threads_at_work(1000);
}
END_TEST

/* Every object that goes to the system is unmapped at once.
 * SHOWS: INV-3, INV-5 */
START_TEST(pool_1_nothing_freed_is_read)
{
	ck_assert_int_eq(keel_pool_debug("uaf,cache"), 0);
	threads_at_work(1000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *one = tcase_create("one thread");
	TCase *many = tcase_create("many threads");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(many, 60);
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
	tcase_add_test(many, another_thread_may_free);
	tcase_add_test(many, a_thread_that_leaves_gives_its_cache_back);
	tcase_add_test(many, gc_reaches_other_threads_at_their_next_turn);
	tcase_add_test(many, inv_1_threads_lose_and_double_nothing);
	tcase_add_test(many, pool_1_nothing_freed_is_read);
	suite_add_tcase(s, one);
	suite_add_tcase(s, many);
	return run_suite(s);
}
