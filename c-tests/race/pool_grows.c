/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A pool is in use before keel_init() announces 64 threads: its free objects
 * spread over more lists from then on, under the hands of those that use them.
 * SHOWS: INV-1, INV-16, INV-17 */

#include "cpus.h"

#define ROUNDS 12
#define EARLY  4
#define LATE   4
#define HELD   20

static struct pool_head *pool;
static atomic_int started, over;
static atomic_ulong laps;

static void uses(void)
{
	uintptr_t *held[HELD];

	for (int i = 0; i < HELD; i++) {
		held[i] = pool_alloc(pool);
		must(held[i], "no object");
		held[i][0] = (uintptr_t)held[i];
		held[i][5] = (uintptr_t)&held;
	}
	for (int i = 0; i < HELD; i++) {
		must(held[i][0] == (uintptr_t)held[i] && held[i][5] == (uintptr_t)&held, "somebody else wrote");
		pool_free(pool, held[i]);
	}
	if (!dice(20))
		pool_flush(pool);
	atomic_fetch_add(&laps, 1);
}

static void *early(void *arg)
{
	(void)arg;
	while (!atomic_load(&over))
		uses();
	return NULL;
}

static void *late(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	while (!atomic_load(&started))
		sched_yield();
	while (!atomic_load(&over)) {
		must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
		for (int i = 0; i < 10; i++)
			uses();
		keel_thread_leave();
	}
	return NULL;
}

static void one_round(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct keel_pool_stats stats;
	pthread_t th[EARLY + LATE];
	unsigned long before;

	cfg.nbthread = KEEL_MAX_THREADS;
	cfg.maxsock = 256;
	cfg.pool_cache_bytes = 1000;
	atomic_store(&started, 0);
	atomic_store(&over, 0);
	pool = create_pool("grows", 64, 0);
	must(pool, "no pool");
	pool->minavail = 200;
	before = atomic_load(&laps);
	for (size_t i = 0; i < EARLY + LATE; i++)
		must(pthread_create(&th[i], NULL, i < EARLY ? early : late, (void *)i) == 0, "no thread");
	while (atomic_load(&laps) < before + 100)
		sched_yield();
	must(keel_init(&cfg) == 0, "keel_init() fails");
	atomic_store(&started, 1);
	nap(20000);
	atomic_store(&over, 1);
	for (int i = 0; i < EARLY + LATE; i++)
		pthread_join(th[i], NULL);
	keel_pool_get_stats(pool, &stats);
	must(stats.used == 0, "%llu objects are in use, by nobody", stats.used);
	pool_flush(pool);
	keel_pool_get_stats(pool, &stats);
	must(stats.allocated == 0, "%llu objects are in no list", stats.allocated);
	must(pool_destroy(pool) == NULL, "the pool survives");
	keel_deinit();
}

int main(void)
{
	watchdog();
	for (int i = 0; i < ROUNDS; i++) {
		one_round();
		atomic_fetch_add(&progress, 1);
	}
	printf("ok a pool got more lists under its users %d times, %lu laps\n", ROUNDS, atomic_load(&laps));
	return 0;
}
