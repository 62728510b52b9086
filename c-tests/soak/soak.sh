#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The example proxy under mixed traffic for hours: nothing may be lost, and nothing may grow.
#     HOURS=0.25 SEED=1 BUILD=build c-tests/soak/soak.sh
#
# Two proxies of THREADS (4) threads stand between CLIENTS (40) clients (clients.c) and three nginx. The first one lasts:
# its memory is judged. The second one is relieved by a new process again and again, which listens on the same port
# before the old one is told to end. One nginx at a time is killed, quits, or stands still; a request that was under way
# to it may fail, no other. Once traffic has ended, the descriptors must be those of the beginning, and each proxy's
# last line must say that nothing is left. verdict.pl judges what was sampled.
#
# PLANT=memory|descriptor|reset runs the proxies with such a fault (plant.c): the soak must fail.
set -u
HOURS=${HOURS:-1} SEED=${SEED:-$((RANDOM * 32768 + RANDOM))} CLIENTS=${CLIENTS:-40} THREADS=${THREADS:-4}
BUILD=${BUILD:-build}
. "$(dirname "$0")/../e2e/common.bash"
soak=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
sampler='' traffic='' lasting='' relieved='' retired=()
cleanup() {
	local pid
	trap - EXIT
	for pid in $sampler $traffic $lasting $relieved "${retired[@]%%:*}" "${nginx_pid[@]}"; do
		kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	rm -rf "$root"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
fail() {
	echo "soak: $*" >&2
	[ ! -f "${dir:-}/proxy.log" ] || tail -n 20 "$dir/proxy.log" >&2
	exit 1
}

duration=$(perl -e 'printf "%d", $ARGV[0] * 3600' "$HOURS")
[ "$duration" -ge 180 ] || fail "HOURS=$HOURS: memory needs three minutes (0.05) to settle"
step=$((duration / 200)) && [ "$step" -ge 1 ] || step=1
[ "$step" -le 10 ] || step=10
echo "soak: $duration s, SEED=$SEED, $CLIENTS clients, $THREADS threads${PLANT:+, PLANT=$PLANT}"
RANDOM=$SEED

cc -O1 -Wall -Wextra -o "$root/clients" "$soak/clients.c" -pthread || fail "cannot build the clients"
PROXY=$BUILD/proxy
if [ -n "${PLANT:-}" ]; then
	cc -O1 -Wall -Wextra -shared -fPIC -o "$root/plant.so" "$soak/plant.c" || fail "cannot build the plant"
	PROXY="env PLANT=$PLANT LD_PRELOAD=$root/plant.so $BUILD/proxy"
fi

# --- who serves ------------------------------------------------------------

names=(a b c) ports=()
serve() { dir=$root start_nginx "${names[$1]}" "${ports[$1]}" || fail "nginx does not start"; }
for n in 0 1 2; do
	ports+=("$(free_port)")
	mkdir -p "$root/${names[n]}/www"
	perl -e 'print pack "C*", map { ($_ ^ $_ >> 8 ^ $_ >> 16) & 255 } 0 .. 999999' > "$root/${names[n]}/www/big"
	serve "$n"
done

# start NAME OPTION...: a proxy with a folder of its own, $dir
start() {
	dir=$root/$1
	mkdir "$dir"
	shift
	start_proxy --threads "$THREADS" --backend "127.0.0.1:${ports[0]}" --backend "127.0.0.1:${ports[1]}" \
		--backend "127.0.0.1:${ports[2]}" --check inter=200ms --check fall=2 --timeout idle=5s --grace 60s \
		--limit conn_cur=50 "$@" || fail "the proxy does not start"
}
start lasting
lasting=$proxy_pid lasting_dir=$dir lasting_port=$port lasting_admin=$admin
shared_port=$(free_port) generation=0
successor() {
	generation=$((generation + 1))
	start "relieved$generation" --listen "127.0.0.1:$shared_port"
	relieved=$proxy_pid relieved_dir=$dir relieved_admin=$admin
	echo "$relieved" > "$root/relieved.pid"
}
successor

# of_lasting COMMAND...: with what common.bash knows a proxy by
of_lasting() { dir=$lasting_dir proxy_pid=$lasting admin=$lasting_admin "$@"; }
of_relieved() { dir=$relieved_dir proxy_pid=$relieved admin=$relieved_admin "$@"; }

# The fewest in a second: a check of a backend takes one for a moment.
descriptors() {
	local least=999999 i list
	for i in $(seq 20); do
		list=(/proc/"$1"/fd/*)
		[ "${#list[@]}" -ge "$least" ] || least=${#list[@]}
		sleep 0.05
	done
	echo "$least"
}
memory() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null; }
at_rest() { of_lasting field_is CurrConns 0; }

# Every thread has met a connection before what is idle is counted.
seq 200 | xargs -P 20 -I{} curl -s -o /dev/null "http://127.0.0.1:$lasting_port/small"
until_true 10 at_rest || fail "connections are left before it begins"
descriptors_before=$(descriptors "$lasting")
tasks_before=$(of_lasting field Tasks)

# --- traffic, samples ------------------------------------------------------

"$root/clients" "$SEED" "$((duration + 60))" "$CLIENTS" "${lasting_admin##*:}" "$lasting_port" "$shared_port" > "$root/clients.log" &
traffic=$!
begin=$SECONDS

# seconds, of the lasting proxy kilobytes, descriptors, threads and connections, of the other one kilobytes
sample() {
	local list conns
	while sleep "$step"; do
		list=(/proc/"$lasting"/fd/*)
		conns=$(of_lasting field CurrConns)
		echo "$((SECONDS - begin)) $(memory "$lasting") ${#list[@]} $(ls "/proc/$lasting/task" | wc -l) ${conns:--1}" \
			"$(memory "$(cat "$root/relieved.pid")")" "$(sed -n 's/^sum //p' "$root/clients.log" | tail -n 1)"
	done
}
sample > "$root/samples" &
sampler=$!

# --- what befalls them -----------------------------------------------------

is_up_everywhere() { of_lasting backend_is "$1" UP && of_relieved backend_is "$1" UP; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
pause() { sleep "$1.$((RANDOM % 10))"; }

# kill_backend SIGNAL: it ends, comes back, and is taken back by both before another one is disturbed
kill_backend() {
	local n=$((RANDOM % 3)) name from
	name=${names[n]} from=$EPOCHREALTIME
	kill "-$1" "${nginx_pid[$name]}"
	wait "${nginx_pid[$name]}" 2>/dev/null
	echo "$1 $from $EPOCHREALTIME" >> "$root/events"
	pause $((RANDOM % 3))
	serve "$n"
	until_true 20 is_up_everywhere "${ports[n]}" || fail "backend $name came back, and is not used"
}

stall_backend() {
	local pid=${nginx_pid[${names[RANDOM % 3]}]}
	kill -STOP "$pid"
	pause 0
	kill -CONT "$pid"
	echo "stall 0 0" >> "$root/events"
}

# retire: those that were relieved and have ended, must have ended well
retire() {
	local entry left=()
	for entry in "${retired[@]}"; do
		if is_gone "${entry%%:*}"; then
			proxy_pid=${entry%%:*} dir=${entry#*:}
			proxy_ends > "$dir/end" || fail "a relieved proxy ended badly"
			grep -q 'closed by the stop' "$dir/proxy.log" && fail "a relieved proxy closed connections that went on"
		else
			left+=("$entry")
		fi
	done
	retired=("${left[@]}")
}

relieve() {
	local old=$relieved old_dir=$relieved_dir
	successor
	kill -TERM "$old"
	retired+=("$old:$old_dir")
	echo "relief 0 0" >> "$root/events"
}

: > "$root/events"
while [ $((SECONDS - begin)) -lt "$duration" ]; do
	kill -0 "$lasting" 2>/dev/null || { dir=$lasting_dir; fail "the proxy died"; }
	kill -0 "$relieved" 2>/dev/null || { dir=$relieved_dir; fail "the proxy died"; }
	kill -0 "$traffic" 2>/dev/null || fail "the clients died"
	case $((RANDOM % 10)) in
	0 | 1 | 2) kill_backend KILL ;;
	3) kill_backend QUIT ;;
	4 | 5) stall_backend ;;
	*) relieve ;;
	esac
	retire
	pause $((RANDOM % 5))
done

# --- the end ---------------------------------------------------------------

kill "$sampler" && wait "$sampler" 2>/dev/null
sampler=''
kill -TERM "$traffic"
until_true 60 is_gone "$traffic" || fail "the clients do not end"
wait "$traffic" || fail "the clients ended badly"
traffic=''
until_true 60 at_rest || fail "connections are left: $(of_lasting field CurrConns)"
sleep 1         # sessions of the administration that were cut off
descriptors_after=$(descriptors "$lasting")
tasks_after=$(of_lasting field Tasks)
{
	echo "descriptors $descriptors_before $descriptors_after"
	echo "tasks $tasks_before $tasks_after"
	echo "sources $(of_lasting ask 'show table data.conn_cur gt 0' | grep -c ' key=') 0"
} > "$root/rest"
of_lasting ask 'show info' > "$root/info"
all_retired() { retire; [ "${#retired[@]}" -eq 0 ]; }
until_true 70 all_retired || fail "a relieved proxy does not end"
dir=$lasting_dir proxy_pid=$lasting
stop_proxy > "$root/end" || fail "the lasting proxy ended badly"
lasting=''
dir=$relieved_dir proxy_pid=$relieved
stop_proxy > "$root/end2" || fail "the last successor ended badly"
relieved=''
cat "$root"/*/proxy.log > "$root/log"
perl "$soak/verdict.pl" "$root" "$CLIENTS"
