#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sends requests through a proxy that runs under a checker, and fails if the checker has anything to say.
#     PROXY=./proxy-tsan REQUESTS=50000 c-tests/e2e/sanitized.sh
#     PROXY="valgrind -q --leak-check=full --error-exitcode=99 ./proxy" REQUESTS=500 c-tests/e2e/sanitized.sh
# PROXY is a command line, REQUESTS a count, CLIENTS how many at a time (50), SECONDS_MAX a bound (120), OPTIONS more of the proxy's
# options. Half of the requests reuse connections; the limit of a source is met once, one backend dies on the way, and the soft stop
# comes under load.
set -u
dir=$(mktemp -d)
BUILD=${BUILD:-.}
. "$(dirname "$0")/common.bash"
trap 'kill_everything; rm -rf "$dir"' EXIT
fail() { echo "sanitized.sh: $*" >&2; [ ! -f "$dir/proxy.log" ] || tail -n 60 "$dir/proxy.log" >&2; exit 1; }

PROXY=${PROXY:?the command line of the proxy to check} REQUESTS=${REQUESTS:-500} CLIENTS=${CLIENTS:-50} PATIENCE=60
limit=${SECONDS_MAX:-120}
quarter=$((REQUESTS / 4))

build_helpers "$dir" || fail "cannot build the helpers"
a=$(free_port) b=$(free_port)
start_nginx a "$a" && start_nginx b "$b" || fail "nginx does not start"
# shellcheck disable=SC2086
start_proxy --backend "127.0.0.1:$a" --backend "127.0.0.1:$b" --check inter=300ms --check fall=2 --grace 30s \
	--limit conn_cur=$((5 * CLIENTS)) --limit conn_rate=1000000/10s ${OPTIONS:-} || fail "the proxy does not start"

send() { "$dir/requests" "$host" "$port" /small "$CLIENTS" "$1" "$2" "$limit" || fail "requests were lost"; }

send 1000 $((REQUESTS - quarter))               # kept connections
head -c 4000000 /dev/urandom >"$dir/a/www/big"
cp "$dir/a/www/big" "$dir/b/www/big"
curl -sS -f -m 60 -o "$dir/got" "http://$proxy/big" && cmp "$dir/got" "$dir/a/www/big" || fail "a download went wrong"
curl -sS -f -m 60 -T "$dir/got" "http://$proxy/up/big" || fail "an upload went wrong"
until_true "$PATIENCE" field_is CurrConns 0 || fail "connections were left"
"$dir/idle" "$host" "$port" $((5 * CLIENTS + 10)) 1 >/dev/null
until_true "$PATIENCE" field_is RefusedConns 10 || fail "the limit of a source does not hold"
until_true "$PATIENCE" field_is CurrConns 0 || fail "idle connections were left"
ask 'show table' | grep -q 'conn_cur=0' || fail "the table of sources is wrong"
ask 'show info' >/dev/null && ask 'show pools' >/dev/null && ask 'show tasks' >/dev/null && ask 'show fd' >/dev/null || fail "admin"
stop_nginx a
send 5 "$quarter"                               # short ones, of which every second meets the dead backend first
"$dir/requests" "$host" "$port" /small 10 5 0 20 &
helper_pid=$!
sleep 1
stop_proxy >/dev/null || fail "the proxy ended badly"
wait "$helper_pid" || fail "the soft stop lost requests"
helper_pid=''
if grep -E 'WARNING: ThreadSanitizer|ERROR: AddressSanitizer|ERROR: LeakSanitizer|^==[0-9]+==.*(definitely|indirectly|possibly) lost: [1-9]' \
	"$dir/proxy.log" >&2; then
	fail "the checker reports"
fi
echo "ok: $REQUESTS requests, no report"
