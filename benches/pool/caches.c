/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* caches: two designs of a thread's cache of free objects, one against the
 * other, without any library: intrusive.c and arrays.c. Rounds of both in turn,
 * pinned to a core, in processor time; a figure is the median of the rounds.
 * QUICK=1 a shorter version; ROUNDS=N.
 *
 * Objects lie as glibc's malloc() lays them, 16 bytes apart, in random order. A
 * user who touches an object writes its first word when it is new, and reads it
 * before it is freed. */

#define _GNU_SOURCE
#include "../measure.h"
#include "cache.h"

#define STORE      2048u
#define BATCH      64
#define FIFO       1000
#define OBJECTS    1048576 /* in a measurement */
#define MAX_ROUNDS 99

const size_t object_sizes[POOLS] = { 64, 512, 16384 };

/* --- the store -------------------------------------------------------------- */

static struct store {
	uint32_t count;
	void *objects[STORE];
} store[POOLS];

uint32_t store_take(unsigned int pool, void *objects[CLUSTER])
{
	struct store *s = &store[pool];
	uint32_t n = 0;

	while (n < CLUSTER && s->count)
		objects[n++] = s->objects[--s->count];
	return n;
}

void store_give(unsigned int pool, void *const objects[CLUSTER], uint32_t n)
{
	struct store *s = &store[pool];

	for (uint32_t i = 0; i < n; i++)
		s->objects[s->count++] = objects[i];
}

static void fill_store(unsigned int pool)
{
	static char *memory[POOLS];
	static uint32_t order[POOLS][STORE];
	size_t stride = object_sizes[pool] + 16;

	if (!memory[pool]) {
		memory[pool] = aligned_alloc(4096, (STORE * stride + 4095) & ~4095ul);
		if (!memory[pool]) {
			fprintf(stderr, "out of memory\n");
			exit(1);
		}
		memset(memory[pool], 0, STORE * stride);
		for (uint32_t i = 0; i < STORE; i++)
			order[pool][i] = i;
		draw(order[pool], STORE, STORE);
	}
	for (uint32_t i = 0; i < STORE; i++)
		store[pool].objects[i] = memory[pool] + order[pool][i] * stride;
	store[pool].count = STORE;
}

/* --- the workloads ---------------------------------------------------------- */

struct user {
	const struct cache *cache;
	unsigned int pool;
	bool touches;
	uint32_t live, oldest;
	void *held[FIFO];
};

static inline void *new(struct user *u)
{
	void *object = u->cache->take(u->pool);

	if (u->touches)
		*(void *volatile *)object = object;
	return object;
}

static inline void old(struct user *u, void *object)
{
	if (u->touches && *(void *volatile *)object != object) {
		fprintf(stderr, "an object is not what its user wrote\n");
		exit(1);
	}
	u->cache->give(u->pool, object);
}

static void pair(struct user *u)
{
	for (int i = 0; i < OBJECTS; i++)
		old(u, new(u));
}

static void batch(struct user *u)
{
	for (int b = 0; b < OBJECTS / BATCH; b++) {
		for (int i = 0; i < BATCH; i++)
			u->held[i] = new(u);
		for (int i = 0; i < BATCH; i++)
			old(u, u->held[i]);
	}
}

/* Takes a new one, gives the oldest back: each is freed when a thousand others
 * were used since. */
static void fifo(struct user *u)
{
	while (u->live < FIFO)
		u->held[u->live++] = new(u);
	for (int i = 0; i < OBJECTS; i++) {
		void *object = new(u);

		old(u, u->held[u->oldest]);
		u->held[u->oldest] = object;
		u->oldest = u->oldest + 1 == FIFO ? 0 : u->oldest + 1;
	}
}

static const struct {
	const char *title;
	void (*run)(struct user *u);
	bool touches;
} kinds[] = {
	{ "one at a time", pair, false },         { "one at a time, touched", pair, true },
	{ "64 at a time", batch, false },         { "64 at a time, touched", batch, true },
	{ "first in, first out of 1000", fifo, false }, { "first in, first out of 1000, touched", fifo, true },
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))

static const struct cache *const caches[] = { &intrusive, &arrays };
static double result[KINDS][POOLS][2][MAX_ROUNDS];

/* --- the program ------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	return (x > y) - (x < y);
}

/* That each object is in one place: the user's, the cache, or the store. */
static bool all_there(struct user *u)
{
	static void *found[STORE];
	struct accounts a = u->cache->sum();
	uint32_t n = 0;

	if (a.objects + store[u->pool].count + u->live != STORE || a.bytes != a.objects * object_sizes[u->pool] || a.bytes > LIMIT)
		return false;
	for (uint32_t i = 0; i < u->live; i++)
		found[n++] = u->held[i];
	while (n < STORE && (found[n] = u->cache->take(u->pool)))
		n++;
	qsort(found, n, sizeof(*found), by_address);
	for (uint32_t i = 1; i < n; i++)
		if (found[i] == found[i - 1])
			return false;
	return n == STORE && !u->cache->take(u->pool);
}

static double measure(const struct cache *cache, unsigned int pool, size_t kind)
{
	static struct user u;
	uint64_t begin;
	double ns;

	fill_store(pool);
	cache->clear();
	u = (struct user){ .cache = cache, .pool = pool, .touches = kinds[kind].touches };
	kinds[kind].run(&u); /* caches fill */
	begin = cpu_ns();
	kinds[kind].run(&u);
	ns = since(begin) / OBJECTS;
	if (!all_there(&u)) {
		fprintf(stderr, "%s: objects got lost, or their sums are wrong\n", cache->name);
		exit(1);
	}
	return ns;
}

static void print_cell(double of[MAX_ROUNDS], int rounds)
{
	qsort(of, (size_t)rounds, sizeof(*of), by_value);
	printf(" %.2f (%.2f to %.2f) |", of[rounds / 2], of[0], of[rounds - 1]);
}

int main(void)
{
	int rounds = rounds_wanted(3, MAX_ROUNDS), cores[2] = { 0, 0 };

	find_cores(cores);
	pin_to(cores[0]);
	weigh_the_clock();
	for (int round = 0; round < rounds; round++)
		for (size_t kind = 0; kind < KINDS; kind++)
			for (unsigned int pool = 0; pool < POOLS; pool++)
				for (int c = 0; c < 2; c++)
					result[kind][pool][c][round] = measure(caches[c], pool, kind);
	printf("\na thread's cache of free objects, two designs, ns per object: median (least to most) of %d rounds\n\n| |", rounds);
	for (unsigned int pool = 0; pool < POOLS; pool++)
		printf(" %zu B: %s | %s | arrays / lists |", object_sizes[pool], caches[0]->name, caches[1]->name);
	printf("\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
	for (size_t kind = 0; kind < KINDS; kind++) {
		printf("| %s |", kinds[kind].title);
		for (unsigned int pool = 0; pool < POOLS; pool++) {
			for (int c = 0; c < 2; c++)
				print_cell(result[kind][pool][c], rounds);
			printf(" %.2f |", result[kind][pool][1][rounds / 2] / result[kind][pool][0][rounds / 2]);
		}
		printf("\n");
	}
	return 0;
}
