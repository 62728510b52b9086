/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pool: keel's pools beside general allocators. One source (workload.c) runs on
 * all of them, in a process for each figure of each round; a round takes all
 * contestants in turn, and a figure is the median of the rounds.
 *
 *   pool            everything; QUICK=1 a shorter version
 *   ONLY=PEER pool  keel, and those whose name begins so; ROUNDS=N
 */

#define _GNU_SOURCE
#include <math.h>
#include <sys/wait.h>

#include "../measure.h"
#include "driver.h"

#define TRIES  3 /* until ENOUGH slices count; each takes twice as long */
#define ENOUGH 10 /* the last time any */

const struct figure_is figures[FIGURES] = {
	[PAIR] = { "allocate, write a word, free", "pair", false,
		   { { "64 B", 64, 1 }, { "512 B", 512, 1 }, { "16 KiB", 16384, 1 } } },
	[BATCH] = { "allocate 64, writing a word each, and free them in that order", "batch", false,
		    { { "64 B", 64, 1 }, { "512 B", 512, 1 }, { "16 KiB", 16384, 1 } } },
	[RING] = { "one thread allocates and writes a word, another reads it and frees", "ring", true,
		   { { "64 B", 64, 2 }, { "512 B", 512, 2 }, { "16 KiB", 16384, 2 } } },
	[RANDOM] = { "free one of 1000 at random and allocate it anew; two threads change theirs every 2048", "random", false,
		     { { "64 B", 64, 1 }, { "512 B", 512, 1 }, { "64 B, each of two threads", 64, 2 },
		       { "512 B, each of two threads", 512, 2 } } },
	[BUFFERS] = { "one thread allocates and touches 16 pages, another frees", "buffers", true, { { "2 MiB", 2 << 20, 2 } } },
	[PAIR_BOTH] = { "two threads at once, 64 B: allocate, write a word, free", "pair", false,
			{ { "one thread", 64, 1 }, { "each of two", 64, 2 } } },
	[BATCH_BOTH] = { "two threads at once, 64 B: 64 allocated, 64 freed", "batch", false,
			 { { "one thread", 64, 1 }, { "each of two", 64, 2 } } },
};

#define BIT(f) (1u << (f))
#define ALL    (BIT(FIGURES) - 1)

static const struct contestant {
	const char *program;
	unsigned int figures;
	const char *cache_bytes;
	const char *expect, *libraries[4]; /* the first that is installed is preloaded */
} contestants[CONTESTANTS] = {
	[KEEL] = { "keel", ALL, NULL, NULL, { NULL } },
	[INLINE] = { "keel_inline", ALL, NULL, NULL, { NULL } },
	[LARGE_CACHE] = { "keel", BIT(BATCH), "4194304", NULL, { NULL } },
	[GLIBC] = { "libc", ALL, NULL, "libc.so", { NULL } },
	[JEMALLOC] = { "libc", ALL, NULL, "jemalloc", { "libjemalloc.so.2" } },
	[MIMALLOC] = { "libc", ALL, NULL, "mimalloc", { "libmimalloc.so.2", "libmimalloc.so.3" } },
	[TCMALLOC] = { "libc", ALL, NULL, "tcmalloc", { "libtcmalloc_minimal.so.4" } },
	[NOTHING] = { "nothing", ALL & ~BIT(RANDOM), NULL, NULL, { NULL } },
};

const char *const names[CONTESTANTS] = {
	[KEEL] = "keel", [INLINE] = "keel, KEEL_INLINE", [LARGE_CACHE] = "keel, 4 MiB of cache", [GLIBC] = "glibc",
	[JEMALLOC] = "jemalloc", [MIMALLOC] = "mimalloc", [TCMALLOC] = "tcmalloc", [NOTHING] = "(no allocator)",
};

struct samples samples[FIGURES][WIDTH][CONTESTANTS];
static const char *preload[CONTESTANTS];
static bool takes_part[CONTESTANTS];
static char here[4096];
static int failures, too_busy;

/* Runs the contestant's program, and returns its exit code; its output goes to
 * <out>. Where it is only asked whether it works, the loader need not complain. */
static int run(enum who who, bool ask, char **arg, char *out, size_t room)
{
	const struct contestant *c = &contestants[who];
	char path[sizeof(here) + 32];
	int ends[2], status;
	ssize_t got, had = 0;
	pid_t child;

	snprintf(path, sizeof(path), "%s/%s", here, c->program);
	if (pipe(ends) != 0 || (child = fork()) < 0) {
		perror("pool");
		exit(1);
	}
	if (child == 0) {
		unsetenv("LD_PRELOAD");
		unsetenv("CACHE_BYTES");
		if (preload[who])
			setenv("LD_PRELOAD", preload[who], 1);
		if (c->expect)
			setenv("EXPECT", c->expect, 1);
		if (c->cache_bytes)
			setenv("CACHE_BYTES", c->cache_bytes, 1);
		dup2(ends[1], 1);
		if (ask && !freopen("/dev/null", "w", stderr))
			_exit(126);
		execv(path, arg);
		_exit(127);
	}
	close(ends[1]);
	while ((got = read(ends[0], out + had, room - 1 - (size_t)had)) > 0)
		had += got;
	out[had] = 0;
	close(ends[0]);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void find(enum who who)
{
	char pair[] = "pair", bytes[] = "64", one[] = "1", ms[] = "1", out[128];
	char *arg[] = { (char *)contestants[who].program, pair, bytes, one, ms, NULL };

	for (int i = 0; i == 0 || contestants[who].libraries[i]; i++) {
		preload[who] = contestants[who].libraries[i];
		if (run(who, true, arg, out, sizeof(out)) == 0) {
			takes_part[who] = true;
			return;
		}
	}
	printf("%s: not installed, left out\n", names[who]);
}

static void measure(enum figure f, int column, enum who who, int ms)
{
	const struct column *c = &figures[f].columns[column];
	struct samples *s = &samples[f][column][who];
	char bytes[16], threads[4], time[8], out[128];
	char *arg[] = { (char *)contestants[who].program, (char *)figures[f].workload, bytes, threads, time, NULL };
	unsigned int clean, all;
	double ns;

	snprintf(bytes, sizeof(bytes), "%u", c->bytes);
	snprintf(threads, sizeof(threads), "%u", c->threads);
	for (int i = 0; i < TRIES; i++) {
		int status;

		snprintf(time, sizeof(time), "%d", ms << i);
		status = run(who, false, arg, out, sizeof(out));
		if (status != 0 || sscanf(out, "%lf %u %u", &ns, &clean, &all) != 3) {
			printf("%s, %s, %s: it failed: %d\n", names[who], figures[f].workload, c->name, status);
			failures++;
			return;
		}
		if (clean >= ENOUGH || (i == TRIES - 1 && clean)) {
			s->of[s->n++] = ns;
			return;
		}
	}
	too_busy++;
}

int main(int argc, char **argv)
{
	const char *only = getenv("ONLY"), *quick = getenv("QUICK");
	int rounds = rounds_wanted(3, MAX_ROUNDS), ms = quick && *quick == '1' ? 30 : 60, cores[2] = { 0, 0 };
	ssize_t length = readlink("/proc/self/exe", here, sizeof(here) - 1);

	(void)argv;
	if (argc > 1 || length < 0) {
		fprintf(stderr, "usage: pool\n");
		return 2;
	}
	here[length] = 0;
	*strrchr(here, '/') = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int who = 0; who < CONTESTANTS; who++)
		if (who <= INLINE || !only || !strncmp(only, names[who], strlen(only)))
			find((enum who)who);
	if (!takes_part[KEEL])
		return 1;
	find_cores(cores);
	if (cores[0] == cores[1])
		printf("a single core: what takes two threads is left out\n");
	for (int round = 0; round < rounds; round++)
		for (int f = 0; f < FIGURES; f++)
			for (int i = 0; i < WIDTH; i++)
				for (int turn = 0; turn < CONTESTANTS; turn++) {
					int who = (turn + round) % CONTESTANTS;
					const struct column *c = &figures[f].columns[i];

					if (c->name && takes_part[who] && contestants[who].figures & BIT(f) &&
					    (c->threads == 1 || cores[0] != cores[1]))
						measure((enum figure)f, i, (enum who)who, ms);
				}
	for (int f = 0; f < FIGURES; f++)
		for (int i = 0; i < WIDTH; i++)
			for (int who = 0; who < CONTESTANTS; who++)
				qsort(samples[f][i][who].of, (size_t)samples[f][i][who].n, sizeof(double), by_value);
	print_preface(rounds, ms);
	for (int f = 0; f < FIGURES; f++)
		print_figure((enum figure)f);
	print_goals();
	if (too_busy)
		printf("\nToo busy a machine for %d figures, which lack: no slice counted in %d tries.\n", too_busy, TRIES);
	if (failures)
		printf("\n%d processes failed\n", failures);
	return failures != 0;
}
