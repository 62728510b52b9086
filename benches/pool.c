/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pools beside the C library's malloc, in one program: rounds of both taken in
 * turn, the median of each, and their ratio. The registered thread uses its
 * cache, as a server's threads do. */

#include <stdio.h>
#include <stdlib.h>

#include <keel/keel.h>

#define ROUNDS 9
#define BATCH  64

static struct pool_head *pool;
static size_t size;

static void *from_pool(void) { return pool_alloc(pool); }
static void to_pool(void *object) { pool_free(pool, object); }
static void *from_libc(void) { return malloc(size); }
static void to_libc(void *object) { free(object); }

struct allocator {
	void *(*take)(void);
	void (*give)(void *object);
};

static const struct allocator keel = { from_pool, to_pool }, libc = { from_libc, to_libc };

/* Nanoseconds per object, taken and given in batches of <n>. */
static double measure(const struct allocator *a, int n, int batches)
{
	void *held[BATCH];
	uint64_t begin = keel_now_ns();

	for (int b = 0; b < batches; b++) {
		for (int i = 0; i < n; i++) {
			held[i] = a->take();
			/* the object is used, as a server would */
			*(volatile char *)held[i] = 1;
		}
		for (int i = 0; i < n; i++)
			a->give(held[i]);
	}
	return (double)(keel_now_ns() - begin) / ((double)n * batches);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void compare(const char *what, int n, int batches)
{
	double k[ROUNDS], l[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		k[r] = measure(&keel, n, batches);
		l[r] = measure(&libc, n, batches);
	}
	qsort(k, ROUNDS, sizeof(*k), by_value);
	qsort(l, ROUNDS, sizeof(*l), by_value);
	printf("| %s, %zu B | %.1f (%.1f to %.1f) | %.1f (%.1f to %.1f) | %.3f |\n", what, size, k[ROUNDS / 2], k[0],
	       k[ROUNDS - 1], l[ROUNDS / 2], l[0], l[ROUNDS - 1], k[ROUNDS / 2] / l[ROUNDS / 2]);
}

int main(void)
{
	static const size_t sizes[] = { 64, 512, 16384 };
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 1;
	cfg.pool_cache_bytes = 4 << 20;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0)
		return 1;
	printf("| ns per object, median (least to most) of %d rounds | keel | libc | keel / libc |\n", ROUNDS);
	printf("| --- | --- | --- | --- |\n");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size = sizes[i];
		pool = create_pool("bench", (unsigned int)size, MEM_F_EXACT);
		if (!pool)
			return 1;
		compare("one at a time", 1, 2000000);
		compare("64 at a time", BATCH, 30000);
		pool_destroy(pool);
	}
	keel_deinit();
	return 0;
}
