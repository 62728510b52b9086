/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/fd.h: what went wrong elsewhere, by the ids of docs/fd-museum.md.
 * Everything holds with each poller, except where a test says otherwise.
 */

#define _GNU_SOURCE             /* pipe2, RTLD_NEXT */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "fds.h"
#include "memory.h"
#include "suite.h"

/* -- threads ----------------------------------------------------------------- */

/* The test's own thread is number 0, which turns when told; others are in their
 * loops, or do one thing by hand. */
static pthread_t others[KEEL_MAX_THREADS];
static unsigned int nb_others;
static atomic_int in_loop;

static void *loops(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(size_t)arg), 0);
	atomic_fetch_add(&in_loop, 1);
	run_poll_loop();
	keel_thread_leave();
	return NULL;
}

/* Whether <*v> gets that far; the bound is there so that a test ends. */
static int gets_to(atomic_int *v, int value)
{
	uint64_t limit = keel_now_ns() + 20000000000u;

	while (atomic_load(v) < value) {
		if (keel_now_ns() > limit)
			return 0;
		sched_yield();
	}
	return 1;
}

/* Threads <first> to <last> into their loops. */
static void start_loops(unsigned int first, unsigned int last)
{
	for (unsigned int tid = first; tid <= last; tid++)
		ck_assert_int_eq(pthread_create(&others[nb_others++], NULL, loops, (void *)(size_t)tid), 0);
	ck_assert(gets_to(&in_loop, (int)nb_others));
}

static void start_all(unsigned int nbthread)
{
	start(nbthread);
	start_loops(1, nbthread - 1);
}

static void stop(void)
{
	keel_stop();
	while (nb_others)
		pthread_join(others[--nb_others], NULL);
	keel_deinit();
}

/* <body> on a thread of its own, to its end. */
static void elsewhere(void *(*body)(void *))
{
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, body, NULL), 0);
	pthread_join(th, NULL);
}

/* Checkers are that much slower. */
static int rounds(int n)
{
	return checked() ? n / 20 + 1 : n;
}

/* -- descriptors ------------------------------------------------------------- */

static unsigned int generation(int fd)
{
	return __atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED);
}

static int nb_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += is_open(fd);
	return n;
}

/* That very number, which is free. */
static void event_at(int fd, unsigned int count)
{
	int any = event(count);

	if (any != fd) {
		if (is_open(fd) || dup3(any, fd, O_CLOEXEC) != fd)
			abort();
		close(any);
	}
}

/* Both ends of a TCP connection. */
static void connection(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, size), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(fds[0], (struct sockaddr *)&at, size), 0);
	ck_assert_int_ge(fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC), 0);
	ck_assert_int_eq(fd_set_nonblock(fds[0]), 0);
	ck_assert_int_eq(fd_set_nonblock(fds[1]), 0);
	close(listener);
}

static void note_and_stop(int fd)
{
	fd_stop_both(fd);
	note(fd);
}

/* Turns that call nobody, with so many reports at the most. */
static void quiet_for(int nturns, unsigned long most)
{
	unsigned long before = counter(0, "poll_io");

	turns(nturns);
	ck_assert_int_eq(called(), 0);
	ck_assert_uint_le(counter(0, "poll_io") - before, most);
}

/* -- what is failing, or is counted, at the library's calls ------------------- */

static atomic_int refused_ctls, removals;

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
/* The library's calls come here first, whichever way they take. */
static long (*real_syscall)(long, long, long, long, long, long, long);

__attribute__((constructor)) static void find_syscall(void)
{
	real_syscall = (long (*)(long, long, long, long, long, long, long))dlsym(RTLD_NEXT, "syscall");
}

/* Without the "...", which has nothing to hand its arguments on with. */
long any_syscall(long number, long a, long b, long c, long d, long e, long f) __asm__("syscall");

long any_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long rc;

	if (!real_syscall)              /* another library is constructed first, and maps memory */
		find_syscall();
	rc = real_syscall(number, a, b, c, d, e, f);

	if (number == SYS_epoll_ctl) {
		atomic_fetch_add(&refused_ctls, rc < 0);
		atomic_fetch_add(&removals, rc == 0 && b == EPOLL_CTL_DEL);
	}
	return rc;
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	return (int)any_syscall(SYS_epoll_ctl, epfd, op, fd, (long)event, 0, 0);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* While <scarce>, all allocations before the <allowed>th succeed, and none
 * after; <held> is what was not given back. */
static int scarce, allowed, held;

static int refuse(void)
{
	if (!scarce)
		return 0;
	if (allowed-- > 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

static void *granted(void *area)
{
	held += scarce && area;
	return area;
}

void *malloc(size_t size)
{
	return refuse() ? NULL : granted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
	return refuse() ? NULL : granted(__libc_calloc(n, size));
}

int posix_memalign(void **out, size_t align, size_t size)
{
	void *area = refuse() ? NULL : granted(__libc_memalign(align, size));

	if (!area)
		return ENOMEM;
	*out = area;
	return 0;
}

void free(void *area)
{
	held -= scarce && area;
	__libc_free(area);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *area;

	if (refuse())
		return MAP_FAILED;
	area = (void *)any_syscall(SYS_mmap, (long)at, (long)size, prot, flags, fd, offset);
	held += scarce && area != MAP_FAILED;
	return area;
}

int munmap(void *area, size_t size)
{
	held -= scarce;
	return (int)any_syscall(SYS_munmap, (long)area, (long)size, 0, 0, 0, 0);
}
#define IN_BETWEEN 1
#else
static int scarce, allowed, held;
#define IN_BETWEEN 0
#endif

/* -- deletion ---------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int inside, left;

static void wants_the_lock(int fd)
{
	(void)fd;
	atomic_fetch_add(&inside, 1);
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&left, 1);
}

/* The descriptor is another thread's alone, and that thread is busy in it. */
START_TEST(fd_2_deleting_a_foreign_descriptor_waits_for_nobody)
{
	int fd;

	start_all(3);
	fd = event(1);
	fd_insert(fd, &owner, wants_the_lock, 2);
	pthread_mutex_lock(&lock);
	fd_want_recv(fd);
	ck_assert(gets_to(&inside, 1));
	fd_delete(fd);
	ck_assert(is_open(fd));
	ck_assert_int_eq(atomic_load(&left), 0);
	pthread_mutex_unlock(&lock);
	ck_assert(gets_to(&left, 1));
	for (int i = 0; i < 10000 && keel_used_fds(); i++)
		usleep(1000);
	ck_assert_int_eq(keel_used_fds(), 0);
	stop();
}
END_TEST

static int closes_by_itself(void)
{
	uint64_t limit = keel_now_ns() + 20000000000u;

	while (keel_used_fds()) {
		if (keel_now_ns() > limit)
			return 0;
		sched_yield();
	}
	return 1;
}

/* Two threads get events, a third one is inside too and deletes.
 * SHOWS: INV-64 */
START_TEST(fd_5_nobody_waits_for_who_waits_for_him)
{
	int stuck = 0;

	start_all(3);
	for (int i = rounds(700); i && !stuck; i--) {
		int fd = event(1), before = atomic_load(&calls);

		watch(fd, note, 7);
		if (i % 2)
			stuck += !gets_to(&calls, before + 1 + i % 4);
		stuck += fd_set_running(fd) != 0;
		fd_delete(fd);
		stuck += !closes_by_itself();
	}
	ck_assert_int_eq(stuck, 0);
	stop();
}
END_TEST

static atomic_int shared, done, strange;

/* Who got in by hand is inside until it leaves: the number is not closed. */
static void *goes_in_and_out(void *arg)
{
	int fd = atomic_load(&shared);

	ck_assert_int_eq(keel_thread_enter(1), 0);
	atomic_store(&inside, 1);
	while (!atomic_load(&done)) {
		unsigned int life;

		if (fd_set_running(fd) < 0)
			continue;
		life = generation(fd);
		if (!is_open(fd))
			atomic_fetch_add(&strange, 1);
		if (generation(fd) != life)
			atomic_fetch_add(&strange, 1);
		if (fd_clr_running(fd) == 0 && !__atomic_load_n(&fdtab[fd].thread_mask, __ATOMIC_ACQUIRE))
			_fd_delete_orphan(fd);
	}
	keel_thread_leave();
	return arg;
}

START_TEST(fd_6_setting_the_running_bit_excludes_the_close)
{
	int fd, stuck = 0, others_number = 0, n = rounds(20000);
	pthread_t th;

	start(2);
	fd = event(0);
	fd_insert(fd, &owner, note, 2);
	atomic_store(&shared, fd);
	ck_assert_int_eq(pthread_create(&th, NULL, goes_in_and_out, NULL), 0);
	ck_assert(gets_to(&inside, 1));
	for (int i = 0; i < n && !stuck; i++) {
		fd_delete(fd);
		stuck += !closes_by_itself();
		others_number += event(0) != fd;
		fd_insert(fd, &owner, note, 2);
	}
	atomic_store(&done, 1);
	pthread_join(th, NULL);
	ck_assert_int_eq(stuck, 0);
	ck_assert_int_eq(others_number, 0);
	ck_assert_int_eq(atomic_load(&strange), 0);
	ck_assert_uint_eq(generation(fd), n);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* -- takeover ---------------------------------------------------------------- */

static atomic_int taken, refused;

/* Reports what may not be its own any more, and takes it over from time to
 * time: what the owner does to the state stays as it is. */
static void report_and_take(int times)
{
	int fd = atomic_load(&shared), wrong = 0, mine = 0, lost = 0;

	while (times--) {
		if (fd_update_events(fd, FD_EV_READY_R) == FD_UPDT_MIGRATED)
			lost++;
		if (pthread_mutex_trylock(&lock) != 0)
			continue;
		if (fd_takeover(fd, &owner) == 0) {
			mine++;
			wrong += fd_active(fd) != 0;
			fd_cant_recv(fd);
			for (int i = 0; i < 20; i++) {
				fd_want_send(fd);
				wrong += !fd_send_active(fd) || fd_recv_ready(fd);
				fd_stop_send(fd);
				wrong += fd_send_active(fd) || fd_recv_ready(fd);
			}
		}
		pthread_mutex_unlock(&lock);
	}
	atomic_fetch_add(&taken, mine);
	atomic_fetch_add(&refused, lost);
	atomic_fetch_add(&strange, wrong);
}

static void *reports_and_takes(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	/* until the other has finished: both go on together */
	while (!atomic_load(&done))
		report_and_take(100);
	keel_thread_leave();
	return arg;
}

START_TEST(fd_7_a_late_report_does_not_undo_the_new_owners_wishes)
{
	int fd;
	pthread_t th;

	start(2);
	fd = event(0);
	fd_insert(fd, &owner, note, 2);
	atomic_store(&shared, fd);
	ck_assert_int_eq(pthread_create(&th, NULL, reports_and_takes, NULL), 0);
	for (int i = rounds(20000); i || atomic_load(&taken) < 2; i -= i > 0)
		report_and_take(1);
	atomic_store(&done, 1);
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&strange), 0);
	ck_assert_int_gt(atomic_load(&refused), 0);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

static void *is_inside(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	ck_assert_int_eq(fd_set_running(atomic_load(&shared)), 0);
	atomic_store(&inside, 1);
	ck_assert(gets_to(&done, 1));
	ck_assert_int_eq(fd_clr_running(atomic_load(&shared)), 0);
	keel_thread_leave();
	return arg;
}

/* SHOWS: INV-63 */
START_TEST(fd_8_9_10_a_takeover_succeeds_or_changes_nothing)
{
	unsigned int before;
	int fd;
	pthread_t th;

	start(2);
	fd = event(1);
	atomic_store(&shared, fd);
	watch(fd, note, 2);
	fd_want_send(fd);
	ck_assert_int_eq(pthread_create(&th, NULL, is_inside, NULL), 0);
	ck_assert(gets_to(&inside, 1));
	before = state_of(fd);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(fd_takeover(fd, &owner), -1);
		ck_assert_uint_eq(state_of(fd), before);
		ck_assert_uint_eq(fdtab[fd].thread_mask, 2);
		ck_assert_uint_eq(fdtab[fd].running_mask, 2);
	}
	atomic_store(&done, 1);
	pthread_join(th, NULL);
	ck_assert_int_eq(fd_takeover(fd, &before), -1);
	ck_assert_uint_eq(state_of(fd), before);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 2);
	ck_assert_int_eq(fd_takeover(fd, &owner), 0);
	ck_assert(!fd_active(fd));
	ck_assert_uint_eq(fdtab[fd].thread_mask, 1);
	ck_assert_uint_eq(fdtab[fd].running_mask, 0);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

static void *takes_it(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	ck_assert_int_eq(fd_takeover(atomic_load(&shared), &owner), 0);
	fd_want_recv(atomic_load(&shared));
	keel_poll_once(1000);
	keel_thread_leave();
	return arg;
}

/* SHOWS: INV-73 */
START_TEST(fd_20_what_was_taken_over_is_quiet_on_the_old_thread)
{
	unsigned long before;
	int fd;

	start(2);
	fd = event(1);
	atomic_store(&shared, fd);
	watch(fd, note, 1);
	turns(2);
	ck_assert_int_eq(called(), 2);
	before = counter(0, "poll_io");
	elsewhere(takes_it);
	ck_assert_int_eq(called(), 1);
	turns(20);
	ck_assert_int_eq(called(), 0);
	/* One that was under way, at most. */
	ck_assert_uint_le(counter(0, "poll_io") - before, 1);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* -- updates ----------------------------------------------------------------- */

/* Each life of a few numbers ends with an update pending somewhere; each next
 * one has to be polled. */
START_TEST(fd_4_a_numbers_next_life_is_polled)
{
	int unheard = 0;

	start_all(2);
	for (int i = 0; i < rounds(800) && !unheard; i++) {
		int fd = event(1), before;

		watch(fd, note, 2);
		if (i % 4 >= 2)
			sched_yield();
		if (i % 2 && fd_takeover(fd, &owner) == 0) {
			before = atomic_load(&calls);
			fd_want_recv(fd);
			turns(2);
			unheard += atomic_load(&calls) <= before;
		}
		fd_delete(fd);
		unheard += !closes_by_itself();
		/* the same number, but for a moment in which a poller is renewed */
		fd = event(1);
		before = atomic_load(&calls);
		watch(fd, note, 2);
		unheard += !gets_to(&calls, before + 1);
		fd_delete(fd);
		unheard += !closes_by_itself();
	}
	ck_assert_int_eq(unheard, 0);
	stop();
}
END_TEST

#define FEW 6
static int few[FEW];

static void hear(int fd)
{
	fd_stop_send(fd);
	note(fd);
}

static void *wants_them_all(void *arg)
{
	int n = rounds(1500), unheard = 0;

	for (int i = 0; i < n && !unheard; i++) {
		int fd = few[(i * ((size_t)arg + 1)) % FEW], before = atomic_load(&heard[fd]);

		fd_want_send(fd);
		unheard += !gets_to(&heard[fd], before + 1);
	}
	atomic_fetch_add(&strange, unheard);
	return NULL;
}

/* Threads that are not registered add the same few numbers to another thread's
 * queue, while it empties it.
 * SHOWS: INV-67 */
START_TEST(fd_11_12_13_the_shared_queue_loses_nothing)
{
	pthread_t th[3];

	start_all(2);
	for (int i = 0; i < FEW; i++) {
		few[i] = event(0);
		fd_insert(few[i], &owner, hear, 2);
	}
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, wants_them_all, (void *)i), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(th[i], NULL);
	ck_assert_int_eq(atomic_load(&strange), 0);
	for (int i = 0; i < FEW; i++)
		fd_delete(few[i]);
	stop();
}
END_TEST

static atomic_int seen_by;

static void see(int fd)
{
	if ((atomic_fetch_or(&seen_by, 1 << keel_tid()) | 1 << keel_tid()) == 14)
		fd_stop_recv(fd);
}

START_TEST(fd_16_every_thread_polls_what_is_shared)
{
	int fd;

	start_all(4);
	for (int i = 0; i < 20; i++) {
		atomic_store(&seen_by, 0);
		fd = watch(event(1), see, 14);
		ck_assert(gets_to(&seen_by, 14));
		fd_delete(fd);
		ck_assert(closes_by_itself());
	}
	stop();
}
END_TEST

START_TEST(fd_17_a_wish_from_elsewhere_reaches_who_goes_to_sleep)
{
	int fd, unheard = 0;

	start_all(2);
	fd = event(1);
	fd_insert(fd, &owner, note_and_stop, 2);
	for (int i = 0; i < rounds(2000) && !unheard; i++) {
		if (i % 50 == 0)
			usleep(2000);
		fd_want_recv(fd);
		unheard += !gets_to(&calls, i + 1);
	}
	ck_assert_int_eq(unheard, 0);
	fd_delete(fd);
	stop();
}
END_TEST

static struct task *runs(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&calls, 1);
	return t;
}

/* Any wake-up that is not heard costs the sleeper's minute.
 * SHOWS: INV-47, INV-74 */
START_TEST(fd_21_a_sleeping_thread_is_woken)
{
	struct tasklet *tl;
	int unheard = 0;

	start_all(2);
	tl = tasklet_new();
	tl->process = runs;
	tasklet_set_tid(tl, 1);
	for (int i = 0; i < rounds(2000) && !unheard; i++) {
		/* asleep for long, about to sleep, awake */
		if (i % 20 == 0)
			usleep(2000);
		tasklet_wakeup(tl);
		unheard += !gets_to(&calls, i + 1);
	}
	ck_assert_int_eq(unheard, 0);
	tasklet_kill(tl);
	stop();
}
END_TEST

/* What is removed from the pollers without a close comes back like new, in both
 * directions.
 * SHOWS: INV-68 */
START_TEST(fd_18_19_disowned_and_inserted_again)
{
	int fd;

	start(1);
	fd = event(1);
	for (int i = 0; i < 3; i++) {
		watch(fd, note, 1);
		fd_want_send(fd);
		turns(1);
		ck_assert_int_eq(called(), 1);
		ck_assert_uint_eq(state_of(fd) & (FD_POLL_IN | FD_POLL_OUT), FD_POLL_IN | FD_POLL_OUT);
		ck_assert(polled(fd, "0x1/0x1"));
		mark(fd, FD_DISOWN);
		fd_delete(fd);
		ck_assert(is_open(fd));
		turns(2);
		ck_assert_int_eq(called(), 0);
	}
	fd_insert(fd, &owner, note, 1);
	ck_assert(polled(fd, "0x0/0x0"));
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* -- threads that come and go, and the library's own descriptors --------------- */

static void *inserts_and_leaves(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	for (int i = 0; i < 3; i++) {
		few[i] = watch(event(1), note, 2);
		if (i == 0)
			keel_poll_once(1000);
	}
	keel_thread_leave();
	return arg;
}

START_TEST(fd_25_30_descriptors_of_a_thread_that_left)
{
	int fd;

	start(2);
	elsewhere(inserts_and_leaves);
	ck_assert_int_eq(called(), 1);
	/* One by another thread, one by none, one when all have left. */
	fd_delete(few[0]);
	ck_assert(!is_open(few[0]));
	keel_thread_leave();
	fd_delete(few[1]);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	/* The number is used again while thread 1 still has it in its queue. */
	fd = few[0];
	event_at(fd, 1);
	watch(fd, note, 1);
	turns(2);
	ck_assert_int_eq(called(), 2);
	keel_thread_leave();
	ck_assert_int_eq(keel_thread_enter(1), 0);
	turns(2);
	ck_assert_int_eq(called(), 2);
	fd_delete(few[2]);
	fd_delete(fd);
	turns(2);
	ck_assert_int_eq(called(), 0);
	ck_assert_int_eq(keel_used_fds(), 0);
	/* And deinit with a descriptor left: it is the host's. */
	fd = watch(event(1), note, 3);
	keel_deinit();
	ck_assert(is_open(fd));
	close(fd);
}
END_TEST

START_TEST(fd_26_the_mask_is_the_callers_word)
{
	int fd;

	start(4);
	fd = event(0);
	fd_insert(fd, &owner, note, 8);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 8);
	fd_delete(fd);
	keel_thread_leave();
	fd = event(0);
	fd_insert(fd, &owner, note, 6);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 6);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* What the server says when it inserts holds from the first registration to the
 * close, and no longer. Pollers without edges serve such a one like others. */
START_TEST(fd_27_an_edge_triggered_descriptor_stays_one)
{
	int fds[2];
	char c;

	start(1);
	stream(fds);
	for (int i = 0; i < 3; i++) {
		fd_insert(fds[0], &owner, note_and_stop, 1);
		ck_assert_uint_eq(state_of(fds[0]), FD_EV_READY_RW);
		mark(fds[0], FD_ET_POSSIBLE | FD_DISOWN);
		fd_cant_recv(fds[0]);
		fd_want_recv(fds[0]);
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		turns(2);
		ck_assert_int_ge(called(), 1);
		ck_assert_uint_ne(state_of(fds[0]) & FD_ET_POSSIBLE, 0);
		ck_assert_uint_ne(state_of(fds[0]) & FD_POLL_IN, 0);
		ck_assert_int_eq(read(fds[0], &c, 1), 1);
		/* It came while nobody wanted it. */
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		turns(2);
		ck_assert_int_eq(called(), 0);
		fd_want_recv(fds[0]);
		turns(2);
		ck_assert_int_ge(called(), 1);
		ck_assert_int_eq(read(fds[0], &c, 1), 1);
		fd_delete(fds[0]);
		ck_assert_uint_eq(state_of(fds[0]), 0);
	}
	close(fds[0]);
	close(fds[1]);
	keel_deinit();
}
END_TEST

static void *comes_and_goes(void *arg)
{
	while (!atomic_load(&done)) {
		if (keel_thread_enter(1) != 0)
			abort();
		keel_poll_once(0);
		keel_thread_leave();
		atomic_fetch_add(&inside, 1);
	}
	return arg;
}

/* A number that one thread's poller had is another's the next moment, and
 * inserted: a panic if the slot were owned still.
 * SHOWS: INV-78 */
START_TEST(fd_28_the_librarys_own_descriptors_leave_no_trace)
{
	int unheard = 0, before, kept = 0;
	pthread_t th;

	start(2);
	before = nb_open();
	ck_assert_int_eq(pthread_create(&th, NULL, comes_and_goes, NULL), 0);
	ck_assert(gets_to(&inside, 1));
	for (int i = 0; i < rounds(3000) && !unheard; i++) {
		int fds[3];

		for (int k = 0; k < 3; k++) {
			fds[k] = watch(event(1), note, 1);
		}
		turns(1);
		unheard += called() != 3;
		for (int k = 0; k < 3; k++)
			fd_delete(fds[k]);
	}
	atomic_store(&done, 1);
	pthread_join(th, NULL);
	ck_assert_int_eq(unheard, 0);
	ck_assert_int_eq(keel_used_fds(), 0);
	for (int fd = 0; fd < MAXSOCK; fd++)
		kept += fdtab[fd].owner != NULL;
	ck_assert_int_eq(kept, 0);
	/* What wakes thread 1 stays open for whoever enters next. */
	ck_assert_int_le(nb_open() - before, 1);
	keel_deinit();
}
END_TEST

START_TEST(fd_29_59_what_was_not_opened_is_not_closed)
{
	int zero = open("/dev/null", O_RDONLY), before;

	ck_assert_int_eq(dup2(zero, 0), 0);
	before = nb_open();
	keel_deinit();
	keel_deinit();
	keel_thread_leave();
	ck_assert_int_eq(nb_open(), before);
	for (int i = 0; i < 3; i++) {
		/* threads that never enter have nothing either */
		init(8);
		keel_thread_leave();
		ck_assert_int_eq(keel_thread_enter(i), 0);
		turns(1);
		if (i)
			keel_thread_leave();
		keel_deinit();
		ck_assert_int_eq(nb_open(), before);
		keel_deinit();
		ck_assert_int_eq(nb_open(), before);
	}
	ck_assert(is_open(0));
	close(zero);
}
END_TEST

/* Each allocation of keel_init() and keel_thread_enter() fails once.
 * SHOWS: INV-78 */
START_TEST(fd_31_lack_of_memory_leaves_nothing_behind)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	int n, rc = -1, before = nb_open();

	if (!IN_BETWEEN || checked())
		return;
	cfg.nbthread = 3;
	cfg.maxsock = MAXSOCK;
	/* what is made once for all */
	ck_assert_int_eq(keel_init(&cfg), 0);
	keel_deinit();
	for (n = 0; n < 1000 && rc != 0; n++) {
		held = 0;
		allowed = n;
		scarce = 1;
		rc = keel_init(&cfg);
		scarce = 0;
		if (rc != 0) {
			ck_assert_int_eq(rc, -ENOMEM);
			ck_assert_msg(held == 0, "%d areas lost after %d allocations", held, n);
		}
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(n, 5);
	for (n = 0, rc = -1; n < 1000 && rc != 0; n++) {
		allowed = n;
		scarce = 1;
		rc = keel_thread_enter(1);
		scarce = 0;
		if (rc != 0)
			ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(n, 1);
	keel_deinit();
	ck_assert_int_eq(nb_open(), before);
}
END_TEST

/* As above with the system's own words, and for descriptors. */
START_TEST(fd_31_threads_enter_when_there_is_something_again)
{
	struct rlimit now, tight;
	int rc = -1, n, before;
	void *memory;

	init(2);
	getrlimit(RLIMIT_NOFILE, &now);
	before = nb_open();
	for (n = 0; n < 1000 && rc != 0; n++) {
		tight = now;
		tight.rlim_cur = n;
		setrlimit(RLIMIT_NOFILE, &tight);
		rc = keel_thread_enter(0);
		setrlimit(RLIMIT_NOFILE, &now);
		if (rc != 0) {
			ck_assert_int_eq(rc, -EMFILE);
			/* Only what wakes the thread, which stays for the next. */
			ck_assert_int_le(nb_open() - before, 1);
		}
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(n, 1);
	keel_thread_leave();
	if (!checked() && !emulated()) {
		memory = take_all_memory(&now);
		rc = keel_thread_enter(1);
		give_all_memory_back(memory, &now);
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_int_eq(keel_thread_enter(1), 0);
	}
	keel_deinit();
	ck_assert_int_eq(nb_open(), before);
}
END_TEST

static atomic_int wrong_thread;

static void drain_on_two(int fd)
{
	if (keel_tid() != 2)
		atomic_fetch_add(&wrong_thread, 1);
	drain_and_note(fd);
}

START_TEST(fd_32_others_sleep_through_it)
{
	unsigned long before;
	int fd, unheard = 0;

	start_all(3);
	fd = watch(event(0), drain_on_two, 4);
	before = counter(1, "poll_io");
	for (int i = 0; i < 300 && !unheard; i++) {
		ring(fd);
		unheard += !gets_to(&calls, i + 1);
	}
	ck_assert_int_eq(unheard, 0);
	ck_assert_int_eq(atomic_load(&wrong_thread), 0);
	ck_assert_uint_ge(counter(2, "poll_io"), 200);
	ck_assert_uint_eq(counter(1, "poll_io"), before);
	fd_delete(fd);
	stop();
}
END_TEST

/* -- fork -------------------------------------------------------------------- */

/* Both go on with the same numbers, which mean different things soon.
 * SHOWS: INV-76 */
START_TEST(fd_33_a_fork_shares_no_poller)
{
	int a[2], b[2], fd;
	char c;
	pid_t child;

	start(2);
	stream(a);
	ck_assert_int_eq(pipe2(b, O_CLOEXEC), 0);
	watch(a[0], note, 1);
	turns(1);
	child = fork();
	if (child == 0) {
		int good = fork_poller() == 1 && read(b[0], &c, 1) == 1;

		/* Its end of the pair, and in its place something else. */
		fd_delete(a[0]);
		fd = a[0];
		event_at(fd, 1);
		watch(fd, note, 1);
		turns(2);
		good &= called() == 2;
		fd_delete(fd);
		keel_thread_leave();
		keel_deinit();
		_exit(good ? 0 : 1);
	}
	/* Nothing of this is the child's. */
	fd = watch(event(1), note, 1);
	turns(1);
	ck_assert_int_eq(called(), 1);
	fd_stop_recv(fd);
	ck_assert_int_eq(write(b[1], "x", 1), 1);
	ck_assert_int_eq(reap(child), 0);
	ck_assert(is_open(a[0]) && is_open(fd));
	turns(2);
	ck_assert_int_eq(called(), 0);
	ck_assert_int_eq(write(a[1], "x", 1), 1);
	fd_want_recv(fd);
	turns(1);
	ck_assert_int_eq(called(), 2);
	fd_delete(a[0]);
	fd_delete(fd);
	keel_deinit();
	close(a[1]);
	close(b[0]);
	close(b[1]);
}
END_TEST

START_TEST(fd_34_what_a_child_keeps_does_not_ring)
{
	int fd, b[2];
	char c;
	pid_t child;

	start(1);
	ck_assert_int_eq(pipe2(b, O_CLOEXEC), 0);
	fd = watch(event(1), note, 1);
	turns(1);
	ck_assert_int_eq(called(), 1);
	child = fork();
	if (child == 0)
		_exit(read(b[0], &c, 1) != 1);
	fd_delete(fd);
	quiet_for(50, 4);
	ck_assert_int_eq(write(b[1], "x", 1), 1);
	ck_assert_int_eq(reap(child), 0);
	keel_deinit();
}
END_TEST

/* Registers what is its own, and stands still. */
static void *polls_once(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(size_t)arg), 0);
	keel_poll_once(0);
	atomic_fetch_add(&in_loop, 1);
	ck_assert(gets_to(&done, 1));
	keel_thread_leave();
	return NULL;
}

/* Threads 0 and 2 of four have it, all have a poller.
 * SHOWS: INV-77 */
START_TEST(fd_35_removed_from_those_that_have_it)
{
	int fd, copy;

	start(4);
	fd = event(1);
	copy = dup(fd);
	watch(fd, note, 5);
	turns(1);
	for (size_t tid = 1; tid < 4; tid++)
		ck_assert_int_eq(pthread_create(&others[nb_others++], NULL, polls_once, (void *)tid), 0);
	ck_assert(gets_to(&in_loop, 3));
	ck_assert(polled(fd, "0x5/0x0"));
	ck_assert_int_eq(called(), 2);
	mark(fd, FD_CLONED);
	atomic_store(&refused_ctls, 0);
	atomic_store(&removals, 0);
	fd_delete(fd);
	ck_assert_int_eq(atomic_load(&refused_ctls), 0);
	if (IN_BETWEEN && !with_poll())
		ck_assert_int_eq(atomic_load(&removals), 2);
	atomic_store(&done, 1);
	stop();
	close(copy);
}
END_TEST

/* -- reports ----------------------------------------------------------------- */

/* SHOWS: INV-71 */
START_TEST(fd_37_an_error_of_what_is_not_wanted)
{
	int fds[2], p[2];

	start(1);
	stream(fds);
	ck_assert_int_eq(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	fd_insert(fds[0], &owner, note, 1);
	fd_insert(p[1], &owner, note, 1);
	fd_want_recv(fds[0]);
	turns(1);
	/* The poller has the one, and has never heard of the other. */
	fd_stop_recv(fds[0]);
	close(fds[1]);
	close(p[0]);
	quiet_for(20, 2);
	ck_assert(!fd_active(fds[0]) && !fd_active(p[1]));
	fd_delete(fds[0]);
	fd_delete(p[1]);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-70 */
START_TEST(fd_38_a_hang_up_is_not_forgotten)
{
	int fds[2];

	start(1);
	stream(fds);
	watch(fds[0], note, 1);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ck_assert_int_eq(shutdown(fds[1], SHUT_WR), 0);
	turns(2);
	ck_assert_int_gt(called(), 0);
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_IN | FD_POLL_HUP), FD_POLL_IN | FD_POLL_HUP);
	/* Nobody reads; then it is about writes alone. */
	fd_stop_recv(fds[0]);
	turns(2);
	fd_want_send(fds[0]);
	turns(2);
	ck_assert_int_gt(called(), 0);
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_OUT | FD_POLL_HUP), FD_POLL_OUT | FD_POLL_HUP);
	ck_assert_int_eq(fd_update_events(fds[0], FD_EV_READY_W), FD_UPDT_DONE);
	ck_assert_uint_ne(state_of(fds[0]) & FD_POLL_HUP, 0);
	fd_delete(fds[0]);
	close(fds[1]);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-81 */
START_TEST(fd_39_our_own_shutdown_is_no_error)
{
	int fds[2];
	char c;

	start(1);
	connection(fds);
	watch(fds[0], note, 1);
	turns(1);
	ck_assert_int_eq(shutdown(fds[0], SHUT_WR), 0);
	ck_assert_int_eq(read(fds[1], &c, 1), 0);
	ck_assert_int_eq(called(), 0);
	close(fds[1]);
	for (int i = 0; i < 1000 && !called(); i++)
		keel_poll_once(10);
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_ERR | FD_POLL_HUP), FD_POLL_HUP);
	ck_assert_int_eq(read(fds[0], &c, 1), 0);
	fd_delete(fds[0]);
	keel_deinit();
}
END_TEST

START_TEST(fd_40_an_error_that_nobody_waits_for_any_more_is_quiet)
{
	int p[2];

	start(1);
	ck_assert_int_eq(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	fd_insert(p[1], &owner, note, 1);
	fd_want_send(p[1]);
	/* readable for all that is known, and nobody asked */
	fd_cant_recv(p[1]);
	turns(1);
	close(p[0]);
	turns(1);
	ck_assert_int_eq(called(), 2);
	ck_assert_uint_ne(state_of(p[1]) & FD_POLL_ERR, 0);
	fd_stop_send(p[1]);
	quiet_for(20, 1);
	fd_delete(p[1]);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-71 */
START_TEST(fd_41_both_directions_stopped_before_the_poll)
{
	unsigned long before;
	int fd;

	start(1);
	fd = event(1);
	fd_insert(fd, &owner, note, 1);
	before = counter(0, "poll_io");
	fd_want_recv(fd);
	fd_want_send(fd);
	fd_stop_both(fd);
	turns(5);
	ck_assert_uint_eq(counter(0, "poll_io"), before);
	fd_want_recv(fd);
	fd_want_send(fd);
	turns(1);
	ck_assert_int_eq(called(), 1);
	fd_stop_recv(fd);
	fd_stop_send(fd);
	quiet_for(20, 1);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* With the table write-protected, any write would be a fault.
 * SHOWS: INV-87 */
START_TEST(fd_42_what_is_so_already_is_not_written)
{
	size_t size = MAXSOCK * sizeof(struct fdtab);
	int fd;

	start(1);
	fd = watch(event(1), note, 1);
	turns(1);
	ck_assert_int_eq(mprotect(fdtab, size, PROT_READ), 0);
	for (int i = 0; i < 3; i++) {
		fd_want_recv(fd);
		fd_want_recv_safe(fd);
		fd_stop_send(fd);
		fd_may_recv(fd);
		fd_may_send(fd);
		fd_may_both(fd);
		fd_cond_recv(fd);
		fd_cond_send(fd);
		fd_active(fd);
	}
	ck_assert_int_eq(mprotect(fdtab, size, PROT_READ | PROT_WRITE), 0);
	fd_stop_recv(fd);
	fd_cant_recv(fd);
	fd_cant_send(fd);
	ck_assert_int_eq(mprotect(fdtab, size, PROT_READ), 0);
	fd_stop_recv(fd);
	fd_stop_both(fd);
	fd_cant_recv(fd);
	fd_cant_send(fd);
	ck_assert_int_eq(mprotect(fdtab, size, PROT_READ | PROT_WRITE), 0);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

START_TEST(fd_43_one_call_for_an_event)
{
	int fd;

	start(1);
	fd = watch(event(1), note, 1);
	fd_want_send(fd);
	for (int i = 0; i < 5; i++) {
		turns(1);
		ck_assert_int_eq(called(), 1);
		/* hints and wishes in vain do not call either */
		fd_may_both(fd);
		fd_cond_recv(fd);
		fd_want_recv(fd);
		ck_assert_int_eq(called(), 0);
	}
	fd_stop_recv(fd);
	fd_want_recv(fd);
	turns(1);
	ck_assert_int_eq(called(), 1);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

/* Some of a turn's updates are for numbers that were closed behind the library's
 * back: the others are polled all the same.
 * SHOWS: INV-80 */
START_TEST(fd_46_one_bad_change_does_not_spoil_the_others)
{
	int fds[40], bad = 0;

	start(1);
	for (int i = 0; i < 40; i++) {
		fds[i] = event(1);
		fd_insert(fds[i], &owner, hear, 1);
		fd_want_send(fds[i]);
	}
	for (int i = 0; i < 40; i += 3)
		close(fds[i]);
	turns(3);
	for (int i = 0; i < 40; i++)
		bad += atomic_load(&heard[fds[i]]) != (i % 3 != 0);
	ck_assert_int_eq(bad, 0);
	for (int i = 0; i < 40; i++)
		fd_delete(fds[i]);
	ck_assert_int_eq(keel_used_fds(), 0);
	keel_deinit();
}
END_TEST

static atomic_int errors;

static void read_error(int fd)
{
	char c;

	note(fd);
	if (recv(fd, &c, 1, 0) < 0) {
		if (errno == ECONNREFUSED)
			atomic_fetch_add(&errors, 1);
		else
			fd_cant_recv(fd);
	}
}

/* SHOWS: INV-81 */
START_TEST(fd_47_a_port_that_nobody_has)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), other;
	socklen_t size = sizeof(at);

	other = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(other, (struct sockaddr *)&at, size), 0);
	ck_assert_int_eq(getsockname(other, (struct sockaddr *)&at, &size), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, size), 0);
	close(other);
	start(1);
	watch(fd, read_error, 1);
	turns(2);
	ck_assert_int_eq(called(), 0);
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	for (int i = 0; i < 1000 && !atomic_load(&errors); i++)
		keel_poll_once(10);
	ck_assert_int_eq(atomic_load(&errors), 1);
	/* It was heard, and rings no more. */
	called();
	turns(20);
	ck_assert_int_eq(called(), 0);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

START_TEST(fd_48_nothing_to_poll)
{
	uint64_t begin, ns;

	start(1);
	turns(2);
	begin = keel_now_ns();
	for (int i = 0; i < 10; i++)
		keel_poll_once(10);
	ns = keel_now_ns() - begin;
	/* It slept: a loop of errors would be through at once. Signals end a sleep. */
	if (!in_storm())
		ck_assert_uint_ge(ns, 100000000u);
	keel_deinit();
}
END_TEST

static void *wants_the_shared(void *arg)
{
	fd_want_recv(atomic_load(&shared));
	return arg;
}

/* Where numbers end, and beyond what bitmaps of 1024 bits hold.
 * SHOWS: INV-79 */
START_TEST(fd_49_50_high_numbers)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct rlimit limit;
	int fd, last, low[40], rang = 0;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 5000)
		return;
	if (limit.rlim_cur < 5000) {
		limit.rlim_cur = 5000;
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
	cfg.nbthread = 1;
	cfg.maxsock = 4999;     /* no multiple of anything */
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	for (int i = 0; i < 40; i++) {
		low[i] = watch(event(0), hear, 1);
	}
	fd = event(1);
	last = fcntl(fd, F_DUPFD_CLOEXEC, 4998);
	ck_assert_int_eq(last, 4998);
	fd_insert(last, &owner, note, 1);
	/* by the queue for others, too */
	atomic_store(&shared, last);
	elsewhere(wants_the_shared);
	turns(3);
	ck_assert_int_eq(called(), 3);
	for (int i = 0; i < 40; i++)
		rang += atomic_load(&heard[low[i]]);
	ck_assert_int_eq(rang, 0);
	fd_delete(last);
	for (int i = 0; i < 40; i++)
		fd_delete(low[i]);
	close(fd);
	keel_deinit();
}
END_TEST

/* -- sleeping ---------------------------------------------------------------- */

static void wake_number_zero(int number)
{
	(void)number;
	atomic_fetch_add(&seen_by, 1);
	wake_thread(0);
}

static atomic_int turned;

static void *kills(void *arg)
{
	pthread_t *loop = arg;
	int n = rounds(2000), unheard = 0;

	for (int i = 0; i < n && !unheard; i++) {
		int before = atomic_load(&turned);

		pthread_kill(*loop, SIGUSR1);
		/* At any point of its turn: it is not to sleep its minute. */
		unheard += !gets_to(&turned, before + 1);
	}
	atomic_store(&strange, unheard);
	atomic_store(&done, 1);
	wake_thread(0);
	return NULL;
}

/* SHOWS: INV-86 */
START_TEST(fd_44_a_signal_before_the_poll_ends_it)
{
	struct sigaction sa = { .sa_handler = wake_number_zero };
	uint64_t begin;
	pthread_t th, self = pthread_self();

	start(1);
	sigaction(SIGUSR1, &sa, NULL);
	begin = keel_now_ns();
	for (int i = 0; i < 10; i++) {
		raise(SIGUSR1);
		keel_poll_once(60000);
	}
	ck_assert_int_eq(atomic_load(&seen_by), 10);
	ck_assert_int_eq(pthread_create(&th, NULL, kills, &self), 0);
	while (!atomic_load(&done)) {
		keel_poll_once(60000);
		atomic_fetch_add(&turned, 1);
	}
	pthread_join(th, NULL);
	ck_assert_int_eq(atomic_load(&strange), 0);
	/* One sleep would have been a minute. */
	ck_assert_uint_lt(keel_now_ns() - begin, 50000000000u);
	keel_deinit();
}
END_TEST

static void interrupt(int number)
{
	(void)number;
	atomic_fetch_add(&seen_by, 1);
}

/* SHOWS: INV-80 */
START_TEST(fd_45_an_interrupted_poll_loses_no_event)
{
	struct sigaction sa = { .sa_handler = interrupt };
	struct itimerval every = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	int fds[20], rung[20] = { 0 }, lost = 0;
	uint64_t limit;

	start(1);
	for (int i = 0; i < 20; i++) {
		fds[i] = event(0);
		fd_insert(fds[i], &owner, hear, 1);
	}
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	limit = keel_now_ns() + 20000000000u;
	for (int n = 0; atomic_load(&seen_by) < 100 && keel_now_ns() < limit; n++) {
		/* Some are there at once, for others it waits. */
		for (int i = n % 3; i < 20; i += 3) {
			fd_want_send(fds[i]);
			rung[i]++;
		}
		keel_poll_once(0);
		keel_poll_once(1);
		keel_poll_once(0);
		for (int i = 0; i < 20; i++)
			lost += atomic_load(&heard[fds[i]]) != rung[i];
		if (lost)
			break;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	ck_assert_int_eq(lost, 0);
	ck_assert_int_ge(atomic_load(&seen_by), 100);
	for (int i = 0; i < 20; i++)
		fd_delete(fds[i]);
	keel_deinit();
}
END_TEST

static struct tasklet *next[3];
static int steps;

static void wake_the_tasks(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		fd_cant_recv(fd);
	for (int i = 0; i < 3; i++)
		tasklet_wakeup(next[i]);
}

static struct task *ring_again(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	/* the last one of the three */
	if (!ctx)
		return t;
	if (--steps == 0)
		keel_stop();
	else
		ring(atomic_load(&shared));
	return t;
}

/* One runs in each turn, two are left when it polls; each poll that sleeps on
 * them takes a minute. */
START_TEST(fd_51_what_a_callback_woke_runs_at_once)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	int fd;

	cfg.nbthread = 1;
	cfg.maxsock = MAXSOCK;
	cfg.runqueue_depth = 1;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	fd = watch(event(1), wake_the_tasks, 1);
	atomic_store(&shared, fd);
	for (int i = 0; i < 3; i++) {
		next[i] = tasklet_new();
		next[i]->process = ring_again;
	}
	next[2]->context = &steps;
	steps = 500;
	run_poll_loop();
	ck_assert_int_eq(steps, 0);
	fd_delete(fd);
	for (int i = 0; i < 3; i++)
		tasklet_free(next[i]);
	keel_deinit();
}
END_TEST

static struct task *due(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	*(uint64_t *)ctx = keel_now_ns();
	return t;
}

/* A sleep that is always too long by a millisecond is never late by less: not
 * once in hundreds. One that is rounded down ends before the date, again and
 * again.
 * SHOWS: INV-56 */
START_TEST(fd_52_a_sleep_ends_at_its_date)
{
	uint64_t ran, least = UINT64_MAX;
	int early = 0, periods, nturns = 0;
	struct task *t;

	start(1);
	t = task_new_here();
	t->process = due;
	t->context = &ran;
	for (periods = 0; periods < 500 && (periods < 20 || least >= 800000); periods++) {
		uint64_t date;

		ran = 0;
		keel_update_clock();
		task_schedule(t, tick_add((int)keel_now_ms(), MS_TO_TICKS(10)));
		date = keel_next_deadline_ns();
		for (; !ran; nturns++)
			keel_poll_once(-1 /* as long as there is nothing */);
		early += ran < date;
		if (ran >= date && ran - date < least)
			least = ran - date;
	}
	ck_assert_int_eq(early, 0);
	if (!checked())
		ck_assert_uint_lt(least, 800000);
	ck_assert_int_le(nturns, 4 * periods);
	task_destroy(t);
	keel_deinit();
}
END_TEST

/* Busy polling: the cached date is that of the turn's end, neither of a wait
 * that was not slept nor of one that was not counted. */
START_TEST(fd_53_busy_polling_keeps_the_date)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	uint64_t base_ns, before, after;
	unsigned int base_ms, last = 0;
	int wrong = 0;

	cfg.nbthread = 1;
	cfg.maxsock = MAXSOCK;
	cfg.spin_us = 30000;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	before = keel_now_ns();
	keel_update_clock();
	base_ms = keel_now_ms();
	base_ns = keel_now_ns();
	for (int i = 0; i < 10; i++) {
		unsigned int ms;

		after = keel_now_ns();
		keel_poll_once(i % 2 ? 50 : 10);
		ms = keel_now_ms() - base_ms;
		/* not older than the turn, and not ahead of the clock; a
		 * millisecond each for what is cut off */
		wrong += ms + 1 < (after - base_ns) / 1000000;
		wrong += ms > (keel_now_ns() - before) / 1000000 + 1;
		wrong += ms < last;
		last = ms;
	}
	ck_assert_int_eq(wrong, 0);
	/* five times 10 ms and five times 50 have passed, if no signal came */
	if (!in_storm())
		ck_assert_uint_ge(last, 290);
	keel_deinit();
}
END_TEST

/* -- the rest ---------------------------------------------------------------- */

/* From here on the kernel has no close_range(). */
static int forbid_close_range(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* _i: with and without the system call that does it.
 * SHOWS: INV-82 */
START_TEST(fd_54_closefrom_whatever_is_open)
{
	struct rlimit limit;
	int first, n = 1100;
	pid_t child;

	if (_i && checked())
		return;
	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < 1300) {
		limit.rlim_cur = 1300 < limit.rlim_max ? 1300 : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if ((int)limit.rlim_cur < n + 100)
		n = (int)limit.rlim_cur - 100;
	child = fork();
	if (child == 0) {
		int still = 0;

		if (_i && !forbid_close_range())
			_exit(0);
		/* quiet ones, and a hole at both ends and in the middle */
		first = fcntl(event(0), F_DUPFD, 64);
		for (int fd = first + 1; fd < first + n; fd++)
			if (dup2(first, fd) != fd)
				_exit(2);
		for (int fd = first + 10; fd < first + 30; fd++)
			close(fd);
		close(first + n - 1);
		close(first + n / 2);
		my_closefrom(first + 12);
		for (int fd = first; fd < first + 10; fd++)
			if (!is_open(fd))
				_exit(3);
		for (int fd = first + 12; fd < first + n; fd++)
			still += is_open(fd);
		_exit(still ? 4 : 0);
	}
	ck_assert_int_eq(reap(child), 0);
}
END_TEST

/* SHOWS: INV-83 */
START_TEST(fd_55_slots_and_cache_lines)
{
	start(1);
	ck_assert_uint_eq(sizeof(struct fdtab), 64);
	ck_assert_uint_eq((uintptr_t)fdtab % 64, 0);
	ck_assert_uint_eq((uintptr_t)&fdtab[7] - (uintptr_t)fdtab, 7 * 64);
	keel_deinit();
}
END_TEST

/* SHOWS: INV-69 */
START_TEST(fd_56_flags_above_the_lowest_byte_survive)
{
	static const unsigned int flags = FD_LINGER_RISK | FD_INITIALIZED | FD_EXPORTED;
	int fd;

	start(1);
	fd = event(1);
	fd_insert(fd, &owner, note, 1);
	mark(fd, flags);
	fd_want_recv(fd);
	fd_want_send(fd);
	turns(1);
	fd_stop_both(fd);
	ck_assert_uint_eq(state_of(fd), flags | FD_EV_READY_RW | FD_POLL_IN | FD_POLL_OUT);
	fd_cant_recv(fd);
	fd_cant_send(fd);
	fd_may_both(fd);
	fd_cond_send(fd);
	ck_assert_uint_eq(state_of(fd), flags | FD_EV_READY_RW | FD_POLL_IN | FD_POLL_OUT);
	turns(2);
	ck_assert_uint_eq(state_of(fd) & flags, flags);
	fd_delete(fd);
	ck_assert_uint_eq(state_of(fd), 0);
	keel_deinit();
}
END_TEST

/* Who waits for the others sees that one of them left. */
START_TEST(fd_58_isolation_while_threads_leave)
{
	int alone = 0, n = rounds(3000);
	pthread_t th;

	start(2);
	ck_assert_int_eq(pthread_create(&th, NULL, comes_and_goes, NULL), 0);
	ck_assert(gets_to(&inside, 1));
	for (int i = 0; i < n; i++) {
		thread_isolate();
		alone += thread_isolated() != 0;
		thread_release();
	}
	atomic_store(&done, 1);
	pthread_join(th, NULL);
	ck_assert_int_eq(alone, n);
	keel_deinit();
}
END_TEST

static void change_and_delete(int fd)
{
	note(fd);
	fd_want_send(fd);
	fd_stop_recv(fd);
	fd_delete(fd);
}

/* Neither the kernel nor the loop hears of it again. */
START_TEST(fd_59_closed_in_its_own_callback)
{
	int fds[5];

	start(1);
	for (int i = 0; i < 5; i++) {
		fds[i] = watch(event(1), change_and_delete, 1);
	}
	turns(1);
	ck_assert_int_eq(called(), 5);
	ck_assert_int_eq(keel_used_fds(), 0);
	atomic_store(&refused_ctls, 0);
	/* poll() sees once that they are closed. */
	quiet_for(20, 1);
	ck_assert_int_eq(atomic_load(&refused_ctls), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(generation(fds[i]), 1);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd museum");
	TCase *tc = tcase_create("fd museum");

	tcase_set_timeout(tc, 50);
	tcase_add_test(tc, fd_2_deleting_a_foreign_descriptor_waits_for_nobody);
	tcase_add_test(tc, fd_4_a_numbers_next_life_is_polled);
	tcase_add_test(tc, fd_5_nobody_waits_for_who_waits_for_him);
	tcase_add_test(tc, fd_6_setting_the_running_bit_excludes_the_close);
	tcase_add_test(tc, fd_7_a_late_report_does_not_undo_the_new_owners_wishes);
	tcase_add_test(tc, fd_8_9_10_a_takeover_succeeds_or_changes_nothing);
	tcase_add_test(tc, fd_11_12_13_the_shared_queue_loses_nothing);
	tcase_add_test(tc, fd_16_every_thread_polls_what_is_shared);
	tcase_add_test(tc, fd_17_a_wish_from_elsewhere_reaches_who_goes_to_sleep);
	tcase_add_test(tc, fd_18_19_disowned_and_inserted_again);
	tcase_add_test(tc, fd_20_what_was_taken_over_is_quiet_on_the_old_thread);
	tcase_add_test(tc, fd_21_a_sleeping_thread_is_woken);
	tcase_add_test(tc, fd_25_30_descriptors_of_a_thread_that_left);
	tcase_add_test(tc, fd_26_the_mask_is_the_callers_word);
	tcase_add_test(tc, fd_27_an_edge_triggered_descriptor_stays_one);
	tcase_add_test(tc, fd_28_the_librarys_own_descriptors_leave_no_trace);
	tcase_add_test(tc, fd_29_59_what_was_not_opened_is_not_closed);
	tcase_add_test(tc, fd_31_lack_of_memory_leaves_nothing_behind);
	tcase_add_test(tc, fd_31_threads_enter_when_there_is_something_again);
	tcase_add_test(tc, fd_32_others_sleep_through_it);
	tcase_add_test(tc, fd_33_a_fork_shares_no_poller);
	tcase_add_test(tc, fd_34_what_a_child_keeps_does_not_ring);
	tcase_add_test(tc, fd_35_removed_from_those_that_have_it);
	tcase_add_test(tc, fd_37_an_error_of_what_is_not_wanted);
	tcase_add_test(tc, fd_38_a_hang_up_is_not_forgotten);
	tcase_add_test(tc, fd_39_our_own_shutdown_is_no_error);
	tcase_add_test(tc, fd_40_an_error_that_nobody_waits_for_any_more_is_quiet);
	tcase_add_test(tc, fd_41_both_directions_stopped_before_the_poll);
	tcase_add_test(tc, fd_42_what_is_so_already_is_not_written);
	tcase_add_test(tc, fd_43_one_call_for_an_event);
	tcase_add_test(tc, fd_44_a_signal_before_the_poll_ends_it);
	tcase_add_test(tc, fd_45_an_interrupted_poll_loses_no_event);
	tcase_add_test(tc, fd_46_one_bad_change_does_not_spoil_the_others);
	tcase_add_test(tc, fd_47_a_port_that_nobody_has);
	tcase_add_test(tc, fd_48_nothing_to_poll);
	tcase_add_test(tc, fd_49_50_high_numbers);
	tcase_add_test(tc, fd_51_what_a_callback_woke_runs_at_once);
	tcase_add_test(tc, fd_52_a_sleep_ends_at_its_date);
	tcase_add_test(tc, fd_53_busy_polling_keeps_the_date);
	tcase_add_loop_test(tc, fd_54_closefrom_whatever_is_open, 0, 2);
	tcase_add_test(tc, fd_55_slots_and_cache_lines);
	tcase_add_test(tc, fd_56_flags_above_the_lowest_byte_survive);
	tcase_add_test(tc, fd_58_isolation_while_threads_leave);
	tcase_add_test(tc, fd_59_closed_in_its_own_callback);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
