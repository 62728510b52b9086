#!/bin/sh
# symbols.sh: the installed library exports keel.map's names at their version
# and nothing else, needs libc alone, and leaks no other name when linked
# statically.
set -u
lib=$STAGE/usr/lib
so=$lib/libkeel.so.$VERSION
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

# is NAME: standard input is empty
is() {
	if grep . > "$work/wrong"; then
		cat "$work/wrong"
		echo "not ok $1"
		result=1
	else
		echo "ok $1"
	fi
}

# The version node itself stands among the exports as an absolute symbol.
nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sort > "$work/exports"
tools/exports.sh keel.map | sort > "$work/map"
sed 's/@.*//' "$work/exports" | sort > "$work/names"

grep -v '@@KEEL_[0-9]*\.[0-9]*$' "$work/exports" > "$work/unversioned"
is 'every export has a version' < "$work/unversioned"
comm -23 "$work/map" "$work/names" > "$work/missing"
is 'every name of keel.map is exported' < "$work/missing"
comm -13 "$work/map" "$work/names" > "$work/extra"
is 'nothing else is exported' < "$work/extra"
uniq -d "$work/map" > "$work/twice"
is 'no name stands twice in keel.map' < "$work/twice"

nm --defined-only --extern-only "$lib/libkeel.a" | awk 'NF == 3 { print $3 }' | sort > "$work/static"
comm -3 "$work/map" "$work/static" > "$work/differ"
is 'libkeel.a defines the same names' < "$work/differ"

readelf -dW "$so" > "$work/dynamic"
sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" | grep -v '^libc\.' > "$work/needed"
is 'libkeel.so needs libc alone' < "$work/needed"
ldd "$so" | awk '{ print $1 }' | grep -Ev '^(linux-vdso|libc)\.so|/ld-linux' > "$work/ldd"
is 'ldd agrees' < "$work/ldd"
grep -q "SONAME.*\[libkeel\.so\.${VERSION%%.*}\]" "$work/dynamic" || echo 'wrong SONAME' > "$work/soname"
is 'the SONAME carries the major version' < "$(ls "$work/soname" 2> /dev/null || echo /dev/null)"
{ grep -q NODELETE "$work/dynamic" && grep -q 'NOW' "$work/dynamic"; } || echo 'flags lack NOW or NODELETE' > "$work/flags"
is 'bound at start, never unloaded' < "$(ls "$work/flags" 2> /dev/null || echo /dev/null)"
exit $result
