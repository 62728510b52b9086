/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* uthash below one mutex, as most programs in C would have it. */

#include <pthread.h>
#include <stdlib.h>

#include <uthash.h>

#include "loops.h"
#include "payload.h"

struct entry {
	uint32_t key;
	struct payload payload;
	UT_hash_handle hh;
};

static struct entry *table;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool make(uint32_t n, uint32_t ms)
{
	(void)n; /* it grows as it fills */
	expire_ms = ms;
	return true;
}

static void enter(unsigned int thread)
{
	(void)thread;
	read_clock();
}

static inline struct entry *find(const uint32_t *key)
{
	struct entry *e;

	HASH_FIND(hh, table, key, sizeof(*key), e);
	return e;
}

static bool lookup(const uint32_t *key)
{
	struct entry *e;

	pthread_mutex_lock(&mutex);
	e = find(key);
	pthread_mutex_unlock(&mutex);
	return e;
}

static bool hit_entry(const uint32_t *key)
{
	struct entry *e;

	pthread_mutex_lock(&mutex);
	e = find(key);
	if (e)
		hit(&e->payload);
	pthread_mutex_unlock(&mutex);
	return e;
}

static bool create(const uint32_t *key)
{
	struct entry *e;
	bool is_new;

	pthread_mutex_lock(&mutex);
	e = find(key);
	is_new = !e;
	if (is_new && (e = malloc(sizeof(*e)))) {
		e->key = *key;
		begin(&e->payload);
		HASH_ADD(hh, table, key, sizeof(e->key), e);
	}
	pthread_mutex_unlock(&mutex);
	return is_new && e;
}

/* One walk, with the mutex held. */
static uint64_t expire(void)
{
	struct entry *e, *next;
	uint64_t left = 0;

	read_clock();
	pthread_mutex_lock(&mutex);
	HASH_ITER(hh, table, e, next) {
		if (is_expired(&e->payload)) {
			HASH_DEL(table, e);
			free(e);
		} else {
			left++;
		}
	}
	pthread_mutex_unlock(&mutex);
	return left;
}

static uint32_t counted(const uint32_t *key)
{
	struct entry *e;
	uint32_t is;

	pthread_mutex_lock(&mutex);
	e = find(key);
	is = e ? e->payload.conn_cnt : 0;
	pthread_mutex_unlock(&mutex);
	return is;
}

static uint64_t run(enum op op, const uint32_t *keys, uint32_t n)
{
	const struct calls calls = { lookup, hit_entry, create, expire, counted };

	return loops(&calls, op, keys, n);
}

const struct peer *const *contestants(void)
{
	static const struct peer uthash = { "mutex + uthash", NULL, make, enter, read_clock, run, NULL };
	static const struct peer *const list[] = { &uthash, NULL };

	return list;
}
