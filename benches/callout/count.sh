#!/bin/sh
# count.sh DIR: instructions per operation with 10 000 pending, counted by
# callgrind, the loop around it ("nothing") subtracted. They do not depend on
# the machine's load. Under valgrind a clock read is a system call, and the
# time-stamp counter is too erratic for keel, which then asks the clock each
# time: callout_reset's counts are some 50 too high.
set -u
driver=$1/callout
n=${N:-20000}

count() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=timed "$driver" --fixed "$1" "$2" "$n" 2>&1 |
		sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

ops='reset-idle reset-pending stop stop+reset drain-idle drain-pending expire'
printf '| instructions |'
for op in $ops; do printf ' %s |' "$op"; done
printf '\n| --- |'
for op in $ops; do printf ' --- |'; done
echo
for peer in 'keel, callout_reset' 'keel, C_ABSOLUTE' 'keel, C_PREL(31)' libev libevent libuv 'tokio-util DelayQueue'; do
	loop=$(count "$peer" nothing)
	[ -n "$loop" ] || continue
	printf '| %s |' "$peer"
	for op in $ops; do
		all=$(count "$peer" "$op")
		if [ "${all:-0}" -lt "$loop" ]; then printf ' – |'; else printf ' %d |' $(((all - loop) / n)); fi
	done
	echo
done
