/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel_fd_writev_line(): many threads, one log. */

#define _GNU_SOURCE             /* F_SETPIPE_SZ, pipe2 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <keel/keel.h>

#include "fds.h"
#include "suite.h"

static struct iovec of(const char *text)
{
	struct iovec v = { (void *)text, strlen(text) };

	return v;
}

static void no_event(int fd)
{
	(void)fd;
}

/* --- what is written ---------------------------------------------------------- */

static int ends[2];

static void open_pipe(void)
{
	init(1);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
}

/* What the last line left in the pipe. */
static const char *got(void)
{
	static char text[8192];
	ssize_t n = read(ends[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(fragments_become_a_line)
{
	struct iovec pfx[] = { of("<6>"), of(""), of("host ") }, msg[] = { of("hello"), of(" "), of(""), of("world") };

	open_pipe();
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, pfx, 3, msg, 4, 1), 20);
	ck_assert_str_eq(got(), "<6>host hello world\n");
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, pfx, 3, msg, 4, 0), 19);
	ck_assert_str_eq(got(), "<6>host hello world");
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, NULL, 0, msg, 4, 1), 12);
	ck_assert_str_eq(got(), "hello world\n");
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, pfx, 1, NULL, 0, 1), 4);
	ck_assert_str_eq(got(), "<6>\n");
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, NULL, 0, NULL, 0, 1), 1);
	ck_assert_str_eq(got(), "\n");
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, pfx + 1, 1, NULL, 7, 0), 0);
	ck_assert_str_eq(got(), "");
	/* The caller's fragments are as they were. */
	ck_assert_uint_eq(pfx[2].iov_len, 5);
	ck_assert_uint_eq(msg[3].iov_len, 5);
}
END_TEST

START_TEST(a_limit_counts_the_newline)
{
	struct iovec pfx[] = { of("abc"), of("def") }, msg[] = { of("ghi") };
	static const char *const with[] = { "", "\n", "a\n", "ab\n", "abc\n", "abcd\n", "abcde\n", "abcdef\n", "abcdefg\n",
		"abcdefgh\n", "abcdefghi\n", "abcdefghi\n" };

	open_pipe();
	for (size_t max = 1; max < 12; max++) {
		char expected[16];
		size_t len = max < 9 ? max : 9;

		ck_assert_int_eq(keel_fd_writev_line(ends[1], max, pfx, 2, msg, 1, 1), (ssize_t)strlen(with[max]));
		ck_assert_str_eq(got(), with[max]);
		ck_assert_int_eq(keel_fd_writev_line(ends[1], max, pfx, 2, msg, 1, 0), (ssize_t)len);
		snprintf(expected, sizeof(expected), "%.*s", (int)len, "abcdefghi");
		ck_assert_str_eq(got(), expected);
	}
	ck_assert_int_eq(keel_fd_writev_line(ends[1], (size_t)-1, pfx, 2, msg, 1, 1), 10);
	ck_assert_str_eq(got(), "abcdefghi\n");
}
END_TEST

START_TEST(fragments_are_31_at_most)
{
	struct iovec many[80];
	char expected[34] = "";

	open_pipe();
	for (int i = 0; i < 80; i++)
		many[i] = i % 2 ? of("x") : of("");
	memset(expected, 'x', 31);
	expected[31] = '\n';
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, many, 80, many, 80, 1), 32);
	ck_assert_str_eq(got(), expected);
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, many, 20, many, 80, 1), 32);
	ck_assert_str_eq(got(), expected);
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, many, 61, many, 80, 1), 32);
	ck_assert_str_eq(got(), expected);
}
END_TEST

/* --- the descriptor ----------------------------------------------------------- */

START_TEST(first_use_makes_it_non_blocking)
{
	struct iovec msg = of("x");
	int fds[2];

	init(1);
	for (int said = 0; said < 2; said++) {
		ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
		fd_insert(fds[1], &owner, no_event, 1);
		/* The server may have its own reasons. */
		if (said)
			__atomic_fetch_or(&fdtab[fds[1]].state, FD_INITIALIZED, __ATOMIC_RELAXED);
		ck_assert_int_eq(keel_fd_writev_line(fds[1], 0, NULL, 0, &msg, 1, 0), 1);
		ck_assert_int_eq((fcntl(fds[1], F_GETFL) & O_NONBLOCK) == 0, said);
		ck_assert_uint_eq(state_of(fds[1]), FD_EV_READY_RW | FD_INITIALIZED);
		/* Once only. */
		ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
		ck_assert_int_eq(keel_fd_writev_line(fds[1], 0, NULL, 0, &msg, 1, 0), 1);
		ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
		fd_delete(fds[1]);
		close(fds[0]);
	}
	/* The number's next life begins anew. */
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	fd_insert(fds[1], &owner, no_event, 1);
	ck_assert_uint_eq(state_of(fds[1]) & FD_INITIALIZED, 0);
	fd_delete(fds[1]);
	close(fds[0]);
}
END_TEST

START_TEST(other_flags_stay)
{
	struct iovec msg = of("second");
	FILE *file = tmpfile();
	int fd;

	init(1);
	ck_assert_ptr_nonnull(file);
	fd = fileno(file);
	ck_assert_int_eq(write(fd, "first\n", 6), 6);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_APPEND), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(keel_fd_writev_line(fd, 0, NULL, 0, &msg, 1, 1), 7);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 13);
	fclose(file);
}
END_TEST

START_TEST(a_terminal_stays_as_it_is)
{
	struct iovec msg = of("x");
	int master, slave;

	init(1);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
		return;         /* none to be had here */
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_ge(slave, 0);
	ck_assert_int_eq(keel_fd_writev_line(slave, 0, NULL, 0, &msg, 1, 1), 2);
	ck_assert_int_eq(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_uint_eq(state_of(slave), FD_INITIALIZED);
	close(slave);
	close(master);
}
END_TEST

/* The answer, whose errno it must be if it is -1. */
static int fails_with(int fd, int error)
{
	struct iovec msg = of("x");

	errno = 0;
	return keel_fd_writev_line(fd, 0, NULL, 0, &msg, 1, 1) == -1 && errno == error;
}

START_TEST(bad_descriptors_are_refused)
{
	ck_assert(fails_with(1, EBADF));        /* no table yet */
	init(1);
	ck_assert(fails_with(-1, EBADF));
	ck_assert(fails_with(256, EBADF));
	ck_assert(fails_with(1 << 30, EBADF));
	ck_assert(fails_with(255, EBADF));      /* closed */
	ck_assert_uint_eq(state_of(255), 0);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert(fails_with(ends[0], EBADF));  /* to be read */
	ck_assert_uint_eq(state_of(ends[0]) & FD_EXCL_SYSCALL, 0);
}
END_TEST

START_TEST(a_full_pipe_says_so)
{
	static char much[70000];
	struct iovec msg = { much, sizeof(much) };
	ssize_t n;

	open_pipe();
	n = keel_fd_writev_line(ends[1], 0, NULL, 0, &msg, 1, 1);
	ck_assert_int_gt(n, 0);
	ck_assert_int_lt(n, (ssize_t)sizeof(much));
	ck_assert(fails_with(ends[1], EAGAIN));
	ck_assert_uint_eq(state_of(ends[1]), FD_INITIALIZED);
	ck_assert_int_gt(read(ends[0], much, sizeof(much)), 0);
	ck_assert_int_gt(keel_fd_writev_line(ends[1], 0, NULL, 0, &msg, 1, 1), 0);
}
END_TEST

START_TEST(fd_60_who_cannot_have_it_is_told)
{
	open_pipe();
	fd_insert(ends[1], &owner, no_event, 1);
	__atomic_fetch_or(&fdtab[ends[1]].state, FD_EXCL_SYSCALL, __ATOMIC_RELAXED);
	ck_assert(fails_with(ends[1], EAGAIN));
	ck_assert_str_eq(got(), "");
	/* It is the other writer's to give back. */
	ck_assert_uint_ne(state_of(ends[1]) & FD_EXCL_SYSCALL, 0);
	__atomic_fetch_and(&fdtab[ends[1]].state, ~FD_EXCL_SYSCALL, __ATOMIC_RELAXED);
	ck_assert_int_eq(keel_fd_writev_line(ends[1], 0, NULL, 0, NULL, 0, 1), 1);
	ck_assert_uint_eq(state_of(ends[1]), FD_EV_READY_RW | FD_INITIALIZED);
	fd_delete(ends[1]);
}
END_TEST

/* --- FD-60: many threads ------------------------------------------------------ */

enum { WRITERS = 8, LINES = 25 };

static int log_fd;
static size_t length;           /* of a line, newline included */
static int all;                 /* of its lines, in spite of EAGAIN */
static atomic_int go, written, refused, wrong;

/* Lines of one letter, in four fragments. */
static void *write_lines(void *arg)
{
	char *text = malloc(length);
	struct iovec part[4];

	memset(text, *(const char *)arg, length);
	for (int i = 0; i < 4; i++) {
		part[i].iov_base = text;
		part[i].iov_len = i < 3 ? length / 4 : length - 1 - 3 * (length / 4);
	}
	while (!atomic_load(&go))
		usleep(100);
	for (int i = 0; i < LINES;) {
		ssize_t n = keel_fd_writev_line(log_fd, 0, part, 2, part + 2, 2, 1);

		if (n == (ssize_t)length) {
			atomic_fetch_add(&written, 1);
			i++;
		} else if (n == -1 && errno == EAGAIN) {
			atomic_fetch_add(&refused, 1);
			i += !all;
			usleep(100);
		} else {
			atomic_fetch_add(&wrong, 1);
			i++;
		}
	}
	free(text);
	return NULL;
}

static pthread_t writers[WRITERS];

static void start_writers(int fd, size_t len, int insist)
{
	static const char letters[] = "abcdefgh";

	log_fd = fd;
	length = len;
	all = insist;
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, write_lines, (void *)&letters[i]);
	atomic_store(&go, 1);
}

static void join_writers(void)
{
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	ck_assert_int_eq(atomic_load(&wrong), 0);
}

/* Reads whole lines until there are as many as were written; how many are mixed. */
static int mixed_lines(int fd, int lines)
{
	char *line = malloc(length);
	int mixed = 0;

	while (lines--) {
		size_t have = 0;

		while (have < length) {
			ssize_t n = read(fd, line + have, length - have);

			if (n <= 0)
				break;
			have += n;
		}
		if (have < length || line[length - 1] != '\n' || memcmp(line, line + 1, length - 2) != 0)
			mixed++;
	}
	free(line);
	return mixed;
}

START_TEST(fd_60_lines_in_a_file_do_not_mix)
{
	FILE *file = tmpfile();

	init(1);
	ck_assert_ptr_nonnull(file);
	start_writers(fileno(file), 5000, 1);
	join_writers();
	ck_assert_int_eq(atomic_load(&written), WRITERS * LINES);
	ck_assert_int_eq(lseek(log_fd, 0, SEEK_END), (off_t)(WRITERS * LINES * length));
	lseek(log_fd, 0, SEEK_SET);
	ck_assert_int_eq(mixed_lines(log_fd, WRITERS * LINES), 0);
	fclose(file);
}
END_TEST

/* The system takes such a line in pieces, whenever the reader made room for one. */
START_TEST(fd_60_lines_in_a_slow_pipe_do_not_mix)
{
	/* A signal ends a write that blocks, and that line is short. */
	if (in_storm())
		return;
	init(1);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	__atomic_fetch_or(&fdtab[ends[1]].state, FD_INITIALIZED, __ATOMIC_RELAXED);
	start_writers(ends[1], 30000, 1);
	ck_assert_int_eq(mixed_lines(ends[0], WRITERS * LINES), 0);
	join_writers();
	ck_assert_int_eq(atomic_load(&written), WRITERS * LINES);
}
END_TEST

/* Whole lines or none, and everybody gets to an end though nobody reads. */
START_TEST(fd_60_a_full_pipe_stops_nobody)
{
	init(1);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	start_writers(ends[1], 512, 0);
	join_writers();
	ck_assert_int_gt(atomic_load(&refused), 0);
	ck_assert_int_eq(atomic_load(&written) + atomic_load(&refused), WRITERS * LINES);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(mixed_lines(ends[0], atomic_load(&written)), 0);
	ck_assert_str_eq(got(), "");
}
END_TEST

static void *write_one(void *arg)
{
	struct iovec msg = of("blocked");

	(void)arg;
	return (void *)keel_fd_writev_line(ends[1], 0, NULL, 0, &msg, 1, 1);
}

/* One thread sits in a write() that does not return: the others do not wait for it. */
START_TEST(fd_60_nobody_waits_for_a_write_that_blocks)
{
	static char room[4096];
	void *answer;
	pthread_t th;

	/* A signal ends the write that blocks, as it should. */
	if (in_storm())
		return;
	init(1);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	ck_assert_int_eq(write(ends[1], room, sizeof(room)), sizeof(room));
	__atomic_fetch_or(&fdtab[ends[1]].state, FD_INITIALIZED, __ATOMIC_RELAXED);
	pthread_create(&th, NULL, write_one, NULL);
	while (!(state_of(ends[1]) & FD_EXCL_SYSCALL))
		usleep(1000);
	start_writers(ends[1], 100, 0);
	join_writers();
	ck_assert_int_eq(atomic_load(&refused), WRITERS * LINES);
	ck_assert_int_eq(read(ends[0], room, sizeof(room)), sizeof(room));
	pthread_join(th, &answer);
	ck_assert_int_eq((intptr_t)answer, 8);
	ck_assert_str_eq(got(), "blocked\n");
	ck_assert_uint_eq(state_of(ends[1]) & FD_EXCL_SYSCALL, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd line");
	TCase *one = tcase_create("one thread");
	TCase *many = tcase_create("many threads");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(many, 60);
	tcase_add_test(one, fragments_become_a_line);
	tcase_add_test(one, a_limit_counts_the_newline);
	tcase_add_test(one, fragments_are_31_at_most);
	tcase_add_test(one, first_use_makes_it_non_blocking);
	tcase_add_test(one, other_flags_stay);
	tcase_add_test(one, a_terminal_stays_as_it_is);
	tcase_add_test(one, bad_descriptors_are_refused);
	tcase_add_test(one, a_full_pipe_says_so);
	tcase_add_test(one, fd_60_who_cannot_have_it_is_told);
	tcase_add_test(many, fd_60_lines_in_a_file_do_not_mix);
	tcase_add_test(many, fd_60_lines_in_a_slow_pipe_do_not_mix);
	tcase_add_test(many, fd_60_a_full_pipe_stops_nobody);
	tcase_add_test(many, fd_60_nobody_waits_for_a_write_that_blocks);
	suite_add_tcase(s, one);
	suite_add_tcase(s, many);
	return run_suite(s);
}
