#!/bin/sh
# run.sh: the program beside this script, by each C++ compiler and as each standard, linked
# with the shared library and with the static one.
set -u
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

compilers=${CXX:-c++}
if command -v clang++ > /dev/null; then compilers="$compilers clang++"; fi

# is NAME COMMAND…
is() {
	what=$1
	shift
	if "$@" > "$work/out" 2>&1; then
		echo "ok $what"
	else
		cat "$work/out"
		echo "not ok $what"
		result=1
	fi
}

for compiler in $compilers; do
	# The second compiler is for what the first lets pass, once.
	standards='c++11 c++17 c++20'
	[ "$compiler" = "${CXX:-c++}" ] || standards=c++17
	for std in $standards; do
		name=$compiler-$std
		# Several files, to see that what is inline may stand in all of them.
		# shellcheck disable=SC2046
		is "compiles: $name" sh -c 'cd "$1" && shift && exec "$@"' sh "$work" \
			"$compiler" -std=$std -O1 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags keel) -c $(readlink -f "$here"/*.cc)
		# shellcheck disable=SC2046
		is "links with libkeel.so: $name" "$compiler" "$work"/*.o -o "$work/shared-$name" $(pkg-config --libs keel) -pthread
		is "links with libkeel.a: $name" "$compiler" "$work"/*.o -o "$work/static-$name" "$STAGE/usr/lib/libkeel.a" -pthread
		for kind in shared static; do
			timeout 60 "$work/$kind-$name" > "$work/out" 2>&1
			status=$?
			sed "s|$work/||" "$work/out"
			if [ $status -ne 0 ]; then
				result=1
				grep -q '^not ok' "$work/out" || echo "not ok $kind-$name (exit status $status)"
			fi
		done
	done
done
exit $result
