/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A thread's cache of free objects, in two designs under the same accounts and
 * the same limits: those of HAProxy's pools. */

#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOLS   3
#define CLUSTER 8u              /* objects that come and go at once */
#define LIMIT   (512u * 1024)   /* bytes that a thread may keep */

/* What all pools of the thread have cached. */
struct accounts {
	size_t bytes;
	uint32_t objects;
};

struct cache {
	const char *name;
	void (*clear)(void);
	void *(*take)(unsigned int pool);
	void (*give)(unsigned int pool, void *object);
	struct accounts (*sum)(void);
};

extern const struct cache intrusive, arrays;

/* Where the caches' objects come from and go to, as a stack of pointers that
 * touches none: the same for both. */
extern const size_t object_sizes[POOLS];
uint32_t store_take(unsigned int pool, void *objects[CLUSTER]);
void store_give(unsigned int pool, void *const objects[CLUSTER], uint32_t n);

/* After a free: whether the pool, with <count> objects, has too many... */
static inline bool has_too_many(const struct accounts *a, uint32_t count)
{
	return a->bytes > LIMIT / 4 * 3 && count >= 16 + a->objects / 8 + CLUSTER;
}

/* ... and gives yet another cluster away. */
static inline bool still_has(const struct accounts *a, uint32_t count)
{
	return a->bytes > LIMIT / 4 * 3 && count >= CLUSTER && count >= 16 + a->objects / 8;
}

#define IS_FULL(a)      ((a)->bytes > LIMIT)
#define STILL_FULL(a)   ((a)->bytes > LIMIT / 8 * 7)

#endif
