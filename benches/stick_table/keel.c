/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel: what a server does for a request that it counts. Every call takes the
 * shared library's way through the PLT. */

#include <stdio.h>
#include <stdlib.h>

#include <keel/keel.h>

#include "loops.h"

static struct stktable *table;

static const char *open_keel(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	return keel_init(&cfg) == 0 ? NULL : "keel_init() failed";
}

static bool make(uint32_t n, uint32_t expire_ms)
{
	char line[160], *err = NULL;

	snprintf(line, sizeof(line), "type ip size %u expire %ums store conn_cnt,conn_rate(%ums),http_req_rate(%ums)", n,
		 expire_ms, PERIOD_MS, PERIOD_MS);
	table = keel_stktable_new("bench", line, &err);
	if (!table)
		fprintf(stderr, "keel: %s\n", err ? err : "no table");
	free(err);
	return table;
}

static void enter(unsigned int thread)
{
	if (keel_thread_enter(thread) != 0)
		abort();
}

static void turn(void) { keel_poll_once(0); }

static inline struct stksess *find(const uint32_t *key)
{
	struct stktable_key k = { .key = (void *)(uintptr_t)key, .key_len = sizeof(*key) };

	return stktable_lookup_key(table, &k);
}

static inline unsigned int *conn_cnt(struct stksess *ts) { return stktable_data_ptr(table, ts, STKTABLE_DT_CONN_CNT); }

static inline void count(struct stksess *ts, int type)
{
	update_freq_ctr_period(stktable_data_ptr(table, ts, type), PERIOD_MS, 1);
}

static bool lookup(const uint32_t *key)
{
	struct stksess *ts = find(key);

	if (ts)
		stktable_release(table, ts);
	return ts;
}

static bool hit(const uint32_t *key)
{
	struct stksess *ts = find(key);

	if (!ts)
		return false;
	stksess_wrlock(ts);
	++*conn_cnt(ts);
	count(ts, STKTABLE_DT_CONN_RATE);
	count(ts, STKTABLE_DT_HTTP_REQ_RATE);
	stksess_wrunlock(ts);
	stktable_touch_local(table, ts, 1);
	return true;
}

static bool create(const uint32_t *key)
{
	struct stktable_key k = { .key = (void *)(uintptr_t)key, .key_len = sizeof(*key) };
	struct stksess *ts = stktable_get_entry(table, &k);

	if (ts)
		stktable_release(table, ts);
	return ts;
}

/* Turns of the loop, whose expiry task does it, and some more for what waits
 * until no reader can be there any more. */
static uint64_t expire(void)
{
	for (uint32_t i = 0; keel_stktable_current(table) && i < 1000000; i++)
		keel_poll_once(0);
	for (int i = 0; i < 100; i++)
		keel_poll_once(0);
	return keel_stktable_current(table);
}

static uint32_t counted(const uint32_t *key)
{
	struct stksess *ts = find(key);
	uint32_t is = 0;

	if (ts) {
		is = *conn_cnt(ts);
		stktable_release(table, ts);
	}
	return is;
}

static uint64_t run(enum op op, const uint32_t *keys, uint32_t n)
{
	const struct calls calls = { lookup, hit, create, expire, counted };

	return loops(&calls, op, keys, n);
}

static uint32_t cost(void) { return keel_stktable_cost(table); }

const struct peer *const *contestants(void)
{
	static const struct peer keel = { "keel", open_keel, make, enter, turn, run, cost };
	static const struct peer *const list[] = { &keel, NULL };

	return list;
}
