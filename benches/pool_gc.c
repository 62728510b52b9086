/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What pool_gc() does to others: a second thread allocates from another pool
 * all the time, and the longest that it ever waits is shown, while nothing
 * happens and while a gigabyte of free objects goes back to the kernel. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <keel/keel.h>

#define OBJECTS 250000
#define BYTES   4096

static struct pool_head *freed, *busy;
static _Atomic int running = 1, longest_us;
static void *objects[OBJECTS];

static int resident_mib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (int)(pages * sysconf(_SC_PAGESIZE) >> 20);
}

/* Of 64 objects: more than its cache has, so that the shared list and the
 * system are asked too. */
static void *allocate(void *unused)
{
	void *mine[64];

	if (keel_thread_enter(1) != 0)
		return unused;
	while (running) {
		uint64_t begin = keel_now_ns(), us;

		for (int i = 0; i < 64; i++)
			mine[i] = pool_alloc(busy);
		for (int i = 0; i < 64; i++)
			pool_free(busy, mine[i]);
		us = (keel_now_ns() - begin) / 1000;
		if (us > (uint64_t)longest_us)
			longest_us = (int)us;
	}
	keel_thread_leave();
	return unused;
}

/* Returns the time that <fn> took, ms; prints how long the other one waited. */
static void during(const char *what, void (*fn)(void))
{
	int before = resident_mib();
	uint64_t begin = keel_now_ns();

	longest_us = 0;
	fn();
	printf("| %s | %llu | %d to %d | %d |\n", what, (unsigned long long)((keel_now_ns() - begin) / 1000000), before,
	       resident_mib(), (int)longest_us);
}

static void rest(void) { usleep(300000); }
static void collect(void) { pool_gc(NULL); }

int main(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t other;

	cfg.nbthread = 2;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0)
		return 1;
	freed = create_pool("freed", BYTES, 0);
	busy = create_pool("busy", 16384, 0);
	if (!freed || !busy)
		return 1;
	for (int i = 0; i < OBJECTS; i++) {
		objects[i] = pool_zalloc(freed);
		if (!objects[i])
			return 1;
	}
	if (pthread_create(&other, NULL, allocate, NULL) != 0)
		return 1;
	/* all of them stay in the pool until it is told otherwise */
	freed->minavail = OBJECTS;
	for (int i = 0; i < OBJECTS; i++)
		pool_free(freed, objects[i]);
	freed->minavail = 0;

	printf("| another thread's longest wait for 64 objects of 16 KiB | takes, ms | resident, MiB | waits, µs |\n");
	printf("| --- | --- | --- | --- |\n");
	during("nothing happens", rest);
	during("pool_gc()", collect);
	during("nothing happens", rest);
	running = 0;
	pthread_join(other, NULL);
	keel_deinit();
	return 0;
}
