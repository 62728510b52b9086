/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * proxy: a TCP proxy, and the first program to read in order to learn keel.
 *
 *     cc examples/proxy.c $(pkg-config --cflags --libs keel) -pthread -o proxy
 *     ./proxy --listen :8080 --backend 10.0.0.1:80 --backend 10.0.0.2:80 --admin /tmp/proxy.sock
 *
 * What lives where:
 *
 *   listener    shared by all threads: every thread accepts from it. Its mutex guards its state, and is taken by the
 *               accept callback as well as by who unbinds it: fd_delete() never waits, so that cannot deadlock.
 *   connection  belongs to the thread that accepted it, from the first byte to the last: no lock, no atomic. Two
 *               descriptors, two flows of bytes, one task for its timeouts. It holds a buffer only while bytes wait.
 *   check       one task per backend, allowed on every thread, so its timer may be moved by every thread: a connection
 *               that meets a dead backend hastens the check with task_schedule().
 *   source      what clients of one address have done: an entry of a stick table, shared by all threads. Each
 *               connection holds a reference to it; the entry's own lock guards its counters.
 *   supervisor  a task of thread 0 that leads the soft stop. It isolates itself to reach what others own.
 *   admin       a line protocol, served by thread 0 alone.
 *
 * Order of this file: options, log, counters, backends and their checks, sources, connections, listeners, admin, stop,
 * main.
 */
#define _GNU_SOURCE             /* accept4, memfd_create */
#include <keel/keel.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define UNUSED          __attribute__((unused))
#define MAX_LISTENERS   16      /* with the admin socket */
#define MAX_BACKENDS    65
#define MAX_TRIES       5       /* one connect and four retries, on another backend where there is one */
#define BUFFER_SIZE     16384
#define ROUNDS          4       /* buffers moved per event before the other connections get their turn */
#define ACCEPT_BATCH    16      /* connections taken per event, so that the other threads get their share */
#define RETRY_MS        100     /* when descriptors or ports ran out, or a retry failed too */
#define HASTEN_MS       20      /* an error in the traffic brings the next check this near */
#define FORGET_MS       600000  /* a source that was silent for so long is forgotten, its rate permitting */
#define LAST_SYN_MS     100     /* handshakes that had begun when the stop came may end within this time */
#define STOP_STEP_MS    10      /* how often the supervisor looks whether the connections are gone */
#define ADMIN_LINE      128     /* longer ones are no commands */
#define ADMIN_SESSIONS  8       /* a newcomer replaces the one that was silent for longest */

/* ---- options ------------------------------------------------------------------------------------------------- */

struct endpoint {
	struct sockaddr_storage addr;
	socklen_t len;
	char name[128];
};

static struct {
	unsigned int threads;   /* 0: as many as there are CPUs */
	unsigned int maxconn;   /* 0: as many as the descriptors allow */
	unsigned int connect_ms, idle_ms, check_ms;
	unsigned int inter_ms, rise, fall;
	unsigned int grace_ms;
	unsigned int source_rate, source_rate_ms, source_conns;         /* 0: no limit */
} cfg = {
	.connect_ms = 5000, .idle_ms = 60000, .check_ms = 2000,
	.inter_ms = 2000, .rise = 2, .fall = 3,
	.grace_ms = 30000,
	.source_rate_ms = 10000,
};

static const char usage[] =
	"Usage: proxy --listen ADDR:PORT --backend ADDR:PORT [option]...\n"
	"  --listen ADDR:PORT    accept connections there; may be repeated; port 0 takes a free one\n"
	"  --backend ADDR:PORT   forward them there, round robin; may be repeated\n"
	"  --threads N           default: one per CPU\n"
	"  --maxconn N           connections served at a time; default: what the descriptors allow\n"
	"  --timeout NAME=TIME   connect=5s | idle=60s | check=2s\n"
	"  --check NAME=VALUE    inter=2s (time between checks) | rise=2 | fall=3 (checks in a row to change state)\n"
	"  --limit NAME=VALUE    of a source address: conn_rate=20/10s (new connections in so much time, refused ones\n"
	"                        included) | conn_cur=5 (connections at a time); what is beyond is closed at once\n"
	"  --grace TIME          how long a soft stop waits for connections to end; default 30s\n"
	"  --admin ADDR:PORT     or the path of a unix socket: answers 'help'\n"
	"  --help, --version\n"
	"ADDR is an IPv4 address, an [IPv6] address, a host name, or empty for any. TIME takes us, ms, s, m, h or d;\n"
	"a plain number is in milliseconds. SIGTERM and SIGUSR1 stop softly, a second signal stops at once. A successor that\n"
	"listens at the same address takes over: start it, then stop this one.\n";

/* Every mistake on the command line ends here: one line, status 2. */
#define refuse(...) (fprintf(stderr, "proxy: " __VA_ARGS__), fputs(" (see --help)\n", stderr), exit(2))

#define LONGEST_MS (20 * 86400 * 1000U)         /* ticks wrap: two dates must be less than 24.8 days apart */

/* Reads "<digits><unit>": a number, or a time in milliseconds, rounded up since a timer is never early. */
static unsigned int parse_value(const char *what, const char *text, bool is_time, unsigned int min, unsigned int max)
{
	static const struct { const char *name; double ms; } units[] = {
		{ "", 1 }, { "us", 0.001 }, { "ms", 1 }, { "s", 1e3 }, { "m", 60e3 }, { "h", 3600e3 }, { "d", 86400e3 },
		{ NULL, 0 },
	};
	size_t digits = strspn(text, "0123456789"), unit = 0;
	double value = strtod(text, NULL);

	while (units[unit].name && strcmp(text + digits, units[unit].name) != 0)
		unit++;
	if (!digits || !units[unit].name || (unit && !is_time))
		refuse("%s: '%s' is not a %s", what, text, is_time ? "time" : "number");
	value *= units[unit].ms;
	if (value < min || value > max)
		refuse("%s: %s is out of range (%u to %u%s)", what, text, min, max, is_time ? " ms" : "");
	return (unsigned int)value + (value > (unsigned int)value);
}

/* What takes a number or a time: how the option and its value begin, and where the rest goes. */
static const struct setting {
	const char *prefix;
	unsigned int *value;
	bool is_time;
	unsigned int min, max;
	unsigned int *period;           /* where "/TIME" must follow */
} settings[] = {
	{ "--threads ", &cfg.threads, false, 1, KEEL_MAX_THREADS, NULL },
	{ "--maxconn ", &cfg.maxconn, false, 1, 400000, NULL },
	{ "--grace ", &cfg.grace_ms, true, 0, LONGEST_MS, NULL },
	{ "--timeout connect=", &cfg.connect_ms, true, 1, LONGEST_MS, NULL },
	{ "--timeout idle=", &cfg.idle_ms, true, 1, LONGEST_MS, NULL },
	{ "--timeout check=", &cfg.check_ms, true, 1, LONGEST_MS, NULL },
	{ "--check inter=", &cfg.inter_ms, true, 1, LONGEST_MS, NULL },
	{ "--check rise=", &cfg.rise, false, 1, 1000, NULL },
	{ "--check fall=", &cfg.fall, false, 1, 1000, NULL },
	{ "--limit conn_rate=", &cfg.source_rate, false, 1, 1000000, &cfg.source_rate_ms },
	{ "--limit conn_cur=", &cfg.source_conns, false, 1, 1000000, NULL },
	{ NULL, NULL, false, 0, 0, NULL },
};

static void parse_setting(const char *option, const char *value)
{
	const struct setting *s = settings;
	char text[128], *slash;

	snprintf(text, sizeof(text), "%s %s", option, value);
	while (s->prefix && strncmp(text, s->prefix, strlen(s->prefix)) != 0)
		s++;
	if (!s->prefix)
		refuse("'%s' is not an option", text);
	if (s->period) {
		slash = strchr(text + strlen(s->prefix), '/');
		if (!slash)
			refuse("%s: a number and a time are needed, as in 20/10s", text);
		*s->period = parse_value(text, slash + 1, true, 2, LONGEST_MS / 2);
		*slash = '\0';
	}
	*s->value = parse_value(text, text + strlen(s->prefix), s->is_time, s->min, s->max);
}

/* Gives <e> the name that its address has, with the port that the kernel chose. */
static void endpoint_set_name(struct endpoint *e)
{
	char host[INET6_ADDRSTRLEN], port[8];
	const struct sockaddr *addr = (const struct sockaddr *)&e->addr;
	int flags = NI_NUMERICHOST | NI_NUMERICSERV;

	if (addr->sa_family == AF_UNIX || getnameinfo(addr, e->len, host, sizeof(host), port, sizeof(port), flags) != 0)
		return;
	snprintf(e->name, sizeof(e->name), addr->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* "host:port", "[host]:port", ":port" */
static void parse_endpoint(const char *option, const char *text, bool to_bind, struct endpoint *e)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	char host[128] = "", port[8];
	int error;

	if (sscanf(text, "[%127[^]]]:%7[^\n]", host, port) == 2)
		hints.ai_family = AF_INET6;
	else if (sscanf(text, "%127[^:[]:%7[^\n]", host, port) == 2)
		hints.ai_family = AF_UNSPEC;
	else if (sscanf(text, ":%7[^\n]", port) != 1)
		refuse("%s: '%s' is not of the form address:port", option, text);
	parse_value(option, port, false, !to_bind, 65535);
	hints.ai_flags = to_bind ? AI_PASSIVE : 0;
	error = getaddrinfo(*host ? host : NULL, port, &hints, &found);
	if (error)
		refuse("%s: '%s': %s", option, text, gai_strerror(error));
	memcpy(&e->addr, found->ai_addr, found->ai_addrlen);
	e->len = found->ai_addrlen;
	freeaddrinfo(found);
	endpoint_set_name(e);
}

/* An address, or the path of a unix socket. */
static void parse_admin(const char *text, struct endpoint *e)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&e->addr;

	if (!strchr(text, '/')) {
		parse_endpoint("--admin", text, true, e);
		return;
	}
	if (strlen(text) >= sizeof(un->sun_path))
		refuse("--admin: the path is longer than %zu characters", sizeof(un->sun_path) - 1);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, text);
	strcpy(e->name, text);
	e->len = sizeof(*un);
}

/* ---- log ----------------------------------------------------------------------------------------------------- */

/* One line, one write(): the lines of different threads do not mix. */
__attribute__((format(printf, 2, 3)))
static void say(int level, const char *fmt, ...)
{
	static const char *const names[] = { "EMERG", "ALERT", "CRIT", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG" };
	char line[512];
	struct timespec now;
	struct tm tm;
	va_list args;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	len = strftime(line, sizeof(line), "%F %T", &tm);
	len += (size_t)sprintf(line + len, ".%03ld %s ", now.tv_nsec / 1000000, names[level & 7]);
	len += (size_t)sprintf(line + len, "proxy[%d]: ", (int)getpid());
	va_start(args, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
	va_end(args);
	strcat(line, "\n");
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;                 /* nowhere left to complain */
}

static void keel_says(int level, const char *message, UNUSED void *arg) { say(level, "keel: %s", message); }

static void keel_panics(const char *file, int line, const char *message, UNUSED void *arg)
{
	say(LOG_EMERG, "keel: %s (%s:%d)", message, file, line);
}

#define fail(...) (say(LOG_ALERT, __VA_ARGS__), exit(1))

/* ---- counters ------------------------------------------------------------------------------------------------ */

enum { CLIENT, SERVER };        /* the two sides of a connection */

enum counter {
	ACCEPTED, CLOSED, REFUSED, BYTES_IN, BYTES_OUT,
	ERR_ACCEPT, ERR_CONNECT, ERR_NO_BACKEND, ERR_CLIENT, ERR_SERVER, ERR_IDLE, ERR_GRACE, ERR_MEMORY,
	COUNTERS
};
static const char *const counter_names[COUNTERS] = {
	"CumConns", "ClosedConns", "RefusedConns", "BytesIn", "BytesOut",
	"Errors_accept", "Errors_connect", "Errors_no_backend", "Errors_client_reset", "Errors_server_reset",
	"Errors_idle_timeout", "Errors_grace_over", "Errors_memory",
};

/* What one thread owns. It alone writes its counters, any thread may read them: atomics, but never contended. */
struct worker {
	_Alignas(64) atomic_ullong counters[COUNTERS];
	LIST_HEAD(, conn) conns;                /* touched by this thread, or by one that is isolated */
};

static struct worker workers[KEEL_MAX_THREADS];
static uint64_t start_ns;

static void add(atomic_ullong *counter, unsigned long long n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void count(enum counter which) { add(&workers[keel_tid()].counters[which], 1); }

static unsigned long long total(enum counter which)
{
	unsigned long long sum = 0;

	for (int i = 0; i < KEEL_MAX_THREADS; i++)
		sum += atomic_load_explicit(&workers[i].counters[which], memory_order_relaxed);
	return sum;
}

typedef struct task *task_handler(struct task *t, void *context, unsigned int state);

static struct task *task_make(unsigned long threads, task_handler *process, void *context)
{
	struct task *t = task_new(threads);

	if (t) {
		t->process = process;
		t->context = context;
	}
	return t;
}

/* Sets what <fd> is polled for; it costs nothing where nothing changes. */
static void fd_wait_for(int fd, bool input, bool output)
{
	if (input)
		fd_want_recv(fd);
	else
		fd_stop_recv(fd);
	if (output)
		fd_want_send(fd);
	else
		fd_stop_send(fd);
}

static int in_ms(unsigned int ms) { return tick_add((int)keel_now_ms(), MS_TO_TICKS((int)ms)); }
static bool is_past(int date) { return tick_is_expired(date, (int)keel_now_ms()); }

/* ---- backends and their checks ------------------------------------------------------------------------------- */

struct backend {
	struct endpoint at;
	atomic_bool up;
	atomic_uint conns;
	atomic_ullong total, errors, checks_failed;
	struct task *check;
	/* the check's own, for its handler (a task never runs on two threads at once) or who is isolated */
	int fd;                         /* the socket of the check under way, or -1 */
	int deadline;                   /* of the check under way */
	unsigned int streak;            /* checks in a row that contradict <up> */
};

static struct backend backends[MAX_BACKENDS];
static unsigned int nb_backends;
static atomic_uint next_backend;

/* The next healthy backend, another one than <avoid> where there is one; NULL where none is up. */
static struct backend *backend_pick(const struct backend *avoid)
{
	unsigned int first = atomic_fetch_add_explicit(&next_backend, 1, memory_order_relaxed);
	struct backend *last_resort = NULL;

	for (unsigned int i = 0; i < nb_backends; i++) {
		struct backend *b = &backends[(first + i) % nb_backends];

		if (!atomic_load_explicit(&b->up, memory_order_relaxed))
			continue;
		if (b != avoid)
			return b;
		last_resort = b;
	}
	return last_resort;
}

/* The traffic met an error: do not wait for the date of the next check. Any thread calls this, while the check may be
 * queued or running on any other: keel files a task that all threads may run in a locked wait queue, so its timer may
 * be moved from here. */
static void backend_failed(struct backend *b)
{
	add(&b->errors, 1);
	task_schedule(b->check, in_ms(HASTEN_MS));
}

/* A non-blocking connection attempt, whose end <iocb> is told: the descriptor, or -1 with errno. */
static int connect_to(const struct endpoint *to, void *owner, void (*iocb)(int fd))
{
	int one = 1, error, fd = socket(to->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&to->addr, to->len) < 0 && errno != EINPROGRESS) {
		error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	fd_insert(fd, owner, iocb, 1UL << keel_tid());
	fd_want_send(fd);
	return fd;
}

/* How that attempt stands: 0 established, EINPROGRESS, or the error. */
static int connect_status(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error = 0;

	if (poll(&p, 1, 0) <= 0)
		return EINPROGRESS;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

/* The process ran out of something that will come back: not the backend's fault. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
	       error == EADDRNOTAVAIL || error == EAGAIN;
}

/* The handler may have closed this socket meanwhile, on another thread: then it is woken for nothing. */
static void check_io(int fd)
{
	struct backend *b = fdtab[fd].owner;

	fd_stop_send(fd);
	task_wakeup(b->check, TASK_WOKEN_IO);
}

/* Notes the result of a check; <fall> bad ones in a row take the backend out, <rise> good ones bring it back. */
static void check_result(struct backend *b, int error)
{
	bool up = atomic_load(&b->up);

	if (is_shortage(error))
		return;                         /* says nothing about the backend */
	if (error)
		add(&b->checks_failed, 1);
	b->streak = up == !error ? 0 : b->streak + 1;
	if (b->streak < (up ? cfg.fall : cfg.rise))
		return;
	b->streak = 0;
	atomic_store(&b->up, !up);
	say(up ? LOG_WARNING : LOG_NOTICE, "backend %s is %s: %s", b->at.name, up ? "DOWN" : "UP", strerror(error));
}

/* The check of one backend. Between two checks <expire> is the date of the next one, during a check it is the deadline;
 * either may be hastened from outside, so the handler goes by what it finds and not by why it was woken. */
static struct task *check_process(struct task *t, void *context, UNUSED unsigned int state)
{
	struct backend *b = context;
	int error;

	if (b->fd < 0) {
		b->fd = connect_to(&b->at, b, check_io);
		b->deadline = in_ms(cfg.check_ms);
		error = b->fd < 0 ? errno : EINPROGRESS;
	} else {
		error = connect_status(b->fd);
	}
	if (error == EINPROGRESS && !is_past(b->deadline)) {
		t->expire = b->deadline;
		return t;
	}
	if (b->fd >= 0)
		fd_delete(b->fd);
	b->fd = -1;
	check_result(b, error == EINPROGRESS ? ETIMEDOUT : error);
	/* while the state is in doubt, ask more often */
	t->expire = in_ms(b->streak && cfg.inter_ms > RETRY_MS ? RETRY_MS : cfg.inter_ms);
	return t;
}

/* ---- sources ------------------------------------------------------------------------------------------------- */

/* Who connects, and how much: an entry for each address, in a table for each family. Entries are made when their source
 * comes, and forgotten when it was away for long; a full table evicts those that were. */
enum { IPV4, IPV6, SOURCE_TABLES };
static struct stktable *sources[SOURCE_TABLES];

static void sources_create(void)
{
	static const char *const ids[] = { "sources", "sources6" }, *const types[] = { "ip", "ipv6" };
	unsigned int forget_ms = 2 * cfg.source_rate_ms < FORGET_MS ? FORGET_MS : 2 * cfg.source_rate_ms;
	char line[160], *error = NULL;

	for (int i = 0; i < SOURCE_TABLES; i++) {
		/* connections hold at most --maxconn of the entries: a newcomer always finds room */
		snprintf(line, sizeof(line), "type %s size %u expire %ums "
		         "store conn_cnt,conn_rate(%ums),conn_cur,bytes_in_cnt,bytes_out_cnt",
		         types[i], cfg.maxconn + 100000, forget_ms, cfg.source_rate_ms);
		sources[i] = keel_stktable_new(ids[i], line, &error);
		if (!sources[i])
			fail("cannot create the table of sources: %s", error ? error : strerror(ENOMEM));
	}
}

static unsigned int *source_uint(struct stkctr *s, int type)
{
	return &stktable_data_cast(stktable_data_ptr(s->table, stkctr_entry(s), type), std_t_uint);
}

/* A connection from <addr> has come: counts it and lets <s> hold its source, until source_leave(). False: the source
 * has had its share. Where memory lacks, the connection is served without being counted. */
static bool source_enter(struct stkctr *s, const struct sockaddr_storage *addr)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;
	bool is_v6 = addr->ss_family == AF_INET6;
	struct stktable_key key = {
		.key = is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr,
		.key_len = is_v6 ? sizeof(v6->sin6_addr) : sizeof(v4->sin_addr),
	};
	struct stksess *ts;
	struct freq_ctr *rate;
	unsigned int conns, recent;

	s->table = sources[is_v6 ? IPV6 : IPV4];
	ts = stktable_get_entry(s->table, &key);
	stkctr_set_entry(s, ts);
	if (!ts) {
		count(ERR_MEMORY);
		return true;
	}
	/* one after the other, so that of two that come at once only the second one may be too many */
	stksess_wrlock(ts);
	++*source_uint(s, STKTABLE_DT_CONN_CNT);
	conns = ++*source_uint(s, STKTABLE_DT_CONN_CUR);
	rate = &stktable_data_cast(stktable_data_ptr(s->table, ts, STKTABLE_DT_CONN_RATE), std_t_frqp);
	update_freq_ctr_period(rate, cfg.source_rate_ms, 1);
	recent = read_freq_ctr_period(rate, cfg.source_rate_ms);
	stksess_wrunlock(ts);
	stktable_touch_local(s->table, ts, 0);
	return (!cfg.source_rate || recent <= cfg.source_rate) && (!cfg.source_conns || conns <= cfg.source_conns);
}

static void source_leave(struct stkctr *s)
{
	struct stksess *ts = stkctr_entry(s);

	if (!ts)
		return;
	stksess_wrlock(ts);
	--*source_uint(s, STKTABLE_DT_CONN_CUR);
	stksess_wrunlock(ts);
	stktable_touch_local(s->table, ts, 1);
}

/* ---- connections --------------------------------------------------------------------------------------------- */

/* The bytes that one side sends to the other. */
struct flow {
	char *data;                     /* a buffer, while bytes wait */
	unsigned int head, len;         /* where the waiting bytes begin, and how many there are */
	bool eof;                       /* the source will send no more */
	bool shut;                      /* the end was passed on */
};

struct conn {
	int fd[2];                      /* of the client, and of the server or -1 */
	enum { CONN_WAITING, CONN_CONNECTING, CONN_OPEN } state;
	unsigned int failures;          /* to connect */
	struct flow flow[2];            /* flow[CLIENT]: from the client to the server */
	struct backend *backend;        /* the last one tried */
	struct stkctr source;           /* who the client is */
	struct task *timer;             /* the deadline of the state, or of the idle time */
	int give_up;                    /* when to stop waiting for descriptors or ports */
	LIST_ENTRY(conn) link;          /* among its thread's connections */
};

static struct pool_head *conn_pool, *buffer_pool;

/* How many there are, at most --maxconn. It falls when the last instruction that touches one is over: at zero their
 * world may end. */
static atomic_uint nb_conns;

static void slot_release(void);
static void conn_io(int fd);

/* Sets the deadline of <c>. */
static void conn_arm(struct conn *c, unsigned int ms)
{
	c->timer->expire = in_ms(ms);
	task_queue(c->timer);
}

static void conn_drop_server(struct conn *c)
{
	if (c->fd[SERVER] < 0)
		return;
	fd_delete(c->fd[SERVER]);
	c->fd[SERVER] = -1;
	atomic_fetch_sub(&c->backend->conns, 1);
}

static void conn_close(struct conn *c)
{
	conn_drop_server(c);
	fd_delete(c->fd[CLIENT]);
	task_destroy(c->timer);
	for (int s = CLIENT; s <= SERVER; s++)
		pool_free(buffer_pool, c->flow[s].data);
	source_leave(&c->source);
	LIST_REMOVE(c, link);
	pool_free(conn_pool, c);
	count(CLOSED);
	slot_release();
}

/* A connection attempt has failed: another one follows, the first at once. False: <c> is gone. */
static bool conn_retry(struct conn *c, int error)
{
	bool shortage = is_shortage(error);

	conn_drop_server(c);
	if (!shortage) {
		c->failures++;
		backend_failed(c->backend);
	}
	if (c->failures == MAX_TRIES || (shortage && is_past(c->give_up))) {
		count(ERR_CONNECT);
		conn_close(c);
		return false;
	}
	c->state = CONN_WAITING;
	conn_arm(c, c->failures == 1 && !shortage ? 1 : RETRY_MS);
	return true;
}

/* Begins to connect to a backend, to another one than last time where there is one. False: <c> is gone. */
static bool conn_connect(struct conn *c)
{
	struct backend *b = backend_pick(c->backend);

	if (!b) {
		count(ERR_NO_BACKEND);
		conn_close(c);
		return false;
	}
	c->backend = b;
	c->fd[SERVER] = connect_to(&b->at, c, conn_io);
	if (c->fd[SERVER] < 0)
		return conn_retry(c, errno);
	c->state = CONN_CONNECTING;
	add(&b->total, 1);
	atomic_fetch_add(&b->conns, 1);
	conn_arm(c, cfg.connect_ms);
	return true;
}

/* The flow_*() functions below return false where the connection must be cut. */

/* Takes what the source has sent, into a buffer that is allocated now if need be. */
static bool flow_read(struct conn *c, int from)
{
	struct flow *f = &c->flow[from];
	int fd = c->fd[from];
	size_t room;
	ssize_t got;

	if (!f->data)
		f->data = pool_alloc(buffer_pool);
	if (!f->data) {
		count(ERR_MEMORY);
		return false;
	}
	room = BUFFER_SIZE - f->head - f->len;
	got = recv(fd, f->data + f->head + f->len, room, 0);
	if (got > 0) {
		f->len += (unsigned int)got;
		add(&workers[keel_tid()].counters[from == CLIENT ? BYTES_IN : BYTES_OUT], (unsigned long long)got);
		(from == CLIENT ? stkctr_inc_bytes_in_ctr : stkctr_inc_bytes_out_ctr)(&c->source, (size_t)got);
		if ((size_t)got < room)
			fd_cant_recv(fd);       /* that was all: spare the call that would say EAGAIN */
	} else if (got == 0) {
		f->eof = true;
	} else if (errno == EAGAIN || errno == EINTR) {
		fd_cant_recv(fd);
	} else {
		count(from == CLIENT ? ERR_CLIENT : ERR_SERVER);
		if (from == SERVER)
			backend_failed(c->backend);
		return false;
	}
	return true;
}

/* Sends what waits. */
static bool flow_write(struct conn *c, int from)
{
	struct flow *f = &c->flow[from];
	int fd = c->fd[!from];
	ssize_t sent = send(fd, f->data + f->head, f->len, MSG_NOSIGNAL);

	if (sent >= 0) {
		f->head += (unsigned int)sent;
		f->len -= (unsigned int)sent;
		if (f->len)
			fd_cant_send(fd);
	} else if (errno == EAGAIN || errno == EINTR) {
		fd_cant_send(fd);
	} else if (from == SERVER) {
		count(ERR_CLIENT);
		return false;
	} else {
		/* The server wants no more (perhaps it answered before it had read all): its answer still counts. */
		f->len = 0;
		f->eof = f->shut = true;
	}
	if (!f->len)
		f->head = 0;
	return true;
}

static bool flow_has_room(const struct flow *f) { return !f->eof && f->head + f->len < BUFFER_SIZE; }

/* Moves bytes one way until one of the sides has to be waited for. */
static bool flow_run(struct conn *c, int from)
{
	struct flow *f = &c->flow[from];
	int source = c->fd[from], target = c->fd[!from];

	for (int round = 0; round < ROUNDS; round++) {
		if (flow_has_room(f) && fd_recv_ready(source) && !flow_read(c, from))
			return false;
		if (!f->len || !fd_send_ready(target))
			break;
		if (!flow_write(c, from))
			return false;
	}
	if (f->len)
		return true;
	pool_free(buffer_pool, f->data);
	f->data = NULL;
	if (f->eof && !f->shut) {
		shutdown(target, SHUT_WR);      /* the other half of the connection goes on */
		f->shut = true;
	}
	return true;
}

static void conn_relay(struct conn *c)
{
	if (!flow_run(c, CLIENT) || !flow_run(c, SERVER)) {
		/* the close shall send resets: a cut transfer must not look like a whole one */
		for (int s = CLIENT; s <= SERVER; s++)
			__atomic_fetch_or(&fdtab[c->fd[s]].state, FD_LINGER_RISK, __ATOMIC_RELAXED);
		conn_close(c);
	} else if (c->flow[CLIENT].shut && c->flow[SERVER].shut) {
		conn_close(c);
	} else {
		/* wait for what can make it go on, and for nothing else */
		for (int s = CLIENT; s <= SERVER; s++)
			fd_wait_for(c->fd[s], flow_has_room(&c->flow[s]), c->flow[!s].len > 0);
		/* Later than before: the wait queue finds out by itself when it meets the task at the old date. */
		c->timer->expire = in_ms(cfg.idle_ms);
	}
}

/* Something happened on one of the two sockets. */
static void conn_io(int fd)
{
	struct conn *c = fdtab[fd].owner;

	if (c->state == CONN_CONNECTING) {
		int error = connect_status(c->fd[SERVER]);

		if (error == EINPROGRESS)
			return;
		if (error) {
			conn_retry(c, error);
			return;
		}
		c->state = CONN_OPEN;
		conn_arm(c, cfg.idle_ms);
	}
	if (c->state == CONN_OPEN)
		conn_relay(c);
}

/* The deadline of <c> has come, or the stop wants it to end. */
static struct task *conn_timeout(struct task *t, void *context, unsigned int state)
{
	struct conn *c = context;

	if (state & TASK_WOKEN_OTHER) {
		count(ERR_GRACE);
		conn_close(c);
		return NULL;
	}
	if (!is_past(t->expire))
		return t;               /* conn_io() came first, in the same turn of the loop */
	if (c->state == CONN_CONNECTING)
		return conn_retry(c, ETIMEDOUT) ? t : NULL;
	if (c->state == CONN_WAITING)
		return conn_connect(c) ? t : NULL;
	count(ERR_IDLE);
	conn_close(c);
	return NULL;
}

/* Closes a socket that was just accepted. */
static void conn_refuse(int fd, struct stkctr *source, enum counter why)
{
	count(why);
	close(fd);
	source_leave(source);
	count(CLOSED);
	slot_release();
}

/* Takes over a socket that was just accepted: on this thread, for good. */
static void conn_start(int fd, const struct sockaddr_storage *from)
{
	struct stkctr source;
	struct conn *c;
	struct task *t;
	int one = 1;

	count(ACCEPTED);
	if (!source_enter(&source, from)) {
		conn_refuse(fd, &source, REFUSED);
		return;
	}
	c = pool_zalloc(conn_pool);
	t = task_make(1UL << keel_tid(), conn_timeout, c);
	if (!c || !t) {
		pool_free(conn_pool, c);
		task_destroy(t);
		conn_refuse(fd, &source, ERR_MEMORY);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->fd[CLIENT] = fd;
	c->fd[SERVER] = -1;
	c->source = source;
	c->timer = t;
	c->give_up = in_ms(cfg.connect_ms);
	LIST_INSERT_HEAD(&workers[keel_tid()].conns, c, link);
	fd_insert(fd, c, conn_io, 1UL << keel_tid());
	conn_connect(c);
}

/* ---- listeners ----------------------------------------------------------------------------------------------- */

struct listener {
	struct endpoint at;
	bool is_admin;                  /* its clients are not connections: no slot, and thread 0 alone */
	pthread_mutex_t lock;           /* what follows: read and changed by every thread that accepts */
	int fd;
	enum listener_state {
		LI_READY,
		LI_FULL,                /* pauses until a connection ends: --maxconn is reached */
		LI_SHORT,               /* pauses for a moment: the system is short of descriptors */
		LI_CLOSED,
	} state;
};

static struct listener listeners[MAX_LISTENERS];        /* that of the admin socket is the last */
static unsigned int nb_listeners;
static struct task *unpause;            /* ends the pause of LI_SHORT; all threads schedule it */

/* Goes on after a pause for the reason <why>. */
static void listeners_resume(enum listener_state why)
{
	for (struct listener *l = listeners; l < listeners + nb_listeners; l++) {
		pthread_mutex_lock(&l->lock);
		if (l->state == why) {
			l->state = LI_READY;
			fd_want_recv(l->fd);
		}
		pthread_mutex_unlock(&l->lock);
	}
}

static struct task *unpause_process(struct task *t, UNUSED void *context, UNUSED unsigned int state)
{
	t->expire = TICK_ETERNITY;
	listeners_resume(LI_SHORT);
	return t;
}

static bool slot_take(void)
{
	unsigned int n = atomic_load(&nb_conns);

	do {
		if (n >= cfg.maxconn)
			return false;
	} while (!atomic_compare_exchange_weak(&nb_conns, &n, n + 1));
	return true;
}

/* Whoever gives back the last slot that was taken resumes those that found none. They found that out with their lock
 * held, which listeners_resume() takes after the count has fallen, so none is missed. No lock held. */
static void slot_release(void)
{
	if (atomic_fetch_sub(&nb_conns, 1) == cfg.maxconn)
		listeners_resume(LI_FULL);
}

static void listener_pause(struct listener *l, enum listener_state why)
{
	l->state = why;
	fd_stop_recv(l->fd);
}

static void admin_start(int fd);

/* Takes one connection from the kernel's queue and serves it on this thread. 0, or why there is none: EAGAIN if that
 * queue is empty. */
static int listener_accept_one(struct listener *l)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	int fd = -1, error = EBUSY;
	bool slot = false;

	pthread_mutex_lock(&l->lock);
	if (l->state == LI_READY && !l->is_admin) {
		slot = slot_take();
		if (!slot)
			listener_pause(l, LI_FULL);
	}
	if (l->state == LI_READY) {
		fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		error = fd < 0 ? errno : 0;
		if (error == EAGAIN) {
			fd_cant_recv(l->fd);
		} else if (is_shortage(error)) {
			count(ERR_ACCEPT);
			listener_pause(l, LI_SHORT);
			task_schedule(unpause, in_ms(RETRY_MS));
		}
		/* anything else befell one client, who is gone: the next call takes the next */
	}
	pthread_mutex_unlock(&l->lock);
	if (fd >= 0 && l->is_admin)
		admin_start(fd);
	else if (fd >= 0)
		conn_start(fd, &from);
	else if (slot)
		slot_release();
	return error;
}

/* Connections are waiting: each thread comes here, also several at once. */
static void listener_accept(int fd)
{
	struct listener *l = fdtab[fd].owner;

	for (int i = 0; i < ACCEPT_BATCH; i++)
		if (listener_accept_one(l) != 0)
			break;
}

/* Ends a listener, by the rule that a connection which the kernel has completed is served: it is closed when its queue
 * is empty, or at once where <force> says so. Other threads may be waiting for the lock in listener_accept();
 * fd_delete() does not wait for them, the last one to leave closes the socket. True: done. */
static bool listener_unbind(struct listener *l, bool force)
{
	int error;
	bool closed;

	do
		error = listener_accept_one(l);
	while (!error && !force);
	pthread_mutex_lock(&l->lock);
	if (l->state != LI_CLOSED && (error == EAGAIN || force)) {
		l->state = LI_CLOSED;
		fd_delete(l->fd);
		if (l->at.addr.ss_family == AF_UNIX)
			unlink(l->at.name);
	}
	closed = l->state == LI_CLOSED;
	pthread_mutex_unlock(&l->lock);
	return closed;
}

/* Makes the kernel drop the first packet of every new connection, but not those of handshakes under way. Such a client
 * asks again a second later and is then refused, or accepted by the successor; without this it may see its connection
 * accepted by the kernel in the instant before close(), and then reset. False: not possible here. */
static bool listener_drop_syns(const struct listener *l)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),         /* the flags of the TCP header */
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),      /* SYN, ACK */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

	return setsockopt(l->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

/* Opens the socket of <l>: 0 or -1 with errno. */
static int listener_bind(struct listener *l)
{
	const struct sockaddr *addr = (const struct sockaddr *)&l->at.addr;
	int family = addr->sa_family, one = 1;
	struct stat st;

	pthread_mutex_init(&l->lock, NULL);
	l->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -1;
	if (family == AF_UNIX && stat(l->at.name, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(l->at.name);     /* a previous process left it */
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!l->is_admin)               /* a successor listens there too, before this process is told to stop */
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(l->fd, addr, l->at.len) < 0 || listen(l->fd, 4096) < 0)
		return -1;
	getsockname(l->fd, (struct sockaddr *)&l->at.addr, &l->at.len);
	endpoint_set_name(&l->at);
	return 0;
}

/* ---- admin socket -------------------------------------------------------------------------------------------- */

/* An answer is written into a file in memory first: keel's dumps are written at once and whole, and a reader that is
 * slow or gone must not hold thread 0. From there it is sent as fast as the reader takes it; no input is read
 * meanwhile. */
struct admin {
	uint64_t last_ns;               /* when it last did something; 0: this session is free */
	int fd, answer;                 /* the socket; the file in memory */
	off_t sent, size;               /* of the answer */
	bool closing;                   /* when all is sent */
	unsigned int len;
	char line[ADMIN_LINE];          /* the input so far, without superfluous blanks */
};

static struct admin admins[ADMIN_SESSIONS];

/* The phases of the process, known to thread 0 alone. */
static enum { RUNNING, LAST_ACCEPTS, DRAINING, QUITTING } phase;

static void admin_close(struct admin *a)
{
	fd_delete(a->fd);
	close(a->answer);
	a->last_ns = 0;
}

static int show_info(int out)
{
	dprintf(out, "Name: proxy\nVersion: %s\nPid: %d\n", keel_version(), (int)getpid());
	dprintf(out, "Uptime_ms: %llu\n", (unsigned long long)((keel_now_ns() - start_ns) / 1000000));
	dprintf(out, "Nbthread: %u\nStopping: %d\n", keel_nbthread(), phase != RUNNING);
	dprintf(out, "Maxconn: %u\nCurrConns: %u\n", cfg.maxconn, atomic_load(&nb_conns));
	dprintf(out, "Tasks: %d\nDescriptors: %d\n", total_allocated_tasks(), keel_used_fds());
	dprintf(out, "PoolBytesUsed: %llu\n", pool_total_used());
	for (enum counter i = 0; i < COUNTERS; i++)
		dprintf(out, "%s: %llu\n", counter_names[i], total(i));
	for (struct backend *b = backends; b < backends + nb_backends; b++)
		dprintf(out, "Backend %s: %s conns=%u total=%llu errors=%llu checks_failed=%llu\n", b->at.name,
		        atomic_load(&b->up) ? "UP" : "DOWN", atomic_load(&b->conns), atomic_load(&b->total),
		        atomic_load(&b->errors), atomic_load(&b->checks_failed));
	return 0;
}

/* A filter by key suits one of the tables alone. */
static void show_table(int out, const char *filter)
{
	bool suits = false;

	for (int i = 0; i < SOURCE_TABLES; i++)
		if (keel_dump_stktable(sources[i], out, filter) != -EINVAL)
			suits = true;
	if (!suits)
		dprintf(out, "Wrong filter, try 'help'.\n");
}

static void show_pools(int out, const char *words)
{
	if (keel_dump_pools_with(out, words) == -EINVAL)
		dprintf(out, "Unknown words, try 'help'.\n");
}

static int show_help(int out);

static const struct command {
	const char *name;
	int (*run)(int out);
	const char *help;
	void (*run_with)(int out, const char *rest);    /* of the line */
} commands[] = {
	{ "help", show_help, "this list", NULL },
	{ "show info", show_info, "the process: connections, bytes, errors, backends", NULL },
	{ "show pools", NULL, "memory, by kind of object; also '... byname|bysize|byusage match PREFIX detailed COUNT'", show_pools },
	{ "show tasks", keel_dump_tasks, "tasks and tasklets", NULL },
	{ "show fd", keel_dump_fds, "file descriptors", NULL },
	{ "show table", NULL, "sources; also '... key 10.0.0.1', '... data.conn_rate gt 10 data.conn_cur ge 1'", show_table },
	{ "show callouts", keel_dump_callouts, "callouts, by the thread that runs them", NULL },
	{ "quit", NULL, "end this session", NULL },
};
#define NB_COMMANDS (sizeof(commands) / sizeof(*commands))

static int show_help(int out)
{
	for (size_t i = 0; i < NB_COMMANDS; i++)
		dprintf(out, "%-13s %s\n", commands[i].name, commands[i].help);
	return 0;
}

/* The command that <line> begins with, followed by <*rest>; NULL: there is none. */
static const struct command *find_command(const char *line, const char **rest)
{
	for (const struct command *c = commands; c < commands + NB_COMMANDS; c++) {
		size_t len = strlen(c->name);

		*rest = line + len;
		if (!strncmp(line, c->name, len) && (!**rest || (**rest == ' ' && c->run_with)))
			return c;
	}
	return NULL;
}

/* A line is complete: writes the answer behind those that wait already. */
static void admin_answer(struct admin *a)
{
	const struct command *command = NULL;
	const char *rest;
	bool complete = a->len < ADMIN_LINE - 1;

	if (a->len && a->line[a->len - 1] == ' ')
		a->len--;
	a->line[a->len] = '\0';
	if (complete)
		command = find_command(a->line, &rest);
	if (!command && a->len)
		dprintf(a->answer, "Unknown command, try 'help'.\n");
	else if (command && command->run)
		command->run(a->answer);
	else if (command && command->run_with)
		command->run_with(a->answer, rest);
	else if (command)
		a->closing = true;
	a->len = 0;
}

/* Takes one character of input. What is too long for a line is dropped: no command is that long. */
static void admin_type(struct admin *a, char c)
{
	bool blank = isspace((unsigned char)c);

	if (c == '\n')
		admin_answer(a);
	else if (blank && (!a->len || a->line[a->len - 1] == ' '))
		return;
	else if (a->len < ADMIN_LINE - 1)
		a->line[a->len++] = blank ? ' ' : c;
}

/* Reads a little, so that little is answered at a time; false: the session is over. */
static bool admin_read(struct admin *a)
{
	char input[ADMIN_LINE];
	ssize_t n = recv(a->fd, input, sizeof(input), 0);

	if (n < 0) {
		fd_cant_recv(a->fd);
		return errno == EAGAIN;
	}
	a->sent = 0;
	if (ftruncate(a->answer, 0) < 0 || lseek(a->answer, 0, SEEK_SET) < 0)
		return false;
	for (ssize_t i = 0; i < n && !a->closing; i++)
		admin_type(a, input[i]);
	if (n == 0) {
		admin_answer(a);                /* the last line may lack its end */
		a->closing = true;
	}
	a->size = lseek(a->answer, 0, SEEK_CUR);
	return true;
}

/* Sends what waits; false: the session is over. */
static bool admin_write(struct admin *a)
{
	ssize_t n = sendfile(a->fd, a->answer, &a->sent, (size_t)(a->size - a->sent));

	if (n < 0)
		fd_cant_send(a->fd);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void admin_io(int fd)
{
	struct admin *a = fdtab[fd].owner;
	bool going = a->sent < a->size ? admin_write(a) : admin_read(a);

	if (!going || (a->closing && a->sent == a->size)) {
		admin_close(a);
		return;
	}
	fd_wait_for(fd, a->sent == a->size, a->sent < a->size);
	a->last_ns = keel_now_ns();
}

static void admin_start(int fd)
{
	int answer = memfd_create("answer", MFD_CLOEXEC);
	struct admin *a = admins;

	if (answer < 0) {
		say(LOG_WARNING, "no administration: %s", strerror(errno));
		close(fd);
		return;
	}
	for (int i = 1; i < ADMIN_SESSIONS; i++)
		if (admins[i].last_ns < a->last_ns)
			a = &admins[i];
	if (a->last_ns)
		admin_close(a);
	*a = (struct admin){ .last_ns = keel_now_ns(), .fd = fd, .answer = answer };
	fd_insert(fd, a, admin_io, 1UL << keel_tid());
	fd_want_recv(fd);
}

/* ---- soft stop ----------------------------------------------------------------------------------------------- */

static unsigned int stop_signals;
static int unbind_date, kill_date;
static struct task *supervisor;
static int signals;             /* a signalfd: a signal is read like any other input, by thread 0 */

static void signal_io(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == sizeof(info))
		stop_signals++;
	fd_cant_recv(fd);
	task_wakeup(supervisor, TASK_WOKEN_SIGNAL);
}

static void stop_begin(void)
{
	bool filtered = true;

	for (unsigned int i = 0; i < nb_listeners; i++)
		if (!listeners[i].is_admin && !listener_drop_syns(&listeners[i]))
			filtered = false;
	say(LOG_NOTICE, "stopping: no new connections, %u to finish within %ums", atomic_load(&nb_conns), cfg.grace_ms);
	unbind_date = in_ms(filtered ? LAST_SYN_MS : 0);
	kill_date = in_ms(cfg.grace_ms);
	phase = LAST_ACCEPTS;
}

static bool stop_unbind(bool force)
{
	bool done = true;

	for (unsigned int i = 0; i < nb_listeners; i++)
		if (!listeners[i].is_admin && !listener_unbind(&listeners[i], force))
			done = false;
	return done;
}

/* A connection is closed by its own thread, but while no other thread runs this one may look who there is, and wake
 * them all. */
static void stop_connections(void)
{
	struct conn *c;

	say(LOG_WARNING, "the grace time is over: %u connections are closed by the stop", atomic_load(&nb_conns));
	thread_isolate();
	for (unsigned int i = 0; i < keel_nbthread(); i++)
		LIST_FOREACH(c, &workers[i].conns, link)
			task_wakeup(c->timer, TASK_WOKEN_OTHER);
	thread_release();
}

/* The connections are gone: what served them goes next. A check may be queued on any thread, but none runs while this
 * one is alone. */
static void stop_services(void)
{
	for (struct listener *l = listeners; l < listeners + nb_listeners; l++)
		listener_unbind(l, true);       /* that of the admin socket is left */
	for (int i = 0; i < ADMIN_SESSIONS; i++)
		if (admins[i].last_ns)
			admin_close(&admins[i]);
	task_kill(unpause);
	thread_isolate();
	for (struct backend *b = backends; b < backends + nb_backends; b++) {
		if (b->fd >= 0)
			fd_delete(b->fd);
		task_kill(b->check);
	}
	thread_release();
	fd_delete(signals);
}

/* How many tasks exist: exact while no other thread runs. */
static int tasks_left(void)
{
	int n;

	thread_isolate();
	n = total_allocated_tasks();
	thread_release();
	return n;
}

/* Woken by a signal, then by its timer until the end. It looks at the counts instead of being told: so nobody else
 * holds a reference to it, and it may go at any time. */
static struct task *supervise(struct task *t, UNUSED void *context, UNUSED unsigned int state)
{
	if (phase == RUNNING)
		stop_begin();
	if (stop_signals > 1)
		unbind_date = kill_date = in_ms(0);
	if (phase == LAST_ACCEPTS && is_past(unbind_date) && stop_unbind(is_past(kill_date))) {
		say(LOG_NOTICE, "stopping: listeners closed, %u connections left", atomic_load(&nb_conns));
		phase = DRAINING;
	}
	if (phase == DRAINING && !atomic_load(&nb_conns)) {
		stop_services();
		phase = QUITTING;
	} else if (phase == DRAINING && is_past(kill_date)) {
		stop_connections();
		kill_date = TICK_ETERNITY;
	} else if (phase == QUITTING && tasks_left() == 1 + SOURCE_TABLES) {
		keel_stop();                    /* every task has gone but this one, and those of the tables */
		task_destroy(t);
		return NULL;
	}
	t->expire = in_ms(STOP_STEP_MS);
	return t;
}

/* ---- start --------------------------------------------------------------------------------------------------- */

/* Called by keel on each thread before its loop: thread 0 sets everything going, the others find it. */
static int thread_start(unsigned int tid, UNUSED void *arg)
{
	if (tid != 0)
		return 0;
	keel_update_clock();
	supervisor = task_make(1UL, supervise, NULL);
	unpause = task_make(keel_all_threads_mask(), unpause_process, NULL);
	for (struct backend *b = backends; b < backends + nb_backends; b++)
		b->check = task_make(keel_all_threads_mask(), check_process, b);
	if (total_allocated_tasks() != (int)(SOURCE_TABLES + 2 + nb_backends))
		return -ENOMEM;
	/* spread over the interval */
	for (unsigned int i = 0; i < nb_backends; i++)
		task_schedule(backends[i].check, in_ms(1 + cfg.inter_ms * i / nb_backends));
	fd_insert(signals, &signals, signal_io, 1UL);
	fd_want_recv(signals);
	for (struct listener *l = listeners; l < listeners + nb_listeners; l++) {
		fd_insert(l->fd, l, listener_accept, l->is_admin ? 1UL : keel_all_threads_mask());
		fd_want_recv(l->fd);
	}
	say(LOG_NOTICE, "ready: %u threads, at most %u connections", keel_nbthread(), cfg.maxconn);
	return 0;
}

/* Fills in <cfg>, the listeners and the backends. A missing value counts as an empty one, which no option takes. */
static void parse_options(int argc, char **argv)
{
	struct endpoint admin = { .len = 0 };

	for (int i = 1; i < argc; i += 2) {
		const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(option, "--help")) {
			fputs(usage, stdout);
			exit(0);
		}
		if (!strcmp(option, "--version")) {
			printf("proxy on keel %s\n", keel_version());
			exit(0);
		}
		if (nb_listeners == MAX_LISTENERS || nb_backends == MAX_BACKENDS)
			refuse("at most %d listeners and %d backends", MAX_LISTENERS - 1, MAX_BACKENDS - 1);
		if (!strcmp(option, "--listen"))
			parse_endpoint(option, value, true, &listeners[nb_listeners++].at);
		else if (!strcmp(option, "--backend"))
			parse_endpoint(option, value, false, &backends[nb_backends++].at);
		else if (!strcmp(option, "--admin"))
			parse_admin(value, &admin);
		else
			parse_setting(option, value);
	}
	if (!nb_listeners || !nb_backends)
		refuse("at least one --listen ADDR:PORT and one --backend ADDR:PORT are needed");
	if (admin.len)
		listeners[nb_listeners++] = (struct listener){ .at = admin, .is_admin = true };
}

/* Makes --maxconn and the limit of descriptors fit each other; returns how many descriptors there may be. A connection
 * takes two, and what is not a connection must never lack one. */
static unsigned int plan_descriptors(void)
{
	rlim_t threads = cfg.threads ? cfg.threads : (rlim_t)sysconf(_SC_NPROCESSORS_ONLN);
	rlim_t reserve = 24 + 2 * threads + nb_listeners + nb_backends, wanted;
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur > 1000000)
		limit.rlim_cur = 1000000;
	if (!cfg.maxconn)
		cfg.maxconn = limit.rlim_cur > reserve + 2 ? (unsigned int)(limit.rlim_cur - reserve) / 2 : 1;
	wanted = 2 * cfg.maxconn + reserve;
	if (limit.rlim_cur < wanted)
		limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fail("cannot set the limit of descriptors to %ju: %s", (uintmax_t)limit.rlim_cur, strerror(errno));
	if (limit.rlim_cur < wanted)
		say(LOG_WARNING, "%ju descriptors are allowed, %u connections may need %ju: accepting may pause",
		    (uintmax_t)limit.rlim_cur, cfg.maxconn, (uintmax_t)wanted);
	return (unsigned int)limit.rlim_cur;
}

/* Before there are threads: they inherit the mask. */
static void catch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals < 0)
		fail("cannot create a signalfd: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct keel_config config = KEEL_CONFIG_INIT;
	int error;

	parse_options(argc, argv);
	config.nbthread = cfg.threads;
	config.maxsock = plan_descriptors();
	config.log = keel_says;
	config.panic = keel_panics;
	for (struct listener *l = listeners; l < listeners + nb_listeners; l++) {
		if (listener_bind(l) < 0)
			fail("cannot listen on %s: %s", l->at.name, strerror(errno));
		say(LOG_NOTICE, "%s on %s", l->is_admin ? "administration" : "listening", l->at.name);
	}
	for (unsigned int i = 0; i < nb_backends; i++) {
		backends[i].fd = -1;
		atomic_store(&backends[i].up, true);
	}
	catch_signals();
	error = keel_init(&config);
	if (error)
		fail("cannot initialise keel: %s", strerror(-error));
	start_ns = keel_now_ns();
	conn_pool = create_pool("conn", sizeof(struct conn), 0);
	buffer_pool = create_pool("buffer", BUFFER_SIZE, 0);
	if (!conn_pool || !buffer_pool)
		fail("cannot create the pools: %s", strerror(errno));
	sources_create();
	error = keel_run(thread_start, NULL);
	if (error)
		fail("cannot start: %s", strerror(-error));
	for (int i = 0; i < SOURCE_TABLES; i++)
		keel_stktable_free(sources[i]);

	say(LOG_NOTICE, "stopped: accepted=%llu closed=%llu bytes_in=%llu bytes_out=%llu "
	    "left: pool_bytes=%llu fds=%d tasks=%d", total(ACCEPTED), total(CLOSED), total(BYTES_IN), total(BYTES_OUT),
	    pool_total_used(), keel_used_fds(), total_allocated_tasks());
	keel_deinit();
	return 0;
}
