/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* liburcu's hash table, made for its final size. A lookup takes no lock; the
 * payload has a spinlock. A create is a malloc() and the insertion. */

#include <pthread.h>
#include <stdlib.h>

#include <urcu.h>
#include <urcu/rculfhash.h>

#include "loops.h"
#include "payload.h"

struct entry {
	struct cds_lfht_node node;
	uint32_t key;
	pthread_spinlock_t lock;
	struct payload payload;
};

static struct cds_lfht *table;
static uint32_t room;

static bool make(uint32_t n, uint32_t ms)
{
	unsigned long buckets = 1;

	while (buckets < n)
		buckets *= 2;
	room = n;
	expire_ms = ms;
	table = cds_lfht_new(buckets, buckets, buckets, 0, NULL);
	return table;
}

static void enter(unsigned int thread)
{
	(void)thread;
	rcu_register_thread();
	read_clock();
}

/* murmur3's finish. */
static inline unsigned long hash(uint32_t h)
{
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return h ^ h >> 16;
}

static int is_it(struct cds_lfht_node *node, const void *key)
{
	return caa_container_of(node, struct entry, node)->key == *(const uint32_t *)key;
}

static inline struct entry *find(const uint32_t *key)
{
	struct cds_lfht_iter iter;

	cds_lfht_lookup(table, hash(*key), is_it, key, &iter);
	return iter.node ? caa_container_of(iter.node, struct entry, node) : NULL;
}

static bool lookup(const uint32_t *key)
{
	struct entry *e;

	rcu_read_lock();
	e = find(key);
	rcu_read_unlock();
	return e;
}

static bool hit_entry(const uint32_t *key)
{
	struct entry *e;

	rcu_read_lock();
	e = find(key);
	if (e) {
		pthread_spin_lock(&e->lock);
		hit(&e->payload);
		pthread_spin_unlock(&e->lock);
	}
	rcu_read_unlock();
	return e;
}

static bool create(const uint32_t *key)
{
	struct entry *e = malloc(sizeof(*e));
	struct cds_lfht_node *is;

	if (!e)
		return false;
	e->key = *key;
	pthread_spin_init(&e->lock, PTHREAD_PROCESS_PRIVATE);
	begin(&e->payload);
	cds_lfht_node_init(&e->node);
	rcu_read_lock();
	is = cds_lfht_add_unique(table, hash(*key), is_it, key, &e->node);
	rcu_read_unlock();
	if (is != &e->node)
		free(e);
	return is == &e->node;
}

/* One walk over the table; one grace period for all that it removes. */
static uint64_t expire(void)
{
	struct entry **gone = malloc(room * sizeof(*gone)), *e;
	struct cds_lfht_iter iter;
	uint64_t left = 0;
	uint32_t n = 0;

	if (!gone)
		return room;
	read_clock();
	rcu_read_lock();
	cds_lfht_for_each_entry(table, &iter, e, node) {
		if (n < room && is_expired(&e->payload) && cds_lfht_del(table, &e->node) == 0)
			gone[n++] = e;
		else
			left++;
	}
	rcu_read_unlock();
	synchronize_rcu();
	while (n)
		free(gone[--n]);
	free(gone);
	return left;
}

static uint32_t counted(const uint32_t *key)
{
	struct entry *e;
	uint32_t is;

	rcu_read_lock();
	e = find(key);
	is = e ? e->payload.conn_cnt : 0;
	rcu_read_unlock();
	return is;
}

static uint64_t run(enum op op, const uint32_t *keys, uint32_t n)
{
	const struct calls calls = { lookup, hit_entry, create, expire, counted };

	return loops(&calls, op, keys, n);
}

const struct peer *const *contestants(void)
{
	static const struct peer lfht = { "liburcu lfht", NULL, make, enter, read_clock, run, NULL };
	static const struct peer *const list[] = { &lfht, NULL };

	return list;
}
