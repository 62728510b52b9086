#!/bin/sh
# syscalls.sh DIR: system calls per event under strace: what twice as many
# events take beyond what the first do, so that neither start nor end count.
# Fails where keel changes the kernel's set while the same descriptors go on
# being watched. Of connections, which come and go, the server's side counts.
set -u
driver=$1/fd
n=${N:-4000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

command -v strace > /dev/null || {
	echo 'strace is not installed'
	exit 1
}

# trace FILE PEER OP SIZE ACTIVE EVENTS: one "NAME CALLS" a line
trace() {
	file=$1
	shift
	case $2 in accept*) threads= ;; *) threads=-f ;; esac
	# shellcheck disable=SC2086
	strace -c $threads -o "$work/table" "$driver" --fixed "$@" > "$work/out" 2>&1 || {
		cat "$work/out"
		return 1
	}
	awk '$4 ~ /^[0-9]+$/ && $NF != "total" { print $NF, $4 }' "$work/table" | sort > "$file"
}

# row TITLE PEER OP SIZE ACTIVE
row() {
	title=$1
	shift
	if ! trace "$work/once" "$@" "$n" || ! trace "$work/twice" "$@" $((2 * n)); then
		echo "| $title | $1 | failed | |"
		failed=1
		return
	fi
	printf '| %s | %s |' "$title" "$1"
	join -a 2 -e 0 -o 0,1.2,2.2 "$work/once" "$work/twice" | awk -v n="$n" '
		$3 > $2 { each = ($3 - $2) / n; all += each; if (each >= 0.005) list = list sprintf(", %s %.2f", $1, each) }
		END { printf " %.2f | %s |\n", all, substr(list, 3) }'
	case $1,$2 in
	keel*,chain | keel*,ping-pong)
		if [ "$(grep '^epoll_ctl ' "$work/once")" != "$(grep '^epoll_ctl ' "$work/twice")" ]; then
			echo "$1: epoll_ctl() on the steady path"
			failed=1
		fi
		;;
	esac
}

echo '| events | by | calls each | which |'
echo '| --- | --- | --- | --- |'
for peer in keel libev libevent libuv '(bare epoll)'; do
	# what is not built was left out
	"$driver" --fixed "$peer" chain 1 1 1 > /dev/null 2>&1 || continue
	row 'chain, 100 pipes, 1 active' "$peer" chain 100 1
	row 'chain, 1000, 100' "$peer" chain 1000 100
	row 'ping-pong, 1 pair' "$peer" ping-pong 1 0
	row 'ping-pong, 100' "$peer" ping-pong 100 0
	row 'accept and close' "$peer" accept 0 0
	row 'accept, watch, read a byte, delete' "$peer" accept-read 0 0
done
exit $failed
