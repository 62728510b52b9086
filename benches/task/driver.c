/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* task: keel's tasks beside other timers, its scheduler, and its wakeups across
 * threads beside other ways. Each measurement takes a process of its own; a
 * round takes all contestants in turn, and a figure is the median of the rounds.
 *
 *   task                         everything; QUICK=1 a shorter version
 *   task timers | task scheduler that part
 *   ONLY=PEER task               keel, and those whose name begins so; ROUNDS=N
 *   task --fixed WHO OP N        N operations, to count instructions (count.sh)
 */

#define _GNU_SOURCE
#include <sys/wait.h>

#include "../measure.h"
#include "driver.h"

/* Seconds, for a machine that is very busy. */
#define WATCHDOG_TIMERS 600
#define WATCHDOG_ENTRY  60

const struct peer *peers[MAX_PEERS];
const struct entry *entries[MAX_PEERS];
int npeers, nentries;
struct samples timer_samples[FIGURES][SIZES][MAX_PEERS];
struct samples entry_samples[MAX_PEERS][COLUMNS];

static int cores[2], failures;

/* --- processes ----------------------------------------------------------------- */

/* One measurement: <peer> at <size>, or <entry>. */
struct job {
	const struct peer *peer;
	const struct size *size;
	const struct entry *entry;
	int round, ms;
};

#define MOST_FIGURES 8
_Static_assert(FIGURES <= MOST_FIGURES && COLUMNS <= MOST_FIGURES, "they fit");

static bool work(const struct job *job, double *figures)
{
	if (job->entry)
		return job->entry->measure(cores, job->ms, figures);
	if (job->peer->open(cores) != NULL)
		return false;
	time_timers(job->peer, job->size, job->round, figures);
	return true;
}

static bool in_child(const struct job *job, double figures[MOST_FIGURES])
{
	const size_t size = MOST_FIGURES * sizeof(double);
	int ends[2], status;
	ssize_t got;
	pid_t child;

	fflush(stdout);
	if (pipe(ends) != 0 || (child = fork()) < 0) {
		perror("task");
		exit(1);
	}
	if (child == 0) {
		double mine[MOST_FIGURES] = { 0 };

		alarm(job->entry ? WATCHDOG_ENTRY : WATCHDOG_TIMERS);
		_exit(work(job, mine) && write(ends[1], mine, size) == (ssize_t)size ? 0 : 1);
	}
	close(ends[1]);
	got = read(ends[0], figures, size);
	close(ends[0]);
	waitpid(child, &status, 0);
	if (got == (ssize_t)size && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	fprintf(stderr, "%s: it failed\n", job->entry ? job->entry->name : job->peer->name);
	failures++;
	return false;
}

static void keep(struct samples *s, double figure) { s->of[s->n++] = figure; }

static void run_peer(const struct peer *p, int size, int round)
{
	const struct job job = { .peer = p, .size = &sizes[size], .round = round };
	double figures[MOST_FIGURES];
	int who = 0;

	while (peers[who] != p)
		who++;
	if (!in_child(&job, figures))
		return;
	for (int f = 0; f < FIGURES; f++)
		if (takes_part(p, (enum figure)f))
			keep(&timer_samples[f][size][who], figures[f]);
}

static void run_entry(int which, int ms)
{
	const struct job job = { .entry = entries[which], .ms = ms };
	double figures[MOST_FIGURES];

	/* 0: on too busy a machine no slice was over in time */
	if (in_child(&job, figures))
		for (int c = 0; c < COLUMNS; c++)
			if (figures[c] > 0)
				keep(&entry_samples[which][c], figures[c]);
}

/* --- contestants ---------------------------------------------------------------- */

static bool wanted(const char *name)
{
	const char *only = getenv("ONLY");

	return !only || !strncmp(name, "keel", 4) || !strncmp(name, only, strlen(only));
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

static void load_entries(const char *plugin, bool all)
{
	entries_fn *fn;

	*(void **)&fn = find_contestants(plugin);
	if (!fn)
		return;
	for (const struct entry *const *e = fn(); *e && nentries < MAX_PEERS; e++) {
		if (!all && (*e)->table != YARDSTICK)
			continue;
		if ((*e)->table == PINGS && cores[0] == cores[1])
			printf("%s: left out: a single core\n", (*e)->name);
		else if (wanted((*e)->name) || (*e)->name[0] == '(' || (*e)->table == YARDSTICK)
			entries[nentries++] = *e;
	}
}

static int run_fixed(const char *who, const char *op, uint32_t n)
{
	for (int p = 0; p < npeers; p++)
		if (!strcmp(who, peers[p]->name))
			return peers[p]->open(cores) == NULL && count_timers(peers[p], op, n) ? 0 : 2;
	for (int e = 0; e < nentries; e++)
		if (!strcmp(who, entries[e]->name) && entries[e]->count)
			return entries[e]->count(n) ? 0 : 2;
	return 2;
}

/* --- all of it -------------------------------------------------------------------- */

static void time_all_timers(void)
{
	int rounds[SIZES], most = 0;

	for (int s = 0; s < SIZES; s++) {
		rounds[s] = rounds_wanted(sizes[s].quick_rounds, MAX_ROUNDS);
		most = rounds[s] > most ? rounds[s] : most;
	}
	for (int round = 0; round < most; round++)
		for (int s = 0; s < SIZES; s++)
			for (int turn = 0; turn < npeers && round < rounds[s]; turn++)
				run_peer(peers[(turn + round) % npeers], s, round);
	for (int f = 0; f < FIGURES; f++)
		for (int s = 0; s < SIZES; s++)
			for (int p = 0; p < npeers; p++)
				qsort(timer_samples[f][s][p].of, (size_t)timer_samples[f][s][p].n, sizeof(double), by_value);
}

static void time_all_entries(void)
{
	const char *quick = getenv("QUICK");
	int rounds = rounds_wanted(3, MAX_ROUNDS), ms = quick && *quick == '1' ? 100 : 300;

	for (int round = 0; round < rounds; round++)
		for (int turn = 0; turn < nentries; turn++)
			run_entry((turn + round) % nentries, ms);
	for (int e = 0; e < nentries; e++)
		for (int c = 0; c < COLUMNS; c++)
			qsort(entry_samples[e][c].of, (size_t)entry_samples[e][c].n, sizeof(double), by_value);
}

int main(int argc, char **argv)
{
	static const char *const with_timers[] = { "keel", "libev", "libevent", "libuv", "tokio", "wheel" },
				 *const with_entries[] = { "bare", "scheduler", "keel_trips", "libuv_trips" };
	bool fixed = argc == 5 && !strcmp(argv[1], "--fixed");
	bool timers = argc == 1 || fixed || !strcmp(argv[1], "timers"), scheduler = argc == 1 || fixed || !timers;

	if (argc > 2 && !fixed)
		timers = scheduler = false;
	if (argc == 2 && !timers && strcmp(argv[1], "scheduler") != 0)
		scheduler = false;
	if (!timers && !scheduler) {
		fprintf(stderr, "usage: task [timers | scheduler | --fixed WHO OP N]\n");
		return 2;
	}
	find_cores(cores);
	pin_to(cores[0]);
	weigh_the_clock();
	for (size_t i = 0; timers && i < sizeof(with_timers) / sizeof(*with_timers); i++)
		load_peers(with_timers[i]);
	for (size_t i = 0; i < sizeof(with_entries) / sizeof(*with_entries); i++)
		if (scheduler || i == 0)
			load_entries(with_entries[i], scheduler);
	if (fixed)
		return run_fixed(argv[2], argv[3], (uint32_t)strtoul(argv[4], NULL, 10));
	if (timers && npeers)
		time_all_timers();
	if (nentries)
		time_all_entries();
	print_timers();
	print_entries();
	print_goals();
	if (failures)
		printf("\n%d processes failed\n", failures);
	return failures != 0;
}
