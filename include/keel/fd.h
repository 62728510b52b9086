/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/fd.h: the descriptor table and its poller.
 *
 * A server hands descriptors that it got from the system to fd_insert(), says
 * with fd_want_recv() and fd_want_send() what it waits for, and is called back
 * on one of the threads it allowed. Descriptors are level triggered: as long
 * as something is wanted and possible, the callback is called in each turn of
 * the loop. Regular files are always ready.
 *
 * A server that sets FD_ET_POSSIBLE, before it first wants something, gets
 * changes instead: the callback is called once for each, and has to go on
 * until EAGAIN, which it notes with fd_cant_recv() and fd_cant_send(). Where it
 * stopped wanting a direction earlier, fd_want_recv() and fd_want_send() have
 * it called again. Each change costs one report, and wanting and stopping no
 * system call. A thread that reads or writes while another one polls the
 * descriptor leaves fd_cant_recv() and fd_cant_send() out: a change could come
 * between the EAGAIN and the note, and be lost. Pollers without such a mode
 * (poll) serve it as all others.
 *
 * fd_delete() ends it. It never waits: while other threads are inside the
 * callback the descriptor is an orphan that nobody else enters, and the last
 * one out closes it. So it may be called with any lock held and inside the
 * callback itself, after which the number may be inserted again at once.
 *
 * Descriptors out of range (0 to maxsock - 1 of struct keel_config) are a
 * panic everywhere, and so is every use before keel_init(), except where a
 * comment says otherwise.
 *
 * Made from src/abi/fd.rs: edit that.
 */
#ifndef KEEL_FD_H
#define KEEL_FD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#ifndef KEEL_ALIGNED
#define KEEL_ALIGNED(n) __attribute__((aligned(n)))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** State: reads are wanted. */
#define FD_EV_ACTIVE_R 0x1

/** State: no read said EAGAIN since the last report. Report: readable. */
#define FD_EV_READY_R 0x2

/** Report: the peer sends nothing more. */
#define FD_EV_SHUT_R 0x4

/** State: writes are wanted. */
#define FD_EV_ACTIVE_W 0x10

/** State: no write said EAGAIN since the last report. Report: writable. */
#define FD_EV_READY_W 0x20

/** Report: nothing can be sent any more. */
#define FD_EV_SHUT_W 0x40

/** Report: an error, both ways. */
#define FD_EV_ERR_RW 0x80

/** Both FD_EV_ACTIVE bits. */
#define FD_EV_ACTIVE_RW 0x11

/** Both FD_EV_READY bits. */
#define FD_EV_READY_RW 0x22

/** Both FD_EV_SHUT bits. */
#define FD_EV_SHUT_RW 0x44

/** State: the last report said readable. */
#define FD_POLL_IN 0x100

/** State: the last report said urgent data. */
#define FD_POLL_PRI 0x200

/** State: the last report said writable. */
#define FD_POLL_OUT 0x400

/** State: an error was reported; stays until the close. */
#define FD_POLL_ERR 0x800

/** State: a hang-up was reported; stays until the close. */
#define FD_POLL_HUP 0x1000

/** The bits that every report replaces. */
#define FD_POLL_UPDT_MASK 0x700

/** State, for the server to set: close with a reset, leaving no TIME_WAIT. */
#define FD_LINGER_RISK 0x10000

/**
 * State, for the server to set: another process or a duplicate shares the file,
 * so it has to leave the kernel's poller explicitly when it is closed.
 */
#define FD_CLONED 0x20000

/**
 * State: keel_fd_writev_line() has set non-blocking mode up, or the server sets
 * this to keep it from doing so.
 */
#define FD_INITIALIZED 0x40000

/** State, for the server to set: report changes only, where the poller can. */
#define FD_ET_POSSIBLE 0x80000

/** State, for the server to set: passed to another process; informational. */
#define FD_EXPORTED 0x100000

/** State: a keel_fd_writev_line() is in progress. */
#define FD_EXCL_SYSCALL 0x200000

/** State, for the server to set: fd_delete() does everything but close(). */
#define FD_DISOWN 0x400000

/** State: an orphan; whoever clears this bit closes it. The library's own. */
#define FD_MUST_CLOSE 0x800000

/** fd_update_events(): taken note of, and the callback called if it was due. */
#define FD_UPDT_DONE 0

/** fd_update_events(): the descriptor was closed and must not be touched. */
#define FD_UPDT_CLOSED 1

/** fd_update_events(): it is not the calling thread's, whose poller forgets it. */
#define FD_UPDT_MIGRATED 2

/**
 * One descriptor. Fields are for reading, atomically where other threads may
 * use the descriptor; state bits may be set atomically where their comment
 * says so. A free slot has no owner.
 */
struct KEEL_ALIGNED(64) fdtab {
    /** Threads that are inside code using the descriptor. */
    unsigned long running_mask;
    /** Threads allowed to handle it; 0: free, or being deleted. */
    unsigned long thread_mask;
    /** Threads whose poller has yet to look at it again. */
    unsigned long update_mask;
    /** Called with the descriptor when something wanted is possible. */
    void (*iocb)(int fd);
    /** The server's object. */
    void *owner;
    /** FD_* bits. */
    unsigned int state;
    /** How often the number was closed. */
    unsigned int generation;
    /** The library's own. */
    uint64_t keel_private[2];
};

/** The table, maxsock entries by descriptor number. NULL before keel_init(). */
extern struct fdtab *fdtab;

/**
 * Begins to serve fd, which the caller just got from the system and which is
 * non-blocking: ready both ways, nothing wanted, iocb called on the threads of
 * thread_mask (bit n: thread n; bits of threads that do not exist are
 * ignored). The descriptor belongs to the table from here on: fd_delete()
 * closes it. owner must not be NULL, it marks the slot as used; the table does
 * not look at it otherwise.
 *
 * Panics where the slot is in use, owner is NULL or thread_mask names no thread
 * that exists.
 *
 * Thread rule: *any thread*.
 */
void fd_insert(int fd, void *owner, void (*iocb)(int fd), unsigned long thread_mask);

/**
 * Stops serving fd and closes it, at once or, while other threads are inside
 * its callback, when the last of them leaves. Never waits; any lock may be
 * held. Only one thread may delete a descriptor.
 *
 * Panics where fd is not inserted, or was deleted and is not closed yet.
 *
 * Thread rule: *any thread*.
 */
void fd_delete(int fd);

/**
 * Closes fd if fd_delete() orphaned it, no thread is inside it any more and
 * nobody else closes it; else does nothing. For code that drives running_mask
 * itself and finds that fd_clr_running() left 0 and thread_mask is 0; such code
 * may even have zeroed thread_mask itself, between fd_set_running() and
 * fd_clr_running(). Of two callers one closes, and a call that comes too late
 * does nothing to the number's next user.
 *
 * Thread rule: *any thread*.
 */
void _fd_delete_orphan(int fd);

/**
 * Marks the calling thread as inside code that uses fd, which keeps fd from
 * being closed and taken over until fd_clr_running().
 *
 * Returns 0, or -1 where fd is not the calling thread's (any more).
 *
 * Thread rule: *registered threads*; on others -1.
 */
long fd_set_running(int fd);

/**
 * Ends what fd_set_running() began. If the mask that remains is 0 and so is
 * thread_mask, _fd_delete_orphan() is due.
 *
 * Returns the running_mask that remains.
 *
 * Thread rule: *registered threads*; on others it only reads the mask.
 */
long fd_clr_running(int fd);

/**
 * Makes the idle fd the calling thread's alone. Nothing is wanted afterwards:
 * call fd_want_recv() or fd_want_send(). The caller's own lock, that of an idle
 * list for instance, must keep others from deleting fd meanwhile.
 *
 * Returns 0; or -1, with fd untouched, where its owner is not expected_owner or
 * some thread is inside it.
 *
 * Thread rule: *registered threads*; on others -1.
 */
int fd_takeover(int fd, void *expected_owner);

/**
 * Delivers a report about fd as the poller does: evts are FD_EV_READY_*,
 * FD_EV_SHUT_* and FD_EV_ERR_RW bits. The state takes note of it, and the
 * callback is called if something is wanted.
 *
 * Returns FD_UPDT_DONE, FD_UPDT_CLOSED or FD_UPDT_MIGRATED.
 *
 * Thread rule: *registered threads*; on others FD_UPDT_MIGRATED.
 */
int fd_update_events(int fd, unsigned int evts);

/**
 * Makes each thread that may handle fd look at it again before it waits for
 * events, and wakes those that wait. fd_want_recv() and fd_want_send() do it
 * themselves: this is for code that sets FD_EV_ACTIVE bits by hand. Nothing
 * happens where fd is not inserted.
 *
 * Thread rule: *any thread*.
 */
void updt_fd_polling(int fd);

/**
 * Wants reads on fd: its threads poll for them.
 *
 * Thread rule: *any thread*.
 */
void fd_want_recv(int fd);

/**
 * The same as fd_want_recv(), which is safe as soon as keel_init() returned.
 *
 * Thread rule: *any thread*.
 */
void fd_want_recv_safe(int fd);

/**
 * Stops wanting reads. Costs nothing: a poller learns it from the first report
 * that nobody wants.
 *
 * Thread rule: *any thread*.
 */
void fd_stop_recv(int fd);

/**
 * Notes that a read said EAGAIN.
 *
 * Thread rule: *any thread*.
 */
void fd_cant_recv(int fd);

/**
 * Notes that a read is worth trying.
 *
 * Thread rule: *any thread*.
 */
void fd_may_recv(int fd);

/**
 * Notes that a read is worth trying, unless reads are wanted already.
 *
 * Thread rule: *any thread*.
 */
void fd_cond_recv(int fd);

/**
 * Returns non-zero if reads are wanted.
 *
 * Thread rule: *any thread*.
 */
int fd_recv_active(int fd);

/**
 * Returns non-zero if a read is worth trying.
 *
 * Thread rule: *any thread*.
 */
int fd_recv_ready(int fd);

/**
 * Wants writes on fd: its threads poll for them.
 *
 * Thread rule: *any thread*.
 */
void fd_want_send(int fd);

/**
 * Stops wanting writes, as fd_stop_recv() does for reads.
 *
 * Thread rule: *any thread*.
 */
void fd_stop_send(int fd);

/**
 * Notes that a write said EAGAIN.
 *
 * Thread rule: *any thread*.
 */
void fd_cant_send(int fd);

/**
 * Notes that a write is worth trying.
 *
 * Thread rule: *any thread*.
 */
void fd_may_send(int fd);

/**
 * Notes that a write is worth trying, unless writes are wanted already.
 *
 * Thread rule: *any thread*.
 */
void fd_cond_send(int fd);

/**
 * Returns non-zero if writes are wanted.
 *
 * Thread rule: *any thread*.
 */
int fd_send_active(int fd);

/**
 * Returns non-zero if a write is worth trying.
 *
 * Thread rule: *any thread*.
 */
int fd_send_ready(int fd);

/**
 * Stops wanting anything.
 *
 * Thread rule: *any thread*.
 */
void fd_stop_both(int fd);

/**
 * Notes that a read and a write are worth trying.
 *
 * Thread rule: *any thread*.
 */
void fd_may_both(int fd);

/**
 * Returns non-zero if reads or writes are wanted.
 *
 * Thread rule: *any thread*.
 */
int fd_active(int fd);

/**
 * Makes any descriptor non-blocking. Replaces all its status flags by
 * O_NONBLOCK. Works before keel_init().
 *
 * Returns 0, or -1 with errno.
 *
 * Thread rule: *any thread*.
 */
int fd_set_nonblock(int fd);

/**
 * Makes exec() close any descriptor. Works before keel_init().
 *
 * Returns 0, or -1 with errno.
 *
 * Thread rule: *any thread*.
 */
int fd_set_cloexec(int fd);

/**
 * Closes every descriptor from start up, the library's included: for the child
 * of a fork() that is about to exec(). Works before keel_init().
 *
 * Thread rule: *any thread*.
 */
void my_closefrom(int start);

/**
 * Writes one line, the non-empty ones of the npfx fragments of pfx and then of
 * the nmsg of msg (31 altogether, what follows is left out) and a newline if nl
 * is not 0, with one writev(). What exceeds maxlen bytes, newline included, is
 * cut off in front of the newline; maxlen 0: no limit. For logs: lines that
 * threads write at the same time do not mix, and nobody waits for another's
 * write.
 *
 * fd need not be inserted: it may be stdout. The first use of a number sets
 * O_NONBLOCK, unless it is a terminal or FD_INITIALIZED is set. That bit is
 * remembered until the descriptor is deleted, or the number inserted. fd stays
 * open until this returns.
 *
 * Returns the bytes written, of which there are fewer than the line has where a
 * pipe or a disk is full; 0 for no fragments and no newline; -1 with errno:
 * EAGAIN where nothing can be written now, because the pipe is full or another
 * thread was writing all the time; EBADF also where fd is out of range or
 * keel_init() was not called.
 *
 * Thread rule: *any thread*.
 */
ssize_t keel_fd_writev_line(int fd,
                            size_t maxlen,
                            const struct iovec *pfx,
                            size_t npfx,
                            const struct iovec *msg,
                            size_t nmsg,
                            int nl);

/**
 * Writes the pollers that there are, their preference, whether they can be used
 * and which one is, or would be by keel_init() now, to the stream out, as text.
 * Works before keel_init().
 *
 * Returns 0.
 *
 * Thread rule: *any thread*.
 */
int list_pollers(FILE *out);

/**
 * Keeps keel_init() from using the poller of that name ("epoll", "poll"); other
 * names and NULL are ignored. keel_init() uses the best of the others that the
 * system has, and returns -EINVAL if there is none. Call it before keel_init().
 *
 * Thread rule: *before keel_run() only*.
 */
void disable_poller(const char *name);

/**
 * Gives the child of a fork() a poller of its own; until then it shares the
 * parent's and must not run its loop. Call it in the child, on its only thread.
 * Every descriptor in the table is FD_CLONED from then on, and the other
 * threads of the parent count as not being inside any.
 *
 * Returns 1, or 0 where the poller cannot be made, for lack of descriptors for
 * instance.
 *
 * Thread rule: *registered threads*; on others the descriptors are marked and 1 returned.
 */
int fork_poller(void);

/**
 * Returns how many descriptors are inserted and not closed yet.
 *
 * Thread rule: *any thread*.
 */
int keel_used_fds(void);

/**
 * Writes a table of the descriptors in use to the descriptor fd, one line each,
 * then one line of counters per thread that polls and one of totals.
 *
 * The counters, of a thread id since keel_init(): polls, waits for events;
 * poll_io and poll_exp, those of them that brought some, and that slept until
 * their time was over; poll_spurious, reports that nobody wanted; poll_drop_fd,
 * reports and updates of a descriptor that was closed; poll_skip_fd, reports of
 * one that is not the thread's any more; poll_stale, of a number's life before;
 * poll_rebuild, times that the kernel's set was made anew; poll_ctl, changes of
 * the set; orphans, descriptors that another thread deleted and this one closed.
 *
 * Returns the bytes written, or a negative errno.
 *
 * Thread rule: *any thread*.
 */
int keel_dump_fds(int fd);

#ifdef __cplusplus
}
#endif

#endif /* KEEL_FD_H */
