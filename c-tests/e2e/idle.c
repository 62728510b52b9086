/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * idle: opens COUNT connections, sends nothing, and waits until the other side has closed them.
 *
 *     idle HOST PORT COUNT SECONDS
 *
 * Prints "open=N" when all are established and "closed=N" when all were closed or SECONDS have passed since. Status 0: all were.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *server;
	struct pollfd *fds;
	struct rlimit limit;
	int count, closed = 0;
	long end;

	if (argc != 5 || (count = atoi(argv[3])) < 1 || getaddrinfo(argv[1], argv[2], &hints, &server) != 0) {
		fputs("usage: idle HOST PORT COUNT SECONDS\n", stderr);
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	fds = calloc((size_t)count, sizeof(*fds));
	if (!fds)
		return 2;
	for (int i = 0; i < count; i++) {
		fds[i].fd = socket(server->ai_family, SOCK_STREAM, 0);
		fds[i].events = POLLIN;
		if (fds[i].fd < 0 || connect(fds[i].fd, server->ai_addr, server->ai_addrlen) < 0) {
			perror("idle");
			return 1;
		}
	}
	printf("open=%d\n", count);
	fflush(stdout);
	end = now_ms() + atol(argv[4]) * 1000;
	while (closed < count && now_ms() < end) {
		if (poll(fds, (nfds_t)count, 200) <= 0)
			continue;
		for (int i = 0; i < count; i++) {
			char byte;

			if (fds[i].fd < 0 || !fds[i].revents || recv(fds[i].fd, &byte, 1, 0) > 0)
				continue;
			close(fds[i].fd);
			fds[i].fd = -1;         /* poll() skips it */
			closed++;
		}
	}
	printf("closed=%d\n", closed);
	free(fds);
	freeaddrinfo(server);
	return closed == count ? 0 : 1;
}
