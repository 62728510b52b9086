/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Timers of one contestant, in processor time.
 *
 * A pass at size n: n timers are armed in the order of their creation, from
 * 20 s to 60 s ahead: first each later than the one before, as timeouts of one
 * length are, then, after all are cancelled, at random. Then in batches of n/4,
 * each drawn at random: moved later, by up to 20 s; moved earlier; cancelled and
 * armed again; the same, where no pair may overlap with the next; cancelled.
 * Between the others calls follow each other at once, so that the processor may
 * overlap their cache misses.
 *
 * keel, as HAProxy, only notes a later date, and moves the timer when the scan
 * meets it: one pass over it that the other contestants do not have. */

#define _GNU_SOURCE
#include "../measure.h"
#include "driver.h"

const struct figure_is figures[FIGURES] = {
	[F_APPEND] = { "arm, in the order of creation, each later than the one before", NULL },
	[F_ARM] = { "arm, in the order of creation, dates at random", "arm" },
	[F_LATER] = { "re-arm later, at random", "later" },
	[F_EARLIER] = { "re-arm earlier, at random", "earlier" },
	[F_CYCLE] = { "cancel and arm, at random, a pair", "cancel+arm" },
	[F_CYCLE_ALONE] = { "cancel and arm, at random, each pair alone", NULL },
	[F_CANCEL] = { "cancel, at random", "cancel" },
	[F_EXPIRE] = { "expire, all at once: find, wake, run", "expire" },
};

const struct size sizes[SIZES] = {
	{ "1k", 1000, 100, 3, 20, 10, 3 },
	{ "100k", 100000, 2, 150, 100, 1, 3 },
	{ "1M", 1000000, 1, 1500, 100, 1, 1 },
};

enum dates { RISING, ANY, LATER, EARLIER };

struct round {
	const struct peer *peer;
	uint32_t n, part, *order;
	struct step *steps;
	uint64_t *dates; /* ms: the earliest since it was armed */
	double ns[FIGURES];
	uint64_t count[FIGURES];
};

/* By its name, instructions are counted in here alone. */
__attribute__((noinline)) void timed(const struct peer *p, enum op op, const struct step *steps, uint32_t n)
{
	p->run(op, steps, n);
}

static uint64_t choose(struct round *r, enum dates dates, uint32_t i, uint64_t now)
{
	uint64_t *date = &r->dates[r->order[i]];

	switch (dates) {
	case RISING: return *date = now + 20000 + i * 40000ull / r->n;
	case ANY: return *date = now + 20000 + below(40000);
	case EARLIER: return *date = now + 1000 + (*date > now + 2000 ? below((uint32_t)(*date - now - 1000)) : 0);
	case LATER: break;
	}
	return *date + 1000 + below(19000);
}

/* Does <op> on the first <m> in order; the time goes to <f>, if that is one. */
static void go(struct round *r, enum op op, enum dates dates, int f, uint32_t m)
{
	uint64_t now = now_ns() / 1000000, begin;

	for (uint32_t i = 0; i < m; i++)
		r->steps[i] = (struct step){ r->order[i], (uint32_t)(choose(r, dates, i, now) - now), 0 };
	r->peer->refresh();
	if (f < 0) {
		r->peer->run(op, r->steps, m);
		return;
	}
	begin = cpu_ns();
	timed(r->peer, op, r->steps, m);
	r->ns[f] += since(begin);
	r->count[f] += m;
}

static void in_order(struct round *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		r->order[i] = i;
}

/* The same on a batch of those that are armed. */
static void batch(struct round *r, enum op op, enum dates dates, int f)
{
	draw(r->order, r->part, r->n);
	go(r, op, dates, f, r->part);
}

/* Where it has no call of its own to arm again, arming serves. */
static enum op again(const struct peer *p) { return p->ops & BIT(RESET_PENDING) ? RESET_PENDING : RESET_IDLE; }

static void pass(void *arg)
{
	struct round *r = arg;

	in_order(r, r->n);
	go(r, RESET_IDLE, RISING, F_APPEND, r->n);
	go(r, STOP, ANY, -1, r->n);
	go(r, RESET_IDLE, ANY, F_ARM, r->n);
	if (takes_part(r->peer, F_LATER))
		batch(r, RESET_PENDING, LATER, F_LATER);
	batch(r, again(r->peer), EARLIER, F_EARLIER);
	batch(r, CYCLE, ANY, F_CYCLE);
	batch(r, CYCLE_ALONE, ANY, F_CYCLE_ALONE);
	batch(r, STOP, ANY, F_CANCEL);
	go(r, STOP, ANY, -1, r->n);
}

/* Arms all for the near future, waits until their dates are past, and lets the
 * loop run them. A few must not have left the caches meanwhile: there it waits
 * awake. */
static void expire(struct round *r, uint32_t soon_ms, uint32_t spread_ms)
{
	uint64_t begin = now_ns(), latest = begin + (soon_ms + spread_ms + 5) * 1000000ull;

	draw(r->order, r->n, r->n);
	for (uint32_t i = 0; i < r->n; i++)
		r->steps[i] = (struct step){ r->order[i], soon_ms + below(spread_ms), 0 };
	r->peer->refresh();
	r->peer->run(RESET_IDLE, r->steps, r->n);
	if (now_ns() > begin + soon_ms * 1000000ull)
		fprintf(stderr, "%s: arming took longer than the first timer's delay\n", r->peer->name);
	while (now_ns() < latest)
		if (r->n > 10000)
			usleep(1000);
	begin = cpu_ns();
	timed(r->peer, EXPIRE, NULL, r->n);
	r->ns[F_EXPIRE] += since(begin);
	r->count[F_EXPIRE] += r->n;
}

static void set_up(struct round *r, const struct peer *p, uint32_t n)
{
	uint32_t total = n + n / 4;

	*r = (struct round){ .peer = p, .n = n, .part = n / 4 };
	r->order = malloc(total * sizeof(*r->order));
	r->steps = malloc(total * sizeof(*r->steps));
	r->dates = calloc(total, sizeof(*r->dates));
	if (!r->order || !r->steps || !r->dates || !p->make(total)) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	in_order(r, total);
}

static void clear(struct round *r)
{
	r->peer->drop();
	free(r->order);
	free(r->steps);
	free(r->dates);
}

static void call(const struct peer *p, void (*body)(void *), void *arg)
{
	if (p->inside)
		p->inside(body, arg);
	else
		body(arg);
}

bool takes_part(const struct peer *p, enum figure f)
{
	static const enum op ops[FIGURES] = { RESET_IDLE, RESET_IDLE, RESET_PENDING, RESET_IDLE, CYCLE, CYCLE_ALONE, STOP,
					      EXPIRE };

	return p->ops & BIT(ops[f]);
}

void time_timers(const struct peer *p, const struct size *size, int round, double ns[FIGURES])
{
	struct round r;

	/* other draws each round, and the same for all contestants */
	for (int i = 0; i < round; i++)
		below(2);
	memset(ns, 0, FIGURES * sizeof(*ns));
	if (takes_part(p, F_ARM)) {
		set_up(&r, p, size->n);
		for (uint32_t i = 0; i < size->repeat; i++)
			call(p, pass, &r);
		for (int f = 0; f < FIGURES; f++)
			ns[f] = r.count[f] ? r.ns[f] / (double)r.count[f] : 0;
		clear(&r);
	}
	/* anew: some leave things behind that they cancelled */
	if (takes_part(p, F_EXPIRE)) {
		set_up(&r, p, size->n);
		for (int i = 0; i < size->expiries; i++)
			expire(&r, size->soon_ms, size->spread_ms);
		ns[F_EXPIRE] = r.ns[F_EXPIRE] / (double)r.count[F_EXPIRE];
		clear(&r);
	}
}

/* --- counting ------------------------------------------------------------------ */

struct fixed {
	struct round round;
	int figure;
	uint32_t count;
};

static void fixed(void *arg)
{
	struct fixed *x = arg;
	struct round *r = &x->round;

	go(r, RESET_IDLE, ANY, -1, r->n);
	for (uint32_t left = x->count, m; left; left -= m) {
		m = left < r->part ? left : r->part;
		if (x->figure == F_ARM) {
			/* those that are idle */
			for (uint32_t i = 0; i < m; i++)
				r->order[i] = r->n + i;
		} else {
			draw(r->order, m, r->n);
			if (x->figure != FIGURES)
				go(r, CYCLE, ANY, -1, m);
		}
		switch (x->figure) {
		case F_ARM:
			go(r, RESET_IDLE, ANY, F_ARM, m);
			go(r, STOP, ANY, -1, m);
			break;
		case F_LATER: go(r, RESET_PENDING, LATER, F_LATER, m); break;
		case F_EARLIER: go(r, again(r->peer), EARLIER, F_EARLIER, m); break;
		case F_CYCLE: go(r, CYCLE, ANY, F_CYCLE, m); break;
		case F_CANCEL:
			go(r, STOP, ANY, F_CANCEL, m);
			go(r, RESET_IDLE, ANY, -1, m);
			break;
		default: go(r, NOTHING, ANY, F_ARM, m);
		}
	}
}

bool count_timers(const struct peer *p, const char *figure, uint32_t n)
{
	const char *pending = getenv("PENDING");
	struct fixed x = { .figure = -1, .count = n };

	for (int f = 0; f < FIGURES; f++)
		if (figures[f].count_as && !strcmp(figure, figures[f].count_as) && takes_part(p, (enum figure)f))
			x.figure = f;
	if (!strcmp(figure, "nothing"))
		x.figure = FIGURES;
	if (x.figure < 0)
		return false;
	set_up(&x.round, p, x.figure == F_EXPIRE ? n : pending ? (uint32_t)atoi(pending) : 10000);
	if (x.figure == F_EXPIRE)
		expire(&x.round, 2000, 100);
	else
		call(p, fixed, &x);
	return true;
}
