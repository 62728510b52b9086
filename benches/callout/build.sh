#!/bin/sh
# build.sh DIR: the driver, and a plugin for each contestant that is installed.
set -u
# shellcheck source=benches/plugins.sh
. "$(dirname "$0")/../plugins.sh"

# shellcheck disable=SC2086
$cc $flags "$here/driver.c" -o "$out/callout" -ldl || exit 1
# shellcheck disable=SC2046
plugin keel $($pc --cflags --libs keel) || exit 1
peer libev libev ev.h -lev
peer libevent libevent event2/event.h -levent
peer libuv libuv uv.h -luv
peer dpdk libdpdk rte_timer.h -lrte_timer -lrte_eal
rust_peer tokio tokio_contestant
