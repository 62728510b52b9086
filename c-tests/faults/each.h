/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A scenario of calls to the library with the first call that needs something
 * failing, then with the second, and so on until it needs no more; and once
 * more with all of them failing from there on. */
#ifndef EACH_H
#define EACH_H

#include "faults.h"

#include <check.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>

#include <keel/keel.h>

#include "../api/suite.h"

/* What this turn does, for messages. */
static int nth, for_good;

#define must(condition) \
	do { \
		if (!(condition)) \
			ck_abort_msg("call %d%s: not so: %s (errno %d)", nth, for_good ? " and later ones" : "", \
			             #condition, errno); \
	} while (0)

/* The library has just said no: there was a reason, and that is what it says. */
static inline void refused(int error)
{
	must(atomic_load(&faults.failed) > 0);
	if (error != faults.error)
		ck_abort_msg("call %d: error %d instead of %d", nth, error, faults.error);
}

/* For keel_run(): a loop that ends at once. */
static inline int stops(unsigned int tid, void *arg)
{
	(void)tid;
	(void)arg;
	keel_stop();
	return 0;
}

/* A pointer of the library's; NULL with a reason in errno. */
static inline int some(const void *pointer)
{
	if (!pointer) {
		refused(errno);
		errno = 0;
	}
	return pointer != NULL;
}

/* 0 of the library's, or a reason. */
static inline int good(int rc)
{
	if (rc < 0)
		refused(-rc);
	return rc >= 0;
}

static inline int open_numbers(void)
{
	int n = 0;

	for (int fd = 0; fd < 512; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The scenario ends with nothing left, having armed the faults by again(). */
static enum fault kind;
static int error;

static inline void again(void)
{
	arm(kind, error, nth, for_good ? INT_MAX : nth);
}

/* <least>: it needs something that often, or the faults reach nobody. */
static inline void each_failure(enum fault k, int e, void (*scenario)(void), int least)
{
	kind = k;
	error = e;
	for (for_good = 0; for_good < 2; for_good++) {
		/* What stays for good is made now. */
		nth = INT_MAX;
		scenario();
		for (nth = 1;; nth++) {
			int areas = atomic_load(&held), numbers = open_numbers();

			atomic_store(&faults.failed, 0);
			scenario();
			disarm();
			must(atomic_load(&held) == areas);
			must(open_numbers() == numbers);
			if (atomic_load(&faults.failed) == 0)
				break;
		}
		ck_assert_int_gt(nth, least);
	}
}

#endif
