/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/callout.h: associated locks of every kind. */

#include "callouts.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;

static void *try_mutex(void *arg)
{
	(void)arg;
	return (void *)(size_t)(pthread_mutex_trylock(&mutex) == 0);
}

static void *try_read(void *arg)
{
	(void)arg;
	return (void *)(size_t)(pthread_rwlock_tryrdlock(&rwlock) == 0);
}

static void *try_write(void *arg)
{
	(void)arg;
	return (void *)(size_t)(pthread_rwlock_trywrlock(&rwlock) == 0);
}

static void *try_spin(void *arg)
{
	(void)arg;
	return (void *)(size_t)(pthread_spin_trylock(&spin) == 0);
}

/* Whether another thread gets the lock; it keeps it then. */
static int free_for_others(void *(*take)(void *))
{
	pthread_t th;
	void *got;

	pthread_create(&th, NULL, take, NULL);
	pthread_join(th, &got);
	return got != NULL;
}

static void must_be_taken(void *take)
{
	ck_assert_int_eq(free_for_others((void *(*)(void *))take), 0);
	atomic_fetch_add(&runs, 1);
}

static void must_be_shared(void *take)
{
	ck_assert_int_eq(free_for_others(try_write), 0);
	ck_assert_int_eq(free_for_others((void *(*)(void *))take), 1);
	atomic_fetch_add(&runs, 1);
}

/* SHOWS: DEV-10 */
START_TEST(T_9_the_ready_made_locks)
{
	struct callout c;
	void *(*take)(void *) = _i < 2 || _i == 8 ? try_mutex : _i < 6 || _i > 8 ? try_read : try_spin;
	int shared = _i == 4 || _i == 5 || _i == 10;

	start(1);
	pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
	switch (_i) {
	case 0:
		callout_init_mtx(&c, &mutex, 0);
		break;
	case 1:
		keel_callout_init_lock(&c, &keel_lock_mutex, &mutex, 0);
		break;
	case 2:
		callout_init_rw(&c, &rwlock, 0);
		break;
	case 3:
		keel_callout_init_lock(&c, &keel_lock_rwlock, &rwlock, 0);
		break;
	case 4:
		callout_init_rw(&c, &rwlock, CALLOUT_SHAREDLOCK);
		break;
	case 5:
		keel_callout_init_lock(&c, &keel_lock_rwlock_shared, &rwlock, 0);
		break;
	case 6:
		keel_callout_init_lock(&c, &keel_lock_spin, (void *)&spin, 0);
		break;
	case 7: /* and once more by trying */
		keel_callout_init_lock(&c, &keel_lock_spin, (void *)&spin, CALLOUT_TRYLOCK);
		break;
	case 8:
		keel_callout_init_lock(&c, &keel_lock_mutex, &mutex, CALLOUT_TRYLOCK);
		break;
	case 9:
		keel_callout_init_lock(&c, &keel_lock_rwlock, &rwlock, CALLOUT_TRYLOCK);
		break;
	default:
		keel_callout_init_lock(&c, &keel_lock_rwlock_shared, &rwlock, CALLOUT_TRYLOCK);
	}
	arm_now(&c, shared ? must_be_shared : must_be_taken, (void *)take, 0);
	pass();
	ck_assert_int_eq(runs, 1);
	/* the reader's try above has left its read lock behind */
	if (!shared)
		ck_assert_int_eq(free_for_others(take), 1);
	keel_deinit();
}
END_TEST

static atomic_int inside, most_inside;

static void meet(void *arg)
{
	int n = atomic_fetch_add(&inside, 1) + 1;

	(void)arg;
	if (n > most_inside)
		atomic_store(&most_inside, n);
	/* shared: both have to be here before either leaves */
	for (int i = 0; i < 30000 && atomic_load(&most_inside) < 2; i++)
		nap_us(1000);
	atomic_fetch_add(&runs, 1);
}

START_TEST(T_9_readers_share)
{
	struct callout c, d;

	start_threads(2);
	callout_init_rw(&c, &rwlock, CALLOUT_SHAREDLOCK);
	callout_init_rw(&d, &rwlock, CALLOUT_SHAREDLOCK);
	arm_now(&c, meet, NULL, 0);
	arm_now(&d, meet, NULL, 1);
	until(&runs, 2);
	ck_assert_int_eq(most_inside, 2);
	callout_drain(&c);
	callout_drain(&d);
	ck_assert_int_eq(free_for_others(try_write), 1);
	keel_deinit();
}
END_TEST

static void alone(void *arg)
{
	(void)arg;
	if (atomic_fetch_add(&inside, 1))
		atomic_store(&most_inside, 2);
	nap_us(100);
	atomic_fetch_sub(&inside, 1);
	atomic_fetch_add(&runs, 1);
}

START_TEST(T_9_writers_do_not)
{
	struct callout c, d;

	start_threads(2);
	callout_init_rw(&c, &rwlock, 0);
	callout_init_rw(&d, &rwlock, 0);
	for (int i = 1; i <= 50; i++) {
		pthread_rwlock_wrlock(&rwlock);
		arm_now(&c, alone, NULL, 0);
		arm_now(&d, alone, NULL, 1);
		pthread_rwlock_unlock(&rwlock);
		until(&runs, 2 * i);
	}
	ck_assert_int_eq(most_inside, 0);
	callout_drain(&c);
	callout_drain(&d);
	keel_deinit();
}
END_TEST

/* A lock of one's own that counts. */
struct counted {
	pthread_mutex_t mutex;
	atomic_int wanted, taken, given, tries;
	_Atomic(unsigned long) holder;
};

static unsigned long me(void)
{
	return (unsigned long)pthread_self();
}

static void counted_lock(void *lock)
{
	struct counted *l = lock;

	atomic_fetch_add(&l->wanted, 1);
	pthread_mutex_lock(&l->mutex);
	atomic_store(&l->holder, me());
	atomic_fetch_add(&l->taken, 1);
}

static void counted_unlock(void *lock)
{
	struct counted *l = lock;

	atomic_fetch_add(&l->given, 1);
	atomic_store(&l->holder, 0);
	pthread_mutex_unlock(&l->mutex);
}

static int counted_trylock(void *lock)
{
	struct counted *l = lock;

	atomic_fetch_add(&l->tries, 1);
	if (pthread_mutex_trylock(&l->mutex))
		return 0;
	atomic_store(&l->holder, me());
	atomic_fetch_add(&l->taken, 1);
	return 1;
}

static int counted_owned(void *lock)
{
	return atomic_load(&((struct counted *)lock)->holder) == me();
}

static const struct keel_lock_ops counted_ops = { counted_lock, counted_unlock, counted_trylock, counted_owned };

static struct counted counted;

static void owns(void *arg)
{
	(void)arg;
	ck_assert_int_eq(counted_owned(&counted), 1);
	atomic_fetch_add(&runs, 1);
}

static void owns_and_unlocks(void *arg)
{
	owns(arg);
	counted_unlock(&counted);
}

/* Each way once: with and without RETURNUNLOCKED, by taking and by trying.
 * SHOWS: CINV-14 */
START_TEST(T_9_locks_balance)
{
	int returns_unlocked = _i & 1 ? CALLOUT_RETURNUNLOCKED : 0, tries = _i & 2 ? CALLOUT_TRYLOCK : 0;
	struct callout c;

	start_threads(1);
	pthread_mutex_init(&counted.mutex, NULL);
	keel_callout_init_lock(&c, &counted_ops, &counted, returns_unlocked | tries);
	for (int i = 1; i <= 20; i++) {
		counted_lock(&counted);
		arm_now(&c, returns_unlocked ? owns_and_unlocks : owns, NULL, -1);
		counted_unlock(&counted);
		until(&runs, i);
	}
	callout_drain(&c);
	ck_assert_int_eq(counted.taken, 40);
	ck_assert_int_eq(counted.given, 40);
	ck_assert_int_eq(counted.wanted, tries ? 20 : 40);
	ck_assert_int_eq(pthread_mutex_trylock(&counted.mutex), 0);
	keel_deinit();
}
END_TEST

/* Cancelled while softclock waits for the lock: the handler is skipped, and
 * the lock left free, whoever would have unlocked it.
 * SHOWS: CINV-14 */
START_TEST(T_9_a_skipped_run_leaves_the_lock_free)
{
	struct callout c;

	start_threads(1);
	pthread_mutex_init(&counted.mutex, NULL);
	keel_callout_init_lock(&c, &counted_ops, &counted, _i ? CALLOUT_RETURNUNLOCKED : 0);
	counted_lock(&counted);
	arm_now(&c, owns, NULL, 0);
	until(&counted.wanted, 2);
	ck_assert_int_eq(callout_stop(&c), 1);
	counted_unlock(&counted);
	callout_drain(&c);
	ck_assert_int_eq(runs, 0);
	ck_assert_int_eq(counted.taken, 2);
	ck_assert_int_eq(counted.given, 2);
	ck_assert_int_eq(pthread_mutex_trylock(&counted.mutex), 0);
	keel_deinit();
}
END_TEST

/* A lock held for long costs tries at a bounded rate: one a granule. */
START_TEST(M_35_tries_are_not_endless)
{
	struct callout c;
	uint64_t begin, held;
	int tries;

	start_threads(1);
	pthread_mutex_init(&counted.mutex, NULL);
	keel_callout_init_lock(&c, &counted_ops, &counted, CALLOUT_TRYLOCK);
	counted_lock(&counted);
	begin = keel_now_ns();
	callout_reset_sbt(&c, 1, _i ? SBT_1S / 100 : 0, owns, NULL, C_ABSOLUTE);
	nap_us(100000);
	tries = atomic_load(&counted.tries);
	held = keel_now_ns() - begin;
	ck_assert_int_ge(tries, 1);
	ck_assert_uint_le((unsigned int)tries, held / 61035 + 2);
	ck_assert_int_eq(runs, 0);
	ck_assert_int_ne(callout_pending(&c), 0);
	counted_unlock(&counted);
	until(&runs, 1);
	callout_drain(&c);
	keel_deinit();
}
END_TEST

/* The lock goes from closer to closer, the second frees it: who only tries
 * it has no hand on it after stop. */
START_TEST(M_31_a_tried_lock_may_go_after_stop)
{
	struct counted *l;
	struct callout *c;

	start_threads(1);
	for (int i = 0; i < 20; i++) {
		int tries;

		l = calloc(1, sizeof(*l));
		c = malloc(sizeof(*c));
		pthread_mutex_init(&l->mutex, NULL);
		keel_callout_init_lock(c, &counted_ops, l, CALLOUT_TRYLOCK);
		counted_lock(l);
		arm_now(c, count, NULL, 0);
		until(&l->tries, 1 + i % 3);
		ck_assert_int_eq(callout_stop(c), 1);
		tries = l->tries;
		if (i == 0) {
			nap_us(2000);
			ck_assert_int_eq(l->tries, tries);
		}
		counted_unlock(l);
		counted_lock(l);
		counted_unlock(l);
		memset(c, 0x5a, sizeof(*c));
		memset(l, 0x5a, sizeof(*l));
		free(c);
		free(l);
	}
	nap_us(1000);
	ck_assert_int_eq(runs, 0);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("callout locks");
	TCase *locks = tcase_create("locks");

	tcase_set_timeout(locks, 40);
	tcase_add_loop_test(locks, T_9_the_ready_made_locks, 0, 11);
	tcase_add_test(locks, T_9_readers_share);
	tcase_add_test(locks, T_9_writers_do_not);
	tcase_add_loop_test(locks, T_9_locks_balance, 0, 4);
	tcase_add_loop_test(locks, T_9_a_skipped_run_leaves_the_lock_free, 0, 2);
	tcase_add_loop_test(locks, M_35_tries_are_not_endless, 0, 2);
	tcase_add_test(locks, M_31_a_tried_lock_may_go_after_stop);
	suite_add_tcase(s, locks);
	return run_suite(s);
}
