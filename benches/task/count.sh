#!/bin/sh
# count.sh DIR: instructions per operation under callgrind, the loop around it
# ("nothing") subtracted. They do not depend on the machine's load. keel's at
# three sizes: that from the least to the largest they grow by 5 % at most is a
# goal.
set -u
driver=$1/task
n=${N:-20000}
ops='arm later earlier cancel+arm cancel expire'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# collected ARGUMENTS…
collected() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null '--toggle-collect=timed*' "$driver" --fixed "$@" 2>&1 |
		sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

# each ALL LOOP TIMES: per operation
each() { echo "${1:-0} $2 $3" | awk '{ if ($1 > $2) printf "%.1f\n", ($1 - $2) / $3; else print "–" }'; }

# row NAME ARMED
row() {
	loop=$(PENDING=$2 collected "$1" nothing "$n")
	[ "${loop:-0}" -gt 0 ] || return
	printf '| %s, %s |' "$1" "$2"
	for op in $ops; do
		if [ "$op" = expire ]; then
			# all that are armed, in the contestant's own loop
			count=$(each "$(collected "$1" expire "$2")" 0 "$2")
		else
			count=$(each "$(PENDING=$2 collected "$1" "$op" "$n")" "$loop" "$n")
		fi
		echo "$count" >> "$work/$2"
		printf ' %s |' "$count"
	done
	echo
}

printf '| timers: instructions, with so many armed |'
for op in $ops; do printf ' %s |' "$op"; done
printf '\n| --- |'
for op in $ops; do printf ' --- |'; done
echo
for peer in libev libevent libuv 'tokio-util DelayQueue' hierarchical_hash_wheel_timer 'keel, shared tasks'; do
	row "$peer" 100000
done
rm -f "$work"/*
for armed in 1000 100000 1000000; do row 'keel, task_queue()' $armed; done

printf '\n| keel, task_queue(), 1M / 1k | is | goal | |\n| --- | --- | --- | --- |\n'
for op in $ops; do echo "$op"; done | paste - "$work/1000" "$work/1000000" | awk '
	{ growth = $3 / $2; printf "| %s | %.2f | ≤ 1.05 | %s |\n", $1, growth, growth <= 1.05 ? "met" : "missed" }'

printf '\n| scheduler: instructions, loop and handler included | wake and run |\n| --- | --- |\n'
for entry in 'keel, whoever wakes it runs it' 'keel, with a thread of its own, woken there' 'keel, nice 0' 'keel, nice at random'; do
	printf '| %s | %s |\n' "$entry" "$(each "$(collected "$entry" run "$n")" 0 "$n")"
done
