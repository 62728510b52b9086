/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the tests of stick tables share: tables filled in by hand, keys, data,
 * turns of the loop. */
#ifndef STICK_H
#define STICK_H

#include <check.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <keel/keel.h>

#include "storm.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

/* What check's own assertions say, for inner loops: they report each step. */
#define must(condition) \
	do { \
		if (!(condition)) \
			ck_abort_msg("not so: %s", #condition); \
	} while (0)

/* Whatever hangs is late by this much. */
#define WATCHDOG_NS 20000000000u

/* Keys. A string's is as long as strlen() says, and may not be written to. */
#define KEY(bytes, len) (&(struct stktable_key){ (void *)(bytes), (len) })
#define STR(text)       KEY(text, strlen(text))
#define NUM(n)          KEY(((unsigned int[]){ (unsigned int)(n) }), sizeof(unsigned int))

static inline void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

/* The fields that a program fills in. */
static inline void describe(struct stktable *t, unsigned long type, size_t key_size, unsigned int size,
                            int expire)
{
	memset(t, 0, sizeof(*t));
	t->type = type;
	t->key_size = key_size;
	t->size = size;
	t->expire = expire;
}

static inline void ready(struct stktable *t)
{
	ck_assert_int_eq(stktable_init(t), 1);
}

/* A table of integers that stores gpc0. */
static inline void integers(struct stktable *t, unsigned int size, int expire)
{
	describe(t, SMP_T_SINT, 4, size, expire);
	ck_assert_int_eq(stktable_alloc_data_type(t, STKTABLE_DT_GPC0, NULL, NULL), PE_NONE);
	ready(t);
}

static inline struct stksess *get(struct stktable *t, struct stktable_key *key)
{
	struct stksess *ts = stktable_get_entry(t, key);

	must(ts != NULL);
	return ts;
}

/* Makes sure that the key is there; keeps no reference. */
static inline void put(struct stktable *t, struct stktable_key *key)
{
	stktable_release(t, get(t, key));
}

static inline int has(struct stktable *t, struct stktable_key *key)
{
	struct stksess *ts = stktable_lookup_key(t, key);

	stktable_release(t, ts);
	return ts != NULL;
}

static inline unsigned int refs(const struct stksess *ts)
{
	return __atomic_load_n(&ts->ref_cnt, __ATOMIC_RELAXED);
}

static inline unsigned int *counter(struct stktable *t, struct stksess *ts, int type)
{
	unsigned int *p = stktable_data_ptr(t, ts, type);

	must(p != NULL);
	return p;
}

/* A date in so many ms. */
static inline int date(int ms)
{
	return tick_add((int)keel_now_ms(), MS_TO_TICKS(ms));
}

static inline void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

/* Runs the loop for a while. */
static inline void pass(int ms)
{
	uint64_t end = keel_now_ns() + (uint64_t)ms * 1000000u;

	while (keel_now_ns() < end)
		keel_poll_once(1);
}

/* Time passes and nobody runs the loop. */
static inline void idle(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
	keel_update_clock();
}

/* Runs the loop until the table has shrunk to that many entries. */
static inline void shrinks(struct stktable *t, unsigned int n)
{
	uint64_t limit = keel_now_ns() + WATCHDOG_NS;

	while (keel_stktable_current(t) > n && keel_now_ns() < limit)
		keel_poll_once(2);
	ck_assert_uint_eq(keel_stktable_current(t), n);
}

/* Evicts the oldest. A call visits two entries at most, and those that were
 * touched since it only files under their dates. */
static inline void evict_one(struct stktable *t)
{
	int tries = 0;

	while (stktable_trash_oldest(t, 1) != 1)
		ck_assert_int_lt(tries++, 100000);
}

/* Runs a function on so many threads at once. */
static inline void on_threads(size_t n, void *(*fn)(void *))
{
	pthread_t th[16];

	ck_assert_uint_le(n, ARRAY(th));
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, fn, (void *)i), 0);
	for (size_t i = 0; i < n; i++)
		pthread_join(th[i], NULL);
}

#endif
