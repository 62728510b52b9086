/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel/runtime.h: starting, threads, the loop, sleeping, isolation. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <keel/keel.h>

#include "suite.h"

static void start(unsigned int nbthread)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.nbthread = nbthread;
	cfg.maxsock = 1024;
	ck_assert_int_eq(keel_init(&cfg), 0);
}

START_TEST(version_is_the_headers)
{
	char text[32];

	snprintf(text, sizeof(text), "%d.%d.%d", KEEL_VERSION_MAJOR, KEEL_VERSION_MINOR,
	         KEEL_VERSION_PATCH);
	ck_assert_str_eq(keel_version(), text);
}
END_TEST

START_TEST(init_checks_its_configuration)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	struct { struct keel_config cfg; long more[2]; } newer = { KEEL_CONFIG_INIT, { 0, 0 } };

	cfg.nbthread = KEEL_MAX_THREADS + 1;
	ck_assert_int_eq(keel_init(&cfg), -EINVAL);
	cfg.nbthread = 1;
	cfg.maxsock = 1048577;
	ck_assert_int_eq(keel_init(&cfg), -EINVAL);
	cfg.maxsock = 64;
	cfg.size = 4;
	ck_assert_int_eq(keel_init(&cfg), -EINVAL);
	cfg.size = ~(size_t)0;
	ck_assert_int_eq(keel_init(&cfg), -EINVAL);
	/* a newer header's structure */
	memcpy(&newer.cfg, &cfg, sizeof(cfg));
	newer.cfg.size = sizeof(newer);
	newer.more[1] = 1;
	ck_assert_int_eq(keel_init(&newer.cfg), -EINVAL);
	newer.more[1] = 0;
	ck_assert_int_eq(keel_init(&newer.cfg), 0);
	keel_deinit();
	cfg.size = sizeof(cfg);
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_init(&cfg), -EALREADY);
	keel_deinit();
	ck_assert_int_eq(keel_init(NULL), 0);
	ck_assert_uint_ge(keel_nbthread(), 1);
	keel_deinit();
	keel_deinit();
}
END_TEST

START_TEST(before_init_nothing_is_there)
{
	ck_assert_uint_eq(keel_tid(), ~0U);
	ck_assert_uint_eq(keel_nbthread(), 0);
	ck_assert_uint_eq(keel_all_threads_mask(), 0);
	ck_assert_int_eq(keel_thread_enter(0), -EINVAL);
	ck_assert_int_eq(keel_run(NULL, NULL), -EINVAL);
	ck_assert_ptr_null(task_new(1));
	ck_assert_int_eq(errno, EPERM);
	keel_thread_leave();
	keel_stop();
	wake_thread(0);
}
END_TEST

static void *enters_zero(void *arg)
{
	*(int *)arg = keel_thread_enter(0);
	return NULL;
}

START_TEST(an_id_belongs_to_one_thread)
{
	pthread_t th;
	int rc;

	start(3);
	ck_assert_int_eq(keel_thread_enter(3), -EINVAL);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	ck_assert_uint_eq(keel_tid(), 0);
	ck_assert_int_eq(keel_thread_enter(1), -EALREADY);
	pthread_create(&th, NULL, enters_zero, &rc);
	pthread_join(th, NULL);
	ck_assert_int_eq(rc, -EBUSY);
	keel_thread_leave();
	ck_assert_uint_eq(keel_tid(), ~0U);
	ck_assert_int_eq(keel_thread_enter(2), 0);
	ck_assert_uint_eq(keel_all_threads_mask(), 7);
	keel_deinit();
}
END_TEST

static atomic_int inits;
static atomic_ulong seen;

static int count_init(unsigned int tid, void *arg)
{
	(void)arg;
	ck_assert_uint_eq(keel_tid(), tid);
	atomic_fetch_or(&seen, 1UL << tid);
	if (atomic_fetch_add(&inits, 1) + 1 == (int)keel_nbthread())
		keel_stop();
	return 0;
}

START_TEST(run_starts_all_and_may_be_repeated)
{
	start(4);
	for (int round = 0; round < 3; round++) {
		atomic_store(&inits, 0);
		atomic_store(&seen, 0);
		ck_assert_int_eq(keel_run(count_init, NULL), 0);
		ck_assert_int_eq(atomic_load(&inits), 4);
		ck_assert_uint_eq(atomic_load(&seen), 15);
		ck_assert_uint_eq(keel_tid(), ~0U);
	}
	keel_deinit();
}
END_TEST

START_TEST(as_many_threads_as_there_may_be)
{
	start(KEEL_MAX_THREADS);
	ck_assert_uint_eq(keel_all_threads_mask(), ~0UL);
	ck_assert_int_eq(keel_run(count_init, NULL), 0);
	ck_assert_int_eq(atomic_load(&inits), KEEL_MAX_THREADS);
	ck_assert_uint_eq(atomic_load(&seen), ~0UL);
	keel_deinit();
}
END_TEST

static int fail_on_two(unsigned int tid, void *arg)
{
	(void)arg;
	return tid == 2 ? 77 : 0;
}

START_TEST(run_returns_what_an_init_refused_with)
{
	start(4);
	ck_assert_int_eq(keel_run(fail_on_two, NULL), 77);
	keel_deinit();
}
END_TEST

START_TEST(stop_before_run_ends_it_at_once)
{
	start(2);
	keel_stop();
	ck_assert_int_eq(keel_run(NULL, NULL), 0);
	keel_deinit();
}
END_TEST

static void on_alarm(int sig)
{
	(void)sig;
	keel_stop();
}

START_TEST(stop_from_a_signal_handler)
{
	struct sigaction sa = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &sa, NULL);
	start(2);
	alarm(1);
	ck_assert_int_eq(keel_run(NULL, NULL), 0);
	keel_deinit();
}
END_TEST

static unsigned long ms_since(uint64_t begin)
{
	return (unsigned long)((keel_now_ns() - begin) / 1000000);
}

START_TEST(wake_before_sleep_returns_at_once)
{
	uint64_t begin;

	start(1);
	keel_thread_enter(0);
	keel_poll_once(0);
	begin = keel_now_ns();
	wake_thread(0);
	keel_poll_once(10000);
	ck_assert_uint_lt(ms_since(begin), 5000);
	/* consumed: the next one sleeps */
	begin = keel_now_ns();
	keel_poll_once(50);
	keel_poll_once(50);
	ck_assert(in_storm() || ms_since(begin) >= 49);
	wake_thread(-1);
	wake_thread(64);
	keel_deinit();
}
END_TEST

static void *wakes_soon(void *arg)
{
	struct timespec ts = { .tv_nsec = 50000000 };

	(void)arg;
	nanosleep(&ts, NULL);
	wake_thread(0);
	return NULL;
}

START_TEST(wake_ends_a_sleep)
{
	uint64_t begin;
	pthread_t th;

	start(1);
	keel_thread_enter(0);
	begin = keel_now_ns();
	pthread_create(&th, NULL, wakes_soon, NULL);
	keel_poll_once(20000);
	ck_assert_uint_lt(ms_since(begin), 10000);
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

/* A thread that spins before it sleeps hears the same. */
START_TEST(spinning_hears_wakeups_and_timers)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	uint64_t begin;
	pthread_t th;

	cfg.nbthread = 1;
	cfg.maxsock = 256;
	cfg.spin_us = 2000;
	ck_assert_int_eq(keel_init(&cfg), 0);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	begin = keel_now_ns();
	keel_poll_once(20);
	ck_assert(in_storm() || ms_since(begin) >= 19);
	begin = keel_now_ns();
	pthread_create(&th, NULL, wakes_soon, NULL);
	keel_poll_once(20000);
	ck_assert_uint_lt(ms_since(begin), 10000);
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

START_TEST(the_clock_is_cached_and_refreshed)
{
	struct timespec ts = { .tv_nsec = 30000000 };
	unsigned int t;

	start(1);
	keel_thread_enter(0);
	t = keel_now_ms();
	nanosleep(&ts, NULL);
	ck_assert_uint_eq(keel_now_ms(), t);
	keel_update_clock();
	ck_assert_uint_ge(keel_now_ms() - t, 29);
	keel_deinit();
}
END_TEST

static struct task *note_run(struct task *t, void *ctx, unsigned int state)
{
	(void)state;
	(*(int *)ctx)++;
	t->expire = TICK_ETERNITY;
	return t;
}

START_TEST(a_host_loop_can_poll_for_us)
{
	int runs = 0;
	struct task *t;
	struct pollfd p;
	pthread_t th;

	start(1);
	keel_thread_enter(0);
	p.fd = keel_poll_fd();
	if (with_poll()) {
		ck_assert_int_eq(p.fd, -ENOTSUP);
		return;
	}
	p.events = POLLIN;
	ck_assert_int_ge(p.fd, 0);
	ck_assert_uint_eq(keel_next_deadline_ns(), UINT64_MAX);
	ck_assert_int_eq(poll(&p, 1, 0), 0);

	/* a wake-up by another thread makes it readable */
	pthread_create(&th, NULL, wakes_soon, NULL);
	ck_assert_int_eq(poll(&p, 1, 10000), 1);
	keel_poll_once(0);
	pthread_join(th, NULL);
	ck_assert_int_eq(poll(&p, 1, 0), 0);

	/* a timer shows in the deadline */
	t = task_new_here();
	t->process = note_run;
	t->context = &runs;
	task_schedule(t, tick_add(keel_now_ms(), 20));
	ck_assert_uint_le(keel_next_deadline_ns(), keel_now_ns() + 25000000);
	while (keel_next_deadline_ns() > keel_now_ns())
		usleep(1000);
	keel_poll_once(0);
	ck_assert_int_eq(runs, 1);
	task_destroy(t);
	keel_deinit();
}
END_TEST

static atomic_int inside, most;

static void *isolates(void *arg)
{
	ck_assert_int_eq(keel_thread_enter((unsigned int)(size_t)arg), 0);
	for (int i = 0; i < 300; i++) {
		int n;

		thread_isolate();
		ck_assert_int_ne(thread_isolated(), 0);
		thread_isolate();
		n = atomic_fetch_add(&inside, 1) + 1;
		if (n > atomic_load(&most))
			atomic_store(&most, n);
		atomic_fetch_sub(&inside, 1);
		thread_release();
		ck_assert_int_ne(thread_isolated(), 0);
		thread_release();
		ck_assert_int_eq(thread_isolated(), 0);
		keel_poll_once(0);
	}
	keel_thread_leave();
	return NULL;
}

START_TEST(isolation_is_exclusive_and_nests)
{
	pthread_t th[4];

	start(4);
	for (size_t i = 0; i < 4; i++)
		pthread_create(&th[i], NULL, isolates, (void *)i);
	for (size_t i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	ck_assert_int_eq(atomic_load(&most), 1);
	keel_deinit();
}
END_TEST

static void *sleeps_harmless(void *arg)
{
	(void)arg;
	ck_assert_int_eq(keel_thread_enter(1), 0);
	thread_harmless_now();
	atomic_store(&inside, 1);
	while (atomic_load(&inside) == 1)
		usleep(1000);
	thread_harmless_end();
	keel_thread_leave();
	return NULL;
}

START_TEST(a_harmless_thread_does_not_delay_isolation)
{
	pthread_t th;

	start(2);
	atomic_store(&inside, 0);
	pthread_create(&th, NULL, sleeps_harmless, NULL);
	while (!atomic_load(&inside))
		usleep(1000);
	/* an unregistered thread may isolate as well */
	thread_isolate();
	ck_assert_int_ne(thread_isolated(), 0);
	thread_release();
	atomic_store(&inside, 2);
	pthread_join(th, NULL);
	keel_deinit();
}
END_TEST

START_TEST(release_without_isolation_is_a_panic)
{
	start(1);
	thread_release();
}
END_TEST

START_TEST(deinit_with_threads_is_a_panic)
{
	pthread_t th;

	start(2);
	atomic_store(&inside, 0);
	pthread_create(&th, NULL, sleeps_harmless, NULL);
	while (!atomic_load(&inside))
		usleep(1000);
	keel_deinit();
}
END_TEST

static void hook(const char *file, int line, const char *message, void *arg)
{
	/* what reaches the host: a file, a line, a sentence, its argument */
	if (strlen(file) && line > 0 && strstr(message, "not registered") && arg == &inside)
		_exit(42);
}

START_TEST(the_panic_hook_gets_a_sentence)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;

	cfg.panic = hook;
	cfg.panic_arg = &inside;
	keel_init(&cfg);
	keel_poll_once(0);
}
END_TEST

START_TEST(entering_without_descriptors_fails_cleanly)
{
	struct rlimit none = { 3, 3 }, old;

	start(1);
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	ck_assert_int_eq(keel_thread_enter(0), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(keel_thread_enter(0), 0);
	keel_deinit();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("runtime");
	TCase *tc = tcase_create("runtime");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, version_is_the_headers);
	tcase_add_test(tc, init_checks_its_configuration);
	tcase_add_test(tc, before_init_nothing_is_there);
	tcase_add_test(tc, an_id_belongs_to_one_thread);
	tcase_add_test(tc, run_starts_all_and_may_be_repeated);
	tcase_add_test(tc, as_many_threads_as_there_may_be);
	tcase_add_test(tc, run_returns_what_an_init_refused_with);
	tcase_add_test(tc, stop_before_run_ends_it_at_once);
	tcase_add_test(tc, stop_from_a_signal_handler);
	tcase_add_test(tc, wake_before_sleep_returns_at_once);
	tcase_add_test(tc, wake_ends_a_sleep);
	tcase_add_test(tc, spinning_hears_wakeups_and_timers);
	tcase_add_test(tc, the_clock_is_cached_and_refreshed);
	tcase_add_test(tc, a_host_loop_can_poll_for_us);
	tcase_add_test(tc, isolation_is_exclusive_and_nests);
	tcase_add_test(tc, a_harmless_thread_does_not_delay_isolation);
	tcase_add_test_raise_signal(tc, release_without_isolation_is_a_panic, SIGABRT);
	tcase_add_test_raise_signal(tc, deinit_with_threads_is_a_panic, SIGABRT);
	tcase_add_exit_test(tc, the_panic_hook_gets_a_sentence, 42);
	tcase_add_test(tc, entering_without_descriptors_fails_cleanly);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
