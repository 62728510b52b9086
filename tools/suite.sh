#!/bin/sh
# suite.sh NAME COMMAND…: runs one suite of `make check`.
# Prints one line, or the whole output where something failed or V=1; counts
# tests by the closing lines of cargo, of the check library and of TAP, and
# leaves "passed failed skipped" in build/tally/NAME.
set -u
# Cargo is not one of make's children, and would complain of its job server.
unset MAKEFLAGS MFLAGS
name=$1
shift
mkdir -p build/tally build/log
log=build/log/$name
start=$(date +%s)

"$@" > "$log" 2>&1 < /dev/null
status=$?

counts=$(awk '
	/^ok .*# skip/ { skipped++; next }
	/^ok /     { passed++ }
	/^not ok / { failed++ }
	/^test result: / {
		for (i = 2; i < NF; i++) {
			if ($(i + 1) ~ /^passed;/) passed += $i
			if ($(i + 1) ~ /^failed;/) failed += $i
			if ($(i + 1) ~ /^ignored;/) skipped += $i
		}
	}
	/^[0-9]+%: Checks: / {
		gsub(/,/, "")
		passed += $3 - $5 - $7
		failed += $5 + $7
	}
	END { print passed + 0, failed + 0, skipped + 0 }' "$log")
set -- $counts
passed=$1 failed=$2 skipped=$3
# A suite that stopped without naming a test that failed has failed as one.
if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed $failed $skipped" > "build/tally/$name"

if [ "$failed" -gt 0 ] || [ "${V:-0}" != 0 ]; then cat "$log"; fi
printf '  %-16s %4d passed, %d failed' "$name" "$passed" "$failed"
if [ "$skipped" -gt 0 ]; then printf ', %d skipped' "$skipped"; fi
printf '   (%d s)\n' $(($(date +%s) - start))
[ "$failed" -eq 0 ]
