/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: the sequence of updates, on which replication stands. */

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "stick.h"
#include "suite.h"

static struct stktable t;
static atomic_uint wakes, reasons;

static struct task *teaches(struct task *task, void *ctx, unsigned int state)
{
	(void)ctx;
	atomic_fetch_add(&wakes, 1);
	atomic_fetch_or(&reasons, state & TASK_WOKEN_ANY);
	task->expire = TICK_ETERNITY;
	return task;
}

/* A table with somebody who teaches, whose sequence has come to <at>. */
static void taught(unsigned int at, unsigned int size, int expire)
{
	describe(&t, SMP_T_SINT, 4, size, expire);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC0, NULL, NULL);
	t.sync_task = task_new_anywhere();
	t.sync_task->process = teaches;
	t.refcnt = 1;
	ready(&t);
	t.update = t.localupdate = t.commitupdate = at;
}

static void done(void)
{
	t.refcnt = 0;
	task_destroy(t.sync_task);
	stktable_deinit(&t);
	keel_deinit();
}

static void touch(unsigned int key)
{
	stktable_touch_local(&t, get(&t, NUM(key)), 1);
}

static void learn(unsigned int key)
{
	stktable_touch_remote(&t, get(&t, NUM(key)), 1);
}

static unsigned int key_of(struct stksess *ts)
{
	return *(unsigned int *)keel_stksess_key(ts);
}

/* Asserts that the updates after <from> up to <to> are those of these keys, in
 * this order, and each held by whoever asks. */
static void updates(unsigned int from, unsigned int to, size_t n, const unsigned int *keys)
{
	struct stksess *ts;
	size_t i = 0;

	while ((ts = keel_stktable_next_update(&t, from, to, &from))) {
		ck_assert_uint_lt(i, n);
		ck_assert_uint_eq(key_of(ts), keys[i]);
		ck_assert_uint_ge(refs(ts), 1);
		stktable_release(&t, ts);
		i++;
	}
	ck_assert_uint_eq(i, n);
}

#define locals_are(from, ...) \
	updates((from), t.localupdate, ARRAY(((unsigned int[]){ __VA_ARGS__ })), (unsigned int[]){ __VA_ARGS__ })
/* The other half of the ring. */
#define remotes_are(...) \
	updates(t.update + 0x70000000u, t.update + 0x80000000u, ARRAY(((unsigned int[]){ __VA_ARGS__ })), \
	        (unsigned int[]){ __VA_ARGS__ })
#define no_locals(from) updates((from), t.localupdate, 0, NULL)

/* Where a sequence may stand: nowhere may it matter. */
static const unsigned int starts[] = { 0, 1000, 0x7ffffffd, 0xfffffffd };

START_TEST(local_touches_are_announced)
{
	unsigned int at = starts[_i];

	start(1);
	taught(at, 100, 60000);
	/* finding and creating are no changes */
	put(&t, NUM(1));
	put(&t, NUM(2));
	turns(3);
	ck_assert_uint_eq(t.update, at);
	ck_assert_uint_eq(wakes, 0);
	touch(2);
	turns(3);
	ck_assert_uint_eq(t.update, at + 1);
	ck_assert_uint_eq(t.localupdate, at + 1);
	ck_assert_uint_eq(t.commitupdate, at);
	ck_assert_uint_eq(wakes, 1);
	ck_assert_uint_eq(reasons, TASK_WOKEN_MSG);
	touch(1);
	stktable_update_key(&t, NUM(3));
	stktable_touch_with_exp(&t, get(&t, NUM(4)), 1, date(5000));
	turns(3);
	ck_assert_uint_eq(t.localupdate, at + 4);
	locals_are(at, 2, 1, 3, 4);
	locals_are(at + 2, 3, 4);
	no_locals(at + 4);
	done();
}
END_TEST

/* An update that not all have seen stays where it is; what they have seen is
 * announced again. The task is woken either way. */
START_TEST(touched_again)
{
	unsigned int at = starts[_i], before;

	start(1);
	taught(at, 100, 60000);
	touch(1);
	touch(2);
	touch(3);
	turns(3);
	before = wakes;
	touch(1);
	turns(3);
	ck_assert_uint_eq(t.update, at + 3);
	ck_assert_uint_eq(wakes, before + 1);
	locals_are(at, 1, 2, 3);
	t.commitupdate = at + 2;
	touch(1);
	touch(3);
	turns(3);
	ck_assert_uint_eq(t.localupdate, at + 4);
	locals_are(at, 2, 3, 1);
	t.commitupdate = at + 4;
	touch(2);
	turns(3);
	locals_are(at, 3, 1, 2);
	locals_are(at + 4, 2);
	done();
}
END_TEST

START_TEST(remote_touches_are_not)
{
	unsigned int at = starts[_i];

	start(1);
	taught(at, 100, 60000);
	learn(1);
	learn(2);
	turns(3);
	ck_assert_uint_eq(wakes, 0);
	ck_assert_uint_eq(t.update, at + 2);
	ck_assert_uint_eq(t.localupdate, at);
	no_locals(at);
	remotes_are(1, 2);
	/* once is enough, and what was announced stays announced */
	learn(1);
	touch(3);
	learn(3);
	turns(3);
	ck_assert_uint_eq(t.localupdate, at + 3);
	locals_are(at, 3);
	remotes_are(1, 2);
	done();
}
END_TEST

/* STK-11, STK-12: learned first, then changed here: announced, and in one
 * place.
 * SHOWS: INV-104, INV-105 */
START_TEST(stk_11_and_stk_12_learned_then_changed)
{
	unsigned int at = starts[_i];

	start(1);
	taught(at, 100, 60000);
	learn(1);
	touch(1);
	learn(2);
	turns(3);
	touch(2);
	turns(3);
	ck_assert_uint_eq(wakes, 2);
	locals_are(at, 1, 2);
	updates(t.localupdate, t.update + 0x80000000u, 0, NULL);
	/* and again, whatever was committed meanwhile */
	t.commitupdate = t.localupdate;
	learn(1);
	touch(1);
	turns(3);
	locals_are(t.commitupdate, 1);
	/* learned before that was committed: still a remote one */
	learn(3);
	for (unsigned int key = 10; key < 20; key++)
		touch(key);
	t.commitupdate = t.localupdate;
	touch(3);
	locals_are(t.commitupdate, 3);
	done();
}
END_TEST

/* STK-13: an entry that never was in the sequence is announced wherever that
 * stands; the sequence goes round, and nobody is announced twice. */
START_TEST(stk_13_the_sequence_goes_round)
{
	start(1);
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int at = i * 0x11111111u - 3;

		taught(at, 100, 60000);
		for (unsigned int key = 1; key <= 6; key++)
			touch(key);
		locals_are(at, 1, 2, 3, 4, 5, 6);
		ck_assert_uint_eq(t.localupdate, at + 6);
		/* far later: those are old news, and are passed over */
		t.update = t.localupdate = t.commitupdate = at + 0x60000000;
		touch(3);
		put(&t, NUM(7));
		touch(7);
		locals_are(at + 0x60000000, 3, 7);
		/* a number that somebody has already: it is given once */
		t.update = t.localupdate = t.commitupdate = at;
		touch(8);
		touch(9);
		locals_are(at, 8, 9);
		updates(at + 2, at + 6, 3, (unsigned int[]){ 4, 5, 6 });
		task_destroy(t.sync_task);
		t.refcnt = 0;
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* Nobody teaches: nothing is numbered. */
START_TEST(without_a_task)
{
	unsigned int from = 0;

	start(1);
	integers(&t, 100, 60000);
	for (unsigned int i = 0; i < 10; i++) {
		touch(i);
		learn(i);
	}
	turns(3);
	ck_assert_uint_eq(t.update, 0);
	ck_assert_uint_eq(t.localupdate, 0);
	ck_assert_ptr_null(keel_stktable_next_update(&t, from, 100, &from));
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-8, STK-9: what was killed, evicted or has expired is no update any more.
 * SHOWS: INV-105 */
START_TEST(stk_8_and_stk_9_gone_from_the_table_and_the_updates)
{
	start(1);
	taught(0, 100, 60000);
	for (unsigned int i = 1; i <= 6; i++)
		touch(i);
	/* killed before and after the task has run */
	ck_assert_int_eq(stksess_kill(&t, stktable_lookup_key(&t, NUM(2)), 1), 1);
	locals_are(0, 1, 3, 4, 5, 6);
	turns(3);
	ck_assert_int_eq(stksess_kill(&t, stktable_lookup_key(&t, NUM(5)), 1), 1);
	locals_are(0, 1, 3, 4, 6);
	stktable_touch_with_exp(&t, stktable_lookup_key(&t, NUM(1)), 1, date(5));
	stktable_touch_with_exp(&t, stktable_lookup_key(&t, NUM(3)), 1, date(10));
	stktable_touch_with_exp(&t, stktable_lookup_key(&t, NUM(4)), 1, date(50000));
	shrinks(&t, 2);
	locals_are(0, 4, 6);
	evict_one(&t);
	locals_are(0, 6);
	/* the key comes back, and is new */
	touch(2);
	locals_are(0, 6, 2);
	done();
}
END_TEST

/* STK-5: who reads an update holds its entry.
 * SHOWS: INV-90 */
START_TEST(stk_5_a_reader_holds_what_it_reads)
{
	struct stksess *ts;
	unsigned int from = 0;

	start(1);
	taught(0, 100, 10);
	touch(1);
	ts = keel_stktable_next_update(&t, from, t.localupdate, &from);
	ck_assert_ptr_nonnull(ts);
	ck_assert_uint_eq(from, 1);
	ck_assert_uint_eq(refs(ts), 1);
	pass(60);
	ck_assert_int_eq(stktable_trash_oldest(&t, 1), 0);
	ck_assert_int_eq(__stksess_kill(&t, ts), 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	ck_assert_uint_eq(key_of(ts), 1);
	ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1)), ts);
	stktable_release(&t, ts);
	stktable_release(&t, ts);
	shrinks(&t, 0);
	done();
}
END_TEST

/* STK-10: the same keys learned and changed by several threads at once: each
 * has one place. */
enum { KEYS = 50 };

static void *learns_and_changes(void *arg)
{
	for (unsigned int i = 0; i < 4000; i++) {
		unsigned int key = i * 7 % KEYS;

		if ((i + (size_t)arg) % 3)
			learn(key);
		else
			touch(key);
		if (i % 1000 == 0)
			__atomic_store_n(&t.commitupdate, __atomic_load_n(&t.localupdate, __ATOMIC_RELAXED),
			                 __ATOMIC_RELAXED);
	}
	return NULL;
}

/* SHOWS: INV-104 */
START_TEST(stk_10_one_place_each)
{
	unsigned char seen[KEYS] = { 0 };
	unsigned int from = 0, before = 0, n = 0;
	struct stksess *ts;

	start(1);
	taught(0, 1000, 60000);
	on_threads(4, learns_and_changes);
	for (unsigned int key = 0; key < KEYS; key++)
		touch(key);
	turns(5);
	while ((ts = keel_stktable_next_update(&t, from, t.localupdate, &from))) {
		ck_assert_uint_gt(from, before);
		before = from;
		ck_assert_uint_eq(seen[key_of(ts)]++, 0);
		stktable_release(&t, ts);
		n++;
	}
	/* the last touch of each was a local one */
	ck_assert_uint_eq(n, KEYS);
	updates(t.localupdate, t.update + 0x80000000u, 0, NULL);
	for (unsigned int key = 0; key < KEYS; key++)
		ck_assert_int_eq(stksess_kill(&t, stktable_lookup_key(&t, NUM(key)), 1), 1);
	from = 0;
	ck_assert_ptr_null(keel_stktable_next_update(&t, from, t.localupdate, &from));
	done();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_updates");
	TCase *tc = tcase_create("sequence");

	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, local_touches_are_announced, 0, (int)ARRAY(starts));
	tcase_add_loop_test(tc, touched_again, 0, (int)ARRAY(starts));
	tcase_add_loop_test(tc, remote_touches_are_not, 0, (int)ARRAY(starts));
	tcase_add_loop_test(tc, stk_11_and_stk_12_learned_then_changed, 0, (int)ARRAY(starts));
	tcase_add_test(tc, stk_13_the_sequence_goes_round);
	tcase_add_test(tc, without_a_task);
	tcase_add_test(tc, stk_8_and_stk_9_gone_from_the_table_and_the_updates);
	tcase_add_test(tc, stk_5_a_reader_holds_what_it_reads);
	tcase_add_test(tc, stk_10_one_place_each);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
