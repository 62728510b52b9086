/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/pool.h: the table of pools, its words, and totals. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "memory.h"
#include "suite.h"

#define MANY 1000

static struct pool_head *make(const char *name, unsigned int size, unsigned int flags)
{
	struct pool_head *pool = create_pool(name, size, flags);

	ck_assert_ptr_nonnull(pool);
	return pool;
}

/* A table as text, which stays until the next one. */
static const char *dump(const char *options)
{
	static char *text;
	FILE *out = tmpfile();
	long size;
	int bytes;

	ck_assert_ptr_nonnull(out);
	bytes = keel_dump_pools_with(fileno(out), options);
	ck_assert_int_gt(bytes, 0);
	fseek(out, 0, SEEK_END);
	size = ftell(out);
	ck_assert_int_eq(bytes, size);
	rewind(out);
	free(text);
	text = malloc(size + 1);
	ck_assert_uint_eq(fread(text, 1, size, out), size);
	text[size] = '\0';
	fclose(out);
	ck_assert_ptr_eq(text, strstr(text, "Dumping pools usage."));
	return text;
}

static int count(const char *text, const char *what)
{
	int n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

/* The names in a table, in order, each followed by a blank. */
static const char *names(const char *options)
{
	static char list[200];
	const char *at = dump(options);
	size_t len = 0;

	while ((at = strstr(at, "  - Pool "))) {
		at += strlen("  - Pool ");
		for (const char *c = at; *c != ' '; c++)
			list[len++] = *c;
		list[len++] = ' ';
		ck_assert_uint_lt(len, sizeof(list) - 20);
	}
	list[len] = '\0';
	return list;
}

/* Four pools, two of them in use. */
static struct pool_head *alpha, *beta, *gamma_;
static void *objects[5];

static void four_pools(void)
{
	beta = make("beta", 300, 0);
	alpha = make("alpha", 20, 0);
	gamma_ = make("gamma", 1000, 0);
	make("alpine", 20, 0);
	for (int i = 0; i < 4; i++)
		objects[i] = pool_alloc(beta);
	objects[4] = pool_alloc(gamma_);
}

static void no_pools(void)
{
	for (int i = 0; i < 4; i++)
		pool_free(beta, objects[i]);
	pool_free(gamma_, objects[4]);
	pool_destroy_all();
	ck_assert_int_eq(count(dump(NULL), "  - Pool "), 0);
}

/* --- words ----------------------------------------------------------------- */

START_TEST(pools_are_sorted_as_asked)
{
	four_pools();
	ck_assert_str_eq(names(NULL), "alpha alpine beta gamma ");
	ck_assert_str_eq(names(""), "alpha alpine beta gamma ");
	ck_assert_str_eq(names("byname"), "alpha alpine beta gamma ");
	ck_assert_str_eq(names("bysize"), "gamma beta alpha alpine ");
	/* 4 * 304 bytes, 1008 bytes, and two that hold nothing. */
	ck_assert_str_eq(names("byusage"), "beta gamma ");
	ck_assert_str_eq(names("byname bysize"), "gamma beta alpha alpine ");
	no_pools();
}
END_TEST

START_TEST(pool_37_filters_and_limits_in_every_order)
{
	four_pools();
	ck_assert_str_eq(names("match al"), "alpha alpine ");
	ck_assert_str_eq(names("match alp bysize 1"), "alpha ");
	ck_assert_str_eq(names("2 byname"), "alpha alpine ");
	ck_assert_str_eq(names("3 bysize"), "gamma beta alpha ");
	ck_assert_str_eq(names("byusage 1"), "beta ");
	ck_assert_str_eq(names("byusage match al 5"), "");
	ck_assert_str_eq(names("match nothing"), "");
	ck_assert_str_eq(names("match byname"), "");
	ck_assert_str_eq(names("  match\tg "), "gamma ");
	no_pools();
}
END_TEST

START_TEST(pool_37_without_caches_too)
{
	ck_assert_int_eq(keel_pool_debug("no-cache"), 0);
	four_pools();
	ck_assert_str_eq(names("byusage 1 match g"), "gamma ");
	ck_assert_str_eq(names("bysize 2"), "gamma beta ");
	no_pools();
}
END_TEST

START_TEST(other_words_are_refused)
{
	static const char *const wrong[] = {
		"bycolour", "match", "byname match", "byname,bysize", "BYNAME", "-1", "1x", "detailed more",
		"99999999999999999999999",
	};
	FILE *out = tmpfile();

	four_pools();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(keel_dump_pools_with(fileno(out), wrong[i]) == -EINVAL, "'%s' was taken", wrong[i]);
	fseek(out, 0, SEEK_END);
	ck_assert_int_eq(ftell(out), 0);
	fclose(out);
	ck_assert_int_eq(keel_dump_pools_with(-1, "byname"), -EBADF);
	ck_assert_int_eq(keel_dump_pools_with(-1, NULL), -EBADF);
	no_pools();
}
END_TEST

START_TEST(details_show_who_asked)
{
	struct pool_head *pool = make("first", 4000, MEM_F_SHARED);

	ck_assert_ptr_eq(make("second", 4030, MEM_F_SHARED), pool);
	ck_assert_ptr_eq(make("second", 4030, MEM_F_SHARED), pool);
	ck_assert_ptr_ne(create_aligned_pool("third", 4000, 64, MEM_F_SHARED | MEM_F_UAF), pool);
	ck_assert_int_eq(count(dump("detailed match first"), "\n      > "), 2);
	ck_assert_int_eq(count(dump("detailed"), "\n      > first : size=4000 flags=0x1 align=0 times=1\n"), 1);
	ck_assert_int_eq(count(dump("byname detailed"), "\n      > second : size=4030 flags=0x1 align=0 times=2\n"), 1);
	ck_assert_int_eq(count(dump("detailed"), "\n      > third : size=4000 flags=0x5 align=64 times=1\n"), 1);
	ck_assert_int_eq(count(dump("byname"), "      > "), 0);
	pool_destroy_all();
}
END_TEST

/* --- completeness ------------------------------------------------------------ */

/* SHOWS: INV-28 */
START_TEST(pool_34_reports_are_complete_and_say_when_not)
{
	static const char *const sorts[] = { "", "byname ", "bysize ", "detailed " };
	char options[40], note[60];

	for (int i = 0; i < MANY; i++)
		make("many", 1000 + i, 0);
	for (int s = 0; s < 4; s++) {
		int limits[] = { 1, 17, MANY - 1, MANY, MANY + 1 };

		ck_assert_int_eq(count(dump(sorts[s]), "\n  - Pool many ("), MANY);
		ck_assert_int_eq(count(dump(sorts[s]), "limited to"), 0);
		for (int i = 0; i < 5; i++) {
			int shown = limits[i] < MANY ? limits[i] : MANY;

			snprintf(options, sizeof(options), "%s%d", sorts[s], limits[i]);
			ck_assert_int_eq(count(dump(options), "\n  - Pool many ("), shown);
			snprintf(note, sizeof(note), "\n  (limited to the first %d entries)\n", shown);
			ck_assert_int_eq(count(dump(options), note), shown < MANY);
			ck_assert_int_eq(count(dump(options), "limited to"), shown < MANY);
			ck_assert_int_eq(count(dump(options), "\nTotal: 1000 pools,"), 1);
		}
	}
	pool_destroy_all();
}
END_TEST

/* SHOWS: INV-19 */
START_TEST(pool_31_destroyed_pools_are_in_no_report)
{
	struct pool_head *pool = make("shortlived", 64, 0);

	pool_free(pool, pool_alloc(pool));
	ck_assert_str_eq(names(NULL), "shortlived ");
	ck_assert_ptr_null(pool_destroy(pool));
	ck_assert_str_eq(names(NULL), "");
	ck_assert_str_eq(names("byname detailed"), "");
	ck_assert_int_eq(count(dump("byusage"), "\nTotal: 0 pools, 0 bytes allocated, 0 used (~0 by"), 1);
}
END_TEST

START_TEST(pool_36_a_report_without_memory_is_plain_or_none)
{
	static const char *const words[] = { NULL, "match m detailed 5", "byname", "bysize 1", "byusage match m" };
	int null = open("/dev/null", O_WRONLY);
	struct rlimit now;
	int answers[5];
	void *last;

	ck_assert_int_ge(null, 0);
	if (checked())
		return;
	NOT_UNDER_QEMU("it ignores RLIMIT_AS");
	for (int i = 0; i < MANY; i++)
		make("many", 1000 + i, 0);
	last = take_all_memory(&now);
	for (int i = 0; i < 5; i++)
		answers[i] = keel_dump_pools_with(null, words[i]);
	give_all_memory_back(last, &now);
	for (int i = 0; i < 2; i++)
		ck_assert_int_gt(answers[i], 0);
	for (int i = 2; i < 5; i++)
		ck_assert_int_eq(answers[i], -ENOMEM);
	close(null);
	/* The pools are as they were: nothing holds them. */
	ck_assert_int_eq(count(dump("byname"), "\n  - Pool many ("), MANY);
	pool_destroy_all();
	ck_assert_str_eq(names(NULL), "");
}
END_TEST

/* Sums of sizes that are far beyond 32 bits; nobody touches the memory.
 * SHOWS: INV-21 */
START_TEST(pool_32_totals_have_64_bits)
{
	static const unsigned int gib = 1u << 30;
	struct pool_head *pool = make("huge", gib, 0);
	struct keel_pool_stats s;
	void *huge[5];

	for (int i = 0; i < 5; i++) {
		huge[i] = pool_alloc(pool);
		ck_assert_ptr_nonnull(huge[i]);
	}
	keel_pool_get_stats(NULL, &s);
	ck_assert_uint_ge(s.bytes, 5ull * gib);
	ck_assert_uint_eq(pool_total_allocated(), 5ull * gib);
	ck_assert_uint_eq(pool_total_used(), 5ull * gib);
	ck_assert_int_eq(count(dump(NULL), " 5 allocated (5368709120 bytes), 5 used (~0 by thread caches)"), 1);
	ck_assert_int_eq(count(dump("byusage"), "\nTotal: 1 pools, 5368709120 bytes allocated, 5368709120 used (~0 by"), 1);
	for (int i = 0; i < 5; i++)
		pool_free_nocache(pool, huge[i]);
	ck_assert_uint_eq(pool_total_allocated(), 0);
	ck_assert_ptr_null(pool_destroy(pool));
}
END_TEST

/* Callers, the thread's cache and the shared list, as the table and the figures tell them. */
START_TEST(the_table_agrees_with_the_figures)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct keel_pool_stats s;
	struct pool_head *pool;
	void *taken[40];
	char line[100];

	cfg.nbthread = 1;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
	pool = make("counted", 100, 0);
	pool->minavail = 30;
	/* Unregistered, it shares what it frees. */
	for (int i = 0; i < 40; i++)
		taken[i] = pool_alloc(pool);
	for (int i = 0; i < 10; i++)
		pool_free(pool, taken[i]);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	for (int i = 10; i < 17; i++)
		pool_free(pool, taken[i]);
	keel_pool_get_stats(pool, &s);
	ck_assert_uint_eq(s.used, 23);
	ck_assert_uint_eq(s.cached, s.allocated - 23);
	ck_assert_uint_ge(s.cached, 7);
	/* In the table, what a cache holds is used. */
	snprintf(line, sizeof(line), " %llu allocated (%llu bytes), 30 used (~7 by thread caches)", s.allocated, s.allocated * 112);
	ck_assert_msg(count(dump("match counted"), line) == 1, "no '%s' in %s", line, dump("match counted"));
	for (int i = 17; i < 40; i++)
		pool_free(pool, taken[i]);
	keel_thread_leave();
	keel_pool_get_stats(pool, &s);
	ck_assert_uint_eq(s.used, 0);
	ck_assert_uint_eq(s.cached, s.allocated);
	pool_flush(pool);
	keel_pool_get_stats(pool, &s);
	ck_assert_uint_eq(s.allocated, 0);
	ck_assert_uint_eq(s.bytes, 0);
	keel_deinit();
}
END_TEST

/* --- meanwhile --------------------------------------------------------------- */

static int ends[2];
static int over;

static void *dump_into_pipe(void *options)
{
	int bytes = keel_dump_pools_with(ends[1], options);

	close(ends[1]);
	return (void *)(long)bytes;
}

/* The pipe takes a part of the table: its writer waits for us, who need the pools. */
static void dump_while_pools_come_and_go(const char *options)
{
	struct pool_head *doomed = make("doomed", 900, 0), *pool;
	char buffer[4096], *text;
	long bytes = 0;
	void *result;
	pthread_t thread;
	ssize_t n;

	for (int i = 0; i < MANY; i++)
		make("many", 1000 + i, 0);
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, dump_into_pipe, (void *)options), 0);
	/* Something was written, so the dump is under way. */
	n = read(ends[0], buffer, sizeof(buffer));
	ck_assert_int_gt(n, 0);
	text = calloc(1, 400 * MANY);
	memcpy(text, buffer, n);
	bytes = n;
	for (int i = 0; i < 100; i++) {
		pool = make("passing", 1500 + i, MEM_F_SHARED);
		pool_free(pool, pool_alloc(pool));
		ck_assert_ptr_null(pool_destroy(pool));
	}
	ck_assert_ptr_null(pool_destroy(doomed));
	pool_gc(NULL);
	while ((n = read(ends[0], text + bytes, 400 * MANY - 1 - bytes)) > 0)
		bytes += n;
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	close(ends[0]);
	ck_assert_int_eq((long)result, bytes);
	ck_assert_int_eq(count(text, "\n  - Pool many ("), MANY);
	ck_assert_int_eq(count(text, "\nTotal: "), 1);
	free(text);
	pool_destroy_all();
	ck_assert_int_eq(count(dump(NULL), "  - Pool "), 0);
}

START_TEST(no_lock_is_held_across_output)
{
	dump_while_pools_come_and_go(NULL);
}
END_TEST

START_TEST(no_lock_is_held_across_sorted_output)
{
	dump_while_pools_come_and_go("bysize");
}
END_TEST

static void *dump_all_the_time(void *options)
{
	FILE *out = tmpfile();

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		rewind(out);
		ck_assert_int_gt(keel_dump_pools_with(fileno(out), options), 0);
	}
	fclose(out);
	return NULL;
}

START_TEST(dumps_and_merging_at_once)
{
	static const char *const options[] = { "detailed", "byname detailed", "byusage match m 3" };
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, dump_all_the_time, (void *)options[i]), 0);
	for (int i = 0; i < 300; i++) {
		struct pool_head *a = make("merged", 4000, MEM_F_SHARED), *b, *c;

		/* The last one makes it grow. */
		b = make("m2", 4000, MEM_F_SHARED);
		c = make("m3", 4030, MEM_F_SHARED);
		ck_assert_ptr_eq(a, b);
		ck_assert_ptr_eq(a, c);
		ck_assert_uint_eq(a->size, 4032);
		pool_free(c, pool_alloc(c));
		ck_assert_ptr_null(pool_destroy(a));
		ck_assert_ptr_null(pool_destroy(b));
		ck_assert_ptr_null(pool_destroy(c));
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert_str_eq(names(NULL), "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool dumps");
	TCase *words = tcase_create("words");
	TCase *whole = tcase_create("completeness");
	TCase *meanwhile = tcase_create("meanwhile");

	tcase_set_timeout(words, 30);
	tcase_set_timeout(whole, 60);
	tcase_set_timeout(meanwhile, 60);
	tcase_add_test(words, pools_are_sorted_as_asked);
	tcase_add_test(words, pool_37_filters_and_limits_in_every_order);
	tcase_add_test(words, pool_37_without_caches_too);
	tcase_add_test(words, other_words_are_refused);
	tcase_add_test(words, details_show_who_asked);
	tcase_add_test(whole, pool_34_reports_are_complete_and_say_when_not);
	tcase_add_test(whole, pool_31_destroyed_pools_are_in_no_report);
	tcase_add_test(whole, pool_36_a_report_without_memory_is_plain_or_none);
	tcase_add_test(whole, pool_32_totals_have_64_bits);
	tcase_add_test(whole, the_table_agrees_with_the_figures);
	tcase_add_test(meanwhile, no_lock_is_held_across_output);
	tcase_add_test(meanwhile, no_lock_is_held_across_sorted_output);
	tcase_add_test(meanwhile, dumps_and_merging_at_once);
	suite_add_tcase(s, words);
	suite_add_tcase(s, whole);
	suite_add_tcase(s, meanwhile);
	return run_suite(s);
}
