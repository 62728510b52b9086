/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A stick table whose entries live for a millisecond.
 *
 *     stick_table [seconds]
 *
 * Eight threads create, touch, count, look up, kill, evict and drop; half of
 * them run keel's loop in between, where the expiry task lives. Every now and
 * then all of them stop touching, and the table has to empty by itself: what
 * takes longer than 50 ms is counted, what takes longer than a second is an
 * error, as is any entry that changes while it is held. Default: three seconds,
 * as long as a test among others may take; `make stress STICK_SECONDS=600`.
 *
 * SEED in the environment repeats the random numbers.
 * SHOWS: INV-90, INV-97, STK-1, STK-4 */

#include "../race/stick.h"

#define THREADS  8
#define KEYS     3000
#define LATE_MS  50
#define LIMIT_MS 1000

static pthread_barrier_t pause_begins, pause_ends;
static atomic_int pausing, over;
static atomic_ulong operations, created, expired, killed;

static void one_step(void)
{
	/* some keys are everybody's */
	unsigned int key = 1 + (dice(4) ? dice(KEYS) : dice(4));
	struct stksess *ts;

	switch (dice(64)) {
	case 0:
		stktable_trash_oldest(&table, (int)dice(4));
		return;
	case 1:
		stktable_update_key(&table, NUM(key));
		return;
	case 2:
	case 3:
	case 4:
	case 5:
		ts = stktable_lookup_key(&table, NUM(key));
		break;
	default:
		ts = stktable_get_entry(&table, NUM(key));
		must(ts, "no room in a table that has it");
		atomic_fetch_add_explicit(&created, 1, memory_order_relaxed);
	}
	if (!ts)
		return;
	check_entry(ts, key);
	count(ts, key);
	if (!dice(256))
		nap(dice(3000));
	switch (dice(16)) {
	case 0:
		if (stksess_kill(&table, ts, 1))
			atomic_fetch_add_explicit(&killed, 1, memory_order_relaxed);
		break;
	case 1:
		stktable_release(&table, ts);
		break;
	case 2:
		stksess_kill_if_expired(&table, ts, 1);
		break;
	case 3:
		stktable_touch_remote(&table, ts, 1);
		break;
	case 4:
		stktable_touch_with_exp(&table, ts, 1, tick_add((int)keel_now_ms(), 1 + (int)dice(3)));
		break;
	default:
		stktable_touch_local(&table, ts, 1);
	}
}

static void *rages(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;
	int serving = id < THREADS / 2;

	if (serving)
		must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	while (!atomic_load(&over)) {
		unsigned int burst = 1 + dice(200);

		while (burst--)
			one_step();
		atomic_fetch_add_explicit(&operations, 1, memory_order_relaxed);
		if (serving)
			keel_poll_once((int)dice(2));
		else if (!dice(4))
			nap(dice(3000));
		if (atomic_load(&pausing)) {
			pthread_barrier_wait(&pause_begins);
			/* those that serve go on serving */
			while (serving && atomic_load(&pausing))
				keel_poll_once(2);
			pthread_barrier_wait(&pause_ends);
		}
	}
	if (serving)
		keel_thread_leave();
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned long seconds = argc > 1 ? strtoul(argv[1], NULL, 0) : 3;
	struct keel_config cfg = KEEL_CONFIG_INIT;
	unsigned int pauses = 0, late = 0, longest = 0;
	pthread_t th[THREADS];
	uint64_t begin, end;

	if (!seconds) {
		fprintf(stderr, "usage: stick_table [seconds]\n");
		return 2;
	}
	cfg.nbthread = THREADS;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	watchdog();
	table_start(KEYS * 2, 1);
	pthread_barrier_init(&pause_begins, NULL, THREADS + 1);
	pthread_barrier_init(&pause_ends, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, rages, (void *)i) == 0, "no thread");
	begin = keel_now_ns();
	end = begin + seconds * 1000000000u;
	while (!atomic_load(&over)) {
		unsigned int took;

		nap(20000 + dice(200000));
		atomic_store(&pausing, 1);
		pthread_barrier_wait(&pause_begins);
		expired += keel_stktable_current(&table);
		took = empties(LIMIT_MS);
		late += took > LATE_MS;
		if (took > longest)
			longest = took;
		pauses++;
		atomic_store(&pausing, 0);
		if (keel_now_ns() >= end)
			atomic_store(&over, 1);
		pthread_barrier_wait(&pause_ends);
		atomic_fetch_add(&progress, 1);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	must(atomic_load(&expired) > 0 && atomic_load(&killed) > 0, "nothing happened");
	stktable_deinit(&table);
	keel_deinit();
	printf("ok %lu s of a table with entries of 1 ms: %lu got, %lu killed, %u pauses, %lu entries left in them; "
	       "empty after %u ms at most, %u times later than %d ms\n",
	       seconds, atomic_load(&created), atomic_load(&killed), pauses, atomic_load(&expired), longest, late,
	       LATE_MS);
	return 0;
}
