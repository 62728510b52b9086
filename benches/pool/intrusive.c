/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Lists through the free objects: one of each pool's, one of all in the order
 * in which they came. Four words of an object, and its neighbours', are written
 * when it comes and when it goes. */

#include "cache.h"

struct link {
	struct link *next, *prev;
};

struct item {
	struct link by_pool, by_age;
};

static struct list {
	struct link head;
	uint32_t count;
} pools[POOLS];

static struct link ages;
static struct accounts sums;

static void become_empty(struct link *head) { head->next = head->prev = head; }

static void put_first(struct link *head, struct link *l)
{
	l->next = head->next;
	l->prev = head;
	head->next->prev = l;
	head->next = l;
}

static void leave(struct link *l)
{
	l->next->prev = l->prev;
	l->prev->next = l->next;
}

#define OF(l, member) ((struct item *)((char *)(l) - offsetof(struct item, member)))

static void clear(void)
{
	for (unsigned int p = 0; p < POOLS; p++) {
		become_empty(&pools[p].head);
		pools[p].count = 0;
	}
	become_empty(&ages);
	sums = (struct accounts){ 0, 0 };
}

static void enter(unsigned int pool, void *object)
{
	struct item *it = object;

	put_first(&pools[pool].head, &it->by_pool);
	put_first(&ages, &it->by_age);
	pools[pool].count++;
	sums.objects++;
	sums.bytes += object_sizes[pool];
}

static void depart(unsigned int pool, struct item *it)
{
	leave(&it->by_pool);
	leave(&it->by_age);
	pools[pool].count--;
	sums.objects--;
	sums.bytes -= object_sizes[pool];
}

/* The pool's oldest. */
static void evict(unsigned int pool)
{
	void *out[CLUSTER];
	uint32_t n = 0;

	while (n < CLUSTER && pools[pool].count) {
		struct item *it = OF(pools[pool].head.prev, by_pool);

		depart(pool, it);
		out[n++] = it;
	}
	store_give(pool, out, n);
}

/* An object does not say whose it is: the pool's last one is looked for. */
static unsigned int coldest(void)
{
	struct item *it = OF(ages.prev, by_age);
	unsigned int p = 0;

	while (pools[p].head.prev != &it->by_pool)
		p++;
	return p;
}

static void *take(unsigned int pool)
{
	struct item *it;

	if (!pools[pool].count) {
		void *in[CLUSTER];
		uint32_t n = store_take(pool, in);

		if (!n)
			return NULL;
		while (n)
			enter(pool, in[--n]);
	}
	it = OF(pools[pool].head.next, by_pool);
	depart(pool, it);
	return it;
}

static void give(unsigned int pool, void *object)
{
	enter(pool, object);
	if (has_too_many(&sums, pools[pool].count))
		while (still_has(&sums, pools[pool].count))
			evict(pool);
	if (IS_FULL(&sums))
		while (STILL_FULL(&sums))
			evict(coldest());
}

static struct accounts sum(void) { return sums; }

const struct cache intrusive = { "lists through the objects", clear, take, give, sum };
