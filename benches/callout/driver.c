/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* callout: keel's callouts beside other timers, in one process, pinned to a
 * core, in processor time. Each round takes every contestant in turn; a figure
 * is the median of the rounds.
 *
 * A round at size n: n of 5n/4 timers are armed, 1 s to 60 s ahead. Then, in
 * batches of n/4, each in a random order of its own: the idle quarter is armed,
 * a random quarter re-armed, one stopped and armed again, one stopped. So n to
 * 5n/4 are pending, and the order in memory is never that of the calls. Calls
 * follow each other at once, so that the processor may overlap their cache
 * misses; "each pair alone" shows what one costs where it cannot.
 *
 *   callout                       everything; QUICK=1 a shorter version
 *   ONLY=PEER callout             those whose name begins so; ROUNDS=N
 *   callout --fixed PEER OP N     N operations, to count instructions (count.sh)
 */

#define _GNU_SOURCE
#include "../goals.h"
#include "../measure.h"
#include "bench.h"

#define MAX_PEERS  16
#define MAX_ROUNDS 99

/* What is reported, and the one of its op of which it is made. */
enum figure {
	F_RESET_IDLE, F_RESET_PENDING, F_STOP, F_CYCLE, F_CYCLE_ALONE, F_DRAIN_IDLE, F_DRAIN_PENDING, F_EXPIRE,
	F_STAYS, F_FOREIGN, F_CROSSES,
	FIGURES
};

static const struct {
	const char *title;
	enum op op;
} figures[FIGURES] = {
	[F_RESET_IDLE] = { "reset of an idle timer", RESET_IDLE },
	[F_RESET_PENDING] = { "reset of a pending timer", RESET_PENDING },
	[F_STOP] = { "stop", STOP },
	[F_CYCLE] = { "stop and reset, a pair", CYCLE },
	[F_CYCLE_ALONE] = { "stop and reset, each pair alone", CYCLE_ALONE },
	[F_DRAIN_IDLE] = { "drain of an idle timer", DRAIN_IDLE },
	[F_DRAIN_PENDING] = { "drain of a pending timer", DRAIN_PENDING },
	[F_EXPIRE] = { "expiry, all at once, handler included", EXPIRE },
	[F_STAYS] = { "reset on the own cpu, named", ON_CPU },
	[F_FOREIGN] = { "reset on the other cpu, where it was pending", ON_CPU },
	[F_CROSSES] = { "reset that moves a pending timer to the other cpu", ON_CPU },
};

static const char *const op_names[OPS] = {
	[NOTHING] = "nothing", [RESET_IDLE] = "reset-idle", [RESET_PENDING] = "reset-pending", [STOP] = "stop",
	[CYCLE] = "stop+reset", [CYCLE_ALONE] = "alone", [DRAIN_IDLE] = "drain-idle", [DRAIN_PENDING] = "drain-pending", [ON_CPU] = "reset-on",
	[EXPIRE] = "expire",
};

static const struct {
	const char *name;
	uint32_t n;
	uint32_t ops;     /* of each kind in a round, about */
	uint32_t soon_ms; /* for expiry: time enough to arm them all */
	int expiries;
	int quick_rounds;
} sizes[] = {
	{ "1k", 1000, 100000, 10, 5, 3 },
	{ "100k", 100000, 200000, 150, 1, 3 },
	{ "1M", 1000000, 250000, 1500, 1, 1 },
};

#define SIZES      (sizeof(sizes) / sizeof(*sizes))
#define SPREAD_MS  100

static const struct peer *peers[MAX_PEERS];
static int npeers, cores[2], rounds[SIZES];
static double result[FIGURES][SIZES][MAX_PEERS][MAX_ROUNDS];

/* By its name, instructions are counted in here alone. */
__attribute__((noinline)) void timed(const struct peer *p, enum op op, const struct step *steps, uint32_t n)
{
	p->run(op, steps, n);
}

/* One round of one contestant. */
struct round {
	const struct peer *peer;
	uint32_t n, total, part;
	uint32_t *order;
	struct step *steps;
	uint32_t least_ms;
	double ns[FIGURES];
	uint64_t count[FIGURES];
	uint32_t repeat;
};

static bool has(const struct peer *p, enum op op) { return p->ops & BIT(op); }

/* Does <op> on the first <m> in order, with random delays; the time goes to <f>. */
static void go(struct round *r, enum op op, int f, uint32_t m)
{
	uint64_t begin;

	for (uint32_t i = 0; i < m; i++)
		r->steps[i] = (struct step){ r->order[i], r->least_ms + below(60000 - r->least_ms), 0 };
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

static void arm(struct round *r)
{
	draw(r->order, r->total, r->total);
	/* the last quarter of the order is left idle, and comes to its front */
	go(r, RESET_IDLE, -1, r->n);
	for (uint32_t i = 0; i < r->part; i++) {
		uint32_t t = r->order[i];

		r->order[i] = r->order[r->n + i];
		r->order[r->n + i] = t;
	}
}

static void churn(void *arg)
{
	struct round *r = arg;

	arm(r);
	for (uint32_t i = 0; i < r->repeat; i++) {
		go(r, RESET_IDLE, F_RESET_IDLE, r->part);
		draw(r->order, r->part, r->total);
		go(r, RESET_PENDING, F_RESET_PENDING, r->part);
		draw(r->order, r->part, r->total);
		go(r, CYCLE, F_CYCLE, r->part);
		draw(r->order, r->part, r->total);
		go(r, CYCLE_ALONE, F_CYCLE_ALONE, r->part);
		draw(r->order, r->part, r->total);
		go(r, STOP, F_STOP, r->part);
		draw(r->order, r->part, r->part);
		if (has(r->peer, DRAIN_IDLE)) {
			go(r, DRAIN_IDLE, F_DRAIN_IDLE, r->part);
			draw(r->order, r->part, r->part);
			go(r, RESET_IDLE, -1, r->part);
			draw(r->order, r->part, r->total);
			go(r, DRAIN_PENDING, F_DRAIN_PENDING, r->part);
			draw(r->order, r->part, r->part);
		}
	}
	go(r, STOP, -1, r->total);
}

/* Half of the timers on each cpu, all calls from cpu 0. Nothing may expire
 * meanwhile: the other cpu has a loop. */
static void across(void *arg)
{
	struct round *r = arg;
	uint8_t *where = calloc(r->total, 1);
	static const enum figure kinds[] = { F_STAYS, F_FOREIGN, F_CROSSES };

	r->least_ms = 10000;
	draw(r->order, r->total, r->total);
	go(r, RESET_IDLE, -1, r->total);
	for (uint32_t round = 0; where && round <= r->repeat; round++) {
		for (uint32_t k = 0; k < 3; k++) {
			uint32_t m = 0;
			uint64_t begin;

			draw(r->order, r->part * 2, r->total);
			for (uint32_t i = 0; i < r->part * 2; i++) {
				uint32_t t = r->order[i];

				if (kinds[k] != F_CROSSES && where[t] != (kinds[k] == F_FOREIGN))
					continue;
				where[t] ^= kinds[k] == F_CROSSES;
				r->steps[m++] = (struct step){ t, r->least_ms + below(60000 - r->least_ms), where[t] };
			}
			begin = cpu_ns();
			timed(r->peer, ON_CPU, r->steps, m);
			/* the first time only parts them */
			if (round > 0) {
				r->ns[kinds[k]] += since(begin);
				r->count[kinds[k]] += m;
			}
		}
	}
	free(where);
	go(r, STOP, -1, r->total);
}

/* Arms all for the near future, waits until each is past its latest date, and
 * lets the loop run them. */
static void expire(struct round *r, uint32_t soon_ms)
{
	uint64_t begin = now_ns(), latest = begin + (soon_ms + SPREAD_MS) * 1125000ull + 20000000;

	draw(r->order, r->n, r->n);
	for (uint32_t i = 0; i < r->n; i++)
		r->steps[i] = (struct step){ r->order[i], soon_ms + below(SPREAD_MS), 0 };
	r->peer->refresh();
	r->peer->run(RESET_IDLE, r->steps, r->n);
	if (now_ns() > begin + soon_ms * 1000000ull)
		fprintf(stderr, "%s: arming took longer than the first timer's delay\n", r->peer->name);
	while (now_ns() < latest)
		usleep((useconds_t)((latest - now_ns()) / 1000 + 1));
	begin = cpu_ns();
	timed(r->peer, EXPIRE, NULL, r->n);
	r->ns[F_EXPIRE] += since(begin);
	r->count[F_EXPIRE] += r->n;
}

static void set_up(struct round *r, const struct peer *p, uint32_t n)
{
	*r = (struct round){ .peer = p, .n = n, .total = n + n / 4, .part = n / 4, .least_ms = 1000 };
	r->order = malloc(r->total * sizeof(*r->order));
	r->steps = malloc(r->total * sizeof(*r->steps));
	if (!r->order || !r->steps || !p->make(r->total)) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	for (uint32_t i = 0; i < r->total; i++)
		r->order[i] = i;
}

static void clear(struct round *r)
{
	r->peer->drop();
	free(r->order);
	free(r->steps);
}

static void call(const struct peer *p, void (*body)(void *), void *arg)
{
	if (p->inside)
		p->inside(body, arg);
	else
		body(arg);
}

static void one_round(int peer, size_t size, int round)
{
	const struct peer *p = peers[peer];
	struct round r;

	set_up(&r, p, sizes[size].n);
	r.repeat = (sizes[size].ops + r.part - 1) / r.part;
	call(p, churn, &r);
	for (int i = 0; i < sizes[size].expiries; i++)
		expire(&r, sizes[size].soon_ms);
	/* last: a timer stays on the cpu where it was */
	if (has(p, ON_CPU))
		call(p, across, &r);
	for (int f = 0; f < FIGURES; f++)
		result[f][size][peer][round] = r.count[f] ? r.ns[f] / (double)r.count[f] : 0;
	clear(&r);
}

static double median(int f, size_t size, int peer) { return result[f][size][peer][rounds[size] / 2]; }

static void print(int f)
{
	printf("\n%s, ns: median (least to most) of the rounds\n\n| pending |", figures[f].title);
	for (size_t s = 0; s < SIZES; s++)
		printf(" %s, %d rounds |", sizes[s].name, rounds[s]);
	printf(" %s / it |\n| --- | --- | --- | --- | --- |\n", peers[0]->name);
	for (int p = 0; p < npeers; p++) {
		if (!has(peers[p], figures[f].op))
			continue;
		printf("| %s |", peers[p]->name);
		for (size_t s = 0; s < SIZES; s++)
			printf(" %.1f (%.1f to %.1f) |", median(f, s, p), result[f][s][p][0], result[f][s][p][rounds[s] - 1]);
		for (size_t s = 0; s < SIZES; s++)
			printf("%s%.2f", s ? ", " : " ", median(f, s, 0) / median(f, s, p));
		printf(" |\n");
	}
}

static void goals(void)
{
	int libev = -1;

	for (int p = 0; p < npeers; p++)
		if (!strcmp(peers[p]->name, "libev"))
			libev = p;
	printf("\n| %s | is | goal | |\n| --- | --- | --- | --- |\n", peers[0]->name);
	want("reset of an idle callout at 100k, ns", median(F_RESET_IDLE, 1, 0), AT_MOST, 35);
	want("reset of a pending callout at 100k, ns", median(F_RESET_PENDING, 1, 0), AT_MOST, 60);
	want("stop at 100k, ns", median(F_STOP, 1, 0), AT_MOST, 35);
	if (libev >= 0) {
		want("stop and reset at 1M / libev's", median(F_CYCLE, 2, 0) / median(F_CYCLE, 2, libev), AT_MOST, 0.7);
		want("the same, each pair alone", median(F_CYCLE_ALONE, 2, 0) / median(F_CYCLE_ALONE, 2, libev), AT_MOST, 0.7);
	}
	for (size_t s = 0; s < SIZES; s++) {
		char what[64];

		snprintf(what, sizeof(what), "reset across cpus / on the own, at %s", sizes[s].name);
		want(what, median(F_CROSSES, s, 0) / median(F_STAYS, s, 0), AT_MOST, 3);
	}
}

/* A contestant's plugin stands beside the program. keel comes first: the
 * others are compared with it. */
/* keel comes first: the others are compared with it. */
static void load(const char *name, const char *only)
{
	contestants_fn *fn;

	*(void **)&fn = find_contestants(name);
	if (!fn)
		return;
	for (const struct peer *const *p = fn(); *p && npeers < MAX_PEERS; p++) {
		const char *why;

		if (only && strncmp(only, (*p)->name, strlen(only)) != 0)
			continue;
		why = (*p)->open(cores);
		if (why)
			printf("%s: left out: %s\n", (*p)->name, why);
		else
			peers[npeers++] = *p;
	}
}

struct fixed {
	struct round round;
	enum op op;
	uint32_t count;
};

/* Exactly <count> operations, with 10 000 pending or $PENDING. */
static void fixed(void *arg)
{
	struct fixed *x = arg;
	struct round *r = &x->round;

	arm(r);
	for (uint32_t left = x->count, m; left; left -= m) {
		bool idle = x->op == RESET_IDLE || x->op == DRAIN_IDLE;

		m = left < r->part ? left : r->part;
		if (!idle)
			draw(r->order, m, r->total);
		if (!idle && x->op != NOTHING)
			go(r, RESET_PENDING, -1, m);
		go(r, x->op, F_STOP, m);
		if (x->op == RESET_IDLE)
			go(r, STOP, -1, m);
	}
}

static int run_fixed(char **arg)
{
	const char *pending = getenv("PENDING");
	struct fixed x = { .count = (uint32_t)strtoul(arg[2], NULL, 10), .op = OPS };

	for (int op = 0; op < OPS; op++)
		if (!strcmp(arg[1], op_names[op]))
			x.op = op;
	if (!npeers || x.op == OPS || !has(peers[0], x.op)) {
		fprintf(stderr, "no such contestant or operation: %s, %s\n", arg[0], arg[1]);
		return 2;
	}
	set_up(&x.round, peers[0], x.op == EXPIRE ? x.count : pending ? (uint32_t)atoi(pending) : 10000);
	if (x.op == EXPIRE)
		expire(&x.round, 2000);
	else
		call(peers[0], fixed, &x);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "keel", "libev", "libevent", "libuv", "tokio", "dpdk" };
	const char *only = getenv("ONLY");
	bool is_fixed = argc == 5 && !strcmp(argv[1], "--fixed");

	if (argc > 1 && !is_fixed) {
		fprintf(stderr, "usage: callout [--fixed PEER OP N]\n");
		return 2;
	}
	for (size_t s = 0; s < SIZES; s++)
		rounds[s] = rounds_wanted(sizes[s].quick_rounds, MAX_ROUNDS);
	find_cores(cores);
	pin_to(cores[0]);
	weigh_the_clock();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		load(names[i], is_fixed ? argv[2] : only);
	if (is_fixed)
		return run_fixed(argv + 2);
	if (!npeers)
		return 1;
	for (int round = 0; round < MAX_ROUNDS; round++)
		for (size_t s = 0; s < SIZES; s++)
			for (int p = 0; p < npeers && round < rounds[s]; p++)
				one_round(p, s, round);
	for (int f = 0; f < FIGURES; f++)
		for (size_t s = 0; s < SIZES; s++)
			for (int p = 0; p < npeers; p++)
				qsort(result[f][s][p], (size_t)rounds[s], sizeof(double), by_value);
	for (int f = 0; f < FIGURES; f++)
		print(f);
	if (!strncmp(peers[0]->name, "keel", 4))
		goals();
	return 0;
}
