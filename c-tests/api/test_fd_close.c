/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the world outside sees of a close, while threads sleep on the number. */

#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/keel.h>

#include "loops.h"
#include "suite.h"

static int owner;               /* its address owns descriptors */

static void no_event(int fd)
{
	(void)fd;
}

/* All threads wait for it, most likely; if one does not yet, a test shows less. */
static void sleep_on(int fd)
{
	fd_insert(fd, &owner, no_event, ~0UL);
	fd_want_recv(fd);
	usleep(100000);
}

/* poll() keeps the files open that it waits for. */
START_TEST(inv_61_the_peer_sees_the_close_at_once)
{
	pthread_t th = start_loops(2);

	for (int i = 0; i < 3; i++) {
		struct pollfd peer = { .events = POLLIN };
		int fds[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		sleep_on(fds[0]);
		fd_delete(fds[0]);
		peer.fd = fds[1];
		ck_assert_int_eq(poll(&peer, 1, 10000), 1);
		close(fds[1]);
	}
	ck_assert_int_eq(keel_used_fds(), 0);
	stop_loops(th);
}
END_TEST

static int bound(struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(*addr);

	ck_assert_int_ge(fd, 0);
	if (bind(fd, (struct sockaddr *)addr, len) == 0 && listen(fd, 1) == 0 &&
	    getsockname(fd, (struct sockaddr *)addr, &len) == 0)
		return fd;
	close(fd);
	return -1;
}

START_TEST(inv_61_a_listener_gives_its_address_back)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	pthread_t th = start_loops(2);
	int fd = bound(&addr);

	ck_assert_int_ge(fd, 0);
	sleep_on(fd);
	ck_assert_int_lt(bound(&addr), 0);
	fd_delete(fd);
	fd = -1;
	for (int i = 0; i < 10000 && fd < 0; i++) {
		fd = bound(&addr);
		if (fd < 0)
			usleep(1000);
	}
	ck_assert_int_ge(fd, 0);
	close(fd);
	stop_loops(th);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd close");
	TCase *tc = tcase_create("while threads sleep");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, inv_61_the_peer_sees_the_close_at_once);
	tcase_add_test(tc, inv_61_a_listener_gives_its_address_back);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
