#!/bin/sh
# headers.sh c|c++: every installed header compiles alone, and twice, as that language,
# with every warning an error. So do the programs beside this script.
set -u
language=$1
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

compilers() {
	if [ "$language" = c ]; then
		standards="c99 c11 c17" known="${CC:-cc} clang"
	else
		standards="c++11 c++17 c++20" known="${CXX:-c++} clang++"
	fi
	# -m32: as i386, where its system headers are.
	for compiler in $known; do
		command -v "$compiler" > /dev/null || continue
		for std in $standards; do echo "$compiler -x $language -std=$std"; done
		if echo '#include <stdlib.h>' | $compiler -m32 -x "$language" -fsyntax-only - 2> /dev/null; then
			echo "$compiler -m32 -x $language -std=${standards##* }"
		fi
	done
}

# try FILE NAME
try() {
	compilers | while read -r compiler; do
		# shellcheck disable=SC2086
		if $compiler -Wall -Wextra -Wpedantic -Werror -I"$STAGE/usr/include" -fsyntax-only "$1" 2> "$work/out"; then
			echo "ok $2: $compiler"
		else
			cat "$work/out"
			echo "not ok $2: $compiler"
		fi
	done
}

cd "$STAGE/usr/include" || exit 1
headers=$(find keel -name '*.h' | sort)
cd - > /dev/null || exit 1
{
	for header in $headers; do
		printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$header" "$header" > "$work/t.c"
		try "$work/t.c" "$header"
	done
	for program in "$here"/*.c; do
		try "$program" "${program##*/}"
	done
	compilers | grep -q -e -m32 || echo "ok $language for i386 # skip wants gcc-multilib and g++-multilib"
} > "$work/report"
cat "$work/report"
if grep -q '^not ok' "$work/report"; then result=1; fi
exit $result
