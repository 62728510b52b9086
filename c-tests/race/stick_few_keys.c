/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Few keys, a life of a millisecond: threads find, create, count, touch, kill,
 * evict and drop the same entries while they expire (INV-90, STK-5, STK-6,
 * STK-7). Whoever holds one finds it whole; when all stop, the table empties.
 * SHOWS: INV-90, INV-91, INV-97, STK-5, STK-6, STK-7 */

#include "stick.h"

#define KEYS    6
#define THREADS 4
#define ROUNDS  3

static atomic_int over;
static atomic_ulong found, created, killed, evicted;

static void one_step(void)
{
	unsigned int key = dice(KEYS) + 1;
	struct stksess *ts;
	int rc;

	switch (dice(10)) {
	case 0:
		rc = stktable_trash_oldest(&table, 1 + (int)dice(2));
		must(rc >= 0 && rc <= 2, "trash_oldest returned %d", rc);
		atomic_fetch_add(&evicted, (unsigned long)rc);
		return;
	case 1:
	case 2:
	case 3:
		ts = stktable_lookup_key(&table, NUM(key));
		atomic_fetch_add(&found, ts != NULL);
		break;
	case 4:
		ts = stksess_new(&table, NUM(key));
		if (ts) {
			struct stksess *stored = stktable_set_entry(&table, ts);

			must(stored, "set_entry returned nothing");
			if (stored != ts)
				stksess_free(&table, ts);
			ts = stored;
		}
		break;
	default:
		/* a full table whose entries are all held has no room */
		ts = stktable_get_entry(&table, NUM(key));
		atomic_fetch_add(&created, ts != NULL);
	}
	if (!ts)
		return;
	check_entry(ts, key);
	if (dice(2))
		count(ts, key);
	if (!dice(8))
		nap(dice(2000));
	check_entry(ts, key);
	switch (dice(8)) {
	case 0:
	case 1:
		rc = stksess_kill(&table, ts, 1);
		must(rc == 0 || rc == 1, "kill returned %d", rc);
		atomic_fetch_add(&killed, (unsigned long)rc);
		break;
	case 2:
		stksess_kill_if_expired(&table, ts, 1);
		break;
	case 3:
		stktable_release(&table, ts);
		break;
	case 4:
		stktable_touch_remote(&table, ts, 1);
		break;
	case 5:
		stktable_touch_with_exp(&table, ts, 1, tick_add((int)keel_now_ms(), (int)dice(3)));
		break;
	default:
		stktable_touch_local(&table, ts, 1);
	}
}

static void *rages(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		one_step();
		if (!dice(16))
			nap(dice(200));
	}
	return NULL;
}

int main(void)
{
	pthread_t th[THREADS];

	servers_start();
	watchdog();
	/* roomy, then too small for its keys */
	for (int round = 0; round < ROUNDS; round++) {
		table_start(round == 1 ? KEYS / 2 : 1000, 1);
		atomic_store(&over, 0);
		for (int i = 0; i < THREADS; i++)
			must(pthread_create(&th[i], NULL, rages, NULL) == 0, "no thread");
		nap(500000);
		atomic_store(&over, 1);
		for (int i = 0; i < THREADS; i++)
			pthread_join(th[i], NULL);
		empties(20000);
		stktable_deinit(&table);
		atomic_fetch_add(&progress, 1);
	}
	servers_stop();
	must(found && created && killed && evicted, "nothing happened");
	printf("ok few keys: %lu found, %lu got, %lu killed, %lu evicted\n", atomic_load(&found),
	       atomic_load(&created), atomic_load(&killed), atomic_load(&evicted));
	return 0;
}
