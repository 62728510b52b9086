/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/pool.h: debugging words, and that they leave innocent programs alone.
 * The crimes that they detect are in c-tests/death/test_pool.c. */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "pools.h"
#include "suite.h"

static void words(const char *options)
{
	ck_assert_int_eq(keel_pool_debug(options), 0);
}

/* --- the words themselves ------------------------------------------------ */

START_TEST(words_are_checked)
{
	static const char *const good[] = {
		"tag", "no-merge,tag,poison", "merge,no-tag,no-poison", "65,tag", "-1", "0x41", "",
		"fail=0", "no-fail", "cold-first,hot-first", "no-global,global", "no-cache,cache",
		"uaf,no-uaf,cache", "integrity,caller,backup", "no-integrity,no-caller,no-backup",
	};
	static const char *const bad[] = {
		"nonsense", "tag,nonsense", "TAG", "fail=101", "fail=-1", "fail=x", "tag=1",
		"12tag", "tag,12", " tag", "help",
	};

	for (size_t i = 0; i < ARRAY(good); i++)
		ck_assert_int_eq(keel_pool_debug(good[i]), 0);
	for (size_t i = 0; i < ARRAY(bad); i++)
		ck_assert_int_eq(keel_pool_debug(bad[i]), -EINVAL);
	ck_assert_int_eq(keel_pool_debug(NULL), -EINVAL);
}
END_TEST

/* Whether new pools poison their objects, and with what; -1: not at all. */
static int poison(void)
{
	struct pool_head *pool = make(64, 0);
	unsigned char *object = pool_zalloc(pool);
	int byte;

	/* The same object comes back without a cache too. */
	pool->minavail = 1;
	memset(object, 1, pool->size);
	pool_free(pool, object);
	object = pool_alloc(pool);
	byte = object[pool->size - 1];
	pool_free(pool, object);
	gone(pool);
	return byte == 1 ? -1 : byte;
}

START_TEST(words_act_on_pools_to_come)
{
	struct pool_head *old, *poisoned;
	unsigned char *object;

	start();
	old = make(64, 0);
	words("65");
	poisoned = make(64, 0);
	words("-1");
	ck_assert_int_eq(poison(), -1);
	object = pool_zalloc(old);
	pool_free(old, object);
	object = pool_alloc(old);
	ck_assert_uint_eq(object[63], 0);
	pool_free(old, object);
	object = pool_alloc(poisoned);
	ck_assert_uint_eq(object[63], 65);
	pool_free(poisoned, object);
	/* What is wrong changes nothing. */
	ck_assert_int_eq(keel_pool_debug("66,nonsense"), -EINVAL);
	ck_assert_int_eq(poison(), -1);
	gone(old);
	gone(poisoned);
	stop();
}
END_TEST

/* --- the environment ----------------------------------------------------- */

static void set(const char *value)
{
	ck_assert_int_eq(setenv("KEEL_POOL_DEBUG", value, 1), 0);
}

/* What `fn` writes to stderr. */
static const char *said(void (*fn)(void))
{
	static char text[1024];
	FILE *file = tmpfile();
	int old = dup(2);
	size_t n;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(dup2(fileno(file), 2), 2);
	fn();
	ck_assert_int_eq(dup2(old, 2), 2);
	close(old);
	rewind(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = 0;
	fclose(file);
	return text;
}

START_TEST(the_environment_has_words_too)
{
	set("65,tag");
	start();
	ck_assert_int_eq(poison(), 65);
	/* It was read, and is not read again. */
	set("66");
	ck_assert_int_eq(poison(), 65);
	/* Words that the program sets come later, and win. */
	words("no-poison");
	ck_assert_int_eq(poison(), -1);
	stop();
	start();
	ck_assert_int_eq(poison(), -1);
	stop();
}
END_TEST

START_TEST(the_environment_is_read_before_the_first_pool)
{
	set("65");
	ck_assert_int_eq(poison(), 65);
}
END_TEST

START_TEST(the_environment_comes_before_the_programs_words)
{
	set("65,no-merge");
	words("poison");
	ck_assert_int_eq(poison(), 65);
	words("-1");
	ck_assert_int_eq(poison(), -1);
}
END_TEST

static void init_and_poison(void)
{
	start();
	ck_assert_int_eq(poison(), -1);
	ck_assert_int_eq(poison(), -1);
	stop();
}

START_TEST(wrong_words_in_the_environment_are_named_and_none_applies)
{
	const char *text;

	set("65,tag,nonsense,worse");
	text = said(init_and_poison);
	ck_assert_ptr_nonnull(strstr(text, "KEEL_POOL_DEBUG"));
	ck_assert_ptr_nonnull(strstr(text, "'nonsense'"));
	/* Once, and in one line. */
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

START_TEST(an_empty_environment_says_nothing)
{
	if (_i)
		set("");
	else
		ck_assert_int_eq(unsetenv("KEEL_POOL_DEBUG"), 0);
	ck_assert_str_eq(said(init_and_poison), "");
}
END_TEST

/* --- poison, order, caches ----------------------------------------------- */

/* SHOWS: INV-23 */
START_TEST(poison_fills_and_zero_wins)
{
	unsigned char *object;
	struct pool_head *pool;

	words("65");
	start();
	for (int registered = 1; registered >= 0; registered--) {
		pool = make(50, 0);
		pool->minavail = 1;
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
		object = pool_alloc_nocache(pool);
		ck_assert_uint_eq(object[pool->size - 1], 65);
		pool_free_nocache(pool, object);
		gone(pool);
		if (registered)
			keel_thread_leave();
	}
	keel_deinit();
}
END_TEST

START_TEST(no_merge_wants_the_same_name)
{
	struct pool_head *a, *b;

	words("no-merge");
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

	words("cold-first");
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

	/* uaf implies it. */
	words(_i ? "uaf" : "no-cache");
	start();
	for (int registered = 1; registered >= 0; registered--) {
		pool = make(64, 0);
		pool->minavail = 100;
		take(pool, objects, ARRAY(objects));
		give(pool, objects, ARRAY(objects));
		ck_assert_uint_eq(stats(pool).allocated, 0);
		gone(pool);
		if (registered)
			keel_thread_leave();
	}
	keel_deinit();
}
END_TEST

START_TEST(uaf_with_cache_keeps_some)
{
	struct pool_head *pool;
	void *object;

	words("uaf,cache");
	start();
	pool = make(64, 0);
	object = pool_alloc(pool);
	pool_free(pool, object);
	ck_assert_uint_eq(stats(pool).cached, 1);
	ck_assert_ptr_eq(pool_alloc(pool), object);
	pool_free(pool, object);
	gone(pool);
	stop();
}
END_TEST

START_TEST(no_global_keeps_caches_only)
{
	struct batch b;

	words("no-global");
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

/* --- fail ---------------------------------------------------------------- */

/* SHOWS: INV-25 */
START_TEST(pool_38_failures_are_injected_after_the_start)
{
	struct pool_head *pool;
	void *object;

	words("fail=100");
	pool = make(64, 0);
	for (int i = 0; i < 10000; i++) {
		object = pool_alloc(pool);
		ck_assert_ptr_nonnull(object);
		pool_free(pool, object);
	}
	words("fail=0");
	start();
	for (int i = 0; i < 100000; i++) {
		object = pool_alloc(pool);
		ck_assert_ptr_nonnull(object);
		pool_free(pool, object);
	}
	words("fail=100");
	errno = 0;
	ck_assert_ptr_null(pool_alloc(pool));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_null(pool_zalloc(pool));
	ck_assert_uint_eq(stats(pool).failed, 2);
	object = __pool_alloc(pool, POOL_F_NO_FAIL);
	ck_assert_ptr_nonnull(object);
	pool_free(pool, object);
	gone(pool);
	words("fail=0");
	stop();
}
END_TEST

/* Allocations of 4000 that fail. */
static unsigned int failures(struct pool_head *pool, unsigned int flags)
{
	unsigned int n = 0;

	for (int i = 0; i < 4000; i++) {
		void *object = __pool_alloc(pool, flags);

		n += !object;
		pool_free(pool, object);
	}
	return n;
}

START_TEST(failures_come_at_their_rate)
{
	struct pool_head *pool;
	unsigned int n;

	words("fail");
	start();
	pool = make(64, 0);
	for (int registered = 1; registered >= 0; registered--) {
		words("fail");
		n = failures(pool, 0);
		ck_assert(n >= 10 && n <= 100);
		words("fail=30");
		n = failures(pool, POOL_F_MUST_ZERO);
		ck_assert(n >= 1000 && n <= 1400);
		ck_assert_uint_eq(failures(pool, POOL_F_NO_FAIL), 0);
		words("no-fail");
		ck_assert_uint_eq(failures(pool, 0), 0);
		if (registered)
			keel_thread_leave();
	}
	gone(pool);
	keel_deinit();
}
END_TEST

/* --- innocence ----------------------------------------------------------- */

/* What may be kept behind an object, in every mixture, and what changes where
 * objects live. */
static const char *const marks[] = { "tag", "caller", "integrity", "backup" };
static const char *const places[] = {
	"poison", "cold-first", "no-global", "no-cache", "uaf", "uaf,cache", "no-merge,fail=0",
};

#define MIXTURES (1 << ARRAY(marks))

/* The words of mixture `n`, to begin with those of a place. */
static const char *mixture(unsigned int n, const char *place)
{
	static char text[256];

	/* All that an earlier mixture may have set. */
	strcpy(text, "-1,no-tag,no-caller,no-integrity,no-backup,hot-first,global,cache,no-uaf,merge,no-fail");
	if (place)
		strcat(strcat(text, ","), place);
	for (size_t i = 0; i < ARRAY(marks); i++)
		if (n >> i & 1)
			sprintf(text + strlen(text), ",%s", marks[i]);
	return text;
}

#define SOME 10

static void paint(struct pool_head *pool, unsigned char **objects, int first, int step)
{
	for (int i = first; i < SOME; i += step)
		memset(objects[i], i + 1, pool->size);
}

static int painted(struct pool_head *pool, unsigned char **objects, int first, int step)
{
	for (int i = first; i < SOME; i += step)
		for (size_t j = 0; j < pool->size; j++)
			if (objects[i][j] != i + 1)
				return 0;
	return 1;
}

/* Objects are written from end to end; every second one is given back, so that
 * what is written into a free one would be seen in its neighbours. */
static void use_size(unsigned int size, unsigned int align, unsigned int flags)
{
	struct pool_head *pool = create_aligned_pool("test", size, align, flags);
	unsigned char *objects[SOME];

	ck_assert_ptr_nonnull(pool);
	ck_assert_uint_ge(pool->size, size);
	ck_assert(!(flags & MEM_F_EXACT) || pool->size == size);
	/* Some stay in the shared list. */
	pool->minavail = 6;
	for (int i = 0; i < SOME; i++)
		objects[i] = pool_alloc(pool);
	for (int turn = 0; turn < 3; turn++) {
		paint(pool, objects, 0, 1);
		ck_assert(painted(pool, objects, 0, 1));
		for (int i = turn % 2; i < SOME; i += 2)
			pool_free(pool, objects[i]);
		ck_assert(painted(pool, objects, 1 - turn % 2, 2));
		if (turn == 2)
			pool_flush(pool);
		for (int i = turn % 2; i < SOME; i += 2)
			objects[i] = turn ? pool_zalloc(pool) : pool_alloc(pool);
		paint(pool, objects, turn % 2, 2);
		ck_assert(painted(pool, objects, 0, 1));
	}
	for (int i = 0; i < SOME; i++)
		pool_free(pool, objects[i]);
	gone(pool);
}

/* POOL-15, POOL-16: whatever is kept in or behind a free object keeps off
 * what is somebody's. Registered threads use caches, others the shared list.
 * SHOWS: INV-8 */
START_TEST(pool_15_16_every_size_with_every_mixture)
{
	start();
	if (_i)
		keel_thread_leave();
	for (unsigned int n = 0; n < MIXTURES; n++) {
		words(mixture(n, NULL));
		for (unsigned int size = 1; size <= 64; size++) {
			use_size(size, 0, 0);
			use_size(size, 0, MEM_F_EXACT);
		}
	}
	if (!_i)
		keel_thread_leave();
	keel_deinit();
}
END_TEST

START_TEST(pool_15_16_sizes_with_every_word)
{
	static const unsigned int sizes[] = { 1, 3, 8, 15, 16, 17, 31, 33, 64, 5000 };

	start();
	if (_i)
		keel_thread_leave();
	for (size_t place = 0; place < ARRAY(places); place++) {
		for (unsigned int n = 0; n < MIXTURES; n += MIXTURES - 1) {
			words(mixture(n, places[place]));
			for (size_t i = 0; i < ARRAY(sizes); i++) {
				use_size(sizes[i], 0, 0);
				/* In uaf mode a page that faults is right behind. */
				use_size(sizes[i], 8, MEM_F_EXACT);
			}
		}
	}
	if (!_i)
		keel_thread_leave();
	keel_deinit();
}
END_TEST

/* INV-10: whichever function hands an object out marks it as whichever takes
 * it back expects.
 * SHOWS: INV-10 */
START_TEST(pool_17_marks_are_on_every_path)
{
	struct pool_head *pool;

	words(mixture(_i, NULL));
	start();
	for (int registered = 1; registered >= 0; registered--) {
		pool = make(64, 0);
		pool->minavail = 3;
		for (int i = 0; i < 30; i++) {
			pool_free(pool, pool_alloc(pool));
			pool_free(pool, pool_zalloc(pool));
			pool_free(pool, pool_alloc_nocache(pool));
			pool_free_nocache(pool, pool_alloc(pool));
			__pool_free(pool, __pool_alloc(pool, POOL_F_NO_POISON));
		}
		gone(pool);
		if (registered)
			keel_thread_leave();
	}
	keel_deinit();
}
END_TEST

/* Objects leave a cache by each of its exits, and travel. */
START_TEST(free_objects_may_leave_in_every_way)
{
	struct batch b;

	words(mixture(_i, NULL));
	start();
	b.pool = make(100, 0);
	for (int way = 0; way < 6; way++) {
		b.pool->minavail = way % 2 * 15;
		take(b.pool, b.objects, ARRAY(b.objects));
		if (way / 2 % 2)
			elsewhere(give_batch, &b);
		else
			give(b.pool, b.objects, ARRAY(b.objects));
		switch (way) {
		case 0:
		case 1:
		case 3:
			pool_gc(NULL);
			break;
		case 2:
			pool_flush(b.pool);
			break;
		case 4:
			keel_thread_leave();
			ck_assert_int_eq(keel_thread_enter(0), 0);
			break;
		}
	}
	gone(b.pool);
	stop();
}
END_TEST

static const char *const crowd[] = {
	"tag", "integrity", "backup", "caller,tag", "integrity,backup,caller,tag,poison",
	"integrity,cold-first", "integrity,no-global", "backup,tag,no-cache", "integrity,caller,uaf,cache",
};

/* SHOWS: INV-9, INV-24 */
START_TEST(inv_9_24_words_hold_across_threads)
{
	words(crowd[_i]);
	threads_at_work(250);
}
END_TEST

/* --- uaf ----------------------------------------------------------------- */

/* Mappings of the process. */
static int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int n = 0, c;

	ck_assert_ptr_nonnull(maps);
	while ((c = getc(maps)) != EOF)
		n += c == '\n';
	fclose(maps);
	return n;
}

/* A free that computes the pages otherwise than the allocation did leaks.
 * SHOWS: INV-22 */
START_TEST(pool_22_pages_come_and_go_for_every_alignment)
{
	static const unsigned int sizes[] = { 1, 16, 100, 4095, 4096, 4097, 20000 };
	void *objects[50];
	int before;

	for (unsigned int align = 8; align <= 16384; align *= 2) {
		for (size_t i = 0; i < ARRAY(sizes); i++) {
			struct pool_head *pool = create_aligned_pool("pages", sizes[i], align, MEM_F_UAF);

			ck_assert_ptr_nonnull(pool);
			before = mappings();
			take(pool, objects, ARRAY(objects));
			for (size_t j = 0; j < ARRAY(objects); j++) {
				ck_assert_uint_eq((uintptr_t)objects[j] % align, 0);
				memset(objects[j], 1, pool->size);
			}
			ck_assert_int_ge(mappings(), before + 50);
			give(pool, objects, ARRAY(objects));
			ck_assert_int_lt(mappings(), before + 25);
			gone(pool);
		}
	}
}
END_TEST

/* An allocation that lets others isolate themselves would wait for itself
 * here.
 * SHOWS: INV-13 */
START_TEST(pool_23_isolated_threads_may_allocate)
{
	struct pool_head *pool;

	words("uaf");
	start();
	pool = make(64, 0);
	thread_isolate();
	for (int i = 0; i < 100; i++)
		pool_free(pool, pool_alloc(pool));
	ck_assert(thread_isolated());
	thread_release();
	gone(pool);
	stop();
}
END_TEST

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int turns;

static void *use_under_lock(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	while (!atomic_load(&over)) {
		pthread_mutex_lock(&lock);
		pool_free(arg, pool_alloc(arg));
		pthread_mutex_unlock(&lock);
		atomic_fetch_add(&turns, 1);
		/* The isolated one waits for us to say so. */
		thread_harmless_now();
		thread_harmless_end();
	}
	keel_thread_leave();
	return NULL;
}

/* A thread that allocates under a lock must not count as harmless: the
 * isolated one wants the lock.
 * SHOWS: INV-13 */
START_TEST(pool_24_who_allocates_under_a_lock_is_not_harmless)
{
	struct pool_head *pool;
	pthread_t other;

	words("uaf");
	start();
	pool = make(64, 0);
	ck_assert_int_eq(pthread_create(&other, NULL, use_under_lock, pool), 0);
	for (int i = 0; i < 100 || atomic_load(&turns) < 100; i++) {
		thread_isolate();
		pthread_mutex_lock(&lock);
		pool_free(pool, pool_alloc(pool));
		pthread_mutex_unlock(&lock);
		thread_release();
	}
	atomic_store(&over, 1);
	pthread_join(other, NULL);
	gone(pool);
	stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_debug");
	TCase *all = tcase_create("words");
	TCase *many = tcase_create("threads");

	tcase_set_timeout(all, 30);
	tcase_set_timeout(many, 60);
	tcase_add_test(all, words_are_checked);
	tcase_add_test(all, words_act_on_pools_to_come);
	tcase_add_test(all, the_environment_has_words_too);
	tcase_add_test(all, the_environment_is_read_before_the_first_pool);
	tcase_add_test(all, the_environment_comes_before_the_programs_words);
	tcase_add_test(all, wrong_words_in_the_environment_are_named_and_none_applies);
	tcase_add_loop_test(all, an_empty_environment_says_nothing, 0, 2);
	tcase_add_test(all, poison_fills_and_zero_wins);
	tcase_add_test(all, no_merge_wants_the_same_name);
	tcase_add_test(all, cold_first_hands_out_the_oldest);
	tcase_add_loop_test(all, no_cache_keeps_nothing, 0, 2);
	tcase_add_test(all, uaf_with_cache_keeps_some);
	tcase_add_test(all, no_global_keeps_caches_only);
	tcase_add_test(all, pool_38_failures_are_injected_after_the_start);
	tcase_add_test(all, failures_come_at_their_rate);
	tcase_add_loop_test(all, pool_15_16_every_size_with_every_mixture, 0, 2);
	tcase_add_loop_test(all, pool_15_16_sizes_with_every_word, 0, 2);
	tcase_add_loop_test(all, pool_17_marks_are_on_every_path, 0, MIXTURES);
	tcase_add_loop_test(all, free_objects_may_leave_in_every_way, 0, MIXTURES);
	tcase_add_test(all, pool_22_pages_come_and_go_for_every_alignment);
	tcase_add_test(all, pool_23_isolated_threads_may_allocate);
	tcase_add_loop_test(many, inv_9_24_words_hold_across_threads, 0, ARRAY(crowd));
	tcase_add_test(many, pool_24_who_allocates_under_a_lock_is_not_harmless);
	suite_add_tcase(s, all);
	suite_add_tcase(s, many);
	return run_suite(s);
}
