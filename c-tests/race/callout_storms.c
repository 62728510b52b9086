/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Callouts without a lock in three storms:
 * resets between cpus from several threads at once (L-2);
 * handlers longer than their re-arming, which goes elsewhere (M-6);
 * the active mark cleared by a thread that holds nothing (M-13, U-2).
 *
 * SHOWS: M-6, CINV-5, CINV-6, CINV-7, CINV-8, CINV-19 */

#include "cpus.h"

#define CALLOUTS 6
#define THREADS  3
#define CPUS     3
#define SECONDS  1

static struct {
	struct callout c;
	atomic_int inside;
	atomic_ulong armed, started, removed;
} all[CALLOUTS];

static int storm;
static atomic_int over;
static atomic_ulong worked;
static const char *const names[] = { "resets", "long handlers", "deactivations" };
enum { RESETS, LONG_HANDLERS, DEACTIVATIONS, STORMS };

static void handler(void *arg);

static void arm(size_t i, sbintime_t date)
{
	int rc = callout_reset_sbt_on(&all[i].c, date, 0, handler, (void *)i, (int)dice(CPUS), C_ABSOLUTE);

	must(rc == 0 || rc == 1, "reset returned %d", rc);
	atomic_fetch_add(&all[i].armed, 1);
	atomic_fetch_add(&all[i].removed, (unsigned long)rc);
}

static void handler(void *arg)
{
	size_t i = (size_t)arg;

	must(atomic_fetch_add(&all[i].inside, 1) == 0, "callout %lu runs twice at once", i);
	atomic_fetch_add(&all[i].started, 1);
	switch (storm) {
	case LONG_HANDLERS:
		arm(i, 1);
		if (!dice(3))
			nap(dice(300));
		break;
	case DEACTIVATIONS:
		/* the idiom of callouts without a lock */
		if (!callout_pending(&all[i].c) && callout_active(&all[i].c)) {
			callout_deactivate(&all[i].c);
			atomic_fetch_add(&worked, 1);
		}
		break;
	}
	atomic_fetch_sub(&all[i].inside, 1);
}

static void *rages(void *arg)
{
	size_t number = (size_t)arg;

	while (!atomic_load(&over)) {
		size_t i = dice(CALLOUTS);

		if (storm == DEACTIVATIONS && number == 0) {
			callout_deactivate(&all[i].c);
			continue;
		}
		arm(i, dice(2) ? 1 : uptime() + (sbintime_t)dice(400) * SBT_1US);
		if (storm == LONG_HANDLERS || !dice(32))
			nap(200);
	}
	return NULL;
}

static void rage(void)
{
	unsigned long armed = 0, started = 0;
	pthread_t th[THREADS];

	atomic_store(&over, 0);
	for (int i = 0; i < CALLOUTS; i++) {
		callout_init(&all[i].c, CALLOUT_MPSAFE);
		all[i].armed = all[i].started = all[i].removed = 0;
	}
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, rages, (void *)i) == 0, "no thread");
	sleep(SECONDS);
	atomic_store(&over, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	for (int i = 0; i < CALLOUTS; i++) {
		int rc;

		if (storm != LONG_HANDLERS) {
			/* the mark is the caller's alone: no arming may lose it */
			arm((size_t)i, uptime() + 3600 * SBT_1S);
			must(callout_active(&all[i].c) && callout_pending(&all[i].c), "armed, and it does not show");
			callout_deactivate(&all[i].c);
			must(!callout_active(&all[i].c) && callout_pending(&all[i].c), "deactivated, and it does not show");
		}
		rc = callout_drain(&all[i].c);
		must(rc == 1 || rc == -1, "drain returned %d", rc);
		must(atomic_load(&all[i].inside) == 0 && !callout_pending(&all[i].c) && !callout_active(&all[i].c),
		     "drained and alive");
		armed += all[i].armed;
		started += all[i].started;
		all[i].removed += rc == 1;
		/* a handler's re-arming may have met the drain, and been refused */
		must(all[i].armed - (all[i].started + all[i].removed) <= (storm == LONG_HANDLERS),
		     "%s: armed %lu, started %lu, removed %lu", names[storm], all[i].armed, all[i].started,
		     all[i].removed);
	}
	must(started > 0, "%s: nothing happened", names[storm]);
	printf("ok %s: %lu armed, %lu started\n", names[storm], armed, started);
	atomic_fetch_add(&progress, 1);
}

int main(void)
{
	cpus_start(CPUS, CPUS);
	watchdog();
	for (storm = 0; storm < STORMS; storm++)
		rage();
	must(atomic_load(&worked) > 0, "the idiom never let a handler work");
	cpus_stop();
	return 0;
}
