#!/bin/sh
# scripts.sh SCRIPT…: runs test scripts that print TAP lines.
set -u
result=0
for script in "$@"; do
	sh "$script" || { echo "not ok $script (exit status $?)"; result=1; }
done
exit $result
