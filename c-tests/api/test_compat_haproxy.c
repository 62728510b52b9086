/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/compat/haproxy.h: declared pools, and HAProxy's names for the rest. */

#define _GNU_SOURCE             /* pipe2 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/compat/haproxy.h>

#include "memory.h"
#include "suite.h"

struct session { char name[100]; };
struct wide { char bytes[64]; } __attribute__((aligned(64)));

static struct pool_head *by_hand;

/* In the first round of constructors, before any of the header's. */
__attribute__((constructor(101))) static void create_before_all(void)
{
	by_hand = create_pool("by hand", 3000, 0);
}

DECLARE_POOL(pool_session, "session", sizeof(struct session));
DECLARE_STATIC_POOL(pool_same, "same", sizeof(struct session));
DECLARE_ALIGNED_POOL(pool_aligned, "aligned", 4000, 256);
DECLARE_STATIC_ALIGNED_POOL(pool_static_aligned, "staligned", 1500, 32);
DECLARE_TYPED_POOL(pool_typed, "typed", struct wide);
DECLARE_STATIC_TYPED_POOL(pool_extra, "extra", struct wide, 1000);
DECLARE_STATIC_TYPED_POOL(pool_more, "more", struct wide, 2000, 1024);
DECLARE_STATIC_TYPED_POOL(pool_less, "less", struct wide, 5000, 8);

static struct pool_head *registered, *registered_too, *registered_aligned;
REGISTER_POOL(&registered, "registered", 700); REGISTER_POOL(&registered_too, "regtoo", 800);
REGISTER_ALIGNED_POOL(&registered_aligned, "regaligned", 900, 128);

static void *early[3];

/* In the first round, too, and in the last one. */
__attribute__((constructor(101))) static void allocate_first(void)
{
	early[0] = pool_alloc(by_hand);
	early[1] = pool_zalloc(pool_session);
}

__attribute__((constructor)) static void allocate_last(void)
{
	early[2] = pool_alloc(registered);
}

static struct pool_head **const declared[] = {
	&pool_session, &pool_same, &pool_aligned, &pool_static_aligned, &pool_typed, &pool_extra, &pool_more, &pool_less,
	&registered, &registered_too, &registered_aligned,
};
#define DECLARED (sizeof(declared) / sizeof(declared[0]))

static struct keel_pool_stats stats(const struct pool_head *pool)
{
	struct keel_pool_stats s;

	keel_pool_get_stats(pool, &s);
	return s;
}

/* An object of each, written from end to end. */
static void use_all(void)
{
	for (size_t i = 0; i < DECLARED; i++) {
		void *object = pool_alloc(*declared[i]);

		ck_assert_ptr_nonnull(object);
		ck_assert_uint_eq((uintptr_t)object % (*declared[i])->align, 0);
		memset(object, 0x5a, (*declared[i])->size);
		pool_free(*declared[i], object);
	}
}

static void give_early_back(void)
{
	pool_free(by_hand, early[0]);
	pool_free(pool_session, early[1]);
	pool_free(registered, early[2]);
}

/* --- declared pools ---------------------------------------------------------- */

START_TEST(pools_exist_before_main)
{
	for (int i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(early[i]);
	ck_assert_uint_eq(stats(by_hand).used, 1);
	ck_assert_uint_eq(stats(pool_session).used, 1);
	ck_assert_uint_eq(stats(registered).used, 1);
	use_all();
	give_early_back();
	ck_assert_uint_eq(stats(NULL).used, 0);
}
END_TEST

START_TEST(pools_are_what_was_declared)
{
	ck_assert_uint_ge(pool_session->size, sizeof(struct session));
	ck_assert_str_eq(pool_session->name, "session");
	ck_assert_ptr_eq(pool_same, pool_session);
	ck_assert_uint_eq(pool_aligned->align, 256);
	ck_assert_uint_eq(pool_static_aligned->align, 32);
	ck_assert_uint_ge(registered_aligned->size, 900);
	ck_assert_uint_eq(registered_aligned->align, 128);
	ck_assert_str_eq(registered_too->name, "regtoo");
	ck_assert_ptr_ne(registered, registered_too);
}
END_TEST

START_TEST(pool_30_the_default_alignment_is_the_types)
{
	ck_assert_uint_eq(pool_typed->size, sizeof(struct wide));
	ck_assert_uint_eq(pool_typed->align, 64);
	ck_assert_uint_ge(pool_extra->size, sizeof(struct wide) + 1000);
	ck_assert_uint_eq(pool_extra->align, 64);
	ck_assert_uint_eq(pool_more->align, 1024);
	/* Less than the type needs would be of no use. */
	ck_assert_uint_eq(pool_less->align, 64);
	for (int i = 0; i < 20; i++) {
		void *object = pool_alloc(pool_typed);

		ck_assert_uint_eq((uintptr_t)object % 64, 0);
		if (i % 2)
			pool_free(pool_typed, object);
		else
			pool_free_nocache(pool_typed, object);
	}
}
END_TEST

START_TEST(pools_come_back_with_the_next_init)
{
	give_early_back();
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(keel_init(NULL), 0);
		ck_assert_int_eq(keel_thread_enter(0), 0);
		use_all();
		keel_thread_leave();
		keel_deinit();
		for (size_t p = 0; p < DECLARED; p++)
			ck_assert_ptr_null(*declared[p]);
		ck_assert_uint_eq(stats(NULL).allocated, 0);
	}
	ck_assert_int_eq(keel_init(NULL), 0);
	ck_assert_ptr_eq(pool_same, pool_session);
	ck_assert_uint_eq(pool_more->align, 1024);
	keel_deinit();
}
END_TEST

START_TEST(pools_in_use_survive)
{
	struct pool_head *was = pool_session;

	pool_free(by_hand, early[0]);
	pool_free(registered, early[2]);
	ck_assert_int_eq(keel_init(NULL), 0);
	keel_deinit();
	ck_assert_ptr_eq(pool_session, was);
	ck_assert_ptr_eq(pool_same, was);
	ck_assert_ptr_null(registered);
	ck_assert_int_eq(keel_init(NULL), 0);
	ck_assert_ptr_eq(pool_session, was);
	pool_free(pool_session, early[1]);
	keel_deinit();
	ck_assert_ptr_null(pool_session);
}
END_TEST

START_TEST(destroy_all_takes_declared_pools_too)
{
	give_early_back();
	pool_destroy_all();
	for (size_t p = 0; p < DECLARED; p++)
		ck_assert_ptr_null(*declared[p]);
	ck_assert_int_eq(keel_init(NULL), 0);
	use_all();
	keel_deinit();
}
END_TEST

/* The usual line at a program's end, while other uses remain or not. */
START_TEST(a_declared_pool_may_be_destroyed_by_hand)
{
	give_early_back();
	ck_assert_ptr_null(pool_destroy(registered_too));
	registered_too = NULL;
	ck_assert_ptr_null(pool_destroy(pool_session));
	ck_assert_ptr_null(pool_destroy(registered));   /* its address stays behind */
	ck_assert_int_eq(keel_init(NULL), 0);
	keel_deinit();
	ck_assert_int_eq(keel_init(NULL), 0);
	use_all();
	keel_deinit();
}
END_TEST

START_TEST(pool_25_the_callers_cache_does_not_keep_a_pool)
{
	struct pool_head *pool;

	ck_assert_int_eq(keel_init(NULL), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	pool = create_pool("cached", 12000, 0);
	pool_free(pool, pool_alloc(pool));
	ck_assert_uint_eq(stats(pool).cached, 1);
	ck_assert_ptr_null(pool_destroy(pool));
	keel_thread_leave();
	keel_deinit();
}
END_TEST

/* The checkers see leaks, and what is touched after it was freed. */
START_TEST(pool_26_27_28_merged_pools_end_with_their_last_use)
{
	struct pool_head *one = create_pool("one", 12000, MEM_F_SHARED);
	struct pool_head *two = create_pool("two", 12000, MEM_F_SHARED);
	void *object = pool_alloc(one);

	give_early_back();
	ck_assert_ptr_eq(one, two);
	ck_assert_ptr_eq(pool_destroy(one), one);
	pool_free(two, object);
	ck_assert_ptr_null(pool_destroy(one));
	object = pool_alloc(two);
	ck_assert_ptr_nonnull(object);
	pool_free(two, object);
	ck_assert_ptr_null(pool_destroy(two));
	for (int i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(create_pool("many", 12000, MEM_F_SHARED));
	pool_destroy_all();
	ck_assert_uint_eq(stats(NULL).allocated, 0);
}
END_TEST

/* --- records by hand: what a module that is unloaded does --------------------- */

struct module {
	struct keel_pool_registration record;
	struct pool_head *pool;
	char name[12];
};

static struct module *load(const char *name, unsigned int size)
{
	struct module *m = calloc(1, sizeof(*m));

	strcpy(m->name, name);
	m->record.pool = &m->pool;
	m->record.name = m->name;
	m->record.size = size;
	m->record.flags = MEM_F_SHARED;
	ck_assert_int_eq(keel_pool_register(&m->record), 0);
	ck_assert_ptr_nonnull(m->pool);
	return m;
}

static void unload(struct module *m)
{
	keel_pool_unregister(&m->record);
	memset(m, 0xff, sizeof(*m));
	free(m);
}

START_TEST(a_record_that_went_is_not_touched)
{
	struct module *a = load("a", 6000), *b = load("b", 7000), *c = load("c", 8000);
	struct pool_head *pool;

	give_early_back();
	unload(b);
	ck_assert_int_eq(keel_init(NULL), 0);
	keel_deinit();
	ck_assert_ptr_null(a->pool);
	ck_assert_ptr_null(c->pool);
	unload(a);
	unload(c);
	ck_assert_int_eq(keel_init(NULL), 0);
	b = load("b", 7000);
	pool = b->pool;
	unload(b);
	b = load("b", 7000);
	ck_assert_ptr_eq(b->pool, pool);
	unload(b);
	keel_deinit();
	ck_assert_int_eq(keel_init(NULL), 0);
	use_all();
	keel_deinit();
}
END_TEST

START_TEST(objects_outlive_their_module)
{
	struct module *m = load("module", 6000);
	struct pool_head *pool = m->pool;
	char *object = pool_alloc(pool);

	unload(m);
	memset(object, 1, pool->size);
	pool_free(pool, object);
	ck_assert_uint_eq(stats(pool).used, 0);
}
END_TEST

START_TEST(records_are_checked)
{
	struct module *m = load("module", 6000);
	struct keel_pool_registration bad;

	ck_assert_int_eq(keel_pool_register(&m->record), -EALREADY);
	ck_assert_int_eq(keel_pool_register(NULL), -EINVAL);
	memset(&bad, 0, sizeof(bad));
	ck_assert_int_eq(keel_pool_register(&bad), -EINVAL);
	bad.pool = &m->pool;
	ck_assert_int_eq(keel_pool_register(&bad), -EINVAL);
	bad.name = "bad";
	bad.size = (size_t)UINT_MAX + 100;
	ck_assert_int_eq(keel_pool_register(&bad), -EINVAL);
	ck_assert_ptr_nonnull(m->pool);
	keel_pool_unregister(&bad);
	keel_pool_unregister(NULL);
	unload(m);
}
END_TEST

/* --- no pool ------------------------------------------------------------------ */

/* What <fails> writes to stderr, and that it ends with status 1. */
static void alert_of(void (*fails)(void), char *text, size_t size)
{
	int ends[2], status;
	ssize_t n;
	size_t len = 0;
	pid_t pid;

	ck_assert_int_eq(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], 2);
		fails();
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], text + len, size - 1 - len)) > 0)
		len += n;
	text[len] = '\0';
	close(ends[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %#x: %s", (unsigned int)status, text);
}

static void create_the_impossible(void)
{
	struct pool_head *pool = NULL;

	create_pool_callback(&pool, "impossible", UINT_MAX);
}

static void declare_the_impossible(void)
{
	static struct pool_head *pool;
	static struct keel_pool_registration record = { &pool, "unthinkable", UINT_MAX, 0, MEM_F_SHARED, NULL };

	keel_compat_register_pool(&record);
}

START_TEST(a_program_without_its_pools_ends)
{
	char text[1000];

	alert_of(create_the_impossible, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "[ALERT]"));
	ck_assert_ptr_nonnull(strstr(text, "'impossible'"));
	alert_of(declare_the_impossible, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "'unthinkable'"));
	ck_assert_ptr_nonnull(strstr(text, "Invalid argument"));
}
END_TEST

START_TEST(creation_without_memory_leaves_nothing_behind)
{
	struct pool_head *shared = create_pool("shared", 12000, MEM_F_SHARED);
	struct pool_head *pool = NULL, *made[2];
	struct keel_pool_registration record = { &pool, "late", 9000, 0, MEM_F_SHARED, NULL };
	struct rlimit now;
	int errors[2], registers[2];
	void *last, *again[2];
	void *volatile small;           /* or the compiler leaves it out */

	if (checked())
		return;
	NOT_UNDER_QEMU("it ignores RLIMIT_AS");
	small = malloc(48);             /* a request's */
	last = take_all_memory(&now);
	for (int i = 0; i < 2; i++) {
		/* At first not even the request can be noted, then that but not the pool. */
		errno = 0;
		made[i] = create_pool(i ? "new" : "shared", i ? 20000 : 12000, MEM_F_SHARED);
		errors[i] = errno;
		registers[i] = keel_pool_register(&record);
		if (i == 0)
			free(small);
	}
	/* What was taken for the request was given back. */
	for (int i = 0; i < 2; i++)
		again[i] = malloc(48);
	give_all_memory_back(last, &now);
	ck_assert_ptr_null(made[0]);
	ck_assert_ptr_null(made[1]);
	ck_assert_int_eq(errors[0], ENOMEM);
	ck_assert_int_eq(errors[1], ENOMEM);
	ck_assert_int_eq(registers[0], -ENOMEM);
	ck_assert_int_eq(registers[1], -ENOMEM);
	ck_assert_ptr_null(pool);
	ck_assert_ptr_nonnull(again[0]);
	ck_assert_ptr_null(again[1]);
	free(again[0]);
	/* One use, not two. */
	ck_assert_ptr_null(pool_destroy(shared));
	ck_assert_int_eq(keel_pool_register(&record), 0);
	ck_assert_ptr_nonnull(pool);
	keel_pool_unregister(&record);
}
END_TEST

/* --- HAProxy's names ----------------------------------------------------------- */

START_TEST(the_callback_creates_shared_pools)
{
	struct pool_head *a = NULL, *b = NULL;

	create_pool_callback(&a, "first", 12000);
	create_pool_callback(&b, "second", 12000);
	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_eq(a, b);
	ck_assert_ptr_null(pool_destroy(a));
	ck_assert_ptr_null(pool_destroy(b));
}
END_TEST

START_TEST(flags_reach_the_allocation)
{
	struct pool_head *pool;
	unsigned char *object;

	ck_assert_int_eq(keel_pool_debug("65"), 0);
	pool = create_pool("poisoned", 5500, 0);
	object = pool_alloc_flag(pool, 0);
	ck_assert_uint_eq(object[100], 'A');
	object[100] = 7;
	pool_free(pool, object);
	object = pool_alloc_flag(pool, POOL_F_MUST_ZERO);
	ck_assert_uint_eq(object[100], 0);
	pool_free(pool, object);
	ck_assert_ptr_null(pool_destroy(pool));
}
END_TEST

static void dump_and_fail(void)
{
	dump_pools();
	_exit(1);
}

START_TEST(dump_pools_writes_to_stderr)
{
	static char text[20000];

	alert_of(dump_and_fail, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "Pool session ("));
	ck_assert_ptr_nonnull(strstr(text, "\nTotal: "));
}
END_TEST

/* --- debugging words ------------------------------------------------------------ */

START_TEST(words_are_parsed_as_by_haproxy)
{
	char *err = (char *)1;

	give_early_back();
	pool_destroy_all();
	ck_assert_int_eq(pool_parse_debugging("no-merge,tag", &err), 1);
	ck_assert_ptr_null(err);
	ck_assert_int_eq(pool_parse_debugging("help", &err), -1);
	ck_assert_ptr_nonnull(err);
	ck_assert_ptr_nonnull(strstr(err, "*tag"));
	ck_assert_ptr_nonnull(strstr(err, "*no-poison"));
	free(err);
	ck_assert_int_eq(pool_parse_debugging("poison,bogus", &err), -2);
	ck_assert_ptr_nonnull(strstr(err, "'bogus'"));
	free(err);
	ck_assert_int_eq(pool_parse_debugging("bogus", NULL), -2);
	/* Nothing has changed, so the table shows no poison. */
	ck_assert_int_eq(pool_parse_debugging("help", &err), -1);
	ck_assert_ptr_nonnull(strstr(err, "*no-poison"));
	free(err);
	/* The empty string is a poison byte. */
	ck_assert_int_eq(pool_parse_debugging("", &err), 1);
	ck_assert_int_eq(pool_parse_debugging("help", &err), -1);
	ck_assert_ptr_nonnull(strstr(err, "*poison"));
	free(err);
}
END_TEST

START_TEST(words_reach_declared_pools)
{
	struct pool_head *used = pool_session;
	unsigned char *object;
	char *err;

	/* What was used, or is not only declared, stays as it is: a warning. */
	ck_assert_int_eq(pool_parse_debugging("65", &err), 0);
	ck_assert_ptr_nonnull(strstr(err, "exist already"));
	free(err);
	ck_assert_ptr_eq(pool_session, used);
	ck_assert_ptr_eq(pool_same, used);
	object = pool_alloc(pool_more);
	for (unsigned int i = 0; i < pool_more->size; i++)
		ck_assert_uint_eq(object[i], 'A');
	pool_free(pool_more, object);
	give_early_back();
	use_all();
	ck_assert_int_eq(keel_init(NULL), 0);
	keel_deinit();
	/* All of them are new now. */
	ck_assert_int_eq(keel_init(NULL), 0);
	object = pool_alloc(pool_session);
	ck_assert_uint_eq(object[50], 'A');
	pool_free(pool_session, object);
	keel_deinit();
}
END_TEST

/* --- descriptors ----------------------------------------------------------------- */

struct ist { char *ptr; size_t len; };

static int connection;          /* its address owns descriptors */
static int calls;

static void count_calls(int fd)
{
	(void)fd;
	calls++;
}

static void start(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	give_early_back();
	cfg.nbthread = 2;
	cfg.maxsock = 256;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
}

START_TEST(pollers_live_with_the_library)
{
	ck_assert_int_eq(init_pollers(), 0);
	deinit_pollers();
	start();
	ck_assert_int_eq(init_pollers(), 1);
	deinit_pollers();
	ck_assert_int_eq(init_pollers(), 1);
	keel_deinit();
	ck_assert_int_eq(init_pollers(), 0);
	ck_assert_int_lt(DEAD_FD_MAGIC, 0);
}
END_TEST

START_TEST(used_descriptors_are_a_variable)
{
	int fds[2];

	ck_assert_int_eq(ha_used_fds, 0);
	start();
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	fd_insert(fds[0], &connection, count_calls, 1);
	ck_assert_int_eq(ha_used_fds, 1);
	fd_insert(fds[1], &connection, count_calls, 1);
	ck_assert(ha_used_fds == 2 && ha_used_fds * 2 == 4);
	fd_delete(fds[0]);
	fd_delete(fds[1]);
	ck_assert_int_eq(ha_used_fds, 0);
	keel_deinit();
	ck_assert_int_eq(ha_used_fds, 0);
}
END_TEST

START_TEST(fd_52_poll_timeouts_are_exact)
{
	int now;

	start();
	now = (int)keel_now_ms();
	ck_assert_int_eq(compute_poll_timeout(TICK_ETERNITY), 60000);
	ck_assert_int_eq(compute_poll_timeout(tick_add(now, 100000)), 60000);
	ck_assert_int_eq(compute_poll_timeout(tick_add(now, INT_MAX)), 60000);
	ck_assert_int_eq(compute_poll_timeout(tick_add(now, -1)), 0);
	ck_assert_int_eq(compute_poll_timeout(tick_add(now, -100000)), 0);
	for (int i = 0; i < 100; i++) {
		int date = tick_add(now, i * 700);
		int expected = (int)((unsigned int)date - (unsigned int)now);

		if (compute_poll_timeout(date) != (expected < 60000 ? expected : 60000))
			ck_abort_msg("%d ms from now: %d", expected, compute_poll_timeout(date));
	}
	keel_deinit();
}
END_TEST

START_TEST(lines_are_made_of_ists)
{
	struct ist pfx[] = { { "<6>", 3 }, { NULL, 0 }, { "host ", 5 } }, msg[] = { { "hello", 5 }, { ", world", 7 } };
	char text[64] = "";
	int fds[2];

	start();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(fd_write_frag_line(fds[1], 0, pfx, 3, msg, 2, 1), 21);
	ck_assert_int_eq(fd_write_frag_line(fds[1], 6, pfx + 2, 1, msg, 2, 1), 6);
	ck_assert_int_eq(fd_write_frag_line(fds[1], 0, NULL, 0, msg, 1, 0), 5);
	ck_assert_int_eq(read(fds[0], text, sizeof(text) - 1), 32);
	ck_assert_str_eq(text, "<6>host hello, world\nhost \nhello");
	close(fds[0]);
	close(fds[1]);
	keel_deinit();
}
END_TEST

/* An ACTIVE bit set by hand is polled for once the poller is told. */
START_TEST(updates_may_be_programmed_by_hand)
{
	int fds[2];

	start();
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	fd_insert(fds[0], &connection, count_calls, 1);
	keel_poll_once(0);
	__atomic_fetch_or(&fdtab[fds[0]].state, FD_EV_ACTIVE_R, __ATOMIC_RELAXED);
	keel_poll_once(0);
	ck_assert_int_eq(calls, 0);
	updt_fd_polling(fds[0]);
	ck_assert_uint_eq(fdtab[fds[0]].update_mask, 1);
	updt_fd_polling(fds[0]);
	ck_assert_uint_eq(fdtab[fds[0]].update_mask, 1);
	keel_poll_once(5000);
	ck_assert_int_eq(calls, 1);
	fd_delete(fds[0]);
	/* Of what is closed there is nothing to know. */
	updt_fd_polling(fds[0]);
	ck_assert_uint_eq(fdtab[fds[0]].update_mask, 0);
	close(fds[1]);
	keel_deinit();
}
END_TEST

/* As HAProxy's files read and write them, off the threads' way. */
START_TEST(slots_have_haproxys_fields)
{
	int fds[2], fd;

	start();
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	fd = fds[0];
	fd_insert(fd, &connection, count_calls, 3);
	ck_assert_ptr_eq(fdtab[fd].owner, &connection);
	ck_assert(fdtab[fd].iocb == count_calls);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 3);
	ck_assert_uint_eq(fdtab[fd].running_mask, 0);
	ck_assert_uint_eq(fdtab[fd].update_mask, 0);
	fd_want_recv(fd);
	ck_assert_uint_eq(fdtab[fd].update_mask, 3);
	ck_assert_uint_eq(fdtab[fd].state, FD_EV_ACTIVE_R | FD_EV_READY_RW);
	fdtab[fd].state |= FD_LINGER_RISK | FD_EXPORTED;
	fdtab[fd].owner = &calls;
	fdtab[fd].iocb = count_calls;
	ck_assert_int_eq(fd_takeover(fd, &connection), -1);
	ck_assert_int_eq(fd_takeover(fd, &calls), 0);
	ck_assert_uint_eq(fdtab[fd].thread_mask, 1);
	ck_assert_uint_eq(fdtab[fd].state, FD_EV_READY_RW | FD_LINGER_RISK | FD_EXPORTED);
	fd_delete(fd);
	ck_assert_ptr_null(fdtab[fd].owner);
	ck_assert_uint_eq(fdtab[fd].state, 0);
	close(fds[1]);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("compat/haproxy.h");
	TCase *pools = tcase_create("declared pools");
	TCase *without = tcase_create("no pool");
	TCase *names = tcase_create("names");
	TCase *descriptors = tcase_create("descriptors");

	tcase_set_timeout(pools, 30);
	tcase_set_timeout(without, 30);
	tcase_set_timeout(names, 30);
	tcase_set_timeout(descriptors, 30);
	tcase_add_test(pools, pools_exist_before_main);
	tcase_add_test(pools, pools_are_what_was_declared);
	tcase_add_test(pools, pool_30_the_default_alignment_is_the_types);
	tcase_add_test(pools, pools_come_back_with_the_next_init);
	tcase_add_test(pools, pools_in_use_survive);
	tcase_add_test(pools, destroy_all_takes_declared_pools_too);
	tcase_add_test(pools, a_declared_pool_may_be_destroyed_by_hand);
	tcase_add_test(pools, pool_25_the_callers_cache_does_not_keep_a_pool);
	tcase_add_test(pools, pool_26_27_28_merged_pools_end_with_their_last_use);
	tcase_add_test(pools, a_record_that_went_is_not_touched);
	tcase_add_test(pools, objects_outlive_their_module);
	tcase_add_test(pools, records_are_checked);
	tcase_add_test(without, a_program_without_its_pools_ends);
	tcase_add_test(without, creation_without_memory_leaves_nothing_behind);
	tcase_add_test(names, the_callback_creates_shared_pools);
	tcase_add_test(names, flags_reach_the_allocation);
	tcase_add_test(names, dump_pools_writes_to_stderr);
	tcase_add_test(names, words_are_parsed_as_by_haproxy);
	tcase_add_test(names, words_reach_declared_pools);
	tcase_add_test(descriptors, pollers_live_with_the_library);
	tcase_add_test(descriptors, used_descriptors_are_a_variable);
	tcase_add_test(descriptors, fd_52_poll_timeouts_are_exact);
	tcase_add_test(descriptors, lines_are_made_of_ists);
	tcase_add_test(descriptors, updates_may_be_programmed_by_hand);
	tcase_add_test(descriptors, slots_have_haproxys_fields);
	suite_add_tcase(s, pools);
	suite_add_tcase(s, without);
	suite_add_tcase(s, names);
	suite_add_tcase(s, descriptors);
	return run_suite(s);
}
