/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs that race stick tables add to cpus.h. */
#ifndef RACE_STICK_H
#define RACE_STICK_H

#include <string.h>

#include "cpus.h"

/* A key that is a number. */
#define NUM(n) (&(struct stktable_key){ ((unsigned int[]){ (unsigned int)(n) }), sizeof(unsigned int) })

static struct stktable table;

__attribute__((unused))
static void *serves(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

/* keel_init() for two threads, which run the loop and nothing else. */
static pthread_t servers[2];

__attribute__((unused))
static void servers_start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	for (size_t i = 0; i < 2; i++)
		must(pthread_create(&servers[i], NULL, serves, (void *)i) == 0, "no thread");
}

__attribute__((unused))
static void servers_stop(void)
{
	keel_stop();
	for (int i = 0; i < 2; i++)
		pthread_join(servers[i], NULL);
	keel_deinit();
}

/* Integers that store conn_cnt and bytes_in_cnt. */
__attribute__((unused))
static void table_start(unsigned int size, int expire)
{
	memset(&table, 0, sizeof(table));
	table.type = SMP_T_SINT;
	table.key_size = sizeof(unsigned int);
	table.size = size;
	table.expire = expire;
	must(stktable_alloc_data_type(&table, STKTABLE_DT_CONN_CNT, NULL, NULL) == PE_NONE, "no conn_cnt");
	must(stktable_alloc_data_type(&table, STKTABLE_DT_BYTES_IN_CNT, NULL, NULL) == PE_NONE, "no bytes_in_cnt");
	must(stktable_init(&table) == 1, "stktable_init() fails");
}

/* The calling thread holds a reference: the key is what it was, and both
 * counters, which are written together under the lock, agree. */
__attribute__((unused))
static void check_entry(struct stksess *ts, unsigned int key)
{
	void *calls, *bytes;

	must(*(unsigned int *)keel_stksess_key(ts) == key, "the entry of %u has become that of %u", key,
	     *(unsigned int *)keel_stksess_key(ts));
	must(__atomic_load_n(&ts->ref_cnt, __ATOMIC_RELAXED) - 1 < 1000, "held, and used by %u",
	     __atomic_load_n(&ts->ref_cnt, __ATOMIC_RELAXED));
	stksess_rdlock(ts);
	calls = stktable_data_ptr(&table, ts, STKTABLE_DT_CONN_CNT);
	bytes = stktable_data_ptr(&table, ts, STKTABLE_DT_BYTES_IN_CNT);
	must(calls && bytes, "data are gone");
	must(stktable_data_cast(bytes, std_t_ull) == stktable_data_cast(calls, std_t_uint) * (unsigned long long)key,
	     "data of different times");
	stksess_rdunlock(ts);
}

__attribute__((unused))
static void count(struct stksess *ts, unsigned int key)
{
	stksess_wrlock(ts);
	stktable_data_cast(stktable_data_ptr(&table, ts, STKTABLE_DT_CONN_CNT), std_t_uint)++;
	stktable_data_cast(stktable_data_ptr(&table, ts, STKTABLE_DT_BYTES_IN_CNT), std_t_ull) += key;
	stksess_wrunlock(ts);
}

/* Nobody touches it any more: waits until it is empty. Returns the ms it took. */
__attribute__((unused))
static unsigned int empties(unsigned int limit_ms)
{
	uint64_t begin = keel_now_ns(), limit = begin + limit_ms * 1000000ull;

	while (keel_stktable_current(&table)) {
		must(keel_now_ns() < limit, "%u entries never leave", keel_stktable_current(&table));
		nap(500);
	}
	return (unsigned int)((keel_now_ns() - begin) / 1000000);
}

#endif
