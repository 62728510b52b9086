#!/bin/sh
# headers.sh GENERATED COMMITTED: are the committed headers what src/abi/ says?
set -eu
result=0
for header in "$1"/*.h; do
	name=${header##*/}
	if diff -u "$2/$name" "$header"; then
		echo "ok $name is up to date"
	else
		echo "not ok $name differs: run 'make headers' and commit"
		result=1
	fi
done
for header in "$2"/*.h; do
	name=${header##*/}
	[ "$name" = keel.h ] || [ -e "$1/$name" ] || { echo "not ok $name has no file in src/abi/"; result=1; }
	[ "$name" = keel.h ] || grep -qx "#include <keel/$name>" "$2/keel.h" ||
		{ echo "not ok keel.h does not include $name"; result=1; }
done
exit $result
