/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The functions of keel/pool.h that take and give back objects. They are the
 * header's own inline ones, so that a program which inlines them and one which
 * calls them do the same; and C knows, as stable Rust does not, where a
 * function was called from, which the word "caller" records. */

#define KEEL_INLINE
#include "keel/pool.h"

#undef pool_alloc
#undef pool_zalloc
#undef pool_free

#define NOCACHE (1u << 31)
#define FLAGS   (POOL_F_NO_POISON | POOL_F_MUST_ZERO | POOL_F_NO_FAIL)
#define FROM    __builtin_extract_return_addr(__builtin_return_address(0))

/* What every call runs through fits a line of the processor's code cache. */
#define HOT __attribute__((aligned(64)))

/* pool.rs */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN void *keel_pool_take(struct pool_head *pool, unsigned int flags, const void *from);
HIDDEN void keel_pool_give_back(struct pool_head *pool, void *ptr, unsigned int flags, const void *from);

HOT void *pool_alloc(struct pool_head *pool)
{
	void *object = keel_pool_hit(pool);

	return object ? object : keel_pool_take(pool, 0, FROM);
}

HOT void *pool_zalloc(struct pool_head *pool)
{
	void *object = keel_pool_hit(pool);

	if (!object)
		return keel_pool_take(pool, POOL_F_MUST_ZERO, FROM);
	return __builtin_memset(object, 0, pool->size);
}

HOT void *__pool_alloc(struct pool_head *pool, unsigned int pool_f_flags)
{
	void *object = keel_pool_hit(pool);

	if (!object)
		return keel_pool_take(pool, pool_f_flags & FLAGS, FROM);
	if (pool_f_flags & POOL_F_MUST_ZERO)
		__builtin_memset(object, 0, pool->size);
	return object;
}

void *pool_alloc_nocache(struct pool_head *pool)
{
	return keel_pool_take(pool, NOCACHE, FROM);
}

void *keel_pool_alloc_slow(struct pool_head *pool, unsigned int pool_f_flags)
{
	return keel_pool_take(pool, pool_f_flags & FLAGS, FROM);
}

HOT void pool_free(struct pool_head *pool, void *ptr)
{
	if (ptr && !keel_pool_put(pool, ptr))
		keel_pool_give_back(pool, ptr, 0, FROM);
}

HOT void __pool_free(struct pool_head *pool, void *ptr)
{
	if (ptr && !keel_pool_put(pool, ptr))
		keel_pool_give_back(pool, ptr, 0, FROM);
}

void pool_free_nocache(struct pool_head *pool, void *ptr)
{
	keel_pool_give_back(pool, ptr, NOCACHE, FROM);
}

void keel_pool_free_slow(struct pool_head *pool, void *ptr)
{
	keel_pool_give_back(pool, ptr, 0, FROM);
}
