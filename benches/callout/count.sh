#!/bin/sh
# count.sh DIR: instructions per operation with 10 000 pending. Under valgrind a
# clock read is a system call, and the time-stamp counter is too erratic for
# keel, which then asks the clock each time: callout_reset's counts are some 50
# too high.
exec "$(dirname "$0")/../count.sh" "$1/callout" 'reset-idle reset-pending stop stop+reset drain-idle drain-pending expire' \
	'keel, callout_reset' 'keel, C_ABSOLUTE' 'keel, C_PREL(31)' libev libevent libuv 'tokio-util DelayQueue'
