#!/bin/sh
# scripts.sh SCRIPT…: runs test scripts that print TAP lines. One that fails
# without naming a test has failed as one.
set -u
result=0
for script in "$@"; do
	output=$("$script" 2>&1)
	status=$?
	printf '%s\n' "$output"
	[ $status -eq 0 ] && continue
	result=1
	printf '%s\n' "$output" | grep -q '^not ok' || echo "not ok $script (exit status $status)"
done
exit $result
