/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* T-3: random operations on callouts with a lock. Under the lock the caller
 * knows whether an arming is outstanding, so every return has one right value,
 * whatever softclock is doing meanwhile (CINV-11, CINV-19, CINV-20, M-23).
 *
 * SHOWS: CINV-11, CINV-19, CINV-20 */

#include "cpus.h"

#define CALLOUTS 12
#define THREADS  3
#define CPUS     3
#define SECONDS  2

static struct account {
	struct callout c;
	enum { MUTEX, TRY, RWLOCK, SPIN, KINDS } kind;
	pthread_mutex_t mutex;
	pthread_rwlock_t rwlock;
	pthread_spinlock_t spin;
	pthread_rwlock_t life; /* written to by who drains */
	/* under the lock */
	int outstanding, draining, stopped;
	unsigned long armed, started, removed, promised;
	atomic_ulong fn_calls;
	atomic_int done;
} accounts[CALLOUTS];

static atomic_int over;
static atomic_ulong returns[3], drains, refusals;

static void lock(struct account *a)
{
	if (a->kind == SPIN)
		pthread_spin_lock(&a->spin);
	else if (a->kind == RWLOCK)
		pthread_rwlock_wrlock(&a->rwlock);
	else
		pthread_mutex_lock(&a->mutex);
}

static void unlock(struct account *a)
{
	if (a->kind == SPIN)
		pthread_spin_unlock(&a->spin);
	else if (a->kind == RWLOCK)
		pthread_rwlock_unlock(&a->rwlock);
	else
		pthread_mutex_unlock(&a->mutex);
}

static void handler(void *arg);

/* The lock is held, and nobody drains unless the caller is the handler. */
static void arm(struct account *a)
{
	sbintime_t date = dice(8) ? 1 : uptime() + (sbintime_t)dice(300) * SBT_1US;
	int rc = callout_reset_sbt_on(&a->c, date, 0, handler, a, (int)dice(CPUS), C_ABSOLUTE);

	must(rc == a->outstanding || a->draining, "reset returned %d with %d outstanding", rc, a->outstanding);
	a->removed += (unsigned long)rc;
	a->armed++;
	a->outstanding = 1;
	a->stopped = 0;
}

static void handler(void *arg)
{
	struct account *a = arg;

	must(!a->stopped, "runs after a stop under the lock");
	must(a->outstanding, "runs without an arming");
	a->outstanding = 0;
	a->started++;
	if (dice(2))
		arm(a);
	if (!dice(50))
		nap(100);
}

static void drained(void *arg)
{
	struct account *a = arg;

	atomic_fetch_add(&a->fn_calls, 1);
	atomic_store(&a->done, 1);
}

/* The lock is held. */
static void random_operation(struct account *a)
{
	int rc, expected = a->outstanding ? 1 : -1;

	switch (dice(4)) {
	case 0:
		rc = callout_stop(&a->c);
		must(rc == expected, "stop returned %d, not %d", rc, expected);
		must(!callout_pending(&a->c) && !callout_active(&a->c), "stopped and alive");
		a->removed += rc == 1;
		a->outstanding = 0;
		a->stopped = 1;
		atomic_fetch_add(&returns[rc + 1], 1);
		break;
	case 1:
		must(a->outstanding || !callout_pending(&a->c), "pending without an arming");
		/* nothing waits for a lock that is only tried */
		must(a->kind != TRY || !a->outstanding || callout_pending(&a->c), "armed and not pending");
		break;
	default:
		arm(a);
	}
}

/* Some operations in one hold of the lock, long enough for softclock to come
 * and wait for it. */
static void random_operations(struct account *a)
{
	pthread_rwlock_rdlock(&a->life);
	lock(a);
	for (unsigned int i = dice(4); ; i--) {
		random_operation(a);
		if (!i)
			break;
		if (a->kind != SPIN)
			nap(dice(100));
	}
	unlock(a);
	pthread_rwlock_unlock(&a->life);
}

/* Alone with it, but for its handler. */
static void random_drain(struct account *a)
{
	int rc, before;

	pthread_rwlock_wrlock(&a->life);
	lock(a);
	if (dice(2)) {
		arm(a);
		if (a->kind != SPIN)
			nap(dice(100));
	}
	before = a->outstanding;
	if (dice(2)) {
		atomic_store(&a->done, 0);
		rc = callout_async_drain(&a->c, drained);
		/* 1: it was in the wheel; 0: softclock was at it */
		must(before ? rc >= 0 : rc <= 0, "async_drain returned %d with %d outstanding", rc, before);
		must(!callout_pending(&a->c) && !callout_active(&a->c), "async-drained and alive");
		a->removed += (unsigned long)before;
		a->promised += rc == 0;
		a->outstanding = 0;
		a->stopped = 1;
		atomic_fetch_add(&returns[rc + 1], 1);
		if (rc == 0) {
			must(callout_reset(&a->c, 0, handler, a) == 0, "replaced what was drained");
			if (callout_active(&a->c)) {
				/* The handler had returned, and with softclock the drain ended. */
				while (!atomic_load(&a->done))
					sched_yield();
				must(callout_stop(&a->c) == 1, "armed and not stopped");
				a->armed++;
				a->removed++;
			} else {
				must(!callout_pending(&a->c), "refused and pending");
				atomic_fetch_add(&refusals, 1);
			}
		}
		unlock(a);
		while (rc == 0 && !atomic_load(&a->done))
			sched_yield();
	} else {
		a->draining = 1;
		unlock(a);
		rc = callout_drain(&a->c);
		lock(a);
		must(rc == 1 || rc == -1, "drain returned %d", rc);
		must(!callout_pending(&a->c) && !callout_active(&a->c), "drained and alive");
		/* an arming by the handler meanwhile: accepted and removed, or refused */
		must(rc == -1 || a->outstanding, "drain returned 1 with nothing outstanding");
		if (rc == 1)
			a->removed++;
		else if (a->outstanding)
			a->armed--;
		a->outstanding = 0;
		a->draining = 0;
		unlock(a);
	}
	must(a->armed == a->started + a->removed, "armed %lu, started %lu, removed %lu", a->armed,
	     a->started, a->removed);
	must(a->promised == atomic_load(&a->fn_calls), "%lu drain functions for %lu zeroes",
	     atomic_load(&a->fn_calls), a->promised);
	atomic_fetch_add(&drains, 1);
	atomic_fetch_add(&progress, 1);
	pthread_rwlock_unlock(&a->life);
}

static void *operates(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		struct account *a = &accounts[dice(CALLOUTS)];

		if (dice(16))
			random_operations(a);
		else
			random_drain(a);
		nap(dice(50));
	}
	return NULL;
}

int main(void)
{
	pthread_t th[THREADS];
	unsigned long armed = 0, started = 0, removed = 0;

	cpus_start(CPUS, CPUS);
	watchdog();
	for (int i = 0; i < CALLOUTS; i++) {
		struct account *a = &accounts[i];

		a->kind = (unsigned int)i % KINDS;
		pthread_mutex_init(&a->mutex, NULL);
		pthread_rwlock_init(&a->rwlock, NULL);
		pthread_rwlock_init(&a->life, NULL);
		pthread_spin_init(&a->spin, PTHREAD_PROCESS_PRIVATE);
		if (a->kind == SPIN)
			keel_callout_init_lock(&a->c, &keel_lock_spin, (void *)(size_t)&a->spin, 0);
		else if (a->kind == RWLOCK)
			callout_init_rw(&a->c, &a->rwlock, 0);
		else
			callout_init_mtx(&a->c, &a->mutex, a->kind == TRY ? CALLOUT_TRYLOCK : 0);
	}
	for (int i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, operates, NULL) == 0, "no thread");
	sleep(SECONDS);
	atomic_store(&over, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	for (int i = 0; i < CALLOUTS; i++) {
		random_drain(&accounts[i]);
		armed += accounts[i].armed;
		started += accounts[i].started;
		removed += accounts[i].removed;
	}
	cpus_stop();
	must(started > 0 && atomic_load(&drains) > CALLOUTS, "nothing happened");
	printf("ok accounts: %lu armed = %lu started + %lu removed; stop and async_drain: %lu -1, %lu 0, "
	       "%lu 1; %lu drains\n",
	       armed, started, removed, atomic_load(&returns[0]), atomic_load(&returns[1]),
	       atomic_load(&returns[2]), atomic_load(&drains));
	return 0;
}
