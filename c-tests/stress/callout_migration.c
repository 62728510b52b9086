/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Callouts that never stay where they are, and owners that take them away.
 *
 *     callout_migration [migrations [cpus]]
 *
 * Handlers arm themselves again on another cpu, mostly at once. Owners drain,
 * shut down or async-drain them, scribble over the memory, give it back or use
 * it anew. Meddlers stop, move and drain what the owners have not closed.
 * A migration is counted when a handler finds itself on another cpu than the
 * last time. Exits with 0 if nothing that was drained ever ran again, nothing
 * ran twice at once, and every arming either ran or was removed.
 *
 * SEED in the environment repeats the random numbers.
 *
 * SHOWS: M-5, M-6, M-7, CINV-6, CINV-8, CINV-16, CINV-18, CINV-19 */

#include <string.h>

#include "../race/cpus.h"

#define PLACES   96 /* callouts at a time */
#define OWNERS   3
#define MEDDLERS 2
#define LIVE     0x5ca1ab1e0ddba11u
#define POISON   0xa5

enum kind { FREE, MUTEX, UNLOCKED, TRY, TRY_UNLOCKED, SHARED, KINDS };
enum { OPEN, CLOSING, SEALED };

/* What an owner puts into memory that dies. */
struct timer {
	uint64_t magic;
	struct callout c;
	pthread_mutex_t mutex;
	pthread_rwlock_t rwlock;
	atomic_int inside;
	int stopped;        /* under the lock: no handler may start */
	int asked;          /* under the lock: the cpu it was last sent to */
	unsigned long runs; /* plain: ThreadSanitizer sees who is not ordered */
	int dies_in_handler;
};

/* Where one lives, for ever: what is known of the generation that does. */
static struct place {
	struct timer *timer;
	enum kind kind;
	unsigned int gen;
	int state; /* under life */
	pthread_rwlock_t life;
	atomic_uint drained;  /* the last generation of which nothing may run */
	atomic_int last_cpu;
	/* drains begun and ended: an arming that meets none is accepted */
	atomic_uint begun, ended;
	/* this generation's accounts; <maybe>: whether it was, nobody can say */
	atomic_ulong armed, maybe_armed, started, removed, maybe_removed;
	atomic_int gone, fn_calls;
} places[PLACES];

static unsigned long target;
static atomic_ulong migrations, generations, exact, starts, async_zero, async_calls;
static atomic_uint owners_ready, owners_left = OWNERS;
static atomic_int finish;
static unsigned int ncpus;

/* --- the lock that goes with a kind ------------------------------------------ */

static void lock(struct place *p)
{
	if (p->kind == SHARED)
		pthread_rwlock_wrlock(&p->timer->rwlock);
	else if (p->kind != FREE)
		pthread_mutex_lock(&p->timer->mutex);
}

static void unlock(struct place *p)
{
	if (p->kind == SHARED)
		pthread_rwlock_unlock(&p->timer->rwlock);
	else if (p->kind != FREE)
		pthread_mutex_unlock(&p->timer->mutex);
}

static int returns_unlocked(const struct place *p)
{
	return p->kind == UNLOCKED || p->kind == TRY_UNLOCKED;
}

/* --- operations, with their accounts ----------------------------------------- */

static void tick(void *arg);

/* A word that no other pattern looks like: the place and its generation. */
static void *ticket(const struct place *p)
{
	return (void *)(0x5a00000000000000u | (uint64_t)p->gen << 8 | (uint64_t)(p - places));
}

/* The lock is held, if there is one. */
static void arm(struct place *p)
{
	struct callout *c = &p->timer->c;
	unsigned int begun = atomic_load(&p->begun), ended = atomic_load(&p->ended);
	int cpu, rc;

	cpu = (int)dice(ncpus);
	if (p->kind != FREE) {
		p->timer->stopped = 0;
		p->timer->asked = cpu;
	}
	switch (dice(64)) {
	case 0:
		rc = callout_reset_on(c, (int)dice(3), tick, ticket(p), cpu);
		break;
	case 1:
		rc = callout_reset_sbt_on(c, SBT_1US, 0, tick, ticket(p), cpu, C_PREL(1));
		break;
	case 2:
		rc = callout_reset_sbt_on(c, uptime() + (sbintime_t)dice(300) * SBT_1US, 0, tick,
		                          ticket(p), cpu, C_ABSOLUTE | C_DIRECT_EXEC);
		break;
	default:
		rc = callout_reset_sbt_on(c, 1, 0, tick, ticket(p), cpu, C_ABSOLUTE);
	}
	must(rc == 0 || rc == 1, "reset returned %d", rc);
	if (begun == ended && begun == atomic_load(&p->begun))
		atomic_fetch_add(&p->armed, 1);
	else
		atomic_fetch_add(&p->maybe_armed, 1);
	atomic_fetch_add(&p->removed, (unsigned long)rc);
}

static void stop(struct place *p)
{
	int rc = callout_stop(&p->timer->c);

	if (p->kind != FREE)
		p->timer->stopped = 1;
	if (rc == 1)
		atomic_fetch_add(&p->removed, 1);
	else if (rc == 0)
		atomic_fetch_add(&p->maybe_removed, 1);
	else
		must(rc == -1, "stop returned %d", rc);
	/* under its lock, a handler that keeps it cannot be running */
	must(rc != 0 || p->kind == FREE || returns_unlocked(p), "stop under the lock says it runs");
}

static void drain(struct place *p, int (*how)(struct callout *))
{
	int rc;

	atomic_fetch_add(&p->begun, 1);
	rc = how(&p->timer->c);
	must(rc == 1 || rc == -1, "drain returned %d", rc);
	atomic_fetch_add(&p->removed, rc == 1);
	atomic_fetch_add(&p->ended, 1);
}

/* The handler. */
static void tick(void *arg)
{
	uint64_t word = (uint64_t)arg;
	struct place *p = &places[word & 0xff];
	unsigned int gen = (unsigned int)(word >> 8);
	struct timer *t;
	int cpu = (int)keel_tid(), last;

	must(word >> 48 == 0x5a00 && (word & 0xff) < PLACES, "the argument is %#lx", (unsigned long)word);
	must(gen > atomic_load(&p->drained), "generation %u of %lu runs after its drain", gen, p - places);
	t = p->timer;
	must(t->magic == LIVE && gen == p->gen, "place %lu runs on dead memory", p - places);
	must(atomic_fetch_add(&t->inside, 1) == 0, "place %lu runs twice at once", p - places);
	t->runs++;
	if (p->kind != FREE) {
		must(!t->stopped, "place %lu runs after stop", p - places);
		must(t->asked == cpu, "sent to cpu %d, ran on %d", t->asked, cpu);
	}
	last = atomic_exchange(&p->last_cpu, cpu);
	if (last >= 0 && last != cpu)
		atomic_fetch_add(&migrations, 1);
	atomic_fetch_add(&p->started, 1);
	if (t->dies_in_handler) {
		if (returns_unlocked(p))
			unlock(p);
		atomic_store(&p->drained, gen);
		memset(t, POISON, sizeof(*t));
		free(t);
		atomic_store(&p->gone, 1);
		return;
	}
	if (dice(256))
		arm(p);
	if (!dice(16))
		arm(p);
	if (!dice(512)) {
		unsigned int begun = atomic_load(&p->begun);
		int pending = callout_pending(&t->c), rc = callout_stop(&t->c);

		must(rc == 0, "stop in the handler returned %d", rc);
		if (p->kind == FREE || begun != atomic_load(&p->ended) || begun != atomic_load(&p->begun))
			atomic_fetch_add(&p->maybe_removed, 1);
		else
			atomic_fetch_add(&p->removed, pending != 0);
		if (p->kind != FREE)
			t->stopped = 1;
	}
	if (!dice(4))
		spin(dice(8));
	if (!dice(4096))
		nap(50);
	atomic_fetch_sub(&t->inside, 1);
	if (returns_unlocked(p))
		unlock(p);
}

/* The async drain's function; its argument is the handler's. */
static void drained(void *arg)
{
	uint64_t word = (uint64_t)arg;
	struct place *p = &places[word & 0xff];
	unsigned int gen = (unsigned int)(word >> 8);

	must(word >> 48 == 0x5a00 && gen == p->gen && gen > atomic_load(&p->drained),
	     "an async drain of generation %u ends in %u", gen, p->gen);
	must(p->timer->magic == LIVE && atomic_load(&p->timer->inside) == 0, "drained but inside");
	atomic_fetch_add(&async_calls, 1);
	atomic_fetch_add(&p->fn_calls, 1);
	atomic_store(&p->drained, gen);
	atomic_fetch_add(&p->ended, 1);
	p->timer->runs++;
	if (p->state == SEALED) {
		/* whoever asked for it may still hold the lock */
		lock(p);
		unlock(p);
		memset(p->timer, POISON, sizeof(*p->timer));
		free(p->timer);
	}
	atomic_store(&p->gone, 1);
}

/* --- owners ------------------------------------------------------------------ */

/* Lets others go on. An owner that is a cpu too must serve it. */
static void let_go_on(void)
{
	if (keel_tid() != ~0U)
		softclock(keel_tid());
	if (dice(8))
		sched_yield();
	else
		nap(dice(200));
}

static void set_state(struct place *p, int state)
{
	pthread_rwlock_wrlock(&p->life);
	p->state = state;
	pthread_rwlock_unlock(&p->life);
}

static void bring_up(struct place *p, struct timer *reused)
{
	struct timer *t = reused ? reused : malloc(sizeof(*t));

	must(t, "no memory");
	pthread_rwlock_wrlock(&p->life);
	p->kind = (enum kind)dice(KINDS);
	p->gen++;
	p->timer = t;
	atomic_store(&p->gone, 0);
	atomic_store(&p->fn_calls, 0);
	atomic_store(&p->last_cpu, -1);
	memset(t, 0, sizeof(*t));
	t->magic = LIVE;
	pthread_mutex_init(&t->mutex, NULL);
	pthread_rwlock_init(&t->rwlock, NULL);
	switch (p->kind) {
	case MUTEX:
		callout_init_mtx(&t->c, &t->mutex, 0);
		break;
	case UNLOCKED:
		callout_init_mtx(&t->c, &t->mutex, CALLOUT_RETURNUNLOCKED);
		break;
	case TRY:
		callout_init_mtx(&t->c, &t->mutex, CALLOUT_TRYLOCK);
		break;
	case TRY_UNLOCKED:
		callout_init_mtx(&t->c, &t->mutex, CALLOUT_TRYLOCK | CALLOUT_RETURNUNLOCKED);
		break;
	case SHARED:
		callout_init_rw(&t->c, &t->rwlock, CALLOUT_SHAREDLOCK);
		break;
	default:
		callout_init(&t->c, CALLOUT_MPSAFE);
	}
	lock(p);
	arm(p);
	unlock(p);
	p->state = OPEN;
	pthread_rwlock_unlock(&p->life);
}

/* Nothing of this generation runs any more: do its sums come out? */
static void settle(struct place *p)
{
	unsigned long armed = atomic_exchange(&p->armed, 0);
	unsigned long maybe_armed = atomic_exchange(&p->maybe_armed, 0);
	unsigned long started = atomic_exchange(&p->started, 0);
	unsigned long removed = atomic_exchange(&p->removed, 0);
	unsigned long maybe_removed = atomic_exchange(&p->maybe_removed, 0);

	must(armed <= started + removed + maybe_removed && started + removed <= armed + maybe_armed,
	     "place %lu kind %d: armed %lu to %lu, started %lu, removed %lu to %lu", p - places, p->kind,
	     armed, armed + maybe_armed, started, removed, removed + maybe_removed);
	if (!maybe_armed && !maybe_removed)
		atomic_fetch_add(&exact, 1);
	atomic_fetch_add(&starts, started);
	atomic_fetch_add(&generations, 1);
	atomic_fetch_add(&progress, 1);
}

/* Scribbles over the memory: it is the caller's again. */
static struct timer *bury(struct place *p)
{
	struct timer *t = p->timer;

	must(atomic_load(&t->inside) == 0 && !callout_pending(&t->c) && !callout_active(&t->c),
	     "place %lu is drained and alive", p - places);
	t->runs++;
	atomic_store(&p->drained, p->gen);
	pthread_mutex_destroy(&t->mutex);
	pthread_rwlock_destroy(&t->rwlock);
	memset(t, POISON, sizeof(*t));
	if (dice(2)) {
		free(t);
		t = NULL;
	}
	return t;
}

/* For a moment when softclock is at it. */
static void lie_in_wait(struct place *p)
{
	uint64_t end = keel_now_ns() + dice(200) * 1000ull;

	while (!atomic_load(&p->timer->inside) && keel_now_ns() < end)
		;
}

static struct timer *take_down(struct place *p)
{
	struct timer *left = NULL;
	int rc;

	if (dice(2))
		lie_in_wait(p);
	switch (dice(8)) {
	case 0: /* the handler frees it */
		if (p->kind != FREE && !returns_unlocked(p))
			goto drain;
		set_state(p, SEALED);
		drain(p, callout_drain);
		lock(p);
		p->timer->dies_in_handler = 1;
		arm(p);
		unlock(p);
		while (!atomic_load(&p->gone))
			let_go_on();
		break;
	case 1: /* the drain function frees it */
	case 2: /* or tells the owner, while others drain */
		set_state(p, dice(2) ? SEALED : CLOSING);
		lock(p);
		if (!dice(4))
			nap(100);
		atomic_fetch_add(&p->begun, 1);
		rc = callout_async_drain(&p->timer->c, drained);
		if (p->kind != FREE && rc != 0)
			p->timer->stopped = 1;
		if (rc == 0) {
			unlock(p);
			atomic_fetch_add(&async_zero, 1);
			atomic_fetch_add(&p->maybe_removed, 1);
			while (!atomic_load(&p->gone))
				let_go_on();
			if (p->state == SEALED)
				break;
		} else {
			must(rc == 1 || rc == -1, "async_drain returned %d", rc);
			atomic_fetch_add(&p->removed, rc == 1);
			atomic_fetch_add(&p->ended, 1);
			unlock(p);
			must(!atomic_load(&p->gone), "an async drain that said it is done calls");
		}
		pthread_rwlock_wrlock(&p->life);
		p->state = SEALED;
		left = bury(p);
		pthread_rwlock_unlock(&p->life);
		must(atomic_load(&p->fn_calls) == (rc == 0), "%d calls after %d", atomic_load(&p->fn_calls), rc);
		break;
	case 3:
		set_state(p, CLOSING);
		drain(p, keel_callout_shutdown);
		lock(p);
		must(callout_reset(&p->timer->c, 0, tick, ticket(p)) == 0 && !callout_pending(&p->timer->c) &&
		     !callout_active(&p->timer->c), "armed after shutdown");
		unlock(p);
		goto bury;
	default:
	drain:
		set_state(p, CLOSING);
		drain(p, callout_drain);
	bury:
		/* meddlers that joined the drain have left when we get this */
		pthread_rwlock_wrlock(&p->life);
		p->state = SEALED;
		left = bury(p);
		pthread_rwlock_unlock(&p->life);
	}
	settle(p);
	return left;
}

static void own(unsigned int number)
{
	struct place *p;

	for (p = places + number; p < places + PLACES; p += OWNERS)
		bring_up(p, NULL);
	while (!atomic_load(&finish)) {
		p = places + number + dice(PLACES / OWNERS) * OWNERS;
		if (dice(4)) {
			/* whatever stopped for good goes on */
			lock(p);
			if (!callout_pending(&p->timer->c))
				arm(p);
			unlock(p);
		} else {
			bring_up(p, take_down(p));
		}
		for (unsigned int i = dice(6); i; i--)
			let_go_on();
	}
	for (p = places + number; p < places + PLACES; p += OWNERS)
		free(take_down(p));
	atomic_fetch_sub(&owners_left, 1);
}

static void *owns(void *arg)
{
	unsigned int number = (unsigned int)(size_t)arg;

	/* the first owner is a cpu, the others are not registered */
	if (number == 0)
		must(keel_thread_enter(ncpus - 1) == 0, "no cpu for an owner");
	/* an arming for a cpu that is not there yet would go to the default */
	atomic_fetch_add(&owners_ready, 1);
	while (atomic_load(&owners_ready) < OWNERS)
		sched_yield();
	own(number);
	while (atomic_load(&owners_left))
		let_go_on();
	keel_thread_leave();
	return NULL;
}

static void *meddles(void *arg)
{
	(void)arg;
	while (atomic_load(&owners_left)) {
		struct place *p = &places[dice(PLACES)];

		pthread_rwlock_rdlock(&p->life);
		if (p->timer && p->state == OPEN) {
			if (dice(8)) {
				lock(p);
				switch (dice(4)) {
				case 0:
					stop(p);
					break;
				case 1:
					callout_deactivate(&p->timer->c);
					break;
				default:
					arm(p);
				}
				unlock(p);
			} else {
				drain(p, callout_drain);
			}
		} else if (p->timer && p->state == CLOSING) {
			drain(p, callout_drain);
		}
		pthread_rwlock_unlock(&p->life);
		nap(dice(100));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t owner[OWNERS], meddler[MEDDLERS];
	const char *given = getenv("MIGRATIONS");
	uint64_t begin, end;
	unsigned long done;

	target = argc > 1 ? strtoul(argv[1], NULL, 0) : given ? strtoul(given, NULL, 0) : 500000;
	ncpus = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 0) : 4;
	if (ncpus < 2 || ncpus > KEEL_MAX_THREADS) {
		fprintf(stderr, "usage: callout_migration [migrations [2 to %d cpus]]\n", KEEL_MAX_THREADS);
		return 2;
	}
	for (int i = 0; i < PLACES; i++)
		pthread_rwlock_init(&places[i].life, NULL);
	begin = keel_now_ns();
	cpus_start(ncpus, ncpus - 1);
	watchdog();
	for (size_t i = 0; i < OWNERS; i++)
		must(pthread_create(&owner[i], NULL, owns, (void *)i) == 0, "no thread");
	for (size_t i = 0; i < MEDDLERS; i++)
		must(pthread_create(&meddler[i], NULL, meddles, NULL) == 0, "no thread");
	while (atomic_load(&migrations) < target)
		nap(10000);
	atomic_store(&finish, 1);
	end = keel_now_ns();
	for (int i = 0; i < OWNERS; i++)
		pthread_join(owner[i], NULL);
	for (int i = 0; i < MEDDLERS; i++)
		pthread_join(meddler[i], NULL);
	must(atomic_load(&async_calls) == atomic_load(&async_zero), "%lu drain functions called, %lu promised",
	     atomic_load(&async_calls), atomic_load(&async_zero));
	cpus_stop();
	done = atomic_load(&migrations);
	printf("ok %lu migrations on %u cpus in %.1f s (%.0f a second), %lu runs, %lu lives of which %lu "
	       "accounted to the last arming, %lu async drains\n",
	       done, ncpus, (double)(end - begin) / 1e9, (double)done * 1e9 / (double)(end - begin),
	       atomic_load(&starts), atomic_load(&generations), atomic_load(&exact), atomic_load(&async_calls));
	return 0;
}
