#!/usr/bin/env bats
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# End-to-end tests of the example proxy, with real parts: nginx behind it, curl and wrk before it.
#     BUILD=dir bats c-tests/e2e/proxy.bats         (dir holds the program `proxy`)

setup_file() {
	load common.bash
	build_helpers "$BATS_FILE_TMPDIR"
}

setup() {
	load common.bash
	dir=$BATS_TEST_TMPDIR
	requests=$BATS_FILE_TMPDIR/requests
	idle=$BATS_FILE_TMPDIR/idle
	origin_port=$(free_port)
}

teardown() {
	kill_everything
}

with_origin() {
	start_nginx a "$origin_port"
	start_proxy --backend "127.0.0.1:$origin_port" "$@"
}

@test "200 MB down and up arrive unchanged" {
	with_origin
	head -c 200000000 /dev/urandom >"$dir/a/www/big"
	want=$(sha256sum <"$dir/a/www/big")
	got=$(curl -sS -m 60 "http://$proxy/big" | sha256sum)
	[ "$got" = "$want" ]
	curl -sS -m 60 -f -T "$dir/a/www/big" "http://$proxy/up/big"
	[ "$(sha256sum <"$dir/a/www/up/big")" = "$want" ]
	stop_proxy
}

@test "20,000 requests over 200 connections, not one error" {
	with_origin
	run "$requests" "$host" "$port" /small 200 100 20000 60
	echo "$output"
	[ "$output" = "ok=20000 connections=200 refused=0 lost=0" ]
	wrk -t2 -c200 -d2s "http://$proxy/small" >"$dir/wrk"
	cat "$dir/wrk"
	lacks 'Socket errors' "$dir/wrk"
	lacks 'Non-2xx' "$dir/wrk"
	stop_proxy
}

@test "a connection that sends its half and closes it still gets its answer" {
	with_origin
	exec 5<>"/dev/tcp/$host/$port"
	printf 'GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&5
	run timeout 5 cat <&5
	exec 5>&-
	[[ "$output" == *"a says hello"* ]]
	# a reader that closes early must not hold anything
	curl -sS -m 5 -r 0-100 "http://$proxy/small" >/dev/null
	until_true 5 field_is CurrConns 0
	stop_proxy
}

@test "5,000 idle connections are held, then closed by the idle timeout" {
	[ "$(ulimit -Hn)" -ge 12000 ] || skip "needs 12000 descriptors"
	with_origin --timeout idle=6s --maxconn 5500
	"$idle" "$host" "$port" 5000 20 >"$dir/idle" 3>&- &
	helper_pid=$!
	until_true 10 grep -q open=5000 "$dir/idle"
	until_true 5 field_is CurrConns 5000
	ask 'show pools'
	# idle connections hold no buffer
	[ "$(field PoolBytesUsed)" -lt 5000000 ]
	curl -sS -f -m 5 "http://$proxy/small"
	wait "$helper_pid"
	helper_pid=''
	grep closed=5000 "$dir/idle"
	until_true 5 field_is CurrConns 0
	[ "$(field Errors_idle_timeout)" -ge 5000 ]
	stop_proxy
}

@test "a backend dies under load and comes back" {
	local other_port
	other_port=$(free_port)
	start_nginx b "$other_port"
	with_origin --backend "127.0.0.1:$other_port" --check inter=200ms --check rise=2 --check fall=2
	"$requests" "$host" "$port" /small 20 5 0 9 >"$dir/requests" 3>&- &
	helper_pid=$!
	sleep 1
	stop_nginx a
	until_true 5 backend_is "$origin_port" DOWN
	backend_is "$other_port" UP
	before=$(field CumConns)
	until_true 5 field_at_least CumConns $((before + 100))
	start_nginx a "$origin_port"
	until_true 5 backend_is "$origin_port" UP
	wait "$helper_pid" || true
	helper_pid=''
	cat "$dir/requests"
	ask 'show info'
	# whoever was connected to the dead one has lost that connection, nobody else anything
	[ "$(sed 's/.*lost=\([0-9]*\).*/\1/' "$dir/requests")" -le 20 ]
	grep refused=0 "$dir/requests"
	# and both serve again
	for i in 1 2 3 4; do curl -sS -m 5 "http://$proxy/small"; done | sort -u >"$dir/answers"
	[ "$(wc -l <"$dir/answers")" -eq 2 ]
	stop_proxy
}

@test "a soft stop under load loses no accepted request" {
	start_nginx a "$origin_port"
	# few requests per connection make many connections, some of which begin in the very moment of the stop
	for per_connection in 20 1 1; do
		start_proxy --backend "127.0.0.1:$origin_port" --grace 20s
		"$requests" "$host" "$port" /small 50 "$per_connection" 0 10 >"$dir/requests" 3>&- &
		helper_pid=$!
		sleep 0.5
		stop_proxy TERM
		wait "$helper_pid"
		helper_pid=''
		cat "$dir/requests"
		grep ' refused=50 lost=0' "$dir/requests"
		lacks 'closed by the stop' "$dir/proxy.log"
	done
}

@test "a successor on the same port takes over, and nobody notices" {
	start_nginx a "$origin_port"
	local shared
	shared=$(free_port)
	start_proxy --backend "127.0.0.1:$origin_port" --listen "127.0.0.1:$shared" --grace 20s
	"$requests" 127.0.0.1 "$shared" /small 20 5 0 7 >"$dir/requests" 3>&- &
	helper_pid=$!
	for _ in 1 2 3; do
		sleep 0.5
		local old_pid=$proxy_pid old_log=$dir/old.log
		mv "$dir/proxy.log" "$old_log"
		start_proxy --backend "127.0.0.1:$origin_port" --listen "127.0.0.1:$shared" --grace 20s
		kill -TERM "$old_pid"
		wait "$old_pid"
		grep "left: pool_bytes=0 fds=0 tasks=0" "$old_log"
	done
	wait "$helper_pid"
	helper_pid=''
	cat "$dir/requests"
	grep " refused=0 lost=0" "$dir/requests"
	[ "$(field CumConns)" -gt 0 ]
	stop_proxy
}

@test "what remains after the grace time is closed and logged; SIGUSR1 stops too" {
	with_origin --grace 500ms
	"$idle" "$host" "$port" 20 10 >"$dir/idle" 3>&- &
	helper_pid=$!
	until_true 5 field_is CurrConns 20
	# each of them holds a reference to what is known of their source
	[[ "$(source_of 127.0.0.1)" == *" use=20 "*" conn_cnt=20 "*" conn_cur=20 "* ]]
	stop_proxy USR1
	wait "$helper_pid"
	helper_pid=''
	has_logged 'closed by the stop'
}

@test "a second signal stops at once" {
	with_origin --grace 60s
	"$idle" "$host" "$port" 20 10 >"$dir/idle" 3>&- &
	helper_pid=$!
	until_true 5 field_is CurrConns 20
	kill -TERM "$proxy_pid"
	until_true 5 has_logged 'listeners closed'
	field_is CurrConns 20
	field_is Stopping 1
	stop_proxy TERM
	wait "$helper_pid"
	helper_pid=''
}

@test "running out of descriptors passes by itself" {
	start_nginx a "$origin_port"
	ulimit -n 64
	start_proxy --backend "127.0.0.1:$origin_port" --maxconn 1000 --timeout connect=1s
	"$idle" "$host" "$port" 50 2 >"$dir/idle" 2>&1 3>&- || true
	until_true 5 field_is CurrConns 0
	run "$requests" "$host" "$port" /small 10 10 100 20
	echo "$output"
	[ "$output" = "ok=100 connections=10 refused=0 lost=0" ]
	# it did run out, and it did not spin meanwhile
	ask 'show info'
	[ "$(field Errors_accept)" -gt 0 ]
	[ "$(field Errors_accept)" -lt 200 ]
	stop_proxy
}

@test "--maxconn makes clients wait, not fail" {
	with_origin --maxconn 5
	run "$requests" "$host" "$port" /small 50 10 5000 30
	echo "$output"
	[[ "$output" == "ok=5000 "*" refused=0 lost=0" ]]
	until_true 5 field_is CurrConns 0
	field_is Errors_accept 0
	stop_proxy
}

@test "a stop at --maxconn still serves who waits in the kernel's queue" {
	with_origin --maxconn 5 --grace 20s
	"$requests" "$host" "$port" /small 30 10 0 10 >"$dir/requests" 3>&- &
	helper_pid=$!
	sleep 1
	stop_proxy
	wait "$helper_pid"
	helper_pid=''
	cat "$dir/requests"
	grep ' refused=30 lost=0' "$dir/requests"
}

# from ADDRESS N: the status of each of N requests over connections of their own; 000 stands for a refused one
from() {
	curl -s -m 10 -o /dev/null -w '%{http_code} ' -H 'Connection: close' --interface "$1" "http://$proxy/small?[1-$2]" || true
}

# source_of ADDRESS [FILTER]: its line, without a filter by its key
source_of() { ask "show table ${2:-key $1}" | grep " key=$1 "; }
is_no_source_of() { ! source_of "$@"; }
datum() { source_of "$1" | sed -n "s/.* $2=\([0-9]*\).*/\1/p"; }

@test "--limit conn_rate keeps one source out and not the other, while it lasts" {
	with_origin --limit conn_rate=5/5s
	[ "$(from 127.0.0.1 6)" = "200 200 200 200 200 000 " ]
	[ "$(from 127.0.0.2 5)" = "200 200 200 200 200 " ]
	[ "$(from 127.0.0.1 1)" = "000 " ]
	field_is RefusedConns 2
	field_is CumConns 12
	[ "$(datum 127.0.0.1 conn_cnt)" -eq 7 ]
	[ "$(datum 127.0.0.2 conn_cnt)" -eq 5 ]
	# refused ones count, so only who waits gets in again
	source_of 127.0.0.1 'data.conn_rate gt 5'
	is_no_source_of 127.0.0.2 'data.conn_rate gt 5'
	until_true 15 is_no_source_of 127.0.0.1 'data.conn_rate gt 4'
	[ "$(from 127.0.0.1 1)" = "200 " ]
	field_is RefusedConns 2
	stop_proxy
}

@test "--limit conn_cur counts the connections that a source has, not those it had" {
	with_origin --limit conn_cur=2 --limit conn_rate=1000/1m
	for i in 1 2 3 4 5; do
		[ "$(from 127.0.0.1 1)" = "200 " ]
		until_true 5 field_is CurrConns 0
	done
	exec 5<>"/dev/tcp/$host/$port" 6<>"/dev/tcp/$host/$port"
	until_true 5 field_is CurrConns 2
	[ "$(from 127.0.0.1 2)" = "000 000 " ]
	[ "$(from 127.0.0.2 1)" = "200 " ]
	[[ "$(source_of 127.0.0.1)" == *" use=2 "*" conn_cnt=9 conn_rate(60000)=9 conn_cur=2 "* ]]
	exec 5>&-
	until_true 5 field_is CurrConns 1
	[ "$(from 127.0.0.1 1)" = "200 " ]
	exec 6>&-
	until_true 5 field_is CurrConns 0
	field_is RefusedConns 2
	[ "$(datum 127.0.0.1 conn_cur)" -eq 0 ]
	stop_proxy
}

@test "'show table' knows every source, and filters" {
	with_origin
	from 127.0.0.1 3
	from 127.0.0.2 7
	until_true 5 field_is CurrConns 0
	ask 'show table'
	[ "$(ask 'show table' | grep -c '^# table: sources')" -eq 2 ]
	[ "$(ask 'show table' | grep -c ' key=')" -eq 2 ]
	[ "$(ask 'show table' | grep -c ' use=0 ')" -eq 2 ]
	[ "$(ask 'show table key 127.0.0.2' | grep -c ' key=')" -eq 1 ]
	[ "$(ask 'show table key 127.0.0.3' | grep -c ' key=')" -eq 0 ]
	[ "$(ask 'show  table  data.conn_cnt ge 7' | grep -o ' key=[^ ]*')" = " key=127.0.0.2" ]
	[ "$(ask 'show table data.conn_cnt lt 7 data.conn_cur eq 0' | grep -o ' key=[^ ]*')" = " key=127.0.0.1" ]
	[ "$(ask 'show table data.conn_cnt gt 7' | grep -c ' key=')" -eq 0 ]
	# what two threads have counted for each source is what each thread has counted for all
	[ "$(($(datum 127.0.0.1 conn_cnt) + $(datum 127.0.0.2 conn_cnt)))" -eq "$(field CumConns)" ]
	[ "$(($(datum 127.0.0.1 bytes_in_cnt) + $(datum 127.0.0.2 bytes_in_cnt)))" -eq "$(field BytesIn)" ]
	[ "$(($(datum 127.0.0.1 bytes_out_cnt) + $(datum 127.0.0.2 bytes_out_cnt)))" -eq "$(field BytesOut)" ]
	for filter in x key 'key 10' 'key 1.2.3.4 5' 'data.conn_cnt' 'data.conn_cnt gt' 'data.conn_cnt gt x' 'data.gpc0 gt 1' \
		'data.nonsense gt 1' "data.conn_cnt gt $(printf '%0200d' 1)"; do
		run ask "show table $filter"
		echo "$filter: $output"
		[ "${#lines[@]}" -eq 1 ]
		[[ "$output" == *"try 'help'"* ]]
	done
	stop_proxy
}

# answer_to INPUT...: what the admin socket says to these bytes
answer_to() {
	exec 4<>"/dev/tcp/${admin%:*}/${admin##*:}"
	"$@" >&4 2>/dev/null || true
	printf '\nquit\n' >&4 2>/dev/null || true
	timeout 5 cat <&4 || true
	exec 4>&-
}

@test "the admin socket answers its commands, and survives garbage" {
	with_origin
	[[ "$(ask help)" == *"show info"*"show pools"*"show tasks"*"show fd"*"show table"*"show callouts"* ]]
	for command in 'show info' 'show pools' 'show tasks' 'show fd' 'show table' 'show callouts'; do
		[ -n "$(ask "$command")" ]
	done
	[ "$(ask 'show pools match conn' | grep -c '^  - Pool conn ')" -eq 1 ]
	[ "$(ask 'show pools match conn' | grep -c '^  - Pool ')" -eq 1 ]
	[[ "$(ask 'show pools bysize detailed 1')" == *"  - Pool buffer "*"      > buffer : size="*"limited to the first 1 entries"* ]]
	[[ "$(ask 'show pools')" != *"limited to"* ]]
	[ "$(ask 'show pools bycolour')" = "Unknown words, try 'help'." ]
	[ "$(ask 'drop tables' | wc -l)" -eq 1 ]
	[ "$(ask '' | wc -l)" -eq 0 ]
	[[ "$(ask '  show   info  ')" == *"Name: proxy"* ]] || [[ "$(ask 'show info')" == *"Name: proxy"* ]]
	answer_to head -c 1000000 /dev/urandom >/dev/null
	answer_to head -c 1000000 /dev/zero >/dev/null
	[ "$(answer_to printf 'x%.0s' $(seq 5000) | wc -l)" -eq 1 ]
	# a client that asks much and reads nothing, and one that hangs up
	exec 5<>"/dev/tcp/${admin%:*}/${admin##*:}"
	for i in $(seq 200); do echo 'show fd' >&5; done
	[ "$(field Name)" = proxy ]
	exec 5>&-
	for i in $(seq 20); do (exec 5<>"/dev/tcp/${admin%:*}/${admin##*:}"; echo 'show in' >&5); done
	[ "$(field Name)" = proxy ]
	# silent sessions keep nobody out
	local silent=() session
	for i in $(seq 20); do
		exec {session}<>"/dev/tcp/${admin%:*}/${admin##*:}"
		silent+=("$session")
	done
	[ "$(field Name)" = proxy ]
	for session in "${silent[@]}"; do exec {session}>&-; done
	curl -sS -f -m 5 "http://$proxy/small"
	stop_proxy
}

@test "the admin socket may be a unix socket, also where an old one was left" {
	start_nginx a "$origin_port"
	for signal in KILL TERM; do
		: >"$dir/proxy.log"
		"$BUILD/proxy" --listen 127.0.0.1:0 --backend "127.0.0.1:$origin_port" --admin "$dir/admin.sock" 2>"$dir/proxy.log" 3>&- &
		proxy_pid=$!
		until_true 5 has_logged ready:
		[ -S "$dir/admin.sock" ]
		kill "-$signal" "$proxy_pid"
		wait "$proxy_pid" || true
	done
	proxy_pid=''
	[ ! -e "$dir/admin.sock" ]
}

refuses() {
	local status=0
	"$BUILD/proxy" "$@" >"$dir/out" 2>"$dir/err" || status=$?
	echo "$* -> $status: $(cat "$dir/err")"
	[ "$status" -eq 2 ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" -eq 1 ]
}

@test "wrong options get one line and status 2" {
	refuses
	refuses --listen 127.0.0.1:0
	refuses --backend 127.0.0.1:80
	local good=(--listen 127.0.0.1:0 --backend 127.0.0.1:80)
	refuses "${good[@]}" --nonsense
	refuses "${good[@]}" stray
	refuses "${good[@]}" -x
	refuses "${good[@]}" --threads 0
	refuses "${good[@]}" --threads 65
	refuses "${good[@]}" --threads two
	refuses "${good[@]}" --threads
	refuses "${good[@]}" --maxconn -1
	refuses "${good[@]}" --maxconn 99999999999999999999
	refuses "${good[@]}" --timeout idle
	refuses "${good[@]}" --timeout idle=
	refuses "${good[@]}" --timeout idle=5x
	refuses "${good[@]}" --timeout idle=0
	refuses "${good[@]}" --timeout idle=9999d
	refuses "${good[@]}" --timeout nap=5s
	refuses "${good[@]}" --timeout idle=5s,
	refuses "${good[@]}" --check rise=0
	refuses "${good[@]}" --grace soon
	for limit in '' conn_rate conn_rate= conn_rate=20 conn_rate=20/ conn_rate=/10s conn_rate=0/10s conn_rate=-1/10s \
		conn_rate=many/10s conn_rate=20s/10s conn_rate=20/10x conn_rate=20/10s, conn_rate=20/10s/10s conn_rate=20/0 \
		conn_rate=20/1ms conn_rate=20/9999d conn_rate=99999999999/10s conn_cur conn_cur= conn_cur=0 conn_cur=5/10s \
		conn_cnt=5 =5 5; do
		refuses "${good[@]}" --limit "$limit"
	done
	refuses "${good[@]}" --limit
	refuses "${good[@]}" --admin nowhere
	refuses --listen 127.0.0.1:65536 --backend 127.0.0.1:80
	refuses --listen 127.0.0.1 --backend 127.0.0.1:80
	refuses --listen ::1:80 --backend 127.0.0.1:80
	refuses --listen 127.0.0.1:0 --backend 127.0.0.1:0
	run "$BUILD/proxy" --help
	[ "$status" -eq 0 ]
	run "$BUILD/proxy" --version
	[ "$status" -eq 0 ]
}

@test "IPv6, several listeners, host names" {
	(: <"/dev/tcp/::1/1") 2>&1 | grep -qE 'unreachable|not supported|assign' && skip "no IPv6 here"
	# localhost may be either
	start_nginx a "$origin_port" '[::1]'
	start_proxy --backend "localhost:$origin_port" --listen '[::1]:0'
	[ "$(grep -c 'listening on' "$dir/proxy.log")" -eq 2 ]
	six=$(sed -n 's/.*listening on \(\[::1\]:[0-9]*\).*/\1/p' "$dir/proxy.log")
	curl -sS -f -m 5 -g "http://$six/small"
	[ "$(datum ::1 conn_cnt)" -eq 1 ]
	curl -sS -f -m 5 "http://$proxy/small"
	stop_proxy
}
