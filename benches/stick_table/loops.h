/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The loops of the contestants in C: the same ones for all, with the calls
 * compiled into them. */

#ifndef LOOPS_H
#define LOOPS_H

#include "../finish.h"
#include "bench.h"

struct calls {
	bool (*lookup)(const uint32_t *key), (*hit)(const uint32_t *key), (*create)(const uint32_t *key);
	uint64_t (*expire)(void);
	uint32_t (*counted)(const uint32_t *key);
};

#define EACH(call)                              \
	for (uint32_t i = 0; i < n; i++)        \
		sum += c->call(&keys[i]);       \
	return sum

static inline __attribute__((always_inline)) uint64_t loops(const struct calls *c, enum op op, const uint32_t *keys,
							     uint32_t n)
{
	uint64_t sum = 0;

	switch (op) {
	case LOOKUP: EACH(lookup);
	case HIT: EACH(hit);
	case HIT_ALONE:
		for (uint32_t i = 0; i < n; i++) {
			sum += c->hit(&keys[i]);
			finish();
		}
		return sum;
	case CREATE: EACH(create);
	case EXPIRE: return c->expire();
	case COUNTED: EACH(counted);
	default:
		for (uint32_t i = 0; i < n; i++)
			__asm__ volatile("" : : "r"(keys[i]));
		return n;
	}
}

#endif
