/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pools of 64 bytes to 2 MiB under 16 threads, on an allocator that unmaps what
 * it gets back at once and hands no address out twice.
 *
 *     pool [seconds]
 *
 * Threads take objects, pass them on and give them back, whoever took them;
 * they flush and collect at random, and leave keel and come back. Caches are so
 * small that the shared lists are busy. Each object is stamped with its holder's
 * number: one that two threads hold is seen at once, one that is read after it
 * was freed faults, a list that stays locked is a hang, which is an error after
 * HANG seconds, and each round ends with every pool empty. Rounds of a few
 * seconds differ in the size of the caches and in how many threads are
 * registered. Default: three seconds, as long as a test among others may take;
 * `make pool-stress` is a minute.
 *
 * SEED in the environment repeats the random numbers.
 *
 * Under the sanitizers theirs is the allocator, which notes what is freed.
 * SHOWS: INV-1, INV-2, INV-3, INV-5, INV-26 */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "../race/cpus.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define THREADS  16
#define ROUND_S  4
#define HANG     (SANITIZED ? 90 : 20)
#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static atomic_ulong unmapped;

#if !SANITIZED
/* --- the allocator: each block of 64 bytes or more is a mapping of its own --- */

#define PAGE  4096ul
#define FIRST 0x100000000000ul
#define ROOM  0x400000000000ul

struct block {
	size_t size;
	char *map; /* NULL: in the arena */
	size_t span;
	size_t spare; /* 16-aligned, as what follows */
};

/* What is small, and no pool's: never given back. */
static _Alignas(64) char arena[32 << 20];
static atomic_size_t arena_used;
static atomic_size_t place;

static struct block *block_of(void *p)
{
	return (struct block *)p - 1;
}

static void *small(size_t size, size_t align)
{
	size_t want = (sizeof(struct block) + size + align + 15) & ~(size_t)15;
	size_t at = atomic_fetch_add(&arena_used, want);
	uintptr_t p;

	if (at + want > sizeof(arena))
		return NULL;
	p = ((uintptr_t)(arena + at) + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1);
	*block_of((void *)p) = (struct block){ .size = size };
	return (void *)p;
}

static void *large(size_t size, size_t align)
{
	size_t skip = align < sizeof(struct block) ? sizeof(struct block) : align;
	size_t span = (size + skip + (align > PAGE ? align : 0) + PAGE - 1) & ~(PAGE - 1);
	/* A hole after each: neighbours would become one mapping. */
	size_t at = atomic_fetch_add(&place, span + PAGE) % ROOM;
	char *map = mmap((void *)(FIRST + at), span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t p;

	if (map == MAP_FAILED)
		return NULL;
	p = ((uintptr_t)map + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1);
	*block_of((void *)p) = (struct block){ .size = size, .map = map, .span = span };
	return (void *)p;
}

static void *block(size_t size, size_t align)
{
	void *p = NULL;

	if (align < sizeof(struct block))
		align = sizeof(struct block);
	if (size > (size_t)1 << 40) {
		errno = ENOMEM;
		return NULL;
	}
	if (size < 64 && align <= 64)
		p = small(size, align);
	if (!p)
		p = large(size, align);
	if (!p)
		errno = ENOMEM;
	return p;
}

void *malloc(size_t size)
{
	return block(size, 16);
}

void *calloc(size_t n, size_t size)
{
	size_t bytes;

	/* Mappings and the arena begin as zeroes, and come once. */
	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return block(bytes, 16);
}

void free(void *p)
{
	int before = errno;

	if (!p || !block_of(p)->map)
		return;
	if (munmap(block_of(p)->map, block_of(p)->span) != 0)
		abort();
	atomic_fetch_add_explicit(&unmapped, 1, memory_order_relaxed);
	errno = before;
}

void *realloc(void *p, size_t size)
{
	void *new = block(size, 16);

	if (p && new) {
		memcpy(new, p, size < block_of(p)->size ? size : block_of(p)->size);
		free(p);
	}
	return new;
}

int posix_memalign(void **out, size_t align, size_t size)
{
	void *p = block(size, align);

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

void *aligned_alloc(size_t align, size_t size)
{
	return block(size, align);
}

void *memalign(size_t align, size_t size)
{
	return block(size, align);
}

/* Says what kind of crash it was. */
static void fault(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	static const char freed[] = "pool: a fault: memory was touched after it was freed\n";
	static const char wild[] = "pool: a fault at an address that was never memory\n";

	(void)sig;
	(void)context;
	if (at - FIRST < ROOM)
		(void)!write(2, freed, sizeof(freed) - 1);
	else
		(void)!write(2, wild, sizeof(wild) - 1);
	/* Once more, without this handler. */
}

/* Two processors see little of what 16 threads can do to each other: a timer
 * stops each of them wherever it is, for as long as others need to get past. */
static void stopped(int sig)
{
	static __thread unsigned int n;
	int before = errno;

	(void)sig;
	nap(50 + n++ % 7 * 100);
	errno = before;
}

static void stop_at_random(unsigned int id, timer_t *timer)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	/* Not all at the same time. */
	long ns = 200000 + id * 17000;
	struct itimerspec every = { { 0, ns }, { 0, ns } };

	event._sigev_un._tid = gettid();
	must(timer_create(CLOCK_MONOTONIC, &event, timer) == 0 && timer_settime(*timer, 0, &every, NULL) == 0,
	     "no timer");
}
#endif

/* --- objects ------------------------------------------------------------------- */

#define SHELF 256 /* objects on their way to another thread, per pool */
#define ARMS  48  /* objects that a thread holds at once */

static struct {
	unsigned int size, shelf, arms;
	struct pool_head *pool;
	uintptr_t *_Atomic slot[SHELF];
} kinds[] = {
	{ .size = 64, .shelf = SHELF, .arms = ARMS },
	{ .size = 512, .shelf = SHELF, .arms = ARMS },
	{ .size = 16384, .shelf = 128, .arms = 24 },
	{ .size = 256 << 10, .shelf = 48, .arms = 12 },
	{ .size = 2 << 20, .shelf = 24, .arms = 6 },
};

static atomic_int over;
static atomic_ulong taken, passed, flushes, collections;
static unsigned int registered;
static int stops;

enum { NOBODY = 0, ON_SHELF = 255 };

/* The first, the middle and the last word: other threads' exchanges of these are
 * no synchronisation, so that ThreadSanitizer sees what the pools lack. */
static uintptr_t stamp(uintptr_t *object, unsigned int holder)
{
	return holder == NOBODY ? 0 : ((uintptr_t)object * 0x9e3779b97f4a7c15u & ~(uintptr_t)255) | holder;
}

static void hand(unsigned int k, uintptr_t *object, unsigned int from, unsigned int to)
{
	size_t words = kinds[k].size / sizeof(*object);
	size_t at[] = { 0, words / 2, words - 1 };

	for (size_t i = 0; i < ARRAY(at); i++) {
		uintptr_t was = __atomic_exchange_n(&object[at[i]], stamp(object, to), __ATOMIC_RELAXED);

		if (from != NOBODY)
			must(was == stamp(object, from), "%u bytes: word %zu is %#lx, not the stamp of %u", kinds[k].size,
			     at[i], (unsigned long)was, from);
		else
			must((was ^ stamp(object, 1)) > 255, "%u bytes: taken by %u while %u holds it", kinds[k].size, to,
			     (unsigned int)(was & 255));
	}
}

/* What only the holder touches: a race here is the pool's. */
static void *fill(unsigned int k, uintptr_t *object, uintptr_t with)
{
	object[1] = with;
	object[kinds[k].size / sizeof(*object) - 2] = ~with;
	return object;
}

static uintptr_t *take(unsigned int k, unsigned int me)
{
	int zeroed = !dice(kinds[k].size > 100000 ? 500 : 20);
	uintptr_t *object = zeroed ? pool_zalloc(kinds[k].pool) : pool_alloc(kinds[k].pool);
	size_t last = kinds[k].size / sizeof(*object) - 1;

	must(object, "no memory for %u bytes", kinds[k].size);
	must(!zeroed || (!object[0] && !object[1] && !object[last / 2] && !object[last]), "not zeroed");
	hand(k, object, NOBODY, me);
	fill(k, object, (uintptr_t)object ^ me);
	atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
	return object;
}

static void give(unsigned int k, uintptr_t *object, unsigned int me)
{
	size_t last = kinds[k].size / sizeof(*object) - 1;

	must(object[last - 1] == ~object[1], "%u bytes: somebody else wrote", kinds[k].size);
	hand(k, object, me, NOBODY);
	pool_free(kinds[k].pool, object);
}

/* Puts an object, or nothing, where another thread finds it; gives back what was there. */
static void pass(unsigned int k, uintptr_t *object, unsigned int me)
{
	if (object)
		hand(k, object, me, ON_SHELF);
	object = atomic_exchange_explicit(&kinds[k].slot[dice(kinds[k].shelf)], object, memory_order_acq_rel);
	if (!object)
		return;
	hand(k, object, ON_SHELF, me);
	fill(k, object, (uintptr_t)object + me);
	give(k, object, me);
	atomic_fetch_add_explicit(&passed, 1, memory_order_relaxed);
}

static void one_step(unsigned int me)
{
	unsigned int k = dice(ARRAY(kinds)), n = 1 + dice(kinds[k].arms);
	uintptr_t *held[ARMS];

	switch (dice(64)) {
	case 0:
	case 1:
		/* At times many: what a flush overlooks or overwrites is what
		 * comes in the few instructions that it takes. */
		n = dice(3) ? 1 : dice(400);
		atomic_fetch_add_explicit(&flushes, n, memory_order_relaxed);
		while (n--)
			pool_flush(kinds[k].pool);
		return;
	case 2:
		if (dice(16))
			return;
		pool_gc(NULL);
		atomic_fetch_add_explicit(&collections, 1, memory_order_relaxed);
		return;
	case 3:
		/* What stays shared whatever the need. */
		__atomic_store_n(&kinds[k].pool->minavail, dice(kinds[k].shelf), __ATOMIC_RELAXED);
		return;
	case 4 ... 15:
		while (n--)
			pass(k, NULL, me);
		return;
	case 16 ... 39:
		for (unsigned int i = 0; i < n; i++)
			held[i] = take(k, me);
		if (!dice(8))
			sched_yield();
		while (n--)
			give(k, held[n], me);
		return;
	default:
		while (n--)
			pass(k, take(k, me), me);
	}
}

static void *rages(void *arg)
{
	unsigned int id = (unsigned int)(size_t)arg;

#if !SANITIZED
	timer_t timer;

	if (stops)
		stop_at_random(id, &timer);
#endif
	if (id < registered)
		must(keel_thread_enter(id) == 0, "thread %u cannot enter", id);
	while (!atomic_load(&over)) {
		for (unsigned int burst = 1 + dice(30); burst; burst--)
			one_step(id + 1);
		atomic_fetch_add_explicit(&progress, 1, memory_order_relaxed);
		if (id >= registered)
			continue;
		keel_poll_once(0);
		if (!dice(50)) {
			keel_thread_leave();
			must(keel_thread_enter(id) == 0, "thread %u cannot enter again", id);
		}
	}
	if (id < registered)
		keel_thread_leave();
#if !SANITIZED
	if (stops)
		timer_delete(timer);
#endif
	return NULL;
}

/* --- rounds -------------------------------------------------------------------- */

static const struct {
	size_t cache;
	unsigned int registered;
	int stops; /* threads are stopped at random */
} rounds[] = {
	{ 4096, 12, 1 }, /* a thread caches 64 of the smallest, none from 16 KiB on */
	{ 1, 2, 1 },     /* nobody caches anything */
	{ 4096, 16, 0 },
	{ 100000, 12, 1 },
};

static void round_of(unsigned int number, double seconds)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th[THREADS];

	registered = rounds[number % ARRAY(rounds)].registered;
	stops = rounds[number % ARRAY(rounds)].stops;
	cfg.nbthread = registered;
	cfg.maxsock = 256;
	cfg.pool_cache_bytes = rounds[number % ARRAY(rounds)].cache;
	must(keel_init(&cfg) == 0, "keel_init() fails");
	for (size_t k = 0; k < ARRAY(kinds); k++)
		must(kinds[k].pool = create_pool("stress", kinds[k].size, MEM_F_EXACT), "no pool");
	atomic_store(&over, 0);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&th[i], NULL, rages, (void *)i) == 0, "no thread");
	nap((long)(seconds * 1000000));
	atomic_store(&over, 1);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	for (unsigned int k = 0; k < ARRAY(kinds); k++) {
		struct keel_pool_stats stats;

		for (unsigned int i = 0; i < kinds[k].shelf; i++) {
			uintptr_t *object = atomic_exchange(&kinds[k].slot[i], NULL);

			if (object) {
				hand(k, object, ON_SHELF, 1);
				give(k, object, 1);
			}
		}
		pool_flush(kinds[k].pool);
		keel_pool_get_stats(kinds[k].pool, &stats);
		must(stats.allocated == 0, "%u bytes: all objects are back and flushed, and %llu stay allocated",
		     kinds[k].size, stats.allocated);
		must(pool_destroy(kinds[k].pool) == NULL, "a pool of which nothing is used survives");
	}
	keel_deinit();
}

static void *hangs(void *arg)
{
	unsigned long before = 0;

	(void)arg;
	for (int idle = 0;; idle++) {
		unsigned long now = atomic_load(&progress);

		if (now != before)
			idle = 0;
		before = now;
		must(idle < HANG, "nothing has moved for %d seconds: a list stays locked", HANG);
		sleep(1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 3, left;
	unsigned int n = seconds / ROUND_S < ARRAY(rounds) ? ARRAY(rounds) : (unsigned int)(seconds / ROUND_S);
	pthread_t th;

	if (seconds <= 0) {
		fprintf(stderr, "usage: pool [seconds]\n");
		return 2;
	}
#if !SANITIZED
	struct sigaction sa = { .sa_sigaction = fault, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND) };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sa = (struct sigaction){ .sa_handler = stopped, .sa_flags = SA_RESTART };
	sigaction(SIGALRM, &sa, NULL);
#endif
	must(pthread_create(&th, NULL, hangs, NULL) == 0, "no thread");
	pthread_detach(th);
	left = seconds / n;
	for (unsigned int i = 0; i < n; i++)
		round_of(i, left);
	must(atomic_load(&passed) > 0 && atomic_load(&flushes) > 0, "nothing happened");
#if !SANITIZED
	must(atomic_load(&unmapped) > 0, "nothing was unmapped: this allocator serves nobody");
#endif
	printf("ok %.0f s, %d threads, %u rounds: %lu objects taken, %lu passed on, %lu unmapped when freed, "
	       "%lu flushes, %lu collections; every pool empty in the end\n",
	       seconds, THREADS, n, atomic_load(&taken), atomic_load(&passed), atomic_load(&unmapped),
	       atomic_load(&flushes), atomic_load(&collections));
	return 0;
}
