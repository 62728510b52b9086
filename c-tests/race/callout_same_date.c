/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* P-1: many callouts of one date on one cpu. While the first of them dwells in
 * its handler, others put the rest off, elsewhere, or take them out: those are
 * expired and still pending.
 *
 * SHOWS: CINV-2, CINV-19 */

#include "cpus.h"

#define CALLOUTS 16
#define CHASERS  2
#define CPUS     3
#define SECONDS  2

static struct {
	struct callout c;
	unsigned long armed, removed; /* its chaser's */
	atomic_ulong started;
	atomic_int inside;
} all[CALLOUTS];

static atomic_int dwelling, first, over;
static atomic_ulong rounds;
static pthread_barrier_t begin, end;

static void handler(void *arg)
{
	size_t i = (size_t)arg;

	must(atomic_fetch_add(&all[i].inside, 1) == 0, "callout %lu runs twice at once", i);
	atomic_fetch_add(&all[i].started, 1);
	if (!atomic_exchange(&first, 1)) {
		atomic_store(&dwelling, 1);
		nap(200);
	}
	atomic_fetch_sub(&all[i].inside, 1);
}

static void *chases(void *arg)
{
	for (;;) {
		pthread_barrier_wait(&begin);
		if (atomic_load(&over))
			return NULL;
		while (!atomic_load(&dwelling))
			sched_yield();
		for (size_t i = (size_t)arg; i < CALLOUTS; i += CHASERS) {
			sbintime_t later = uptime() + (sbintime_t)dice(3) * 100 * SBT_1US;

			/* nobody else arms it: the sums stay exact */
			switch (dice(5)) {
			case 0:
				all[i].removed += (unsigned long)callout_reset_sbt_on(&all[i].c, later, 0, handler,
				        (void *)i, (int)dice(CPUS), C_ABSOLUTE);
				all[i].armed++;
				break;
			case 1:
				all[i].removed += callout_drain(&all[i].c) == 1;
				break;
			default:
				all[i].removed += (unsigned long)callout_reset_sbt(&all[i].c, later, 0, handler,
				        (void *)i, C_ABSOLUTE);
				all[i].armed++;
			}
		}
		pthread_barrier_wait(&end);
	}
}

int main(void)
{
	pthread_t th[CHASERS];
	uint64_t limit;

	cpus_start(CPUS, CPUS);
	watchdog();
	pthread_barrier_init(&begin, NULL, CHASERS + 1);
	pthread_barrier_init(&end, NULL, CHASERS + 1);
	for (size_t i = 0; i < CALLOUTS; i++)
		callout_init(&all[i].c, CALLOUT_MPSAFE);
	for (size_t i = 0; i < CHASERS; i++)
		must(pthread_create(&th[i], NULL, chases, (void *)i) == 0, "no thread");
	limit = keel_now_ns() + SECONDS * 1000000000ull;
	while (keel_now_ns() < limit) {
		sbintime_t date = uptime() + 300 * SBT_1US;
		int cpu = (int)dice(CPUS);

		atomic_store(&first, 0);
		atomic_store(&dwelling, 0);
		for (size_t i = 0; i < CALLOUTS; i++) {
			all[i].removed += (unsigned long)callout_reset_sbt_on(&all[i].c, date, 0, handler,
			        (void *)i, cpu, C_ABSOLUTE);
			all[i].armed++;
		}
		pthread_barrier_wait(&begin);
		pthread_barrier_wait(&end);
		for (size_t i = 0; i < CALLOUTS; i++) {
			all[i].removed += callout_drain(&all[i].c) == 1;
			must(all[i].armed == atomic_load(&all[i].started) + all[i].removed,
			     "callout %lu: armed %lu, started %lu, removed %lu", i, all[i].armed,
			     atomic_load(&all[i].started), all[i].removed);
		}
		atomic_fetch_add(&rounds, 1);
		atomic_fetch_add(&progress, 1);
	}
	atomic_store(&over, 1);
	pthread_barrier_wait(&begin);
	for (int i = 0; i < CHASERS; i++)
		pthread_join(th[i], NULL);
	cpus_stop();
	printf("ok same date: %lu rounds\n", atomic_load(&rounds));
	return 0;
}
