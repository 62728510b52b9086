/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* KEEL_TEST_SIGNALS=1: every thread of every test is interrupted every few
 * milliseconds, by a signal whose handler does nothing and restarts nothing. */
#ifndef STORM_H
#define STORM_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What tests wait with is not what is tried: it waits on. */
#define waits_on(call)    ({ __typeof__(call) rc; while ((rc = (call)) < 0 && errno == EINTR) ; rc; })
#define waitpid(...)      waits_on((waitpid)(__VA_ARGS__))
#define poll(...)         waits_on((poll)(__VA_ARGS__))
#define read(...)         waits_on((read)(__VA_ARGS__))
#define nanosleep(t, r)   sleeps_on(t)
#define usleep(us)        sleeps_on(&(struct timespec){ (us) / 1000000, (us) % 1000000 * 1000L })

static inline int sleeps_on(const struct timespec *for_so_long)
{
	struct timespec rest = *for_so_long;

	while ((nanosleep)(&rest, &rest) < 0 && errno == EINTR)
		;
	return 0;
}

/* Whoever does not expect it ignores it. */
#define STORM_SIGNAL SIGURG

static inline int in_storm(void)
{
	return getenv("KEEL_TEST_SIGNALS") != NULL;
}

static inline void storm_arrives(int number)
{
	(void)number;
}

/* Each thread of the processes that <pid> has started, but the caller; with
 * <itself> those of <pid>, too. */
static inline void storm_strikes(pid_t pid, int itself)
{
	char path[64];
	DIR *tasks;
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (e = readdir(tasks))) {
		int tid = atoi(e->d_name), child;
		FILE *children;

		if (!tid)
			continue;
		if (itself)
			syscall(SYS_tgkill, pid, tid, STORM_SIGNAL);
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, tid);
		children = fopen(path, "re");
		while (children && fscanf(children, "%d", &child) == 1)
			if (child != getpid())
				storm_strikes(child, 1);
		if (children)
			fclose(children);
	}
	if (tasks)
		closedir(tasks);
}

/* Begins the storm, where it is asked for: the process that sends it. It sits
 * outside of the tests, which are killed by groups, have threads of their own
 * and count their descriptors. */
static inline pid_t begin_storm(void)
{
	struct sigaction sa = { .sa_handler = storm_arrives };
	struct timespec pause = { 0, 2000000 };
	pid_t runner = getpid(), sender;

	if (!in_storm())
		return 0;
	sigaction(STORM_SIGNAL, &sa, NULL);
	sender = fork();
	if (sender)
		return sender;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == runner) {
		storm_strikes(runner, 0);
		nanosleep(&pause, NULL);
	}
	_exit(0);
}

static inline void end_storm(pid_t sender)
{
	if (sender <= 0)
		return;
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
}

#endif
