/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What tests of descriptors share: a thread that turns when told, eventfds
 * and pairs to watch, callbacks that count, and what the dump says. They
 * define _GNU_SOURCE first. */
#ifndef FDS_H
#define FDS_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/keel.h>

#include "storm.h"

#define MAXSOCK 1024

static int owner;               /* its address owns descriptors */

/* --- the library ----------------------------------------------------------- */

static inline void init(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = MAXSOCK;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

/* The caller becomes thread 0. */
static inline void start(unsigned int nbthread)
{
	init(nbthread);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

static inline void turns(int n)
{
	while (n--)
		keel_poll_once(0);
}

/* Waits for a child: its status. */
static inline int reap(pid_t child)
{
	int status;

	return waitpid(child, &status, 0) == child ? status : -1;
}

/* --- descriptors ------------------------------------------------------------ */

static inline unsigned int state_of(int fd)
{
	return __atomic_load_n(&fdtab[fd].state, __ATOMIC_RELAXED);
}

/* Adds to the state what its user has to say. */
static inline void mark(int fd, unsigned int flags)
{
	__atomic_fetch_or(&fdtab[fd].state, flags, __ATOMIC_RELAXED);
}

static inline int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* An eventfd. Like ring() it is called often: no assertion unless it fails. */
static inline int event(unsigned int count)
{
	int fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		ck_abort_msg("eventfd: %s", strerror(errno));
	return fd;
}

static inline void ring(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		ck_abort_msg("eventfd %d: %s", fd, strerror(errno));
}

/* Takes all of its rings, until the next is reported. */
static inline void drain(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) > 0)
		;
	fd_cant_recv(fd);
}

static inline void stream(int fds[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* Inserts it and wants to receive. */
static inline int watch(int fd, void (*iocb)(int fd), unsigned long thread_mask)
{
	fd_insert(fd, &owner, iocb, thread_mask);
	fd_want_recv(fd);
	return fd;
}

/* --- callbacks -------------------------------------------------------------- */

/* What most descriptors here do when something happens: count, in all and by
 * number. */
static atomic_int calls, heard[5000];

static inline void note(int fd)
{
	atomic_fetch_add(&heard[fd], 1);
	atomic_fetch_add(&calls, 1);
}

/* How many calls there were since it was asked last. */
static inline int called(void)
{
	return atomic_exchange(&calls, 0);
}

static inline void drain_and_note(int fd)
{
	drain(fd);
	/* last, for those who ring again when they see it */
	note(fd);
}

/* --- the dump --------------------------------------------------------------- */

static inline char *dump(void)
{
	static char text[65536];
	int report[2], said, n;

	ck_assert_int_eq(pipe2(report, O_CLOEXEC), 0);
	said = keel_dump_fds(report[1]);
	ck_assert_int_gt(said, 0);
	n = (int)read(report[0], text, sizeof(text) - 1);
	close(report[0]);
	close(report[1]);
	ck_assert_int_eq(n, said);
	text[n] = '\0';
	return text;
}

/* Its line that begins so, up to the newline. */
static inline const char *line_of(const char *begin)
{
	char *line = dump();

	while (line && strncmp(line, begin, strlen(begin)) != 0)
		if ((line = strchr(line, '\n')))
			line++;
	ck_assert_ptr_nonnull(line);
	*strchr(line, '\n') = '\0';
	return line;
}

/* That counter of that thread. */
static inline unsigned long counter(int tid, const char *name)
{
	char begin[32], field[64];
	const char *at;

	snprintf(begin, sizeof(begin), "thread=%d ", tid);
	snprintf(field, sizeof(field), " %s=", name);
	at = strstr(line_of(begin), field);
	ck_assert_ptr_nonnull(at);
	return strtoul(at + strlen(field), NULL, 10);
}

/* Whether those are the masks of the threads whose pollers have it. */
static inline int polled(int fd, const char *masks)
{
	char begin[32], field[64];

	snprintf(begin, sizeof(begin), "fd=%d ", fd);
	snprintf(field, sizeof(field), " polled=%s ", masks);
	return strstr(line_of(begin), field) != NULL;
}

#endif
