/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What code written for HAProxy's core expects, in C and in C++. */
#include <keel/compat/haproxy.h>

struct session { char name[40]; };
struct buffer { size_t size; char *area; };

extern struct pool_head *pool_head_session;
DECLARE_POOL(pool_head_session, "session", sizeof(struct session));
DECLARE_STATIC_POOL(pool_head_buffer, "buffer", sizeof(struct buffer) + 16);
DECLARE_ALIGNED_POOL(pool_head_aligned, "aligned", sizeof(struct session), 64);
DECLARE_STATIC_ALIGNED_POOL(pool_head_line, "line", 128, 128);
DECLARE_TYPED_POOL(pool_head_typed, "typed", struct session);
DECLARE_STATIC_TYPED_POOL(pool_head_extra, "extra", struct session, 100);
DECLARE_STATIC_TYPED_POOL(pool_head_both, "both", struct buffer, sizeof(int), 64);

static struct pool_head *one, *two, *three, *four;
REGISTER_POOL(&one, "one", 24); REGISTER_POOL(&two, "two", 48);
REGISTER_ALIGNED_POOL(&three, "three", sizeof(struct buffer), 32);
REGISTER_TYPED_POOL(&four, "four", struct buffer);

/* In HAProxy such a function is often called through a pointer. */
static void (*const callback)(struct pool_head **, const char *, unsigned int) = create_pool_callback;

int main(int argc, char **argv)
{
    struct pool_head *pools[] = {
        pool_head_session, pool_head_buffer, pool_head_aligned, pool_head_line, pool_head_typed, pool_head_extra,
        pool_head_both, one, two, three, four, NULL
    };
    struct pool_head *made = NULL;
    unsigned long total_allocated, total_used;
    char *err = NULL;
    void *p;
    int i;

    if (argc > 1 && pool_parse_debugging(argv[1], &err) < 0) {
        fputs(err, stderr);
        free(err);
        return 2;
    }
    callback(&made, "made", sizeof(struct session));
    made->minavail = 2;
    made->limit = 100;
    for (i = 0; pools[i] != NULL; i++) {
        p = pool_alloc_flag(pools[i], POOL_F_MUST_ZERO | POOL_F_NO_FAIL);
        pool_free(pools[i], p);
        p = __pool_alloc(pools[i], 0);
        if (p != NULL)
            __pool_free(pools[i], p);
        pool_free_nocache(pools[i], pool_alloc_nocache(pools[i]));
        pool_free(pools[i], pool_zalloc(pools[i]));
        pool_flush(pools[i]);
    }
    pool_gc(NULL);
    total_allocated = (unsigned long)pool_total_allocated();
    total_used = (unsigned long)pool_total_used();
    printf("%s: %u bytes, %lu of %lu, %d\n", made->name, made->size, total_used, total_allocated, pool_total_failures());
    dump_pools();
    made = (struct pool_head *)pool_destroy(made);
    pool_destroy_all();
    return made != NULL;
}
