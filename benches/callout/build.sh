#!/bin/sh
# build.sh DIR: the driver, and a plugin for each contestant that is installed.
# keel's flags come from pkg-config, the others' from where Debian has them.
set -u
out=$1
here=$(dirname "$0")
cc=${CC:-cc}
pc=${PKG_CONFIG:-pkg-config}
# keel's flags are those of the staged copy, the peers' those of the system
system_pc="env -u PKG_CONFIG_SYSROOT_DIR $pc"
flags="-std=gnu11 ${CFLAGS:--O2 -g} -Wall -Wextra"
mkdir -p "$out" || exit 1

# plugin NAME FLAGS…
plugin() {
	name=$1
	shift
	# shellcheck disable=SC2086
	$cc $flags -fPIC -shared "$here/$name.c" -o "$out/$name.so" "$@" -pthread
}

# peer NAME PACKAGE HEADER FLAGS…: silently nothing where the header is lacking:
# the driver says what is left out.
peer() {
	name=$1 package=$2 header=$3
	shift 3
	rm -f "$out/$name.so"
	if echo "#include <$header>" | $cc $($system_pc --cflags "$package" 2> /dev/null) -E -x c - > /dev/null 2>&1; then
		# shellcheck disable=SC2046
		plugin "$name" $($system_pc --cflags "$package" 2> /dev/null) "$@" || echo "$name: does not compile here"
	fi
}

# shellcheck disable=SC2086
$cc $flags "$here/driver.c" -o "$out/callout" -ldl || exit 1
# shellcheck disable=SC2046
plugin keel $($pc --cflags --libs keel) || exit 1
peer libev libev ev.h -lev
peer libevent libevent event2/event.h -levent
peer libuv libuv uv.h -luv
peer dpdk libdpdk rte_timer.h -lrte_timer -lrte_eal
rm -f "$out/tokio.so"
if "${CARGO:-cargo}" build --quiet --release --locked --manifest-path "$here/tokio/Cargo.toml" --target-dir "$out/tokio" > "$out/tokio.log" 2>&1; then
	cp "$out/tokio/release/libtokio_contestant.so" "$out/tokio.so"
else
	echo "tokio: cargo could not build it: $(grep -m 1 . "$out/tokio.log")"
fi
