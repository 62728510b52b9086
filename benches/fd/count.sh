#!/bin/sh
# count.sh DIR: instructions per event outside of the kernel, counted by
# callgrind, the handler included. They do not depend on the machine's load.
set -u
driver=$1/fd
n=${N:-20000}

# count PEER OP SIZE ACTIVE
count() {
	all=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=timed "$driver" --fixed "$@" "$n" 2>&1 |
		sed -n 's/.*Collected : *\([0-9]*\).*/\1/p')
	if [ "${all:-0}" -gt 0 ]; then printf ' %d |' $((all / n)); else printf ' – |'; fi
}

echo '| instructions per event | 100 pipes, 1 active | 1000, 100 | 1 pair | 10 | 100 |'
echo '| --- | --- | --- | --- | --- | --- |'
for peer in keel 'keel, keel_poll_once()' libev libevent libuv '(bare epoll)'; do
	"$driver" --fixed "$peer" chain 1 1 1 > /dev/null 2>&1 || continue
	printf '| %s |' "$peer"
	count "$peer" chain 100 1
	count "$peer" chain 1000 100
	for pairs in 1 10 100; do count "$peer" ping-pong "$pairs" 0; done
	echo
done
