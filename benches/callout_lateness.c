/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When callouts start, measured from the date they were armed for.
 *
 *     callout_lateness [seconds [percent]]
 *
 * Two callout cpus in keel's loop; callouts with default precision, armed again
 * and again for up to 10 ms, 100 ms, 1 s; busy for <percent> of the time (50):
 * first each cpu, by what its handlers do, then each processor, by a thread that
 * works for 2 ms and sleeps for the rest. Beside them threads that sleep until
 * such dates themselves: what the machine allows. Then an idle cpu with 1000 callouts an hour away: how often
 * does it wake up? Exits with 1 where a callout was early. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#define CPUS     2
#define CLASSES  3
#define SLEEPERS 4  /* threads of each class */
#define FAR      1000
#define BUSY_NS  2000000
#define WATCHED  60 /* seconds at most in which the idle cpu is watched */

/* Intervals from a tenth of <longest> to all of it, ms. */
static const struct class {
	unsigned int longest, callouts;
} classes[CLASSES] = { { 10, 10 }, { 100, 100 }, { 1000, 1000 } };

static struct timed {
	struct callout c;
	sbintime_t date, precision;
	unsigned int seed, class;
} timed[10 + 100 + 1000];

#define CALLOUTS (sizeof(timed) / sizeof(timed[0]))

/* Each thread counts for itself. */
static struct tally {
	unsigned long runs, early, in_window, histogram[24]; /* us, by powers of two */
	double beyond; /* the worst lateness after the window's end, us */
} tally[CPUS + SLEEPERS][CLASSES] __attribute__((aligned(128)));

static struct callout far_away[FAR];
static atomic_int over, busy_over, entered;
static pid_t tids[CPUS];
static unsigned int percent = 50, seconds = 6;
static uint64_t work_ns; /* of a handler */

static sbintime_t uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((sbintime_t)ts.tv_sec << 32) |
	       (sbintime_t)(((uint64_t)ts.tv_nsec << 32) / 1000000000u);
}

static void nap(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	nanosleep(&ts, NULL);
}

static double microseconds(sbintime_t t)
{
	return (double)t * 1e6 / (double)SBT_1S;
}

static void note(struct tally *y, sbintime_t late, sbintime_t precision)
{
	int bin = 0;

	y->runs++;
	if (late < 0)
		y->early++;
	else if (late <= precision)
		y->in_window++;
	else if (microseconds(late - precision) > y->beyond)
		y->beyond = microseconds(late - precision);
	while (bin < 23 && microseconds(late) >= (double)(1UL << bin))
		bin++;
	y->histogram[bin]++;
}

static sbintime_t interval(unsigned int class, unsigned int *seed)
{
	unsigned int longest = classes[class].longest * 1000;

	return (longest / 10 + (unsigned int)rand_r(seed) % (longest * 9 / 10)) * SBT_1US;
}

static void starts(void *arg);

static void arm(struct timed *t, int cpu)
{
	callout_when(interval(t->class, &t->seed), 0, 0, &t->date, &t->precision);
	callout_reset_sbt_on(&t->c, t->date, t->precision, starts, t, cpu, C_PRECALC);
}

static void starts(void *arg)
{
	struct timed *t = arg;

	uint64_t end = keel_now_ns() + work_ns;

	note(&tally[keel_tid()][t->class], uptime() - t->date, t->precision);
	while (keel_now_ns() < end)
		;
	if (!atomic_load(&over))
		arm(t, (int)keel_tid());
}

/* The same without keel. */
static void *sleeps(void *arg)
{
	unsigned int number = (unsigned int)(size_t)arg, seed = number, class = number % CLASSES;
	struct tally *y = &tally[CPUS + number / CLASSES][class];

	while (!atomic_load(&over)) {
		sbintime_t delay = interval(class, &seed), date = uptime() + delay;
		uint64_t fraction = (uint64_t)(date & 0xffffffff) * 1000000000u;
		struct timespec ts = { date >> 32, (long)(fraction >> 32) + 1 };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		note(y, uptime() - date, delay >> 4);
	}
	return NULL;
}

static void *works(void *arg)
{
	while (percent && !atomic_load(&busy_over)) {
		uint64_t end = keel_now_ns() + BUSY_NS;

		while (keel_now_ns() < end)
			;
		nap((uint64_t)BUSY_NS * (100 - percent) / percent);
	}
	return arg;
}

static int enters(unsigned int tid, void *arg)
{
	(void)arg;
	tids[tid] = (pid_t)syscall(SYS_gettid);
	atomic_fetch_add(&entered, 1);
	return 0;
}

static void *runs(void *arg)
{
	keel_run(enters, NULL);
	return arg;
}

static long switches(pid_t tid)
{
	char path[64], line[128];
	long n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	if (!(f = fopen(path, "r")))
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	fclose(f);
	return n;
}

static void never(void *arg)
{
	(void)arg;
}

/* The sum of some threads' tallies of one class. */
static struct tally sum(int from, int to, int class)
{
	struct tally all = { 0 };

	for (int i = from; i < to; i++) {
		const struct tally *y = &tally[i][class];

		all.runs += y->runs;
		all.early += y->early;
		all.in_window += y->in_window;
		if (y->beyond > all.beyond)
			all.beyond = y->beyond;
	}
	return all;
}

static double percentage(unsigned long part, unsigned long whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void report(const char *who)
{
	unsigned long runs = 0, in_window = 0, early = 0;

	printf("callout lateness: %u s, %s busy for %u %% of the time\n", seconds, who, percent);
	printf("  interval         starts  in window  worst beyond   a sleeping thread\n");
	for (int c = 0; c < CLASSES; c++) {
		struct tally keel = sum(0, CPUS, c), libc = sum(CPUS, CPUS + SLEEPERS, c);

		printf("  up to %4u ms  %8lu  %7.3f %%  %9.0f us  %7.3f %%  %9.0f us\n", classes[c].longest,
		       keel.runs, percentage(keel.in_window, keel.runs), keel.beyond,
		       percentage(libc.in_window, libc.runs), libc.beyond);
		runs += keel.runs;
		in_window += keel.in_window;
		early += keel.early;
	}
	printf("  all            %8lu  %7.3f %%  early %lu\n", runs, percentage(in_window, runs), early);
	for (int b = 0; b < 24; b++) {
		unsigned long n = 0;

		for (int i = 0; i < CPUS; i++)
			for (int c = 0; c < CLASSES; c++)
				n += tally[i][c].histogram[b];
		if (n)
			printf("  late < %8lu us %8lu  %6.2f %%\n", 1UL << b, n, percentage(n, runs));
	}
	if (early || !runs)
		exit(1);
}

/* <own>: the load is the handlers'. */
static void measure(int own)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t sleeper[SLEEPERS * CLASSES], *worker = calloc((size_t)processors, sizeof(*worker));
	double rate = 0;
	size_t n = 0;

	if (!worker)
		exit(1);
	memset(tally, 0, sizeof(tally));
	atomic_store(&over, 0);
	atomic_store(&busy_over, 0);
	for (int c = 0; c < CLASSES; c++)
		rate += classes[c].callouts / (classes[c].longest * 0.55e-3);
	work_ns = own ? (uint64_t)(percent * 1e7 * CPUS / rate) : 0;
	for (unsigned int c = 0; c < CLASSES; c++)
		for (unsigned int i = 0; i < classes[c].callouts; i++, n++) {
			timed[n].seed = (unsigned int)n;
			timed[n].class = c;
			callout_init(&timed[n].c, CALLOUT_MPSAFE);
			arm(&timed[n], (int)(n % CPUS));
		}
	for (size_t i = 0; i < SLEEPERS * CLASSES; i++)
		pthread_create(&sleeper[i], NULL, sleeps, (void *)i);
	for (long i = 0; !own && i < processors; i++)
		pthread_create(&worker[i], NULL, works, NULL);
	nap(seconds * 1000000000ull);
	atomic_store(&over, 1);
	for (size_t i = 0; i < CALLOUTS; i++)
		callout_drain(&timed[i].c);
	for (size_t i = 0; i < SLEEPERS * CLASSES; i++)
		pthread_join(sleeper[i], NULL);
	atomic_store(&busy_over, 1);
	for (long i = 0; !own && i < processors; i++)
		pthread_join(worker[i], NULL);
	free(worker);
	report(own ? "callout cpus" : "processors");
}

int main(int argc, char **argv)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	unsigned int watched;
	pthread_t loop;
	long before;

	if (argc > 1)
		seconds = (unsigned int)atoi(argv[1]);
	watched = seconds < WATCHED ? seconds : WATCHED;
	if (argc > 2)
		percent = (unsigned int)atoi(argv[2]);
	cfg.nbthread = CPUS;
	cfg.maxsock = 256;
	if (!seconds || percent > 99 || keel_init(&cfg) != 0) {
		fprintf(stderr, "usage: callout_lateness [seconds [percent of load]]\n");
		return 2;
	}
	pthread_create(&loop, NULL, runs, NULL);
	while (atomic_load(&entered) < CPUS)
		nap(1000000);
	measure(1);
	measure(0);
	for (int i = 0; i < FAR; i++)
		callout_reset_sbt_on(&far_away[i], (3600 + i % 60) * SBT_1S, 0, never, NULL, 1, 0);
	nap(500000000);
	before = switches(tids[1]);
	nap(watched * 1000000000ull);
	printf("  idle with %d callouts an hour away: %.1f wakes a minute\n", FAR,
	       (double)(switches(tids[1]) - before) * 60 / watched);
	for (int i = 0; i < FAR; i++)
		callout_stop(&far_away[i]);
	keel_stop();
	pthread_join(loop, NULL);
	keel_deinit();
	return 0;
}
