#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The demonstration behind `make run`: real HTTP traffic through the proxy, then a soft stop, and a look whether anything was lost.
#
#   BUILD=dir            where the programs proxy and origin are (default: build)
#   ORIGIN=host:port     a real HTTP server to use instead of the bundled origin
#   CONNECTIONS, REQUESTS, SLICE    clients at a time (64), requests to reach (100000), seconds per run of wrk (5)
set -u
. "$(dirname "$0")/lib.sh"

CONNECTIONS=${CONNECTIONS:-64} REQUESTS=${REQUESTS:-100000} SLICE=${SLICE:-5}
MAX_SLICES=24

need wrk curl
start_origin
curl -s -m 5 -o /dev/null "http://$origin/" || die "no HTTP server answers at $origin"
start_proxy --listen 127.0.0.1:0 --grace 10s --timeout connect=2s --timeout idle=30s
echo "origin $origin, proxy $proxy, admin $admin; $CONNECTIONS clients, at least $REQUESTS requests"

# One line per second: requests as the bundled origin counts them, else what the proxy has carried.
progress() {
	local figure start=$SECONDS
	while sleep 1; do
		if [ -n "$origin_pid" ]; then
			figure=$(curl -s -m 2 "http://$origin/stats")
		else
			figure="bytes $(field BytesOut)"
		fi
		echo "  $((SECONDS - start))s: $figure so far, $(field CurrConns) connections open"
	done
}
progress &
progress_pid=$!

done_requests=0 slices=0 lost=0
while [ "$done_requests" -lt "$REQUESTS" ] && [ "$slices" -lt "$MAX_SLICES" ]; do
	slices=$((slices + 1))
	wrk --latency -t2 -c"$CONNECTIONS" -d"${SLICE}s" "http://$proxy/" >"$logs/wrk" || die "wrk failed: $(cat "$logs/wrk")"
	done_requests=$((done_requests + $(sed -n 's/ *\([0-9]*\) requests in .*/\1/p' "$logs/wrk")))
	if grep -E 'Socket errors|Non-2xx|^ *0 requests' "$logs/wrk" >&2; then
		lost=1
		break
	fi
done
kill "$progress_pid" && wait "$progress_pid" 2>/dev/null
progress_pid=''

echo
echo "requests: $done_requests in $slices runs of ${SLICE}s; the last one:"
grep -E '^ +(50|75|90|99)%|Requests/sec|Transfer/sec' "$logs/wrk"
echo
ask 'show info'
echo
ask 'show pools'
echo
echo "who has connected, and how much:"
ask 'show table'
echo

kill -TERM "$proxy_pid"
wait "$proxy_pid"
status=$?
proxy_pid=''
last=$(grep ' stopped: ' "$logs/proxy" | tail -n 1)
echo "${last#* NOTICE }"

figure() { sed -n "s/.* $1=\([0-9]*\).*/\1/p" <<<"$last"; }
[ "$status" -eq 0 ] || { cat "$logs/proxy" >&2; die "the proxy ended with status $status"; }
[ "$lost" -eq 0 ] || die "requests were lost (see the lines of wrk above)"
[ "$done_requests" -ge "$REQUESTS" ] || die "only $done_requests requests in $((slices * SLICE)) seconds"
[ -n "$last" ] && [ "$(figure accepted)" = "$(figure closed)" ] || die "connections accepted and closed differ: $last"
[ "$(figure pool_bytes) $(figure fds) $(figure tasks)" = "0 0 0" ] || die "something leaked: $last"
if [ -n "$origin_pid" ]; then
	kill -TERM "$origin_pid"
	wait "$origin_pid" || die "the origin failed: $(cat "$logs/origin")"
	origin_pid=''
	served=$(sed -n 's/.* \([0-9]*\) requests served/\1/p' "$logs/origin")
	[ "$served" -ge "$done_requests" ] || die "the origin served $served requests, the clients saw $done_requests"
fi
echo "ok: $done_requests requests, none lost, nothing leaked"
