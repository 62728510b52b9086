# Sourced by the build.sh of a benchmark whose contestants are plugins, with the
# directory for them as its first argument. keel's flags come from pkg-config,
# the others' from where Debian has them.
# shellcheck shell=sh disable=SC2034
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

# rust_peer NAME LIBRARY: the crate in NAME/.
rust_peer() {
	rm -f "$out/$1.so"
	if "${CARGO:-cargo}" build --quiet --release --locked --manifest-path "$here/$1/Cargo.toml" --target-dir "$out/$1" > "$out/$1.log" 2>&1; then
		cp "$out/$1/release/lib$2.so" "$out/$1.so"
	else
		echo "$1: cargo could not build it: $(grep -m 1 . "$out/$1.log")"
	fi
}
