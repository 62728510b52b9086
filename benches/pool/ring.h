/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A ring for one producer and one consumer that costs little: each keeps a copy
 * of the other's index, looks again only when that says full or empty, and
 * tells of its own in steps. */

#ifndef RING_H
#define RING_H

#include <stdatomic.h>
#include <stdint.h>

#define RING_SLOTS 1024u

struct ring {
	_Alignas(128) struct {
		_Atomic uint32_t told; /* the other reads this */
		uint32_t next, seen;   /* and these never */
	} producer, consumer;
	_Alignas(128) uint32_t depth; /* at most this many slots are used */
	uint32_t step;                /* divides depth */
	_Alignas(128) void *slots[RING_SLOTS];
};

_Static_assert(sizeof(((struct ring *)0)->slots) % 128 == 0, "padding");

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static inline void ring_put(struct ring *r, void *object)
{
	uint32_t n = r->producer.next;

	while (n - r->producer.seen >= r->depth) {
		r->producer.seen = atomic_load_explicit(&r->consumer.told, memory_order_acquire);
		relax();
	}
	r->slots[n % RING_SLOTS] = object;
	r->producer.next = ++n;
	if (n % r->step == 0)
		atomic_store_explicit(&r->producer.told, n, memory_order_release);
}

static inline void *ring_get(struct ring *r)
{
	uint32_t n = r->consumer.next;
	void *object;

	while (n == r->consumer.seen) {
		r->consumer.seen = atomic_load_explicit(&r->producer.told, memory_order_acquire);
		relax();
	}
	object = r->slots[n % RING_SLOTS];
	r->consumer.next = ++n;
	if (n % r->step == 0)
		atomic_store_explicit(&r->consumer.told, n, memory_order_release);
	return object;
}

#endif
