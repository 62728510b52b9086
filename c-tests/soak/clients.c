/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * clients: every manner of HTTP client at once, for the soak.
 *
 *     clients SEED SECONDS CLIENTS ADMIN PORT...
 *
 * CLIENTS threads connect to the proxies that listen at the PORTs of 127.0.0.1 (the first one lasts), each connection in a manner that its
 * thread's random numbers choose; two more talk to the administration at port ADMIN. SIGTERM ends them early. Prints
 * lines for the script that started it:
 *
 *     sum REQUESTS FAILURES                   each second, so far
 *     fail START END MANNER WHY               a connection that went wrong, dates in seconds of the clock
 *     manner NAME CONNECTIONS REQUESTS FAILURES       at the end
 *
 * The servers behind know /big, BIG bytes of which each tells its place; answers are compared with it byte by byte.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIG          1000000
#define PATIENCE_S   20         /* an answer that takes longer is lost */
#define IDLE_MIN_S   4          /* the proxy closes idle connections after five seconds */
#define LIMIT        50         /* of connections from one source, in the proxy's options */
#define GREED        60
#define MAX_CLIENTS  200        /* each has a source address of its own */

struct client {
	unsigned int id;
	uint64_t random;
	int fd;
	double start;                   /* of the connection */
	unsigned long requests;
	char buffer[65536];
};

static unsigned int ports[8], nb_ports, admin_port;
static atomic_ulong requests, failures;
static atomic_bool over;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* xorshift64*: the same threads draw the same numbers for the same seed. */
static unsigned int below(struct client *c, unsigned int n)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return (unsigned int)((c->random * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static void nap(unsigned int us)
{
	struct timespec t = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&t, NULL);
}

static unsigned char big(unsigned long at) { return (unsigned char)(at ^ at >> 8 ^ at >> 16); }

/* ---- a connection -------------------------------------------------------------------------------------------- */

/* From 127.<net>.<client>.x: a source of this client alone. */
static int connect_from(struct client *c, unsigned int net, unsigned int host, unsigned int port, int rcvbuf)
{
	struct sockaddr_in me = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	me.sin_addr.s_addr = htonl(127U << 24 | net << 16 | (c->id + 1) << 8 | host);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (rcvbuf)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	if (bind(fd, (struct sockaddr *)&me, sizeof(me)) == 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool open_one(struct client *c, int rcvbuf)
{
	c->fd = connect_from(c, 1, 1 + below(c, 4), ports[below(c, nb_ports)], rcvbuf);
	return c->fd >= 0;
}

static void reset(int fd)
{
	struct linger at_once = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

/* Sends <len> bytes, at most <step> at a time with a nap between. */
static bool send_all(struct client *c, const char *data, size_t len, size_t step, unsigned int nap_us)
{
	while (len) {
		ssize_t n = send(c->fd, data, len < step ? len : step, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
		if (nap_us && len)
			nap(nap_us);
	}
	return true;
}

/* What a request asks for: <len> bytes of /big from <at>. */
struct range { unsigned long at, len; };

/* As many small ones as large ones. */
static struct range any_range(struct client *c, unsigned int max_bits)
{
	struct range r;

	r.len = 1 + below(c, 1U << (1 + below(c, max_bits)));
	if (r.len > BIG)
		r.len = BIG;
	r.at = below(c, BIG - (unsigned int)r.len + 1);
	return r;
}

static size_t get_text(char *text, size_t room, struct range r, const char *more)
{
	return (size_t)snprintf(text, room, "GET /big HTTP/1.1\r\nHost: soak\r\nRange: bytes=%lu-%lu\r\n%s\r\n",
	                        r.at, r.at + r.len - 1, more);
}

/* Reads one answer of that <status>, <step> bytes at a time with naps between. NULL, or what was wrong with it. */
static const char *read_answer(struct client *c, int status, struct range r, size_t step, unsigned int nap_us)
{
	size_t len = 0, at;
	char *body = NULL, *length;
	ssize_t n;
	int got;

	while (!body) {
		n = recv(c->fd, c->buffer + len, 4095 - len, 0);
		if (n <= 0)
			return n == 0 ? "closed-before-answer" : errno == EAGAIN ? "no-answer" : "reset-before-answer";
		len += (size_t)n;
		c->buffer[len] = '\0';
		body = strstr(c->buffer, "\r\n\r\n");
		if (!body && len == 4095)
			return "endless-head";
	}
	body += 4;
	got = strncmp(c->buffer, "HTTP/1.1 ", 9) == 0 ? atoi(c->buffer + 9) : 0;
	if (got != status && !(status == 201 && got == 204))    /* made, or replaced */
		return "wrong-status";
	length = strcasestr(c->buffer, "\r\nContent-Length:");
	if (length ? strtoul(length + 17, NULL, 10) != r.len : r.len != 0)
		return "wrong-length";
	n = c->buffer + len - body;
	for (at = 0;;) {
		if ((size_t)n > r.len - at)
			return "too-much";
		for (ssize_t i = 0; i < n; i++)
			if ((unsigned char)body[i] != big(r.at + at + (size_t)i))
				return "wrong-bytes";
		at += (size_t)n;
		if (at == r.len)
			break;
		if (nap_us)
			nap(nap_us);
		body = c->buffer;
		n = recv(c->fd, body, step, 0);
		if (n <= 0)
			return n == 0 ? "cut-short" : errno == EAGAIN ? "stuck" : "reset-in-answer";
	}
	c->requests++;
	atomic_fetch_add(&requests, 1);
	return NULL;
}

static const char *get(struct client *c, unsigned int max_bits, const char *more)
{
	struct range r = any_range(c, max_bits);
	char text[256];

	if (!send_all(c, text, get_text(text, sizeof(text), r, more), sizeof(text), 0))
		return "cannot-send";
	return read_answer(c, 206, r, sizeof(c->buffer), 0);
}

/* Sends the first <sent> of <len> bytes that /up/<client> shall become. */
static bool put(struct client *c, unsigned long len, unsigned long sent)
{
	int n = snprintf(c->buffer, sizeof(c->buffer), "PUT /up/%u HTTP/1.1\r\nHost: soak\r\nContent-Length: %lu\r\n\r\n",
	                 c->id, len);

	if (!send_all(c, c->buffer, (size_t)n, sizeof(c->buffer), 0))
		return false;
	for (unsigned long at = 0; at < sent;) {
		size_t piece = sent - at < sizeof(c->buffer) ? sent - at : sizeof(c->buffer);

		for (size_t i = 0; i < piece; i++)
			c->buffer[i] = (char)big(at + i);
		if (!send_all(c, c->buffer, piece, piece, 0))
			return false;
		at += piece;
	}
	return true;
}

/* Whether the other side has closed: waits until then, <ms> at most. */
static bool is_closed(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&p, 1, ms) > 0 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

/* ---- the manners: each returns NULL or why it went wrong ------------------------------------------------------ */

static const char *keep_alive(struct client *c)
{
	const char *wrong = NULL;

	for (unsigned int n = 1 + below(c, 100); n && !wrong && !atomic_load(&over); n--) {
		wrong = get(c, 14, "");
		if (!below(c, 10))
			nap(below(c, 20000));
	}
	return wrong;
}

static const char *one_shot(struct client *c) { return get(c, 12, "Connection: close\r\n"); }
static const char *download(struct client *c) { return get(c, 20, ""); }

static const char *upload(struct client *c)
{
	unsigned long len = 1 + below(c, 200000);

	if (!put(c, len, len))
		return "cannot-send";
	return read_answer(c, 201, (struct range){ 0, 0 }, sizeof(c->buffer), 0);
}

static const char *slow(struct client *c)
{
	struct range r = any_range(c, 16);
	char text[256];

	if (!send_all(c, text, get_text(text, sizeof(text), r, ""), 1 + below(c, 20), 1000 + below(c, 10000)))
		return "cannot-send";
	return read_answer(c, 206, r, 256 + below(c, 4096), 1000 + below(c, 10000));
}

/* Goes away in the middle, by an end or by a reset. */
static const char *aborted(struct client *c)
{
	struct range r = any_range(c, 20);
	char text[256];
	size_t len = get_text(text, sizeof(text), r, "");

	switch (below(c, 4)) {
	case 0:
		break;                          /* it says nothing at all */
	case 1:
		send_all(c, text, below(c, (unsigned int)len), len, 0);
		break;
	case 2:
		send_all(c, text, len, len, 0);
		if (recv(c->fd, c->buffer, 1 + below(c, sizeof(c->buffer)), 0) <= 0)
			return "no-answer";
		break;
	default:
		put(c, r.len, r.len / 2);
	}
	if (below(c, 2))
		reset(c->fd);
	return NULL;
}

/* Sends its end with its request, and still gets the answer. */
static const char *half_closed(struct client *c)
{
	struct range r = any_range(c, 16);
	char text[256];

	if (!send_all(c, text, get_text(text, sizeof(text), r, "Connection: close\r\n"), sizeof(text), 0))
		return "cannot-send";
	shutdown(c->fd, SHUT_WR);
	return read_answer(c, 206, r, sizeof(c->buffer), 0);
}

/* Waits until the proxy has enough of it: not too early, nor never. */
static const char *idle(struct client *c)
{
	while (!is_closed(c->fd, 500)) {
		if (now() - c->start > PATIENCE_S)
			return "never-closed";
		if (atomic_load(&over))
			return NULL;
	}
	return now() - c->start < IDLE_MIN_S ? "closed-early" : NULL;
}

/* Wants more connections than a source may have: those beyond are closed. From the proxy that lasts: while another
 * is relieved, there are two that count. */
static const char *greedy(struct client *c)
{
	int fds[GREED], refused = 0;
	const char *wrong = NULL;

	for (int i = 0; i < GREED; i++)
		fds[i] = connect_from(c, 2, 1, ports[0], 0);
	for (double end = now() + PATIENCE_S; refused < GREED - LIMIT && now() < end;) {
		refused = 0;
		for (int i = 0; i < GREED; i++)
			refused += fds[i] < 0 || is_closed(fds[i], 0);
		nap(1000);
	}
	if (refused < GREED - LIMIT)
		wrong = "limit-not-kept";
	for (int i = 0; i < GREED; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return wrong;
}

static const struct manner {
	const char *name;
	unsigned int weight;
	const char *(*run)(struct client *c);
	int rcvbuf;
	bool opens;                     /* its own connections */
} manners[] = {
	{ "keep-alive", 30, keep_alive, 0, false },
	{ "one-shot", 40, one_shot, 0, false },
	{ "download", 10, download, 0, false },
	{ "upload", 8, upload, 0, false },
	{ "slow", 6, slow, 4096, false },
	{ "aborted", 15, aborted, 0, false },
	{ "half-closed", 10, half_closed, 0, false },
	{ "idle", 2, idle, 0, false },
	{ "greedy", 1, greedy, 0, true },
};
#define MANNERS (sizeof(manners) / sizeof(*manners))
static atomic_ulong counts[MANNERS + 1][3];

static void note(struct client *c, size_t manner, const char *name, const char *wrong)
{
	atomic_fetch_add(&counts[manner][0], 1);
	atomic_fetch_add(&counts[manner][1], c->requests);
	c->requests = 0;
	if (!wrong)
		return;
	atomic_fetch_add(&counts[manner][2], 1);
	atomic_fetch_add(&failures, 1);
	printf("fail %.3f %.3f %s %s\n", c->start, now(), name, wrong);
}

static size_t any_manner(struct client *c)
{
	unsigned int sum = 0, draw;
	size_t m = 0;

	for (size_t i = 0; i < MANNERS; i++)
		sum += manners[i].weight;
	for (draw = below(c, sum); draw >= manners[m].weight; m++)
		draw -= manners[m].weight;
	return m;
}

static void *client(void *arg)
{
	struct client *c = arg;

	while (!atomic_load(&over)) {
		size_t m = any_manner(c);
		const char *wrong = NULL;

		c->start = now();
		if (manners[m].opens)
			wrong = manners[m].run(c);
		else if (!open_one(c, manners[m].rcvbuf))
			wrong = "cannot-connect";
		else {
			wrong = manners[m].run(c);
			close(c->fd);
		}
		note(c, m, manners[m].name, wrong);
		nap(below(c, 20000));
	}
	return NULL;
}

/* ---- administration ------------------------------------------------------------------------------------------ */

static const char *const commands[] = {
	"help", "show info", "show pools", "show pools byname", "show pools bysize detailed 2", "show pools byusage match conn",
	"show tasks", "show fd", "show table", "show table key 127.1.1.1", "show table data.conn_rate gt 0",
	"show table data.conn_cnt ge 1 data.conn_cur eq 0", "show callouts",
};
static const char *const nonsense[] = {
	"", " ", "show", "show  ", "help me", "show pools bycolour", "show pools match", "show pools detailed -1",
	"show pools detailed 99999999999999999999", "show table key", "show table key ::1", "show table key 1.2.3",
	"show table data.conn_cnt", "show table data.conn_cnt gt x", "show table data.nonsense gt 1",
	"show table data.conn_rate gt 9223372036854775808", "show fd 0", "drop tables", "quit now", "\\\\\\\"'",
};

/* Reads until the other side closes: how many bytes, or -1 where it takes too long. The last one goes to <*last>. */
static long read_all(struct client *c, char *last)
{
	long sum = 0;
	ssize_t n;

	while ((n = recv(c->fd, c->buffer, sizeof(c->buffer), 0)) > 0) {
		*last = c->buffer[n - 1];
		sum += n;
	}
	return n < 0 && errno == EAGAIN ? -1 : sum;
}

static const char *question(struct client *c)
{
	unsigned int kind = below(c, 10), len = 0;
	bool valid = kind < 5;
	char text[512], last = 0;
	long answer;

	if (kind == 9) {
		nap(below(c, 500000));          /* a session that says nothing */
		return NULL;
	}
	if (kind == 8) {                        /* one that asks much, and reads nothing */
		for (unsigned int i = 1 + below(c, 50); i; i--)
			if (!send_all(c, "show fd\n", 8, 8, 0))
				break;
		return NULL;
	}
	if (kind == 7) {
		len = below(c, 400);
		for (unsigned int i = 0; i < len; i++)
			text[i] = (char)below(c, 256);
	} else {
		const char *line = valid ? commands[below(c, sizeof(commands) / sizeof(*commands))] :
		                           nonsense[below(c, sizeof(nonsense) / sizeof(*nonsense))];

		len = (unsigned int)snprintf(text, sizeof(text), "%s", line);
		if (kind == 6 && len)
			text[below(c, len)] ^= (char)(1 << below(c, 7));        /* nearly sense */
	}
	if (!send_all(c, text, len, 1 + below(c, 64), 0) || !send_all(c, "\nquit\n", 6, 6, 0))
		return valid ? "cannot-send" : NULL;
	answer = read_all(c, &last);
	if (answer < 0)
		return "no-answer";
	if (!valid)
		return NULL;
	c->requests++;
	return answer == 0 || last != '\n' ? "no-whole-answer" : NULL;
}

static void *administrator(void *arg)
{
	struct client *c = arg;

	while (!atomic_load(&over)) {
		const char *wrong = "cannot-connect";

		c->start = now();
		c->fd = connect_from(c, 3, 1, admin_port, 0);
		if (c->fd >= 0) {
			wrong = question(c);
			if (!below(c, 4))
				reset(c->fd);
			close(c->fd);
		}
		note(c, MANNERS, "admin", wrong);
		nap(below(c, 200000));
	}
	return NULL;
}

/* -------------------------------------------------------------------------------------------------------------- */

static void finish(int signal)
{
	(void)signal;
	atomic_store(&over, true);
}

int main(int argc, char **argv)
{
	static pthread_t threads[MAX_CLIENTS + 2];
	unsigned int clients = argc > 5 ? (unsigned int)atoi(argv[3]) : 0;
	double end;

	if (clients < 1 || clients > MAX_CLIENTS || argc > 13) {
		fputs("usage: clients SEED SECONDS CLIENTS ADMIN PORT...\n", stderr);
		return 2;
	}
	end = now() + atof(argv[2]);
	admin_port = (unsigned int)atoi(argv[4]);
	for (int i = 5; i < argc; i++)
		ports[nb_ports++] = (unsigned int)atoi(argv[i]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGTERM, finish);
	for (unsigned int i = 0; i < clients + 2; i++) {
		struct client *c = calloc(1, sizeof(*c));

		if (!c)
			return 2;
		c->id = i;
		c->random = (strtoull(argv[1], NULL, 10) + 1) * 0x9e3779b97f4a7c15ULL + i * 0xbf58476d1ce4e5b9ULL + 1;
		if (pthread_create(&threads[i], NULL, i < clients ? client : administrator, c) != 0)
			return 2;
	}
	while (!atomic_load(&over) && now() < end) {
		sleep(1);
		printf("sum %lu %lu\n", atomic_load(&requests), atomic_load(&failures));
	}
	atomic_store(&over, true);
	for (unsigned int i = 0; i < clients + 2; i++)
		pthread_join(threads[i], NULL);
	for (size_t m = 0; m <= MANNERS; m++)
		printf("manner %s %lu %lu %lu\n", m < MANNERS ? manners[m].name : "admin",
		       atomic_load(&counts[m][0]), atomic_load(&counts[m][1]), atomic_load(&counts[m][2]));
	return 0;
}
