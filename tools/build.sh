#!/bin/sh
# build.sh BUILD [cargo's options]: the Rust half of the libraries.
# Leaves BUILD/whole.a and BUILD/include/keel/*.h, touched only on a change.
set -eu
# Cargo is not one of make's children, and would complain of its job server.
unset MAKEFLAGS MFLAGS
build=$1
shift
mkdir -p "$build/include/keel"

# Panics name their file: relative to the source tree, wherever that is.
"${CARGO:-cargo}" rustc --release --lib --features c-abi --crate-type staticlib \
	--message-format=json-render-diagnostics "$@" -- --remap-path-prefix="$PWD=." > "$build/cargo.json" 2> "$build/cargo.log" ||
	{ cat "$build/cargo.log" >&2; exit 1; }
if [ "${V:-0}" != 0 ] || grep -q '^warning' "$build/cargo.log"; then cat "$build/cargo.log" >&2; fi

# keel is the only package that is built from a path.
field() { sed -n "s/.*\"package_id\":\"path+file:.*$1.*/\\1/p" "$build/cargo.json" | tail -n 1; }
library=$(field '"\([^"]*\/libkeel\.a\)"')
out_dir=$(field '"out_dir":"\([^"]*\)"')
if [ ! -f "$library" ] || [ ! -d "$out_dir" ]; then
	echo "tools/build.sh: cargo did not say where it left the library" >&2
	exit 1
fi

cmp -s "$library" "$build/whole.a" || cp "$library" "$build/whole.a"
for header in "$out_dir"/keel/*.h; do
	copy=$build/include/keel/${header##*/}
	cmp -s "$header" "$copy" || cp "$header" "$copy"
done
for copy in "$build"/include/keel/*.h; do
	[ -e "$out_dir/keel/${copy##*/}" ] || rm "$copy"
done
