/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/stick_table.h: keel_dump_stktable(). */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stick.h"
#include "suite.h"

/* --- reading dumps ---------------------------------------------------------------- */

static char *text;
static size_t length;

/* Dumps into <text>: what keel_dump_stktable() returns. */
static int dump(struct stktable *t, const char *filter)
{
	FILE *file = tmpfile();
	int rc;

	ck_assert_ptr_nonnull(file);
	rc = keel_dump_stktable(t, fileno(file), filter);
	fseek(file, 0, SEEK_END);
	length = (size_t)ftell(file);
	rewind(file);
	free(text);
	text = malloc(length + 1);
	ck_assert_uint_eq(fread(text, 1, length, file), length);
	text[length] = '\0';
	fclose(file);
	if (rc >= 0)
		ck_assert_uint_eq((size_t)rc, length);
	return rc;
}

/* Whole lines below the header. */
static unsigned int lines(void)
{
	unsigned int n = 0;

	ck_assert_uint_gt(length, 0);
	ck_assert_int_eq(text[length - 1], '\n');
	ck_assert_uint_eq(strlen(text), length);
	for (const char *p = text; *p; p++)
		n += *p == '\n';
	return n - 1;
}

/* The one line of a table with one entry. */
static const char *line(struct stktable *t)
{
	char *end;

	ck_assert_int_gt(dump(t, NULL), 0);
	ck_assert_uint_eq(lines(), 1);
	end = text + length - 1;
	*end = '\0';
	return strchr(text, '\n') + 1;
}

/* Asserts that <words> stand in the line, ended by a blank or its end. */
static void says(const char *line, const char *words)
{
	const char *p = strstr(line, words);

	ck_assert_msg(p && (p[strlen(words)] == ' ' || !p[strlen(words)]), "no '%s' in '%s'", words, line);
}

static const char *key_of(struct stktable *t)
{
	static char key[300];
	const char *p = strstr(line(t), ": key=");

	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(sscanf(p, ": key=%299s", key), 1);
	return key;
}

/* --- what a line says ---------------------------------------------------------------- */

START_TEST(the_header)
{
	struct stktable t;
	char *err = NULL;
	struct stktable *named;

	start(1);
	named = keel_stktable_new("web", "type string len 20 size 2k expire 30s store gpc0", &err);
	ck_assert_ptr_nonnull(named);
	put(named, STR("a"));
	put(named, STR("b"));
	ck_assert_int_gt(dump(named, NULL), 0);
	*strchr(text, '\n') = '\0';
	ck_assert_str_eq(text, "# table: web, type: string, size:2048, used:2");
	keel_stktable_free(named);
	/* an empty one is a header alone */
	for (unsigned long type = SMP_T_IPV4; type <= SMP_T_IPV6; type++) {
		describe(&t, type, type == SMP_T_IPV4 ? 4 : 16, 7, 0);
		t.id = "empty";
		ready(&t);
		ck_assert_int_gt(dump(&t, NULL), 0);
		ck_assert_str_eq(text, type == SMP_T_IPV4 ? "# table: empty, type: ip, size:7, used:0\n" :
		                       "# table: empty, type: ipv6, size:7, used:0\n");
		stktable_deinit(&t);
	}
	keel_deinit();
}
END_TEST

START_TEST(keys_of_every_type)
{
	static const unsigned char six[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
	struct stktable t;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 0);
	ready(&t);
	put(&t, NUM(42));
	ck_assert_str_eq(key_of(&t), "42");
	stktable_deinit(&t);
	describe(&t, SMP_T_IPV4, 4, 10, 0);
	ready(&t);
	put(&t, NUM(htonl(0x0a0000fe)));
	ck_assert_str_eq(key_of(&t), "10.0.0.254");
	stktable_deinit(&t);
	describe(&t, SMP_T_IPV6, 16, 10, 0);
	ready(&t);
	put(&t, KEY(six, 16));
	ck_assert_str_eq(key_of(&t), "2001:db8::1");
	stktable_deinit(&t);
	describe(&t, SMP_T_STR, 20, 10, 0);
	ready(&t);
	put(&t, STR("www.example.org:80"));
	ck_assert_str_eq(key_of(&t), "www.example.org:80");
	stktable_deinit(&t);
	/* binaries over their whole size */
	describe(&t, SMP_T_BIN, 6, 10, 0);
	ready(&t);
	put(&t, KEY("\x00\xab\x01\xff\x7f\x00", 6));
	ck_assert_str_eq(key_of(&t), "00AB01FF7F00");
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* Whatever a string has in it, a line stays one, and keys stay apart. */
START_TEST(strings_are_escaped)
{
	enum { LONGEST = 1200 };
	static char seen[256][16];
	struct stktable t;
	char s[4] = "x?y";

	start(1);
	for (int c = 1; c < 256; c++) {
		const char *key;

		describe(&t, SMP_T_STR, 10, 10, 0);
		ready(&t);
		s[1] = (char)c;
		put(&t, STR(s));
		key = key_of(&t);
		for (const char *p = text; *p; p++)
			ck_assert_msg(*p == '\n' || (*p >= ' ' && *p < 127), "byte %d for %d", *p, c);
		ck_assert_uint_lt(strlen(key), sizeof(seen[c]));
		ck_assert_msg(strncmp(key, "x", 1) == 0, "%d: %s", c, key);
		strcpy(seen[c], key);
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			ck_assert_str_eq(key, s);
		for (int other = 1; other < c; other++)
			ck_assert_msg(strcmp(seen[other], key), "%d and %d both give %s", other, c, key);
		stktable_deinit(&t);
	}
	/* the worst of keys fits */
	describe(&t, SMP_T_STR, LONGEST + 1, 10, 0);
	ready(&t);
	memset(text = realloc(text, LONGEST + 1), '\n', LONGEST);
	text[LONGEST] = '\0';
	put(&t, STR(text));
	ck_assert_int_gt(dump(&t, NULL), LONGEST * 2);
	ck_assert_uint_eq(lines(), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(uses_and_time_left)
{
	struct stktable t;
	struct stksess *ts;
	const char *l;
	unsigned int ms;
	char address[32];

	start(1);
	integers(&t, 10, 60000);
	ts = get(&t, NUM(1));
	get(&t, NUM(1));
	l = line(&t);
	snprintf(address, sizeof(address), "%p: key=1 use=2 exp=", (void *)ts);
	ck_assert_msg(strncmp(l, address, strlen(address)) == 0, "%s does not begin with %s", l, address);
	ck_assert_int_eq(sscanf(strstr(l, " exp="), " exp=%u", &ms), 1);
	ck_assert_uint_gt(ms, 30000);
	ck_assert_uint_le(ms, 60000);
	stktable_release(&t, ts);
	says(line(&t), "use=1");
	stktable_release(&t, ts);
	says(line(&t), "use=0");
	/* the dump has given its own references back, and moved no date */
	ck_assert_uint_eq(refs(ts), 0);
	stktable_touch_with_exp(&t, get(&t, NUM(1)), 1, date(1));
	idle(10);
	says(line(&t), "exp=0");
	stktable_deinit(&t);
	integers(&t, 10, 0);
	put(&t, NUM(1));
	says(line(&t), "exp=0");
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* STK-44: what is unsigned is shown so, up to the end of its range. */
START_TEST(stk_44_large_values)
{
	struct stktable t;
	struct stksess *ts;
	const char *l;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 0);
	stktable_alloc_data_type(&t, STKTABLE_DT_BYTES_IN_CNT, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_SERVER_ID, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC0, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_CNT, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_RATE, "1h", NULL);
	ready(&t);
	ts = get(&t, NUM(3000000000u));
	*counter(&t, ts, STKTABLE_DT_GPC0) = 0x80000000u;
	*counter(&t, ts, STKTABLE_DT_CONN_CNT) = 0xffffffffu;
	*(int *)stktable_data_ptr(&t, ts, STKTABLE_DT_SERVER_ID) = -5;
	stktable_data_cast(stktable_data_ptr(&t, ts, STKTABLE_DT_BYTES_IN_CNT), std_t_ull) = ~0ull;
	update_freq_ctr_period(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_RATE), 3600000, 3000000000u);
	stktable_release(&t, ts);
	l = line(&t);
	says(l, " gpc0=2147483648");
	says(l, " conn_cnt=4294967295");
	says(l, " bytes_in_cnt=18446744073709551615");
	says(l, " conn_rate(3600000)=3000000000");
	says(l, " server_id=-5");
	says(l, ": key=3000000000");
	ck_assert_int_gt(dump(&t, "data.gpc0 gt 2147483647"), 0);
	ck_assert_uint_eq(lines(), 1);
	ck_assert_int_gt(dump(&t, "data.conn_cnt lt 1"), 0);
	ck_assert_uint_eq(lines(), 0);
	ck_assert_int_gt(dump(&t, "key 3000000000"), 0);
	ck_assert_uint_eq(lines(), 1);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* All that is stored, in the order of the catalogue: without the arrays, then
 * the arrays, which exclude some of the others. */
START_TEST(data_of_every_type)
{
	static char expected[2000];
	struct stktable t;
	struct stksess *ts;
	size_t at = 0;

	start(1);
	describe(&t, SMP_T_SINT, 4, 10, 60000);
	for (int type = STKTABLE_STATIC_DATA_TYPES - 1; type >= 0; type--) {
		const char *period = stktable_data_types[type].std_type == STD_T_FRQP ? "1h" : NULL;
		int array = type == STKTABLE_DT_GPT || type == STKTABLE_DT_GPC || type == STKTABLE_DT_GPC_RATE;

		if (array == _i)
			ck_assert_int_eq(stktable_alloc_data_type(&t, type, array ? "3" : period, array ? period : NULL),
			                 PE_NONE);
	}
	ready(&t);
	ts = get(&t, NUM(1));
	for (int type = 0; type < STKTABLE_STATIC_DATA_TYPES; type++) {
		for (unsigned int e = 0; e < t.data_nbelem[type]; e++) {
			const char *name = stktable_data_types[type].name, *tail = "";
			void *datum = stktable_data_ptr_idx(&t, ts, type, e);
			unsigned int v = (unsigned int)type * 100 + e + 1;
			int head = (int)strlen(name);
			char index[12] = "";

			ck_assert_ptr_nonnull(datum);
			if (_i) {
				/* the index comes before the first underscore */
				tail = strchr(name, '_') ? strchr(name, '_') : "";
				head -= (int)strlen(tail);
				snprintf(index, sizeof(index), "%u", e);
			}
			at += (size_t)snprintf(expected + at, sizeof(expected) - at, " %.*s%s%s", head, name, index, tail);
			switch (stktable_data_types[type].std_type) {
			case STD_T_ULL:
				stktable_data_cast(datum, std_t_ull) = v;
				break;
			case STD_T_FRQP:
				update_freq_ctr_period(datum, 3600000, v);
				at += (size_t)snprintf(expected + at, sizeof(expected) - at, "(3600000)");
				break;
			case STD_T_DICT:
				/* none is attached */
				at += (size_t)snprintf(expected + at, sizeof(expected) - at, "=-");
				continue;
			default:
				stktable_data_cast(datum, std_t_uint) = v;
			}
			at += (size_t)snprintf(expected + at, sizeof(expected) - at, "=%u", v);
		}
	}
	ck_assert_str_eq(strstr(line(&t), _i ? " gpt0=" : " server_id="), expected);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- filters --------------------------------------------------------------------------- */

START_TEST(by_key)
{
	struct stktable t;

	start(1);
	describe(&t, SMP_T_IPV4, 4, 1000, 60000);
	ready(&t);
	for (unsigned int i = 0; i < 300; i++)
		put(&t, NUM(htonl(0x0a000000 + i)));
	ck_assert_int_gt(dump(&t, "key 10.0.1.7"), 0);
	ck_assert_uint_eq(lines(), 1);
	says(strchr(text, '\n'), ": key=10.0.1.7");
	ck_assert_int_gt(dump(&t, "key 10.0.2.7"), 0);
	ck_assert_uint_eq(lines(), 0);
	ck_assert_int_eq(strncmp(text, "# table", 7), 0);
	/* looking creates nothing and keeps nothing */
	ck_assert_uint_eq(keel_stktable_current(&t), 300);
	ck_assert_int_eq(stktable_trash_oldest(&t, 300), 300);
	stktable_deinit(&t);
	describe(&t, SMP_T_STR, 20, 1000, 60000);
	ready(&t);
	put(&t, STR("one"));
	put(&t, STR("two"));
	put(&t, STR("on"));
	ck_assert_int_gt(dump(&t, "key one"), 0);
	ck_assert_uint_eq(lines(), 1);
	ck_assert_int_gt(dump(&t, "key o"), 0);
	ck_assert_uint_eq(lines(), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(by_data)
{
	static const struct {
		const char *filter;
		unsigned int lines;
	} filters[] = {
		{ "data.gpc0 eq 10", 1 }, { "data.gpc0 ne 10", 99 }, { "data.gpc0 lt 10", 10 },
		{ "data.gpc0 le 10", 11 }, { "data.gpc0 gt 10", 89 }, { "data.gpc0 ge 10", 90 },
		{ "data.gpc0 eq 1000", 0 }, { "data.conn_rate gt 97", 2 }, { "data.conn_rate lt 0", 0 },
	};
	struct stktable t;

	start(1);
	describe(&t, SMP_T_SINT, 4, 1000, 60000);
	stktable_alloc_data_type(&t, STKTABLE_DT_GPC0, NULL, NULL);
	stktable_alloc_data_type(&t, STKTABLE_DT_CONN_RATE, "1h", NULL);
	ready(&t);
	for (unsigned int i = 0; i < 100; i++) {
		struct stksess *ts = get(&t, NUM(i * 3));

		*counter(&t, ts, STKTABLE_DT_GPC0) = i;
		update_freq_ctr_period(stktable_data_ptr(&t, ts, STKTABLE_DT_CONN_RATE), 3600000, i);
		stktable_release(&t, ts);
	}
	for (size_t i = 0; i < ARRAY(filters); i++) {
		ck_assert_msg(dump(&t, filters[i].filter) > 0, "%s", filters[i].filter);
		ck_assert_msg(lines() == filters[i].lines, "%s: %u lines, not %u", filters[i].filter, lines(),
		              filters[i].lines);
	}
	ck_assert_int_gt(dump(&t, NULL), 0);
	ck_assert_uint_eq(lines(), 100);
	ck_assert_int_eq(stktable_trash_oldest(&t, 100), 100);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

START_TEST(bad_filters)
{
	static const char *const bad[] = {
		"keys 1", "key", "data", "data.", "data.gpc0", "data.gpc0 gt", "data.gpc0 above 5", "data.gpc0 gt x",
		"data.gpc0 gt 5x", "data.nothing gt 5", "gpc0 gt 5", "key x", "10.0.0.1",
	};
	struct stktable t;

	start(1);
	integers(&t, 10, 60000);
	put(&t, NUM(1));
	for (size_t i = 0; i < ARRAY(bad); i++) {
		int rc = dump(&t, bad[i]);

		ck_assert_msg(rc == -EINVAL, "%s: %d", bad[i], rc);
		ck_assert_uint_eq(length, 0);
	}
	stktable_deinit(&t);
	describe(&t, SMP_T_IPV4, 4, 10, 60000);
	ready(&t);
	ck_assert_int_eq(dump(&t, "key 10.0.0"), -EINVAL);
	ck_assert_int_eq(dump(&t, "key 10.0.0.256"), -EINVAL);
	ck_assert_int_eq(dump(&t, "key ::1"), -EINVAL);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- where it is written to ------------------------------------------------------------- */

/* What cannot be written is said, and no entry stays held. */
START_TEST(writes_that_fail)
{
	enum { N = 5000 };
	struct stktable t;
	int ends[2];

	start(1);
	signal(SIGPIPE, SIG_IGN);
	integers(&t, N, 60000);
	for (int i = 0; i < N; i++)
		put(&t, NUM(i));
	ck_assert_int_eq(keel_dump_stktable(&t, -1, NULL), -EBADF);
	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	ck_assert_int_eq(keel_dump_stktable(&t, ends[1], NULL), -EPIPE);
	close(ends[1]);
	/* some 200 kB do not fit into a pipe */
	ck_assert_int_eq(pipe(ends), 0);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	ck_assert_int_eq(keel_dump_stktable(&t, ends[1], NULL), -EAGAIN);
	close(ends[0]);
	close(ends[1]);
	for (int i = 0; i < N; i++) {
		struct stksess *ts = stktable_lookup_key(&t, NUM(i));

		ck_assert_ptr_nonnull(ts);
		ck_assert_int_eq(stksess_kill(&t, ts, 1), 1);
	}
	ck_assert_uint_eq(keel_stktable_current(&t), 0);
	stktable_deinit(&t);
	keel_deinit();
}
END_TEST

/* --- while others work ------------------------------------------------------------------- */

enum { STEADY = 20000, VOLATILE = 3000 };
static struct stktable shared;
static atomic_int over;
static atomic_ulong worked;

static void *works(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; !atomic_load(&over); i++) {
		unsigned int key = STEADY + i * 7 % VOLATILE;
		struct stksess *ts = stktable_get_entry(&shared, NUM(key));

		must(ts != NULL);
		must(*(unsigned int *)keel_stksess_key(ts) == key);
		stksess_wrlock(ts);
		++*counter(&shared, ts, STKTABLE_DT_GPC0);
		stksess_wrunlock(ts);
		if (i % 3)
			stktable_touch_local(&shared, ts, 1);
		else
			stksess_kill(&shared, ts, 1);
		atomic_fetch_add(&worked, 1);
	}
	return NULL;
}

START_TEST(a_large_dump_among_workers)
{
	static unsigned char seen[STEADY + VOLATILE];
	unsigned long during = 0;
	pthread_t th[2];

	start(1);
	integers(&shared, STEADY + VOLATILE, 3600000);
	for (unsigned int i = 0; i < STEADY; i++) {
		struct stksess *ts = get(&shared, NUM(i));

		*counter(&shared, ts, STKTABLE_DT_GPC0) = i;
		stktable_release(&shared, ts);
	}
	for (int i = 0; i < 2; i++)
		pthread_create(&th[i], NULL, works, NULL);
	for (int round = 0; round < 3; round++) {
		unsigned long before = atomic_load(&worked);
		unsigned int steady = 0;
		char *next;

		ck_assert_int_gt(dump(&shared, NULL), 0);
		during += atomic_load(&worked) - before;
		memset(seen, 0, sizeof(seen));
		ck_assert_uint_ge(lines(), STEADY);
		for (char *p = strchr(text, '\n') + 1; *p; p = next) {
			unsigned int key, use, exp, gpc0;
			char *end = strchr(p, '\n');
			const char *datum;

			must(end != NULL);
			*end = '\0';
			next = end + 1;
			datum = strstr(p, " gpc0=");
			must(sscanf(p, "0x%*x: key=%u use=%u exp=%u", &key, &use, &exp) == 3);
			must(datum != NULL);
			must(sscanf(datum, " gpc0=%u", &gpc0) == 1);
			must(key < sizeof(seen));
			/* those that come and go may come again */
			if (key < STEADY) {
				must(!seen[key]++);
				must(gpc0 == key);
				must(use == 0);
				steady++;
			} else {
				must(use <= 2);
			}
		}
		ck_assert_uint_eq(steady, STEADY);
	}
	atomic_store(&over, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(th[i], NULL);
	ck_assert_uint_gt(during, 0);
	for (unsigned int i = 0; i < STEADY; i++) {
		struct stksess *ts = stktable_lookup_key(&shared, NUM(i));

		must(ts != NULL);
		must(refs(ts) == 1);
		stktable_release(&shared, ts);
	}
	stktable_deinit(&shared);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stick_dump");
	TCase *tc = tcase_create("lines");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, the_header);
	tcase_add_test(tc, keys_of_every_type);
	tcase_add_test(tc, strings_are_escaped);
	tcase_add_test(tc, uses_and_time_left);
	tcase_add_test(tc, stk_44_large_values);
	tcase_add_loop_test(tc, data_of_every_type, 0, 2);
	suite_add_tcase(s, tc);
	tc = tcase_create("filters");
	tcase_add_test(tc, by_key);
	tcase_add_test(tc, by_data);
	tcase_add_test(tc, bad_filters);
	suite_add_tcase(s, tc);
	tc = tcase_create("writing");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, writes_that_fail);
	tcase_add_test(tc, a_large_dump_among_workers);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
