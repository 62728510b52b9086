/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/pool.h: crimes against objects, each under the debugging words that
 * detect it, and each beside the innocent program that does all but the last
 * step. test_pool_inline.c has them once more through the inline fast paths. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <keel/keel.h>

#include "../api/memory.h"
#include "../api/panic.h"
#include "../api/pools.h"
#include "../api/suite.h"

/* Defines a crime, and its test with `guilty` set and not. */
#define CRIME(name)                                        \
	static void by_##name(int guilty, int _i);         \
	START_TEST(name)                                   \
	{                                                  \
		by_##name(1, _i);                          \
	}                                                  \
	END_TEST                                           \
	START_TEST(innocent_##name)                        \
	{                                                  \
		by_##name(0, _i);                          \
		keel_thread_leave();                       \
		keel_deinit();                             \
		ck_assert_uint_eq(stats(NULL).used, 0);    \
	}                                                  \
	END_TEST                                           \
	static void by_##name(int guilty, int _i __attribute__((unused)))

/* --- call sites ---------------------------------------------------------- */

/* Where objects are taken and given back. The barrier keeps the call from
 * becoming a jump. */
#define SITE __attribute__((noinline)) static
#define BARRIER __asm__ volatile("" ::: "memory")

SITE void *taken_here(struct pool_head *pool)
{
	void *object = pool_alloc(pool);

	BARRIER;
	return object;
}

SITE void freed_here(struct pool_head *pool, void *object)
{
	pool_free(pool, object);
	BARRIER;
}

SITE void freed_there(struct pool_head *pool, void *object)
{
	__pool_free(pool, object);
	BARRIER;
}

static void *const all_sites[] = { taken_here, freed_here, freed_there };

/* The function among those that has the address. */
static void *site_of(uintptr_t address)
{
	void *site = NULL;

	for (size_t i = 0; i < ARRAY(all_sites); i++)
		if ((uintptr_t)all_sites[i] < address && all_sites[i] > site)
			site = all_sites[i];
	return site && address - (uintptr_t)site < 1024 ? site : NULL;
}

/* Those that the panic has to name, in this order. */
static void *expected_sites[3];

static int sites_are_right(const char *message)
{
	int n = 0;

	for (const char *at = message; (at = strstr(at, "at 0x")); at++) {
		uintptr_t address = strtoull(at + 3, NULL, 16);
		char place[256];
		Dl_info info;

		if (n == 2 || site_of(address) != expected_sites[n++])
			return 0;
		/* With the offset into the program that addr2line wants. */
		if (!dladdr((void *)address, &info))
			return 0;
		snprintf(place, sizeof(place), "%s+%#lx)", basename(info.dli_fname),
			 address - (uintptr_t)info.dli_fbase);
		if (!strstr(at, place))
			return 0;
	}
	return !expected_sites[n];
}

static void judge(const char *file, int line, const char *message, void *arg)
{
	if (expected_sites[0] && !sites_are_right(message)) {
		fprintf(stderr, "the sites are wrong: %s\n", message);
		_exit(UNEXPECTED);
	}
	hear_panic(file, line, message, arg);
}

/* --- the scene ----------------------------------------------------------- */

/* A registered thread, whose caches are small, and a pool under these words. */
static struct pool_head *scene(const char *words, unsigned int size, unsigned int flags)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct pool_head *pool;

	cfg.nbthread = 2;
	cfg.maxsock = 64;
	cfg.pool_cache_bytes = 16384;
	cfg.panic = judge;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	ck_assert_int_eq(keel_pool_debug(words), 0);
	pool = create_pool("scene", size, flags);
	ck_assert_ptr_nonnull(pool);
	return pool;
}

/* The sentence has to name the object too, "at" an address that is no site. */
static void accuse(int guilty, const void *object, const char *one, const char *two)
{
	static char name[64];

	if (!guilty)
		return;
	snprintf(name, sizeof(name), "object %p", object);
	expect_panic(name, one, two);
}

/* The sanitizers' own handlers would turn a fault into an exit. */
static void faults(void)
{
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

/* --- no pool ------------------------------------------------------------- */

START_TEST(no_pool_no_object)
{
	struct pool_head *pool = scene("-1", 64, 0);
	void *object = pool_alloc(pool);

	expect_panic("NULL pool", NULL, NULL);
	switch (_i) {
	case 0:
		pool_alloc(NULL);
		break;
	case 1:
		pool_zalloc(NULL);
		break;
	case 2:
		__pool_alloc(NULL, 0);
		break;
	case 3:
		pool_alloc_nocache(NULL);
		break;
	case 4:
		pool_free(NULL, object);
		break;
	case 5:
		__pool_free(NULL, object);
		break;
	case 6:
		pool_free_nocache(NULL, object);
		break;
	}
}
END_TEST

START_TEST(figures_without_a_place)
{
	struct pool_head *pool = scene("-1", 64, 0);

	expect_panic("keel_pool_get_stats", "NULL", NULL);
	keel_pool_get_stats(pool, NULL);
}
END_TEST

/* --- writes to free objects ---------------------------------------------- */

static const char *const seals[] = {
	"integrity", "backup", "integrity,backup", "integrity,tag,caller,poison", "backup,cold-first,tag",
};
static const unsigned int offsets[] = { 0, 9, 63, 99 };

enum { EXITS = 7 };

/* In a cache, found on each way out of it. */
CRIME(a_write_to_a_cached_object)
{
	int words = _i / EXITS / ARRAY(offsets);
	unsigned int offset = offsets[_i / EXITS % ARRAY(offsets)];
	struct pool_head *pool = scene(seals[words], 100, MEM_F_EXACT);
	unsigned char *object;
	static void *others[400];
	char where[32];

	take(pool, others, ARRAY(others));
	object = others[0];
	for (unsigned int i = 0; i < pool->size; i++)
		object[i] = i;
	pool_free(pool, object);
	if (guilty)
		object[offset] ^= 0x40;
	snprintf(where, sizeof(where), "offset %u is", offset / 8 * 8);
	accuse(guilty, object, "written to after it was freed", where);
	switch (_i % EXITS) {
	case 0:
		others[0] = pool_alloc(pool);
		break;
	case 1:
		others[0] = pool_zalloc(pool);
		break;
	case 2:
		pool_gc(NULL);
		break;
	case 3:
		keel_thread_leave();
		break;
	case 4:
		pool_destroy(pool);
		break;
	case 5:
		pool_destroy_all();
		break;
	case 6:
		/* More than fit into the cache. */
		give(pool, others + 1, ARRAY(others) - 1);
		return;
	}
	give(pool, others + 1, ARRAY(others) - 1);
	if (_i % EXITS < 2)
		pool_free(pool, others[0]);
}

/* In the shared list, where threads without a cache find and leave objects.
 * Behind the links, that is. */
CRIME(a_write_to_a_shared_object)
{
	struct pool_head *pool = scene(seals[_i / 4], 100, 0);
	unsigned char *object;

	keel_thread_leave();
	pool->minavail = 10;
	object = pool_zalloc(pool);
	pool_free(pool, object);
	ck_assert_uint_eq(stats(pool).cached, 1);
	if (guilty)
		object[_i % 2 ? 16 : pool->size - 1] ^= 1;
	accuse(guilty, object, "pool scene", "written to after it was freed");
	switch (_i % 4) {
	case 0:
		pool_free(pool, pool_alloc(pool));
		break;
	case 1:
		/* Into the cache of a registered thread. */
		ck_assert_int_eq(keel_thread_enter(1), 0);
		pool_free(pool, pool_alloc(pool));
		break;
	case 2:
		pool_flush(pool);
		break;
	case 3:
		pool->minavail = 0;
		pool_gc(NULL);
		break;
	}
}

/* What was there, what should be, and what was there in the first place. */
CRIME(a_write_is_reported_with_both_values)
{
	struct pool_head *pool = scene("integrity,backup", 64, 0);
	uint64_t *object = pool_alloc(pool);

	object[3] = 0x1111222233334444;
	pool_free(pool, object);
	if (guilty)
		object[3] = 0x5566;
	accuse(guilty, object, "the word at offset 24 is 0x5566 instead of 0x",
	       "(it was 0x1111222233334444 when freed)");
	pool_free(pool, pool_alloc(pool));
}

CRIME(a_write_is_reported_with_both_sites)
{
	struct pool_head *pool = scene(_i ? "backup,caller" : "integrity,caller", 64, 0);
	char *object = taken_here(pool);

	object[5] = 'x';
	freed_here(pool, object);
	if (guilty)
		object[5] = 'y';
	expected_sites[0] = freed_here;
	expected_sites[1] = taken_here;
	accuse(guilty, object, "after it was freed at ", "noticed at ");
	freed_here(pool, taken_here(pool));
}

/* A word or more that a stale owner reads and writes back is one pattern
 * behind. */
CRIME(a_write_of_what_was_read_earlier)
{
	struct pool_head *pool = scene("integrity", 64, 0);
	char *object = pool_alloc(pool), copy[64];

	pool_free(pool, object);
	memcpy(copy, object, sizeof(copy));
	pool_free(pool, pool_alloc(pool));
	if (guilty)
		memcpy(object, copy, sizeof(copy));
	accuse(guilty, object, "pool scene", "written to after it was freed");
	pool_free(pool, pool_alloc(pool));
}

static void *free_it(void *arg)
{
	void **both = arg;

	ck_assert_int_eq(keel_thread_enter(1), 0);
	pool_free(both[0], both[1]);
	keel_thread_leave();
	return NULL;
}

/* The object was another thread's, and travels through its cache. */
CRIME(a_write_to_an_object_that_another_thread_freed)
{
	struct pool_head *pool = scene(_i ? "backup" : "integrity", 64, 0);
	void *both[2] = { pool, pool_zalloc(pool) };
	char *object = both[1];

	pool->minavail = 4;
	elsewhere(free_it, both);
	if (guilty)
		object[40] = 1;
	accuse(guilty, object, "pool scene", "written to after it was freed");
	pool_free(pool, pool_alloc(pool));
}

/* What a stale reader sees is nothing that it could take for its own. */
START_TEST(a_read_after_free_finds_other_bytes)
{
	struct pool_head *pool = scene(_i ? "integrity" : "0xa5", 64, 0);
	unsigned char *object = pool_zalloc(pool);

	strcpy((char *)object, "mine");
	pool_free(pool, object);
	if (!_i) {
		/* It has a new owner. */
		ck_assert_ptr_eq(pool_alloc(pool), object);
		for (int i = 0; i < 64; i++)
			ck_assert_uint_eq(object[i], 0xa5);
	} else {
		ck_assert_int_ne(memcmp(object, "mine", 5), 0);
		ck_assert_uint_ne(object[63], 0);
	}
}
END_TEST

/* --- double frees -------------------------------------------------------- */

static const char *const tags[] = { "tag", "tag,integrity", "tag,backup,cold-first", "tag,poison" };

enum { PATHS = 5 };

CRIME(a_double_free)
{
	struct pool_head *pool = scene(tags[_i / PATHS], 64, 0);
	void *both[2] = { pool, pool_alloc(pool) };
	void *object = both[1];

	pool->minavail = 4;
	if (_i % PATHS == 3)
		keel_thread_leave();
	pool_free(pool, object);
	if (!guilty)
		both[1] = object = pool_alloc(pool);
	accuse(guilty, object, "pool scene", "is freed twice");
	switch (_i % PATHS) {
	case 1:
		__pool_free(pool, object);
		break;
	case 2:
		pool_free_nocache(pool, object);
		break;
	case 4:
		elsewhere(free_it, both);
		break;
	default:
		/* 3: it is in the shared list. */
		pool_free(pool, object);
	}
}

CRIME(a_double_free_is_reported_with_both_sites)
{
	struct pool_head *pool = scene(_i ? "tag,caller,integrity,backup" : "tag,caller", 64, 0);
	void *object = taken_here(pool);

	freed_here(pool, object);
	if (!guilty)
		object = taken_here(pool);
	expected_sites[0] = freed_here;
	expected_sites[1] = freed_there;
	accuse(guilty, object, "freed twice: freed at ", ", and again at ");
	freed_there(pool, object);
}

/* --- the wrong pool ------------------------------------------------------ */

/* Smaller, of the same size, larger. */
static const unsigned int other_sizes[] = { 64, 48, 16, 80, 5000 };

#ifdef __SANITIZE_ADDRESS__
#define WRONG_POOLS 3 /* where the larger pool's tag would be is not ours to read */
#else
#define WRONG_POOLS ARRAY(other_sizes)
#endif

CRIME(a_free_to_the_wrong_pool)
{
	struct pool_head *pool = scene("tag", 64, 0);
	struct pool_head *wrong = create_pool("wrong", other_sizes[_i], 0);
	void *object = pool_alloc(pool);

	accuse(guilty, object, "was allocated from pool scene", "freed to pool wrong");
	pool_free(guilty ? wrong : pool, object);
}

CRIME(a_free_to_the_wrong_pool_is_reported_with_both_sites)
{
	struct pool_head *pool = scene("tag,caller,integrity", 64, 0);
	struct pool_head *wrong = create_pool("wrong", other_sizes[_i], 0);
	void *object = taken_here(pool);

	expected_sites[0] = taken_here;
	expected_sites[1] = freed_there;
	accuse(guilty, object, "was allocated from pool scene at ", ", freed to pool wrong at ");
	freed_there(guilty ? wrong : pool, object);
}

CRIME(a_double_free_to_the_wrong_pool)
{
	struct pool_head *pool = scene("tag,caller", 64, 0);
	struct pool_head *wrong = create_pool("wrong", 64, 0);
	void *object = taken_here(pool);

	freed_here(pool, object);
	expected_sites[0] = freed_here;
	expected_sites[1] = freed_there;
	accuse(guilty, object, "of pool scene is freed twice", "to pool wrong");
	if (!guilty)
		object = taken_here(wrong);
	freed_there(wrong, object);
}

CRIME(a_free_of_what_never_was_an_object)
{
	static uintptr_t area[32];
	struct pool_head *pool = scene("tag", 64, 0);
	void *object = guilty ? area : pool_alloc(pool);

	accuse(guilty, object, "pool scene", "or never came from this pool");
	pool_free(pool, object);
}

/* --- overruns and underruns ---------------------------------------------- */

static const unsigned int exact[] = { 0, 1, 7, 8, 15, 16, 17, 64, 100, 5000 };

/* By one byte. */
CRIME(an_overrun)
{
	unsigned int size = exact[_i / 2];
	struct pool_head *pool = scene(_i % 2 ? "tag,caller,backup,integrity" : "tag", size, MEM_F_EXACT);
	unsigned char *object = taken_here(pool);
	char where[32];

	ck_assert_uint_eq(pool->size, size);
	memset(object, 0xff, size);
	if (guilty)
		*behind(pool, object) ^= 1;
	snprintf(where, sizeof(where), "at offset %u, is", size);
	if (_i % 2) {
		expected_sites[0] = taken_here;
		expected_sites[1] = freed_here;
	}
	accuse(guilty, object, where, "overwritten");
	freed_here(pool, object);
}

/* Size and alignment: nothing is left between the object and the page that
 * faults. */
static const unsigned int tight[][2] = { { 8, 8 }, { 24, 8 }, { 16, 16 }, { 64, 16 }, { 64, 64 }, { 4096, 16 }, { 8192, 4096 } };

CRIME(an_overrun_by_one_byte_faults)
{
	struct pool_head *pool = scene(_i & 1 ? "uaf" : "-1", 100, 0);
	volatile unsigned char *object;

	pool = create_aligned_pool("tight", tight[_i / 4][0], tight[_i / 4][1],
				   MEM_F_EXACT | (_i & 1 ? 0 : MEM_F_UAF));
	object = pool_alloc(pool);
	object[pool->size - 1] = 1;
	faults();
	if (guilty && _i & 2)
		object[pool->size] = 1;
	else if (guilty)
		object[0] = object[pool->size];
	pool_free(pool, (void *)object);
}

CRIME(an_underrun)
{
	static const char *const words[] = { "-1", "uaf", "uaf,tag,integrity,backup", "uaf,cache" };
	struct pool_head *pool = scene(words[_i], 64, _i ? 0 : MEM_F_UAF);
	volatile unsigned char *object = pool_alloc(pool);

	object[0] = 1;
	if (guilty)
		object[-1] ^= 1;
	accuse(guilty, (void *)object, "pool scene", "the word before");
	pool_free(pool, (void *)object);
}

CRIME(an_underrun_is_reported_with_both_sites)
{
	struct pool_head *pool = scene("uaf,caller", 64, 0);
	uint64_t *object = taken_here(pool);

	object[0] = 1;
	BARRIER;
	if (guilty)
		*((volatile uint64_t *)object - 1) = 0x7788;
	expected_sites[0] = taken_here;
	expected_sites[1] = freed_here;
	accuse(guilty, object, "the word before", "is 0x7788 instead of 0x");
	freed_here(pool, object);
}

/* By whoever kept a pointer: seen when the cache lets go of the object. */
CRIME(an_underrun_of_a_cached_object)
{
	struct pool_head *pool = scene("uaf,cache", 64, 0);
	volatile unsigned char *object = pool_alloc(pool);

	pool_free(pool, (void *)object);
	if (guilty)
		object[-8] ^= 1;
	accuse(guilty, (void *)object, "pool scene", "the word before");
	pool_gc(NULL);
}

/* --- uses after free in uaf mode ----------------------------------------- */

static const struct {
	const char *words;
	unsigned int flags;
} uaf[] = { { "-1", MEM_F_UAF }, { "uaf", 0 }, { "uaf,cache", 0 }, { "uaf,tag,caller,integrity,backup", 0 } };

/* POOL-18: whichever function allocates and frees. */
CRIME(pool_18_a_use_after_free)
{
	struct pool_head *pool = scene(uaf[_i / 8].words, _i & 1 ? 64 : 100, uaf[_i / 8].flags);
	volatile unsigned char *object;

	if (_i & 4)
		keel_thread_leave();
	object = _i & 2 ? pool_zalloc(pool) : _i & 1 ? pool_alloc_nocache(pool) : pool_alloc(pool);
	object[0] = 1;
	faults();
	if (guilty) {
		if (_i & 2)
			pool_free_nocache(pool, (void *)object);
		else
			pool_free(pool, (void *)object);
		/* Out of the cache, if it has one. */
		pool_gc(NULL);
		if (_i & 1)
			object[pool->size - 1] = 2;
		else
			object[0] = object[1];
	}
	if (!guilty)
		pool_free(pool, (void *)object);
}

CRIME(pool_19_a_double_free_in_uaf_mode)
{
	static const unsigned int sizes[] = { 1, 64, 4096, 10000 };
	struct pool_head *pool = scene(_i & 1 ? "uaf" : "-1", sizes[_i / 2], _i & 1 ? 0 : MEM_F_UAF);
	void *object = pool_alloc(pool);

	faults();
	pool_free(pool, object);
	if (guilty)
		pool_free(pool, object);
}

/* A guard page for each object needs address space: without, there is no
 * object, and no mapping is left behind.
 * SHOWS: INV-14, INV-22 */
START_TEST(pool_20_no_address_space_no_object)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct pool_head *pool = scene("-1", 1 << 20, MEM_F_UAF);
	struct rlimit limit = { 256 << 20, 256 << 20 };
	static void *objects[300];
	size_t n = 0;

	NOT_UNDER_QEMU("it ignores RLIMIT_AS");
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	for (int turn = 0; turn < 3; turn++) {
		size_t before = n;

		for (n = 0; n < ARRAY(objects); n++) {
			errno = 0;
			objects[n] = pool_alloc(pool);
			if (!objects[n])
				break;
		}
		ck_assert_uint_lt(n, ARRAY(objects));
		ck_assert_int_eq(errno, ENOMEM);
		ck_assert_uint_ge(n, 100);
		ck_assert(!turn || n == before);
		ck_assert_uint_eq(stats(pool).used, n);
		ck_assert_uint_eq(stats(pool).failed, turn + 1);
		for (size_t i = 0; i < n; i++) {
			memset(objects[i], 1, 10);
			pool_free(pool, objects[i]);
		}
	}
#endif
}
END_TEST

/* --- by the environment -------------------------------------------------- */

CRIME(a_crime_under_words_of_the_environment)
{
	struct pool_head *pool;
	void *object;

	ck_assert_int_eq(setenv("KEEL_POOL_DEBUG", "tag,caller", 1), 0);
	pool = scene("no-merge", 64, 0);
	object = taken_here(pool);
	freed_here(pool, object);
	expected_sites[0] = freed_here;
	expected_sites[1] = freed_there;
	accuse(guilty, object, "pool scene", "freed twice");
	freed_there(pool, guilty ? object : taken_here(pool));
}

/* The `n` variants of a crime end in a panic, or a fault; without the crime
 * they end well. */
#define PANICS(tc, name, n)                                              \
	do {                                                             \
		tcase_add_loop_exit_test(tc, name, AS_EXPECTED, 0, n);   \
		tcase_add_loop_test(tc, innocent_##name, 0, n);          \
	} while (0)
#define FAULTS(tc, name, n)                                              \
	do {                                                             \
		tcase_add_loop_test_raise_signal(tc, name, SIGSEGV, 0, n); \
		tcase_add_loop_test(tc, innocent_##name, 0, n);          \
	} while (0)

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = tcase_create("crimes");

	tcase_set_timeout(tc, 30);
	tcase_add_loop_exit_test(tc, no_pool_no_object, AS_EXPECTED, 0, 7);
	tcase_add_exit_test(tc, figures_without_a_place, AS_EXPECTED);
	PANICS(tc, a_write_to_a_cached_object, ARRAY(seals) * ARRAY(offsets) * EXITS);
	PANICS(tc, a_write_to_a_shared_object, ARRAY(seals) * 4);
	PANICS(tc, a_write_is_reported_with_both_values, 1);
	PANICS(tc, a_write_is_reported_with_both_sites, 2);
	PANICS(tc, a_write_of_what_was_read_earlier, 1);
	PANICS(tc, a_write_to_an_object_that_another_thread_freed, 2);
	tcase_add_loop_test(tc, a_read_after_free_finds_other_bytes, 0, 2);
	PANICS(tc, a_double_free, ARRAY(tags) * PATHS);
	PANICS(tc, a_double_free_is_reported_with_both_sites, 2);
	PANICS(tc, a_free_to_the_wrong_pool, WRONG_POOLS);
	PANICS(tc, a_free_to_the_wrong_pool_is_reported_with_both_sites, WRONG_POOLS);
	PANICS(tc, a_double_free_to_the_wrong_pool, 1);
	PANICS(tc, a_free_of_what_never_was_an_object, 1);
	PANICS(tc, an_overrun, ARRAY(exact) * 2);
	FAULTS(tc, an_overrun_by_one_byte_faults, ARRAY(tight) * 4);
	PANICS(tc, an_underrun, 4);
	PANICS(tc, an_underrun_is_reported_with_both_sites, 1);
	PANICS(tc, an_underrun_of_a_cached_object, 1);
	FAULTS(tc, pool_18_a_use_after_free, ARRAY(uaf) * 8);
	FAULTS(tc, pool_19_a_double_free_in_uaf_mode, 8);
	tcase_add_test(tc, pool_20_no_address_space_no_object);
	PANICS(tc, a_crime_under_words_of_the_environment, 1);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
