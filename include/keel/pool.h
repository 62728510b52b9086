/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/pool.h: pools of fixed-size objects.
 *
 * A pool hands out objects of one size and recycles them. What a registered
 * thread frees stays in a cache of its own, from which its next allocation is
 * served without touching memory that other threads use; beyond the cache's
 * limit (keel_config.pool_cache_bytes) objects go to a list that all threads
 * share, or to the system where the pool has more than it needs. An object
 * may be freed by another thread than the one that allocated it. Threads that
 * were never registered may use every function; they work on the shared list.
 *
 * Made from src/abi/pool.rs: edit that.
 */
#ifndef KEEL_POOL_H
#define KEEL_POOL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * create_pool(): the pool may be merged with another one of about the same
 * size.
 */
#define MEM_F_SHARED 0x1

/** create_pool(): the size is neither rounded up nor changed by merging. */
#define MEM_F_EXACT 0x2

/**
 * create_pool(): each object has pages of its own that are unmapped when it
 * is freed, so that any use after free and most overruns fault at once. Slow.
 */
#define MEM_F_UAF 0x4

/**
 * __pool_alloc(): leaves the object's contents alone even if the word
 * "poison" is on.
 */
#define POOL_F_NO_POISON 0x1

/** __pool_alloc(): zeroes the object. */
#define POOL_F_MUST_ZERO 0x2

/**
 * __pool_alloc(): escapes the failures that the word "fail" injects. Memory
 * may still lack.
 */
#define POOL_F_NO_FAIL 0x4

/**
 * A pool, made by create_pool() and by nothing else: private fields follow.
 * name, size and align are for reading; minavail and limit may be set, best
 * before first use.
 */
struct pool_head {
    /** The name, cut to 11 characters. */
    char name[12];
    /** Bytes usable in each object: what was asked for, rounded up. */
    unsigned int size;
    /** Bytes that the address of each object is a multiple of. */
    unsigned int align;
    /** Free objects that pool_gc() leaves in the pool. 0 at first. */
    unsigned int minavail;
    /**
     * The most objects that the pool may hold, in use and free; beyond,
     * allocations fail. 0: no limit, as at first.
     */
    unsigned int limit;
};

/**
 * A pool that is declared by a variable, as <keel/compat/haproxy.h> does it:
 * fill in the first five fields and leave the rest zero.
 */
struct keel_pool_registration {
    /** Where the pool's address goes. NULL there means that it does not exist. */
    struct pool_head **pool;
    /** The arguments of create_aligned_pool(). */
    const char *name;
    /** Bytes of an object. */
    size_t size;
    /** Its alignment; 0: the default. */
    unsigned int align;
    /** MEM_F_*. */
    unsigned int flags;
    /** Private. */
    struct keel_pool_registration *next;
};

/** A pool's figures; exact while no other thread is inside the library. */
struct keel_pool_stats {
    /** Objects that the pool holds: used + cached. */
    unsigned long long allocated;
    /** Objects in callers' hands. */
    unsigned long long used;
    /** Free objects, in the threads' caches and in the shared list. */
    unsigned long long cached;
    /**
     * Allocations that were refused: for lack of memory, by the limit, or by
     * the word "fail".
     */
    unsigned long long failed;
    /** Bytes taken from the system for the allocated objects. */
    unsigned long long bytes;
};

/**
 * Creates a pool for objects of size bytes, or finds one that suits and may
 * be shared: MEM_F_SHARED on both, and the same size or, as long as the found
 * pool was never used, nearly the same. flags are MEM_F_*. Each call is to
 * be matched by one pool_destroy(). Works before keel_init().
 *
 * Returns the pool, or NULL with errno ENOMEM, or EINVAL if name is NULL or
 * size leaves no room in 32 bits.
 *
 * Thread rule: *any thread*.
 */
struct pool_head *create_pool(const char *name, unsigned int size, unsigned int flags);

/**
 * As create_pool(), with objects aligned to align bytes, rounded up to a
 * power of two and to the size of a pointer. EINVAL also if align is above
 * 2^31. 0 means create_pool()'s alignment, 16.
 *
 * Thread rule: *any thread*.
 */
struct pool_head *create_aligned_pool(const char *name,
                                      unsigned int size,
                                      unsigned int align,
                                      unsigned int flags);

/**
 * Creates the pool that declared describes and stores its address where it
 * says. When keel_deinit() or pool_destroy_all() destroys the pool, NULL is
 * stored there, and the next keel_init() creates it again. The record, the
 * name and the place of the address stay where they are until
 * keel_pool_unregister(). Works before keel_init() and before main().
 *
 * Returns 0, -EALREADY for a record that is registered, or as create_pool()
 * -ENOMEM or -EINVAL, both with nothing stored.
 *
 * Thread rule: *any thread*.
 */
int keel_pool_register(struct keel_pool_registration *declared);

/**
 * Forgets a record of keel_pool_register(), which may then go, as it does with
 * a module that is unloaded. The pool stays, since others may use it: the next
 * record that says the same gets it, and keel_deinit() destroys it. A record
 * that is not registered, and NULL, are fine.
 *
 * Thread rule: *any thread*.
 */
void keel_pool_unregister(struct keel_pool_registration *declared);

/**
 * Ends one use of the pool after giving its free objects to the system. When
 * the last use ends, the pool is gone. NULL is accepted.
 *
 * Returns NULL if no object of it is in use, else the pool, which then stays
 * as it is: p = pool_destroy(p). Objects in the caches of other registered
 * threads count as in use; those threads let go of them in keel_thread_leave()
 * or, after pool_gc(), in the next turn of their loop.
 *
 * Thread rule: *any thread*, provided that nobody uses the pool any more if
 * this ends its last use.
 */
void *pool_destroy(struct pool_head *pool);

/**
 * Destroys every pool of which no object is in callers' hands, whatever its
 * number of uses, and empties the caches of all threads. keel_deinit() does
 * the same.
 *
 * Thread rule: *any thread*, while no other one uses the library.
 */
void pool_destroy_all(void);

/**
 * Gives the free objects of the pool's shared list to the system, whatever
 * minavail says. Those in the threads' caches stay. NULL is accepted.
 *
 * Thread rule: *any thread*, at any time.
 */
void pool_flush(struct pool_head *pool);

/**
 * Gives free objects of every pool to the system until minavail of them are
 * left, then the free pages of the libc heap. The calling thread's caches are
 * emptied at once, those of other registered threads in the next turn of
 * their loop. Isolates and waits for nobody. The argument is not used.
 *
 * Thread rule: *any thread*, at any time.
 */
void pool_gc(struct pool_head *unused);

/**
 * Stores the pool's figures in out; those of all pools together if pool
 * is NULL. A NULL out is a panic.
 *
 * Thread rule: *any thread*.
 */
void keel_pool_get_stats(const struct pool_head *pool, struct keel_pool_stats *out);

/**
 * Returns the bytes of all objects that the pools hold: for each pool, their
 * number times its size.
 *
 * Thread rule: *any thread*.
 */
unsigned long long pool_total_allocated(void);

/**
 * Returns the bytes of all objects in callers' hands: for each pool, their
 * number times its size.
 *
 * Thread rule: *any thread*.
 */
unsigned long long pool_total_used(void);

/**
 * Returns the number of refused allocations, all pools together, at most
 * INT_MAX.
 *
 * Thread rule: *any thread*.
 */
int pool_total_failures(void);

/**
 * Sets debugging words for the pools that are created from now on: HAProxy's
 * -dM, comma separated, later ones winning. A leading number is the poison
 * byte ("" means 0x50, a negative number none). The words:
 *
 *   poison     fills objects with the poison byte when they are allocated, so
 *              that a stale pointer does not read what it wrote
 *   tag        detects double frees, frees to the wrong pool, small overruns
 *   integrity  detects writes to free objects: in a thread's cache to any byte
 *              of the size, in the shared list to those behind the links,
 *              once the object leaves its place again
 *   backup     the same by a copy, which leaves the contents alone; together
 *              with integrity, reports tell what the object held
 *   caller     remembers who allocated or freed an object last, for reports
 *   fail       makes 1 % of the allocations fail; fail=N makes it N %; only
 *              once keel_init() has returned
 *   no-merge   merges pools of the same name only
 *   cold-first hands the oldest cached object out instead of the newest
 *   no-global  has no shared list; no-cache has no caches either
 *   uaf        as MEM_F_UAF, for every pool: uses after free fault, so do
 *              overruns as far as the alignment leaves no gap, a write right
 *              before the object is seen when it is freed
 *
 * and their opposites no-poison, no-tag, no-integrity, no-backup, no-caller,
 * no-fail, merge, hot-first, global, cache, no-uaf. uaf implies no-cache, and
 * "uaf,cache" is a mixture. What is detected is a panic; its sentence names
 * the pool, the object and the call sites: addresses, with offsets into the
 * file and function where the dynamic linker knows them.
 *
 * At first those words are on that the environment variable KEEL_POOL_DEBUG
 * has, or none. It is read once, before the first pool is created; what it
 * says wrong is told on stderr, and none of it applies. Programs with
 * privileges (set-user-ID) ignore it.
 *
 * Returns 0, or with nothing changed -EINVAL for anything else.
 *
 * Thread rule: *any thread*.
 */
int keel_pool_debug(const char *options);

/**
 * Writes a table of all pools to a descriptor: a line for each, with what it
 * holds, what is used (by callers and, as in HAProxy, by caches), the average
 * need, failures and users; then a line of totals.
 *
 * Returns the bytes written, or a negative errno.
 *
 * Thread rule: *any thread*.
 */
int keel_dump_pools(int fd);

/**
 * As keel_dump_pools(), of the pools and in the order that options says: the
 * words of the command 'show pools', separated by blanks; NULL and "" mean
 * all, smallest objects first.
 *
 *   byname, bysize, byusage   sort by name, by size from the largest down, or
 *                             by allocated bytes from the most down, without
 *                             the pools that hold none; the last word wins
 *   match PREFIX              only pools whose names begin so
 *   detailed                  a line more for each different request that a
 *                             pool was created or found for
 *   NUMBER                    only so many pools, the first ones; 0: all. What
 *                             leaves some out says so
 *
 * The totals are those of all selected pools, whether or not they are among
 * the first.
 *
 * Returns the bytes written, or a negative errno; -EINVAL for other words and
 * -ENOMEM if sorting lacks memory, both with nothing written.
 *
 * Thread rule: *any thread*.
 */
int keel_dump_pools_with(int fd, const char *options);

/**
 * HAProxy's parser of -dM: as keel_pool_debug(), but the words act also on the
 * pools of keel_pool_register() that nobody has used yet, which are made anew.
 * The word "help" asks for a table of all words.
 *
 * Returns 1; 0 with a warning if pools exist that the words do not act on; -1
 * with the table, or -2 with what is wrong, and no word set. The text goes to
 * *err, for the caller to free(), if err is not NULL; *err is NULL
 * without one, or for lack of memory.
 *
 * Thread rule: *any thread*, before others use pools.
 */
int pool_parse_debugging(const char *str, char **err);

/**
 * An object that the calling thread's cache does not have. Thread rule: *any
 * thread*.
 */
void *keel_pool_take(struct pool_head *pool, unsigned int flags, const void *from);

/**
 * Takes an object that the calling thread's cache does not. Thread rule: *any
 * thread*.
 */
void keel_pool_give_back(struct pool_head *pool, void *ptr, unsigned int flags, const void *from);

/*
 * Calls of such a function take its address from the table that the loader
 * fills in, instead of jumping to it once more.
 */
#ifdef __has_attribute
#if __has_attribute(noplt)
#define KEEL_NOPLT __attribute__((noplt))
#endif
#endif
#ifndef KEEL_NOPLT
#define KEEL_NOPLT
#endif

/*
 * Takes an object from the pool. Its contents are undefined.
 *
 * Returns the object, which pool_free() takes back, or NULL with errno ENOMEM.
 * A NULL pool is a panic.
 *
 * Thread rule: *any thread*.
 */
KEEL_NOPLT void *pool_alloc(struct pool_head *pool);

/*
 * As pool_alloc(), with the `size` bytes of the object set to zero.
 *
 * Thread rule: *any thread*.
 */
KEEL_NOPLT void *pool_zalloc(struct pool_head *pool);

/*
 * As pool_alloc(), with any of POOL_F_*; other bits are ignored.
 *
 * Thread rule: *any thread*.
 */
KEEL_NOPLT void *__pool_alloc(struct pool_head *pool, unsigned int pool_f_flags);

/*
 * Takes an object from the system instead of a cache or the shared list. The
 * pool's limit, its figures and the debugging words apply, but for "fail".
 *
 * Returns the object, or NULL with errno ENOMEM. A NULL pool is a panic.
 *
 * Thread rule: *any thread*.
 */
void *pool_alloc_nocache(struct pool_head *pool);

/*
 * Gives an object back to its pool. A NULL object is fine. A NULL pool is a
 * panic; so are an object of another pool and one that is free already, if
 * the word "tag" was on when the pool was created.
 *
 * Thread rule: *any thread*, not only the one that allocated the object.
 */
KEEL_NOPLT void pool_free(struct pool_head *pool, void *ptr);

/*
 * As pool_free().
 *
 * Thread rule: *any thread*.
 */
KEEL_NOPLT void __pool_free(struct pool_head *pool, void *ptr);

/*
 * As pool_free(), but the object goes to the system at once.
 *
 * Thread rule: *any thread*.
 */
void pool_free_nocache(struct pool_head *pool, void *ptr);

/*
 * Inline fast paths.
 *
 * A program that defines KEEL_INLINE before including this file gets
 * pool_alloc(), pool_zalloc() and pool_free() as inline functions for the case
 * that the calling thread's cache serves them, with the same meaning. It then
 * depends on the two structures below, which stay as they are as long as the
 * library's SONAME does. GNU C.
 */
#ifdef KEEL_INLINE

/* The start of what the library keeps for a registered thread. */
struct keel_thread {
	size_t pool_cache;              /* where in a pool this thread's cache is, bytes */
	unsigned int pool_clock;
};

/* The calling thread's; NULL where it is not registered. Not to be written. */
extern __thread struct keel_thread *keel_self __attribute__((tls_model("initial-exec")));

/* One thread's free objects of one pool. */
struct keel_pool_cache {
	void *hot;                      /* the newest object; 1: none; NULL: ask the library */
	void **slots;                   /* older ones: [floor] to [top - 1] */
	unsigned int top, floor;
	unsigned int ceil;              /* top stays at or below */
	unsigned int stamp;
};

/* What the two functions below call where the cache does not do. */
void *keel_pool_alloc_slow(struct pool_head *pool, unsigned int pool_f_flags);
void keel_pool_free_slow(struct pool_head *pool, void *ptr);

static inline struct keel_pool_cache *keel_pool_cache_of(struct pool_head *pool, struct keel_thread *self)
{
	struct keel_pool_cache *cache = (struct keel_pool_cache *)((char *)pool + self->pool_cache);

#ifdef __x86_64__
	/* In one register everywhere: AMD's cores forward what was stored at an
	 * address to a load from it at once if both name it alike. */
	__asm__("" : "+d"(cache));
#endif
	return cache;
}

/* An object from the calling thread's cache, or NULL. Other threads may look
 * at `hot` and `top`, hence the atomic accesses. */
static inline void *keel_pool_hit(struct pool_head *pool)
{
	struct keel_thread *self = keel_self;
	struct keel_pool_cache *cache;
	void *object;
	unsigned int top;

	if (__builtin_expect(!self || !pool, 0))
		return NULL;
	cache = keel_pool_cache_of(pool, self);
	object = __atomic_load_n(&cache->hot, __ATOMIC_RELAXED);
	if (__builtin_expect((size_t)object > 1, 1)) {
		__atomic_store_n(&cache->hot, (void *)1, __ATOMIC_RELAXED);
		return object;
	}
	top = __atomic_load_n(&cache->top, __ATOMIC_RELAXED);
	if (!object || top == cache->floor)
		return NULL;
	__atomic_store_n(&cache->top, top - 1, __ATOMIC_RELAXED);
	return cache->slots[top - 1];
}

/* Puts an object, not NULL, into the calling thread's cache; 0 if that does
 * not take it. */
static inline int keel_pool_put(struct pool_head *pool, void *object)
{
	struct keel_thread *self = keel_self;
	struct keel_pool_cache *cache;
	void *older;
	unsigned int top;

	if (__builtin_expect(!self || !pool, 0))
		return 0;
	cache = keel_pool_cache_of(pool, self);
	older = __atomic_load_n(&cache->hot, __ATOMIC_RELAXED);
	if (__builtin_expect(older != (void *)1, 0)) {
		top = __atomic_load_n(&cache->top, __ATOMIC_RELAXED);
		if (__builtin_expect(!older || top == cache->ceil, 0))
			return 0;
		cache->slots[top] = older;
		__atomic_store_n(&cache->top, top + 1, __ATOMIC_RELAXED);
		cache->stamp = self->pool_clock;
	}
	__atomic_store_n(&cache->hot, object, __ATOMIC_RELAXED);
	return 1;
}

static inline void *keel_pool_alloc_inline(struct pool_head *pool)
{
	void *object = keel_pool_hit(pool);

	return __builtin_expect(object != NULL, 1) ? object : keel_pool_alloc_slow(pool, 0);
}

static inline void *keel_pool_zalloc_inline(struct pool_head *pool)
{
	void *object = keel_pool_hit(pool);

	if (__builtin_expect(!object, 0))
		return keel_pool_alloc_slow(pool, POOL_F_MUST_ZERO);
	return __builtin_memset(object, 0, pool->size);
}

static inline void keel_pool_free_inline(struct pool_head *pool, void *object)
{
	if (__builtin_expect(object && !keel_pool_put(pool, object), 0))
		keel_pool_free_slow(pool, object);
}

#define pool_alloc(pool)     keel_pool_alloc_inline(pool)
#define pool_zalloc(pool)    keel_pool_zalloc_inline(pool)
#define pool_free(pool, ptr) keel_pool_free_inline(pool, ptr)

#endif /* KEEL_INLINE */

#ifdef __cplusplus
}
#endif

#endif /* KEEL_POOL_H */
