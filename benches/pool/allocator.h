/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What workload.c is compiled with, three ways: keel's pools (WITH_KEEL), no
 * allocator at all (WITH_NOTHING: what the loops themselves cost), or the C
 * library's, which LD_PRELOAD may replace. Each function is a plain call. */

#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static size_t object_size;

#if defined(WITH_KEEL)

#include <keel/keel.h>

/* At the start of a page: a load of it, next to a store whose address ends
 * alike, may wait for that, which would be chance. */
static struct pool_head *pool __attribute__((aligned(4096)));

/* $CACHE_BYTES: of each thread's cache. */
static const char *open_allocator(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	const char *bytes = getenv("CACHE_BYTES");

	cfg.nbthread = 2;
	cfg.pool_cache_bytes = bytes ? strtoul(bytes, NULL, 10) : 0;
	if (keel_init(&cfg) != 0)
		return "keel_init() failed";
	pool = create_pool("bench", (unsigned int)object_size, MEM_F_EXACT);
	return pool ? NULL : "create_pool() failed";
}

static bool enter_allocator(unsigned int tid) { return keel_thread_enter(tid) == 0; }
static void leave_allocator(void) { keel_thread_leave(); }

/* Once all objects were given back. */
static const char *close_allocator(void)
{
	if (pool_destroy(pool))
		return "keel still counts objects in use";
	keel_deinit();
	return NULL;
}

static inline void *take(void) { return pool_alloc(pool); }
static inline void give(void *object) { pool_free(pool, object); }
static inline void *take_nth(uint32_t n) { return (void)n, take(); }

#elif defined(WITH_NOTHING)

static char *spare;
static uint32_t spares;

/* More than a ring holds. */
static const char *open_allocator(void)
{
	spares = object_size > 65536 ? 32 : 2048;
	spare = aligned_alloc(4096, spares * object_size);
	if (!spare)
		return "out of memory";
	if (object_size <= 65536)
		memset(spare, 1, spares * object_size);
	return NULL;
}

static bool enter_allocator(unsigned int tid) { return (void)tid, true; }
static void leave_allocator(void) { }
static const char *close_allocator(void) { return free(spare), NULL; }

static inline void *take_nth(uint32_t n) { return spare + n % spares * object_size; }
static inline void *take(void)
{
	static __thread uint64_t mine[8];

	return mine;
}
static inline void give(void *object) { __asm__ volatile("" : : "r"(object)); }

#else

#include <dlfcn.h>

/* $EXPECT: a part of the name of the library that malloc() and free() have to
 * come from. Where it is not installed, the loader only warns. */
static const char *open_allocator(void)
{
	const char *expect = getenv("EXPECT");
	Dl_info m, f;

	if (!dladdr(dlsym(RTLD_DEFAULT, "malloc"), &m) || !dladdr(dlsym(RTLD_DEFAULT, "free"), &f))
		return "nobody knows whose malloc() this is";
	if (strcmp(m.dli_fname, f.dli_fname) || !strstr(m.dli_fname, expect ? expect : "libc.so"))
		return "another malloc() than expected";
	return NULL;
}

static bool enter_allocator(unsigned int tid) { return (void)tid, true; }
static void leave_allocator(void) { }
static const char *close_allocator(void) { return NULL; }

static inline void *take(void) { return malloc(object_size); }
static inline void give(void *object) { free(object); }
static inline void *take_nth(uint32_t n) { return (void)n, take(); }

#endif

#endif
