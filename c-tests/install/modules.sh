#!/bin/sh
# modules.sh: pools that are declared by a program, a module that is loaded and
# unloaded, and in C++, with the shared and the static library.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0
cflags="-Wall -Wextra -Werror $(pkg-config --cflags keel)"

# is NAME COMMAND…
is() {
	name=$1
	shift
	if "$@" > "$work/out" 2>&1; then
		echo "ok $name"
	else
		cat "$work/out"
		echo "not ok $name"
		result=1
	fi
}

cat > "$work/module.c" <<'END'
#include <keel/compat/haproxy.h>

struct item { char text[77]; };

DECLARE_STATIC_TYPED_POOL(module_pool, "module", struct item, 1);

struct pool_head *the_pool(void);
void *an_object(void);

struct pool_head *the_pool(void)
{
	return module_pool;
}

void *an_object(void)
{
	return pool_alloc(module_pool);
}
END

cat > "$work/main.c" <<'END'
#include <dlfcn.h>
#include <keel/compat/haproxy.h>

DECLARE_POOL(main_pool, "main", 512);

static int check(int holds, const char *what)
{
	if (!holds)
		fprintf(stderr, "failed: %s\n", what);
	return !holds;
}
#define CHECK(what) (failed |= check(what, #what))

int main(int argc, char **argv)
{
	struct pool_head *first = NULL;
	void *kept = NULL;
	int failed = 0;

	CHECK(main_pool != NULL && argc > 1);
	for (int i = 0; i < 5; i++) {
		void *module = dlopen(argv[1], RTLD_NOW);
		struct pool_head *(*the_pool)(void);
		void *(*an_object)(void);

		if (!module) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		*(void **)&the_pool = dlsym(module, "the_pool");
		*(void **)&an_object = dlsym(module, "an_object");
		CHECK(the_pool() != NULL);
		/* The same pool each time, until keel_deinit() takes it. */
		CHECK(i == 0 || i == 3 || the_pool() == first);
		first = the_pool();
		if (!kept)
			kept = an_object();
		if (i == 1)
			CHECK(keel_init(NULL) == 0);
		dlclose(module);
		CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL);
		/* An object outlives its module; a pool in use outlives keel_deinit(). */
		memset(kept, i, first->size);
		if (i == 2) {
			pool_free(first, kept);
			kept = NULL;
			keel_deinit();
			CHECK(main_pool == NULL);
			CHECK(keel_init(NULL) == 0);
			CHECK(main_pool != NULL);
		}
	}
	pool_free(first, kept);
	pool_free(main_pool, pool_alloc(main_pool));
	keel_deinit();
	CHECK(main_pool == NULL);
	if (!failed)
		puts("done");
	return failed;
}
END

# shellcheck disable=SC2086,SC2046
is 'a module with pools compiles' \
	cc $cflags -fPIC -shared "$work/module.c" -o "$work/module.so" $(pkg-config --libs keel)
# shellcheck disable=SC2086,SC2046
is 'a program that loads it compiles' \
	cc $cflags -std=gnu11 "$work/main.c" -o "$work/main" $(pkg-config --libs keel) -ldl -pthread
is 'its pools come and go with keel, not with the module' timeout 20 "$work/main" "$work/module.so"
if command -v valgrind > /dev/null; then
	is 'nothing of a module is touched after it went' \
		timeout 120 valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect \
		"$work/main" "$work/module.so"
fi

cat > "$work/main.cc" <<'END'
#include <keel/compat/haproxy.h>

namespace {
struct Node {
	alignas(32) char key[40];
	Node *next;
};
struct Early {
	void *object;
	Early();
};
}

DECLARE_STATIC_TYPED_POOL(node_pool, "node", Node);
DECLARE_POOL(global_pool, "global", 24);

// A constructor of C++, which runs before main() as well.
static Early early;
Early::Early() : object(pool_zalloc(node_pool)) {}

int main()
{
	if (!early.object || node_pool->align != 32 || node_pool->size < sizeof(Node) || !global_pool)
		return 1;
	pool_free(node_pool, early.object);
	if (keel_init(NULL) != 0)
		return 2;
	pool_free(global_pool, pool_alloc(global_pool));
	keel_deinit();
	return node_pool || global_pool ? 3 : 0;
}
END
# shellcheck disable=SC2086,SC2046
is 'a program in C++ declares pools' \
	"${CXX:-c++}" -std=c++11 $cflags "$work/main.cc" -o "$work/cxx" $(pkg-config --libs keel) -pthread
is 'and has them before main()' timeout 20 "$work/cxx"
# shellcheck disable=SC2086,SC2046
is 'so does one that is linked statically' \
	"${CXX:-c++}" -std=c++11 $cflags "$work/main.cc" -o "$work/static" "$STAGE/usr/lib/libkeel.a" -pthread
is 'with the same result' timeout 20 "$work/static"
exit $result
