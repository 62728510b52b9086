#!/bin/sh
# build.sh DIR: the driver, and a plugin for each contestant that is installed;
# other libraries' timers are those of ../callout.
set -u
# shellcheck source=benches/plugins.sh
. "$(dirname "$0")/../plugins.sh"
out=$(cd "$out" && pwd)

# shellcheck disable=SC2086
(cd "$here" && exec $cc $flags driver.c timers.c print.c -o "$out/task" -ldl -lm) || exit 1
for name in keel scheduler keel_trips; do
	# shellcheck disable=SC2046
	plugin "$name" $($pc --cflags --libs keel) || exit 1
done
plugin bare || exit 1
peer libuv_trips libuv uv.h -luv
rust_peer wheel wheel_contestant
here=$here/../callout
peer libev libev ev.h -lev
peer libevent libevent event2/event.h -levent
peer libuv libuv uv.h -luv
rust_peer tokio tokio_contestant
