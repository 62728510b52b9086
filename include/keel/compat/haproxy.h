/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/compat/haproxy.h: what code that was written for HAProxy's core expects
 * besides the functions that keel exports under HAProxy's own names.
 * docs/porting-haproxy.md says what differs.
 *
 *   pools: REGISTER_POOL() and DECLARE_POOL() in all their forms,
 *   create_pool_callback(), pool_alloc_flag(), dump_pools()
 *   tasks: nothing, all their names are functions of keel's
 *   descriptors: init_pollers(), deinit_pollers(), compute_poll_timeout(),
 *   ha_used_fds, fd_write_frag_line(), DEAD_FD_MAGIC
 *
 * Everything here is a macro or a static inline function; nothing else of keel
 * includes this header.
 */
#ifndef KEEL_COMPAT_HAPROXY_H
#define KEEL_COMPAT_HAPROXY_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/keel.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- pools -------------------------------------------------------------------- */

/* A program that lacks a pool it declared cannot run: as in HAProxy, it ends. */
static inline void keel_compat_no_pool(const char *name, int error)
{
    fprintf(stderr, "[ALERT] cannot create the pool '%s': %s\n", name, strerror(error));
    exit(1);
}

/** create_pool() for a program's start: ends the program if that fails. */
static inline void create_pool_callback(struct pool_head **ptr, const char *name, unsigned int size)
{
    *ptr = create_pool(name, size, MEM_F_SHARED);
    if (*ptr == NULL)
        keel_compat_no_pool(name, errno);
}

/** pool_alloc() with POOL_F_*. */
static inline void *pool_alloc_flag(struct pool_head *pool, unsigned int flags)
{
    return __pool_alloc(pool, flags);
}

/** The table of all pools on stderr. */
static inline void dump_pools(void)
{
    (void)keel_dump_pools(2);
}

/* What the constructors of the macros below do. */
static inline void keel_compat_register_pool(struct keel_pool_registration *declared)
{
    int error = keel_pool_register(declared);

    if (error != 0)
        keel_compat_no_pool(declared->name, -error);
}

/*
 * The forms of registration. Each creates a pool (MEM_F_SHARED) before main()
 * runs, in the first round of constructors, and stores its address; when
 * keel_deinit() has destroyed it, the next keel_init() creates it again. They
 * stand outside of functions and are followed by a semicolon.
 *
 *   REGISTER_POOL(ptr, name, size)              <ptr>: the address of a pointer
 *   DECLARE_POOL(ptr, name, size)               defines the pointer <ptr>, too
 *   DECLARE_STATIC_POOL(ptr, name, size)        the same, static
 *   ..._ALIGNED_POOL(ptr, name, size, align)
 *   ..._TYPED_POOL(ptr, name, type[, extra[, align]])
 *
 * Objects of a typed pool are sizeof(type) + extra bytes large, and aligned to
 * what the type needs, or to <align> if that is more.
 */
#define REGISTER_POOL(ptr, name, size) \
    REGISTER_ALIGNED_POOL(ptr, name, size, 0)
#define DECLARE_POOL(ptr, name, size) \
    DECLARE_ALIGNED_POOL(ptr, name, size, 0)
#define DECLARE_STATIC_POOL(ptr, name, size) \
    DECLARE_STATIC_ALIGNED_POOL(ptr, name, size, 0)

#define REGISTER_ALIGNED_POOL(ptr, name, size, align) \
    KEEL_REGISTER_POOL(__COUNTER__, ptr, name, size, align)
#define DECLARE_ALIGNED_POOL(ptr, name, size, align) \
    struct pool_head *ptr = NULL; \
    REGISTER_ALIGNED_POOL(&ptr, name, size, align)
#define DECLARE_STATIC_ALIGNED_POOL(ptr, name, size, align) \
    static struct pool_head *ptr = NULL; \
    REGISTER_ALIGNED_POOL(&ptr, name, size, align)

/* The type comes with the optional arguments: C99 wants one for the dots. */
#define REGISTER_TYPED_POOL(ptr, name, ...) \
    REGISTER_ALIGNED_POOL(ptr, name, KEEL_TYPED_SIZE(__VA_ARGS__, 0, 0), KEEL_TYPED_ALIGN(__VA_ARGS__, 0, 0, 0))
#define DECLARE_TYPED_POOL(ptr, name, ...) \
    DECLARE_ALIGNED_POOL(ptr, name, KEEL_TYPED_SIZE(__VA_ARGS__, 0, 0), KEEL_TYPED_ALIGN(__VA_ARGS__, 0, 0, 0))
#define DECLARE_STATIC_TYPED_POOL(ptr, name, ...) \
    DECLARE_STATIC_ALIGNED_POOL(ptr, name, KEEL_TYPED_SIZE(__VA_ARGS__, 0, 0), KEEL_TYPED_ALIGN(__VA_ARGS__, 0, 0, 0))

#define KEEL_TYPED_SIZE(type, extra, ...) (sizeof(type) + (extra))
#define KEEL_TYPED_ALIGN(type, extra, align, ...) \
    ((align) > __alignof__(type) ? (align) : __alignof__(type))

/* In two steps, for the number to be one. */
#define KEEL_REGISTER_POOL(id, ptr, name, size, align) KEEL_REGISTER_POOL_AS(id, ptr, name, size, align)

/*
 * The record needs no memory that could lack. The destructor is for modules
 * that are unloaded: their records go with them.
 */
#define KEEL_REGISTER_POOL_AS(id, ptr, name, size, align) \
    static struct keel_pool_registration keel_pool_declared_##id = { \
        (ptr), (name), (size), (align), MEM_F_SHARED, NULL \
    }; \
    __attribute__((constructor(101))) static void keel_pool_register_##id(void) \
    { \
        keel_compat_register_pool(&keel_pool_declared_##id); \
    } \
    __attribute__((destructor(101))) static void keel_pool_unregister_##id(void) \
    { \
        keel_pool_unregister(&keel_pool_declared_##id); \
    } \
    struct keel_pool_declared_here_##id

/* --- descriptors -------------------------------------------------------------- */

/** For a variable whose descriptor was closed: negative. */
#define DEAD_FD_MAGIC ((int)0xFDDEADFDU)

/** 1 where there are a descriptor table and a poller: keel_init() makes them. */
static inline int init_pollers(void)
{
    return fdtab != NULL;
}

/** Nothing: keel_deinit() does it. */
static inline void deinit_pollers(void)
{
}

/** How many descriptors are inserted and not closed yet; 0 without a table. To be read. */
#define ha_used_fds (fdtab != NULL ? keel_used_fds() : 0)

/**
 * Milliseconds that a poller may wait for the date next: 0 where that has come,
 * 60000 where there is none, and never more.
 */
static inline int compute_poll_timeout(int next)
{
    const int max = 60000;
    int wait;

    if (!tick_isset(next))
        return max;
    wait = TICKS_TO_MS(tick_remain((int)keel_now_ms(), next));
    return wait < max ? wait : max;
}

/**
 * keel_fd_writev_line() with arrays of the server's struct ist, a pointer and a
 * length: that is what a struct iovec is.
 */
#define fd_write_frag_line(fd, maxlen, pfx, npfx, msg, nmsg, nl) \
    keel_fd_writev_line((fd), (maxlen), (const struct iovec *)(const void *)(pfx), (npfx), \
                        (const struct iovec *)(const void *)(msg), (nmsg), (nl))

/* --- stick tables ------------------------------------------------------------- */

#ifdef __cplusplus
}
#endif

#endif /* KEEL_COMPAT_HAPROXY_H */
