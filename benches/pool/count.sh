#!/bin/sh
# count.sh DIR: instructions per object under callgrind, the loop around it
# ("nothing") subtracted. They do not depend on the machine's load.
set -u
dir=$1
n=${N:-25600}
columns='pair:64 pair:512 pair:16384 batch:64 batch:512 batch:16384'

# count PROGRAM COLUMN LIBRARY
count() {
	LD_PRELOAD=$3 valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=timed \
		"$dir/$1" --fixed "${2%:*}" "${2#*:}" "$n" 2>&1 | sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

# row NAME PROGRAM [LIBRARY EXPECTED]
row() {
	export EXPECT="${4:-libc.so}"
	if ! LD_PRELOAD=${3:-} "$dir/$2" --fixed pair 64 1 2> /dev/null; then
		echo "$1: not installed, left out" >&2
		return
	fi
	printf '| %s |' "$1"
	for column in $columns; do
		all=$(count "$2" "$column" "${3:-}")
		loop=$(echo "$loops" | sed -n "s/^$column //p")
		if [ "${all:-0}" -le "${loop:-0}" ]; then printf ' – |'; else printf ' %d |' $(((all - loop) / n)); fi
	done
	echo
}

loops=$(for column in $columns; do echo "$column $(count nothing "$column" '')"; done)
printf '| instructions per object |'
for column in $columns; do printf ' %s |' "$(echo "$column" | sed 's/batch:/64 at a time, /; s/pair:/a pair, /; s/$/ B/')"; done
printf '\n| --- |'
for column in $columns; do printf ' --- |'; done
echo
row keel keel
row 'keel, KEEL_INLINE' keel_inline
CACHE_BYTES=4194304 row 'keel, 4 MiB of cache' keel
row glibc libc
row jemalloc libc libjemalloc.so.2 jemalloc
row mimalloc libc libmimalloc.so.2 mimalloc
row tcmalloc libc libtcmalloc_minimal.so.4 tcmalloc
