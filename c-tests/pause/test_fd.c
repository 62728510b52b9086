/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What comes when a thread has looked at everything for the last time and is
 * about to poll: by the ids of docs/fd-museum.md. */

#define _GNU_SOURCE             /* pipe2 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "pause.h"
#include "../api/fds.h"
#include "../api/suite.h"

static void (*at_last)(void);
static atomic_int times;

static void hook(int point, const void *what)
{
	(void)what;
	if (point == KEEL_AT_SLEEP_COMMIT) {
		atomic_fetch_add(&times, 1);
		at_last();
	}
}

/* Sleeps of a minute, each ended by <brings>. */
static void sleeps(void (*brings)(void))
{
	uint64_t begin = keel_now_ns();

	start(2);
	at_last = brings;
	keel_pause(hook);
	for (int i = 0; i < 20; i++)
		keel_poll_once(60000);
	keel_pause(NULL);
	ck_assert_int_ge(atomic_load(&times), 10);
	ck_assert_uint_lt(keel_now_ns() - begin, 50000000000u);
}

static void wake_number_zero(int number)
{
	(void)number;
	wake_thread(0);
}

static void send_a_signal(void)
{
	raise(SIGUSR1);
}

/* SHOWS: INV-86 */
START_TEST(fd_44_a_signal_just_before_the_poll)
{
	struct sigaction sa = { .sa_handler = wake_number_zero };

	sigaction(SIGUSR1, &sa, NULL);
	sleeps(send_a_signal);
	keel_deinit();
}
END_TEST

static int fd = -1;

static void stop_again(int number)
{
	fd_stop_recv(number);
}

static void *wants(void *arg)
{
	if (fd < 0) {
		fd = event(1);
		fd_insert(fd, &owner, stop_again, 1);
	}
	fd_want_recv(fd);
	return arg;
}

static void want_from_elsewhere(void)
{
	pthread_t th;

	ck_assert_int_eq(pthread_create(&th, NULL, wants, NULL), 0);
	pthread_join(th, NULL);
}

START_TEST(fd_17_a_wish_just_before_the_poll)
{
	sleeps(want_from_elsewhere);
	fd_delete(fd);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd, paused");
	TCase *tc = tcase_create("fd, paused");

	tcase_set_timeout(tc, 70);
	tcase_add_test(tc, fd_44_a_signal_just_before_the_poll);
	tcase_add_test(tc, fd_17_a_wish_just_before_the_poll);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
