#!/bin/sh
# abi.sh write|check DIR: the binary interface, as files in DIR.
#
#   symbols.txt    each exported name: its version, and its declaration or its size
#   sizes.txt      each structure of the headers: size, alignment, and where its fields are
#   constants.txt  each macro, whose value programs have compiled in
#   1.0.abi        libabigail's record of the types behind the declarations, for x86-64
#
# Types are those that C sees: the headers are compiled with a body for each function.
# The library's own debug information would do for one compiler only: each rustc names
# types in its own way, and private ones stand among them. That headers and library
# agree is seen by check-headers, and the names and versions are the library's.
# Looks at $STAGE, where keel is installed as VERSION. Wants gcc, for -aux-info.
set -eu
what=$1
dir=$2
tools=$(cd "$(dirname "$0")" && pwd)
include=$STAGE/usr/include
so=$STAGE/usr/lib/libkeel.so.$VERSION
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/abi"
cc="gcc -std=gnu2x -I$include"

# Every header but the compat ones, which are the program's own code.
for header in "$include"/keel/*.h; do
	echo "#include <keel/${header##*/}>"
done | sed '1i #define KEEL_INLINE' > "$work/headers.c"

# --- names ---

$cc -fsyntax-only -aux-info "$work/aux" "$work/headers.c"
sed -n 's|^/\* [^ ]*/keel/[a-z_]*\.h:[0-9]*:[A-Z]* \*/ extern \(.*\);.*|\1|p' "$work/aux" | sort -u > "$work/functions"

# Of data the size counts: a program may have a copy of them.
readelf -W --dyn-syms "$so" | awk '$5 == "GLOBAL" && $7 != "UND" && $7 != "ABS" { print $8, $4, $3 }' |
	sed 's/@@*/ /' | LC_ALL=C sort > "$work/symbols"
{
	echo "# soname $(readelf -dW "$so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')"
	while read -r name version type size; do
		if [ "$type" = FUNC ]; then
			# In gcc's words: no name of an argument, a blank before the list of them.
			declaration=$(grep -E "(^|[ *])$name \\(" "$work/functions" || echo "$name, which no header declares")
			echo "$version $declaration"
		else
			echo "$version $name: $type of $size bytes"
		fi
	done < "$work/symbols"
} > "$work/abi/symbols.txt"

# --- types ---

{
	cat "$work/headers.c"
	while read -r name version type size; do
		case $type in
		FUNC)
			echo "#undef $name"
			grep -E "(^|[ *])$name \\(" "$work/functions" | sed 's/$/ { __builtin_trap(); }/' || :
			;;
		TLS) echo "__thread __typeof__($name) $name;" ;;
		*) echo "__typeof__($name) $name;" ;;
		esac
	done < "$work/symbols"
} > "$work/stubs.c"
# An array without a length gets one element here.
$cc -w -g -gdwarf-4 -O0 -fno-eliminate-unused-debug-types -fPIC -shared -Wl,-soname,stubs -o "$work/stubs.so" -x c - < "$work/stubs.c"

readelf --debug-dump=info "$work/stubs.so" 2> /dev/null > "$work/dwarf"
{
	cat "$work/headers.c"
	perl "$tools/abi-sizes.pl" "$work/dwarf" "$include"
} > "$work/sizes.c"
$cc -w "$work/sizes.c" -o "$work/sizes"
"$work/sizes" > "$work/abi/sizes.txt"

# --- macros ---

# Those of a release's number change with it, and guards and attributes mean nothing.
$cc -E -dD "$work/headers.c" | awk '
	/^# [0-9]+ "/ { ours = index($3, "/keel/") > 0; next }
	ours && /^#define / && !/^#define (KEEL_[A-Z_]*_H|KEEL_VERSION_[A-Z]*|KEEL_ALIGNED\(n\)|KEEL_NOPLT)( |$)/ { sub(/^#define /, ""); print }
' | LC_ALL=C sort -u > "$work/abi/constants.txt"

records='symbols.txt sizes.txt constants.txt'
if [ "$(uname -m)" = x86_64 ] && command -v abidw > /dev/null; then
	abidw --no-corpus-path --no-comp-dir-path --no-show-locs --out-file "$work/abi/1.0.abi" "$work/stubs.so"
	abi=yes
else
	abi=no
fi

if [ "$what" = write ]; then
	mkdir -p "$dir"
	cp "$work"/abi/* "$dir/"
	[ $abi = yes ] || echo 'abi.sh: 1.0.abi is as it was: it wants x86-64 and abidw (abigail-tools)' >&2
	exit
fi

# --- comparison ---

# Behind a pointer to the system's own types stands another glibc.
printf '[suppress_type]\n name_regexp = ^(_IO_|__pthread|pthread_)\n' > "$work/system"

result=0
for record in $records; do
	if diff -u "$dir/$record" "$work/abi/$record" > "$work/diff"; then
		echo "ok abi/$record"
	else
		cat "$work/diff"
		echo "not ok abi/$record: the interface changed; if it may, run 'make abi' and commit"
		result=1
	fi
done
if [ $abi = no ]; then
	echo "ok abi/1.0.abi # skip wants x86-64 and abidiff (abigail-tools)"
elif abidiff --suppressions "$work/system" "$dir/1.0.abi" "$work/abi/1.0.abi" > "$work/diff"; then
	echo "ok abi/1.0.abi"
else
	cat "$work/diff"
	echo "not ok abi/1.0.abi: the interface changed; if it may, run 'make abi' and commit"
	result=1
fi
exit $result
