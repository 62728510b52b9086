/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tables are made and freed while keel's threads expire their entries: nobody
 * uses the table, but its own task may be running (INV-90).
 * SHOWS: INV-90 */

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <pthread.h>
#include <keel/keel.h>

#define TABLES  400
#define ENTRIES 300

static atomic_ulong expired;

static void die(const char *what)
{
	fprintf(stderr, "stick_free: %s\n", what);
	exit(1);
}

static void fill(struct stktable *t)
{
	for (int k = 0; k < ENTRIES; k++) {
		struct stktable_key key = { &k, sizeof(k) };

		if (!stktable_update_key(t, &key))
			die("no entry");
	}
}

static void *churn(void *arg)
{
	unsigned int seed = 1;

	(void)arg;
	for (int i = 0; i < TABLES; i++) {
		char *err = NULL;
		struct stktable *t = keel_stktable_new(NULL, "type integer size 100k expire 1ms store conn_cnt", &err);

		if (!t)
			die(err);
		fill(t);
		usleep(500 + (unsigned int)rand_r(&seed) % 1500);
		atomic_fetch_add(&expired, ENTRIES - keel_stktable_current(t));
		keel_stktable_free(t);
	}
	keel_stop();
	return NULL;
}

int main(void)
{
	struct keel_config config = KEEL_CONFIG_INIT;
	pthread_t thread;

	config.nbthread = 2;
	if (keel_init(&config) != 0)
		die("no init");
	if (pthread_create(&thread, NULL, churn, NULL) != 0)
		die("no thread");
	if (keel_run(NULL, NULL) != 0)
		die("no run");
	pthread_join(thread, NULL);
	if (total_allocated_tasks() != 0)
		die("tasks are left");
	if (!atomic_load(&expired))
		die("nothing has expired: the test shows nothing");
	keel_deinit();
	printf("ok %d tables freed under their tasks, %lu entries had expired\n", TABLES, atomic_load(&expired));
	return 0;
}
