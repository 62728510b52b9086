#!/bin/sh
# build.sh DIR: the driver, and the workloads once for each way to allocate.
set -u
# once a program had this name
[ -d "$1" ] || rm -f "$1"
# shellcheck source=benches/plugins.sh
. "$(dirname "$0")/../plugins.sh"

# program NAME SOURCES AND FLAGS…
program() {
	name=$1
	shift
	# shellcheck disable=SC2086
	(cd "$here" && exec $cc $flags -o "$out/$name" "$@" -pthread) || exit 1
}

out=$(cd "$out" && pwd)
# a compiler that knows malloc() might leave it out
program libc workload.c -fno-builtin
program nothing workload.c -DWITH_NOTHING
# shellcheck disable=SC2046
program keel workload.c -DWITH_KEEL $($pc --cflags --libs keel)
# shellcheck disable=SC2046
program keel_inline workload.c -DWITH_KEEL -DKEEL_INLINE $($pc --cflags --libs keel)
program pool driver.c print.c -lm
program caches caches.c intrusive.c arrays.c
