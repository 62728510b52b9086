/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The example proxy with its n-th allocation, descriptor or thread failing, for
 * every n until it has served and stopped without one: it either ends with a
 * sentence, or it serves. All calls of the process count, libc's included.
 */
#define _GNU_SOURCE
/* Its own file, as users compile it. */
#define main proxy_main
#include "../../examples/proxy.c"
#undef main
#undef fail

#include "each.h"

#include <poll.h>
#include <sys/wait.h>

static char *text_of(int file)
{
	static char text[16384];
	ssize_t n = pread(file, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static uint64_t in_seconds(unsigned int s) { return keel_now_ns() + s * UINT64_C(1000000000); }

/* A socket of the test's own on the loopback: its address in <at>. */
static int a_backend(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	must(bind(fd, (struct sockaddr *)at, sizeof(*at)) == 0 && listen(fd, 64) == 0);
	must(getsockname(fd, (struct sockaddr *)at, &len) == 0);
	return fd;
}

static int is_readable(int fd, int ms)
{
	struct pollfd one = { fd, POLLIN, 0 };

	return poll(&one, 1, ms) == 1;
}

/* The other end of what a client has sent "ping" into: -1 if it does not come.
 * Checks connect, too, and send nothing. */
static int find_ping(int backend, int client)
{
	char word[4];

	for (uint64_t limit = in_seconds(5) - (for_good ? UINT64_C(4900000000) : 0); keel_now_ns() < limit;) {
		struct pollfd both[2] = { { backend, POLLIN, 0 }, { client, POLLIN, 0 } };
		int fd;

		poll(both, 2, 50);
		if (both[1].revents)
			return -1;      /* nobody speaks to it yet: it was closed */
		if (!both[0].revents)
			continue;
		fd = accept4(backend, NULL, NULL, SOCK_CLOEXEC);
		if (is_readable(fd, 5000) && recv(fd, word, sizeof(word), MSG_WAITALL) == sizeof(word))
			return fd;
		close(fd);
	}
	return -1;
}

/* A word there and a word back, at the second try if need be: the fault may
 * have been a connection's. */
static int is_served(int port, int backend, int tries)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int good = 0;

	while (tries-- && !good) {
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server;
		char word[4];

		if (connect(client, (struct sockaddr *)&at, sizeof(at)) == 0 && send(client, "ping", 4, MSG_NOSIGNAL) == 4 &&
		    (server = find_ping(backend, client)) >= 0) {
			good = send(server, "pong", 4, MSG_NOSIGNAL) == 4 && is_readable(client, for_good ? 100 : 5000) &&
			       recv(client, word, 4, MSG_WAITALL) == 4 && memcmp(word, "pong", 4) == 0;
			close(server);
		}
		close(client);
	}
	return good;
}

static int has_ended(pid_t child, int *status)
{
	return waitpid(child, status, WNOHANG) == child;
}

/* Runs the proxy: whether it met the fault. */
static int run_proxy(int log, int backend, const struct sockaddr_in *at)
{
	char name[64], *said, *port;
	char *argv[] = { "proxy", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--backend", name, "--threads", "2",
	                 "--maxconn", "20", "--check", "inter=20ms", "--limit", "conn_rate=1000/10s", NULL };
	atomic_int *met = mmap(NULL, sizeof(*met), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = -1, ended = 0, result;
	pid_t child;

	must(met != MAP_FAILED && ftruncate(log, 0) == 0 && lseek(log, 0, SEEK_SET) == 0);
	snprintf(name, sizeof(name), "127.0.0.1:%d", ntohs(at->sin_port));
	child = fork();
	if (child == 0) {
		dup3(log, 2, 0);
		faults.whole_program = 1;
		faults.met = met;
		again();
		exit(proxy_main(sizeof(argv) / sizeof(*argv) - 1, argv));
	}
	for (uint64_t limit = in_seconds(10); !ended && !strstr(text_of(log), "ready:");) {
		must(keel_now_ns() < limit);
		usleep(500);
		ended = has_ended(child, &status);
	}
	if (!ended) {
		port = strstr(text_of(log), "listening on 127.0.0.1:");
		must(port != NULL);
		/* Thread 0 may be ready before another one fails, which ends them all. Where
		 * all fail it need not serve, but it has to stop. */
		if (!is_served(atoi(strrchr(strtok(port, "\n"), ':') + 1), backend, for_good ? 1 : 5) && !for_good &&
		    !strstr(text_of(log), "ALERT"))
			ck_abort_msg("fault %d at call %d: does not serve (errno %d)\n%s", kind, nth, errno, text_of(log));
		/* Two signals: at once. Of one number they might be taken for one. */
		kill(child, SIGTERM);
		kill(child, SIGUSR1);
		for (uint64_t limit = in_seconds(10); !ended; ended = has_ended(child, &status)) {
			must(keel_now_ns() < limit);
			usleep(500);
		}
	}
	said = text_of(log);
	result = atomic_load(met);
	munmap(met, sizeof(*met));
	if (!WIFEXITED(status))
		ck_abort_msg("fault %d at call %d: status %#x\n%s", kind, nth, status, said);
	if (WEXITSTATUS(status) == 0) {
		if (!strstr(said, "left: pool_bytes=0 fds=0 tasks=0"))
			ck_abort_msg("fault %d at call %d: something is left\n%s", kind, nth, said);
	} else {
		const char *why = strerror(error);

		/* getaddrinfo() has words of its own, and threads without memory are EAGAIN. */
		if (!result || !(strstr(said, why) || strstr(said, strerror(EAGAIN)) || strstr(said, "emory")))
			ck_abort_msg("fault %d at call %d: status %d\n%s", kind, nth, WEXITSTATUS(status), said);
	}
	return result;
}

static const struct { enum fault kind; int error, least; } lacks[] = {
	{ MEMORY, ENOMEM, 40 }, { DESCRIPTORS, EMFILE, 8 }, { DESCRIPTORS, ENFILE, 8 }, { THREADS, EAGAIN, 1 },
};

/* How often it asks depends on what happens meanwhile: checks, above all. */
START_TEST(the_proxy_says_what_it_lacks_or_serves)
{
	int log = memfd_create("log", MFD_CLOEXEC), backend, calm = 0;
	struct sockaddr_in at;

	kind = lacks[_i].kind;
	error = lacks[_i].error;
	backend = a_backend(&at);
	for (for_good = 0; for_good < 2; for_good++) {
		for (nth = 1, calm = 0; calm < 1; nth++)
			calm += !run_proxy(log, backend, &at);
		ck_assert_int_gt(nth, lacks[_i].least);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("proxy");
	TCase *tc = tcase_create("the proxy lacks something");

	tcase_set_timeout(tc, 200);
	tcase_add_loop_test(tc, the_proxy_says_what_it_lacks_or_serves, 0, sizeof(lacks) / sizeof(*lacks));
	suite_add_tcase(s, tc);
	return run_suite(s);
}
