/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A process without memory, or with less than it seems. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static inline int under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

/* Under a checker the address space is not the program's own. */
static inline int checked(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return 1;
#endif
	return under_valgrind();
}

/* Under qemu's emulation of a program, as in `make check-cross`: it ignores the limit of memory,
 * has a thread of its own, and what it runs cannot exec its like. */
static inline int emulated(void)
{
	const char *runner = getenv("RUNNER");

	return runner && strstr(runner, "qemu");
}

/* Leaves a test that cannot be told from a failure there, and says so. */
#define NOT_UNDER_QEMU(why) \
	if (emulated()) { \
		printf("ok %s # skip under qemu: %s\n", __func__, why); \
		return; \
	}

/* Takes all memory that <limit> leaves, down to the smallest pieces. */
static inline void *take_all_memory(struct rlimit *now)
{
	struct rlimit tight;
	void **last = NULL, **piece;

	getrlimit(RLIMIT_AS, now);
	tight = *now;
	tight.rlim_cur = 0;
	setrlimit(RLIMIT_AS, &tight);
	for (size_t size = 1 << 20; size > 0; size -= size > 1024 ? size / 2 : 16) {
		while ((piece = malloc(size))) {
			*piece = last;
			last = piece;
		}
	}
	return last;
}

static inline void give_all_memory_back(void *last, const struct rlimit *now)
{
	void **piece = last;

	setrlimit(RLIMIT_AS, now);
	while ((piece = last)) {
		last = *piece;
		free(piece);
	}
}

#endif
