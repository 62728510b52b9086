/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/fd.h: lives of descriptors, reports, polling, takeover, forks. */

#define _GNU_SOURCE             /* pipe2 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/keel.h>

#include "fds.h"
#include "loops.h"
#include "suite.h"

/* SHOWS: INV-85 */
START_TEST(an_inserted_descriptor_is_ready_and_wants_nothing)
{
	int fd;

	start(2);
	fd = event(1);
	ck_assert_int_eq(keel_used_fds(), 0);
	fd_insert(fd, &owner, note, keel_all_threads_mask());
	ck_assert_int_eq(keel_used_fds(), 1);
	ck_assert_ptr_eq(fdtab[fd].owner, &owner);
	ck_assert(fdtab[fd].iocb == note);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 3);
	ck_assert_uint_eq(fdtab[fd].running_mask, 0);
	ck_assert_uint_eq(state_of(fd), FD_EV_READY_RW);
	ck_assert_int_eq(fd_active(fd), 0);
	turns(2);
	ck_assert_int_eq(called(), 0);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	ck_assert_int_eq(keel_used_fds(), 0);
	ck_assert_ptr_null(fdtab[fd].owner);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 0);
	ck_assert_uint_eq(state_of(fd), 0);
	ck_assert_uint_eq(fdtab[fd].generation, 1);
}
END_TEST

/* SHOWS: INV-83 */
START_TEST(slots_fill_cache_lines)
{
	start(1);
	ck_assert_uint_eq(sizeof(struct fdtab) % 64, 0);
	ck_assert_uint_eq((uintptr_t)fdtab % 64, 0);
	keel_thread_leave();
	keel_deinit();
	ck_assert_ptr_null(fdtab);
}
END_TEST

START_TEST(threads_that_do_not_exist_are_ignored)
{
	int fd;

	start(2);
	fd = event(0);
	fd_insert(fd, &owner, note, ~0UL);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 3);
	fd_delete(fd);
}
END_TEST

START_TEST(directions_change_one_bit_each)
{
	int fd;

	start(1);
	fd = watch(event(0), note, 1);
	ck_assert(fd_recv_active(fd) && !fd_send_active(fd) && fd_active(fd));
	fd_want_send(fd);
	ck_assert(fd_send_active(fd));
	fd_stop_recv(fd);
	ck_assert(!fd_recv_active(fd) && fd_send_active(fd));
	fd_stop_send(fd);
	ck_assert(!fd_active(fd));
	fd_want_recv_safe(fd);
	fd_want_send(fd);
	fd_stop_both(fd);
	ck_assert(!fd_active(fd));
	fd_cant_recv(fd);
	ck_assert(!fd_recv_ready(fd) && fd_send_ready(fd));
	fd_cant_send(fd);
	ck_assert(!fd_send_ready(fd));
	fd_may_recv(fd);
	ck_assert(fd_recv_ready(fd) && !fd_send_ready(fd));
	fd_may_send(fd);
	ck_assert(fd_send_ready(fd));
	fd_cant_recv(fd);
	fd_cant_send(fd);
	fd_may_both(fd);
	ck_assert(fd_recv_ready(fd) && fd_send_ready(fd));
	/* Speculatively: not where the poller is going to tell. */
	fd_cant_recv(fd);
	fd_cant_send(fd);
	fd_cond_recv(fd);
	ck_assert(fd_recv_ready(fd));
	fd_want_send(fd);
	fd_cond_send(fd);
	ck_assert(!fd_send_ready(fd));
	fd_stop_send(fd);
	fd_cond_send(fd);
	ck_assert(fd_send_ready(fd));
	/* Bits of others stay. */
	mark(fd, FD_EXPORTED);
	fd_stop_both(fd);
	ck_assert_uint_eq(state_of(fd), FD_EXPORTED | FD_EV_READY_RW);
	fd_delete(fd);
}
END_TEST

START_TEST(events_reach_the_callback_as_long_as_they_last)
{
	int fds[2];
	char c;

	start(1);
	stream(fds);
	watch(fds[0], note, 1);
	turns(2);
	ck_assert_int_eq(called(), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	fd_cant_recv(fds[0]);
	keel_poll_once(1000);
	ck_assert_int_eq(called(), 1);
	ck_assert_int_eq(atomic_load(&heard[fds[0]]), 1);
	ck_assert(fd_recv_ready(fds[0]));
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_IN | FD_POLL_OUT), FD_POLL_IN);
	turns(3);
	ck_assert_int_eq(called(), 3);
	ck_assert_int_eq(read(fds[0], &c, 1), 1);
	turns(2);
	ck_assert_int_eq(called(), 0);
	fd_want_send(fds[0]);
	turns(1);
	ck_assert_int_eq(called(), 1);
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_IN | FD_POLL_OUT), FD_POLL_OUT);
	fd_delete(fds[0]);
	close(fds[1]);
}
END_TEST

static atomic_int done;

static struct task *did(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	atomic_fetch_add(&done, 1);
	return t;
}

static struct task *expired(struct task *t, void *ctx, unsigned int state)
{
	t->expire = TICK_ETERNITY;
	return did(t, ctx, state);
}

static void called_out(void *ctx)
{
	did(NULL, ctx, 0);
}

static void drain_and_did(int fd)
{
	drain(fd);
	did(NULL, NULL, 0);
}

static struct {
	struct tasklet *tasklet;
	int fd;
	struct pool_head *pool;
} wanted;

static void *want_it(void *arg)
{
	(void)arg;
	usleep(3000);
	if (wanted.tasklet)
		tasklet_wakeup(wanted.tasklet);
	else if (wanted.pool)
		pool_gc(NULL);
	else
		fd_want_recv(wanted.fd);
	return NULL;
}

static unsigned long cached(void)
{
	struct keel_pool_stats s = { .cached = 0 };

	if (wanted.pool)
		keel_pool_get_stats(wanted.pool, &s);
	return s.cached;
}

/* Turns until it was done, by whom it takes: whether it was, once. */
static int until_done(int from_outside)
{
	pthread_t th;

	if (from_outside)
		pthread_create(&th, NULL, want_it, NULL);
	for (int i = 0; i < 3000000 && (wanted.pool ? cached() > 0 : !atomic_load(&done)); i++)
		keel_poll_once(-1);
	if (from_outside)
		pthread_join(th, NULL);
	memset(&wanted, 0, sizeof(wanted));
	return atomic_exchange(&done, 0) == 1;
}

/* A descriptor that reports in every turn keeps nothing else waiting: neither
 * timers and callouts nor what other threads send or want of the pools. Each
 * alone, for one of them would serve the others too. */
START_TEST(events_keep_nothing_else_waiting)
{
	struct pool_head *pool = create_pool("busy", 64, MEM_F_EXACT);
	struct tasklet *tl;
	struct task *t[2];
	struct callout c;
	int busy, other;

	start(2);
	busy = watch(event(1), note, 1);
	for (int i = 0; i < 100; i++)
		keel_poll_once(-1);
	for (int i = 0; i < 2; i++) {
		t[i] = i ? task_new_anywhere() : task_new_here();
		t[i]->process = expired;
		task_schedule(t[i], tick_add(keel_now_ms(), 3));
		ck_assert(until_done(0));
	}
	callout_init(&c, 1);
	callout_reset(&c, 3, called_out, NULL);
	ck_assert(until_done(0));

	wanted.tasklet = tl = tasklet_new();
	tl->process = did;
	tasklet_set_tid(tl, 0);
	ck_assert(until_done(1));

	wanted.fd = other = event(1);
	fd_insert(other, &owner, drain_and_did, 1);
	ck_assert(until_done(1));

	pool_free(pool, pool_alloc(pool));
	wanted.pool = pool;
	ck_assert_uint_eq(cached(), 1);
	until_done(1);
	wanted.pool = pool;
	ck_assert_uint_eq(cached(), 0);

	ck_assert_int_gt(called(), 100);
	fd_delete(busy);
	fd_delete(other);
	task_destroy(t[0]);
	task_destroy(t[1]);
	tasklet_free(tl);
	pool_destroy(pool);
}
END_TEST

/* SHOWS: INV-72 */
START_TEST(nothing_is_called_that_is_not_wanted_any_more)
{
	int fd;

	start(1);
	fd = watch(event(1), note, 1);
	turns(2);
	ck_assert_int_eq(called(), 2);
	fd_stop_recv(fd);
	turns(3);
	ck_assert_int_eq(called(), 0);
	fd_want_recv(fd);
	turns(1);
	ck_assert_int_eq(called(), 1);
	/* Wanted and stopped before the poll. */
	fd_stop_recv(fd);
	turns(2);
	fd_want_recv(fd);
	fd_stop_recv(fd);
	turns(2);
	ck_assert_int_eq(called(), 0);
	fd_delete(fd);
}
END_TEST

START_TEST(reports_become_state)
{
	int fd;

	start(1);
	fd = event(0);
	fd_insert(fd, &owner, note, 1);
	ck_assert_int_eq(fd_update_events(fd, FD_EV_READY_R), FD_UPDT_DONE);
	ck_assert_int_eq(called(), 0);
	fd_want_recv(fd);
	/* A shut sending side is no error to who does not send. */
	fd_update_events(fd, FD_EV_READY_R | FD_EV_SHUT_W);
	ck_assert_int_eq(called(), 1);
	ck_assert_uint_eq(state_of(fd) & (FD_POLL_ERR | FD_POLL_HUP), 0);
	/* IN is the last report's, HUP stays. */
	fd_update_events(fd, FD_EV_READY_R | FD_EV_SHUT_R);
	fd_update_events(fd, FD_EV_READY_W);
	ck_assert_uint_eq(state_of(fd) & (FD_POLL_IN | FD_POLL_OUT | FD_POLL_HUP),
	                  FD_POLL_OUT | FD_POLL_HUP);
	fd_want_send(fd);
	fd_cant_recv(fd);
	fd_cant_send(fd);
	fd_update_events(fd, FD_EV_SHUT_W);
	ck_assert(fd_recv_ready(fd) && fd_send_ready(fd));
	fd_update_events(fd, FD_EV_READY_R);
	ck_assert_uint_ne(state_of(fd) & FD_POLL_ERR, 0);
	fd_delete(fd);
	ck_assert_int_eq(fd_update_events(fd, FD_EV_READY_R), FD_UPDT_CLOSED);
	/* Somebody else's. */
	ck_assert_int_eq(event(0), fd);
	fd_insert(fd, &owner, note, 1);
	keel_thread_leave();
	ck_assert_int_eq(fd_update_events(fd, FD_EV_READY_R), FD_UPDT_MIGRATED);
	fd_delete(fd);
}
END_TEST

START_TEST(hang_ups_and_errors_are_told_apart)
{
	int fds[2];

	start(1);
	stream(fds);
	watch(fds[0], note, 1);
	shutdown(fds[0], SHUT_WR);
	close(fds[1]);
	turns(2);
	ck_assert_int_gt(called(), 0);
	ck_assert_uint_eq(state_of(fds[0]) & (FD_POLL_ERR | FD_POLL_HUP), FD_POLL_HUP);
	fd_delete(fds[0]);
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	fd_insert(fds[1], &owner, note, 1);
	fd_want_send(fds[1]);
	close(fds[0]);
	turns(2);
	ck_assert_uint_ne(state_of(fds[1]) & FD_POLL_ERR, 0);
	fd_delete(fds[1]);
}
END_TEST

static void delete_and_reuse(int fd)
{
	note(fd);
	fd_delete(fd);
	ck_assert(!is_open(fd));
	ck_assert_int_eq(event(1), fd);
	watch(fd, drain_and_note, 1);
}

START_TEST(the_callback_deletes_and_reuses_its_number)
{
	int fd;

	start(1);
	fd = watch(event(1), delete_and_reuse, 1);
	turns(1);
	ck_assert_int_eq(called(), 1);
	ck_assert_int_eq(keel_used_fds(), 1);
	ck_assert_uint_eq(fdtab[fd].running_mask, 0);
	turns(3);
	ck_assert_int_eq(called(), 1);
	fd_delete(fd);
}
END_TEST

/* Two ready descriptors of one batch; whichever comes first replaces the other. */
static int pair[2];

static void replace_the_other(int fd)
{
	int other = fd == pair[0] ? pair[1] : pair[0];

	note(fd);
	fd_delete(other);
	ck_assert_int_eq(event(0), other);
	watch(other, replace_the_other, 1);
	fd_stop_recv(fd);
}

START_TEST(fd_36_a_late_report_is_not_the_next_users)
{
	start(1);
	for (int i = 0; i < 2; i++) {
		pair[i] = watch(event(1), replace_the_other, 1);
	}
	turns(1);
	ck_assert_int_eq(called(), 1);
	turns(3);
	ck_assert_int_eq(called(), 0);
	fd_delete(pair[0]);
	fd_delete(pair[1]);
}
END_TEST

START_TEST(running_bits_by_hand)
{
	int fd;

	start(1);
	fd = event(0);
	fd_insert(fd, &owner, note, 1);
	ck_assert_int_eq(fd_set_running(fd), 0);
	ck_assert_uint_eq(fdtab[fd].running_mask, 1);
	ck_assert_int_eq(fd_takeover(fd, &owner), -1);
	ck_assert_int_eq(fd_clr_running(fd), 0);
	_fd_delete_orphan(fd);
	ck_assert_msg(is_open(fd), "it is no orphan");
	/* In the manner of HAProxy 2.2's fd_delete(). */
	ck_assert_int_eq(fd_set_running(fd), 0);
	__atomic_store_n(&fdtab[fd].thread_mask, 0, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(fd_clr_running(fd), 0);
	_fd_delete_orphan(fd);
	ck_assert(!is_open(fd));
	ck_assert_int_eq(keel_used_fds(), 0);
	ck_assert_int_eq(fd_set_running(fd), -1);
	/* Too late: the number is in use again. */
	ck_assert_int_eq(event(0), fd);
	fd_insert(fd, &owner, note, 1);
	_fd_delete_orphan(fd);
	ck_assert(is_open(fd));
	ck_assert_int_eq(keel_used_fds(), 1);
	fd_delete(fd);
}
END_TEST

START_TEST(takeover_of_ones_own)
{
	int fd, other;

	start(2);
	fd = watch(event(1), note, 2);
	ck_assert_int_eq(fd_takeover(fd, &other), -1);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 2);
	ck_assert(fd_recv_active(fd));
	ck_assert_int_eq(fd_takeover(fd, &owner), 0);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 1);
	ck_assert(!fd_active(fd));
	turns(2);
	ck_assert_int_eq(called(), 0);
	fd_want_recv(fd);
	turns(1);
	ck_assert_int_eq(called(), 1);
	fd_delete(fd);
}
END_TEST

START_TEST(fd_34_duplicates_do_not_ring)
{
	int fd, copy, said;

	start(1);
	for (said = 0; said < 2; said++) {
		fd = event(1);
		copy = dup(fd);
		watch(fd, note, 1);
		turns(1);
		if (said)
			mark(fd, FD_CLONED);
		fd_delete(fd);
		called();
		turns(10);
		ck_assert_int_eq(called(), 0);
		/* Seen twice by the one who was told nothing, by the other not at all. */
		ck_assert_ptr_nonnull(strstr(dump(), with_poll() ? "poll_stale=0 poll_rebuild=0" :
		                             "poll_stale=2 poll_rebuild=1"));
		close(copy);
	}
}
END_TEST

static void read_three_times(int fd)
{
	note(fd);
	if (atomic_load(&calls) == 3)
		fd_stop_recv(fd);
}

START_TEST(regular_files_are_always_ready)
{
	FILE *file = tmpfile();
	int fd;

	ck_assert_ptr_nonnull(file);
	start(1);
	fd = dup(fileno(file));
	watch(fd, read_three_times, 1);
	for (int i = 0; i < 10; i++)
		keel_poll_once(i < 3 ? 10000 : 0);
	ck_assert_int_eq(called(), 3);
	fd_delete(fd);
	fclose(file);
}
END_TEST

START_TEST(any_descriptor_can_be_made_safe)
{
	int fd = eventfd(0, 0);

	/* Before keel_init(). */
	ck_assert_int_eq(fd_set_nonblock(fd), 0);
	ck_assert_int_eq(fd_set_cloexec(fd), 0);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	errno = 0;
	ck_assert_int_eq(fd_set_nonblock(fd), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(fd_set_cloexec(-1), -1);
}
END_TEST

/* SHOWS: INV-82 */
START_TEST(fd_54_closefrom_closes_everything)
{
	int fds[300], pid;

	for (int i = 0; i < 300; i++)
		fds[i] = event(i % 7 == 0);
	for (int i = 0; i < 300; i += 11)
		close(fds[i]);
	pid = fork();
	if (pid == 0) {
		int left = 0;

		my_closefrom(fds[1]);
		for (int i = 1; i < 300; i++)
			left += is_open(fds[i]);
		_exit(left != 0 || !is_open(2));
	}
	ck_assert_int_eq(reap(pid), 0);
}
END_TEST

/* What list_pollers() says is in its last line, for one. */
static void says(const char *wanted)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	ck_assert_int_eq(list_pollers(out), 0);
	fclose(out);
	ck_assert_msg(strstr(text, wanted) != NULL, "'%s' is not in:\n%s", wanted, text);
	free(text);
}

START_TEST(pollers_are_listed_and_disabled)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	disable_poller("select");
	disable_poller(NULL);
	cfg.nbthread = 1;
	if (!chosen_poller())
		says("2 of 2 usable; epoll is used");
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_init(&cfg), -EALREADY);
	keel_deinit();
	disable_poller("epoll");
	if (!chosen_poller()) {
		says("epoll: preference 300, disabled");
		says("1 of 2 usable; poll is used");
		ck_assert_int_eq(keel_init(&cfg), 0);
		ck_assert_int_eq(keel_thread_enter(0), 0);
		ck_assert_int_eq(keel_poll_fd(), -ENOTSUP);
		keel_thread_leave();
		keel_deinit();
	}
	disable_poller("poll");
	says("0 of 2 usable");
	ck_assert_int_eq(keel_init(&cfg), -EINVAL);
}
END_TEST

START_TEST(a_forked_child_polls_on_its_own)
{
	int fds[2], pid;
	uint64_t count;

	start(1);
	stream(fds);
	watch(fds[0], note, 1);
	turns(1);
	pid = fork();
	if (pid == 0) {
		int good = fork_poller() == 1;

		good &= (state_of(fds[0]) & FD_CLONED) != 0;
		good &= write(fds[1], "x", 1) == 1;
		keel_poll_once(5000);
		good &= called() == 1;
		fd_stop_recv(fds[0]);
		turns(3);
		wake_thread(0);
		fd_delete(fds[0]);
		good &= keel_used_fds() == 0;
		_exit(!good);
	}
	ck_assert_int_eq(reap(pid), 0);
	/* The child took nothing out of this poller. */
	keel_poll_once(5000);
	ck_assert_int_eq(called(), 1);
	ck_assert_uint_eq(state_of(fds[0]) & FD_CLONED, 0);
	ck_assert_int_eq(read(fds[0], &count, 1), 1);
	fd_delete(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(the_dump_has_a_line_per_descriptor)
{
	const char *text;
	char line[32];
	int fd;

	start(1);
	fd = watch(event(1), note, 1);
	turns(1);
	text = dump();
	snprintf(line, sizeof(line), "fd=%d state=0x", fd);
	ck_assert_ptr_nonnull(strstr(text, line));
	ck_assert_ptr_nonnull(strstr(text, "used=1"));
	ck_assert_int_eq(keel_dump_fds(-1), -EBADF);
	fd_delete(fd);
}
END_TEST

/* --- several threads ------------------------------------------------------ */

static int run(unsigned int nbthread, int (*body)(unsigned int tid, void *arg))
{
	init(nbthread);
	return keel_run(body, NULL);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int inside, left, deleted;
static int shared;
/* A thread that is not registered. */
static pthread_t outsider;

static void wants_the_lock(int fd)
{
	(void)fd;
	atomic_fetch_add(&inside, 1);
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&left, 1);
}

static void *delete_under_the_lock(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	fd_want_recv(shared);
	wait_for(&inside, 2);
	fd_delete(shared);
	ck_assert_msg(is_open(shared), "two threads are inside");
	atomic_store(&deleted, 1);
	pthread_mutex_unlock(&lock);
	wait_for(&left, 2);
	for (int i = 0; i < 10000 && keel_used_fds(); i++)
		usleep(1000);
	keel_stop();
	return NULL;
}

static int start_deleter(unsigned int tid, void *arg)
{
	(void)arg;
	if (tid == 0) {
		shared = event(1);
		fd_insert(shared, &owner, wants_the_lock, keel_all_threads_mask());
		return pthread_create(&outsider, NULL, delete_under_the_lock, NULL);
	}
	return 0;
}

/* FD-1: a deadlock if fd_delete() waited for who is inside. */
START_TEST(fd_1_delete_with_the_lock_that_callbacks_want)
{
	ck_assert_int_eq(run(2, start_deleter), 0);
	pthread_join(outsider, NULL);
	ck_assert_int_eq(atomic_load(&deleted), 1);
	ck_assert_int_eq(keel_used_fds(), 0);
	ck_assert(!is_open(shared));
	keel_deinit();
}
END_TEST

static void ring_back(int fd)
{
	drain_and_note(fd);
	if (atomic_load(&calls) >= 200)
		keel_stop();
}

static void *ring_from_outside(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		ring(shared);
		wait_for(&calls, i + 1);
	}
	return NULL;
}

static int start_ringer(unsigned int tid, void *arg)
{
	(void)arg;
	if (tid != 0)
		return 0;
	/* Bound to the other thread, wanted from here: that one is to be woken. */
	shared = watch(event(0), ring_back, 2);
	return pthread_create(&outsider, NULL, ring_from_outside, NULL);
}

/* SHOWS: INV-74 */
START_TEST(a_sleeping_thread_hears_of_new_wishes)
{
	ck_assert_int_eq(run(2, start_ringer), 0);
	pthread_join(outsider, NULL);
	ck_assert_int_eq(called(), 200);
	fd_delete(shared);
	keel_deinit();
}
END_TEST

/* An idle connection goes round among the threads: each takes it over, reads
 * once, and hands it on; a task of the next thread does the same. */
enum { THREADS = 3, HANDS = 300 };
static struct tasklet *taker[THREADS];
static atomic_int hands, together;

static void one_owner(int fd)
{
	uint64_t count;

	if (atomic_fetch_add(&together, 1) != 0)
		abort();
	if (read(fd, &count, sizeof(count)) < 0)
		fd_cant_recv(fd);
	atomic_fetch_sub(&together, 1);
	fd_stop_recv(fd);
	tasklet_wakeup(taker[(keel_tid() + 1) % THREADS]);
}

static struct task *take(struct task *t, void *ctx, unsigned int state)
{
	(void)ctx;
	(void)state;
	if (atomic_load(&hands) == HANDS) {
		keel_stop();
		return t;
	}
	if (fd_takeover(shared, &owner) < 0) {
		/* The last owner is still on its way out. */
		tasklet_wakeup(taker[keel_tid()]);
		return t;
	}
	atomic_fetch_add(&hands, 1);
	fd_want_recv(shared);
	ring(shared);
	return t;
}

static int start_takers(unsigned int tid, void *arg)
{
	(void)arg;
	if (tid == 0)
		tasklet_wakeup(taker[0]);
	return 0;
}

/* SHOWS: INV-63 */
START_TEST(fd_3_takeovers_go_round)
{
	init(THREADS);
	shared = event(0);
	fd_insert(shared, &owner, one_owner, 1);
	for (int i = 0; i < THREADS; i++) {
		taker[i] = tasklet_new();
		taker[i]->process = take;
		tasklet_set_tid(taker[i], i);
	}
	ck_assert_int_eq(keel_run(start_takers, NULL), 0);
	ck_assert_int_eq(atomic_load(&hands), HANDS);
	fd_delete(shared);
	ck_assert_int_eq(keel_used_fds(), 0);
	keel_deinit();
}
END_TEST

/* --- misuse --------------------------------------------------------------- */

/* SHOWS: INV-79 */
START_TEST(out_of_range_is_a_panic)
{
	start(1);
	fd_insert(MAXSOCK, &owner, note, 1);
}
END_TEST

START_TEST(a_negative_descriptor_is_a_panic)
{
	start(1);
	fd_want_recv(-1);
}
END_TEST

START_TEST(no_owner_is_a_panic)
{
	start(1);
	fd_insert(event(0), NULL, note, 1);
}
END_TEST

START_TEST(no_thread_is_a_panic)
{
	start(1);
	fd_insert(event(0), &owner, note, 2);
}
END_TEST

/* SHOWS: INV-85 */
START_TEST(inserting_twice_is_a_panic)
{
	int fd = event(0);

	start(1);
	fd_insert(fd, &owner, note, 1);
	fd_insert(fd, &owner, note, 1);
}
END_TEST

START_TEST(deleting_a_free_slot_is_a_panic)
{
	start(1);
	fd_delete(event(0));
}
END_TEST

START_TEST(before_keel_init_is_a_panic)
{
	fd_insert(event(0), &owner, note, 1);
}
END_TEST

static char said[256];

static void listen_to_panics(const char *file, int line, const char *message, void *arg)
{
	(void)file;
	(void)line;
	(void)arg;
	snprintf(said, sizeof(said), "%s", message);
	if (strstr(said, "descriptor 77 is deleted but not inserted"))
		_exit(33);
}

START_TEST(panics_say_which_descriptor)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = 1;
	cfg.maxsock = MAXSOCK;
	cfg.panic = listen_to_panics;
	ck_assert_int_eq(keel_init(&cfg), 0);
	fd_delete(77);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd");
	TCase *one = tcase_create("one thread");
	TCase *many = tcase_create("many threads");
	TCase *bad = tcase_create("misuse");

	tcase_set_timeout(one, 30);
	tcase_set_timeout(many, 60);
	tcase_add_test(one, an_inserted_descriptor_is_ready_and_wants_nothing);
	tcase_add_test(one, slots_fill_cache_lines);
	tcase_add_test(one, threads_that_do_not_exist_are_ignored);
	tcase_add_test(one, directions_change_one_bit_each);
	tcase_add_test(one, events_reach_the_callback_as_long_as_they_last);
	tcase_add_test(one, events_keep_nothing_else_waiting);
	tcase_add_test(one, nothing_is_called_that_is_not_wanted_any_more);
	tcase_add_test(one, reports_become_state);
	tcase_add_test(one, hang_ups_and_errors_are_told_apart);
	tcase_add_test(one, the_callback_deletes_and_reuses_its_number);
	tcase_add_test(one, fd_36_a_late_report_is_not_the_next_users);
	tcase_add_test(one, running_bits_by_hand);
	tcase_add_test(one, takeover_of_ones_own);
	tcase_add_test(one, fd_34_duplicates_do_not_ring);
	tcase_add_test(one, regular_files_are_always_ready);
	tcase_add_test(one, any_descriptor_can_be_made_safe);
	tcase_add_test(one, fd_54_closefrom_closes_everything);
	tcase_add_test(one, pollers_are_listed_and_disabled);
	tcase_add_test(one, a_forked_child_polls_on_its_own);
	tcase_add_test(one, the_dump_has_a_line_per_descriptor);
	tcase_add_test(many, fd_1_delete_with_the_lock_that_callbacks_want);
	tcase_add_test(many, a_sleeping_thread_hears_of_new_wishes);
	tcase_add_test(many, fd_3_takeovers_go_round);
	tcase_add_test_raise_signal(bad, out_of_range_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, a_negative_descriptor_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, no_owner_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, no_thread_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, inserting_twice_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, deleting_a_free_slot_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(bad, before_keel_init_is_a_panic, SIGABRT);
	tcase_add_exit_test(bad, panics_say_which_descriptor, 33);
	suite_add_tcase(s, one);
	suite_add_tcase(s, many);
	suite_add_tcase(s, bad);
	return run_suite(s);
}
