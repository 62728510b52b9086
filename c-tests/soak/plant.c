/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * plant: a library to preload into the proxy, with a fault that the soak has to find. PLANT names it:
 *
 *     memory      1 KiB of each connection is never given back
 *     descriptor  one of 200 connections leaves a descriptor open
 *     reset       one of 5000 reads fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static atomic_uint calls;

static int is_planted(const char *name)
{
	const char *plant = getenv("PLANT");

	return plant && !strcmp(plant, name);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int (*real)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
	int accepted = real(fd, addr, len, flags);

	if (accepted >= 0 && is_planted("memory")) {
		static _Thread_local char *last;
		char *lost = malloc(1024);

		memset(lost, 1, 1024);
		*(char **)lost = last;          /* so that the compiler keeps it */
		last = lost;
	}
	if (accepted >= 0 && is_planted("descriptor") && atomic_fetch_add(&calls, 1) % 200 == 0)
		(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
	return accepted;
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
	ssize_t (*real)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");

	if (is_planted("reset") && atomic_fetch_add(&calls, 1) % 5000 == 4999) {
		errno = ECONNRESET;
		return -1;
	}
	return real(fd, data, len, flags);
}
