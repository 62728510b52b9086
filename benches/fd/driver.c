/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fd: keel's descriptors beside other event loops, and beside a bare
 * epoll_wait(). Each measurement takes a process of its own, pinned to a core.
 * In a round all contestants meet: where one thread does all the work they take
 * turns of some milliseconds, so that whatever slows the machine down slows
 * all of them down, else one comes after the other. A figure is the median of
 * the rounds.
 *
 *   fd                              everything; QUICK=1 a shorter version
 *   ONLY=PEER fd                    keel, bare epoll, and those whose name begins so; ROUNDS=N
 *   fd --fixed PEER OP SIZE ACTIVE N   N events of chain, ping-pong, accept or
 *                                   accept-read, to count instructions or system calls
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../measure.h"
#include "driver.h"

#define WATCHDOG 60 /* seconds, for a machine that is very busy */

const struct peer *peers[MAX_PEERS];
int npeers;
struct samples samples[WORKLOADS][MAX_PEERS][FIGURES];
const struct entry *wakes[MAX_PEERS];
int nwakes;
struct samples wake_samples[MAX_PEERS];

static int cores[2], failures;
static rlim_t limit;

/* --- processes ----------------------------------------------------------------- */

/* One measurement: <workload> by <peer>, or <entry>. */
struct job {
	const struct peer *peer;
	const struct workload *workload;
	const struct entry *entry;
	struct turns turns;
	int ms;
};

#define MOST_FIGURES 3
_Static_assert(FIGURES <= MOST_FIGURES && COLUMNS <= MOST_FIGURES, "they fit");

static bool work(const struct job *job, double *figures)
{
	if (job->entry)
		return job->entry->measure(cores, job->ms, figures);
	return measure(job->peer, job->workload, cores, &job->turns, job->ms, figures);
}

/* A measurement that is under way. */
struct child {
	const struct job *job;
	pid_t pid;
	int figures;
};

static struct child start(const struct job *job)
{
	const ssize_t size = MOST_FIGURES * sizeof(double);
	int ends[2];
	pid_t pid;

	fflush(stdout);
	if (pipe2(ends, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		perror("fd");
		exit(1);
	}
	if (pid == 0) {
		double mine[MOST_FIGURES] = { 0 };

		alarm(WATCHDOG);
		_exit(work(job, mine) && write(ends[1], mine, (size_t)size) == size ? 0 : 1);
	}
	close(ends[1]);
	return (struct child){ job, pid, ends[0] };
}

static bool finish(const struct child *c, double figures[MOST_FIGURES])
{
	const size_t size = MOST_FIGURES * sizeof(double);
	const struct job *job = c->job;
	ssize_t got;
	int status;

	waitpid(c->pid, &status, 0);
	got = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? read(c->figures, figures, size) : -1;
	close(c->figures);
	if (got == (ssize_t)size)
		return true;
	fprintf(stderr, "%s%s%s: it failed\n", job->entry ? job->entry->name : job->peer->name, job->entry ? "" : ", ",
		job->entry ? "" : job->workload->column);
	failures++;
	return false;
}

/* 0: on too busy a machine no slice was over in time. */
static void keep(struct samples *s, double figure)
{
	if (figure > 0)
		s->of[s->n++] = figure;
}

static bool possible(const struct workload *w, const struct peer *p)
{
	return descriptors_of(w) <= limit && (w->op < ACCEPT || (cores[0] != cores[1] && !p->edges));
}

/* All contestants at a workload, after each other or in turns. */
static void run_workload(int w, int round, int ms)
{
	double figures[MOST_FIGURES];
	struct job jobs[MAX_PEERS];
	struct child children[MAX_PEERS];
	int of[MAX_PEERS], ring[MAX_PEERS][2], n = 0;
	bool alone = workloads[w].op >= ACCEPT, failed = false;

	for (int turn = 0; turn < npeers; turn++) {
		int p = (turn + round) % npeers;

		if (possible(&workloads[w], peers[p]) && pipe2(ring[n], O_CLOEXEC) == 0)
			of[n++] = p;
	}
	for (int i = 0; i < n; i++) {
		struct turns turns = { alone ? -1 : ring[i][0], ring[(i + 1) % n][1] };

		jobs[i] = (struct job){ .peer = peers[of[i]], .workload = &workloads[w], .turns = turns, .ms = ms };
	}
	for (int i = 0; i < n; i++) {
		children[i] = start(&jobs[i]);
		if (alone && finish(&children[i], figures))
			for (int f = 0; f < FIGURES; f++)
				keep(&samples[w][of[i]][f], figures[f]);
	}
	if (n > 0 && !alone && write(ring[0][1], "x", 1) != 1)
		failed = true;
	for (int i = 0; i < n && !alone; i++) {
		/* the others would wait for its turn to end */
		if (failed)
			kill(children[i].pid, SIGKILL);
		if (finish(&children[i], figures))
			keep(&samples[w][of[i]][0], figures[0]);
		else
			failed = true;
	}
	for (int i = 0; i < n; i++) {
		close(ring[i][0]);
		close(ring[i][1]);
	}
}

static void one_round(int round, int ms)
{
	double figures[MOST_FIGURES];

	for (int w = 0; w < WORKLOADS; w++)
		run_workload(w, round, ms);
	for (int turn = 0; turn < nwakes; turn++) {
		int e = (turn + round) % nwakes;
		const struct job job = { .entry = wakes[e], .ms = ms };
		const struct child child = start(&job);

		if (finish(&child, figures))
			keep(&wake_samples[e], figures[0]);
	}
}

/* --- contestants ---------------------------------------------------------------- */

static bool wanted(const char *name)
{
	const char *only = getenv("ONLY");

	return !only || !strncmp(name, "keel", 4) || name[0] == '(' || !strncmp(name, only, strlen(only));
}

static void load_peers(const char *plugin)
{
	contestants_fn *fn;

	*(void **)&fn = find_contestants(plugin);
	if (!fn)
		return;
	for (const struct peer *const *p = fn(); *p && npeers < MAX_PEERS; p++)
		if (wanted((*p)->name))
			peers[npeers++] = *p;
}

static void load_wakes(const char *plugin)
{
	entries_fn *fn;

	*(void **)&fn = find_contestants(plugin);
	if (!fn)
		return;
	for (const struct entry *const *e = fn(); *e && nwakes < MAX_PEERS; e++)
		if ((*e)->table == PINGS && wanted((*e)->name))
			wakes[nwakes++] = *e;
}

/* As many descriptors as are needed, or as it is given. */
static void raise_limit(void)
{
	struct rlimit now, more;
	rlim_t most = 0;

	for (int w = 0; w < WORKLOADS; w++)
		most = descriptors_of(&workloads[w]) > most ? descriptors_of(&workloads[w]) : most;
	getrlimit(RLIMIT_NOFILE, &now);
	more.rlim_cur = now.rlim_cur > most ? now.rlim_cur : most;
	more.rlim_max = now.rlim_max > most ? now.rlim_max : most;
	if (setrlimit(RLIMIT_NOFILE, &more) != 0) {
		more = now;
		more.rlim_cur = now.rlim_max;
		setrlimit(RLIMIT_NOFILE, &more);
	}
	getrlimit(RLIMIT_NOFILE, &now);
	limit = now.rlim_cur;
}

static int run_fixed(char **arg)
{
	static const char *const ops[OPS] = {
		[CHAIN] = "chain", [PING_PONG] = "ping-pong", [ACCEPT] = "accept", [ACCEPT_READ] = "accept-read",
	};
	struct workload w = { .op = OPS, .size = (uint32_t)atoi(arg[2]), .active = (uint32_t)atoi(arg[3]) };

	for (int op = 0; op < OPS; op++)
		if (!strcmp(arg[1], ops[op]))
			w.op = (enum op)op;
	if (w.op == OPS || descriptors_of(&w) > limit || (w.op == CHAIN && (w.active < 1 || w.active > w.size)))
		return 2;
	for (int p = 0; p < npeers; p++)
		if (!strcmp(arg[0], peers[p]->name))
			return count(peers[p], &w, (uint32_t)strtoul(arg[4], NULL, 10)) ? 0 : 1;
	return 2;
}

/* --- all of it -------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	static const char *const with_peers[] = { "keel", "libev", "libevent", "libuv", "epoll" },
				 *const with_wakes[] = { "wake", "bare", "libuv_trips" };
	bool fixed = argc == 7 && !strcmp(argv[1], "--fixed");
	const char *quick = getenv("QUICK");
	int rounds = rounds_wanted(3, MAX_ROUNDS), ms = quick && *quick == '1' ? 60 : 120;

	if (argc > 1 && !fixed) {
		fprintf(stderr, "usage: fd [--fixed PEER OP SIZE ACTIVE N]\n");
		return 2;
	}
	find_cores(cores);
	pin_to(cores[0]);
	raise_limit();
	for (size_t i = 0; i < sizeof(with_peers) / sizeof(*with_peers); i++)
		load_peers(with_peers[i]);
	if (fixed)
		return run_fixed(argv + 2);
	if (cores[0] == cores[1])
		printf("a single core: connections and wake-ups are left out\n");
	else
		for (size_t i = 0; i < sizeof(with_wakes) / sizeof(*with_wakes); i++)
			load_wakes(with_wakes[i]);
	for (int w = 0; w < WORKLOADS; w++)
		if (descriptors_of(&workloads[w]) > limit)
			printf("%s: left out: %u descriptors, and the limit is %lu\n", workloads[w].column,
			       descriptors_of(&workloads[w]), (unsigned long)limit);
	if (!npeers)
		return 1;
	for (int round = 0; round < rounds; round++)
		one_round(round, ms);
	print_workloads();
	print_wakes();
	print_goals();
	if (failures)
		printf("\n%d processes failed\n", failures);
	return failures != 0;
}
