/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: types and data, tables, names, keys. */

#include <arpa/inet.h>
#include <stdlib.h>

#include "stick.h"
#include "suite.h"

/* --- constants and catalogues ----------------------------------------------- */

START_TEST(the_numbers_are_haproxys)
{
	ck_assert_int_eq(SMP_T_SINT, 2);
	ck_assert_int_eq(SMP_T_IPV4, 4);
	ck_assert_int_eq(SMP_T_IPV6, 5);
	ck_assert_int_eq(SMP_T_STR, 6);
	ck_assert_int_eq(SMP_T_BIN, 7);
	ck_assert_int_eq(STKTABLE_STATIC_DATA_TYPES, 27);
	ck_assert_int_eq(STKTABLE_EXTRA_DATA_TYPES, 16);
	ck_assert_int_eq(STKTABLE_DATA_TYPES, 43);
	ck_assert_int_eq(STD_T_SINT, 0);
	ck_assert_int_eq(STD_T_UINT, 1);
	ck_assert_int_eq(STD_T_ULL, 2);
	ck_assert_int_eq(STD_T_FRQP, 3);
	ck_assert_int_eq(STD_T_DICT, 4);
	ck_assert_int_eq(ARG_T_NONE, 0);
	ck_assert_int_eq(ARG_T_INT, 1);
	ck_assert_int_eq(ARG_T_DELAY, 2);
	ck_assert_int_eq(PE_NONE, 0);
	ck_assert_int_eq(PE_ENUM_OOR, 1);
	ck_assert_int_eq(PE_EXIST, 2);
	ck_assert_int_eq(PE_ARG_MISSING, 3);
	ck_assert_int_eq(PE_ARG_NOT_USED, 4);
	ck_assert_int_eq(PE_ARG_INVC, 5);
	ck_assert_int_eq(PE_ARG_VALUE_OOR, 8);
	ck_assert_int_eq(stktable_type_size(STD_T_SINT), 4);
	ck_assert_int_eq(stktable_type_size(STD_T_UINT), 4);
	ck_assert_int_eq(stktable_type_size(STD_T_ULL), 8);
	ck_assert_int_eq(stktable_type_size(STD_T_FRQP), 12);
	ck_assert_int_eq(stktable_type_size(STD_T_DICT), (int)sizeof(void *));
	ck_assert_int_eq(stktable_type_size(5), 0);
	ck_assert_int_eq(stktable_type_size(-1), 0);
	ck_assert_uint_eq(sizeof(struct freq_ctr), 12);
}
END_TEST

/* The order is ABI. */
static const struct {
	int index;
	const char *name;
	int std_type, arg_type, is_array, is_local;
} catalogue[] = {
	{ STKTABLE_DT_SERVER_ID, "server_id", STD_T_SINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_GPT0, "gpt0", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_GPC0, "gpc0", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_GPC0_RATE, "gpc0_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_CONN_CNT, "conn_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_CONN_RATE, "conn_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_CONN_CUR, "conn_cur", STD_T_UINT, ARG_T_NONE, 0, 1 },
	{ STKTABLE_DT_SESS_CNT, "sess_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_SESS_RATE, "sess_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_HTTP_REQ_CNT, "http_req_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_HTTP_REQ_RATE, "http_req_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_HTTP_ERR_CNT, "http_err_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_HTTP_ERR_RATE, "http_err_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_BYTES_IN_CNT, "bytes_in_cnt", STD_T_ULL, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_BYTES_IN_RATE, "bytes_in_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_BYTES_OUT_CNT, "bytes_out_cnt", STD_T_ULL, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_BYTES_OUT_RATE, "bytes_out_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_GPC1, "gpc1", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_GPC1_RATE, "gpc1_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_SERVER_KEY, "server_key", STD_T_DICT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_HTTP_FAIL_CNT, "http_fail_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_HTTP_FAIL_RATE, "http_fail_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
	{ STKTABLE_DT_GPT, "gpt", STD_T_UINT, ARG_T_NONE, 1, 0 },
	{ STKTABLE_DT_GPC, "gpc", STD_T_UINT, ARG_T_NONE, 1, 0 },
	{ STKTABLE_DT_GPC_RATE, "gpc_rate", STD_T_FRQP, ARG_T_DELAY, 1, 0 },
	{ STKTABLE_DT_GLITCH_CNT, "glitch_cnt", STD_T_UINT, ARG_T_NONE, 0, 0 },
	{ STKTABLE_DT_GLITCH_RATE, "glitch_rate", STD_T_FRQP, ARG_T_DELAY, 0, 0 },
};

START_TEST(the_catalogue_of_data_types)
{
	ck_assert_uint_eq(ARRAY(catalogue), STKTABLE_STATIC_DATA_TYPES);
	for (int i = 0; i < STKTABLE_STATIC_DATA_TYPES; i++) {
		ck_assert_int_eq(catalogue[i].index, i);
		ck_assert_str_eq(stktable_data_types[i].name, catalogue[i].name);
		ck_assert_int_eq(stktable_data_types[i].std_type, catalogue[i].std_type);
		ck_assert_int_eq(stktable_data_types[i].arg_type, catalogue[i].arg_type);
		ck_assert_int_eq(stktable_data_types[i].is_array, catalogue[i].is_array);
		ck_assert_int_eq(stktable_data_types[i].is_local, catalogue[i].is_local);
		ck_assert_int_eq(stktable_get_data_type(catalogue[i].name), i);
	}
	for (int i = STKTABLE_STATIC_DATA_TYPES; i < STKTABLE_DATA_TYPES; i++)
		ck_assert_ptr_null(stktable_data_types[i].name);
	ck_assert_int_eq(stktable_get_data_type("server_name"), STKTABLE_DT_SERVER_KEY);
	ck_assert_int_eq(stktable_get_data_type("gpc"), STKTABLE_DT_GPC);
	ck_assert_int_eq(stktable_get_data_type("gp"), -1);
	ck_assert_int_eq(stktable_get_data_type("gpc00"), -1);
	ck_assert_int_eq(stktable_get_data_type(""), -1);
}
END_TEST

START_TEST(the_catalogue_of_key_types)
{
	static const struct {
		int type;
		const char *word;
		size_t size;
		int custom;
	} types[] = {
		{ SMP_T_SINT, "integer", 4, 0 },
		{ SMP_T_IPV4, "ip", 4, 0 },
		{ SMP_T_IPV6, "ipv6", 16, 0 },
		{ SMP_T_STR, "string", 32, 1 },
		{ SMP_T_BIN, "binary", 32, 1 },
	};

	for (size_t i = 0; i < ARRAY(types); i++) {
		const struct stktable_type *type = &stktable_types[types[i].type];

		ck_assert_str_eq(type->kw, types[i].word);
		ck_assert_uint_eq(type->default_size, types[i].size);
		ck_assert_int_eq(type->flags & STK_F_CUSTOM_KEYSIZE, types[i].custom);
	}
}
END_TEST

START_TEST(words_of_key_types)
{
	static const struct {
		const char *words[4];
		unsigned long type;
		size_t key_size;
		int taken;
	} good[] = {
		{ { "integer", "" }, SMP_T_SINT, 4, 1 },
		{ { "ip", "size" }, SMP_T_IPV4, 4, 1 },
		{ { "ipv4", "" }, SMP_T_IPV4, 4, 1 },
		{ { "ipv6", "" }, SMP_T_IPV6, 16, 1 },
		{ { "string", "" }, SMP_T_STR, 32, 1 },
		{ { "string", "len", "64", "" }, SMP_T_STR, 65, 3 },
		{ { "string", "size", "64", "" }, SMP_T_STR, 32, 1 },
		{ { "binary", "" }, SMP_T_BIN, 32, 1 },
		{ { "binary", "len", "20", "" }, SMP_T_BIN, 20, 3 },
	};
	static const char *const bad[][4] = {
		{ "", "" }, { "str", "" }, { "integers", "" }, { "string", "len", "" }, { "string", "len", "0", "" },
		{ "string", "len", "x", "" }, { "binary", "len", "-3", "" }, { "string", "len", "9x", "" },
	};

	for (size_t i = 0; i < ARRAY(good); i++) {
		/* a word before it, and an end as HAProxy's */
		char *args[6] = { "type" };
		unsigned long type = 99;
		size_t key_size = 99;
		int at = 1;

		for (int w = 0; w < 4; w++)
			args[w + 1] = good[i].words[w] ? (char *)good[i].words[w] : "";
		args[5] = "";
		ck_assert_int_eq(stktable_parse_type(args, &at, &type, &key_size), 0);
		ck_assert_uint_eq(type, good[i].type);
		ck_assert_uint_eq(key_size, good[i].key_size);
		ck_assert_int_eq(at, 1 + good[i].taken);
	}
	for (size_t i = 0; i < ARRAY(bad); i++) {
		char *args[5] = { "", "", "", "", "" };
		unsigned long type;
		size_t key_size;
		int at = 0;

		for (int w = 0; w < 4; w++)
			if (bad[i][w])
				args[w] = (char *)bad[i][w];
		ck_assert_int_eq(stktable_parse_type(args, &at, &type, &key_size), 1);
	}
}
END_TEST

/* --- data -------------------------------------------------------------------- */

START_TEST(what_a_data_type_takes)
{
	struct stktable t;
	static const struct {
		int type;
		const char *sa, *sa2;
		int result;
	} tries[] = {
		{ -1, NULL, NULL, PE_ENUM_OOR },
		{ STKTABLE_DATA_TYPES, NULL, NULL, PE_ENUM_OOR },
		{ STKTABLE_STATIC_DATA_TYPES, NULL, NULL, PE_ENUM_OOR },
		{ STKTABLE_DT_GPC0, "5", NULL, PE_ARG_NOT_USED },
		{ STKTABLE_DT_GPC0, NULL, NULL, PE_NONE },
		{ STKTABLE_DT_GPC0, NULL, NULL, PE_EXIST },
		{ STKTABLE_DT_CONN_RATE, NULL, NULL, PE_ARG_MISSING },
		{ STKTABLE_DT_CONN_RATE, "", NULL, PE_ARG_MISSING },
		{ STKTABLE_DT_CONN_RATE, "fast", NULL, PE_ARG_INVC },
		{ STKTABLE_DT_CONN_RATE, "10x", NULL, PE_ARG_INVC },
		{ STKTABLE_DT_CONN_RATE, "10s", NULL, PE_NONE },
		{ STKTABLE_DT_CONN_RATE, "10s", NULL, PE_EXIST },
		{ STKTABLE_DT_SESS_RATE, "1500", NULL, PE_NONE },
		{ STKTABLE_DT_GPT, NULL, NULL, PE_ARG_MISSING },
		{ STKTABLE_DT_GPT, "x", NULL, PE_ARG_INVC },
		{ STKTABLE_DT_GPT, "0", NULL, PE_ARG_VALUE_OOR },
		{ STKTABLE_DT_GPT, "101", NULL, PE_ARG_VALUE_OOR },
		{ STKTABLE_DT_GPT, "3", "5", PE_ARG_NOT_USED },
		{ STKTABLE_DT_GPT, "100", NULL, PE_NONE },
		{ STKTABLE_DT_GPC_RATE, "4", NULL, PE_ARG_MISSING },
		{ STKTABLE_DT_GPC_RATE, "4", "1m", PE_NONE },
		{ STKTABLE_DT_GPC_RATE, "4", "1m", PE_EXIST },
	};

	describe(&t, SMP_T_SINT, 4, 10, 0);
	for (size_t i = 0; i < ARRAY(tries); i++) {
		int size = t.data_size;
		int result = stktable_alloc_data_type(&t, tries[i].type, tries[i].sa, tries[i].sa2);

		ck_assert_msg(result == tries[i].result, "try %zu: %d, not %d", i, result, tries[i].result);
		if (result != PE_NONE)
			ck_assert_int_eq((int)t.data_size, size);
	}
	ck_assert_uint_eq(t.data_nbelem[STKTABLE_DT_GPC0], 1);
	ck_assert_uint_eq(t.data_nbelem[STKTABLE_DT_GPT], 100);
	ck_assert_uint_eq(t.data_nbelem[STKTABLE_DT_GPC_RATE], 4);
	ck_assert_uint_eq(t.data_nbelem[STKTABLE_DT_GPC], 0);
	ck_assert_uint_eq(t.data_arg[STKTABLE_DT_CONN_RATE].u, 10000);
	ck_assert_uint_eq(t.data_arg[STKTABLE_DT_SESS_RATE].u, 1500);
	ck_assert_uint_eq(t.data_arg[STKTABLE_DT_GPC_RATE].u, 60000);
	/* 4 + 12 + 12 + 400 + 48; each type begins where all of them end so far */
	ck_assert_int_eq((int)t.data_size, 476);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_GPC0], -4);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_CONN_RATE], -16);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_SESS_RATE], -28);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_GPT], -428);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_GPC_RATE], -476);
	ck_assert_int_eq(t.data_ofs[STKTABLE_DT_GPC], 0);
}
END_TEST

/* Whatever is stored, entries lie straight, and no datum over another one or
 * over the key. STK-31 and STK-37: the mixes that made addresses odd.
 * SHOWS: INV-107 */
START_TEST(stk_31_and_stk_37_where_data_lie)
{
	static const struct {
		unsigned long type;
		size_t key_size;
	} keys[] = { { SMP_T_SINT, 4 }, { SMP_T_IPV6, 16 }, { SMP_T_STR, 6 }, { SMP_T_BIN, 1 }, { SMP_T_BIN, 13 } };
	struct stktable t;
	struct stksess *ts[40];
	unsigned char key[16], expected[16];

	start(1);
	for (unsigned int mix = 0; mix < 64; mix++) {
		describe(&t, keys[mix % ARRAY(keys)].type, keys[mix % ARRAY(keys)].key_size, 40, 1000);
		if (mix & 1)
			stktable_alloc_data_type(&t, STKTABLE_DT_SERVER_ID, NULL, NULL);
		if (mix & 2)
			stktable_alloc_data_type(&t, STKTABLE_DT_BYTES_IN_CNT, NULL, NULL);
		if (mix & 4)
			stktable_alloc_data_type(&t, STKTABLE_DT_CONN_RATE, "1s", NULL);
		if (mix & 8)
			stktable_alloc_data_type(&t, STKTABLE_DT_GPC, "7", NULL);
		if (mix & 16)
			stktable_alloc_data_type(&t, STKTABLE_DT_BYTES_OUT_CNT, NULL, NULL);
		if (mix & 32)
			stktable_alloc_data_type(&t, STKTABLE_DT_GPC_RATE, "3", "1s");
		ready(&t);
		ck_assert_uint_ge(keel_stktable_cost(&t), (size_t)t.data_size + t.key_size);
		for (unsigned int i = 0; i < ARRAY(ts); i++) {
			memset(key, 'a', sizeof(key));
			key[0] = (unsigned char)(i + 1);
			ts[i] = get(&t, KEY(key, t.key_size));
			ck_assert_uint_eq((uintptr_t)ts[i] % sizeof(void *), 0);
			for (int type = 0; type < STKTABLE_DATA_TYPES; type++) {
				for (unsigned int e = 0; e < t.data_nbelem[type]; e++) {
					size_t size = (size_t)stktable_type_size(stktable_data_types[type].std_type);
					unsigned char *p = stktable_data_ptr_idx(&t, ts[i], type, e);

					ck_assert_ptr_eq(p, (unsigned char *)ts[i] + t.data_ofs[type] + e * size);
					ck_assert_uint_eq((uintptr_t)p % 4, 0);
					for (size_t b = 0; b < size; b++)
						ck_assert_uint_eq(p[b], 0);
					memset(p, (int)(i * 5 + (unsigned int)type * 3 + e + 1), size);
				}
			}
		}
		for (unsigned int i = 0; i < ARRAY(ts); i++) {
			memset(expected, 'a', sizeof(expected));
			expected[0] = (unsigned char)(i + 1);
			if (t.type == SMP_T_STR)
				expected[t.key_size - 1] = '\0';
			ck_assert_mem_eq(keel_stksess_key(ts[i]), expected, t.key_size);
			ck_assert_uint_eq(refs(ts[i]), 1);
			for (int type = 0; type < STKTABLE_DATA_TYPES; type++) {
				for (unsigned int e = 0; e < t.data_nbelem[type]; e++) {
					size_t size = (size_t)stktable_type_size(stktable_data_types[type].std_type);
					unsigned char *p = stktable_data_ptr_idx(&t, ts[i], type, e);

					for (size_t b = 0; b < size; b++)
						ck_assert_uint_eq(p[b], (unsigned char)(i * 5 + (unsigned int)type * 3 +
						                                        e + 1));
				}
			}
			ck_assert_int_eq(stksess_kill(&t, ts[i], 1), 1);
		}
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* SHOWS: INV-111 */
START_TEST(stk_42_no_datum_beyond_the_bounds)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 1000);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC, "3", NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPT, "100", NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_CNT, NULL, NULL);
	ready(&t);
	ts = get(&t, NUM(1));
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, i));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, 3));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, 99));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, ~0U));
	ck_assert_ptr_nonnull(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPT, 99));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPT, 100));
	/* what is no array has one element */
	ck_assert_ptr_nonnull(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_CONN_CNT, 0));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, ts, STKTABLE_DT_CONN_CNT, 1));
	ck_assert_ptr_eq(stktable_data_ptr(&t, ts, STKTABLE_DT_GPC),
	                 stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, 0));
	/* gpc0 is never taken from the array */
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_DT_GPC0));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_DT_GPT0));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_RATE));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, -1));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_DATA_TYPES));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, STKTABLE_STATIC_DATA_TYPES));
	ck_assert_ptr_null(stktable_data_ptr(&t, ts, 1 << 30));
	ck_assert_ptr_null(stktable_data_ptr(&t, NULL, STKTABLE_DT_GPC));
	ck_assert_ptr_null(stktable_data_ptr_idx(&t, NULL, STKTABLE_DT_GPC, 0));
	stktable_release(&t, ts);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(data_by_their_standard_types)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 1000);
	stktable_alloc_data_type(&t, STKTABLE_DT_SERVER_ID, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_BYTES_IN_CNT, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_RATE, "1s", NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_CNT, NULL, NULL);
	ready(&t);
	ts = get(&t, NUM(1));
	stksess_wrlock(ts);
	stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_SERVER_ID), std_t_sint) = -7;
	stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_BYTES_IN_CNT), std_t_ull) = 1ull << 40;
	stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_CNT), std_t_uint)++;
	update_freq_ctr_period(&stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_RATE), std_t_frqp),
	                       t.data_arg[STKTABLE_DT_CONN_RATE].u, 3);
	stksess_wrunlock(ts);
	stktable_release(&t, ts);
	ts = stktable_lookup_key(&t, NUM(1));
	stksess_rdlock(ts);
	ck_assert_int_eq(stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_SERVER_ID), std_t_sint), -7);
	ck_assert_uint_eq(stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_BYTES_IN_CNT), std_t_ull),
	                  1ull << 40);
	ck_assert_uint_eq(stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_CNT), std_t_uint), 1);
	ck_assert_uint_eq(read_freq_ctr_period(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_RATE), 1000), 3);
	stksess_rdunlock(ts);
	stktable_release(&t, ts);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(types_of_the_programs_own)
{
	static char names[STKTABLE_EXTRA_DATA_TYPES][16];
	const int first = STKTABLE_STATIC_DATA_TYPES;
	struct stktable t;
	struct stksess *ts;
	unsigned long long *p;

	start(1);
	ck_assert_int_eq(stktable_register_data_store(STKTABLE_DT_GPC0, "x", STD_T_UINT, ARG_T_NONE), -1);
	ck_assert_int_eq(stktable_register_data_store(STKTABLE_DATA_TYPES, "x", STD_T_UINT, ARG_T_NONE), -1);
	ck_assert_int_eq(stktable_register_data_store(first + 1, "second", STD_T_UINT, ARG_T_INT), first + 1);
	ck_assert_int_eq(stktable_register_data_store(first + 1, "x", STD_T_UINT, ARG_T_NONE), -1);
	/* the first that is free, and then the next one */
	strcpy(names[0], "first");
	ck_assert_int_eq(stktable_register_data_store(-1, names[0], STD_T_ULL, ARG_T_NONE), first);
	ck_assert_int_eq(stktable_register_data_store(-1, "third", STD_T_FRQP, ARG_T_DELAY), first + 2);
	ck_assert_ptr_eq(stktable_data_types[first].name, names[0]);
	ck_assert_int_eq(stktable_data_types[first + 1].arg_type, ARG_T_INT);
	ck_assert_int_eq(stktable_get_data_type("first"), first);
	ck_assert_int_eq(stktable_get_data_type("third"), first + 2);
	describe(&t, SMP_T_SINT, 4, 10, 0);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first, NULL, NULL), PE_NONE);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first, NULL, NULL), PE_EXIST);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first + 1, NULL, NULL), PE_ARG_MISSING);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first + 1, "42", NULL), PE_NONE);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first + 2, "5s", NULL), PE_NONE);
	ck_assert_int_eq(stktable_alloc_data_type(&t, first + 3, NULL, NULL), PE_ENUM_OOR);
	ck_assert_int_eq(t.data_arg[first + 1].i, 42);
	ck_assert_uint_eq(t.data_arg[first + 2].u, 5000);
	ready(&t);
	ts = get(&t, NUM(1));
	p = stktable_data_ptr(&t, ts, first);
	ck_assert_ptr_nonnull(p);
	stktable_data_cast(p, std_t_ull) += 1ull << 33;
	ck_assert_uint_eq(*counter(&t, ts, first + 1), 0);
	stktable_release(&t, ts);
	stktable_deinit(&t);
	for (int i = 3; i < STKTABLE_EXTRA_DATA_TYPES; i++) {
		snprintf(names[i], sizeof(names[i]), "extra%d", i);
		ck_assert_int_eq(stktable_register_data_store(-1, names[i], STD_T_SINT, ARG_T_NONE), first + i);
	}
	ck_assert_int_eq(stktable_register_data_store(-1, "x", STD_T_SINT, ARG_T_NONE), -1);
	keel_deinit();
}
END_TEST

/* --- tables ------------------------------------------------------------------ */

START_TEST(a_table_filled_in_by_hand)
{
	struct stktable t;

	start(1);
	describe(&t, SMP_T_IPV4, 4, 100, 5000);
	ready(&t);
	ck_assert_uint_eq(t.current, 0);
	ck_assert_ptr_nonnull(t.exp_task);
	ck_assert_ptr_null(t.sync_task);
	ck_assert_uint_eq(t.data_size, 0);
	put(&t, NUM(htonl(0x0a000001)));
	ck_assert_uint_eq(t.current, 1);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stktable_deinit(&t);
	/* no task where nothing expires */
	describe(&t, SMP_T_IPV6, 16, 100, 0);
	ready(&t);
	ck_assert_ptr_null(t.exp_task);
	stktable_deinit(&t);
	/* no table at all */
	describe(&t, SMP_T_STR, 32, 0, 1000);
	ready(&t);
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(tables_by_name)
{
	struct stktable a, b, *c, *nameless, *t;
	char *err = NULL;
	int seen = 0;

	start(1);
	describe(&a, SMP_T_SINT, 4, 10, 0);
	a.id = "first";
	ready(&a);
	ck_assert_ptr_null(stktable_find_by_name("first"));
	stktable_store_name(&a);
	describe(&b, SMP_T_SINT, 4, 10, 0);
	b.id = "second";
	ready(&b);
	stktable_store_name(&b);
	c = keel_stktable_new("third", "type ip size 10 expire 1s", &err);
	ck_assert_ptr_nonnull(c);
	nameless = keel_stktable_new(NULL, "type ip size 10 expire 1s", &err);
	ck_assert_ptr_nonnull(nameless);
	ck_assert_ptr_eq(stktable_find_by_name("first"), &a);
	ck_assert_ptr_eq(stktable_find_by_name("second"), &b);
	ck_assert_ptr_eq(stktable_find_by_name("third"), c);
	ck_assert_ptr_null(stktable_find_by_name("fourth"));
	ck_assert_ptr_null(stktable_find_by_name("firs"));
	ck_assert_ptr_null(stktable_find_by_name(""));
	/* the program's own list: those made by hand are not in it by themselves */
	for (t = stktables_list; t; t = t->next)
		seen += t == c || t == nameless ? 1 : 100;
	ck_assert_int_eq(seen, 2);
	err = NULL;
	ck_assert_ptr_null(keel_stktable_new("second", "type ip size 10 expire 1s", &err));
	ck_assert_ptr_nonnull(err);
	ck_assert_uint_gt(strlen(err), 0);
	free(err);
	keel_stktable_free(c);
	ck_assert_ptr_null(stktable_find_by_name("third"));
	err = NULL;
	c = keel_stktable_new("third", "type ip size 10 expire 1s", &err);
	ck_assert_ptr_nonnull(c);
	stktable_deinit(&a);
	ck_assert_ptr_null(stktable_find_by_name("first"));
	ck_assert_ptr_eq(stktable_find_by_name("second"), &b);
	stktable_deinit(&b);
	keel_stktable_free(c);
	keel_stktable_free(nameless);
	keel_stktable_free(NULL);
	ck_assert_ptr_null(stktables_list);
	keel_deinit();
}
END_TEST

START_TEST(a_table_from_a_line)
{
	struct stktable *t;
	char *err = NULL;
	static const char *const bad[] = {
		"", "type ip", "type ip size 0", "type ip size 1m bogus", "type ip size 1m store gpc0,gpc0",
		"type ip size 1m peers mine", "type ip size 1m expire", "type ip size 1m store conn_rate",
	};

	start(1);
	t = keel_stktable_new("lines", "type string len 40 size 1k expire 30s nopurge "
	                      "store conn_cnt,conn_rate(10s),gpc(4)", &err);
	ck_assert_msg(t != NULL, "%s", err);
	ck_assert_str_eq(t->id, "lines");
	ck_assert_uint_eq(t->type, SMP_T_STR);
	ck_assert_uint_eq(t->key_size, 41);
	ck_assert_uint_eq(t->size, 1024);
	ck_assert_int_eq(t->expire, 30000);
	ck_assert_int_ne(t->nopurge, 0);
	ck_assert_uint_eq(t->data_arg[STKTABLE_DT_CONN_RATE].u, 10000);
	ck_assert_uint_eq(t->data_nbelem[STKTABLE_DT_GPC], 4);
	put(t, STR("somebody"));
	ck_assert_int_ne(has(t, STR("somebody")), 0);
	keel_stktable_free(t);
	for (size_t i = 0; i < ARRAY(bad); i++) {
		err = NULL;
		ck_assert_msg(!keel_stktable_new("bad", bad[i], &err), "accepted: %s", bad[i]);
		ck_assert_ptr_nonnull(err);
		ck_assert_uint_gt(strlen(err), 0);
		free(err);
		ck_assert_ptr_null(stktable_find_by_name("bad"));
	}
	keel_deinit();
}
END_TEST

/* STK-56: the expiry task goes with its table. */
START_TEST(stk_56_tables_come_and_go)
{
	struct stktable t;
	int tasks;

	start(1);
	turns(3);
	tasks = total_allocated_tasks();
	for (int i = 0; i < 50; i++) {
		integers(&t, 10, i % 3 ? 10 : 60000);
		for (int n = 0; n < i % 4; n++)
			put(&t, NUM(n));
		if (i % 5 == 0)
			pass(1);
		stktable_deinit(&t);
	}
	turns(5);
	ck_assert_int_eq(total_allocated_tasks(), tasks);
	keel_deinit();
}
END_TEST

/* The checkers see whatever it leaves behind. */
START_TEST(deinit_frees_the_tables_that_are_left)
{
	struct stktable *t;
	char *err = NULL;

	for (int round = 0; round < 2; round++) {
		start(1);
		t = keel_stktable_new("left", "type integer size 1k expire 1m store gpc0", &err);
		ck_assert_ptr_nonnull(t);
		for (int i = 0; i < 300; i++)
			put(t, NUM(i));
		get(t, NUM(7));
		stktable_release(t, NULL);
		t = keel_stktable_new(NULL, "type ip size 1k", &err);
		ck_assert_ptr_nonnull(t);
		put(t, NUM(1));
		keel_deinit();
	}
	start(1);
	ck_assert_ptr_null(stktable_find_by_name("left"));
	ck_assert_ptr_null(stktables_list);
	keel_deinit();
}
END_TEST

/* --- keys -------------------------------------------------------------------- */

static struct stktable strings;

static void string_table(size_t key_size)
{
	describe(&strings, SMP_T_STR, key_size, 1000, 60000);
	stktable_alloc_data_type(&strings, STKTABLE_DT_GPC0, NULL, NULL);
	ready(&strings);
}

/* How many strings are stored. */
static unsigned int stored(void)
{
	return keel_stktable_current(&strings);
}

/* SHOWS: INV-95 */
START_TEST(stk_15_embedded_nul)
{
	static const char key[] = "AB\0CD";
	struct stksess *ts;

	start(1);
	string_table(16);
	for (int i = 0; i < 200; i++) {
		char other[8] = "AB\0xxxx";

		other[3] = (char)i;
		other[4] = (char)(i * 7);
		ts = get(&strings, KEY(key, 5));
		ck_assert_uint_eq(stored(), 1);
		ck_assert_ptr_eq(stktable_lookup_key(&strings, STR("AB")), ts);
		ck_assert_ptr_eq(stktable_lookup_key(&strings, KEY(other, sizeof(other))), ts);
		ck_assert_ptr_eq(get(&strings, KEY(other, 6)), ts);
		ck_assert_ptr_eq(stktable_lookup(&strings, ts), ts);
		ck_assert_str_eq(keel_stksess_key(ts), "AB");
		ck_assert_uint_eq(refs(ts), 5);
		for (int r = 0; r < 4; r++)
			stktable_release(&strings, ts);
		ck_assert_int_eq(stksess_kill(&strings, ts, 1), 1);
		ck_assert_uint_eq(stored(), 0);
		ck_assert_ptr_null(stktable_lookup_key(&strings, KEY(key, 5)));
	}
	/* the empty string is one too */
	ts = get(&strings, KEY("\0abc", 4));
	ck_assert_ptr_eq(stktable_lookup_key(&strings, KEY("", 0)), ts);
	stktable_deinit(&strings);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-95 */
START_TEST(stk_16_dirty_buffers)
{
	struct stksess *first = NULL;
	char buffer[64];

	start(1);
	string_table(32);
	for (int i = 0; i < 256; i++) {
		struct stksess *ts;

		/* whatever stands behind the string, and behind the buffer's end */
		memset(buffer, i, sizeof(buffer));
		strcpy(buffer, "same");
		ts = i & 1 ? get(&strings, KEY(buffer, 4)) : get(&strings, KEY(buffer, sizeof(buffer)));
		if (!first)
			first = ts;
		ck_assert_ptr_eq(ts, first);
		stktable_release(&strings, ts);
		/* by a new entry that is filled from it */
		ts = stksess_new(&strings, KEY(buffer, 5 + i % 20));
		ck_assert_ptr_nonnull(ts);
		ck_assert_ptr_eq(stktable_set_entry(&strings, ts), first);
		stktable_release(&strings, first);
		stksess_free(&strings, ts);
		ck_assert_uint_eq(stored(), 1);
	}
	ck_assert_uint_eq(refs(first), 0);
	/* an entry that had a longer key */
	first = stksess_new(&strings, STR("something much longer"));
	stksess_setkey(&strings, first, STR("some"));
	ck_assert_ptr_eq(stktable_set_entry(&strings, first), first);
	ck_assert_ptr_eq(stktable_lookup_key(&strings, STR("some")), first);
	ck_assert_int_eq(has(&strings, STR("something much longer")), 0);
	stktable_deinit(&strings);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-95 */
START_TEST(stk_17_prefixes_and_longest_keys)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	struct stksess *ts;

	start(1);
	string_table(32);
	/* each prefix is a key of its own, up to the 31 bytes that fit */
	for (size_t n = 1; n <= 31; n++) {
		ck_assert_int_eq(has(&strings, KEY(alphabet, n)), 0);
		ts = get(&strings, KEY(alphabet, n));
		ck_assert_uint_eq(stored(), n);
		ck_assert_uint_eq(strlen(keel_stksess_key(ts)), n);
		ck_assert_mem_eq(keel_stksess_key(ts), alphabet, n);
		*counter(&strings, ts, STKTABLE_DT_GPC0) = (unsigned int)n;
		stktable_release(&strings, ts);
	}
	/* what is longer is cut */
	for (size_t n = 32; n <= 36; n++) {
		ts = get(&strings, KEY(alphabet, n));
		ck_assert_uint_eq(*counter(&strings, ts, STKTABLE_DT_GPC0), 31);
		stktable_release(&strings, ts);
	}
	ck_assert_uint_eq(stored(), 31);
	for (size_t n = 1; n <= 31; n++) {
		ts = stktable_lookup_key(&strings, KEY(alphabet, n));
		ck_assert_ptr_nonnull(ts);
		ck_assert_uint_eq(*counter(&strings, ts, STKTABLE_DT_GPC0), n);
		stktable_release(&strings, ts);
	}
	stktable_deinit(&strings);
	keel_deinit();
}
END_TEST

START_TEST(stk_18_keys_are_only_read)
{
	/* writing to them would be the end */
	static const char text[40] = "a constant string";
	static const unsigned char binary[20] = { 1, 2, 3 };
	static const unsigned char six[16] = { 0x20, 1 };
	struct stktable t;
	struct stksess *ts;

	start(1);
	string_table(8);
	ts = get(&strings, KEY(text, sizeof(text)));
	ck_assert_str_eq(keel_stksess_key(ts), "a const");
	stktable_release(&strings, ts);
	ck_assert_int_ne(has(&strings, KEY(text, 20)), 0);
	stktable_deinit(&strings);
	describe(&t, SMP_T_BIN, 20, 10, 1000);
	ready(&t);
	ts = get(&t, KEY(binary, sizeof(binary)));
	ck_assert_mem_eq(keel_stksess_key(ts), binary, 20);
	/* of binaries all bytes count, zeroes too */
	ck_assert_ptr_null(stktable_lookup_key(&t, KEY("\1\2\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 20)));
	ck_assert_ptr_eq(stktable_lookup_key(&t, KEY("\1\2\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)), ts);
	stktable_deinit(&t);
	describe(&t, SMP_T_IPV6, 16, 10, 1000);
	ready(&t);
	ts = get(&t, KEY(six, sizeof(six)));
	ck_assert_mem_eq(keel_stksess_key(ts), six, 16);
	ck_assert_ptr_eq(stktable_lookup_key(&t, KEY(six, sizeof(six))), ts);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-95 */
START_TEST(stk_19_integers_are_four_bytes)
{
	struct stktable t;
	struct stksess *ts;
	unsigned int source[2] = { 0x12345678, 0xdeadbeef };

	start(1);
	integers(&t, 100, 1000);
	ts = get(&t, KEY(source, sizeof(source)));
	ck_assert_mem_eq(keel_stksess_key(ts), source, 4);
	/* what stands behind them says nothing */
	source[1] = 0;
	ck_assert_ptr_eq(stktable_lookup_key(&t, KEY(source, sizeof(source))), ts);
	ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(0x12345678)), ts);
	ck_assert_uint_eq(source[0], 0x12345678);
	ck_assert_int_eq(has(&t, NUM(0x78563412)), 0);
	/* neither do zero bytes end them */
	put(&t, NUM(0));
	put(&t, NUM(0x100));
	put(&t, NUM(0x10000));
	put(&t, NUM(0xffffffff));
	ck_assert_uint_eq(keel_stktable_current(&t), 5);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(stk_36_no_key)
{
	struct stktable t;

	start(1);
	integers(&t, 10, 1000);
	ck_assert_ptr_null(stktable_get_entry(&t, NULL));
	ck_assert_ptr_null(stktable_lookup_key(&t, NULL));
	ck_assert_ptr_null(stktable_update_key(&t, NULL));
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-38: look-ups across tables: with other data, but the same keys.
 * SHOWS: INV-112 */
START_TEST(stk_38_tables_with_the_same_keys)
{
	struct stktable a, b;
	struct stksess *in_a, *in_b;

	start(1);
	integers(&a, 10, 1000);
	describe(&b, SMP_T_SINT, 4, 10, 1000);
	stktable_alloc_data_type(&b, STKTABLE_DT_GPC, "9", NULL);
	ready(&b);
	in_a = get(&a, NUM(5));
	in_b = get(&b, NUM(5));
	ck_assert_ptr_eq(stktable_lookup(&b, in_a), in_b);
	ck_assert_ptr_eq(stktable_lookup(&a, in_b), in_a);
	ck_assert_uint_eq(refs(in_a), 2);
	in_b = get(&b, NUM(6));
	ck_assert_ptr_null(stktable_lookup(&a, in_b));
	stktable_deinit(&a);
	stktable_deinit(&b);
	keel_deinit();
}
END_TEST

/* STK-38, INV-112: keys of another type or size are refused: the entry's key
 * ends before the look-up does.
 * SHOWS: INV-112 */
START_TEST(stk_38_tables_with_other_keys)
{
	struct stktable a, wide, text;
	struct stksess *in_a, *in_text;

	start(1);
	integers(&a, 10, 1000);
	describe(&wide, SMP_T_BIN, 512, 10, 1000);
	ready(&wide);
	describe(&text, SMP_T_STR, 4, 10, 1000);
	ready(&text);
	in_a = get(&a, NUM(5));
	in_text = get(&text, KEY("\5", 1));
	ck_assert_ptr_null(stktable_lookup(&wide, in_a));
	ck_assert_ptr_null(stktable_lookup(&a, in_text));
	ck_assert_ptr_null(stktable_lookup(&text, in_a));
	ck_assert_uint_eq(refs(in_a), 1);
	ck_assert_uint_eq(refs(in_text), 1);
	stktable_deinit(&a);
	stktable_deinit(&wide);
	stktable_deinit(&text);
	keel_deinit();
}
END_TEST

/* STK-40: everything is initialised where no key is given either; memory that
 * others have used before must not show.
 * SHOWS: INV-110 */
START_TEST(stk_40_an_entry_without_a_key)
{
	struct stktable t;
	struct stksess *ts;

	start(1);
	describe(&t, SMP_T_STR, 32, 100, 1000);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC, "20", NULL);
	ready(&t);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 50; i++) {
			char name[32];

			snprintf(name, sizeof(name), "%031d", i);
			ts = get(&t, STR(name));
			memset(stktable_data_ptr(&t, ts, STKTABLE_DT_GPC), 0xa5, 80);
			stktable_touch_local(&t, ts, 0);
			ck_assert_int_eq(stksess_kill(&t, ts, 1), 1);
		}
		turns(20);
		for (int i = 0; i < 50; i++) {
			keel_update_clock();
			ts = stksess_new(&t, NULL);
			ck_assert_ptr_nonnull(ts);
			ck_assert_uint_eq(refs(ts), 0);
			ck_assert_int_le(abs((int)ts->expire - date(1000)), 500);
			for (unsigned int e = 0; e < 20; e++)
				ck_assert_uint_eq(*(unsigned int *)stktable_data_ptr_idx(&t, ts, STKTABLE_DT_GPC, e), 0);
			if (i % 2) {
				stksess_free(&t, ts);
			} else {
				stksess_setkey(&t, ts, STR("late"));
				ck_assert_ptr_eq(stktable_set_entry(&t, ts), ts);
				ck_assert_int_ne(has(&t, STR("late")), 0);
				ck_assert_int_eq(stksess_kill(&t, ts, 1), 1);
			}
		}
		ck_assert_uint_eq(keel_stktable_current(&t), 0);
	}
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(stk_43_the_key_is_copied)
{
	char buffer[32] = "before";
	struct stksess *ts;

	start(1);
	string_table(32);
	ts = get(&strings, STR(buffer));
	strcpy(buffer, "after");
	ck_assert_str_eq(keel_stksess_key(ts), "before");
	ck_assert_ptr_eq(stktable_lookup_key(&strings, STR("before")), ts);
	ck_assert_int_eq(has(&strings, STR(buffer)), 0);
	stktable_deinit(&strings);
	keel_deinit();
}
END_TEST

/* Every key type finds every one of many keys again, and no other. */
START_TEST(many_keys_of_every_type)
{
	static const struct {
		unsigned long type;
		size_t key_size;
	} types[] = {
		{ SMP_T_SINT, 4 }, { SMP_T_IPV4, 4 }, { SMP_T_IPV6, 16 }, { SMP_T_STR, 9 }, { SMP_T_STR, 200 },
		{ SMP_T_BIN, 3 }, { SMP_T_BIN, 33 },
	};
	enum { KEYS = 3000 };
	struct stktable t;
	char key[200];

	start(1);
	for (size_t i = 0; i < ARRAY(types); i++) {
		describe(&t, types[i].type, types[i].key_size, KEYS, 60000);
		stktable_alloc_data_type(&t, STKTABLE_DT_GPC0, NULL, NULL);
		ready(&t);
		for (int pass = 0; pass < 2; pass++) {
			for (unsigned int n = 0; n < KEYS * 2; n++) {
				struct stksess *ts;

				memset(key, 0, sizeof(key));
				if (t.type == SMP_T_STR)
					snprintf(key, sizeof(key), "%x", n * 0x10001);
				else
					memcpy(key + t.key_size - 3, &n, 3);
				if (n % 2) {
					ck_assert_int_eq(has(&t, KEY(key, sizeof(key))), 0);
					continue;
				}
				ts = get(&t, KEY(key, sizeof(key)));
				ck_assert_uint_eq(*counter(&t, ts, STKTABLE_DT_GPC0), pass ? n : 0);
				*counter(&t, ts, STKTABLE_DT_GPC0) = n;
				stktable_release(&t, ts);
			}
			ck_assert_uint_eq(keel_stktable_current(&t), KEYS);
		}
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

/* --- references --------------------------------------------------------------- */

/* STK-32: whatever finds an entry gives its reference to the caller, once.
 * SHOWS: INV-92 */
START_TEST(stk_32_every_reference_is_given_back)
{
	struct stktable t;
	struct stksess *ts, *other;

	start(1);
	integers(&t, 10, 60000);
	ts = get(&t, NUM(1));
	for (int i = 0; i < 1000; i++) {
		ck_assert_ptr_eq(stktable_lookup_key(&t, NUM(1)), ts);
		ck_assert_uint_eq(refs(ts), 2);
		stktable_release(&t, ts);
		ck_assert_ptr_eq(stktable_lookup(&t, ts), ts);
		stktable_touch_local(&t, ts, 1);
		ck_assert_ptr_eq(get(&t, NUM(1)), ts);
		stktable_touch_remote(&t, ts, 1);
		ck_assert_ptr_eq(get(&t, NUM(1)), ts);
		stktable_touch_with_exp(&t, ts, 1, date(60000));
		stktable_touch_local(&t, ts, 0);
		stktable_touch_remote(&t, ts, 0);
		stktable_touch_with_exp(&t, ts, 0, date(60000));
		stktable_update_key(&t, NUM(1));
		ck_assert_uint_eq(refs(ts), 1);
		ck_assert_ptr_eq(get(&t, NUM(1)), ts);
		ck_assert_int_eq(stksess_kill(&t, ts, 1), 0);
		ck_assert_ptr_eq(get(&t, NUM(1)), ts);
		stksess_kill_if_expired(&t, ts, 1);
		stksess_kill_if_expired(&t, ts, 0);
		other = stksess_new(&t, NUM(1));
		ck_assert_ptr_eq(stktable_set_entry(&t, other), ts);
		ck_assert_uint_eq(refs(other), 0);
		stksess_free(&t, other);
		stktable_release(&t, ts);
		ck_assert_uint_eq(refs(ts), 1);
	}
	stktable_release(&t, ts);
	ck_assert_uint_eq(refs(ts), 0);
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	ck_assert_int_eq(stktable_trash_oldest(&t, 1), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-92 */
START_TEST(stk_33_nothing_found_nothing_released)
{
	struct stktable t;

	start(1);
	integers(&t, 10, 1000);
	ck_assert_ptr_null(stktable_lookup_key(&t, NUM(1)));
	stktable_release(&t, stktable_lookup_key(&t, NUM(1)));
	stktable_release(&t, NULL);
	put(&t, NUM(1));
	ck_assert_ptr_null(stktable_lookup_key(&t, NUM(2)));
	ck_assert_uint_eq(keel_stktable_current(&t), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_table");
	TCase *tc = tcase_create("catalogue");

	tcase_add_test(tc, the_numbers_are_haproxys);
	tcase_add_test(tc, the_catalogue_of_data_types);
	tcase_add_test(tc, the_catalogue_of_key_types);
	tcase_add_test(tc, words_of_key_types);
	suite_add_tcase(s, tc);
	tc = tcase_create("data");
	tcase_add_test(tc, what_a_data_type_takes);
	tcase_add_test(tc, stk_31_and_stk_37_where_data_lie);
	tcase_add_test(tc, stk_42_no_datum_beyond_the_bounds);
	tcase_add_test(tc, data_by_their_standard_types);
	tcase_add_test(tc, types_of_the_programs_own);
	suite_add_tcase(s, tc);
	tc = tcase_create("tables");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, a_table_filled_in_by_hand);
	tcase_add_test(tc, tables_by_name);
	tcase_add_test(tc, a_table_from_a_line);
	tcase_add_test(tc, stk_56_tables_come_and_go);
	tcase_add_test(tc, deinit_frees_the_tables_that_are_left);
	suite_add_tcase(s, tc);
	tc = tcase_create("keys");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, stk_15_embedded_nul);
	tcase_add_test(tc, stk_16_dirty_buffers);
	tcase_add_test(tc, stk_17_prefixes_and_longest_keys);
	tcase_add_test(tc, stk_18_keys_are_only_read);
	tcase_add_test(tc, stk_19_integers_are_four_bytes);
	tcase_add_test(tc, stk_36_no_key);
	tcase_add_test(tc, stk_38_tables_with_the_same_keys);
	tcase_add_test(tc, stk_38_tables_with_other_keys);
	tcase_add_test(tc, stk_40_an_entry_without_a_key);
	tcase_add_test(tc, stk_43_the_key_is_copied);
	tcase_add_test(tc, many_keys_of_every_type);
	suite_add_tcase(s, tc);
	tc = tcase_create("references");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, stk_32_every_reference_is_given_back);
	tcase_add_test(tc, stk_33_nothing_found_nothing_released);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
