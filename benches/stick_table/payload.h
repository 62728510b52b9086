/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the C peers store for a key, and their clock. Their counters are plain:
 * whoever counts holds the entry's lock. */

#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <time.h>

#include "bench.h"

struct window {
	uint32_t tick, current, previous;
};

struct payload {
	uint32_t date, conn_cnt;
	struct window conn_rate, http_req_rate;
};

/* Each thread's own, of milliseconds: a loop's cached time. */
static __thread uint32_t now_ms;
static uint32_t expire_ms;

static void read_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now_ms = (uint32_t)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static inline void count(struct window *w)
{
	uint32_t gone = now_ms - w->tick;

	if (gone < PERIOD_MS) {
		w->current++;
		return;
	}
	w->previous = gone < 2 * PERIOD_MS ? w->current : 0;
	w->tick = gone < 2 * PERIOD_MS ? w->tick + PERIOD_MS : now_ms;
	w->current = 1;
}

static inline void begin(struct payload *p)
{
	*p = (struct payload){ .date = now_ms + expire_ms };
}

static inline void hit(struct payload *p)
{
	p->conn_cnt++;
	count(&p->conn_rate);
	count(&p->http_req_rate);
	p->date = now_ms + expire_ms;
}

static inline bool is_expired(const struct payload *p) { return (int32_t)(p->date - now_ms) <= 0; }

#endif
