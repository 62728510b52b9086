# SPDX-License-Identifier: MIT OR Apache-2.0
# Shared by the end-to-end tests: nginx instances, proxies, and questions to them. Loopback only, free ports, bounded waits.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(cd "${BUILD:-$HERE/../../build}" && pwd)
PATH=$PATH:/usr/sbin:/sbin
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-$BUILD/stage/usr/lib}

# until_true SECONDS COMMAND...: tries it until it succeeds
until_true() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

build_helpers() {
	local name
	for name in requests idle; do
		cc -O1 -Wall -Wextra -o "$1/$name" "$HERE/$name.c" -pthread || return 1
	done
}

# A port below the range from which the kernel takes the ports of outgoing connections.
free_port() {
	local port
	for _ in $(seq 100); do
		port=$((15000 + RANDOM % 15000))
		(: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return 0; }
	done
	return 1
}

is_listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start_nginx NAME PORT [ADDRESS]: on 127.0.0.1, and on ADDRESS too; one process, everything below $dir/NAME; its pid in ${nginx_pid[NAME]}
# Global, though it is read within a function.
declare -gA nginx_pid
start_nginx() {
	local home=$dir/$1
	mkdir -p "$home/www/up" "$home/tmp"
	cat >"$home/conf" <<-END
		daemon off; master_process off; pid $home/pid; error_log $home/error.log warn; worker_rlimit_nofile 16000;
		events { worker_connections 14000; }
		http {
			access_log off; default_type application/octet-stream; sendfile on;
			client_body_temp_path $home/tmp/body; proxy_temp_path $home/tmp/proxy; fastcgi_temp_path $home/tmp/fastcgi;
			uwsgi_temp_path $home/tmp/uwsgi; scgi_temp_path $home/tmp/scgi;
			client_max_body_size 0; keepalive_requests 10000000; keepalive_timeout 300s; client_header_timeout 300s;
			server {
				listen 127.0.0.1:$2 backlog=4096;
				${3:+listen $3:$2;}
				root $home/www;
				location = /small { return 200 "$1 says hello\n"; }
				location /up/ { dav_methods PUT; }
			}
		}
	END
	nginx -p "$home" -c "$home/conf" 2>>"$home/stderr" 3>&- &
	nginx_pid[$1]=$!
	until_true 5 is_listening "$2"
}

stop_nginx() {
	[ -n "${nginx_pid[$1]:-}" ] || return 0
	kill -KILL "${nginx_pid[$1]}" 2>/dev/null || true
	wait "${nginx_pid[$1]}" 2>/dev/null || true
	unset "nginx_pid[$1]"
}

log_word() { sed -n "s/.*$1 \([^ ]*\).*/\1/p" "$dir/proxy.log" | head -n 1; }
lacks() { if grep -- "$1" "$2"; then return 1; fi; }
has_logged() { grep -q -- "$1" "$dir/proxy.log"; }

started_or_dead() { has_logged ready: || ! kill -0 "$proxy_pid" 2>/dev/null; }

# start_proxy OPTION...: sets $proxy (host:port), $host, $port, $admin. PROXY may be a command line that launches it.
start_proxy() {
	: >"$dir/proxy.log"             # what an earlier one has logged must not be taken for its own
	${PROXY:-$BUILD/proxy} --listen 127.0.0.1:0 --admin 127.0.0.1:0 "$@" 2>"$dir/proxy.log" 3>&- &
	proxy_pid=$!
	until_true "${PATIENCE:-10}" started_or_dead
	has_logged ready: || { cat "$dir/proxy.log"; return 1; }
	proxy=$(log_word 'listening on')
	admin=$(log_word 'administration on')
	host=${proxy%:*} port=${proxy##*:}
}

# stop_proxy [SIGNAL]: waits until it has ended, and demands that it ended well and left nothing behind
stop_proxy() {
	kill "-${1:-TERM}" "$proxy_pid"
	proxy_ends
}

proxy_ends() {
	local status=0
	wait "$proxy_pid" || status=$?
	proxy_pid=''
	cat "$dir/proxy.log"
	[ "$status" -eq 0 ] || return 1
	has_logged 'left: pool_bytes=0 fds=0 tasks=0' || return 1
	local last
	last=$(grep ' stopped: ' "$dir/proxy.log")
	[ "$(sed 's/.*accepted=\([0-9]*\).*/\1/' <<<"$last")" = "$(sed 's/.*closed=\([0-9]*\).*/\1/' <<<"$last")" ]
}

# ask COMMAND: the proxy's answer
ask() {
	local answer status=0
	exec 4<>"/dev/tcp/${admin%:*}/${admin##*:}" || return 1
	printf '%s\nquit\n' "$1" >&4
	timeout 5 cat <&4 || status=$?
	exec 4>&-
	return "$status"
}

field() { ask 'show info' | sed -n "s/^$1: //p"; }
backend_is() { ask 'show info' | grep -q "^Backend 127.0.0.1:$1: $2 "; }
field_is() { [ "$(field "$1")" = "$2" ]; }
field_at_least() { [ "$(field "$1")" -ge "$2" ]; }

kill_everything() {
	local name
	[ -z "${proxy_pid:-}" ] || { kill -KILL "$proxy_pid" 2>/dev/null; wait "$proxy_pid" 2>/dev/null || true; }
	for name in "${!nginx_pid[@]}"; do
		stop_nginx "$name"
	done
	[ -z "${helper_pid:-}" ] || { kill -KILL "$helper_pid" 2>/dev/null; wait "$helper_pid" 2>/dev/null || true; }
}
