/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Drains that somebody works against: a thread that arms the callout again and
 * again (D-1), a handler that does so first thing (M-18, M-34). Each drain must
 * end, and nothing of before may run after it.
 *
 * SHOWS: CINV-8, CINV-16, CINV-17 */

#include "cpus.h"

#define CPUS    3
#define SECONDS 1

static struct callout c;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int over, inside, self;
static atomic_ulong started;

static void handler(void *arg)
{
	must(atomic_fetch_add(&inside, 1) == 0, "runs twice at once");
	atomic_fetch_add(&started, 1);
	if (atomic_load(&self))
		callout_reset_sbt_on(&c, 1, 0, handler, arg, (int)dice(CPUS), C_ABSOLUTE);
	if (!dice(4))
		nap(50);
	atomic_fetch_sub(&inside, 1);
}

static void *resets_on(void *arg)
{
	while (!atomic_load(&over)) {
		if (arg)
			pthread_mutex_lock(&mutex);
		callout_reset_sbt_on(&c, 1, 0, handler, NULL, (int)dice(CPUS), C_ABSOLUTE);
		if (arg)
			pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

/* D-1. What follows a drain is another arming's business. */
static void against_a_thread(int with_lock)
{
	unsigned long drains = 0, met = 0;
	uint64_t limit;
	pthread_t th;

	atomic_store(&self, 0);
	atomic_store(&over, 0);
	if (with_lock)
		callout_init_mtx(&c, &mutex, 0);
	else
		callout_init(&c, CALLOUT_MPSAFE);
	must(pthread_create(&th, NULL, resets_on, with_lock ? &mutex : NULL) == 0, "no thread");
	limit = keel_now_ns() + SECONDS * 1000000000ull;
	while (keel_now_ns() < limit || !met) {
		unsigned long before = atomic_load(&started);
		int rc;

		for (unsigned int i = dice(200); i && atomic_load(&started) == before; i--)
			sched_yield();
		met += atomic_load(&inside) != 0;
		rc = callout_drain(&c);
		must(rc == 1 || rc == -1, "drain returned %d", rc);
		drains++;
		atomic_fetch_add(&progress, 1);
	}
	atomic_store(&over, 1);
	pthread_join(th, NULL);
	callout_drain(&c);
	must(atomic_load(&inside) == 0 && !callout_pending(&c), "drained and alive");
	must(atomic_load(&started) > 0, "it never ran");
	printf("ok against a thread %s: %lu drains ended, %lu met the handler\n", with_lock ? "under the lock" : "without a lock",
	       drains, met);
}

static void *drains_too(void *arg)
{
	pthread_barrier_t *barrier = arg;
	int last;

	do {
		pthread_barrier_wait(barrier);
		last = atomic_load(&over);
		callout_drain(&c);
		must(atomic_load(&inside) == 0, "drained and inside");
		pthread_barrier_wait(barrier);
	} while (!last);
	return NULL;
}

/* M-34; two drainers wake together. */
static void against_the_handler(void)
{
	unsigned long rounds = 0;
	pthread_barrier_t barrier;
	uint64_t limit;
	pthread_t th;

	atomic_store(&over, 0);
	atomic_store(&self, 1);
	callout_init(&c, CALLOUT_MPSAFE);
	pthread_barrier_init(&barrier, NULL, 2);
	must(pthread_create(&th, NULL, drains_too, &barrier) == 0, "no thread");
	limit = keel_now_ns() + SECONDS * 1000000000ull;
	while (!atomic_load(&over)) {
		unsigned long before = atomic_load(&started);
		int rc;

		callout_reset_sbt_on(&c, 1, 0, handler, NULL, (int)dice(CPUS), C_ABSOLUTE);
		while (atomic_load(&started) < before + 1 + dice(4))
			sched_yield();
		if (keel_now_ns() >= limit)
			atomic_store(&over, 1);
		pthread_barrier_wait(&barrier);
		rc = callout_drain(&c);
		must(rc == 1 || rc == -1, "drain returned %d", rc);
		before = atomic_load(&started);
		must(atomic_load(&inside) == 0 && !callout_pending(&c) && !callout_active(&c), "drained and alive");
		pthread_barrier_wait(&barrier);
		must(atomic_load(&started) == before, "ran after a drain");
		rounds++;
		atomic_fetch_add(&progress, 1);
	}
	pthread_join(th, NULL);
	printf("ok against the handler: %lu rounds\n", rounds);
}

int main(void)
{
	cpus_start(CPUS, CPUS);
	watchdog();
	against_a_thread(0);
	against_a_thread(1);
	against_the_handler();
	cpus_stop();
	return 0;
}
