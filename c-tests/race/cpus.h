/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs that race callouts share: threads that are callout cpus,
 * random numbers, the clock, an end for what hangs. */
#ifndef CPUS_H
#define CPUS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#define must(condition, ...) \
	do { \
		if (!(condition)) \
			broken(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

__attribute__((format(printf, 3, 4), noreturn, unused))
static void broken(const char *file, int line, const char *format, ...)
{
	__builtin_va_list args;
	char text[300];
	int n;

	__builtin_va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	__builtin_va_end(args);
	fprintf(stderr, "%s:%d: %.*s\n", file, line, n, text);
	keel_dump_callouts(2);
	abort();
}

static __thread uint64_t seed;

/* xorshift64*; every thread has its own sequence. */
__attribute__((unused))
static unsigned int dice(unsigned int sides)
{
	static atomic_uint_least64_t threads = 1;

	if (!seed) {
		const char *given = getenv("SEED");

		seed = (given ? strtoull(given, NULL, 0) : keel_now_ns()) +
		       atomic_fetch_add(&threads, 1) * 0x9e3779b97f4a7c15u;
	}
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned int)((seed * 0x2545f4914f6cdd1du) >> 33) % sides;
}

/* CLOCK_MONOTONIC as callouts count it, rounded down. */
__attribute__((unused))
static sbintime_t uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((sbintime_t)ts.tv_sec << 32) |
	       (sbintime_t)(((uint64_t)ts.tv_nsec << 32) / 1000000000u);
}

__attribute__((unused))
static void nap(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

/* Keeps the processor: what a handler's work is like. */
__attribute__((unused))
static void spin(unsigned int us)
{
	uint64_t end = keel_now_ns() + us * 1000ull;

	while (keel_now_ns() < end)
		;
}

/* --- callout cpus ----------------------------------------------------------- */

static struct {
	pthread_t thread[KEEL_MAX_THREADS];
	unsigned int n;
	atomic_uint entered;
	atomic_int over;
} cpus;

/* Every other cpu sleeps in keel's loop, the rest turn in their own. */
__attribute__((unused))
static void *cpu_loop(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "cpu %u cannot enter", id);
	atomic_fetch_add(&cpus.entered, 1);
	if (id % 2)
		run_poll_loop();
	else
		while (!atomic_load(&cpus.over)) {
			softclock(id);
			sched_yield();
		}
	keel_thread_leave();
	return NULL;
}

/* keel_init() for that many threads, with the first <running> of them. */
__attribute__((unused))
static void cpus_start(unsigned int threads, unsigned int running)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = threads;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	cpus.n = running;
	for (size_t i = 0; i < running; i++)
		must(pthread_create(&cpus.thread[i], NULL, cpu_loop, (void *)i) == 0, "no thread");
	while (atomic_load(&cpus.entered) < running)
		sched_yield();
}

__attribute__((unused))
static void cpus_stop(void)
{
	atomic_store(&cpus.over, 1);
	keel_stop();
	for (unsigned int i = 0; i < cpus.n; i++)
		pthread_join(cpus.thread[i], NULL);
	keel_deinit();
}

/* --- an end for what hangs -------------------------------------------------- */

static atomic_ulong progress;

__attribute__((unused))
static void *watches(void *arg)
{
	unsigned long before = 0;

	(void)arg;
	for (int idle = 0;; idle++) {
		unsigned long now = atomic_load(&progress);

		if (now != before)
			idle = 0;
		before = now;
		must(idle < 100, "nothing happens any more");
		sleep(1);
	}
	return NULL;
}

/* Ends the program when nobody adds to progress for a long while. */
__attribute__((unused))
static void watchdog(void)
{
	pthread_t th;

	must(pthread_create(&th, NULL, watches, NULL) == 0, "no thread");
	pthread_detach(th);
}

#endif
