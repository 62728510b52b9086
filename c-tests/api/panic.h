/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For tests that have to end in a panic, and in the right one. */
#ifndef PANIC_H
#define PANIC_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Exit statuses: the panic said what was expected, or something else. */
enum { AS_EXPECTED = 33, UNEXPECTED = 34 };

static const char *panic_words[4];

/* The panic to come must contain these; NULL: no further one. */
static inline void expect_panic(const char *one, const char *two, const char *three)
{
	panic_words[0] = one;
	panic_words[1] = two;
	panic_words[2] = three;
}

/* A keel_config's panic hook. */
static inline void hear_panic(const char *file, int line, const char *message, void *arg)
{
	int good = panic_words[0] != NULL;

	(void)arg;
	for (int i = 0; panic_words[i]; i++)
		good = good && strstr(message, panic_words[i]);
	if (!good)
		fprintf(stderr, "%s:%d: %s\n", file, line, message);
	_exit(good ? AS_EXPECTED : UNEXPECTED);
}

#endif
