#!/bin/sh
# programs.sh PROGRAM… [--poll PROGRAM…]: runs test programs, each with five
# minutes at most, under $RUNNER where that is set; what follows --poll with
# poll() in place of epoll.
set -u
result=0
for program in "$@"; do
	if [ "$program" = --poll ]; then
		export KEEL_TEST_POLLER=poll
		continue
	fi
	name="$program${KEEL_TEST_POLLER:+ with $KEEL_TEST_POLLER}"
	echo "# $name"
	# The report of a program that died has no closing line: say it for it.
	output=$(timeout 300 ${RUNNER:-} "$program" 2>&1)
	status=$?
	printf '%s\n' "$output"
	if [ $status -ne 0 ]; then
		result=1
		case $output in
		*'Failures: 0, Errors: 0'* | '' ) echo "not ok $name (exit status $status)" ;;
		*'Checks: '*) ;;
		*) echo "not ok $name (exit status $status)" ;;
		esac
	fi
done
exit $result
