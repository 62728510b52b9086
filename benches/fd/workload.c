/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is done with the descriptors that a contestant watches. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "../task/round_trips.h"
#include "driver.h"

const struct workload workloads[WORKLOADS] = {
	{ CHAIN, "100 pipes, 1 active", 100, 1 },       { CHAIN, "100, 100", 100, 100 },
	{ CHAIN, "1000, 1", 1000, 1 },                  { CHAIN, "1000, 100", 1000, 100 },
	{ CHAIN, "10000, 1", 10000, 1 },                { CHAIN, "10000, 100", 10000, 100 },
	{ PING_PONG, "1 pair", 1, 0 },                  { PING_PONG, "10", 10, 0 },
	{ PING_PONG, "100", 100, 0 },                   { ACCEPT, "accept and close", 0, 0 },
	{ ACCEPT_READ, "accept, watch, read a byte, delete", 0, 0 },
};

/* Connections that the client has open, and those that the server remembers:
 * more, since libuv keeps one for a while after its end. */
#define WINDOW  64
#define RECENT  1024
#define SPARE   128
#define FIRST   200  /* connections whose time does not count */
#define CHUNK   2048 /* events between two looks at the clock */
#define TURN    8    /* chunks until it is another contestant's: time to warm the caches again */
#define WARM_UP 20   /* such chunks at least, and each descriptor's turn */

static const struct peer *peer;
static bool right; /* nothing went wrong so far */

uint32_t descriptors_of(const struct workload *w)
{
	return (w->op == PING_PONG ? 2 : 1) * w->size + SPARE + (w->op >= ACCEPT ? 2 * WINDOW : 0);
}

static void wrong(const char *what)
{
	if (right)
		perror(what);
	right = false;
	peer->stop();
}

/* --- events that follow each other without a pause ------------------------------ */

/* Counted in chunks, in processor time. The median chunk counts, as in
 * round_trips.h. */
static struct {
	uint32_t left, chunks, warm, wanted;
	uint64_t begin;
	const struct turns *turns;
	int n;
	long changes;
	double rates[MAX_SLICES];
} meter;

static void wait_for_turn(void)
{
	char byte;

	if (meter.turns->mine >= 0 && read(meter.turns->mine, &byte, 1) != 1)
		abort();
}

static void end_turn(void)
{
	if (meter.turns->mine >= 0 && write(meter.turns->next, "x", 1) != 1)
		abort();
}

static __attribute__((noinline)) void end_of_chunk(void)
{
	double ns = since(meter.begin);

	meter.left = CHUNK;
	/* some finish a batch of events after the end */
	if (meter.wanted == 0 || meter.n == (int)meter.wanted) {
		peer->stop();
		return;
	}
	if (meter.chunks == meter.warm && peer->changes)
		meter.changes = peer->changes();
	if (meter.chunks++ > meter.warm)
		meter.rates[meter.n++] = CHUNK * 1e6 / ns;
	if (meter.n == (int)meter.wanted) {
		end_turn();
		peer->stop();
		return;
	}
	if (meter.chunks % TURN == 0) {
		end_turn();
		wait_for_turn();
	}
	meter.begin = cpu_ns();
}

static inline void one_event(void)
{
	if (--meter.left == 0)
		end_of_chunk();
}

static int *targets; /* where each writes to */

static void pass_on(struct watch *w)
{
	char byte;

	if (read(w->fd, &byte, 1) != 1 || write(targets[w->number], &byte, 1) != 1)
		wrong("read() and write()");
	one_event();
}

static struct watch *nth(void *watches, uint32_t i) { return (struct watch *)((char *)watches + i * peer->watch_size); }

static bool start(struct watch *w, int fd, uint32_t number, void (*ready)(struct watch *))
{
	w->fd = fd;
	w->number = number;
	w->ready = ready;
	return fd >= 0 && peer->watch(w);
}

/* A pipe whose both ends are one descriptor, so that 10000 of them fit below
 * common limits. */
static int open_pipe(void)
{
	int both[2], fd;
	char path[32];

	if (pipe2(both, O_CLOEXEC) != 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", both[0]);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	/* what the kernel gives to who has many: the same for all */
	fcntl(fd, F_SETPIPE_SZ, 8192);
	close(both[0]);
	close(both[1]);
	return fd;
}

/* What comes out of a pipe goes into the next one. */
static bool open_chain(uint32_t pipes, uint32_t active)
{
	void *watches = calloc(pipes, peer->watch_size);

	targets = calloc(pipes, sizeof(*targets));
	if (!watches || !targets)
		return false;
	for (uint32_t i = 0; i < pipes; i++) {
		int fd = open_pipe();

		targets[(i + pipes - 1) % pipes] = fd;
		if (!start(nth(watches, i), fd, i, pass_on))
			return false;
	}
	for (uint32_t i = 0; i < active; i++)
		if (write(targets[i * (pipes / active)], "x", 1) != 1)
			return false;
	return true;
}

/* What comes out of a socket goes back into it. */
static bool open_pairs(uint32_t pairs)
{
	void *watches = calloc(2 * pairs, peer->watch_size);

	targets = calloc(2 * pairs, sizeof(*targets));
	if (!watches || !targets)
		return false;
	for (uint32_t i = 0; i < 2 * pairs; i += 2) {
		int both[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) != 0)
			return false;
		for (uint32_t k = 0; k < 2; k++) {
			targets[i + k] = both[k];
			if (!start(nth(watches, i + k), both[k], i + k, pass_on))
				return false;
		}
		if (write(both[0], "x", 1) != 1)
			return false;
	}
	return true;
}

/* --- connections ------------------------------------------------------------------- */

static struct sockaddr_in address = { .sin_family = AF_INET };
static struct watch *listener;
static void *connections;
static uint32_t accepted, served, enough; /* enough: stop after so many, or 0 */
static uint64_t cpu_begin;
static bool listen_only;

/* Connects, writes a byte, and closes the oldest when the server has. */
static void *client(void *arg)
{
	int fds[WINDOW];

	for (uint32_t i = 0;; i++) {
		int *fd = &fds[i % WINDOW];
		char byte;

		if (i >= WINDOW) {
			/* the end, or a reset where the byte was not read */
			while (read(*fd, &byte, 1) > 0)
				;
			close(*fd);
		}
		*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (*fd < 0 || connect(*fd, (struct sockaddr *)&address, sizeof(address)) != 0)
			break;
		if (!listen_only && send(*fd, "x", 1, MSG_NOSIGNAL) != 1)
			break;
	}
	perror("the client");
	_exit(1);
	return arg;
}

static void one_served(void)
{
	if (++served == FIRST)
		cpu_begin = cpu_ns();
	if (enough ? served == enough : !another_trip())
		peer->stop();
}

static void serve(struct watch *w)
{
	char byte;

	if (read(w->fd, &byte, 1) != 1)
		wrong("a connection's byte");
	peer->unwatch(w);
	one_served();
}

static void accept_one(struct watch *w)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		wrong("accept4()");
	} else if (listen_only) {
		close(fd);
		one_served();
	} else if (!start(nth(connections, accepted++ % RECENT), fd, 0, serve)) {
		wrong("a connection");
	}
}

static bool open_listener(bool only)
{
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	listen_only = only;
	listener = calloc(1, peer->watch_size);
	connections = calloc(RECENT, peer->watch_size);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return listener && connections && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	       getsockname(fd, (struct sockaddr *)&address, &length) == 0 && listen(fd, 2 * WINDOW) == 0 &&
	       start(listener, fd, 0, accept_one);
}

/* --- a round ------------------------------------------------------------------------- */

/* By its name, instructions are counted in here alone. */
__attribute__((noinline)) void timed(void)
{
	peer->run();
}

static bool begin(const struct peer *p, const struct workload *w)
{
	peer = p;
	right = true;
	if (!p->open(descriptors_of(w)))
		return false;
	switch (w->op) {
	case CHAIN: return open_chain(w->size, w->active);
	case PING_PONG: return open_pairs(w->size);
	default: return open_listener(w->op == ACCEPT);
	}
}

static bool serve_clients(const int cores[2], int ms)
{
	pthread_t thread;

	pin_to(cores[1]);
	if (pthread_create(&thread, NULL, client, NULL) != 0)
		return false;
	pin_to(cores[0]);
	start_trips(ms);
	timed();
	return right;
}

/* Once all are in it, no event changes the kernel's set. */
static bool unchanged(void)
{
	long now = peer->changes ? peer->changes() : 0;

	if (now < 0 || now != meter.changes)
		fprintf(stderr, "%s: %ld changes of the kernel's set before %d events, %ld after\n", peer->name, meter.changes,
			meter.n * CHUNK, now);
	return now >= 0 && now == meter.changes;
}

bool measure(const struct peer *p, const struct workload *w, const int cores[2],
	     const struct turns *turns, int ms, double figures[FIGURES])
{
	if (!begin(p, w))
		return false;
	weigh_the_clock();
	if (w->op >= ACCEPT) {
		if (!serve_clients(cores, ms))
			return false;
		/* on too busy a machine there is none */
		figures[0] = median_trips();
		if (served > FIRST)
			figures[1] = since(cpu_begin) / 1e3 / (served - FIRST);
		return true;
	}
	meter.turns = turns;
	meter.left = CHUNK;
	meter.warm = WARM_UP + w->size / CHUNK;
	meter.wanted = 1 + (uint32_t)ms * 1000 / CHUNK; /* an event takes about 1 us */
	meter.wanted = meter.wanted < MAX_SLICES ? meter.wanted : MAX_SLICES;
	wait_for_turn();
	timed();
	if (!right || meter.n == 0 || !unchanged())
		return false;
	qsort(meter.rates, (size_t)meter.n, sizeof(double), by_value);
	figures[0] = meter.rates[meter.n / 2];
	return true;
}

bool count(const struct peer *p, const struct workload *w, uint32_t events)
{
	int cores[2];

	if (!begin(p, w))
		return false;
	if (w->op >= ACCEPT) {
		enough = events;
		find_cores(cores);
		return serve_clients(cores, 0);
	}
	meter.left = events;
	timed();
	return right;
}
