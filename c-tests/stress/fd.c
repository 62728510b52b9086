/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same 64 descriptor numbers in the hands of 8 threads, and one that keel
 * does not know.
 *
 *     fd [seconds]
 *
 * Listeners that all threads share, their connections, and eventfds live on
 * the numbers, are deleted from their callbacks, from tasks and from outside,
 * with the lock held that their callbacks want and without, are taken over,
 * stopped and wanted again; duplicates outlive them; a number is used again at
 * once. Threads leave keel and come back.
 *
 * Seen are: a number that is closed twice, never, or under somebody who is
 * inside its callback (the program has the close() that the library calls); a
 * callback for who is gone, for the number's next owner, or on two threads
 * where one was asked for (INV-60 to 63, 84); events and bytes that are lost
 * (INV-66); and what hangs.
 *
 * Default: three seconds; `make fd-stress` is a minute. SEED in the
 * environment repeats the random numbers.
 *
 * SHOWS: FD-1, FD-3, INV-60, INV-61, INV-62, INV-63, INV-66, INV-84 */

#define _GNU_SOURCE             /* accept4 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../api/pollers.h"
#include "../race/close.h"
#include "../race/cpus.h"

#define THREADS 8
#define CLIENTS 3
#define BATCH   12              /* connections of a client at a time */
#define NUMBERS 64
#define MAXSOCK 128
#define PARKED  256             /* where numbers begin that are in nobody's way */
#define EVENTS  20
#define REQUEST 16
#ifndef HANG
#define HANG    60
#endif
#define TOMBS   4096
#define ALIVE   0xa11fe0fdu
#define DEAD    0xdeadf00du

enum kind {
	LISTENER,
	SERVED,                 /* its client gets all of its bytes */
	DROPPED,                /* may be deleted at any moment */
	EVENT,
	KINDS
};

enum { LIVES, DELETED, CLOSED };

/* What a number is used for, once; the owner in the table. */
struct life {
	unsigned int magic;
	enum kind kind;
	int fd;
	unsigned int generation;
	int one;                /* thread at a time */
	int edge;
	int tcp;                /* a listener's */
	atomic_int state;
	atomic_int inside;
	atomic_int has_rung;
	/* Under the number's lock. */
	unsigned int got, sent;
	char bytes[REQUEST + 1];
	uint64_t rung;          /* since when an event waits to be seen */
};

static struct number {
	pthread_mutex_t lock;
	struct life *life;              /* under the lock: nobody deleted it yet */
	struct life *_Atomic open;      /* until close() */
} numbers[NUMBERS];
static atomic_int first;                /* what numbers[0] is; 0 before the start */

static int unix_listener, tcp_listener, plug;
static struct sockaddr_un unix_address;
static struct sockaddr_in tcp_address;

/* In this order. */
static atomic_int no_more_clients, over, quit;
static atomic_int listeners[2], events;
static atomic_ulong begun[KINDS], closed, callbacks, deletes[3], takeovers, lost_takeovers, served, dropped,
	full, leaves;

static struct number *number_of(int fd)
{
	int at = atomic_load(&first);

	return at && fd >= at && fd < at + NUMBERS ? &numbers[fd - at] : NULL;
}

static void flag(int fd, unsigned int bit)
{
	__atomic_fetch_or(&fdtab[fd].state, bit, __ATOMIC_RELAXED);
}

/* Without locks: what hangs does not change. */
static void tell_lives(void)
{
	static const char *const names[] = { "listener", "served", "dropped", "event" };

	for (int i = 0; i < NUMBERS; i++) {
		const struct life *l = atomic_load(&numbers[i].open);

		if (l)
			fprintf(stderr, "%d: %s%s%s%s, got %u, sent %u%s, %d inside\n", l->fd, names[l->kind],
			        l->one ? ", one thread's" : "", l->edge ? ", edges" : "",
			        atomic_load(&l->state) == DELETED ? ", deleted" : "", l->got, l->sent,
			        l->rung ? ", rung" : "", atomic_load(&l->inside));
	}
}

/* What hangs shows in the table. */
#define in_time(condition, ...) \
	do { \
		if (!(condition)) { \
			tell_lives(); \
			keel_dump_fds(2); \
			broken(__FILE__, __LINE__, __VA_ARGS__); \
		} \
	} while (0)

/* --- the end of a life ----------------------------------------------------- */

/* Whoever still looks finds a dead one; then it is freed, which checkers see. */
static void bury(struct life *l)
{
	static struct life *_Atomic tombs[TOMBS];
	static atomic_uint next;

	l->magic = DEAD;
	free(atomic_exchange(&tombs[atomic_fetch_add(&next, 1) % TOMBS], l));
}

/* The library's calls come here as well. */
int close(int fd)
{
	struct number *n = number_of(fd);
	struct life *l = n ? atomic_exchange(&n->open, NULL) : NULL;

	if (l) {
		int state = atomic_exchange(&l->state, CLOSED);

		must(state != LIVES, "%d is closed, but nobody deleted it", fd);
		must(state == DELETED, "%d is closed twice", fd);
		must(atomic_load(&l->inside) == 0, "%d is closed while %d threads are inside", fd,
		     atomic_load(&l->inside));
		if (l->kind == LISTENER)
			atomic_fetch_sub(&listeners[l->tcp], 1);
		if (l->kind == EVENT)
			atomic_fetch_sub(&events, 1);
		atomic_fetch_add(&closed, 1);
		bury(l);
	}
	must(system_close(fd) == 0, "%d is closed, but it is not open", fd);
	return 0;
}

/* The lock is held: from here on the number is its deleter's alone. */
static struct life *doom(struct number *n)
{
	struct life *l = n->life;

	n->life = NULL;
	must(atomic_exchange(&l->state, DELETED) == LIVES, "%d is deleted twice", l->fd);
	return l;
}

enum { IN_CALLBACK, IN_TASK, OUTSIDE };

/* With the lock held, which it gives back. Threads inside the callback may be
 * waiting for it. */
static void end_life(struct number *n, int where)
{
	struct life *l = doom(n);
	int fd = l->fd;

	atomic_fetch_add(&deletes[where], 1);
	if (where == IN_CALLBACK)
		atomic_fetch_sub(&l->inside, 1);
	if (dice(2)) {
		fd_delete(fd);
		pthread_mutex_unlock(&n->lock);
	} else {
		pthread_mutex_unlock(&n->lock);
		fd_delete(fd);
	}
}

/* --- lives ----------------------------------------------------------------- */

static void on_report(int fd);

static void begin(int fd, enum kind kind, int tcp)
{
	struct number *n = number_of(fd);
	struct life *l = calloc(1, sizeof(*l));
	unsigned long mask = 1ul << dice(THREADS);

	must(n && l, "no memory");
	l->magic = ALIVE;
	l->kind = kind;
	l->tcp = tcp;
	l->fd = fd;
	l->generation = __atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED);
	l->one = kind != LISTENER && dice(3);
	l->edge = kind != LISTENER && dice(4) == 0;
	if (kind == LISTENER)
		mask = keel_all_threads_mask();
	else if (!l->one)
		mask |= 1ul << dice(THREADS) | 1ul << dice(THREADS);
	pthread_mutex_lock(&n->lock);
	must(atomic_exchange(&n->open, l) == NULL && !n->life, "%d is two things at once", fd);
	n->life = l;
	atomic_fetch_add(&begun[kind], 1);
	fd_insert(fd, l, on_report, mask);
	if (l->edge)
		flag(fd, FD_ET_POSSIBLE);
	/* Its file stays open; few forget to say so. */
	if (kind == LISTENER && dice(8))
		flag(fd, FD_CLONED);
	if (kind == DROPPED && dice(2))
		flag(fd, FD_LINGER_RISK);
	fd_want_recv(fd);
	pthread_mutex_unlock(&n->lock);
}

/* A number that is none of ours is given back, or stopped up where a thread that
 * left had it: everybody would get that one from now on. */
static int fits(int fd)
{
	must(fd >= 0 || errno == EAGAIN || errno == ECONNABORTED || errno == EINTR, "no descriptor: %s",
	     strerror(errno));
	if (fd >= 0 && number_of(fd))
		return 1;
	if (fd >= 0) {
		if (fd < atomic_load(&first))
			must(dup3(plug, fd, O_CLOEXEC) == fd, "no duplicate: %s", strerror(errno));
		else
			close(fd);
		atomic_fetch_add(&full, 1);
	}
	return 0;
}

/* Counted before they begin, so that there never are more. */
static void begin_event(void)
{
	int fd;

	if (atomic_fetch_add(&events, 1) < EVENTS && !atomic_load(&over)) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fits(fd)) {
			begin(fd, EVENT, 0);
			return;
		}
	}
	atomic_fetch_sub(&events, 1);
}

static void begin_listener(int tcp)
{
	int fd;

	if (atomic_fetch_add(&listeners[tcp], 1) < 2 && !atomic_load(&over)) {
		fd = fcntl(tcp ? tcp_listener : unix_listener, F_DUPFD_CLOEXEC, 0);
		if (fits(fd)) {
			begin(fd, LISTENER, tcp);
			return;
		}
	}
	atomic_fetch_sub(&listeners[tcp], 1);
}

static void wants(struct life *l)
{
	if (l->sent < l->got)
		fd_want_send(l->fd);
	else
		fd_want_recv(l->fd);
}

/* With the lock held: reads what there is and answers. True at its end. */
static int serve(struct life *l)
{
	ssize_t n;
	uint64_t count;

	if (l->kind == EVENT) {
		if (read(l->fd, &count, sizeof(count)) > 0)
			l->rung = 0;
		fd_cant_recv(l->fd);
		return l->rung == 0 && (atomic_load(&over) || dice(4) == 0);
	}
	for (;;) {
		while (l->sent < l->got) {
			n = send(l->fd, l->bytes + l->sent, l->got - l->sent, MSG_NOSIGNAL);
			if (n < 0)
				return 1;
			l->sent += (unsigned int)n;
		}
		if (fd_send_active(l->fd)) {
			fd_stop_send(l->fd);
			fd_want_recv(l->fd);
		}
		n = read(l->fd, l->bytes + l->got, sizeof(l->bytes) - l->got);
		if (n < 0 && errno == EAGAIN) {
			fd_cant_recv(l->fd);
			return 0;
		}
		if (n <= 0) {
			must(l->kind == DROPPED || l->sent == REQUEST, "a client is gone after %u bytes: %s",
			     l->sent, n ? strerror(errno) : "end");
			return 1;
		}
		l->got += (unsigned int)n;
		must(l->got <= REQUEST, "more bytes than were sent");
		/* At times when the socket says that it can. */
		if (!l->edge && dice(2)) {
			fd_stop_recv(l->fd);
			fd_want_send(l->fd);
			return 0;
		}
	}
}

static void accepts(struct number *n, struct life *l)
{
	int locked = dice(2), fds[4], have = 0;

	/* It cannot be closed meanwhile, deleted or not. */
	if (locked)
		pthread_mutex_lock(&n->lock);
	for (unsigned int i = 1 + dice(4); i; i--) {
		fds[have] = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fits(fds[have]))
			have++;
		else if (fds[have] < 0)
			break;
	}
	if (locked)
		pthread_mutex_unlock(&n->lock);
	while (have--) {
		enum kind kind = dice(3) ? DROPPED : SERVED;

		must(send(fds[have], kind == SERVED ? "S" : "D", 1, MSG_NOSIGNAL) == 1, "no greeting: %s",
		     strerror(errno));
		begin(fds[have], kind, 0);
	}
}

static void on_report(int fd)
{
	struct life *l = fdtab[fd].owner;
	struct number *n = number_of(fd);

	must(l && l->magic == ALIVE && atomic_load(&l->state) != CLOSED, "%d: a callback for who is gone", fd);
	must(n && l->fd == fd && l->generation == __atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED),
	     "%d: a callback for another life", fd);
	must(atomic_fetch_add(&l->inside, 1) == 0 || !l->one, "%d: two threads are inside", fd);
	/* Nothing can have happened to it, nor ever does to the other end. */
	must(l->kind != EVENT || l->edge || atomic_load(&l->has_rung), "%d: a report of another life", fd);
	must((l->kind != EVENT && l->kind != LISTENER) ||
	     !(__atomic_load_n(&fdtab[fd].state, __ATOMIC_RELAXED) & (FD_POLL_ERR | FD_POLL_HUP)),
	     "%d: a hang-up of another life", fd);
	atomic_fetch_add_explicit(&callbacks, 1, memory_order_relaxed);
	/* Long enough for others to run into it. */
	if (dice(30) == 0)
		nap(dice(300));
	if (l->kind == LISTENER)
		accepts(n, l);
	pthread_mutex_lock(&n->lock);
	/* Another thread may have deleted it, which does not end it before we leave. */
	if (n->life == l && (l->kind == LISTENER ? dice(100) == 0 : serve(l))) {
		int listened = l->kind == LISTENER, tcp = l->tcp;

		end_life(n, IN_CALLBACK);
		/* The next user of the number, if this closed it. */
		if (listened)
			begin_listener(tcp);
		else if (dice(2))
			begin_event();
		return;
	}
	pthread_mutex_unlock(&n->lock);
	must(l->magic == ALIVE && fdtab[fd].owner == l, "%d is gone while a thread is inside", fd);
	atomic_fetch_sub(&l->inside, 1);
}

/* --- what everybody does to others ----------------------------------------- */

/* A duplicate, out of the way, that outlives its original. */
static int keep_open(struct life *l)
{
	int copy = fcntl(l->fd, F_DUPFD_CLOEXEC, PARKED);

	must(copy >= 0, "no duplicate: %s", strerror(errno));
	if (dice(8))
		flag(l->fd, FD_CLONED);
	return copy;
}

static void ring(struct life *l)
{
	uint64_t one = 1;

	if (!l->rung)
		l->rung = keel_now_ns();
	atomic_store(&l->has_rung, 1);
	must(write(l->fd, &one, sizeof(one)) == sizeof(one), "an event does not ring");
}

/* With the lock held. True if it is the caller's then. */
static int take_over(struct life *l)
{
	int fd = l->fd;

	if (l->kind == LISTENER || dice(8) == 0) {
		must(fd_takeover(fd, &numbers) == -1, "%d is taken over from a stranger", fd);
		return 0;
	}
	if (fd_takeover(fd, l)) {
		atomic_fetch_add(&lost_takeovers, 1);
		return 0;
	}
	must(__atomic_load_n(&fdtab[fd].thread_mask, __ATOMIC_RELAXED) == 1ul << keel_tid(), "%d is not its taker's", fd);
	must(atomic_load(&l->inside) == 0, "%d is taken over while a thread is inside", fd);
	must(!fd_active(fd), "something is wanted of %d after a takeover", fd);
	atomic_fetch_add(&takeovers, 1);
	wants(l);
	return 1;
}

/* Returns a duplicate to be closed later, or -1. */
static int mischief(int where)
{
	struct number *n = &numbers[dice(NUMBERS)];
	struct life *l;
	int copy = -1;

	for (int tcp = 0; tcp < 2; tcp++)
		if (atomic_load(&listeners[tcp]) == 0 || dice(20) == 0)
			begin_listener(tcp);
	if (dice(4) == 0)
		begin_event();
	pthread_mutex_lock(&n->lock);
	l = n->life;
	if (!l) {
		pthread_mutex_unlock(&n->lock);
		return -1;
	}
	switch (dice(10)) {
	case 0:
	case 1:
		if (l->kind == SERVED || (l->kind == LISTENER && dice(20)))
			break;
		if (dice(4) == 0)
			copy = keep_open(l);
		end_life(n, where);
		return copy;
	case 2:
	case 3:
	case 4:
		/* Edges may have gone to the last owner. */
		if (where == IN_TASK && take_over(l) && l->edge && serve(l)) {
			end_life(n, where);
			return -1;
		}
		break;
	case 5:
		fd_stop_both(l->fd);
		if (dice(2))
			spin(dice(20));
		wants(l);
		/* Who is told of changes only looks for what came meanwhile. */
		if (l->edge && fd_recv_ready(l->fd) && serve(l)) {
			end_life(n, where);
			return -1;
		}
		break;
	case 6:
		fd_may_both(l->fd);
		break;
	default:
		if (l->kind == EVENT)
			ring(l);
	}
	pthread_mutex_unlock(&n->lock);
	return copy;
}

static struct task *tasks[THREADS];

static struct task *plays(struct task *t, void *ctx, unsigned int state)
{
	int *copy = ctx;

	(void)state;
	if (*copy >= 0)
		close(*copy);
	*copy = -1;
	t->expire = TICK_ETERNITY;
	if (atomic_load(&over))
		return t;
	for (int i = 0; i < 4 && *copy < 0; i++)
		*copy = mischief(IN_TASK);
	if (dice(2))
		task_wakeup(t, TASK_WOKEN_MSG);
	else
		t->expire = tick_add((int)keel_now_ms(), 1);
	return t;
}

static void *outsider(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		int copy = mischief(OUTSIDE);

		if (dice(8) == 0)
			nap(dice(1000));
		if (copy >= 0)
			close(copy);
	}
	return NULL;
}

static atomic_int entered;

static void *loops(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;
	int copy = -1;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	must(tasks[id] = task_new_here(), "no task");
	tasks[id]->process = plays;
	tasks[id]->context = &copy;
	atomic_fetch_add(&entered, 1);
	while (!atomic_load(&first))
		sched_yield();
	task_wakeup(tasks[id], TASK_WOKEN_INIT);
	while (!atomic_load(&quit)) {
		keel_poll_once(20);
		if (dice(3000) == 0) {
			keel_thread_leave();
			atomic_fetch_add(&leaves, 1);
			must(keel_thread_enter(id) == 0, "thread %u cannot come back", id);
		}
	}
	if (copy >= 0)
		close(copy);
	task_destroy(tasks[id]);
	keel_thread_leave();
	return NULL;
}

/* --- clients --------------------------------------------------------------- */

/* A blocking socket out of the way; -1 where the server did not want it. */
static int connects(void)
{
	struct timeval patience = { HANG, 0 };
	struct linger reset = { 1, 0 };
	int tcp = dice(8) == 0, rc, fd, parked;

	fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0, "no socket: %s", strerror(errno));
	parked = fcntl(fd, F_DUPFD_CLOEXEC, PARKED);
	must(parked >= 0, "no duplicate: %s", strerror(errno));
	close(fd);
	setsockopt(parked, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (tcp) {
		setsockopt(parked, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		rc = connect(parked, (struct sockaddr *)&tcp_address, sizeof(tcp_address));
	} else {
		rc = connect(parked, (struct sockaddr *)&unix_address, sizeof(unix_address));
	}
	must(rc == 0 || errno == ECONNRESET, "no connection: %s", strerror(errno));
	if (rc == 0)
		return parked;
	close(parked);
	return -1;
}

/* The bytes read, fewer where the server ended it. */
static size_t reads(int fd, char *bytes, size_t length)
{
	size_t have = 0;

	while (have < length) {
		ssize_t n = read(fd, bytes + have, length - have);

		in_time(n >= 0 || errno == ECONNRESET || errno == EPIPE, "no answer after %zu bytes: %s", have,
		     strerror(errno));
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

static void *client(void *arg)
{
	char sent[BATCH][REQUEST], got[REQUEST], greeting;
	int fds[BATCH];

	(void)arg;
	while (!atomic_load(&no_more_clients)) {
		/* In two pieces, so that the second finds it idle. */
		for (int i = 0; i < BATCH; i++) {
			for (int b = 0; b < REQUEST; b++)
				sent[i][b] = (char)dice(256);
			fds[i] = connects();
			if (fds[i] >= 0)
				send(fds[i], sent[i], 7, MSG_NOSIGNAL);
		}
		if (dice(4) == 0)
			nap(dice(2000));
		for (int i = 0; i < BATCH; i++)
			if (fds[i] >= 0)
				send(fds[i], sent[i] + 7, REQUEST - 7, MSG_NOSIGNAL);
		for (int i = 0; i < BATCH; i++) {
			size_t n;

			if (fds[i] < 0)
				continue;
			greeting = 0;
			n = reads(fds[i], &greeting, 1);
			must(!n || greeting == 'S' || greeting == 'D', "a strange greeting");
			n = reads(fds[i], got, n ? REQUEST : 0);
			must(memcmp(got, sent[i], n) == 0, "somebody else's bytes");
			must(n == REQUEST || greeting != 'S', "%zu bytes of an answer", n);
			atomic_fetch_add(greeting == 'S' ? &served : &dropped, 1);
			close(fds[i]);
		}
	}
	return NULL;
}

/* --- the frame ------------------------------------------------------------- */

/* Looks for events that nobody sees. */
static void *sweeps(void *arg)
{
	(void)arg;
	while (!atomic_load(&quit)) {
		for (int i = 0; i < NUMBERS; i++) {
			pthread_mutex_lock(&numbers[i].lock);
			in_time(!numbers[i].life || !numbers[i].life->rung ||
			        numbers[i].life->rung + HANG * 1000000000ull > keel_now_ns(),
			        "an event of %d is lost", numbers[i].life->fd);
			pthread_mutex_unlock(&numbers[i].lock);
		}
		nap(100000);
	}
	return NULL;
}

/* Ends what is left. Connections have lost their clients and end themselves. */
static void drain(void)
{
	uint64_t limit = keel_now_ns() + HANG * 1000000000ull;

	while (keel_used_fds() || atomic_load(&listeners[0]) || atomic_load(&listeners[1]) || atomic_load(&events)) {
		for (int i = 0; i < NUMBERS; i++) {
			struct number *n = &numbers[i];

			pthread_mutex_lock(&n->lock);
			if (n->life && n->life->kind == LISTENER) {
				end_life(n, OUTSIDE);
				continue;
			}
			if (n->life && n->life->kind == EVENT && !n->life->rung)
				ring(n->life);
			pthread_mutex_unlock(&n->lock);
		}
		in_time(keel_now_ns() < limit, "descriptors are left over");
		nap(1000);
	}
}

static int listens(int family, const void *address, socklen_t length)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), parked;

	must(fd >= 0 && bind(fd, address, length) == 0 && listen(fd, 512) == 0, "no listener: %s", strerror(errno));
	parked = fcntl(fd, F_DUPFD_CLOEXEC, PARKED);
	must(parked >= 0, "no duplicate: %s", strerror(errno));
	close(fd);
	return parked;
}

int main(int argc, char **argv)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct rlimit files = { 1024, 1024 };
	int seconds = argc > 1 ? atoi(argv[1]) : 3;
	pthread_t threads[THREADS], clients[CLIENTS], out, sweeper;
	unsigned long all = 0;
	socklen_t length = sizeof(tcp_address);
	int lowest;

	watchdog();
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 1024) {
		files.rlim_cur = files.rlim_max < 1024 ? files.rlim_max : 1024;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* In no directory: the name begins with a 0. */
	unix_address.sun_family = AF_UNIX;
	snprintf(unix_address.sun_path + 1, sizeof(unix_address.sun_path) - 1, "keel-stress-fd-%d", (int)getpid());
	unix_listener = listens(AF_UNIX, &unix_address, sizeof(unix_address));
	tcp_address.sin_family = AF_INET;
	tcp_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	tcp_listener = listens(AF_INET, &tcp_address, sizeof(tcp_address));
	must(getsockname(tcp_listener, (struct sockaddr *)&tcp_address, &length) == 0, "no port");

	plug = fcntl(unix_listener, F_DUPFD_CLOEXEC, PARKED);
	must(plug >= 0, "no duplicate: %s", strerror(errno));

	for (int i = 0; i < NUMBERS; i++)
		pthread_mutex_init(&numbers[i].lock, NULL);
	choose_poller();
	cfg.nbthread = THREADS;
	cfg.maxsock = MAXSOCK;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, loops, (void *)i) == 0, "no thread");
	while (atomic_load(&entered) < THREADS)
		sched_yield();
	lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
	must(lowest >= 0 && lowest + NUMBERS <= MAXSOCK, "too many descriptors are open: %d", lowest);
	close(lowest);
	atomic_store(&first, lowest);

	must(pthread_create(&out, NULL, outsider, NULL) == 0, "no thread");
	must(pthread_create(&sweeper, NULL, sweeps, NULL) == 0, "no thread");
	for (int i = 0; i < CLIENTS; i++)
		must(pthread_create(&clients[i], NULL, client, NULL) == 0, "no thread");
	for (int i = 0; i < seconds; i++) {
		sleep(1);
		atomic_fetch_add(&progress, 1);
	}
	atomic_store(&no_more_clients, 1);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i], NULL);
	atomic_store(&over, 1);
	pthread_join(out, NULL);
	drain();
	for (int i = 0; i < KINDS; i++)
		all += atomic_load(&begun[i]);
	must(atomic_load(&closed) == all, "%lu lives, %lu closes", all, atomic_load(&closed));
	must(atomic_load(&served) == atomic_load(&begun[SERVED]), "%lu connections to be served, %lu were",
	     atomic_load(&begun[SERVED]), atomic_load(&served));
	atomic_store(&quit, 1);
	for (int i = 0; i < THREADS; i++) {
		wake_thread(i);
		pthread_join(threads[i], NULL);
	}
	pthread_join(sweeper, NULL);
	keel_deinit();
	close(unix_listener);
	close(tcp_listener);
	close(plug);
	printf("ok %lu lives of %d numbers, each closed once: %lu listeners, %lu + %lu connections, %lu events; "
	       "%lu deletes in callbacks, %lu in tasks, %lu outside; %lu takeovers, %lu lost; %lu callbacks, "
	       "%lu threads came back, %lu found no room\n",
	       all, NUMBERS, begun[LISTENER], begun[SERVED], begun[DROPPED], begun[EVENT], deletes[IN_CALLBACK],
	       deletes[IN_TASK], deletes[OUTSIDE], takeovers, lost_takeovers, callbacks, leaves, full);
	return 0;
}
