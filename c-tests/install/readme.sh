#!/bin/sh
# readme.sh: the README's programs compile as printed, and run.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md > "$work/hello.c"
lines=$(wc -l < "$work/hello.c")
if [ "$lines" -ge 20 ] && [ "$lines" -le 35 ]; then
	echo 'ok the README shows a short program'
else
	echo "not ok the README shows a program of $lines lines"
	result=1
fi

# With the very line that the README prints, in a directory of its own.
command=$(sed -n 's/^\(cc hello\.c .*pkg-config.*\)$/\1/p' README.md | head -n 1)
if [ -n "$command" ] && (cd "$work" && eval "$command -Wall -Wextra -Werror") > "$work/out" 2>&1; then
	echo 'ok it compiles as printed'
else
	cat "$work/out"
	echo 'not ok it compiles as printed'
	exit 1
fi

timeout 20 "$work/hello" > "$work/out" 2>&1
status=$?
awk '/^```text hello$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md > "$work/expected"
if [ $status -eq 0 ] && diff "$work/expected" "$work/out"; then
	echo 'ok it prints what the README says'
else
	echo "not ok it prints what the README says (exit status $status)"
	result=1
fi

# The function over a stick table, called by a program: the 21st connection within ten seconds is one too many.
awk '/^```c sources$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md > "$work/sources.c"
line=$(sed -n 's|^/\* t = keel_stktable_new("sources", \("[^"]*"\), &error) \*/$|\1|p' "$work/sources.c")
cat >> "$work/sources.c" <<END
#include <arpa/inet.h>
#include <stdio.h>

int main(void)
{
	struct stktable *t;
	char *error = NULL;
	int mine = 0, theirs = 0;

	if (keel_init(NULL) != 0)
		return 1;
	t = keel_stktable_new("sources", $line, &error);
	if (!t) {
		puts(error);
		return 1;
	}
	for (int i = 0; i < 25; i++)
		mine += may_connect(t, (struct in_addr){ htonl(0x0a000001) });
	for (int i = 0; i < 5; i++)
		theirs += may_connect(t, (struct in_addr){ htonl(0x0a000002) });
	printf("%d of 25, %d of 5\n", mine, theirs);
	keel_stktable_free(t);
	keel_deinit();
	return 0;
}
END
# shellcheck disable=SC2046
if cc "$work/sources.c" -Wall -Wextra -Werror $(pkg-config --cflags --libs keel) -pthread -o "$work/sources" > "$work/out" 2>&1 &&
	timeout 20 "$work/sources" > "$work/out" 2>&1 && [ "$(cat "$work/out")" = '20 of 25, 5 of 5' ]; then
	echo 'ok its stick table lets 20 of 25 connections in'
else
	cat "$work/out"
	echo 'not ok its stick table lets 20 of 25 connections in'
	result=1
fi

# A loop of the reader's own, with a timer and a wake-up by another thread.
awk '/^```c loop$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md > "$work/loop.c"
cat >> "$work/loop.c" <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int done;
static int turns, wakeups;

static struct task *count(struct task *t, void *context, unsigned int state)
{
	(void)context;
	if (state & TASK_WOKEN_MSG)
		wakeups++;
	if (state & TASK_WOKEN_TIMER)
		turns++;
	t->expire = tick_add(keel_now_ms(), 20);
	done = turns >= 5 && wakeups;
	return t;
}

static void *wake(void *t)
{
	usleep(50000);
	task_wakeup(t, TASK_WOKEN_MSG);
	return NULL;
}

int main(void)
{
	struct keel_config cfg = KEEL_CONFIG_INIT;
	pthread_t th;
	struct task *t;

	cfg.nbthread = 1;
	if (keel_init(&cfg) != 0 || keel_thread_enter(0) != 0 || !(t = task_new_anywhere()))
		return 1;
	t->process = count;
	task_wakeup(t, TASK_WOKEN_INIT);
	pthread_create(&th, NULL, wake, t);
	host_loop(&done);
	pthread_join(th, NULL);
	task_destroy(t);
	keel_deinit();
	puts("done");
	return 0;
}
END
# shellcheck disable=SC2046
if cc "$work/loop.c" -Wall -Wextra -Werror $(pkg-config --cflags --libs keel) -pthread -o "$work/loop" > "$work/out" 2>&1 &&
	timeout 20 "$work/loop" > "$work/out" 2>&1 && [ "$(cat "$work/out")" = done ]; then
	echo "ok its loop of one's own serves keel"
else
	cat "$work/out"
	echo "not ok its loop of one's own serves keel"
	result=1
fi
exit $result
