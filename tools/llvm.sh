#!/bin/sh
# llvm.sh: the folder of llvm-cov and llvm-profdata that can read what this rustc's
# programs count: the toolchain's own (rustup's llvm-tools), or Debian's of the
# same version. `llvm.sh version` says which that is.
rustc=${RUSTC:-rustc}
version=$("$rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
if [ "${1:-}" = version ]; then
	echo "$version"
	exit
fi
host=$("$rustc" -vV | sed -n 's/^host: //p')
for folder in "$("$rustc" --print sysroot)/lib/rustlib/$host/bin" "/usr/lib/llvm-$version/bin"; do
	if [ -x "$folder/llvm-cov" ] && [ -x "$folder/llvm-profdata" ]; then
		echo "$folder"
		exit
	fi
done
exit 1
