/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/task.h: tasks, tasklets, their queues.
 *
 * Made from src/abi/task.rs: edit that.
 */
#ifndef KEEL_TASK_H
#define KEEL_TASK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pool_head;

/** Nothing set: the task does nothing and waits for nothing but its date. */
#define TASK_SLEEPING 0x00000000

/** Its handler runs, or its timer is being looked at. */
#define TASK_RUNNING 0x00000001

/** It is in a run queue, or being put there. */
#define TASK_QUEUED 0x00000004

/**
 * Other threads may move its timer, which lives in a locked wait queue. Set
 * by task_new() where the task may run on several threads; set it on others
 * before their first queueing if foreign threads will schedule them.
 */
#define TASK_SHARED_WQ 0x00000008

/** It was seen waking itself. Never cleared by the library. */
#define TASK_SELF_WAKING 0x00000010

/** It is going to be freed by the scheduler. */
#define TASK_KILLED 0x00000020

/**
 * It is very expensive: few such items run per turn. The user's to set and
 * clear, atomically.
 */
#define TASK_HEAVY 0x00000080

/** Woken for the first time. */
#define TASK_WOKEN_INIT 0x00000100

/** Woken because its date has come. */
#define TASK_WOKEN_TIMER 0x00000200

/** Woken by input or output. */
#define TASK_WOKEN_IO 0x00000400

/** Woken by a signal. */
#define TASK_WOKEN_SIGNAL 0x00000800

/** Woken by a message. */
#define TASK_WOKEN_MSG 0x00001000

/** Woken because a resource is there. */
#define TASK_WOKEN_RES 0x00002000

/** Woken for another reason. */
#define TASK_WOKEN_OTHER 0x00004000

/** All reasons. */
#define TASK_WOKEN_ANY 0x00007f00

/** It is a tasklet. */
#define TASK_F_TASKLET 0x00008000

/** The application's own flag, kept across runs. */
#define TASK_F_USR1 0x00010000

/** A place in a queue, for tasklet_wakeup_after(). */
struct list;

/**
 * A unit of work with a timer and a priority. Made by task_new() and its
 * like, freed by task_destroy() or task_kill().
 */
struct task {
    /** TASK_* flags. Read it atomically; change it by the functions below. */
    unsigned int state;
    /** How often the handler has run. */
    unsigned int calls;
    /**
     * The handler. It gets the task, its context and the state before the
     * run, with all reasons; it returns the task, or NULL if it destroyed it.
     * Only one instance runs at a time.
     */
    struct task *(*process)(struct task *t, void *ctx, unsigned int state);
    /** Handed to the handler. */
    void *context;
    /**
     * The date of the next wake-up, in ticks; TICK_ETERNITY: none. The
     * handler sets it, and the scheduler queues the task when it returns.
     * Elsewhere use task_schedule(), or write it and call task_queue() on
     * the thread that owns the task. Moving it later needs no call.
     */
    int expire;
    /** Priority: -1024 (soonest) to 1024; 0 by default. */
    short nice;
    /** The threads that may run it. Change it by task_set_affinity(). */
    unsigned long thread_mask;
    /** When it was last woken, CLOCK_MONOTONIC nanoseconds; with profiling. */
    uint64_t call_date;
    /** Nanoseconds that it has waited in run queues; with profiling. */
    uint64_t lat_time;
    /** Nanoseconds that its handler has taken; with profiling. */
    uint64_t cpu_time;
    /** The library's. */
    uint64_t keel_private[9];
};

/**
 * A unit of work without timer or priority: "call me soon". Made by
 * tasklet_new(), or embedded and prepared by tasklet_init().
 */
struct tasklet {
    /**
     * TASK_* flags, as a task's. While it waits because its own thread has
     * woken it, TASK_QUEUED is not set.
     */
    unsigned int state;
    /** How often the handler has run. */
    unsigned int calls;
    /**
     * The handler, called like a task's. It returns its first argument, or
     * NULL if the tasklet was freed: then nothing of it is touched any more.
     */
    struct task *(*process)(struct task *t, void *ctx, unsigned int state);
    /** Handed to the handler. */
    void *context;
    /**
     * The thread that runs it; negative: the one that wakes it. Change it by
     * tasklet_set_tid().
     */
    int tid;
    /** The library's. */
    uint64_t keel_private[7];
};

/** The pool of tasks, for statistics. NULL before keel_init(). */
extern struct pool_head *pool_head_task;

/** The pool of tasklets, for statistics. NULL before keel_init(). */
extern struct pool_head *pool_head_tasklet;

/**
 * A new task that the threads of thread_mask may run: asleep, nice 0, no
 * date, no handler yet. A mask without an existing thread is a panic.
 *
 * Returns NULL with errno ENOMEM, or EPERM before keel_init().
 *
 * Thread rule: *any thread*.
 */
struct task *task_new(unsigned long thread_mask);

/**
 * A new task bound to thread thr.
 *
 * Returns as task_new() does.
 *
 * Thread rule: *any thread*.
 */
struct task *task_new_on(unsigned int thr);

/**
 * A new task bound to the calling thread.
 *
 * Returns as task_new() does; NULL with EPERM on a thread that is not
 * registered.
 *
 * Thread rule: *registered threads*.
 */
struct task *task_new_here(void);

/**
 * A new task that every thread may run.
 *
 * Returns as task_new() does.
 *
 * Thread rule: *any thread*.
 */
struct task *task_new_anywhere(void);

/**
 * Frees a task; NULL is fine. A task that is queued, or that runs on another
 * thread, is freed by the scheduler when it meets it, without running again;
 * so is a private one that is destroyed by a foreign thread. Nobody may wake
 * or schedule it afterwards.
 *
 * Thread rule: *any thread*.
 */
void task_destroy(struct task *t);

/**
 * Has the scheduler free a task on a thread that may run it. If it runs, it
 * is freed after that run; if not, without one. Call it once.
 *
 * Thread rule: *any thread*.
 */
void task_kill(struct task *t);

/**
 * Wakes a task for the reasons why, a sum of TASK_WOKEN_* flags. Wake-ups add
 * up until its handler starts, and no run is missed: one starts after each
 * call and sees its reason. It runs on the calling thread if it may.
 *
 * Thread rule: *any thread*.
 */
void task_wakeup(struct task *t, unsigned int why);

/**
 * Wakes a task past all priorities: it runs with the most urgent tasklets.
 *
 * Thread rule: *any thread*.
 */
void task_instant_wakeup(struct task *t, unsigned int why);

/**
 * Queues a task by its expire date: does nothing if that is TICK_ETERNITY;
 * moves a queued task only if its date is now earlier.
 *
 * Queueing another thread's private task is a panic.
 *
 * Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
 */
void task_queue(struct task *t);

/**
 * Wakes a task at the date when, in ticks, at the latest: an earlier date
 * that it has already stays. Nothing happens if it is about to run. The
 * call never waits, also while the handler runs elsewhere; a date given
 * meanwhile counts when it has returned.
 *
 * TICK_ETERNITY and another thread's private task are a panic.
 *
 * Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
 */
void task_schedule(struct task *t, int when);

/**
 * Takes a task out of the wait queue, if it is in one. Returns the task.
 *
 * Thread rule: *owner thread only*; *any thread* with TASK_SHARED_WQ.
 */
struct task *task_unlink_wq(struct task *t);

/**
 * Takes a task out of the run queue, if it waits there by priority. Returns
 * the task.
 *
 * Thread rule: *owner thread only*: the one in whose queue it is.
 */
struct task *task_unlink_rq(struct task *t);

/**
 * Changes the threads that may run a task; its timer goes along. A private
 * task that leaves its thread gets TASK_SHARED_WQ.
 *
 * Thread rule: from the task's handler, or on *any thread* before its first
 * queueing.
 */
void task_set_affinity(struct task *t, unsigned long thread_mask);

/**
 * Non-zero if a task waits in a run queue by priority. Stale at once where
 * other threads may wake it.
 *
 * Thread rule: *any thread*.
 */
int task_in_rq(struct task *t);

/**
 * Non-zero if a task waits for its date. Stale at once where other threads
 * may schedule it.
 *
 * Thread rule: *any thread*.
 */
int task_in_wq(struct task *t);

/**
 * A new tasklet: asleep, run by whoever wakes it, no handler yet.
 *
 * Returns NULL with errno ENOMEM, or EPERM before keel_init().
 *
 * Thread rule: *any thread*.
 */
struct tasklet *tasklet_new(void);

/**
 * Prepares a tasklet in the caller's own memory. Such a one is never given to
 * tasklet_free() or tasklet_kill(); remove it from its queue before the
 * memory goes.
 *
 * Thread rule: *any thread*.
 */
void tasklet_init(struct tasklet *tl);

/**
 * Frees a tasklet, taking it out of its queue; NULL is fine. Its own handler
 * may do so, and then returns NULL.
 *
 * Thread rule: *owner thread only*.
 */
void tasklet_free(struct tasklet *tl);

/**
 * Has the scheduler free a tasklet on its thread, without running it again.
 * Call it once.
 *
 * Thread rule: *any thread* for a tasklet with a thread of its own, else
 * *registered threads*.
 */
void tasklet_kill(struct tasklet *tl);

/**
 * Wakes a tasklet on its thread, or on the calling one if it has none.
 * Wake-ups before its handler starts count as one; where it has a thread of
 * its own, those of that thread as one, and those of all others.
 *
 * Thread rule: *any thread* for a tasklet with a thread of its own, else
 * *registered threads*.
 */
void tasklet_wakeup(struct tasklet *tl);

/**
 * Wakes a tasklet on thread thr; negative: on the calling one. One that has a
 * thread of its own runs there alone: naming another one is a panic.
 *
 * Thread rule: *any thread*; *registered threads* if thr is negative.
 */
void tasklet_wakeup_on(struct tasklet *tl, int thr);

/**
 * Gives a tasklet a thread of its own, before its first wake-up.
 *
 * Thread rule: *any thread*.
 */
void tasklet_set_tid(struct tasklet *tl, int thr);

/**
 * Wakes a tasklet to run next on the calling thread: before everything else
 * of its class if head is NULL, else right after head. Returns the place
 * after which a following one may be put, or head itself if the tasklet was
 * queued already.
 *
 * Thread rule: *registered threads*; head is what this function returned in
 * the same handler.
 */
struct list *tasklet_wakeup_after(struct list *head, struct tasklet *tl);

/**
 * Cancels a tasklet's pending run. Doing so twice is harmless.
 *
 * Thread rule: *owner thread only*.
 */
void tasklet_remove_from_tasklet_list(struct tasklet *tl);

/**
 * Runs what the calling thread has to run, at most runqueue_depth items.
 * run_poll_loop() and keel_poll_once() do so.
 *
 * Thread rule: *registered threads*, outside of handlers.
 */
void process_runnable_tasks(void);

/**
 * Wakes the tasks of the calling thread whose date has come.
 * run_poll_loop() and keel_poll_once() do so.
 *
 * Thread rule: *registered threads*.
 */
void wake_expired_tasks(void);

/**
 * The date of the calling thread's next timer, in ticks, never later than the
 * truth; TICK_ETERNITY if there is none. It is earlier than the truth only
 * where a task's date was moved later since it was queued.
 *
 * Thread rule: *registered threads*.
 */
int next_timer_expiry(void);

/**
 * How many tasks and tasklets are runnable on all threads together, for
 * statistics.
 *
 * Thread rule: *any thread*.
 */
int total_run_queues(void);

/**
 * How many tasks and tasklets exist, embedded tasklets excluded, for
 * statistics.
 *
 * Thread rule: *any thread*.
 */
int total_allocated_tasks(void);

/**
 * Non-zero if the calling thread has anything to run.
 *
 * Thread rule: *registered threads*.
 */
int thread_has_tasks(void);

/**
 * Frees every task that waits for its turn or its date, of all threads, whoever
 * made it: for a master process, after it has forked its workers and before its
 * own loop. Tasklets, tasks that wait for nothing, and those by which stick
 * tables expire are left alone. It is a panic while another thread is
 * registered.
 *
 * Thread rule: *any thread*, while no other one uses the library, outside of
 * handlers.
 */
void mworker_cleantasks(void);

/**
 * Writes a table of all threads' queues to the descriptor fd: for each what
 * is runnable, which timers are armed, what ran. With keel_config.profiling a
 * table of handlers follows, of tasks and tasklets alike, those first that
 * took the most time: their runs, the time that they took in all (cpu_tot)
 * and on average (cpu_avg), and how long they had to wait from wake-up to run
 * on average (lat_avg) and at most (lat_max), since keel_init(). Time passes
 * as CLOCK_MONOTONIC does, and a run counts when it ends. A handler is told
 * by its name if the dynamic linker knows it, else by file and offset. Those
 * that a thread's table has no room for are added up as "(others)".
 *
 * Returns the bytes written, or a negative errno.
 *
 * Thread rule: *any thread*.
 */
int keel_dump_tasks(int fd);

#ifdef __cplusplus
}
#endif

#endif /* KEEL_TASK_H */
