#!/bin/sh
# build.sh DIR: the driver, and a plugin for each contestant that is installed;
# what other threads' wake-ups are compared with is ../task's.
set -u
# shellcheck source=benches/plugins.sh
. "$(dirname "$0")/../plugins.sh"

# shellcheck disable=SC2086
$cc $flags "$here/driver.c" "$here/workload.c" "$here/print.c" -o "$out/fd" -ldl -lm -pthread || exit 1
for name in keel wake; do
	# shellcheck disable=SC2046
	plugin "$name" $($pc --cflags --libs keel) || exit 1
done
plugin epoll || exit 1
peer libev libev ev.h -lev
peer libevent libevent event2/event.h -levent
peer libuv libuv uv.h -luv
here=$here/../task
plugin bare || exit 1
peer libuv_trips libuv uv.h -luv
