/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stopping the callout engine where a test wants it. Builds with the feature
 * `pause` call a hook at marked points; here it lets a test park the thread
 * that gets there, and send it on. Below that: threads that do as they are
 * told, and memory that faults once it counts as freed.
 */
#ifndef PAUSE_H
#define PAUSE_H

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "../api/panic.h"

enum keel_pause_point {
	KEEL_AT_DEQUEUED,
	KEEL_AT_LOCKWAIT,
	KEEL_AT_HANDLER_ENTER,
	KEEL_AT_HANDLER_EXIT,
	KEEL_AT_UNLOCKED,
	KEEL_AT_BETWEEN_LOCKS,
	KEEL_AT_DRAIN_BEFORE_SLEEP,
	KEEL_AT_DRAIN_WOKEN,
	KEEL_AT_SLEEP_COMMIT,
	KEEL_AT_REFILE,
	NOWHERE
};

/* <what> is the callout; NULL at SLEEP_COMMIT. NULL: no hook. */
void keel_pause(void (*hook)(int point, const void *what));

/* One lock and one condition for everything here: tests are small. */
static pthread_mutex_t stage = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;

static struct gate {
	const void *who; /* whom it holds; NULL: anyone */
	int shut;        /* holds the next one who comes */
	int parked;      /* somebody stands there */
	int reached;     /* how many have come, held or not */
} gates[NOWHERE];

/* Waits for a change, with the lock held; twenty seconds are a deadlock. */
static inline void await_change(const char *what, int number)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	if (pthread_cond_timedwait(&change, &stage, &limit))
		ck_abort_msg("waited in vain for %s %d", what, number);
}

static inline void at_gate(int point, const void *what)
{
	struct gate *g = &gates[point];

	pthread_mutex_lock(&stage);
	g->reached++;
	if (g->shut && (!g->who || g->who == what)) {
		g->shut = 0;
		g->parked = 1;
		pthread_cond_broadcast(&change);
		while (g->parked)
			await_change("the way out of gate", point);
	}
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&stage);
}

/* The next thread that comes to <point> with <who> stays there. */
static inline void park_at(int point, const void *who)
{
	pthread_mutex_lock(&stage);
	gates[point].who = who;
	gates[point].shut = 1;
	pthread_mutex_unlock(&stage);
}

static inline void await_parked(int point)
{
	pthread_mutex_lock(&stage);
	while (!gates[point].parked)
		await_change("somebody at gate", point);
	pthread_mutex_unlock(&stage);
}

static inline void let_go(int point)
{
	pthread_mutex_lock(&stage);
	gates[point].shut = 0;
	gates[point].parked = 0;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&stage);
}

static inline int times_reached(int point)
{
	int n;

	pthread_mutex_lock(&stage);
	n = gates[point].reached;
	pthread_mutex_unlock(&stage);
	return n;
}

static inline void await_reached(int point, int times)
{
	pthread_mutex_lock(&stage);
	while (gates[point].reached < times)
		await_change("visitors of gate", point);
	pthread_mutex_unlock(&stage);
}

/* --- threads ---------------------------------------------------------------- */

/* The first two are cpus 0 and 1; the others are not registered. */
enum { CPU0, CPU1, CALLER, HELPER, CREW };

static struct hand {
	pthread_t thread;
	int id;
	void (*job)(void *);
	void *arg;
	int busy;
} crew[CREW];

static inline void *hand_loop(void *arg)
{
	struct hand *h = arg;

	if (h->id <= CPU1)
		ck_assert_int_eq(keel_thread_enter((unsigned int)h->id), 0);
	pthread_mutex_lock(&stage);
	for (;;) {
		h->busy = 0;
		pthread_cond_broadcast(&change);
		while (!h->busy)
			pthread_cond_wait(&change, &stage);
		if (!h->job)
			break;
		pthread_mutex_unlock(&stage);
		h->job(h->arg);
		pthread_mutex_lock(&stage);
	}
	pthread_mutex_unlock(&stage);
	keel_thread_leave();
	return NULL;
}

static inline int is_busy(int hand)
{
	int busy;

	pthread_mutex_lock(&stage);
	busy = crew[hand].busy;
	pthread_mutex_unlock(&stage);
	return busy;
}

static inline void await_done(int hand)
{
	pthread_mutex_lock(&stage);
	while (crew[hand].busy)
		await_change("hand", hand);
	pthread_mutex_unlock(&stage);
}

/* Has a thread do something; job NULL ends it. */
static inline void begin(int hand, void (*job)(void *), void *arg)
{
	await_done(hand);
	pthread_mutex_lock(&stage);
	crew[hand].job = job;
	crew[hand].arg = arg;
	crew[hand].busy = 1;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&stage);
}

static inline void open_stage(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 64;
	cfg.panic = hear_panic;
	ck_assert_int_eq(keel_init(&cfg), 0);
	for (int i = 0; i < CREW; i++) {
		crew[i].id = i;
		crew[i].busy = 1;
		ck_assert_int_eq(pthread_create(&crew[i].thread, NULL, hand_loop, &crew[i]), 0);
	}
	for (int i = 0; i < CREW; i++)
		await_done(i);
	keel_pause(at_gate);
}

static inline void close_stage(void)
{
	keel_pause(NULL);
	for (int i = 0; i < CREW; i++) {
		begin(i, NULL, NULL);
		pthread_join(crew[i].thread, NULL);
	}
	keel_deinit();
}

/* --- time ------------------------------------------------------------------- */

static inline void nap_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Arms for a date long past: due at the next granule of the wheel. */
static inline int arm_now(struct callout *c, void (*fn)(void *), void *arg, int cpu)
{
	return callout_reset_sbt_on(c, 1, 0, fn, arg, cpu, C_ABSOLUTE);
}

static inline void pass(void *cpu)
{
	nap_ms(1); /* past the granule of what has just been armed */
	softclock((unsigned int)(size_t)cpu);
}

/* Softclock on a cpu's own thread, which may get stuck at a gate. */
static inline void begin_pass(int cpu)
{
	begin(cpu, pass, (void *)(size_t)cpu);
}

static inline void whole_pass(int cpu)
{
	begin_pass(cpu);
	await_done(cpu);
}

/* Runs what is due anywhere, and what that leaves due. */
static inline void settle(void)
{
	for (int i = 0; i < 2; i++) {
		whole_pass(CPU0);
		whole_pass(CPU1);
	}
}

/* --- memory that faults once it is gone -------------------------------------- */

static inline void *mapped(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static inline void gone(void *p)
{
	ck_assert_int_eq(mprotect(p, 4096, PROT_NONE), 0);
}

#endif
