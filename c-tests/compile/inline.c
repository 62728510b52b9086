/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The inline fast paths, in strict C and C++. */

#define KEEL_INLINE
#include <keel/pool.h>

int main(void)
{
	struct pool_head *pool = create_pool("inline", 64, 0);
	void *object = pool_alloc(pool);

	pool_free(pool, object);
	object = pool_zalloc(pool);
	(pool_free)(pool, object);
	return pool_destroy(pool) != NULL;
}
