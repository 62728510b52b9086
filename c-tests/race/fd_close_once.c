/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads enter and leave one descriptor as fast as they can, by
 * fd_update_events() as a poller does,
 *
 * - while it is deleted, from outside or in its callback, and inserted again
 *   under the same number: each life is closed once, with nobody inside. The
 *   program has the close() that the library calls.
 * - while they take it over from each other: never are two inside.
 *
 * SHOWS: FD-3, INV-60 */

#define _GNU_SOURCE             /* dup3 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "../api/pollers.h"
#include "close.h"
#include "cpus.h"

#define USERS   3
#define MASTER  USERS
#define PART_MS 1200

static int owner, spare;
static atomic_int number;               /* 0: none yet */
static atomic_int is_open, doomed, over, entered;
static atomic_int in_callback_please;
static atomic_int inside, alone;
static atomic_ulong lives, deleted_inside, callbacks, takeovers, lost_takeovers;

int close(int fd)
{
	if (fd == atomic_load(&number)) {
		must(atomic_load(&doomed), "it is closed, but nobody deleted it");
		must(atomic_load(&inside) == 0, "it is closed while %d threads are inside", atomic_load(&inside));
		must(system_close(fd) == 0, "it is closed, but not open");
		/* The next life may begin. */
		must(atomic_exchange(&is_open, 0) == 1, "it is closed twice");
		return 0;
	}
	return system_close(fd);
}

static void on_report(int fd)
{
	int one = 1;

	must(fd == atomic_load(&number) && fdtab[fd].owner == &owner, "a callback for who is gone");
	must(atomic_fetch_add(&inside, 1) == 0 || !atomic_load(&alone), "two threads are inside");
	atomic_fetch_add_explicit(&callbacks, 1, memory_order_relaxed);
	for (unsigned int i = dice(30); i; i--)
		atomic_signal_fence(memory_order_seq_cst);
	atomic_fetch_sub(&inside, 1);
	if (atomic_load_explicit(&in_callback_please, memory_order_relaxed) &&
	    atomic_compare_exchange_strong(&in_callback_please, &one, 0)) {
		atomic_fetch_add(&deleted_inside, 1);
		atomic_store(&doomed, 1);
		fd_delete(fd);
	}
}

static void *uses(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	atomic_fetch_add(&entered, 1);
	while (!atomic_load(&over)) {
		int fd = atomic_load_explicit(&number, memory_order_relaxed);

		/* Let the master make one: there are more threads than processors. */
		if (!atomic_load_explicit(&is_open, memory_order_relaxed)) {
			sched_yield();
			continue;
		}
		if (atomic_load_explicit(&alone, memory_order_relaxed) && dice(4) == 0) {
			if (fd_takeover(fd, &owner) == 0) {
				atomic_fetch_add(&takeovers, 1);
				fd_want_recv(fd);
			} else {
				atomic_fetch_add(&lost_takeovers, 1);
			}
		}
		fd_update_events(fd, FD_EV_READY_R);
		if (dice(200) == 0)
			sched_yield();
	}
	/* What was left of updates to the last life. */
	keel_poll_once(0);
	keel_thread_leave();
	return NULL;
}

static void begins_life(unsigned long mask)
{
	int fd = atomic_load(&number);

	if (fd) {
		must(dup3(spare, fd, O_CLOEXEC) == fd, "no descriptor");
	} else {
		must((fd = dup(spare)) > 0, "no descriptor");
		atomic_store(&number, fd);
	}
	atomic_store(&doomed, 0);
	atomic_store(&is_open, 1);
	fd_insert(fd, &owner, on_report, mask);
	fd_want_recv(fd);
}

/* Waits without giving up the processor at once, nor for ever. */
#define wait_while(condition, complaint) \
	do { \
		uint64_t limit = keel_now_ns() + 40000000000ull; \
		for (unsigned int i = 1; condition; i++) \
			if (i % 500 == 0) { \
				sched_yield(); \
				must(keel_now_ns() < limit, complaint); \
			} \
	} while (0)

static void one_life(void)
{
	unsigned long before = atomic_load(&callbacks);

	begins_life((1ul << USERS) - 1);
	/* Not before somebody uses it. */
	wait_while(atomic_load(&callbacks) == before, "nobody uses it");
	for (unsigned int i = dice(300); i; i--)
		atomic_signal_fence(memory_order_seq_cst);
	if (dice(3)) {
		atomic_store(&doomed, 1);
		fd_delete(atomic_load(&number));
	} else {
		atomic_store(&in_callback_please, 1);
	}
	wait_while(atomic_load(&is_open), "nobody closes it");
	atomic_fetch_add(&lives, 1);
}

int main(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th[USERS];
	uint64_t end;

	choose_poller();
	cfg.nbthread = USERS + 1;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	must(keel_thread_enter(MASTER) == 0, "the master cannot enter");
	for (size_t i = 0; i < USERS; i++)
		must(pthread_create(&th[i], NULL, uses, (void *)i) == 0, "no thread");
	while (atomic_load(&entered) < USERS)
		sched_yield();
	must((spare = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0, "no descriptor");
	end = keel_now_ns() + PART_MS * 1000000ull;
	while (keel_now_ns() < end)
		one_life();
	printf("ok %lu lives of a number were closed once, %lu deleted in their callback; %lu callbacks\n",
	       atomic_load(&lives), atomic_load(&deleted_inside), atomic_load(&callbacks));
	atomic_store(&callbacks, 0);

	atomic_store(&alone, 1);
	begins_life(1);
	nap(PART_MS * 1000);
	atomic_store(&over, 1);
	for (int i = 0; i < USERS; i++)
		pthread_join(th[i], NULL);
	atomic_store(&doomed, 1);
	fd_delete(atomic_load(&number));
	wait_while(atomic_load(&is_open), "nobody closes it");
	must(keel_used_fds() == 0, "%d are in use", keel_used_fds());
	must(atomic_load(&takeovers) > 0 && atomic_load(&callbacks) > 0, "nothing happened");
	close(spare);
	keel_deinit();
	printf("ok %lu takeovers, %lu lost, and nobody was inside beside another; %lu callbacks\n",
	       atomic_load(&takeovers), atomic_load(&lost_takeovers), atomic_load(&callbacks));
	return 0;
}
