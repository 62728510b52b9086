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
