/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fd: keel's descriptors beside other event loops, and beside a bare
 * epoll_wait(). Each measurement takes a process of its own, pinned to a core;
 * a round takes all contestants in turn, and a figure is the median of the
 * rounds.
 *
 *   fd                              everything; QUICK=1 a shorter version
 *   ONLY=PEER fd                    keel, bare epoll, and those whose name begins so; ROUNDS=N
 *   fd --fixed PEER OP SIZE ACTIVE N   N events of chain, ping-pong, accept or
 *                                   accept-read, to count instructions or system calls
 */

#define _GNU_SOURCE
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
	int ms;
};

#define MOST_FIGURES 3
_Static_assert(FIGURES <= MOST_FIGURES && COLUMNS <= MOST_FIGURES, "they fit");

static bool work(const struct job *job, double *figures)
{
	if (job->entry)
		return job->entry->measure(cores, job->ms, figures);
	return measure(job->peer, job->workload, cores, job->ms, figures);
}

static bool in_child(const struct job *job, double figures[MOST_FIGURES])
{
	const size_t size = MOST_FIGURES * sizeof(double);
	int pipe_ends[2], status;
	ssize_t got;
	pid_t child;

	fflush(stdout);
	if (pipe(pipe_ends) != 0 || (child = fork()) < 0) {
		perror("fd");
		exit(1);
	}
	if (child == 0) {
		double mine[MOST_FIGURES] = { 0 };

		alarm(WATCHDOG);
		_exit(work(job, mine) && write(pipe_ends[1], mine, size) == (ssize_t)size ? 0 : 1);
	}
	close(pipe_ends[1]);
	got = read(pipe_ends[0], figures, size);
	close(pipe_ends[0]);
	waitpid(child, &status, 0);
	if (got == (ssize_t)size && WIFEXITED(status) && WEXITSTATUS(status) == 0)
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

static void sort(struct samples *s) { qsort(s->of, (size_t)s->n, sizeof(double), by_value); }

static bool possible(const struct workload *w, const struct peer *p)
{
	return descriptors_of(w) <= limit && (w->op < ACCEPT || (cores[0] != cores[1] && !p->edges));
}

static void one_round(int round, int ms)
{
	double figures[MOST_FIGURES];

	for (int w = 0; w < WORKLOADS; w++) {
		for (int turn = 0; turn < npeers; turn++) {
			int p = (turn + round) % npeers;
			const struct job job = { .peer = peers[p], .workload = &workloads[w], .ms = ms };

			if (possible(job.workload, job.peer) && in_child(&job, figures))
				for (int f = 0; f < FIGURES; f++)
					keep(&samples[w][p][f], figures[f]);
		}
	}
	for (int turn = 0; turn < nwakes; turn++) {
		int e = (turn + round) % nwakes;
		const struct job job = { .entry = wakes[e], .ms = ms };

		if (in_child(&job, figures))
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
	for (int p = 0; p < MAX_PEERS; p++) {
		for (int w = 0; w < WORKLOADS; w++)
			for (int f = 0; f < FIGURES; f++)
				sort(&samples[w][p][f]);
		sort(&wake_samples[p]);
	}
	print_workloads();
	print_wakes();
	print_goals();
	if (failures)
		printf("\n%d processes failed\n", failures);
	return failures != 0;
}
