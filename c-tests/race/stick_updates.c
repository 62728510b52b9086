/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Readers of updates against whatever removes entries: expiry, eviction, kill
 * (STK-5, STK-6, STK-8, STK-9), while others touch them here and as peers do
 * (STK-10). Whoever reads an update holds a whole entry.
 * SHOWS: INV-90, INV-104, INV-105, STK-5, STK-6, STK-8, STK-9, STK-10 */

#include "stick.h"

#define KEYS     24
#define TOUCHERS 2
#define READERS  2

static atomic_int over;
static atomic_ulong read_entries, killed, evicted, taught;

static struct task *teaches(struct task *task, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&taught, 1);
	task->expire = TICK_ETERNITY;
	return task;
}

static void *touches(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		unsigned int key = dice(KEYS) + 1;
		struct stksess *ts;
		int n;

		if (!dice(16)) {
			n = stktable_trash_oldest(&table, 2);
			must(n >= 0 && n <= 2, "trash_oldest returned %d", n);
			atomic_fetch_add(&evicted, (unsigned long)n);
			continue;
		}
		ts = stktable_get_entry(&table, NUM(key));
		if (!ts)
			continue;
		count(ts, key);
		switch (dice(4)) {
		case 0:
			stktable_touch_remote(&table, ts, 0);
			break;
		case 1:
			break;
		default:
			stktable_touch_local(&table, ts, 0);
		}
		if (dice(2))
			atomic_fetch_add(&killed, (unsigned long)stksess_kill(&table, ts, 1));
		else
			stktable_release(&table, ts);
		if (!dice(32))
			nap(dice(1500));
	}
	return NULL;
}

static void *reads(void *arg)
{
	unsigned int from = 0;

	while (!atomic_load(&over)) {
		/* all of the ring, or what is new */
		unsigned int end = (size_t)arg ? __atomic_load_n(&table.localupdate, __ATOMIC_RELAXED) :
		                                 from - 1;
		struct stksess *ts = keel_stktable_next_update(&table, from, end, &from);

		if (!ts) {
			if ((size_t)arg)
				__atomic_store_n(&table.commitupdate, from, __ATOMIC_RELAXED);
			else
				from += 0x40000000;
			nap(dice(200));
			continue;
		}
		check_entry(ts, *(unsigned int *)keel_stksess_key(ts));
		atomic_fetch_add(&read_entries, 1);
		if (!dice(16))
			nap(dice(2000));
		check_entry(ts, *(unsigned int *)keel_stksess_key(ts));
		stktable_release(&table, ts);
	}
	return NULL;
}

int main(void)
{
	pthread_t th[TOUCHERS + READERS];

	servers_start();
	watchdog();
	table_start(KEYS / 2, 1);
	table.sync_task = task_new_anywhere();
	must(table.sync_task, "no task");
	table.sync_task->process = teaches;
	for (size_t i = 0; i < TOUCHERS + READERS; i++)
		must(pthread_create(&th[i], NULL, i < TOUCHERS ? touches : reads, (void *)(i % 2)) == 0, "no thread");
	nap(1500000);
	atomic_store(&over, 1);
	for (int i = 0; i < TOUCHERS + READERS; i++)
		pthread_join(th[i], NULL);
	empties(20000);
	for (unsigned int from = 0, half = 0; half < 2; half++, from = 0x80000000)
		must(!keel_stktable_next_update(&table, from, from + 0x80000000, &from), "an update of an empty table");
	stktable_deinit(&table);
	servers_stop();
	must(read_entries && killed && evicted && taught, "nothing happened");
	printf("ok updates: %lu read, %lu killed, %lu evicted, taught %lu times\n", atomic_load(&read_entries),
	       atomic_load(&killed), atomic_load(&evicted), atomic_load(&taught));
	return 0;
}
