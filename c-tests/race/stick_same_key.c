/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All threads create the entry of the same new key (INV-94, STK-14): one is
 * stored, and everybody gets that one. Meanwhile others create keys around it,
 * so that the index grows under them.
 * SHOWS: INV-94, STK-14 */

#include "stick.h"

#define THREADS 3
#define ROUNDS  3000

static pthread_barrier_t gate;
static struct stksess *got[THREADS];
static atomic_int over;

/* Well apart from the keys of the others. */
static unsigned int key_of(unsigned int round)
{
	return 0x80000000u | round;
}

static void *creates(void *arg)
{
	size_t n = (size_t)arg;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct stksess *ts;

		pthread_barrier_wait(&gate);
		if ((round + n) % 2) {
			ts = stktable_get_entry(&table, NUM(key_of(round)));
		} else {
			struct stksess *mine = stksess_new(&table, NUM(key_of(round)));

			must(mine, "no new entry");
			ts = stktable_set_entry(&table, mine);
			if (ts != mine)
				stksess_free(&table, mine);
		}
		must(ts, "no entry");
		got[n] = ts;
		count(ts, key_of(round));
		pthread_barrier_wait(&gate);
		must(got[0] == got[n], "two entries of one key");
		check_entry(ts, key_of(round));
		pthread_barrier_wait(&gate);
		if (n == 0)
			must(stktable_data_cast(stktable_data_ptr(&table, ts, STKTABLE_DT_CONN_CNT), std_t_uint) == THREADS,
			     "counts were lost");
		pthread_barrier_wait(&gate);
		if (round % 2)
			stksess_kill(&table, ts, 1);
		else
			stktable_release(&table, ts);
		if (n == 0)
			atomic_fetch_add(&progress, 1);
	}
	return NULL;
}

static void *grows(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; !atomic_load(&over); i++) {
		unsigned int key = i % 20000 + 1;
		struct stksess *ts = stktable_get_entry(&table, NUM(key));

		must(ts, "no entry");
		check_entry(ts, key);
		stktable_release(&table, ts);
		if (i % 8 == 0)
			nap(1);
	}
	return NULL;
}

int main(void)
{
	pthread_t th[THREADS + 1];

	servers_start();
	watchdog();
	table_start(100000, 3600000);
	pthread_barrier_init(&gate, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, creates, (void *)i) == 0, "no thread");
	must(pthread_create(&th[THREADS], NULL, grows, NULL) == 0, "no thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	atomic_store(&over, 1);
	pthread_join(th[THREADS], NULL);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct stksess *ts = stktable_lookup_key(&table, NUM(key_of(round)));

		must((ts != NULL) == !(round % 2), "key %u is %s", round, ts ? "there" : "gone");
		stktable_release(&table, ts);
	}
	stktable_deinit(&table);
	servers_stop();
	printf("ok same key: %d keys by %d threads\n", ROUNDS, THREADS);
	return 0;
}
