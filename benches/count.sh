#!/bin/sh
# count.sh DRIVER OPS PEER…: instructions per operation, counted by callgrind,
# the loop around it ("nothing") subtracted. They do not depend on the machine's
# load.
set -u
driver=$1 ops=$2
n=${N:-20000}
shift 2

count() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=timed "$driver" --fixed "$1" "$2" "$n" 2>&1 |
		sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

printf '| instructions |'
for op in $ops; do printf ' %s |' "$op"; done
printf '\n| --- |'
for op in $ops; do printf ' --- |'; done
echo
for peer; do
	loop=$(count "$peer" nothing)
	[ "${loop:-0}" -gt 0 ] || continue
	printf '| %s |' "$peer"
	for op in $ops; do
		all=$(count "$peer" "$op")
		if [ "${all:-0}" -lt "$loop" ]; then printf ' – |'; else printf ' %d |' $(((all - loop) / n)); fi
	done
	echo
done
