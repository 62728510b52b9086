/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: the life of entries, full tables, lack of memory. */

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "stick.h"
#include "suite.h"

/* --- new, stored, found, gone --------------------------------------------------- */

START_TEST(a_new_entry_is_not_stored)
{
	struct stktable t;
	struct stksess *ts;
	int before, after;

	start(1);
	integers(&t, 10, 5000);
	before = date(5000);
	ts = stksess_new(&t, NUM(1));
	after = date(5000);
	ck_assert_ptr_nonnull(ts);
	ck_assert_uint_eq(refs(ts), 0);
	ck_assert(!tick_is_lt((int)ts->expire, before) && !tick_is_lt(after, (int)ts->expire));
	ck_assert_uint_eq(*counter(&t, ts, STKTABLE_DT_GPC0), 0);
	ck_assert_uint_eq(*(unsigned int *)keel_stksess_key(ts), 1);
	ck_assert_int_eq(has(&t, NUM(1)), 0);
	/* it counts all the same */
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stksess_free(&t, ts);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(storing_keeps_who_was_first)
{
	struct stktable t;
	struct stksess *first, *second;

	start(1);
	integers(&t, 10, 5000);
	first = stksess_new(&t, NUM(1));
	*counter(&t, first, STKTABLE_DT_GPC0) = 41;
	ck_assert_ptr_eq(stktable_set_entry(&t, first), first);
	ck_assert_uint_eq(refs(first), 1);
	second = stksess_new(&t, NUM(1));
	ck_assert_ptr_ne(second, first);
	ck_assert_uint_eq(keel_stktable_current(&t), 2);
	ck_assert_ptr_eq(stktable_set_entry(&t, second), first);
	ck_assert_uint_eq(refs(first), 2);
	ck_assert_uint_eq(refs(second), 0);
	stksess_free(&t, second);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	ck_assert_uint_eq(*counter(&t, first, STKTABLE_DT_GPC0), 41);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(finding_changes_no_date)
{
	struct stktable t;
	struct stksess *ts;
	unsigned int due;

	start(1);
	integers(&t, 10, 5000);
	ts = get(&t, NUM(1));
	due = ts->expire;
	idle(5);
	ck_assert_ptr_eq(get(&t, NUM(1)), ts);
	ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1)), ts);
	ck_assert_ptr_eq(stktable_lookup(&t, ts), ts);
	ck_assert_uint_eq(ts->expire, due);
	ck_assert_uint_eq(refs(ts), 4);
	/* this one touches, and keeps no reference */
	ck_assert_ptr_eq(stktable_update_key(&t, NUM(1)), ts);
	ck_assert_int_ne(tick_is_lt((int)due, (int)ts->expire), 0);
	ck_assert_uint_eq(refs(ts), 4);
	ck_assert_ptr_nonnull(stktable_update_key(&t, NUM(2)));
	ck_assert_int_ne(has(&t, NUM(2)), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* An entry whose date has come is found as long as nobody has removed it. */
START_TEST(expired_entries_are_found_until_they_leave)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, 10, 2);
	ts = get(&t, NUM(1));
	stktable_release(&t, ts);
	idle(20);
	ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1)), ts);
	ck_assert_int_ne(tick_is_expired((int)ts->expire, (int)keel_now_ms()), 0);
	stktable_release(&t, ts);
	shrinks(&t, 0);
	ck_assert_int_eq(has(&t, NUM(1)), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-35: kill says what it did.
 * SHOWS: INV-114 */
START_TEST(stk_35_kill_is_truthful)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, 10, 5000);
	/* the caller's reference counts */
	ts = get(&t, NUM(1));
	ck_assert_int_eq(stksess_kill(&t, ts, 0), 0);
	ck_assert_uint_eq(refs(ts), 1);
	ck_assert_int_ne(has(&t, NUM(1)), 0);
	ck_assert_int_eq(stksess_kill(&t, ts, 1), 1);
	ck_assert_int_eq(has(&t, NUM(1)), 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	/* so does another's */
	ts = get(&t, NUM(1));
	get(&t, NUM(1));
	ck_assert_int_eq(stksess_kill(&t, ts, 1), 0);
	ck_assert_uint_eq(refs(ts), 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1)), ts);
	stktable_release(&t, ts);
	ck_assert_int_eq(__stksess_kill(&t, ts), 0);
	stktable_release(&t, ts);
	/* nobody's */
	ck_assert_int_eq(__stksess_kill(&t, ts), 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	ts = get(&t, NUM(2));
	stktable_release(&t, ts);
	ck_assert_int_eq(stksess_kill(&t, ts, 0), 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	/* the next one under the key begins anew */
	ts = get(&t, NUM(2));
	ck_assert_uint_eq(*counter(&t, ts, STKTABLE_DT_GPC0), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(kill_if_expired)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, 10, 5000);
	ts = get(&t, NUM(1));
	stksess_kill_if_expired(&t, ts, 1);
	ck_assert_uint_eq(refs(ts), 0);
	ck_assert_int_ne(has(&t, NUM(1)), 0);
	/* its date has come, but others hold it */
	get(&t, NUM(1));
	get(&t, NUM(1));
	stktable_touch_with_exp(&t, ts, 0, date(1));
	idle(10);
	stksess_kill_if_expired(&t, ts, 1);
	ck_assert_uint_eq(refs(ts), 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stksess_kill_if_expired(&t, ts, 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stksess_kill_if_expired(&t, ts, 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	ck_assert_int_eq(has(&t, NUM(1)), 0);
	stktable_deinit(&t);
	/* where nothing expires, nothing has */
	integers(&t, 10, 0);
	ts = get(&t, NUM(1));
	idle(5);
	stksess_kill_if_expired(&t, ts, 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-34: what is refused costs no reference, and gives none away.
 * SHOWS: INV-92 */
START_TEST(stk_34_refusals_keep_the_balance)
{
	struct stktable t, small;
	struct stksess *ts;

	start(1);
	integers(&t, 10, 5000);
	ts = get(&t, NUM(1));
	for (int i = 0; i < 100; i++) {
		/* refused kills */
		get(&t, NUM(1));
		ck_assert_int_eq(stksess_kill(&t, ts, 1), 0);
		ck_assert_int_eq(__stksess_kill(&t, ts), 0);
		stksess_kill_if_expired(&t, ts, 0);
		/* a datum that is not stored */
		ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_CNT));
		ck_assert_uint_eq(refs(ts), 1);
	}
	stktable_release(&t, ts);
	/* no room */
	describe(&small, SMP_T_SINT, 4, 1, 5000);
	small.nopurge = 1;
	ready(&small);
	put(&small, NUM(1));
	for (int i = 0; i < 100; i++) {
		ck_assert_ptr_null(stktable_get_entry(&small, NUM(2)));
		ck_assert_ptr_null(stktable_update_key(&small, NUM(2)));
		ck_assert_ptr_null(stksess_new(&small, NUM(1)));
	}
	ck_assert_uint_eq(keel_stktable_current(&small), 1);
	ts = stktable_lookup_key(&small, NUM(1));
	ck_assert_int_eq(stksess_kill(&small, ts, 1), 1);
	ck_assert_uint_eq(keel_stktable_current(&small), 0);
	stktable_deinit(&t);
	stktable_deinit(&small);
	keel_deinit();
}
END_TEST

/* --- full tables ------------------------------------------------------------------ */

/* SHOWS: INV-103 */
START_TEST(nopurge_refuses)
{
	struct stktable t;

	start(1);
	describe(&t, SMP_T_SINT, 4, 100, 5000);
	t.nopurge = 1;
	ready(&t);
	for (int i = 0; i < 100; i++)
		put(&t, NUM(i));
	for (int i = 0; i < 100; i++) {
		ck_assert_ptr_null(stktable_get_entry(&t, NUM(100 + i)));
		ck_assert_ptr_null(stksess_new(&t, NULL));
		put(&t, NUM(i));
	}
	ck_assert_uint_eq(keel_stktable_current(&t), 100);
	/* on demand it does */
	ck_assert_int_eq(stktable_trash_oldest(&t, 3), 3);
	ck_assert_uint_eq(keel_stktable_current(&t), 97);
	put(&t, NUM(1000));
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Dates far enough apart for any index, in an order that is not that of keys. */
static int spread(unsigned int i, unsigned int n)
{
	return 10000 + (int)(i * 7 % n) * 5000;
}

START_TEST(the_oldest_leave_first)
{
	enum { N = 100 };
	struct stktable t;
	struct stksess *ts;

	start(1);
	integers(&t, N, 60000);
	for (unsigned int i = 0; i < N; i++) {
		ts = get(&t, NUM(i));
		stktable_touch_with_exp(&t, ts, 1, date(spread(i, N)));
	}
	for (unsigned int gone = 1; gone <= N / 2; gone++) {
		evict_one(&t);
		for (unsigned int i = 0; i < N; i++)
			ck_assert_int_eq(has(&t, NUM(i)), i * 7 % N >= gone);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Where nothing expires, dates tell who was touched last. */
START_TEST(the_least_recently_touched_leave_first)
{
	enum { N = 32 };
	struct stktable t;

	start(1);
	integers(&t, N, 0);
	for (unsigned int i = 0; i < N; i++) {
		stktable_update_key(&t, NUM(i));
		idle(2);
	}
	/* the first half once more */
	for (unsigned int i = 0; i < N / 2; i++) {
		stktable_update_key(&t, NUM(i));
		idle(2);
	}
	for (unsigned int i = 0; i < N / 2; i++) {
		stktable_update_key(&t, NUM(1000 + i));
		ck_assert_uint_le(keel_stktable_current(&t), N);
	}
	for (unsigned int i = 0; i < N / 2; i++) {
		ck_assert_int_ne(has(&t, NUM(i)), 0);
		ck_assert_int_eq(has(&t, NUM(N / 2 + i)), 0);
		ck_assert_int_ne(has(&t, NUM(1000 + i)), 0);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-28: however small, a full table has room for one more.
 * SHOWS: INV-102 */
START_TEST(stk_28_small_tables_evict_too)
{
	struct stktable t;

	start(1);
	for (unsigned int size = 1; size <= 300; size += size < 20 ? 1 : 7) {
		integers(&t, size, size % 2 ? 5000 : 0);
		for (unsigned int i = 0; i < 2 * size + 5; i++) {
			put(&t, NUM(i));
			ck_assert_uint_le(keel_stktable_current(&t), size);
			ck_assert_uint_ge(keel_stktable_current(&t), i < size ? i + 1 : 1);
		}
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* STK-27: with everything held a full table says no, and does not walk through
 * all of it each time.
 * SHOWS: INV-100 */
START_TEST(stk_27_all_are_held)
{
	enum { N = 20000 };
	static struct stksess *held[N];
	struct stktable t;

	start(1);
	integers(&t, N, 5000);
	for (unsigned int i = 0; i < N; i++)
		held[i] = get(&t, NUM(i));
	for (unsigned int i = 0; i < 3000; i++)
		ck_assert_ptr_null(stktable_get_entry(&t, NUM(N + i)));
	ck_assert_int_eq(stktable_trash_oldest(&t, 10), 0);
	ck_assert_uint_eq(keel_stktable_current(&t), N);
	for (unsigned int i = 0; i < N; i += 100)
		ck_assert_int_ne(has(&t, NUM(i)), 0);
	/* whichever it is that nobody holds any more, it makes room */
	for (unsigned int i = 0; i < 20; i++) {
		unsigned int victim = i * 991 % N;

		stktable_release(&t, held[victim]);
		held[victim] = get(&t, NUM(N + i));
		ck_assert_int_eq(has(&t, NUM(victim)), 0);
		ck_assert_uint_eq(keel_stktable_current(&t), N);
	}
	for (unsigned int i = 0; i < N; i++)
		stktable_release(&t, held[i]);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(trash_oldest_counts)
{
	struct stktable t;
	struct stksess *ts[10];

	start(1);
	integers(&t, 100, 5000);
	ck_assert_int_eq(stktable_trash_oldest(&t, 5), 0);
	for (int i = 0; i < 50; i++)
		put(&t, NUM(i));
	ck_assert_int_eq(stktable_trash_oldest(&t, 0), 0);
	ck_assert_int_eq(stktable_trash_oldest(&t, 20), 20);
	ck_assert_uint_eq(keel_stktable_current(&t), 30);
	/* what is held stays */
	for (int i = 0; i < 10; i++)
		ts[i] = get(&t, NUM(1000 + i));
	for (int n = 0, tries = 0; n < 30; tries++) {
		ck_assert_int_lt(tries, 100);
		n += stktable_trash_oldest(&t, 30 - n);
	}
	ck_assert_uint_eq(keel_stktable_current(&t), 10);
	ck_assert_int_eq(stktable_trash_oldest(&t, 10), 0);
	for (int i = 0; i < 10; i++) {
		ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1000 + i)), ts[i]);
		ck_assert_uint_eq(refs(ts[i]), 2);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- lack of memory ---------------------------------------------------------------- */

/* STK-30: what fails is not counted, and can be tried again; the table is not
 * full before it is.
 * SHOWS: INV-93, INV-108 */
START_TEST(stk_30_refused_memory_costs_nothing)
{
	enum { N = 2000 };
	struct stktable t;
	unsigned int failures = 0;

	start(1);
	ck_assert_int_eq(keel_pool_debug("fail=60"), 0);
	describe(&t, SMP_T_SINT, 4, N, 5000);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC0, NULL, NULL);
	/* making the table may fail as well */
	for (int i = 0; i < 1000 && !stktable_init(&t); i++)
		failures++;
	for (int round = 0; round < 2; round++) {
		unsigned int have = 0, before = failures;

		for (unsigned int i = 0; i < N; i++) {
			struct stksess *ts;

			while (!(ts = stktable_get_entry(&t, NUM(i)))) {
				failures++;
				ck_assert_int_eq(has(&t, NUM(i)), 0);
				ck_assert_uint_eq(keel_stktable_current(&t), have);
				ck_assert_uint_lt(failures, 1000000);
			}
			have++;
			ck_assert_uint_eq(refs(ts), 1);
			stktable_release(&t, ts);
			ck_assert_uint_eq(keel_stktable_current(&t), have);
		}
		ck_assert_uint_gt(failures, before);
		for (unsigned int i = 0; i < N; i++)
			ck_assert_int_ne(has(&t, NUM(i)), 0);
		for (unsigned int i = 0; i < N; i++)
			ck_assert_int_eq(stksess_kill(&t, stktable_lookup_key(&t, NUM(i)), 1), 1);
		ck_assert_uint_eq(keel_stktable_current(&t), 0);
		turns(50);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-31: the same for entries that are made without being stored.
 * SHOWS: INV-108 */
START_TEST(stk_31_no_memory_no_entry)
{
	struct stktable t;
	unsigned int failures = 0;

	start(1);
	ck_assert_int_eq(keel_pool_debug("fail=100"), 0);
	describe(&t, SMP_T_SINT, 4, 100, 0);
	if (stktable_init(&t)) {
		for (int i = 0; i < 1000; i++) {
			struct stksess *ts = stksess_new(&t, i % 2 ? NUM(i) : NULL);

			failures += !ts;
			if (ts)
				stksess_free(&t, ts);
			ck_assert_uint_eq(keel_stktable_current(&t), 0);
		}
		ck_assert_uint_gt(failures, 0);
		ck_assert_ptr_null(stktable_get_entry(&t, NUM(1)));
		ck_assert_ptr_null(stktable_update_key(&t, NUM(1)));
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* --- several threads ---------------------------------------------------------------- */

static struct stktable shared;
static atomic_int over;

enum { THREADS = 4 };

/* STK-14: all want to store an entry under the same new key. */
static pthread_barrier_t gate;
static struct stksess *stored[THREADS];
enum { ROUNDS = 300 };

static void *stores_the_same(void *arg)
{
	size_t n = (size_t)arg;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct stksess *mine = stksess_new(&shared, NUM(round));

		pthread_barrier_wait(&gate);
		stored[n] = stktable_set_entry(&shared, mine);
		if (stored[n] != mine)
			stksess_free(&shared, mine);
		pthread_barrier_wait(&gate);
		if (n == 0) {
			for (int i = 1; i < THREADS; i++)
				ck_assert_ptr_eq(stored[i], stored[0]);
			ck_assert_uint_eq(refs(stored[0]), THREADS);
			ck_assert_uint_eq(keel_stktable_current(&shared), round + 1);
		}
		pthread_barrier_wait(&gate);
		if (n % 2)
			stktable_release(&shared, stored[n]);
		else
			stktable_touch_local(&shared, stored[n], 1);
	}
	return NULL;
}

/* SHOWS: INV-94 */
START_TEST(stk_14_who_stores_first)
{
	start(1);
	integers(&shared, 1000, 60000);
	pthread_barrier_init(&gate, NULL, THREADS);
	on_threads(THREADS, stores_the_same);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct stksess *ts = stktable_lookup_key(&shared, NUM(round));

		ck_assert_ptr_nonnull(ts);
		ck_assert_int_eq(stksess_kill(&shared, ts, 1), 1);
	}
	ck_assert_uint_eq(keel_stktable_current(&shared), 0);
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

/* STK-7: kill gives its reference back, evictions want the entry at once. */
static void *evicts(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		int n = stktable_trash_oldest(&shared, 3);

		must(n >= 0 && n <= 3);
	}
	return NULL;
}

static void *kills(void *arg)
{
	for (unsigned int i = 0; i < 20000; i++) {
		struct stksess *ts = stktable_get_entry(&shared, NUM(i % 3));

		if (!ts)
			continue;
		stksess_wrlock(ts);
		++*counter(&shared, ts, STKTABLE_DT_GPC0);
		stksess_wrunlock(ts);
		must(*(unsigned int *)keel_stksess_key(ts) == i % 3);
		if (i % 4)
			stksess_kill(&shared, ts, 1);
		else
			stktable_release(&shared, ts);
	}
	if (!arg)
		atomic_store(&over, 1);
	return NULL;
}

static void *one_role_each(void *arg)
{
	return (size_t)arg < 2 ? kills(arg) : evicts(arg);
}

/* SHOWS: INV-91 */
START_TEST(stk_7_kill_against_evictions)
{
	start(1);
	integers(&shared, 2, 60000);
	on_threads(3, one_role_each);
	stktable_trash_oldest(&shared, 3);
	ck_assert_uint_eq(keel_stktable_current(&shared), 0);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(has(&shared, NUM(i)), 0);
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

/* Distinct keys, the same ones, and removals, at once: at rest it adds up. */
static void *comes_and_goes(void *arg)
{
	unsigned int n = (unsigned int)(size_t)arg;

	for (unsigned int i = 0; i < 3000; i++) {
		struct stksess *ts = get(&shared, NUM(n << 16 | i));
		struct stksess *common = get(&shared, NUM(0xff0000 | i % 50));

		stktable_release(&shared, common);
		if (i % 3)
			ck_assert_int_eq(stksess_kill(&shared, ts, 1), 1);
		else
			stktable_touch_local(&shared, ts, 1);
	}
	return NULL;
}

/* SHOWS: INV-93 */
START_TEST(the_count_is_exact_at_rest)
{
	start(1);
	integers(&shared, 100000, 60000);
	on_threads(THREADS, comes_and_goes);
	ck_assert_uint_eq(keel_stktable_current(&shared), THREADS * 1000 + 50);
	for (unsigned int n = 0; n < THREADS; n++)
		for (unsigned int i = 0; i < 3000; i++)
			ck_assert_int_eq(has(&shared, NUM(n << 16 | i)), i % 3 == 0);
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

/* A full table that many create in stays within its size at rest. */
static void *overfills(void *arg)
{
	unsigned int n = (unsigned int)(size_t)arg;

	for (unsigned int i = 0; i < 5000; i++) {
		struct stksess *ts = get(&shared, NUM(n << 16 | i));

		must(*(unsigned int *)keel_stksess_key(ts) == (n << 16 | i));
		stktable_release(&shared, ts);
	}
	return NULL;
}

/* SHOWS: INV-93 */
START_TEST(full_tables_stay_within_their_size)
{
	start(1);
	integers(&shared, 500, 60000);
	on_threads(THREADS, overfills);
	ck_assert_uint_le(keel_stktable_current(&shared), 500);
	ck_assert_uint_gt(keel_stktable_current(&shared), 0);
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

/* STK-39: the entry's lock: writers alone, readers together. */
static void *counts_under_the_lock(void *arg)
{
	struct stksess *ts = get(&shared, NUM(1));
	unsigned long long *bytes = stktable_data_ptr(&shared, ts, STKTABLE_DT_BYTES_IN_CNT);
	unsigned int *calls = counter(&shared, ts, STKTABLE_DT_CONN_CNT);

	for (int i = 0; i < 20000; i++) {
		if ((size_t)arg % 2) {
			stksess_wrlock(ts);
			stktable_data_cast(bytes, std_t_ull) += 0x100000001u;
			++*calls;
			stksess_wrunlock(ts);
		} else {
			stksess_rdlock(ts);
			must(stktable_data_cast(bytes, std_t_ull) == *calls * 0x100000001ull);
			stksess_rdunlock(ts);
		}
	}
	stktable_release(&shared, ts);
	return NULL;
}

static atomic_int written;

static void *writes(void *ts)
{
	stksess_wrlock(ts);
	atomic_store(&written, 1);
	stksess_wrunlock(ts);
	return NULL;
}

/* SHOWS: INV-106 */
START_TEST(stk_39_the_lock_of_an_entry)
{
	struct stksess *ts;
	pthread_t writer;

	start(1);
	describe(&shared, SMP_T_SINT, 4, 10, 60000);
	stktable_alloc_data_type(&shared, STKTABLE_DT_BYTES_IN_CNT, NULL, NULL);
	stktable_alloc_data_type(&shared, STKTABLE_DT_CONN_CNT, NULL, NULL);
	ready(&shared);
	on_threads(THREADS, counts_under_the_lock);
	ts = stktable_lookup_key(&shared, NUM(1));
	ck_assert_uint_eq(*counter(&shared, ts, STKTABLE_DT_CONN_CNT), THREADS / 2 * 20000);
	/* readers do not keep each other out */
	stksess_rdlock(ts);
	stksess_rdlock(ts);
	stksess_rdunlock(ts);
	stksess_rdunlock(ts);
	/* who writes waits for readers, and for other writers */
	for (int alone = 0; alone < 2; alone++) {
		(alone ? stksess_wrlock : stksess_rdlock)(ts);
		atomic_store(&written, 0);
		pthread_create(&writer, NULL, writes, ts);
		usleep(20000);
		ck_assert_int_eq(atomic_load(&written), 0);
		(alone ? stksess_wrunlock : stksess_rdunlock)(ts);
		pthread_join(writer, NULL);
		ck_assert_int_eq(atomic_load(&written), 1);
	}
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_entries");
	TCase *tc = tcase_create("life");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, a_new_entry_is_not_stored);
	tcase_add_test(tc, storing_keeps_who_was_first);
	tcase_add_test(tc, finding_changes_no_date);
	tcase_add_test(tc, expired_entries_are_found_until_they_leave);
	tcase_add_test(tc, stk_35_kill_is_truthful);
	tcase_add_test(tc, kill_if_expired);
	tcase_add_test(tc, stk_34_refusals_keep_the_balance);
	suite_add_tcase(s, tc);
	tc = tcase_create("full");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, nopurge_refuses);
	tcase_add_test(tc, the_oldest_leave_first);
	tcase_add_test(tc, the_least_recently_touched_leave_first);
	tcase_add_test(tc, stk_28_small_tables_evict_too);
	tcase_add_test(tc, stk_27_all_are_held);
	tcase_add_test(tc, trash_oldest_counts);
	suite_add_tcase(s, tc);
	tc = tcase_create("memory");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, stk_30_refused_memory_costs_nothing);
	tcase_add_test(tc, stk_31_no_memory_no_entry);
	suite_add_tcase(s, tc);
	tc = tcase_create("threads");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, stk_14_who_stores_first);
	tcase_add_test(tc, stk_7_kill_against_evictions);
	tcase_add_test(tc, the_count_is_exact_at_rest);
	tcase_add_test(tc, full_tables_stay_within_their_size);
	tcase_add_test(tc, stk_39_the_lock_of_an_entry);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
