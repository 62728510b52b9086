/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Descriptors that are not what the table believes: closed, replaced or
 * duplicated behind its back, in other processes, or not to be had at all.
 * What the kernel says then (EBADF, ENOENT, EEXIST, EMFILE, EINTR) is survived,
 * others are served meanwhile, and nothing rings without end. */

#define _GNU_SOURCE             /* pipe2, accept4 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <keel/keel.h>

#include "fds.h"
#include "memory.h"
#include "suite.h"

static void end(void)
{
	ck_assert_int_eq(keel_used_fds(), 0);
	keel_thread_leave();
	keel_deinit();
}

/* How many calls there were for that one since it was asked last. */
static int called_for(int fd)
{
	return atomic_exchange(&heard[fd], 0);
}

static int serve(int fd)
{
	watch(fd, drain_and_note, 1);
	turns(1);
	return fd;
}

/* An innocent one is told of its events, whatever befell the others. */
static void others_are_served(int other)
{
	called_for(other);
	ring(other);
	for (int i = 0; i < 10 && atomic_load(&heard[other]) == 0; i++)
		keel_poll_once(1000);
	ck_assert_int_eq(called_for(other), 1);
}

/* After a few turns there is nothing to do: the poller sleeps. */
static void nothing_rings(void)
{
	uint64_t until;
	int polls = 0;

	turns(5);
	until = keel_now_ns() + 60000000;
	while (keel_now_ns() < until) {
		keel_poll_once(20);
		polls++;
	}
	/* Three, and a few for what a loaded machine does; signals end them early. */
	if (!in_storm())
		ck_assert_int_le(polls, 10);
}

/* --- behind the table's back ------------------------------------------------ */

START_TEST(closed_and_then_used)
{
	int fd, other;

	start(1);
	other = serve(event(0));
	fd = serve(event(0));
	ck_assert_int_eq(close(fd), 0);
	fd_want_send(fd);
	turns(3);
	fd_stop_both(fd);
	turns(3);
	fd_want_recv(fd);
	turns(3);
	fd_stop_recv(fd);
	fd_want_recv(fd);
	fd_want_send(fd);
	nothing_rings();
	others_are_served(other);
	fd_delete(fd);
	ck_assert_int_eq(keel_used_fds(), 1);
	nothing_rings();
	/* The number is as good as new. */
	ck_assert_int_eq(event(0), fd);
	serve(fd);
	called_for(fd);
	others_are_served(fd);
	others_are_served(other);
	fd_delete(fd);
	fd_delete(other);
	end();
}
END_TEST

static void closes(int fd)
{
	note(fd);
	close(fd);
}

START_TEST(closed_by_its_own_callback)
{
	int fd, other;

	start(1);
	other = serve(event(0));
	fd = watch(event(1), closes, 1);
	turns(5);
	ck_assert_int_gt(called_for(fd), 0);
	nothing_rings();
	others_are_served(other);
	fd_delete(fd);
	fd_delete(other);
	end();
}
END_TEST

/* 0: close and open again; 1: dup2() in one step. */
START_TEST(replaced_by_another_file)
{
	int fd, other, spare;

	start(1);
	other = serve(event(0));
	fd = serve(event(0));
	spare = event(1);
	if (_i == 0) {
		close(fd);
		ck_assert_int_eq(dup(spare), fd);
	} else {
		ck_assert_int_eq(dup2(spare, fd), fd);
	}
	close(spare);
	called_for(fd);
	/* The set does not have this file: a change is ENOENT, then an addition. */
	fd_want_send(fd);
	turns(2);
	ck_assert_int_gt(called_for(fd), 0);
	fd_stop_send(fd);
	nothing_rings();
	others_are_served(fd);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	/* And where nobody notices before the end. */
	fd = serve(event(0));
	spare = event(1);
	ck_assert_int_eq(dup2(spare, fd), fd);
	fd_stop_recv(fd);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	ck_assert(is_open(spare));
	close(spare);
	nothing_rings();
	others_are_served(other);
	fd_delete(other);
	end();
}
END_TEST

START_TEST(its_file_comes_back_under_its_number)
{
	int fd, copy;

	start(1);
	fd = serve(event(0));
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	/* What the set has of the last life stays there: EEXIST. */
	ck_assert_int_eq(dup2(copy, fd), fd);
	close(copy);
	serve(fd);
	ring(fd);
	/* At once, not after a report that is taken for the last life's. */
	turns(1);
	ck_assert_int_eq(called_for(fd), 1);
	nothing_rings();
	fd_delete(fd);
	end();
}
END_TEST

/* --- other processes -------------------------------------------------------- */

/* A byte, and room for a descriptor beside it. */
static struct msghdr *letter(void)
{
	static char byte, space[CMSG_SPACE(sizeof(int))];
	static struct iovec iov = { &byte, 1 };
	static struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space };

	m.msg_controllen = sizeof(space);
	return &m;
}

static void pass(int through, int fd)
{
	struct msghdr *m = letter();
	struct cmsghdr *c = CMSG_FIRSTHDR(m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	ck_assert_int_eq(sendmsg(through, m, 0), 1);
}

static int got(int through)
{
	struct msghdr *m = letter();
	int fd = -1;

	if (recvmsg(through, m, 0) == 1 && CMSG_FIRSTHDR(m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(m)), sizeof(int));
	return fd;
}

/* A ready one goes to another process, which keeps it open while it is closed
 * here; 0: without a word, 1: as FD_CLONED and FD_EXPORTED. */
START_TEST(passed_to_another_process)
{
	int fd, other, way[2];
	char byte = 'y';
	pid_t child;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, way), 0);
	child = fork();
	if (child == 0) {
		uint64_t count = 0;

		close(way[0]);
		fd = got(way[1]);
		/* Until it is closed there and was seen to be quiet. */
		if (fd < 0 || read(way[1], &byte, 1) != 1)
			_exit(1);
		_exit(read(fd, &count, sizeof(count)) != sizeof(count) || count != 1);
	}
	close(way[1]);
	start(1);
	other = serve(event(0));
	fd = watch(event(1), note, 1);
	turns(2);
	ck_assert_int_gt(called_for(fd), 0);
	pass(way[0], fd);
	if (_i)
		mark(fd, FD_CLONED | FD_EXPORTED);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	nothing_rings();
	ck_assert_int_eq(called_for(fd), 0);
	/* Nor for the next user of the number. */
	ck_assert_int_eq(event(0), fd);
	serve(fd);
	nothing_rings();
	ck_assert_int_eq(called_for(fd), 0);
	others_are_served(fd);
	others_are_served(other);
	ck_assert_int_eq(write(way[0], &byte, 1), 1);
	ck_assert_int_eq(reap(child), 0);
	close(way[0]);
	fd_delete(fd);
	fd_delete(other);
	end();
}
END_TEST

/* The child's half: 0, or what went wrong. */
static int child_goes_on(int here, int there, int way)
{
	char byte = 'z';

	if (!fork_poller())
		return 1;
	fd_delete(here);
	if (is_open(here))
		return 2;
	for (int round = 0; round < 3; round++) {
		uint64_t one = 1;

		if (write(there, &one, sizeof(one)) != sizeof(one))
			return 3;
		for (int i = 0; i < 10 && atomic_load(&heard[there]) == 0; i++)
			keel_poll_once(1000);
		if (called_for(there) != 1)
			return 4;
		/* Readable for good, for the parent to see or not. */
		if (round == 2 && write(there, &one, sizeof(one)) != sizeof(one))
			return 5;
	}
	if (write(way, &byte, 1) != 1 || read(way, &byte, 1) != 1)
		return 6;
	fd_delete(there);
	return keel_used_fds() ? 7 : 0;
}

/* Each process closes what the other one goes on with. */
START_TEST(both_sides_of_a_fork_go_on)
{
	int here, there, way[2];
	char byte;
	pid_t child;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, way), 0);
	start(1);
	here = serve(event(0));
	there = serve(event(0));
	child = fork();
	if (child == 0) {
		close(way[0]);
		_exit(child_goes_on(here, there, way[1]));
	}
	close(way[1]);
	fd_delete(there);
	ck_assert_int_eq(read(way[0], &byte, 1), 1);
	nothing_rings();
	others_are_served(here);
	ck_assert_int_eq(called_for(there), 0);
	ck_assert_int_eq(write(way[0], &byte, 1), 1);
	ck_assert_int_eq(reap(child), 0);
	others_are_served(here);
	close(way[0]);
	fd_delete(here);
	end();
}
END_TEST

static atomic_int inside, may_leave;

static void stays(int fd)
{
	fd_stop_recv(fd);
	atomic_store(&inside, 1);
	while (!atomic_load(&may_leave))
		usleep(1000);
	note(fd);
}

static void *turns_once(void *arg)
{
	ck_assert_int_eq(keel_thread_enter(1), 0);
	fd_want_recv(*(int *)arg);
	for (int i = 0; i < 10 && !atomic_load(&inside); i++)
		keel_poll_once(1000);
	keel_thread_leave();
	return NULL;
}

START_TEST(forked_while_another_thread_is_inside)
{
	int fd;
	pthread_t th;
	pid_t child;

	start(2);
	fd = event(1);
	fd_insert(fd, &owner, stays, 2);
	pthread_create(&th, NULL, turns_once, &fd);
	while (!atomic_load(&inside))
		usleep(1000);
	child = fork();
	if (child == 0) {
		/* That thread is not here. */
		if (!fork_poller() || fdtab[fd].running_mask)
			_exit(1);
		fd_delete(fd);
		_exit(is_open(fd) || keel_used_fds());
	}
	ck_assert_int_eq(reap(child), 0);
	fd_delete(fd);
	ck_assert_msg(is_open(fd), "a thread is inside");
	atomic_store(&may_leave, 1);
	pthread_join(th, NULL);
	ck_assert(!is_open(fd));
	ck_assert_int_eq(called_for(fd), 1);
	end();
}
END_TEST

/* --- no descriptors left ---------------------------------------------------- */

static struct rlimit before;

/* So many more numbers than are in use; -1: as many as there were. */
static int leave_free(int n)
{
	struct rlimit tight;
	int lowest;

	if (n < 0) {
		setrlimit(RLIMIT_NOFILE, &before);
		return 0;
	}
	getrlimit(RLIMIT_NOFILE, &before);
	tight = before;
	lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(lowest, 0);
	close(lowest);
	tight.rlim_cur = (rlim_t)(lowest + n);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
	return lowest;
}

static int refused, accepted;

static void accepts(int fd)
{
	int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	note(fd);
	if (got >= 0) {
		accepted++;
		close(got);
	} else if (errno == EAGAIN) {
		fd_cant_recv(fd);
	} else {
		ck_assert_int_eq(errno, EMFILE);
		refused++;
		fd_stop_recv(fd);
	}
}

START_TEST(accepting_without_descriptors)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int listener, clients[2], other, due;
	socklen_t length = sizeof(name);

	/* There accept() takes the connection, closes it, and says EMFILE. */
	due = under_valgrind() ? 1 : 2;
	start(1);
	other = serve(event(0));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* A name that the kernel chooses. */
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(listener, 5), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&name, &length), 0);
	for (int i = 0; i < 2; i++)
		clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	watch(listener, accepts, 1);
	turns(2);
	leave_free(0);
	ck_assert_int_eq(connect(clients[0], (struct sockaddr *)&name, length), 0);
	for (int i = 0; i < 10 && !refused; i++)
		keel_poll_once(1000);
	/* It waits there, and rings for nobody. */
	nothing_rings();
	ck_assert_int_eq(refused, 1);
	others_are_served(other);
	leave_free(-1);
	fd_want_recv(listener);
	ck_assert_int_eq(connect(clients[1], (struct sockaddr *)&name, length), 0);
	for (int i = 0; i < 10 && accepted < due; i++)
		keel_poll_once(1000);
	ck_assert_int_eq(accepted, due);
	close(clients[0]);
	close(clients[1]);
	fd_delete(listener);
	fd_delete(other);
	end();
}
END_TEST

static int open_numbers(void)
{
	int n = 0;

	for (int fd = 0; fd < 100; fd++)
		n += is_open(fd);
	return n;
}

static void *enters_with_few(void *arg)
{
	int first = open_numbers(), rc, good = 0;

	(void)arg;
	for (int few = 0; few < 5; few++) {
		leave_free(few);
		rc = keel_thread_enter(1);
		leave_free(-1);
		if (rc == 0) {
			good++;
			keel_thread_leave();
		} else {
			ck_assert_int_eq(rc, -EMFILE);
			ck_assert_msg(!good, "enough and still not enough");
			ck_assert_uint_eq(keel_tid(), ~0U);
		}
		/* The id keeps one, for wake-ups that may come at any time. */
		ck_assert_int_le(open_numbers(), first + 1);
	}
	/* None is too few, two are enough. */
	ck_assert_int_ge(good, 3);
	ck_assert_int_le(good, 4);
	return NULL;
}

START_TEST(threads_enter_without_descriptors)
{
	pthread_t th;
	int fd;

	start(2);
	fd = serve(event(0));
	pthread_create(&th, NULL, enters_with_few, NULL);
	pthread_join(th, NULL);
	others_are_served(fd);
	fd_delete(fd);
	end();
}
END_TEST

/* The last number that there is room for, and the panic is the next one's. */
START_TEST(the_table_is_full)
{
	int fd, last;

	start(1);
	fd = event(0);
	last = fcntl(fd, F_DUPFD_CLOEXEC, MAXSOCK - 1);
	close(fd);
	if (last < 0)           /* not even to be had */
		return;
	ck_assert_int_eq(last, MAXSOCK - 1);
	serve(last);
	others_are_served(last);
	nothing_rings();
	fd_delete(last);
	end();
}
END_TEST

/* --- signals and threads ---------------------------------------------------- */

enum { LINKS = 8, HOPS = 1500 };
static int chain[LINKS];
static atomic_int hops, interrupted, unread, unwritten;

/* Nothing here wakes the loop but the interruption itself, which no flag spares
 * a poller's wait. */
static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&interrupted, 1);
}

static void next_link(int fd)
{
	uint64_t one = 1, count;

	if (read(fd, &count, sizeof(count)) != sizeof(count) || count != 1) {
		atomic_fetch_add(&unread, 1);
		return;
	}
	if (atomic_fetch_add(&hops, 1) + 1 < HOPS)
		for (int i = 0; i < LINKS; i++)
			if (chain[i] == fd && write(chain[(i + 1) % LINKS], &one, sizeof(one)) != sizeof(one))
				atomic_fetch_add(&unwritten, 1);
	fd_cant_recv(fd);
}

START_TEST(interrupted_polls_lose_no_event)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	uint64_t limit;

	start(1);
	sigaction(SIGALRM, &sa, NULL);
	for (int i = 0; i < LINKS; i++) {
		chain[i] = watch(event(0), next_link, 1);
	}
	turns(1);
	limit = keel_now_ns() + 20000000000u;
	setitimer(ITIMER_REAL, &every, NULL);
	/* Idle, so that it is the wait that is interrupted. */
	for (int i = 0; i < 50; i++)
		keel_poll_once(1);
	ring(chain[0]);
	/* A lost one would be waited for ten seconds. */
	while (atomic_load(&hops) < HOPS && keel_now_ns() < limit)
		keel_poll_once(10000);
	setitimer(ITIMER_REAL, &never, NULL);
	turns(2);
	ck_assert_int_eq(atomic_load(&hops), HOPS);
	ck_assert_int_eq(atomic_load(&unread) + atomic_load(&unwritten), 0);
	ck_assert_int_gt(atomic_load(&interrupted), 10);
	for (int i = 0; i < LINKS; i++)
		fd_delete(chain[i]);
	end();
}
END_TEST

static int bequest[3];

static void *dies(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	for (int i = 0; i < 3; i++)
		fd_want_recv(bequest[i]);
	keel_poll_once(0);
	return NULL;
}

/* What a thread has that ends without keel_thread_leave() can be taken over,
 * deleted, and shared with the living. */
START_TEST(the_dead_leave_their_descriptors)
{
	pthread_t th;

	start(2);
	for (int i = 0; i < 3; i++) {
		bequest[i] = event(0);
		fd_insert(bequest[i], &owner, drain_and_note, i == 2 ? 3 : 2);
	}
	pthread_create(&th, NULL, dies, NULL);
	pthread_join(th, NULL);
	turns(2);
	ck_assert_int_eq(fd_takeover(bequest[0], &owner), 0);
	fd_want_recv(bequest[0]);
	others_are_served(bequest[0]);
	others_are_served(bequest[2]);
	ring(bequest[1]);
	turns(3);
	ck_assert_int_eq(called_for(bequest[1]), 0);
	fd_want_send(bequest[1]);
	for (int i = 0; i < 3; i++) {
		fd_delete(bequest[i]);
		ck_assert(!is_open(bequest[i]));
	}
	/* Whatever the dead thread's set still has of it. */
	for (int i = 0; i < 3; i++)
		others_are_served(serve(event(0)));
	nothing_rings();
	ck_assert_int_eq(keel_used_fds(), 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd_adversity");
	TCase *behind = tcase_create("behind the table's back");
	TCase *processes = tcase_create("other processes");
	TCase *scarce = tcase_create("no descriptors left");
	TCase *others = tcase_create("signals and threads");

	tcase_set_timeout(behind, 30);
	tcase_set_timeout(processes, 30);
	tcase_set_timeout(scarce, 30);
	tcase_set_timeout(others, 30);
	tcase_add_test(behind, closed_and_then_used);
	tcase_add_test(behind, closed_by_its_own_callback);
	tcase_add_loop_test(behind, replaced_by_another_file, 0, 2);
	tcase_add_test(behind, its_file_comes_back_under_its_number);
	tcase_add_loop_test(processes, passed_to_another_process, 0, 2);
	tcase_add_test(processes, both_sides_of_a_fork_go_on);
	tcase_add_test(processes, forked_while_another_thread_is_inside);
	tcase_add_test(scarce, accepting_without_descriptors);
	tcase_add_test(scarce, threads_enter_without_descriptors);
	tcase_add_test(scarce, the_table_is_full);
	tcase_add_test(others, interrupted_polls_lose_no_event);
	tcase_add_test(others, the_dead_leave_their_descriptors);
	suite_add_tcase(s, behind);
	suite_add_tcase(s, processes);
	suite_add_tcase(s, scarce);
	suite_add_tcase(s, others);
	return run_suite(s);
}
