/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the tests of pools have in common. */
#ifndef POOLS_H
#define POOLS_H

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <keel/keel.h>

#include "storm.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

/* Starts the library with two ids; the caller gets id 0. */
static inline void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 1024;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static inline void stop(void)
{
	keel_thread_leave();
	keel_deinit();
}

static inline struct pool_head *make(unsigned int size, unsigned int flags)
{
	struct pool_head *pool = create_pool("test", size, flags);

	ck_assert_ptr_nonnull(pool);
	return pool;
}

static inline struct keel_pool_stats stats(const struct pool_head *pool)
{
	struct keel_pool_stats s;

	memset(&s, 0xff, sizeof(s));
	keel_pool_get_stats(pool, &s);
	ck_assert_uint_eq(s.allocated, s.used + s.cached);
	return s;
}

static inline void take(struct pool_head *pool, void **objects, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		objects[i] = pool_alloc(pool);
		ck_assert_ptr_nonnull(objects[i]);
	}
}

static inline void give(struct pool_head *pool, void **objects, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pool_free(pool, objects[i]);
}

static inline void gone(struct pool_head *pool)
{
	ck_assert_ptr_null(pool_destroy(pool));
}

/* The address right behind an object. */
static inline unsigned char *behind(struct pool_head *pool, void *object)
{
	return (unsigned char *)object + pool->size;
}

static inline void *elsewhere(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, fn, arg), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	return result;
}

/* --- several threads ----------------------------------------------------- */

struct batch {
	struct pool_head *pool;
	void *objects[20];
};

static inline void *give_batch(void *arg)
{
	struct batch *b = arg;

	give(b->pool, b->objects, ARRAY(b->objects));
	return NULL;
}

#define SLOTS 64

static struct pool_head *busy[2];
static void *_Atomic slots[2][SLOTS];
static atomic_int over;

/* Swaps objects in and out of slots that all threads share. */
static inline void *work(void *arg)
{
	unsigned int tid = (unsigned int)(uintptr_t)arg;
	unsigned int dice = tid * 7919 + 1;

	/* Ids 0 and 1 are registered, others are not. */
	if (tid < 2)
		ck_assert_int_eq(keel_thread_enter(tid), 0);
	while (!atomic_load(&over)) {
		struct pool_head *pool;
		uintptr_t *object, *other;
		int p, n;

		dice = dice * 1664525 + 1013904223;
		p = dice >> 31;
		n = dice >> 20 & (SLOTS - 1);
		pool = busy[p];
		object = __pool_alloc(pool, POOL_F_NO_FAIL);
		ck_assert_ptr_nonnull(object);
		object[0] = (uintptr_t)object;
		object[pool->size / sizeof(*object) - 1] = ~(uintptr_t)object;
		other = atomic_exchange(&slots[p][n], object);
		if (other) {
			ck_assert_uint_eq(other[0], (uintptr_t)other);
			ck_assert_uint_eq(other[pool->size / sizeof(*other) - 1], ~(uintptr_t)other);
			other[0] = 0;
			pool_free(pool, other);
		}
		if ((dice >> 12 & 255) == 0)
			pool_flush(pool);
		if ((dice >> 8 & 4095) == 0)
			pool_gc(NULL);
		if (tid < 2 && (dice >> 16 & 255) == 0)
			keel_poll_once(0);
	}
	if (tid < 2)
		keel_thread_leave();
	return NULL;
}

static inline void threads_at_work(unsigned int ms)
{
	pthread_t threads[4];
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 2;
	cfg.maxsock = 1024;
	cfg.pool_cache_bytes = 8192;
	ck_assert_int_eq(keel_init(&cfg), 0);
	busy[0] = make(64, 0);
	busy[1] = make(2000, 0);
	busy[0]->minavail = 5;
	for (uintptr_t i = 0; i < ARRAY(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	usleep(ms * 1000);
	atomic_store(&over, 1);
	for (size_t i = 0; i < ARRAY(threads); i++)
		pthread_join(threads[i], NULL);
	for (int p = 0; p < 2; p++) {
		for (int n = 0; n < SLOTS; n++)
			pool_free(busy[p], slots[p][n]);
		ck_assert_uint_eq(stats(busy[p]).used, 0);
		pool_flush(busy[p]);
		ck_assert_uint_eq(stats(busy[p]).allocated, 0);
		gone(busy[p]);
	}
	keel_deinit();
}

#endif
