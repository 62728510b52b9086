# SPDX-License-Identifier: MIT OR Apache-2.0
# What run.sh and serve.sh share: starts the origin and the proxy on free loopback ports, and stops them whatever happens.

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || die "'$tool' is missing: apt-get install $tool"
	done
}

BUILD=${BUILD:-build}
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-$BUILD/stage/usr/lib}     # where keel is not installed
logs=$(mktemp -d)
origin_pid='' proxy_pid='' progress_pid=''

cleanup() {
	local pid
	trap - EXIT
	for pid in $progress_pid $proxy_pid $origin_pid; do
		kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	rm -rf "$logs"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for LOG PATTERN: the first word after PATTERN in LOG, as soon as it is there (at most 10 s)
wait_for() {
	local tries word
	for tries in $(seq 200); do
		word=$(sed -n "s/.*$2 \([^ ]*\).*/\1/p" "$1" | head -n 1)
		[ -n "$word" ] && { echo "$word"; return 0; }
		sleep 0.05
	done
	cat "$1" >&2
	die "no '$2' in the log above"
}

# Both programs run in sessions of their own: Ctrl-C is for the script, which stops them in good order.

# The bundled origin, unless ORIGIN=host:port names a real server. Sets $origin.
start_origin() {
	if [ -n "${ORIGIN:-}" ]; then
		origin=$ORIGIN
		return
	fi
	[ -x "$BUILD/origin" ] || die "$BUILD/origin is not built (BUILD names the directory)"
	setsid "$BUILD/origin" --listen 127.0.0.1:0 2>"$logs/origin" &
	origin_pid=$!
	origin=$(wait_for "$logs/origin" "listening on") || exit 1
}

# start_proxy OPTION...: in front of $origin. Sets $proxy and $admin, and $proxy_pid.
start_proxy() {
	[ -x "$BUILD/proxy" ] || die "$BUILD/proxy is not built (BUILD names the directory)"
	setsid "$BUILD/proxy" --backend "$origin" --admin 127.0.0.1:0 "$@" 2>"$logs/proxy" &
	proxy_pid=$!
	proxy=$(wait_for "$logs/proxy" "listening on") || exit 1
	admin=$(wait_for "$logs/proxy" "administration on") || exit 1
	wait_for "$logs/proxy" "ready:" >/dev/null || exit 1
}

# ask COMMAND: the proxy's answer
ask() {
	exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}" || return 1
	printf '%s\nquit\n' "$1" >&3
	cat <&3
	exec 3>&-
}

# field NAME: one figure of 'show info'
field() { ask 'show info' | sed -n "s/^$1: //p"; }
