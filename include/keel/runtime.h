/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/runtime.h: starting and stopping, threads, the loop, the clock.
 *
 * Made from src/abi/runtime.rs: edit that.
 */
#ifndef KEEL_RUNTIME_H
#define KEEL_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define KEEL_VERSION_MAJOR 1
#define KEEL_VERSION_MINOR 0
#define KEEL_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/** The most threads that can be registered at a time. */
#define KEEL_MAX_THREADS 64

/**
 * What keel_init() may be told. Zero means the default everywhere; start
 * from KEEL_CONFIG_INIT.
 */
struct keel_config {
    /** sizeof(struct keel_config): lets the structure grow. */
    size_t size;
    /**
     * Threads, 1 to KEEL_MAX_THREADS; 0: as many processors as the process
     * may run on.
     */
    unsigned int nbthread;
    /** Entries of fdtab, at most 1048576; 0: the soft RLIMIT_NOFILE. */
    unsigned int maxsock;
    /** Tasks and tasklets run per turn of the loop; 0: 200. */
    unsigned int runqueue_depth;
    /**
     * Non-zero: return to more urgent work after each tasklet, for latency
     * at the expense of throughput.
     */
    unsigned int low_latency;
    /**
     * Non-zero: account time and latency per task and, for
     * keel_dump_tasks(), per handler.
     */
    unsigned int profiling;
    /** Bytes that each thread's object caches may hold; 0: 512 KiB. */
    size_t pool_cache_bytes;
    /** Ticks per second as callout_reset() counts them; 0: 1000. */
    unsigned int callout_hz;
    /**
     * Microseconds for which an idle thread looks for events before it
     * sleeps; 0: not at all.
     */
    unsigned int spin_us;
    /**
     * Gets the library's messages: a syslog level and one line without a
     * newline, valid during the call. Any thread. NULL: nobody.
     */
    void (*log)(int level, const char *message, void *arg);
    /** Handed to log. */
    void *log_arg;
    /**
     * Called when the library finds itself misused or broken; the process
     * aborts when it returns. NULL: the sentence goes to stderr.
     */
    void (*panic)(const char *file, int line, const char *message, void *arg);
    /** Handed to panic. */
    void *panic_arg;
};

/**
 * Starts the library with a configuration, NULL for all defaults. The
 * structure is copied. One from a newer header is fine as long as what this
 * library does not know is zero.
 *
 * Returns 0; -EINVAL where a value is out of range, the size field wrong or
 * every poller disabled; -EALREADY where keel_deinit() has not been called
 * since the last time; -ENOMEM.
 *
 * Thread rule: *any thread*.
 */
int keel_init(const struct keel_config *cfg);

/**
 * Frees everything that the library holds, pools and their objects included,
 * after every other thread has left; the calling thread leaves by itself, and
 * keel_callout_start_threads()'s are ended. Descriptors stay open. Callouts
 * that are pending become idle. keel_init() may follow.
 *
 * Threads that are still registered are a panic.
 *
 * Thread rule: *any thread*.
 */
void keel_deinit(void);

/**
 * Binds the calling thread to the id tid, 0 to nbthread - 1. Threads that
 * keel_run() starts are bound already. The thread must leave before it ends:
 * the id of one that does not stays taken, and thread_isolate() waits for it
 * for ever.
 *
 * Returns 0; -EINVAL where there is no such id or no keel_init() yet; -EBUSY
 * where another thread has it; -EALREADY where the calling thread has one;
 * -EMFILE, -ENFILE or -ENOMEM where its poller cannot be made.
 *
 * Thread rule: *any thread*.
 */
int keel_thread_enter(unsigned int tid);

/**
 * Unbinds the calling thread: its object caches go back, tasks that others
 * may run go to them, what is bound to its id waits for the next thread that
 * enters under it. Nothing happens on a thread that is not registered.
 *
 * Thread rule: *any thread*, outside of handlers.
 */
void keel_thread_leave(void);

/**
 * Starts nbthread - 1 threads, which inherit the signal mask, and makes the
 * caller thread 0. Each calls thread_init(tid, arg), unless that is NULL, and
 * then run_poll_loop(). Returns when keel_stop() has ended all loops and the
 * other threads are joined; may be called again.
 *
 * Returns 0; what a thread_init returned that was not 0 (all loops end then);
 * -EAGAIN where a thread could not be started; -EMFILE, -ENFILE or -ENOMEM
 * where its poller cannot be made; -EALREADY where it runs already, or the
 * caller is registered under another id than 0; -EINVAL before keel_init().
 *
 * Thread rule: *any thread*.
 */
int keel_run(int (*thread_init)(unsigned int tid, void *arg), void *arg);

/**
 * Runs the calling thread's loop (timers, tasks, events) until keel_stop().
 *
 * Thread rule: *registered threads*.
 */
void run_poll_loop(void);

/**
 * One turn of that loop, for servers that own theirs: serves what is due,
 * waits at most max_wait_ms milliseconds for events (negative: until there is
 * something to do), but for no more than a minute, and handles them.
 *
 * Thread rule: *registered threads*.
 */
void keel_poll_once(int max_wait_ms);

/**
 * A descriptor that a host's own loop can poll for reading: it is readable
 * when this thread has something to do, timers excepted, for which see
 * keel_next_deadline_ns(). The host then calls keel_poll_once(0). It belongs
 * to the library; do not close it. It stays the same until the thread leaves,
 * except after fork_poller().
 *
 * Returns it, or a negative errno: -ENOTSUP with the poller poll, which has no
 * such descriptor, -EMFILE or -ENFILE where there are no more descriptors.
 *
 * Thread rule: *registered threads*.
 */
int keel_poll_fd(void);

/**
 * The CLOCK_MONOTONIC date, in nanoseconds, of the calling thread's next
 * timer; a date not after now if something waits to run; UINT64_MAX if
 * nothing does.
 *
 * Thread rule: *registered threads*.
 */
uint64_t keel_next_deadline_ns(void);

/**
 * Ends every loop. Before keel_run() it makes that return at once.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
void keel_stop(void);

/**
 * The calling thread's id, or ~0U where it has none.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int keel_tid(void);

/**
 * How many threads there can be; 0 before keel_init().
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int keel_nbthread(void);

/**
 * A mask with one bit for each of these threads.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned long keel_all_threads_mask(void);

/**
 * The loop's cached monotonic clock, in ticks: milliseconds that wrap, with
 * an origin of their own. Fresh when a turn of the loop begins; on a thread
 * that is not registered it is read anew. May be 0, which as a date means
 * "never": add to it with tick_add().
 *
 * Thread rule: *any thread*.
 */
unsigned int keel_now_ms(void);

/**
 * CLOCK_MONOTONIC, read now, in nanoseconds.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
uint64_t keel_now_ns(void);

/**
 * Refreshes keel_now_ms() for the calling thread.
 *
 * Thread rule: *any thread*.
 */
void keel_update_clock(void);

/**
 * Wakes thread tid if it sleeps in its loop; if not, its next sleep returns
 * at once. Ids that do not exist are ignored.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
void wake_thread(int tid);

/**
 * Waits until every other registered thread is harmless: in its poller, or
 * between thread_harmless_now() and thread_harmless_end(). From then on the
 * caller is alone until thread_release(). Nests. The caller must hold no lock
 * that others may want.
 *
 * Thread rule: *any thread*.
 */
void thread_isolate(void);

/**
 * Ends the isolation that the last thread_isolate() began.
 *
 * Thread rule: the isolated thread, which may be *any thread*.
 */
void thread_release(void);

/**
 * Non-zero if the calling thread is isolated.
 *
 * Thread rule: *any thread*.
 */
int thread_isolated(void);

/**
 * Says that the calling thread touches nothing shared for a while, so that
 * others may be isolated meanwhile. Nothing happens on a thread that is not
 * registered.
 *
 * Thread rule: *any thread*.
 */
void thread_harmless_now(void);

/**
 * Ends what thread_harmless_now() began, once nobody is isolated.
 *
 * Thread rule: *any thread*.
 */
void thread_harmless_end(void);

/**
 * The library's version: "MAJOR.MINOR.PATCH".
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
const char *keel_version(void);

/** A struct keel_config that asks for every default. */
#define KEEL_CONFIG_INIT { sizeof(struct keel_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

#ifdef __cplusplus
}
#endif

#endif /* KEEL_RUNTIME_H */
