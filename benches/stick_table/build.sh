#!/bin/sh
# build.sh DIR: the driver, and a plugin for each contestant that is installed.
set -u
# shellcheck source=benches/plugins.sh
. "$(dirname "$0")/../plugins.sh"

# shellcheck disable=SC2086
$cc $flags "$here/driver.c" "$here/keys.c" "$here/print.c" -o "$out/stick_table" -ldl -lm -pthread || exit 1
# shellcheck disable=SC2046
plugin keel $($pc --cflags --libs keel) || exit 1
peer lfht liburcu urcu/rculfhash.h -lurcu-cds -lurcu
peer uthash uthash uthash.h
rust_peer rust stick_table_contestants
