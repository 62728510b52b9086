/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* stick_table: keel's stick tables beside other tables with the same payload: a
 * four-byte key, three counters of which two are sliding, a date. Each round
 * takes every contestant in turn, each time in a new process; a figure is the
 * median of its samples.
 *
 * The entries are made in a random order, and what is then asked for is drawn
 * beforehand, each key with the same chance, or by Zipf's law with 0.99. Calls
 * follow each other at once, so that the processor may overlap their cache
 * misses ("each alone" shows what one costs where it cannot); every 4096 of them a turn of the loop reads the time, as a server's
 * does. One thread is measured in its processor time. Two are on a core each and
 * measured by the clock, so that waiting counts; what either was preempted in is
 * thrown away and done again.
 *
 *   stick_table                       everything; QUICK=1 a shorter version
 *   ONLY=PEER stick_table             those whose name begins so; ROUNDS=N
 *   stick_table --fixed PEER OP N     N operations, to count instructions (count.sh)
 */

#define _GNU_SOURCE
#include "../measure.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "driver.h"

#define SLICES     9             /* of which a round's sample is the median */
#define TRIES_NS   2000000000ull /* to find so many that nobody disturbed */
#define TURN       4096
#define PIECE      512 /* after so many, a thread sees whether the other has ended */
#define MOST       (256 * PIECE)
#define SLICE_NS   4000000u
#define WATCHDOG_S 300

const struct figure_kind figures[FIGURES] = {
	[F_HIT] = { "hit: lookup, lock, three counters, touch, ns", HIT, 1 },
	[F_HIT_2] = { "hit, on each of two threads, ns", HIT, 2 },
	[F_HIT_ALONE] = { "hit, each alone: none overlaps with the next, ns", HIT_ALONE, 1 },
	[F_LOOKUP] = { "lookup alone, ns", LOOKUP, 1 },
	[F_LOOKUP_2] = { "lookup alone, on each of two threads, ns", LOOKUP, 2 },
	[F_CREATE] = { "create, ns", CREATE, 0 },
	[F_EXPIRE] = { "expiry, all at once, ns per entry", EXPIRE, 0 },
	[F_BYTES] = { "memory per entry, bytes", NOTHING, 0 },
};

static const char *const op_names[OPS] = { "nothing", "lookup", "hit", "hit-alone", "create", "expire", "" };

const struct size sizes[SIZES] = {
	{ "10k", 10000, 100000, 100, MAX_FILLS, 3 },
	{ "1M", 1000000, 50000, 2500, 1, 3 },
};

/* What a process says of its round; a figure it could not take is NAN. */
struct report {
	double value[FIGURES][LAWS];
	uint32_t cost;
	char trouble[120];
};

const struct peer *peers[MAX_PEERS];
int npeers;
uint32_t cost[MAX_PEERS];
struct samples samples[FIGURES][COLUMNS][MAX_PEERS];

static int cores[2], rounds[SIZES], failures;

/* --- measuring ------------------------------------------------------------- */

/* By its name, instructions are counted in here alone. */
__attribute__((noinline)) uint64_t timed(const struct peer *p, enum op op, const uint32_t *of, uint32_t n)
{
	uint64_t sum = 0;

	if (op == EXPIRE)
		return p->run(op, NULL, 0);
	for (uint32_t i = 0; i < n; i += TURN) {
		sum += p->run(op, of + i, n - i < TURN ? n - i : TURN);
		p->turn();
	}
	return sum;
}

double median_of(double *of, int n)
{
	qsort(of, (size_t)n, sizeof(*of), by_value);
	return n ? of[n / 2] : NAN;
}

static const uint32_t *some(int law, int thread, uint32_t n) { return drawn[law][thread] + below(DRAWN - n); }

struct round {
	const struct peer *peer;
	int size;
	struct report report;
	uint64_t hits;
};

static void trouble(struct round *r, const char *what)
{
	if (!*r->report.trouble)
		snprintf(r->report.trouble, sizeof(r->report.trouble), "%s at %s: %s", r->peer->name, sizes[r->size].name, what);
}

static double alone(struct round *r, enum op op, int law)
{
	uint32_t n = sizes[r->size].slice;
	double ns[SLICES];

	/* the first is thrown away: it warms the caches */
	for (int i = -1; i < SLICES; i++) {
		const uint32_t *of = some(law, 0, n);
		uint64_t begin = cpu_ns();

		if (timed(r->peer, op, of, n) != n)
			trouble(r, "a key was not found");
		if (i >= 0)
			ns[i] = since(begin) / n;
		r->hits += op == HIT || op == HIT_ALONE ? n : 0;
	}
	return median_of(ns, SLICES);
}

/* Two threads: both begin a slice at once, and the first to end it ends it for
 * both. It is short, to fit between two that disturb it. */
struct team {
	struct round *round;
	pthread_barrier_t gate;
	atomic_int ready;
	atomic_bool stop;
	enum op op;
	const uint32_t *keys[2];
	struct share {
		_Alignas(128) uint64_t ns, found;
		uint32_t did;
		long preempted;
	} share[2];
};

static long preemptions(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static void take_share(struct team *t, int thread)
{
	struct share *s = &t->share[thread];
	long before = preemptions();
	const struct peer *p = t->round->peer;
	uint64_t begin;

	*s = (struct share){ 0 };
	atomic_fetch_add(&t->ready, 1);
	while (atomic_load(&t->ready) < 2) {
	}
	begin = now_ns();
	while (s->did < MOST && !atomic_load_explicit(&t->stop, memory_order_relaxed)) {
		s->found += p->run(t->op, t->keys[thread] + s->did, PIECE);
		s->did += PIECE;
		if (s->did % TURN == 0)
			p->turn();
		if (now_ns() - begin > SLICE_NS)
			break;
	}
	atomic_store(&t->stop, true);
	s->ns = now_ns() - begin;
	s->preempted = preemptions() - before;
}

/* It ends with the process. */
static void *second(void *arg)
{
	struct team *t = arg;

	pin_to(cores[1]);
	t->round->peer->enter(1);
	for (;;) {
		pthread_barrier_wait(&t->gate);
		t->round->peer->turn();
		take_share(t, 1);
		pthread_barrier_wait(&t->gate);
	}
	return NULL;
}

/* Nanoseconds per operation and thread. */
static double together(struct team *t, enum op op, int law)
{
	struct round *r = t->round;
	double ns[SLICES];
	uint64_t begin = now_ns();
	int n = 0;

	t->op = op;
	for (int i = -1; n < SLICES && now_ns() < begin + TRIES_NS; i++) {
		const struct share *s = t->share;
		uint64_t did;

		for (int thread = 0; thread < 2; thread++)
			t->keys[thread] = some(law, thread, MOST);
		atomic_store(&t->ready, 0);
		atomic_store(&t->stop, false);
		pthread_barrier_wait(&t->gate);
		take_share(t, 0);
		pthread_barrier_wait(&t->gate);
		r->peer->turn();
		did = s[0].did + s[1].did;
		if (s[0].found + s[1].found != did)
			trouble(r, "a key was not found");
		r->hits += op == HIT ? did : 0;
		if (i >= 0 && did && !s[0].preempted && !s[1].preempted)
			ns[n++] = (double)(s[0].ns + s[1].ns) / (double)did;
	}
	return median_of(ns, n);
}

static uint64_t resident(void)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024ull;
}

static bool start(struct round *r, uint32_t n, uint32_t expire_ms)
{
	const struct peer *p = r->peer;

	if (!p->make(n, expire_ms)) {
		trouble(r, "it could not be made");
		return false;
	}
	p->turn();
	return true;
}

static void fill(struct round *r)
{
	uint32_t n = sizes[r->size].n;

	if (timed(r->peer, CREATE, keys, n) != n)
		trouble(r, "a create failed");
}

/* A round's first process: all entries made, and expired. */
static void fill_and_expire(struct round *r)
{
	uint32_t n = sizes[r->size].n, life = sizes[r->size].expire_ms;
	double (*value)[LAWS] = r->report.value;
	uint64_t before = resident(), born = now_ns(), begin;

	if (!start(r, n, life))
		return;
	begin = cpu_ns();
	fill(r);
	value[F_CREATE][0] = since(begin) / n;
	value[F_BYTES][0] = (double)(resident() - before) / n;
	r->report.cost = r->peer->cost ? r->peer->cost() : 0;
	if (now_ns() - born > life * 900000ull) {
		fprintf(stderr, "%s at %s: making them took nearly as long as they live\n", r->peer->name, sizes[r->size].name);
		return;
	}
	usleep((life + 20) * 1000);
	begin = cpu_ns();
	if (timed(r->peer, EXPIRE, NULL, n) != 0)
		trouble(r, "entries are left after their date");
	value[F_EXPIRE][0] = since(begin) / n;
}

/* Its second: hits and lookups, by one thread and by two. */
static void use(struct round *r)
{
	uint32_t n = sizes[r->size].n;
	struct team t = { .round = r };
	pthread_t thread;

	if (!start(r, n, EXPIRE_MS * 10))
		return;
	fill(r);
	for (int f = 0; f < FIGURES; f++)
		for (int law = 0; figures[f].threads == 1 && law < LAWS; law++)
			r->report.value[f][law] = alone(r, figures[f].op, law);
	pthread_barrier_init(&t.gate, NULL, 2);
	if (cores[0] != cores[1] && pthread_create(&thread, NULL, second, &t) == 0)
		for (int f = 0; f < FIGURES; f++)
			for (int law = 0; figures[f].threads == 2 && law < LAWS; law++)
				r->report.value[f][law] = together(&t, figures[f].op, law);
	if (r->peer->run(COUNTED, keys, n) != r->hits)
		trouble(r, "the counters do not add up to the hits");
}

/* Calls <body> in a process of its own. */
static void in_process(struct round *r, void (*body)(struct round *))
{
	struct report got;
	int ends[2], status;
	pid_t child;

	for (int f = 0; f < FIGURES; f++)
		for (int law = 0; law < LAWS; law++)
			r->report.value[f][law] = NAN;
	if (pipe(ends) != 0 || (child = fork()) < 0) {
		perror("stick_table");
		exit(1);
	}
	if (child == 0) {
		const char *why = r->peer->open ? r->peer->open() : NULL;

		alarm(WATCHDOG_S);
		if (why) {
			trouble(r, why);
		} else {
			r->peer->enter(0);
			body(r);
		}
		_exit(write(ends[1], &r->report, sizeof(r->report)) != sizeof(r->report));
	}
	close(ends[1]);
	if (read(ends[0], &got, sizeof(got)) == sizeof(got))
		r->report = got;
	else
		trouble(r, "it died");
	close(ends[0]);
	waitpid(child, &status, 0);
}

static void one_round(int peer, int size, void (*body)(struct round *))
{
	struct round r = { .peer = peers[peer], .size = size };

	in_process(&r, body);
	if (*r.report.trouble) {
		printf("%s\n", r.report.trouble);
		failures++;
		return;
	}
	if (r.report.cost)
		cost[peer] = r.report.cost;
	for (int f = 0; f < FIGURES; f++)
		for (int law = 0; law < LAWS; law++)
			if (!isnan(r.report.value[f][law])) {
				int i = samples[f][COLUMN(size, law)][peer].n++;

				samples[f][COLUMN(size, law)][peer].of[i] = r.report.value[f][law];
			}
}

/* --- the program ------------------------------------------------------------ */

/* keel comes first: the others are compared with it. */
static void load(const char *name, const char *only)
{
	contestants_fn *fn;

	*(void **)&fn = find_contestants(name);
	if (!fn)
		return;
	for (const struct peer *const *p = fn(); *p && npeers < MAX_PEERS; p++)
		if (!only || !strncmp(only, (*p)->name, strlen(only)))
			peers[npeers++] = *p;
}

/* Exactly <n> operations in this process, with 10 000 entries, or <n> where
 * these are made or removed. */
static int run_fixed(char **arg)
{
	uint32_t n = (uint32_t)strtoul(arg[2], NULL, 10), entries, life = 1000;
	enum op op = NOTHING;
	struct round r = { 0 };

	while (op < COUNTED && strcmp(arg[1], op_names[op]))
		op++;
	if (!npeers || op == COUNTED || n == 0 || n >= DRAWN || (peers[0]->open && peers[0]->open())) {
		fprintf(stderr, "no such contestant or operation: %s, %s, or not so many\n", arg[0], arg[1]);
		return 2;
	}
	r.peer = peers[0];
	entries = op == CREATE || op == EXPIRE ? n : sizes[SMALL].n;
	draw_keys(entries);
	r.peer->enter(0);
	if (!start(&r, entries, op == EXPIRE ? life : EXPIRE_MS * 10))
		return 1;
	if (op != CREATE)
		r.peer->run(CREATE, keys, entries);
	if (op == EXPIRE)
		usleep((life + 20) * 1000);
	timed(r.peer, op, op == CREATE ? keys : drawn[UNIFORM][0], n);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "keel", "lfht", "uthash", "rust" };
	const char *only = getenv("ONLY");
	bool is_fixed = argc == 5 && !strcmp(argv[1], "--fixed");

	if (argc > 1 && !is_fixed) {
		fprintf(stderr, "usage: stick_table [--fixed PEER OP N]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	find_cores(cores);
	pin_to(cores[0]);
	weigh_the_clock();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		load(names[i], is_fixed ? argv[2] : only);
	if (is_fixed)
		return run_fixed(argv + 2);
	if (!npeers)
		return 1;
	for (int s = 0; s < SIZES; s++) {
		rounds[s] = rounds_wanted(sizes[s].quick_rounds, MAX_ROUNDS);
		draw_keys(sizes[s].n);
		for (int round = 0; round < rounds[s]; round++)
			for (int p = 0; p < npeers; p++) {
				for (int i = 0; i < sizes[s].fills; i++)
					one_round(p, s, fill_and_expire);
				one_round(p, s, use);
			}
	}
	print_preface(rounds);
	for (int f = 0; f < FIGURES; f++)
		print(f);
	if (!strcmp(peers[0]->name, "keel"))
		print_goals();
	if (failures)
		printf("\n%d processes failed\n", failures);
	return failures != 0;
}
