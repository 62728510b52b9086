/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Several threads in their loops, beside the test's own. */
#ifndef LOOPS_H
#define LOOPS_H

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <keel/keel.h>

#include "storm.h"

static atomic_int in_loop;

/* What each thread does before its loop, where a test sets it. */
static int (*prepare)(void);

static inline int note_loop(unsigned int tid, void *arg)
{
	(void)tid;
	(void)arg;
	if (prepare && prepare())
		return 1;
	atomic_fetch_add(&in_loop, 1);
	return 0;
}

static inline void *run_all(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_run(note_loop, NULL), 0);
	return NULL;
}

/* The caller stays unregistered. */
static inline pthread_t start_loops(unsigned int n)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th;

	cfg.nbthread = n;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
	pthread_create(&th, NULL, run_all, NULL);
	while (atomic_load(&in_loop) < (int)n)
		usleep(1000);
	return th;
}

static inline void wait_for(const atomic_int *flag, int value)
{
	for (int i = 0; i < 10000 && atomic_load(flag) < value; i++)
		usleep(1000);
	ck_assert_int_ge(atomic_load(flag), value);
}

/* What was killed is gone by and by. */
static inline void all_gone(void)
{
	for (int i = 0; i < 10000 && (total_allocated_tasks() || total_run_queues()); i++)
		usleep(1000);
	ck_assert_int_eq(total_allocated_tasks(), 0);
	ck_assert_int_eq(total_run_queues(), 0);
}

static inline void stop_loops(pthread_t th)
{
	keel_stop();
	pthread_join(th, NULL);
	keel_deinit();
}

#endif
