/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pool_gc() and the heap: what a burst took comes back to the kernel, and an
 * allocator that malloc() was replaced by is not trimmed by the wrong library
 * (POOL-35). The program runs itself once for each allocator that is there. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/keel.h>

#include "memory.h"
#include "suite.h"

#define OBJECTS 40000
#define BYTES   4000

/* MiB of memory that the process holds. */
static int resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (int)(pages * sysconf(_SC_PAGESIZE) >> 20);
}

/* The child: a burst, of which every hundredth object stays, so that the top
 * of the heap cannot just be cut off. Prints what it held before and after. */
static int burst(void)
{
	static void *objects[OBJECTS];
	struct pool_head *pool = create_pool("burst", BYTES, 0);
	int before;

	for (int i = 0; i < OBJECTS; i++) {
		objects[i] = pool_alloc(pool);
		memset(objects[i], 1, BYTES);
	}
	before = resident();
	for (int i = 0; i < OBJECTS; i++)
		if (i % 100)
			pool_free(pool, objects[i]);
	pool_gc(NULL);
	printf("%d %d\n", before, resident());
	return 0;
}

#define NO_EXEC "it cannot run itself"

static void run_with(const char *library, int *before, int *after)
{
	int out[2], status;
	char text[64] = "";

	ck_assert_int_eq(pipe(out), 0);
	if (fork() == 0) {
		dup2(out[1], 1);
		if (library)
			setenv("LD_PRELOAD", library, 1);
		/* where the library is not installed, the loader says so, and goes on */
		dup2(open("/dev/null", O_WRONLY), 2);
		execl("/proc/self/exe", "test_pool_trim", "burst", NULL);
		_exit(127);
	}
	close(out[1]);
	ck_assert_int_gt(read(out[0], text, sizeof(text) - 1), 0);
	ck_assert_int_eq(sscanf(text, "%d %d", before, after), 2);
	close(out[0]);
	ck_assert_int_gt(waitpid(-1, &status, 0), 0);
	ck_assert_int_eq(status, 0);
}

/* The sanitizers and valgrind bring allocators of their own. */
static int has_the_heap(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return 0;
#else
	const char *preloaded = getenv("LD_PRELOAD");

	return !preloaded || !strstr(preloaded, "vgpreload");
#endif
}

/* SHOWS: INV-27 */
START_TEST(a_burst_comes_back_to_the_kernel)
{
	int before, after;

	if (!has_the_heap())
		return;
	NOT_UNDER_QEMU(NO_EXEC);
	run_with(NULL, &before, &after);
	ck_assert_int_gt(before, 150);
	ck_assert_int_lt(after, before / 4);
}
END_TEST

/* SHOWS: INV-27 */
START_TEST(pool_35_another_allocator_is_left_alone)
{
	static const char *const others[] = {
		"libjemalloc.so.2", "libmimalloc.so.2.0", "libmimalloc.so.3", "libtcmalloc_minimal.so.4",
	};
	int before, after;

	if (!has_the_heap())
		return;
	NOT_UNDER_QEMU(NO_EXEC);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		run_with(others[i], &before, &after);
		ck_assert_int_gt(before, 150);
		/* it has a function to be asked by */
		if (strstr(others[i], "jemalloc"))
			ck_assert_int_lt(after, before / 4);
	}
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("pool_trim");
	TCase *heap = tcase_create("heap");

	if (argc > 1 && !strcmp(argv[1], "burst"))
		return burst();
	tcase_set_timeout(heap, 30);
	tcase_add_test(heap, a_burst_comes_back_to_the_kernel);
	tcase_add_test(heap, pool_35_another_allocator_is_left_alone);
	suite_add_tcase(suite, heap);
	return run_suite(suite);
}
