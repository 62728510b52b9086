/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: what is refused with a panic. */

#include "../api/panic.h"
#include "../api/stick.h"
#include "../api/suite.h"

static struct stktable t;

static void begin(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 1;
	cfg.maxsock = 64;
	cfg.panic = hear_panic;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	integers(&t, 10, 60000);
}

static const char too_often[] = "more often than it was taken";

START_TEST(a_release_too_many)
{
	struct stksess *ts;

	begin();
	ts = get(&t, NUM(1));
	stktable_release(&t, ts);
	expect_panic(too_often, NULL, NULL);
	stktable_release(&t, ts);
}
END_TEST

/* By whatever gives a reference back.
 * SHOWS: INV-92 */
START_TEST(a_reference_given_back_twice)
{
	struct stksess *ts;

	begin();
	ts = get(&t, NUM(1));
	stktable_release(&t, ts);
	expect_panic(too_often, NULL, NULL);
	switch (_i) {
	case 0:
		stktable_touch_local(&t, ts, 1);
		break;
	case 1:
		stktable_touch_remote(&t, ts, 1);
		break;
	case 2:
		stktable_touch_with_exp(&t, ts, 1, date(100));
		break;
	case 3:
		stksess_kill(&t, ts, 1);
		break;
	case 4:
		stksess_kill_if_expired(&t, ts, 1);
		break;
	}
}
END_TEST

START_TEST(freeing_a_stored_entry)
{
	struct stksess *ts;

	begin();
	ts = get(&t, NUM(1));
	stktable_release(&t, ts);
	expect_panic("stksess_free", "stored", NULL);
	stksess_free(&t, ts);
}
END_TEST

/* STK-41: tables that peers use are not freed under them.
 * SHOWS: INV-113 */
START_TEST(stk_41_freeing_a_table_in_use)
{
	begin();
	t.refcnt = 1;
	expect_panic("stktable_deinit", "refcnt", NULL);
	stktable_deinit(&t);
}
END_TEST

START_TEST(stk_41_freeing_a_made_table_in_use)
{
	struct stktable *made;
	char *err = NULL;

	begin();
	made = keel_stktable_new("made", "type ip size 10 expire 1s", &err);
	made->refcnt = 1;
	expect_panic("keel_stktable_free", "refcnt", NULL);
	keel_stktable_free(made);
}
END_TEST

START_TEST(each_table_has_one_end)
{
	char *err = NULL;

	begin();
	if (_i) {
		expect_panic("keel_stktable_free", "keel_stktable_new", NULL);
		keel_stktable_free(&t);
	} else {
		struct stktable *made = keel_stktable_new("made", "type ip size 10 expire 1s", &err);

		expect_panic("stktable_deinit", "keel_stktable_free", NULL);
		stktable_deinit(made);
	}
}
END_TEST

/* Each panic names the function and what it lacks. */
START_TEST(no_table_no_entry)
{
	static const struct {
		const char *function, *object;
	} all[] = {
		{ "stktable_init", "table" }, { "stktable_deinit", "table" }, { "stktable_lookup_key", "table" },
		{ "stktable_get_entry", "table" }, { "stksess_new", "table" }, { "stktable_data_ptr", "table" },
		{ "stktable_alloc_data_type", "table" }, { "stksess_wrlock", "entry" }, { "stksess_rdunlock", "entry" },
		{ "stktable_set_entry", "entry" }, { "stksess_kill", "entry" }, { "stktable_touch_local", "entry" },
	};
	struct stksess *ts;

	begin();
	ts = get(&t, NUM(1));
	expect_panic(all[_i].function, all[_i].object, "NULL");
	switch (_i) {
	case 0:
		stktable_init(NULL);
		break;
	case 1:
		stktable_deinit(NULL);
		break;
	case 2:
		stktable_lookup_key(NULL, NUM(1));
		break;
	case 3:
		stktable_get_entry(NULL, NUM(1));
		break;
	case 4:
		stksess_new(NULL, NUM(1));
		break;
	case 5:
		stktable_data_ptr(NULL, ts, STKTABLE_DT_GPC0);
		break;
	case 6:
		stktable_alloc_data_type(NULL, STKTABLE_DT_GPC0, NULL, NULL);
		break;
	case 7:
		stksess_wrlock(NULL);
		break;
	case 8:
		stksess_rdunlock(NULL);
		break;
	case 9:
		stktable_set_entry(&t, NULL);
		break;
	case 10:
		stksess_kill(&t, NULL, 1);
		break;
	case 11:
		stktable_touch_local(&t, NULL, 1);
		break;
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_table");
	TCase *tc = tcase_create("panics");

	tcase_add_exit_test(tc, a_release_too_many, AS_EXPECTED);
	tcase_add_loop_exit_test(tc, a_reference_given_back_twice, AS_EXPECTED, 0, 5);
	tcase_add_exit_test(tc, freeing_a_stored_entry, AS_EXPECTED);
	tcase_add_exit_test(tc, stk_41_freeing_a_table_in_use, AS_EXPECTED);
	tcase_add_exit_test(tc, stk_41_freeing_a_made_table_in_use, AS_EXPECTED);
	tcase_add_loop_exit_test(tc, each_table_has_one_end, AS_EXPECTED, 0, 2);
	tcase_add_loop_exit_test(tc, no_table_no_entry, AS_EXPECTED, 0, 12);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
