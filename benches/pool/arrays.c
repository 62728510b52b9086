/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An array of pointers a pool, used as a stack whose bottom can be cut off. No
 * object is touched. Which pool is coldest, a date at each says. */

#include "cache.h"

#define SLOTS 16384u /* more than LIMIT is of the smallest objects */

static struct array {
	uint32_t bottom, top; /* from the oldest up to behind the newest */
	uint64_t used;
	void *slots[SLOTS];
} pools[POOLS];

static uint64_t clock;
static struct accounts sums;

static void clear(void)
{
	for (unsigned int p = 0; p < POOLS; p++)
		pools[p].bottom = pools[p].top = 0;
	clock = 0;
	sums = (struct accounts){ 0, 0 };
}

static uint32_t count(const struct array *a) { return a->top - a->bottom; }

static void evict(unsigned int pool)
{
	struct array *a = &pools[pool];
	void *out[CLUSTER];
	uint32_t n = 0;

	while (n < CLUSTER && count(a))
		out[n++] = a->slots[a->bottom++ % SLOTS];
	sums.objects -= n;
	sums.bytes -= n * object_sizes[pool];
	store_give(pool, out, n);
}

static unsigned int coldest(void)
{
	unsigned int found = POOLS;

	for (unsigned int p = 0; p < POOLS; p++)
		if (count(&pools[p]) && (found == POOLS || pools[p].used < pools[found].used))
			found = p;
	return found;
}

static void *take(unsigned int pool)
{
	struct array *a = &pools[pool];

	if (!count(a)) {
		void *in[CLUSTER];
		uint32_t n = store_take(pool, in);

		if (!n)
			return NULL;
		sums.objects += n;
		sums.bytes += n * object_sizes[pool];
		while (n)
			a->slots[a->top++ % SLOTS] = in[--n];
	}
	sums.objects--;
	sums.bytes -= object_sizes[pool];
	return a->slots[--a->top % SLOTS];
}

static void give(unsigned int pool, void *object)
{
	struct array *a = &pools[pool];

	a->slots[a->top++ % SLOTS] = object;
	a->used = ++clock;
	sums.objects++;
	sums.bytes += object_sizes[pool];
	if (has_too_many(&sums, count(a)))
		while (still_has(&sums, count(a)))
			evict(pool);
	if (IS_FULL(&sums))
		while (STILL_FULL(&sums))
			evict(coldest());
}

static struct accounts sum(void) { return sums; }

const struct cache arrays = { "arrays of pointers", clear, take, give, sum };
