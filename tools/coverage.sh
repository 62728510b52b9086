#!/bin/sh
# coverage.sh BUILD PROGRAM… [--poll PROGRAM…]: which lines of src/ the Rust tests
# and these C programs, built with COVERAGE=1, execute. Leaves BUILD/lcov, from
# which coverage.pl makes the table.
set -u
build=$1
shift
host=$("${CARGO:-cargo}" -vV | sed -n 's/^host: //p')
tools=$("$(dirname "$0")/llvm.sh") || exit 1

rm -rf "$build/raw"
mkdir -p "$build/raw"
# A file for each library or program, which all its processes count in at once.
export LLVM_PROFILE_FILE="$build/raw/%m%c.profraw"
"$(dirname "$0")/programs.sh" "$@" > "$build/c.log" 2>&1 || { grep -v '^100%' "$build/c.log" >&2; exit 1; }

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/coverage"
export RUSTFLAGS='-Cinstrument-coverage -Cllvm-args=-runtime-counter-relocation'
"${CARGO:-cargo}" test --lib --tests --target "$host" > "$build/rust.log" 2>&1 || { tail -n 40 "$build/rust.log" >&2; exit 1; }
objects=$("${CARGO:-cargo}" test --lib --tests --target "$host" --no-run --message-format=json 2> /dev/null |
	sed -n 's/.*"executable":"\([^"]*\)".*/-object \1/p')

"$tools/llvm-profdata" merge -sparse "$build"/raw/*.profraw -o "$build/profile" &&
	"$tools/llvm-cov" export -format=lcov -instr-profile="$build/profile" "$build/libkeel.so" $objects > "$build/lcov"
