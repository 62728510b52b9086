/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: tables that cannot be, and those that are not used. */

#include <errno.h>
#include <limits.h>

#include "stick.h"
#include "suite.h"

/* Wanted, and refused for this reason. */
static void refused(struct stktable *t, int reason)
{
	errno = 0;
	ck_assert_int_eq(stktable_init(t), 0);
	ck_assert_int_eq(errno, reason);
}

static const struct wrong {
	unsigned long type;
	size_t key_size;
	unsigned int size;
	int expire;
} wrongs[] = {
	{ 77, 4, 10, 0 },                       /* no such type */
	{ 0, 4, 10, 0 },
	{ SMP_T_SINT, 8, 10, 0 },
	{ SMP_T_IPV4, 16, 10, 0 },
	{ SMP_T_IPV6, 4, 10, 0 },
	{ SMP_T_STR, 1, 10, 0 },                /* room for the NUL alone */
	{ SMP_T_BIN, 0, 10, 0 },
	{ SMP_T_SINT, 4, 10, -1 },
	{ SMP_T_SINT, 4, 10, INT_MIN },
	{ SMP_T_SINT, 4, (1U << 31) + 1, 0 },
	{ SMP_T_SINT, 4, UINT_MAX, 0 },
};

START_TEST(what_cannot_be_is_refused)
{
	const struct wrong *w = &wrongs[_i];
	struct stktable t;

	start(1);
	describe(&t, w->type, w->key_size, w->size, w->expire);
	refused(&t, EINVAL);
	/* nothing was made, so it can be set right */
	describe(&t, SMP_T_SINT, 4, 10, 0);
	ready(&t);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* The largest size that a line may ask for, and a program too. */
START_TEST(two_to_the_31_entries_are_allowed)
{
	struct stktable t, *made;
	char *error = NULL;

	start(1);
	describe(&t, SMP_T_SINT, 4, 1U << 31, 0);
	ready(&t);
	put(&t, NUM(1));
	ck_assert_int_eq(has(&t, NUM(1)), 1);
	stktable_deinit(&t);
	made = keel_stktable_new("large", "type integer size 2g", &error);
	ck_assert_msg(made != NULL, "%s", error);
	ck_assert_uint_eq(made->size, 1U << 31);
	keel_stktable_free(made);
	keel_deinit();
}
END_TEST

START_TEST(once_is_enough)
{
	struct stktable t;

	start(1);
	integers(&t, 10, 5000);
	put(&t, NUM(1));
	refused(&t, EALREADY);
	ck_assert_int_eq(has(&t, NUM(1)), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(expiry_needs_keel)
{
	struct stktable t;

	describe(&t, SMP_T_SINT, 4, 10, 1000);
	refused(&t, EINVAL);
	start(1);
	ready(&t);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* A table of size 0 is there, finds nothing and takes nothing. */
START_TEST(what_is_not_used_is_empty)
{
	struct stktable t, used;
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_SINT, 4, 0, 0);
	ready(&t);
	integers(&used, 10, 0);
	ts = stksess_new(&used, NUM(1));
	ck_assert_ptr_nonnull(ts);
	ck_assert_ptr_null(stktable_lookup_key(&t, NUM(1)));
	ck_assert_ptr_null(stktable_lookup(&t, ts));
	ck_assert_ptr_null(stktable_get_entry(&t, NUM(1)));
	ck_assert_ptr_null(stktable_set_entry(&t, ts));
	ck_assert_ptr_null(stksess_new(&t, NUM(1)));
	ck_assert_int_eq(stksess_kill(&t, ts, 0), 0);
	ck_assert_int_eq(stktable_trash_oldest(&t, 10), 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	ck_assert_ptr_null(stktable_find_by_name(NULL));
	stksess_free(&used, ts);
	stktable_deinit(&used);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick table refusals");
	TCase *tc = tcase_create("refusals");

	tcase_add_loop_test(tc, what_cannot_be_is_refused, 0, (int)(sizeof(wrongs) / sizeof(*wrongs)));
	tcase_add_test(tc, two_to_the_31_entries_are_allowed);
	tcase_add_test(tc, once_is_enough);
	tcase_add_test(tc, expiry_needs_keel);
	tcase_add_test(tc, what_is_not_used_is_empty);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
