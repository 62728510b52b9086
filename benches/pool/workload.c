/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One workload on one allocator, in a process of its own: the same source for
 * all of them (allocator.h).
 *
 *   PROGRAM WORKLOAD BYTES THREADS MS   prints ns per object, slices counted, all
 *   PROGRAM --fixed WORKLOAD BYTES N    N objects, to count instructions (count.sh)
 */

#define _GNU_SOURCE
#include <pthread.h>

#include "allocator.h"
#include "ring.h"
#include "slices.h"

#define WATCHDOG_S 60
#define BATCH      64
#define SLOTS      1000
#define PAGE       4096
#define TOUCHED    (64 * 1024)
#define IN_FLIGHT  16 /* 2 MiB buffers: what a few connections hold */

struct worker {
	uint32_t tid;
	uint64_t chance;
	struct track track;
};

struct workload {
	const char *name;
	void (*slice)(struct worker *w);
	uint32_t objects; /* in a slice */
	bool handed_over; /* thread 0 allocates, thread 1 frees */
};

static struct workload workload;

static struct worker workers[2] = { { .tid = 0, .chance = 88172645463325252ull }, { .tid = 1, .chance = 0x9e3779b97f4a7c15ull } };
static uint32_t threads;
static int cores[2];
static uint64_t time_limit;

/* Both threads make the same number of slices: thread 0 says which is the last. */
static _Atomic uint32_t last_slice = MAX_SLICES - 1;

static struct ring ring;
static void *slots[2][SLOTS];

__attribute__((noreturn)) static void give_up(const char *why)
{
	fprintf(stderr, "%s\n", why);
	exit(1);
}

static inline void use(void *object, uint64_t word) { *(volatile uint64_t *)object = word; }
static inline uint64_t used(const void *object) { return *(const volatile uint64_t *)object; }

/* Returns when both threads have called it as often. */
static void meet(void)
{
	static _Atomic uint32_t arrived;
	uint32_t mine = atomic_fetch_add(&arrived, 1);

	while ((mine | 1) >= atomic_load_explicit(&arrived, memory_order_acquire))
		relax();
}

/* --- the workloads, a slice of each ----------------------------------------- */

static void pair(struct worker *w)
{
	for (uint32_t i = 0, n = workload.objects; i < n; i++) {
		void *object = take();

		use(object, i);
		give(object);
	}
	(void)w;
}

static void batch(struct worker *w)
{
	void *held[BATCH];

	(void)w;
	for (uint32_t b = 0, n = workload.objects; b < n; b += BATCH) {
		for (uint32_t i = 0; i < BATCH; i++) {
			held[i] = take();
			use(held[i], i);
		}
		for (uint32_t i = 0; i < BATCH; i++)
			give(held[i]);
	}
}

static void across(struct worker *w)
{
	uint32_t first = w->track.n * workload.objects, end = first + workload.objects;

	if (w->tid == 0) {
		for (uint32_t n = first; n != end; n++) {
			void *object = take_nth(n);

			use(object, n);
			ring_put(&ring, object);
		}
		return;
	}
	for (uint32_t n = first; n != end; n++) {
		void *object = ring_get(&ring);

		if (used(object) != n)
			give_up("the consumer got another object than was sent");
		give(object);
	}
}

static void buffers(struct worker *w)
{
	for (uint32_t i = 0; i < workload.objects; i++) {
		char *buffer;

		if (w->tid == 1) {
			give(ring_get(&ring));
			continue;
		}
		buffer = take_nth(i);
		for (size_t at = 0; at < TOUCHED && at < object_size; at += PAGE)
			*(volatile char *)(buffer + at) = 1;
		ring_put(&ring, buffer);
	}
}

/* Larson's: a server's connections come and go in no order, and at the end of
 * a round each thread goes on with what the other has. */
static void at_random(struct worker *w)
{
	void **mine = slots[threads == 1 ? 0 : (w->tid + w->track.n) & 1];

	for (uint32_t i = 0; i < workload.objects; i++) {
		uint64_t x = w->chance;
		uint32_t s;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w->chance = x;
		s = (uint32_t)((x >> 32) * SLOTS >> 32);
		if (used(mine[s]) != s)
			give_up("an object is not what its slot's owner wrote");
		give(mine[s]);
		mine[s] = take();
		use(mine[s], s);
	}
	if (threads == 2)
		meet();
}

/* Some allocators take microseconds for large objects: fewer make a slice. */
#define LARGE      4096
#define LARGE_PART 4

static const struct workload workloads[] = {
	{ "pair", pair, 32768, false },        { "batch", batch, 256 * BATCH, false }, { "ring", across, 2048, true },
	{ "random", at_random, 2048, false }, { "buffers", buffers, 64, true },
};

#define WORKLOADS (sizeof(workloads) / sizeof(*workloads))

/* --- the threads ------------------------------------------------------------ */

/* That objects are real, whole, and one's own: twice a batch, every byte of
 * it. What has no allocator has but one object. */
static void check_batch(void)
{
#ifndef WITH_NOTHING
	for (int turn = 0; turn < 2; turn++) {
		unsigned char *held[BATCH];

		for (int i = 0; i < BATCH; i++) {
			held[i] = take();
			if (!held[i])
				give_up("out of memory");
			memset(held[i], i + 1, object_size);
		}
		for (int i = 0; i < BATCH; i++) {
			for (size_t at = 0; at < object_size; at++)
				if (held[i][at] != i + 1)
					give_up("two objects overlap");
			give(held[i]);
		}
	}
#endif
}

/* By its name, instructions are counted in here alone. */
__attribute__((noinline)) void timed(struct worker *w) { workload.slice(w); }

static void *work(void *arg)
{
	struct worker *w = arg;

	pin_to(cores[w->tid]);
	if (!enter_allocator(w->tid))
		give_up("a thread may not enter");
	if (w->tid == 0 && object_size <= TOUCHED)
		check_batch();
	if (threads == 2)
		meet();
	open_track(&w->track);
	do {
		if (w->tid == 0 && now_ns() > time_limit && w->track.n < last_slice)
			last_slice = w->track.n;
		begin_slice(&w->track);
		timed(w);
		end_slice(&w->track);
	} while (w->track.n <= last_slice);
	if (threads == 2)
		meet();
	if (w->tid == 0 && workload.slice == at_random)
		for (uint32_t s = 0; s < SLOTS * threads; s++)
			give(slots[s / SLOTS][s % SLOTS]);
	leave_allocator();
	return NULL;
}

static void fill_slots(void)
{
	for (uint32_t s = 0; s < SLOTS * threads; s++) {
		void *object = take();

		if (!object)
			give_up("out of memory");
		slots[s / SLOTS][s % SLOTS] = object;
		use(object, s % SLOTS);
	}
}

static void report(void)
{
	struct span a = { NAN, 0, 0 }, b = { NAN, 0, 0 };

	if (threads == 1) {
		a = add_up(&workers[0].track, NULL);
	} else {
		b = add_up(&workers[1].track, &workers[0].track);
		a = workload.handed_over ? b : add_up(&workers[0].track, &workers[1].track);
		a.ns = (a.ns + b.ns) / 2;
		a.clean = a.clean < b.clean ? a.clean : b.clean;
	}
	printf("%.9g %u %u\n", a.ns / workload.objects, a.clean, a.all);
}

static void open_for(const char *name, const char *bytes)
{
	const char *why;

	for (size_t i = 0; i < WORKLOADS; i++)
		if (!strcmp(workloads[i].name, name))
			workload = workloads[i];
	object_size = strtoul(bytes, NULL, 10);
	if (object_size >= LARGE)
		workload.objects /= LARGE_PART;
	if (!workload.name || object_size < sizeof(uint64_t))
		give_up("no such workload");
	why = open_allocator();
	if (why) {
		fprintf(stderr, "%s\n", why);
		exit(2);
	}
}

/* <n> objects, after as many that are not counted. One thread alone. */
static void run_fixed(const char *name, const char *bytes, const char *n)
{
	open_for(name, bytes);
	workload.objects = (uint32_t)strtoul(n, NULL, 10);
	threads = 1;
	if (workload.handed_over || !enter_allocator(0))
		give_up("it cannot be counted");
	if (workload.slice == at_random)
		fill_slots();
	workload.slice(&workers[0]);
	timed(&workers[0]);
}

int main(int argc, char **argv)
{
	pthread_t other;
	const char *why;

	if (argc == 5 && !strcmp(argv[1], "--fixed")) {
		run_fixed(argv[2], argv[3], argv[4]);
		return 0;
	}
	if (argc != 5)
		give_up("usage: PROGRAM WORKLOAD BYTES THREADS MS");
	alarm(WATCHDOG_S);
	open_for(argv[1], argv[2]);
	threads = strtoul(argv[3], NULL, 10) == 2 ? 2 : 1;
	if (workload.handed_over && threads == 1)
		give_up("it takes two threads");
	ring.depth = workload.slice == buffers ? IN_FLIGHT : RING_SLOTS;
	ring.step = workload.slice == buffers ? 1 : 16;
	find_cores(cores);
	weigh_the_slices();
	time_limit = now_ns() + strtoul(argv[4], NULL, 10) * 1000000;
	if (workload.slice == at_random)
		fill_slots();
	if (threads == 2 && pthread_create(&other, NULL, work, &workers[1]) != 0)
		give_up("no second thread");
	work(&workers[0]);
	if (threads == 2)
		pthread_join(other, NULL);
	why = close_allocator();
	if (why)
		give_up(why);
	report();
	return 0;
}
