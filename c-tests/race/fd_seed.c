/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A listener is deleted by who holds the lock that its callbacks want. A
 * deletion that waits for the callbacks to end waits for ever.
 *
 *     fd_seed             both of the following, and what each is to say
 *     fd_seed now [n]     n listeners; exit status 0
 *     fd_seed historic    the same with the historic wait put before
 *                         fd_delete(); the watchdog ends it with status 3
 *
 * Several threads serve each listener in their loops. It is always readable,
 * so they enter its callback and stay there for the lock; only then is it
 * deleted, by another thread, a tasklet or a callback, with the lock held.
 *
 * SHOWS: FD-1, INV-61 */

#define _GNU_SOURCE             /* pipe2 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "../api/pollers.h"
#include "cpus.h"

#if defined(__SANITIZE_THREAD__)
#define ROUNDS 20000
#define HANG_MS 10000
#elif defined(__SANITIZE_ADDRESS__)
#define ROUNDS 50000
#define HANG_MS 5000
#else
#define ROUNDS 100000
#define HANG_MS 2000
#endif
#define STUCK_MS 60000          /* when it is not for a deletion */
#define HISTORIC_MS 1000

#define LOOPS   3               /* threads 0 to 2 run their loops */
#define MASTER  LOOPS           /* this one makes the listeners */
#define THREADS (LOOPS + 1)

enum { HUNG = 3, STUCK = 4 };   /* exit statuses */

enum { BY_THREAD, BY_TASKLET, BY_CALLBACK };

static struct {
	pthread_mutex_t lock;
	atomic_int fd;
	atomic_int deleted_by;  /* BY_..., whom this one's end is left to */
	atomic_int inside;      /* threads in its callback */
	int wanted_inside;      /* before it is deleted */
	int deleted;            /* under the lock */
} listener = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int historic;
static atomic_ulong rounds_done;
static atomic_ulong deleted[3];
static struct tasklet *deleters[LOOPS];

/* What each thread does, for the watchdog. */
enum doing { ELSEWHERE, WANTS_LOCK, WAITS_FOR_CALLBACKS, DELETES };
static const char *const words[] = {
	"is elsewhere",
	"is in the listener's callback and waits for the listener's lock",
	"holds the listener's lock and waits for others to enter the callback",
	"holds the listener's lock and is in fd_delete()",
};
static _Atomic(enum doing) doing[THREADS];

static void now(enum doing what)
{
	atomic_store(&doing[keel_tid()], what);
}

static unsigned long running(int fd)
{
	return __atomic_load_n(&fdtab[fd].running_mask, __ATOMIC_SEQ_CST);
}

/* The deletion of old: it began by waiting until nobody else was inside. */
static void historic_fd_delete(int fd)
{
	unsigned long me = 1ul << keel_tid();

	while (running(fd) & ~me)
		sched_yield();
	fd_delete(fd);
}

/* The lock is held. */
static void delete_listener(int by)
{
	int fd = atomic_load(&listener.fd);

	now(WAITS_FOR_CALLBACKS);
	while (atomic_load(&listener.inside) < listener.wanted_inside)
		sched_yield();
	listener.deleted = 1;
	now(DELETES);
	if (historic)
		historic_fd_delete(fd);
	else
		fd_delete(fd);
	now(ELSEWHERE);
	atomic_fetch_add(&deleted[by], 1);
}

static void accepts(int fd)
{
	atomic_fetch_add(&listener.inside, 1);
	now(WANTS_LOCK);
	pthread_mutex_lock(&listener.lock);
	now(ELSEWHERE);
	if (!listener.deleted) {
		must(fd == atomic_load(&listener.fd), "the callback of %d is called with %d",
		     atomic_load(&listener.fd), fd);
		if (atomic_load(&listener.deleted_by) == BY_CALLBACK)
			delete_listener(BY_CALLBACK);
	}
	pthread_mutex_unlock(&listener.lock);
	atomic_fetch_sub(&listener.inside, 1);
}

static struct task *tasklet_deletes(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	pthread_mutex_lock(&listener.lock);
	fd_want_recv(atomic_load(&listener.fd));
	delete_listener(BY_TASKLET);
	pthread_mutex_unlock(&listener.lock);
	return t;
}

static void one_listener(unsigned long round)
{
	/* Mostly as it was found; one in eight each for the other two. */
	int by = round % 8 == 6 ? BY_TASKLET : round % 8 == 7 ? BY_CALLBACK : BY_THREAD;
	int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	unsigned int life;

	must(fd >= 0, "no descriptor: %s", strerror(errno));
	life = __atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED);
	pthread_mutex_lock(&listener.lock);
	atomic_store(&listener.fd, fd);
	atomic_store(&listener.deleted_by, by);
	/* A callback that deletes is one of them; a tasklet's thread cannot be. */
	listener.wanted_inside = by == BY_TASKLET ? 1 + (int)dice(LOOPS - 1) :
	                         by == BY_CALLBACK ? 2 + (int)dice(LOOPS - 1) : 1 + (int)dice(LOOPS);
	listener.deleted = 0;
	fd_insert(fd, &listener, accepts, (1ul << LOOPS) - 1);
	if (by != BY_TASKLET)
		fd_want_recv(fd);
	if (by == BY_THREAD)
		delete_listener(BY_THREAD);
	pthread_mutex_unlock(&listener.lock);
	if (by == BY_TASKLET)
		tasklet_wakeup(deleters[dice(LOOPS)]);
	while (keel_used_fds() || atomic_load(&listener.inside))
		sched_yield();
	must(__atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED) == life + 1, "one life, %u closes",
	     __atomic_load_n(&fdtab[fd].generation, __ATOMIC_RELAXED) - life);
	/* A thread that builds its epoll set anew has the number for a moment. */
	for (int i = 0; i < 10000 && fcntl(fd, F_GETFD) >= 0; i++)
		nap(1000);
	must(fcntl(fd, F_GETFD) < 0, "%d is still open", fd);
	atomic_fetch_add(&rounds_done, 1);
}

/* --- the watchdog ---------------------------------------------------------- */

static void *watch(void *arg)
{
	const int step = 50;
	unsigned long before = 0;
	int ms = 0, deleting_ms = 0;

	(void)arg;
	for (;;) {
		unsigned long done = atomic_load(&rounds_done);
		int deletes = 0, fd = atomic_load(&listener.fd);

		for (int t = 0; t < THREADS; t++)
			deletes |= atomic_load(&doing[t]) == DELETES;
		ms = done == before ? ms + step : 0;
		deleting_ms = done == before && deletes ? deleting_ms + step : 0;
		before = done;
		if (deleting_ms >= (historic ? HISTORIC_MS : HANG_MS) || ms >= STUCK_MS) {
			fprintf(stderr, "%s: no progress for %d ms, at listener %lu\n",
			        deleting_ms ? "deadlock" : "stuck", deleting_ms ? deleting_ms : ms, done + 1);
			for (int t = 0; t < THREADS; t++)
				fprintf(stderr, "  thread %d %s\n", t, words[atomic_load(&doing[t])]);
			fprintf(stderr, "  in use by threads 0x%lx: descriptor %d, which thus stays open\n",
			        running(fd), fd);
			_exit(deleting_ms ? HUNG : STUCK);
		}
		nap(step * 1000L);
	}
	return NULL;
}

/* --- the modes ------------------------------------------------------------- */

static atomic_int entered;

static void *loops(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

	must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	atomic_fetch_add(&entered, 1);
	run_poll_loop();
	tasklet_free(deleters[id]);
	keel_thread_leave();
	return NULL;
}

static void listeners(unsigned long n)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th[LOOPS], dog;

	choose_poller();
	cfg.nbthread = THREADS;
	cfg.maxsock = 256;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	must(keel_thread_enter(MASTER) == 0, "the master cannot enter");
	for (size_t i = 0; i < LOOPS; i++) {
		must(deleters[i] = tasklet_new(), "no tasklet");
		deleters[i]->process = tasklet_deletes;
		tasklet_set_tid(deleters[i], (int)i);
		must(pthread_create(&th[i], NULL, loops, (void *)i) == 0, "no thread");
	}
	while (atomic_load(&entered) < LOOPS)
		sched_yield();
	must(pthread_create(&dog, NULL, watch, NULL) == 0, "no thread");
	pthread_detach(dog);
	for (unsigned long i = 0; i < n; i++)
		one_listener(i);
	keel_stop();
	for (int i = 0; i < LOOPS; i++)
		pthread_join(th[i], NULL);
	keel_deinit();
	printf("ok %lu listeners were deleted with the lock held that their callbacks want: "
	       "%lu by another thread, %lu by a tasklet, %lu by a callback\n",
	       n, atomic_load(&deleted[BY_THREAD]), atomic_load(&deleted[BY_TASKLET]),
	       atomic_load(&deleted[BY_CALLBACK]));
}

/* The historic wait in a child: is it noticed, and how is it told? */
static void sees_the_historic_deadlock(void)
{
	char said[2000] = "", *line;
	size_t have = 0;
	int out[2], status;
	uint64_t start = keel_now_ns();
	ssize_t n;
	pid_t child;

	fflush(stdout);
	must(pipe2(out, O_CLOEXEC) == 0, "no pipe");
	child = fork();
	if (child == 0) {
		dup2(out[1], 2);
		historic = 1;
		listeners(ROUNDS);
		_exit(0);
	}
	close(out[1]);
	while ((n = read(out[0], said + have, sizeof(said) - 1 - have)) > 0)
		have += (size_t)n;
	close(out[0]);
	must(waitpid(child, &status, 0) == child, "the child is gone");
	must(WIFEXITED(status) && WEXITSTATUS(status) == HUNG && strstr(said, words[WANTS_LOCK]) &&
	     strstr(said, words[DELETES]),
	     "the historic wait does not show as a deadlock (status 0x%x): %s", status, said);
	printf("ok with the historic wait they hang, seen after %llu ms:\n",
	       (unsigned long long)(keel_now_ns() - start) / 1000000);
	for (line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
		printf("# %s\n", line);
}

int main(int argc, char **argv)
{
	unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : ROUNDS;

	historic = argc > 1 && !strcmp(argv[1], "historic");
	if (argc == 1)
		sees_the_historic_deadlock();
	listeners(n);
	return 0;
}
