#!/bin/sh
# readme.sh: the README's program compiles as printed, and runs.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md > "$work/hello.c"
lines=$(wc -l < "$work/hello.c")
if [ "$lines" -ge 20 ] && [ "$lines" -le 35 ]; then
	echo 'ok the README shows a short program'
else
	echo "not ok the README shows a program of $lines lines"
	result=1
fi

# With the very line that the README prints, in a directory of its own.
command=$(sed -n 's/^\(cc hello\.c .*pkg-config.*\)$/\1/p' README.md | head -n 1)
if [ -n "$command" ] && (cd "$work" && eval "$command -Wall -Wextra -Werror") > "$work/out" 2>&1; then
	echo 'ok it compiles as printed'
else
	cat "$work/out"
	echo 'not ok it compiles as printed'
	exit 1
fi

timeout 20 "$work/hello" > "$work/out" 2>&1
status=$?
awk '/^```text hello$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md > "$work/expected"
if [ $status -eq 0 ] && diff "$work/expected" "$work/out"; then
	echo 'ok it prints what the README says'
else
	echo "not ok it prints what the README says (exit status $status)"
	result=1
fi
exit $result
