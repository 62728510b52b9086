#!/bin/sh
# tally.sh DIR: adds up what the suites left in DIR. Fails where a test did,
# or where no test ran.
set -eu
cat "$1"/* | awk '
	{ passed += $1; failed += $2; skipped += $3 }
	END {
		if (skipped) printf "%d skipped\n", skipped
		printf "%d passed, %d failed\n", passed, failed
		exit failed > 0 || passed == 0
	}'
