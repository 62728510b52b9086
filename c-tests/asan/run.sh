#!/bin/sh
# run.sh PROGRAM… [--poll PROGRAM…]: runs test programs under AddressSanitizer, with leaks where
# they can be looked for, after having seen it report what it should.
set -u
here=$(dirname "$0")/../..
planted=${BUILD:?}/c-tests/asan
result=0

if "$planted/after_free" 2>&1 | grep -q 'ERROR: AddressSanitizer: heap-use-after-free'; then
	echo 'ok what the library does to freed memory is reported'
else
	echo 'not ok what the library does to freed memory is reported'
	result=1
fi

# It stops the process to look at it, which some containers forbid.
leaks=1
output=$("$planted/leak" 2>&1)
case $output in
*'ERROR: LeakSanitizer: detected memory leaks'*) echo 'ok a leak is reported' ;;
*'LeakSanitizer has encountered a fatal error'*)
	echo 'ok a leak is reported # skip LeakSanitizer cannot work here'
	leaks=0
	;;
*)
	printf '%s\n' "$output" 'not ok a leak is reported'
	result=1
	;;
esac

export ASAN_OPTIONS="detect_leaks=$leaks:detect_stack_use_after_return=1:${ASAN_OPTIONS:-}"
"$here/tools/programs.sh" "$@" || result=1
exit $result
