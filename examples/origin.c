/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * origin: a small HTTP/1.1 server on keel, the other end of the proxy's demonstration.
 *
 *     cc examples/origin.c $(pkg-config --cflags --libs keel) -pthread -o origin
 *     ./origin --listen 127.0.0.1:8000
 *
 *     GET /N or /?size=N    N bytes (default 64)          PUT, POST    takes a body, answers with its length
 *     GET /stats            requests served so far
 *
 * Connections stay open until the client says otherwise. One connection belongs to the thread that accepted it. What this server does
 * not know (chunked requests, other methods) it refuses; it has no timeouts: it is meant for the loopback.
 */
#define _GNU_SOURCE             /* accept4, pipe2, strcasestr */
#include <keel/keel.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX     8192       /* a request's head */
#define BODY_MAX     (1ULL << 40)
#define PATTERN_SIZE 65536
#define ACCEPT_BATCH 16
#define PAUSE_MS     100        /* no descriptor left: accept again after this time */
#define STEPS        64         /* what one connection may do before the others get their turn */

struct client {
	int fd;
	enum { READ_HEAD, READ_BODY, REPLY } state;
	bool last;                      /* close after this reply */
	char *in;                       /* HEAD_MAX bytes, while a request is coming in */
	size_t in_len;
	unsigned long long body_left;   /* of the request */
	char head[256];                 /* of the reply */
	size_t head_len, head_sent;
	unsigned long long send_left;   /* of the reply's body */
	struct client *next, **link;
};

struct worker {
	_Alignas(64) atomic_ullong served;
	struct client *clients;         /* its own thread's */
	struct task *closer;
};

static struct worker workers[KEEL_MAX_THREADS];
static struct pool_head *client_pool, *head_pool;
static struct task *resume, *supervisor;
static atomic_bool stopping;
static atomic_uint live;                /* closers and connections that are left */
static char pattern[PATTERN_SIZE];
static int listen_fd, signal_pipe[2];

static unsigned long long served(void)
{
	unsigned long long sum = 0;

	for (int i = 0; i < KEEL_MAX_THREADS; i++)
		sum += atomic_load_explicit(&workers[i].served, memory_order_relaxed);
	return sum;
}

static void client_close(struct client *c)
{
	fd_delete(c->fd);
	pool_free(head_pool, c->in);
	if (c->next)
		c->next->link = c->link;
	*c->link = c->next;
	pool_free(client_pool, c);
	atomic_fetch_sub(&live, 1);
}

static void reply(struct client *c, const char *status, const char *text, unsigned long long size)
{
	c->head_len = (size_t)snprintf(c->head, sizeof(c->head), "HTTP/1.1 %s\r\nContent-Length: %llu\r\nContent-Type: text/plain\r\n%s\r\n%s",
	                               status, text ? strlen(text) : size, c->last ? "Connection: close\r\n" : "", text ? text : "");
	c->head_sent = 0;
	c->send_left = text ? 0 : size;
	c->state = REPLY;
}

static void refuse(struct client *c, const char *status)
{
	c->last = true;
	reply(c, status, "refused\n", 0);
}

static void reply_length(struct client *c, unsigned long long length)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu\n", length);
	reply(c, "200 OK", text, 0);
}

/* The value of the header <name> (": " included in it) in <head>, or NULL. */
static const char *header(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? at + strlen(name) + strspn(at + strlen(name), " \t") : NULL;
}

static void handle_get(struct client *c, const char *path, bool head_only)
{
	const char *size = strstr(path, "?size=");
	char *end;
	unsigned long long n;

	if (strcmp(path, "/stats") == 0) {
		char text[48];

		snprintf(text, sizeof(text), "requests %llu\n", served());
		reply(c, "200 OK", text, 0);
		return;
	}
	size = size ? size + 6 : path + 1;
	n = strtoull(size, &end, 10);
	if (end == size && *size == '\0')
		n = 64;
	else if (end == size || *end || n > BODY_MAX) {
		reply(c, "404 Not Found", "not found\n", 0);
		return;
	}
	reply(c, "200 OK", NULL, n);
	if (head_only)
		c->send_left = 0;
}

/* Decides what to do with the request whose head is the string <head>. */
static void handle_request(struct client *c, char *head)
{
	const char *length = header(head, "\r\nContent-Length:"), *connection = header(head, "\r\nConnection:");
	const char *expect = header(head, "\r\nExpect:");
	char method[8], path[1024];

	if (sscanf(head, "%7s %1023s HTTP/1.", method, path) != 2 || path[0] != '/') {
		refuse(c, "400 Bad Request");
		return;
	}
	if (connection && strncasecmp(connection, "close", 5) == 0)
		c->last = true;
	if (header(head, "\r\nTransfer-Encoding:")) {
		refuse(c, "411 Length Required");
		return;
	}
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
		handle_get(c, path, method[0] == 'H');
		return;
	}
	if (strcmp(method, "PUT") != 0 && strcmp(method, "POST") != 0) {
		refuse(c, "405 Method Not Allowed");
		return;
	}
	c->body_left = length ? strtoull(length, NULL, 10) : 0;
	reply_length(c, c->body_left);          /* what will be said when all of it has come */
	c->state = READ_BODY;
	if (expect && c->in_len == 0)
		send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Each step_*() says how to go on. */
enum step { GO_ON, WAIT, CLOSE };

static enum step read_more(struct client *c, char *to, size_t room, size_t *got)
{
	ssize_t n = recv(c->fd, to, room, 0);

	*got = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return GO_ON;
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		fd_cant_recv(c->fd);
		return WAIT;
	}
	return CLOSE;
}

static enum step step_read_head(struct client *c)
{
	char head[HEAD_MAX];
	char *end = c->in ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
	enum step step;
	size_t got;

	if (end) {
		size_t len = (size_t)(end - c->in);

		memcpy(head, c->in, len);
		head[len] = '\0';
		c->in_len -= len + 4;
		memmove(c->in, end + 4, c->in_len);
		handle_request(c, head);
		return GO_ON;
	}
	if (!c->in && !(c->in = pool_alloc(head_pool)))
		return CLOSE;
	if (c->in_len == HEAD_MAX) {
		refuse(c, "431 Request Header Fields Too Large");
		return GO_ON;
	}
	step = read_more(c, c->in + c->in_len, HEAD_MAX - c->in_len, &got);
	c->in_len += got;
	if (c->in_len == 0) {
		pool_free(head_pool, c->in);    /* a silent connection holds no buffer */
		c->in = NULL;
	}
	return step;
}

static enum step step_read_body(struct client *c)
{
	char body[16384];
	enum step step;
	size_t got, used;

	used = c->in_len < c->body_left ? c->in_len : (size_t)c->body_left;
	c->in_len -= used;
	c->body_left -= used;
	if (c->in)
		memmove(c->in, c->in + used, c->in_len);
	if (!c->body_left) {
		c->state = REPLY;
		return GO_ON;
	}
	step = read_more(c, body, c->body_left < sizeof(body) ? (size_t)c->body_left : sizeof(body), &got);
	c->body_left -= got;
	return step;
}

/* Sends the head and the first bytes of the body together, then the rest. */
static enum step step_reply(struct client *c)
{
	size_t head = c->head_len - c->head_sent, body = c->send_left < PATTERN_SIZE ? (size_t)c->send_left : PATTERN_SIZE;
	struct iovec parts[2] = { { c->head + c->head_sent, head }, { pattern, body } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		fd_cant_send(c->fd);
		return WAIT;
	}
	if (n < 0)
		return CLOSE;
	c->head_sent += (size_t)n < head ? (size_t)n : head;
	c->send_left -= (size_t)n > head ? (size_t)n - head : 0;
	if (c->head_sent < c->head_len || c->send_left)
		return GO_ON;
	atomic_fetch_add_explicit(&workers[keel_tid()].served, 1, memory_order_relaxed);
	c->state = READ_HEAD;
	return c->last ? CLOSE : GO_ON;
}

static void client_io(int fd)
{
	static enum step (*const steps[])(struct client *) = { step_read_head, step_read_body, step_reply };
	struct client *c = fdtab[fd].owner;
	enum step step = GO_ON;

	for (int i = 0; i < STEPS && step == GO_ON; i++)
		step = steps[c->state](c);
	if (step == CLOSE) {
		client_close(c);
		return;
	}
	/* Where the turn ended in the middle, input may wait in <in> that no event will report: a writable socket will. */
	if (c->state == REPLY || step == GO_ON)
		fd_want_send(fd);
	else
		fd_stop_send(fd);
	if (c->state == REPLY)
		fd_stop_recv(fd);
	else
		fd_want_recv(fd);
}

static void client_start(int fd)
{
	struct client *c = pool_zalloc(client_pool);
	struct worker *me = &workers[keel_tid()];
	int one = 1;

	if (!c) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	atomic_fetch_add(&live, 1);
	c->fd = fd;
	c->next = me->clients;
	c->link = &me->clients;
	if (c->next)
		c->next->link = &c->next;
	me->clients = c;
	fd_insert(fd, c, client_io, 1UL << keel_tid());
	fd_want_recv(fd);
}

static void on_connection(int fd)
{
	for (int i = 0; i < ACCEPT_BATCH && !atomic_load(&stopping); i++) {
		int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client >= 0) {
			client_start(client);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			fd_stop_recv(fd);
			task_schedule(resume, tick_add((int)keel_now_ms(), PAUSE_MS));
			return;
		} else if (errno == EAGAIN) {
			fd_cant_recv(fd);
			return;
		}
	}
}

static struct task *resume_accepting(struct task *t, void *context, unsigned int state)
{
	(void)context;
	(void)state;
	t->expire = TICK_ETERNITY;
	if (atomic_load(&stopping)) {
		task_destroy(t);
		atomic_fetch_sub(&live, 1);
		return NULL;
	}
	fd_want_recv(listen_fd);
	return t;
}

/* Closes the connections of one thread, on that thread. */
static struct task *close_clients(struct task *t, void *context, unsigned int state)
{
	struct worker *me = context;

	(void)state;
	while (me->clients)
		client_close(me->clients);
	task_destroy(t);
	atomic_fetch_sub(&live, 1);
	return NULL;
}

/* Leads the stop; looks at <live> from time to time until nothing is left. */
static struct task *stop(struct task *t, void *context, unsigned int state)
{
	(void)context;
	(void)state;
	if (!atomic_exchange(&stopping, true)) {
		/* Nobody is inside a callback now, and none of those that follow accepts any more. */
		thread_isolate();
		fd_delete(listen_fd);
		thread_release();
		task_wakeup(resume, TASK_WOKEN_OTHER);
		for (unsigned int i = 0; i < keel_nbthread(); i++)
			task_wakeup(workers[i].closer, TASK_WOKEN_OTHER);
	} else if (!atomic_load(&live)) {
		fd_delete(signal_pipe[0]);
		task_destroy(t);
		keel_stop();
		return NULL;
	}
	t->expire = tick_add((int)keel_now_ms(), 10);
	return t;
}

static void on_signal(int number)
{
	char byte = (char)number;
	int saved = errno;

	if (write(signal_pipe[1], &byte, 1) <= 0)
		errno = saved;          /* full: the first one is enough */
}

static void signal_io(int fd)
{
	char bytes[16];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
	fd_cant_recv(fd);
	task_wakeup(supervisor, TASK_WOKEN_SIGNAL);
}

static struct task *new_task(unsigned long threads, struct task *(*process)(struct task *, void *, unsigned int), void *context)
{
	struct task *t = task_new(threads);

	if (t) {
		t->process = process;
		t->context = context;
	}
	return t;
}

static int thread_start(unsigned int tid, void *arg)
{
	(void)arg;
	if (tid != 0)
		return 0;
	supervisor = new_task(1UL, stop, NULL);
	resume = new_task(keel_all_threads_mask(), resume_accepting, NULL);
	if (!supervisor || !resume)
		return -ENOMEM;
	for (unsigned int i = 0; i < keel_nbthread(); i++)
		if (!(workers[i].closer = new_task(1UL << i, close_clients, &workers[i])))
			return -ENOMEM;
	atomic_store(&live, keel_nbthread() + 1);
	fd_insert(signal_pipe[0], signal_pipe, signal_io, 1UL);
	fd_want_recv(signal_pipe[0]);
	fd_insert(listen_fd, &listen_fd, on_connection, keel_all_threads_mask());
	fd_want_recv(listen_fd);
	return 0;
}

static void die(int status, const char *what, const char *detail)
{
	fprintf(stderr, "origin: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
	exit(status);
}

/* Opens the listening socket for "host:port" and says where it is; port 0 takes a free one. */
static void bind_to(char *where)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *found;
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char *colon = strrchr(where, ':'), port[8];
	int one = 1;

	if (!colon)
		die(2, "--listen needs the form address:port", NULL);
	*colon = '\0';
	if (getaddrinfo(*where ? where : NULL, colon + 1, &hints, &found) != 0)
		die(2, "--listen: no such address", where);
	listen_fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listen_fd, found->ai_addr, found->ai_addrlen) < 0 || listen(listen_fd, 4096) < 0)
		die(1, "cannot listen", strerror(errno));
	freeaddrinfo(found);
	getsockname(listen_fd, (struct sockaddr *)&addr, &len);
	getnameinfo((struct sockaddr *)&addr, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV);
	fprintf(stderr, "origin: listening on %s:%s\n", where, port);
}

int main(int argc, char **argv)
{
	struct keel_config config = KEEL_CONFIG_INIT;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	char *where = NULL;
	int error;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--listen") == 0)
			where = argv[i + 1];
		else if (strcmp(argv[i], "--threads") == 0)
			config.nbthread = (unsigned int)strtoul(argv[i + 1], NULL, 10);
	}
	if (!where || argc % 2 == 0 || config.nbthread > KEEL_MAX_THREADS)
		die(2, "usage: origin --listen ADDR:PORT [--threads N]", NULL);
	bind_to(where);
	memset(pattern, 'k', sizeof(pattern));
	if (pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		die(1, "no pipe", strerror(errno));
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	error = keel_init(&config);
	if (error)
		die(1, "cannot initialise keel", strerror(-error));
	client_pool = create_pool("client", sizeof(struct client), 0);
	head_pool = create_pool("head", HEAD_MAX, 0);
	if (!client_pool || !head_pool)
		die(1, "cannot create the pools", NULL);
	error = keel_run(thread_start, NULL);
	if (error)
		die(1, "cannot start", strerror(-error));
	fprintf(stderr, "origin: %llu requests served\n", served());
	close(signal_pipe[1]);
	keel_deinit();
	return 0;
}
