/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The loops of the contestants in C: the same ones for all, with the calls
 * compiled into them. */

#ifndef LOOPS_H
#define LOOPS_H

#include "../finish.h"
#include "bench.h"

typedef void timer_fn(uint32_t timer, uint32_t ms);
typedef void on_cpu_fn(uint32_t timer, uint32_t ms, uint32_t cpu);

struct calls {
	timer_fn *start, *again, *stop, *drain;
	on_cpu_fn *on_cpu;
};

#define EACH(call)                                          \
	for (uint32_t i = 0; i < n; i++) {                  \
		uint32_t t = steps[i].timer, ms = steps[i].ms; \
		call;                                       \
	}                                                   \
	break

static inline __attribute__((always_inline)) void loops(const struct calls *c, enum op op, const struct step *steps,
							 uint32_t n)
{
	switch (op) {
	case NOTHING: EACH(__asm__ volatile("" : : "r"(t), "r"(ms)));
	case RESET_IDLE: EACH(c->start(t, ms));
	case RESET_PENDING: EACH(c->again(t, ms));
	case STOP: EACH(c->stop(t, ms));
	case CYCLE: EACH((c->stop(t, ms), c->start(t, ms)));
	case CYCLE_ALONE: EACH((c->stop(t, ms), c->start(t, ms), finish()));
	case DRAIN_IDLE:
	case DRAIN_PENDING: EACH(c->drain(t, ms));
	case ON_CPU: EACH(c->on_cpu(t, ms, steps[i].cpu));
	default: break;
	}
}

#endif
