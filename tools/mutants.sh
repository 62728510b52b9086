#!/bin/sh
# mutants.sh [ID…]: puts known bugs back, one at a time, in a copy of the tree,
# and sees the test turn red that is there to catch each.
# tests/mutants/ID.patch says in its first line what it puts back, in a line
# "Caught-by: PROGRAM::TEST" which test that is (PROGRAM: in tests/, or lib), and
# is a unified diff from there on.
set -u
cargo=${CARGO:-cargo}
# Its own: cargo takes this tree and its copy for the same.
target=${CARGO_TARGET_DIR:-target}/mutants
case $target in /*) ;; *) target=$PWD/$target ;; esac
tree=build/mutants/tree
log=build/mutants/log
# Seconds; a mutant may wait for ever.
limit=${LIMIT:-120}
[ $# -gt 0 ] || set -- $(cd tests/mutants && ls -- *.patch | sed 's/\.patch$//')

# What did not change keeps its date, for cargo to know.
mkdir -p $tree $log
files=$(find src tests build.rs cbindgen.toml Cargo.toml Cargo.lock -type f ! -path 'tests/mutants/*')
(cd $tree && find . -type f) | sed 's|^\./||' | while read -r file; do
	[ -e "$file" ] || rm "$tree/$file"
done
for file in $files; do
	cmp -s "$file" "$tree/$file" && continue
	mkdir -p "$tree/$(dirname "$file")"
	cp "$file" "$tree/$file"
done

# cargo_test TEST ARGUMENT…: runs cargo for the program that TEST is in.
cargo_test() {
	program=${1%%::*}
	shift
	(
		cd $tree || exit
		CARGO_TARGET_DIR=$target
		case $program in
		loom_*)
			CARGO_TARGET_DIR=$target/loom
			export RUSTFLAGS='--cfg loom'
			set -- --profile model --test "$program" "$@"
			;;
		lib) set -- --lib "$@" ;;
		*) set -- --test "$program" "$@" ;;
		esac
		export CARGO_TARGET_DIR RUST_BACKTRACE=0
		exec timeout "$limit" "$cargo" test --quiet "$@"
	)
}
# Its name has to be there: nothing else would fail either.
passes() { cargo_test "$1" -- --exact "${1#*::}" > $log/out 2>&1 && grep -q '^test result: ok. 1 passed' $log/out; }
catcher() { sed -n 's/^Caught-by: *//p' "tests/mutants/$1.patch"; }

result=0
say() {
	printf '%-12s %-16s %s\n' "$1" "$2" "$3"
	case $2 in caught) ;; *) result=1 ;; esac
}

for id; do
	catcher "$id"
done | sort -u > $log/tests
while read -r test; do
	passes "$test" || { echo "$test: red without any mutant"; cat $log/out; exit 1; }
done < $log/tests

for id; do
	patch=tests/mutants/$id.patch
	test=$(catcher "$id")
	what=$(head -n 1 "$patch")
	if ! patch -s -f -p1 -d $tree < "$patch" > $log/"$id" 2>&1; then
		say "$id" 'does not apply' "$what"
	elif ! cargo_test "$test" --no-run > $log/"$id" 2>&1; then
		say "$id" 'does not build' "$what"
	elif passes "$test"; then
		say "$id" 'NOT CAUGHT' "$what ($test)"
	else
		cp $log/out $log/"$id"
		say "$id" caught "$what"
	fi
	sed -n 's|^+++ b/||p' "$patch" | while read -r file; do
		rm -f "$tree/$file.rej" "$tree/$file.orig"
		cp "$file" "$tree/$file"
	done
done
exit $result
