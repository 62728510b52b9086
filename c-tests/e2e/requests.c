/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * requests: HTTP clients that account for every connection they got.
 *
 *     requests HOST PORT PATH CLIENTS PER_CONNECTION TOTAL SECONDS
 *
 * CLIENTS threads each connect, send PER_CONNECTION requests for PATH one after the other, read each answer whole, close, and begin again,
 * until each has had its share of TOTAL requests (0: no limit), or SECONDS have passed, or a connection was refused. Prints
 *
 *     ok=N connections=N refused=N lost=N
 *
 * where lost counts connections that were established and then did not answer a request completely: the one thing that a soft stop must
 * not do. Exit status 0 where nothing was lost.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct addrinfo *server;
static char request[512];
static size_t request_len;
static int per_connection;
static atomic_long ok, connections, refused, lost;
static long share;              /* requests per client; 0: no limit */
static time_t end;

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Reads one answer: true where it is "200" and whole. */
static bool read_answer(int fd)
{
	char buffer[65536];
	size_t len = 0;
	char *body = NULL, *length;
	unsigned long long want = 0, have;
	ssize_t n;

	while (!body) {
		n = recv(fd, buffer + len, sizeof(buffer) - 1 - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
		buffer[len] = '\0';
		body = strstr(buffer, "\r\n\r\n");
	}
	length = strcasestr(buffer, "\r\nContent-Length:");
	if (strncmp(buffer, "HTTP/1.1 200", 12) != 0 || !length || length > body)
		return false;
	want = strtoull(length + 17, NULL, 10);
	have = len - (size_t)(body + 4 - buffer);
	while (have < want) {
		n = recv(fd, buffer, sizeof(buffer), 0);
		if (n <= 0)
			return false;
		have += (unsigned long long)n;
	}
	return have == want;
}

static bool ask(int fd)
{
	return send(fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len && read_answer(fd);
}

static void *client(void *arg)
{
	struct timeval patience = { .tv_sec = 10 };
	long sent = 0;

	(void)arg;
	while (now() < end && (!share || sent < share)) {
		int fd = socket(server->ai_family, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		if (fd < 0 || connect(fd, server->ai_addr, server->ai_addrlen) < 0) {
			atomic_fetch_add(&refused, 1);
			close(fd);
			return NULL;
		}
		atomic_fetch_add(&connections, 1);
		for (int i = 0; i < per_connection && (!share || sent < share); i++, sent++) {
			if (!ask(fd)) {
				atomic_fetch_add(&lost, 1);
				break;
			}
			atomic_fetch_add(&ok, 1);
		}
		close(fd);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	pthread_t threads[512];
	int clients;

	if (argc != 8 || getaddrinfo(argv[1], argv[2], &hints, &server) != 0 || (clients = atoi(argv[4])) < 1 || clients > 512) {
		fputs("usage: requests HOST PORT PATH CLIENTS PER_CONNECTION TOTAL SECONDS\n", stderr);
		return 2;
	}
	request_len = (size_t)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", argv[3], argv[1]);
	per_connection = atoi(argv[5]);
	share = atol(argv[6]) / clients;
	end = now() + atol(argv[7]);
	for (int i = 0; i < clients; i++)
		if (pthread_create(&threads[i], NULL, client, NULL) != 0)
			return 2;
	for (int i = 0; i < clients; i++)
		pthread_join(threads[i], NULL);
	printf("ok=%ld connections=%ld refused=%ld lost=%ld\n", ok, connections, refused, lost);
	freeaddrinfo(server);
	return lost ? 1 : 0;
}
