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

/* --- descriptors --- */

struct ist { char *ptr; size_t len; };
struct connection { int fd; int closed; };

static void conn_io(int fd)
{
    struct connection *conn = (struct connection *)fdtab[fd].owner;

    if (fdtab[fd].state & (FD_POLL_HUP | FD_POLL_ERR))
        conn->closed = 1;
    if (fd_recv_ready(fd) && fd_recv_active(fd))
        fd_cant_recv(fd);
    if (fd_send_ready(fd) && fd_send_active(fd))
        fd_cant_send(fd);
    if (!fd_active(fd) || conn->closed) {
        fd_delete(fd);
        conn->fd = DEAD_FD_MAGIC;
    }
}

static int descriptors(struct connection *conn, FILE *out)
{
    struct ist pfx[2], msg[1];
    int fd = conn->fd, wait = compute_poll_timeout(TICK_ETERNITY);

    disable_poller("select");
    if (!init_pollers())
        return -1;
    if (list_pollers(out) < 0 || fd_set_nonblock(fd) < 0 || fd_set_cloexec(fd) < 0)
        return -1;
    fd_insert(fd, conn, conn_io, 1UL);
    fdtab[fd].state |= FD_LINGER_RISK | FD_CLONED | FD_EXPORTED;
    fd_want_recv_safe(fd);
    fd_want_recv(fd);
    fd_stop_recv(fd);
    fd_may_recv(fd);
    fd_cond_recv(fd);
    fd_want_send(fd);
    fd_stop_send(fd);
    fd_may_send(fd);
    fd_cond_send(fd);
    fd_stop_both(fd);
    fd_may_both(fd);
    updt_fd_polling(fd);
    if (fdtab[fd].iocb == conn_io && fdtab[fd].thread_mask && !fdtab[fd].running_mask && !fdtab[fd].update_mask)
        wait = ha_used_fds;
    if (fd_set_running(fd) != -1 && !fd_clr_running(fd) && !fdtab[fd].thread_mask)
        _fd_delete_orphan(fd);
    if (fd_takeover(fd, conn) == 0 && fd_update_events(fd, FD_EV_READY_R | FD_EV_SHUT_R) == FD_UPDT_CLOSED)
        wait = 0;
    memset(pfx, 0, sizeof(pfx));
    memset(msg, 0, sizeof(msg));
    if (fd_write_frag_line(2, 1024, pfx, 2, msg, 1, 1) < 0)
        wait = 0;
    wake_thread(0);
    if (fork_poller() == 0)
        my_closefrom(3);
    deinit_pollers();
    return wait;
}

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

    if (argc > 2)
        return descriptors((struct connection *)pool_zalloc(two), stdout);
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
