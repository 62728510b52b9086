/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The n-th call that needs a descriptor, or room for what epoll is to watch,
 * fails, for every n: of the process's descriptors and of the system's.
 */
#define _GNU_SOURCE
#include "each.h"

#include <poll.h>
#include <sys/wait.h>

static const int shortages[] = { EMFILE, ENFILE };
static const int lacks[] = { ENOMEM, ENOSPC };

static void init(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 512;
	must(keel_init(&cfg) == 0);
}

static void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

/* --- what is watched ------------------------------------------------------------ */

static int heard[512];

static void hears(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		heard[fd] += (int)count;
	fd_cant_recv(fd);
}

static void ring(int fd)
{
	uint64_t one = 1;

	must(write(fd, &one, sizeof(one)) == sizeof(one));
}

static int watch(unsigned int count)
{
	int fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC);

	must(fd >= 0);
	heard[fd] = 0;
	fd_insert(fd, heard, hears, 1);
	fd_want_recv(fd);
	return fd;
}

/* It is served now: no sleep, so that nothing but the report does it. */
static void is_served(int fd)
{
	int before = heard[fd];

	ring(fd);
	for (int i = 0; i < 10 && heard[fd] == before; i++)
		turns(1);
	must(heard[fd] == before + 1);
}

static void *wakes(void *arg)
{
	usleep(3000);
	wake_thread(0);
	return arg;
}

/* The poller sleeps, and a wake-up by another thread ends that. */
static void sleeps_and_wakes(void)
{
	uint64_t until;
	int polls = 0;
	pthread_t th;

	turns(5);
	until = keel_now_ns() + 12000000;
	while (keel_now_ns() < until) {
		keel_poll_once(4);
		polls++;
	}
	must(polls <= 8);
	must(pthread_create(&th, NULL, wakes, NULL) == 0);
	until = keel_now_ns() + 5000000000u;
	keel_poll_once(10000);
	must(keel_now_ns() < until);
	pthread_join(th, NULL);
}

/* --- threads --------------------------------------------------------------------- */

static void begins(void)
{
	int fd, poll_fd;

	init(1);
	again();
	if (good(keel_thread_enter(0))) {
		fd = watch(0);
		is_served(fd);
		poll_fd = keel_poll_fd();
		good(poll_fd);
		must(poll_fd < 0 || poll_fd == keel_poll_fd());
		is_served(fd);
		disarm();
		must(keel_poll_fd() >= 0);
		fd_delete(fd);
		keel_thread_leave();
	}
	must(keel_tid() == ~0U);
	keel_deinit();
}

START_TEST(a_thread_begins)
{
	each_failure(DESCRIPTORS, shortages[_i], begins, 3);
}
END_TEST

static void run(void)
{
	init(3);
	again();
	good(keel_run(stops, NULL));
	disarm();
	must(keel_run(stops, NULL) == 0);
	keel_deinit();
	init(3);
	again();
	if (!good(keel_callout_start_threads(3))) {
		disarm();
		must(keel_callout_start_threads(3) == 0);
	}
	keel_deinit();
}

START_TEST(threads_run)
{
	each_failure(DESCRIPTORS, shortages[_i], run, 6);
}
END_TEST

/* What only the lack of descriptors hides is there still: no other poller is
 * taken in its place, for good. */
START_TEST(the_poller_stays_the_best)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	char text[512];
	FILE *out = fmemopen(text, sizeof(text), "w");

	cfg.maxsock = 512;
	arm(DESCRIPTORS, shortages[_i], 1, 1);
	ck_assert_int_eq(keel_init(&cfg), 0);
	disarm();
	list_pollers(out);
	fclose(out);
	ck_assert_msg(strstr(text, "epoll is used") != NULL, "%s", text);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	keel_deinit();
}
END_TEST

/* --- sets that have to be made anew ---------------------------------------------- */

/* Deleted while a duplicate keeps its file open and ready: reports of it go on
 * until the thread has another set. */
static void goes_stale(void)
{
	int fd, copy, other;
	struct pollfd host = { .events = POLLIN };

	init(1);
	must(keel_thread_enter(0) == 0);
	other = watch(0);
	fd = watch(0);
	turns(1);
	host.fd = keel_poll_fd();
	must(host.fd >= 0);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	ring(copy);
	fd_delete(fd);
	again();
	turns(3);
	/* A new set that nothing may be added to serves nobody yet. */
	if (kind == DESCRIPTORS || !for_good)
		is_served(other);
	turns(3);
	disarm();
	is_served(other);
	must(heard[fd] == 0);
	sleeps_and_wakes();
	/* A host that polls for the thread hears of it, too. */
	must(poll(&host, 1, 0) == 0);
	ring(other);
	must(poll(&host, 1, 5000) == 1);
	turns(1);
	close(copy);
	fd_delete(other);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(a_stale_set)
{
	each_failure(DESCRIPTORS, shortages[_i], goes_stale, 1);
}
END_TEST

START_TEST(a_stale_set_and_no_room_to_watch)
{
	each_failure(WATCHES, lacks[_i], goes_stale, 2);
}
END_TEST

/* Room comes back: each is asked for until it is there. */
static void watches_all(void)
{
	enum { N = 10 };
	int fds[N], rc;

	init(1);
	again();
	rc = keel_thread_enter(0);
	if (!good(rc)) {
		disarm();
		must(keel_thread_enter(0) == 0);
	}
	for (int i = 0; i < N; i++)
		fds[i] = watch(0);
	turns(2);
	for (int i = 0; i < N; i += 2)
		fd_want_send(fds[i]);
	turns(2);
	for (int i = 0; i < N; i += 2)
		fd_stop_send(fds[i]);
	turns(2);
	disarm();
	for (int i = 0; i < N; i++)
		is_served(fds[i]);
	sleeps_and_wakes();
	for (int i = 0; i < N; i++)
		fd_delete(fds[i]);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(no_room_to_watch)
{
	each_failure(WATCHES, lacks[_i], watches_all, 15);
}
END_TEST

/* --- forks ------------------------------------------------------------------------ */

enum { CHILD_FINE = 40, CHILD_MET_FAULTS };

static void forks(void)
{
	int fd, status;
	pid_t child;

	init(2);
	must(keel_thread_enter(0) == 0);
	fd = watch(0);
	turns(1);
	child = fork();
	if (child == 0) {
		again();
		/* Until then it has the parent's, and touches it not. */
		if (!fork_poller()) {
			if (errno != error || atomic_load(&faults.failed) == 0)
				_exit(1);
			disarm();
			if (!fork_poller())
				_exit(2);
		}
		disarm();
		ring(fd);
		turns(2);
		_exit(heard[fd] != 1 ? 3 : atomic_load(&faults.failed) ? CHILD_MET_FAULTS : CHILD_FINE);
	}
	must(waitpid(child, &status, 0) == child);
	must(WIFEXITED(status));
	must(WEXITSTATUS(status) == CHILD_FINE || WEXITSTATUS(status) == CHILD_MET_FAULTS);
	atomic_fetch_add(&faults.failed, WEXITSTATUS(status) == CHILD_MET_FAULTS);
	/* The child's ring is in the file that both have. */
	turns(2);
	heard[fd] = 0;
	is_served(fd);
	sleeps_and_wakes();
	fd_delete(fd);
	keel_thread_leave();
	keel_deinit();
}

START_TEST(a_child_takes_a_poller_of_its_own)
{
	each_failure(DESCRIPTORS, shortages[_i], forks, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("descriptors");
	TCase *tc = tcase_create("the n-th descriptor");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, a_thread_begins, 0, 2);
	tcase_add_loop_test(tc, threads_run, 0, 2);
	tcase_add_loop_test(tc, the_poller_stays_the_best, 0, 2);
	tcase_add_loop_test(tc, a_stale_set, 0, 2);
	tcase_add_loop_test(tc, a_stale_set_and_no_room_to_watch, 0, 2);
	tcase_add_loop_test(tc, no_room_to_watch, 0, 2);
	tcase_add_loop_test(tc, a_child_takes_a_poller_of_its_own, 0, 2);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
