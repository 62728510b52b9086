/* Ticks: dates that wrap, and 0 for none. */
#include <keel/keel.h>

#include <check.h>
#include <limits.h>
#include <stdlib.h>

#include "suite.h"

START_TEST(adding_never_answers_eternity)
{
    ck_assert_int_eq(tick_add(5, 10), 15);
    ck_assert_int_eq(tick_add(-10, 10), 1);
    ck_assert_int_eq(tick_add(0, 0), 1);
    ck_assert_int_eq(tick_add(7, 0), 7);
    ck_assert_int_eq(tick_add_ifset(7, TICK_ETERNITY), TICK_ETERNITY);
    ck_assert_int_eq(tick_add_ifset(-10, 10), 1);
}
END_TEST

START_TEST(dates_wrap)
{
    int before = INT_MAX, after = tick_add(INT_MAX, 1);

    ck_assert_int_eq(after, INT_MIN);
    ck_assert(tick_is_lt(before, after));
    ck_assert(!tick_is_lt(after, before));
    ck_assert(!tick_is_lt(before, before));
    ck_assert(tick_is_le(before, before));
    ck_assert(tick_is_lt(-1, 1));
    ck_assert_int_eq(tick_remain(before, after), 1);
    ck_assert_int_eq(tick_remain(after, before), 0);
}
END_TEST

START_TEST(equal_counts_as_expired)
{
    ck_assert(tick_is_expired(5, 5));
    ck_assert(tick_is_expired(5, 6));
    ck_assert(!tick_is_expired(6, 5));
    ck_assert(!tick_is_expired(TICK_ETERNITY, 5));
    ck_assert_int_eq(tick_remain(5, 5), 0);
}
END_TEST

START_TEST(first_ignores_what_is_not_set)
{
    ck_assert_int_eq(tick_first(3, 4), 3);
    ck_assert_int_eq(tick_first(4, 3), 3);
    ck_assert_int_eq(tick_first(TICK_ETERNITY, 4), 4);
    ck_assert_int_eq(tick_first(4, TICK_ETERNITY), 4);
    ck_assert_int_eq(tick_first(TICK_ETERNITY, TICK_ETERNITY), TICK_ETERNITY);
    ck_assert_int_eq(tick_first(INT_MAX, INT_MIN), INT_MAX);
    ck_assert_int_eq(tick_first_2nz(TICK_ETERNITY, -4), -4);
    ck_assert_int_eq(tick_first_2nz(-5, -4), -5);
    ck_assert(tick_isset(1) && tick_isset(-1) && !tick_isset(TICK_ETERNITY));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ticks");
    TCase *tests = tcase_create("ticks");

    tcase_add_test(tests, adding_never_answers_eternity);
    tcase_add_test(tests, dates_wrap);
    tcase_add_test(tests, equal_counts_as_expired);
    tcase_add_test(tests, first_ignores_what_is_not_set);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
