/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: tracked counters, stkctr_*. */

#include "stick.h"
#include "suite.h"

static struct stktable t;

/* An entry's data as plain numbers; ~0 where the type is not stored. */
static unsigned long long value(struct stksess *ts, int type)
{
	unsigned long long n = ~0ull;
	void *p;

	stksess_rdlock(ts);
	p = stktable_data_ptr(&t, ts, type);
	if (p) {
		switch (stktable_data_types[type].std_type) {
		case STD_T_UINT:
			n = stktable_data_cast(p, std_t_uint);
			break;
		case STD_T_ULL:
			n = stktable_data_cast(p, std_t_ull);
			break;
		case STD_T_FRQP:
			n = read_freq_ctr_period(p, t.data_arg[type].u);
			break;
		}
	}
	stksess_rdunlock(ts);
	return n;
}

static void store(int type)
{
	int rate = stktable_data_types[type].std_type == STD_T_FRQP;

	/* long enough for nothing to leave the window meanwhile */
	ck_assert_int_eq(stktable_alloc_data_type(&t, type, rate ? "1h" : NULL, NULL), PE_NONE);
}

START_TEST(entry_and_flags_share_a_word)
{
	struct stkctr ctr = { 0, NULL };
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 1000);
	ready(&t);
	ts = get(&t, NUM(1));
	ck_assert_ptr_null(stkctr_entry(&ctr));
	ck_assert_uint_eq(stkctr_flags(&ctr), 0);
	stkctr_set_entry(&ctr, ts);
	ck_assert_ptr_eq(stkctr_entry(&ctr), ts);
	ck_assert_uint_eq(stkctr_flags(&ctr), 0);
	stkctr_set_flags(&ctr, STKCTR_TRACK_CONTENT);
	ck_assert_uint_eq(stkctr_flags(&ctr), 2);
	ck_assert_ptr_eq(stkctr_entry(&ctr), ts);
	stkctr_set_flags(&ctr, STKCTR_TRACK_BACKEND);
	ck_assert_uint_eq(stkctr_flags(&ctr), 3);
	stkctr_clr_flags(&ctr, STKCTR_TRACK_CONTENT);
	ck_assert_uint_eq(stkctr_flags(&ctr), 1);
	ck_assert_ptr_eq(stkctr_entry(&ctr), ts);
	stkctr_set_entry(&ctr, NULL);
	ck_assert_ptr_null(stkctr_entry(&ctr));
	/* setting and asking is not counting */
	ck_assert_uint_eq(refs(ts), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(without_an_entry_nothing_is_counted)
{
	struct stkctr ctr = { 0, NULL };

	start(1);
	for (int table = 0; table < 2; table++) {
		ck_assert_int_eq(stkctr_inc_http_req_ctr(&ctr), 0);
		ck_assert_int_eq(stkctr_inc_http_err_ctr(&ctr), 0);
		ck_assert_int_eq(stkctr_inc_http_fail_ctr(&ctr), 0);
		ck_assert_int_eq(stkctr_inc_bytes_in_ctr(&ctr, 10), 0);
		ck_assert_int_eq(stkctr_inc_bytes_out_ctr(&ctr, 10), 0);
		ck_assert_int_eq(stkctr_add_glitch_ctr(&ctr, 10), 0);
		describe(&t, SMP_T_SINT, 4, 10, 1000);
		ctr.table = &t;
	}
	keel_deinit();
}
END_TEST

static int requests(struct stkctr *ctr, unsigned int n)
{
	int rc = 1;

	for (unsigned int i = 0; i < n; i++)
		rc = stkctr_inc_http_req_ctr(ctr);
	return rc;
}

static int errors(struct stkctr *ctr, unsigned int n)
{
	int rc = 1;

	for (unsigned int i = 0; i < n; i++)
		rc = stkctr_inc_http_err_ctr(ctr);
	return rc;
}

static int failures(struct stkctr *ctr, unsigned int n)
{
	int rc = 1;

	for (unsigned int i = 0; i < n; i++)
		rc = stkctr_inc_http_fail_ctr(ctr);
	return rc;
}

static int bytes_in(struct stkctr *ctr, unsigned int n)
{
	return stkctr_inc_bytes_in_ctr(ctr, n);
}

static int bytes_out(struct stkctr *ctr, unsigned int n)
{
	return stkctr_inc_bytes_out_ctr(ctr, n);
}

static int glitches(struct stkctr *ctr, unsigned int n)
{
	return stkctr_add_glitch_ctr(ctr, n);
}

static const struct {
	int (*count)(struct stkctr *, unsigned int);
	int cnt, rate;
} helpers[] = {
	{ requests, STKTABLE_DT_HTTP_REQ_CNT, STKTABLE_DT_HTTP_REQ_RATE },
	{ errors, STKTABLE_DT_HTTP_ERR_CNT, STKTABLE_DT_HTTP_ERR_RATE },
	{ failures, STKTABLE_DT_HTTP_FAIL_CNT, STKTABLE_DT_HTTP_FAIL_RATE },
	{ bytes_in, STKTABLE_DT_BYTES_IN_CNT, STKTABLE_DT_BYTES_IN_RATE },
	{ bytes_out, STKTABLE_DT_BYTES_OUT_CNT, STKTABLE_DT_BYTES_OUT_RATE },
	{ glitches, STKTABLE_DT_GLITCH_CNT, STKTABLE_DT_GLITCH_RATE },
};

static struct task *nothing(struct task *task, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	return task;
}

/* Each helper bumps its count and its rate, those of them that are stored, and
 * nothing else. STK-55: where it changed something it also touched the entry:
 * the date and the update sequence move; where not, neither does.
 * SHOWS: INV-105 */
START_TEST(stk_55_what_each_helper_changes)
{
	int mix = _i & 3;
	size_t which = (size_t)_i >> 2;
	struct stkctr ctr = { 0, NULL };
	struct stksess *ts;
	unsigned int due, update;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 60000);
	for (size_t i = 0; i < ARRAY(helpers); i++) {
		if (i != which || mix & 1)
			store(helpers[i].cnt);
		if (i != which || mix & 2)
			store(helpers[i].rate);
	}
	ready(&t);
	t.sync_task = task_new_here();
	t.sync_task->process = nothing;
	ts = get(&t, NUM(1));
	stkctr_set_entry(&ctr, ts);
	stkctr_set_flags(&ctr, STKCTR_TRACK_CONTENT);
	ctr.table = &t;
	due = ts->expire;
	update = t.update;
	idle(5);
	ck_assert_int_eq(helpers[which].count(&ctr, 3), 1);
	ck_assert_int_eq(helpers[which].count(&ctr, 4), 1);
	turns(5);
	for (size_t i = 0; i < ARRAY(helpers); i++) {
		unsigned long long n = i == which ? 7 : 0;

		ck_assert_uint_eq(value(ts, helpers[i].cnt), i != which || mix & 1 ? n : ~0ull);
		ck_assert_uint_eq(value(ts, helpers[i].rate), i != which || mix & 2 ? n : ~0ull);
	}
	ck_assert_int_eq(tick_is_lt((int)due, (int)ts->expire), mix != 0);
	ck_assert_int_eq(t.update != update, mix != 0);
	/* the counter's reference is the caller's business */
	ck_assert_uint_eq(refs(ts), 1);
	ck_assert_uint_eq(stkctr_flags(&ctr), STKCTR_TRACK_CONTENT);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* 64 bits of bytes. */
START_TEST(byte_counts_are_wide)
{
	struct stkctr ctr = { 0, NULL };
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 60000);
	store(STKTABLE_DT_BYTES_IN_CNT);
	store(STKTABLE_DT_BYTES_OUT_CNT);
	ready(&t);
	ts = get(&t, NUM(1));
	ctr.table = &t;
	stkctr_set_entry(&ctr, ts);
	for (int i = 0; i < 4; i++) {
		stkctr_inc_bytes_in_ctr(&ctr, 0x80000000u);
		stkctr_inc_bytes_out_ctr(&ctr, 0xffffffffu);
	}
	ck_assert_uint_eq(value(ts, STKTABLE_DT_BYTES_IN_CNT), 0x200000000ull);
	ck_assert_uint_eq(value(ts, STKTABLE_DT_BYTES_OUT_CNT), 0x3fffffffcull);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Several streams track one source, on several threads. */
static void *streams(void *arg)
{
	struct stkctr ctr = { 0, &t };

	for (int i = 0; i < 3000; i++) {
		stkctr_set_entry(&ctr, get(&t, NUM(i % 2)));
		ck_assert_int_eq(stkctr_inc_http_req_ctr(&ctr), 1);
		ck_assert_int_eq(stkctr_inc_bytes_in_ctr(&ctr, 100 + (unsigned int)(size_t)arg), 1);
		stktable_release(&t, stkctr_entry(&ctr));
	}
	return NULL;
}

START_TEST(streams_on_several_threads)
{
	unsigned long long reqs = 0, bytes = 0;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 60000);
	store(STKTABLE_DT_HTTP_REQ_CNT);
	store(STKTABLE_DT_HTTP_REQ_RATE);
	store(STKTABLE_DT_BYTES_IN_CNT);
	ready(&t);
	on_threads(4, streams);
	for (int i = 0; i < 2; i++) {
		struct stksess *ts = stktable_lookup_key(&t, NUM(i));

		ck_assert_ptr_nonnull(ts);
		ck_assert_uint_eq(refs(ts), 1);
		ck_assert_uint_eq(value(ts, STKTABLE_DT_HTTP_REQ_RATE), value(ts, STKTABLE_DT_HTTP_REQ_CNT));
		reqs += value(ts, STKTABLE_DT_HTTP_REQ_CNT);
		bytes += value(ts, STKTABLE_DT_BYTES_IN_CNT);
		stktable_release(&t, ts);
	}
	ck_assert_uint_eq(reqs, 12000);
	ck_assert_uint_eq(bytes, 3000u * (100 + 101 + 102 + 103));
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_ctr");
	TCase *tc = tcase_create("stkctr");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, entry_and_flags_share_a_word);
	tcase_add_test(tc, without_an_entry_nothing_is_counted);
	tcase_add_loop_test(tc, stk_55_what_each_helper_changes, 0, (int)ARRAY(helpers) * 4);
	tcase_add_test(tc, byte_counts_are_wide);
	tcase_add_test(tc, streams_on_several_threads);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
