/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel: the calling thread is thread 0, and there is no other. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <keel/keel.h>

#include "bench.h"

static bool stopped;

static bool open_keel(uint32_t maxfd)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 1;
	cfg.maxsock = maxfd;
	return keel_init(&cfg) == 0 && keel_thread_enter(0) == 0;
}

static void iocb(int fd)
{
	struct watch *w = fdtab[fd].owner;

	w->ready(w);
}

static bool watch(struct watch *w)
{
	fd_insert(w->fd, w, iocb, 1);
	fd_want_recv(w->fd);
	return true;
}

/* Called for writes too, as soon as they are possible again. */
static void on_change(int fd)
{
	struct watch *w = fdtab[fd].owner;

	if (!fd_recv_ready(fd))
		return;
	w->ready(w);
	fd_cant_recv(fd);
}

static bool watch_edges(struct watch *w)
{
	fd_insert(w->fd, w, on_change, 1);
	fd_cant_recv(w->fd);
	__atomic_fetch_or(&fdtab[w->fd].state, FD_ET_POSSIBLE, __ATOMIC_RELAXED);
	fd_want_recv(w->fd);
	return true;
}

static void unwatch(struct watch *w) { fd_delete(w->fd); }

static void turns(void)
{
	while (!stopped)
		keel_poll_once(-1);
}

static void stop(void)
{
	stopped = true;
	keel_stop();
}

/* From the thread's counters, as an operator reads them; -1 where they are not to be found. */
static long changes(void)
{
	int fd = memfd_create("dump", MFD_CLOEXEC);
	const char *found = NULL;
	long n = -1, size = fd < 0 ? -1 : keel_dump_fds(fd);
	char *text = size > 0 ? calloc(1, (size_t)size + 1) : NULL;

	if (text && pread(fd, text, (size_t)size, 0) == size)
		found = strstr(text, "poll_ctl=");
	if (found)
		n = atol(found + strlen("poll_ctl="));
	free(text);
	close(fd);
	return n;
}

const struct peer *const *contestants(void)
{
	static const struct peer loop = { "keel", false, sizeof(struct watch), open_keel, watch, unwatch, run_poll_loop, stop,
					  changes },
				 once = { "keel, keel_poll_once()", false, sizeof(struct watch), open_keel, watch, unwatch, turns,
					  stop, changes },
				 edges = { "keel, FD_ET_POSSIBLE", true, sizeof(struct watch), open_keel, watch_edges, unwatch,
					   run_poll_loop, stop, changes };
	static const struct peer *const list[] = { &loop, &once, &edges, NULL };

	return list;
}
