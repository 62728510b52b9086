#!/bin/sh
# mutants.sh [ID…]: puts known bugs back, one at a time, in copies of the tree,
# and sees the test turn red that is there to catch each. Prints a table; JOBS
# (2) says how many copies work at a time.
# tests/mutants/ID.patch says in its first line what it puts back, in a line
# "Caught-by: PROGRAM::TEST" which test that is, and is a unified diff from its
# first "---" on. PROGRAM is in tests/, or lib, or c-tests/DIR/NAME; of a C program
# without named tests, PROGRAM alone.
set -u
worker=
if [ "${1:-}" = --worker ]; then worker=$2; shift 2; fi
[ $# -gt 0 ] || set -- $(cd tests/mutants && ls -- *.patch | sed 's/\.patch$//')
catcher() { sed -n 's/^Caught-by: *//p' "tests/mutants/$1.patch"; }

if [ -z "$worker" ]; then
	jobs=${JOBS:-2}
	[ $# -ge "$jobs" ] || jobs=$#
	mkdir -p build/mutants
	rm -f build/mutants/result.*
	# By program: what was built for one mutant serves the next one.
	for id; do echo "$(catcher "$id") $id"; done | sort > build/mutants/order
	total=$(wc -l < build/mutants/order)
	n=1
	while [ $n -le "$jobs" ]; do
		ids=$(awk -v n=$n -v jobs="$jobs" -v total="$total" \
			'NR > total * (n - 1) / jobs && NR <= total * n / jobs { print $NF }' build/mutants/order)
		# shellcheck disable=SC2086
		"$0" --worker $n $ids | tee build/mutants/result.$n &
		n=$((n + 1))
	done
	wait
	cat build/mutants/result.* | awk -v total="$total" '
		$2 == "caught" { caught++ }
		END { printf "%d mutants, %d caught\n", total, caught; exit caught != total }'
	exit
fi

cargo=${CARGO:-cargo}
# Its own: cargo takes this tree and its copy for the same.
target=${CARGO_TARGET_DIR:-target}/mutants$worker
case $target in /*) ;; *) target=$PWD/$target ;; esac
tree=build/mutants/tree$worker
log=build/mutants/log$worker
# Seconds; a mutant may wait for ever.
limit=${LIMIT:-120}

# What did not change keeps its date, for cargo and make to know.
mkdir -p $tree $log
files=$(git ls-files --cached --others --exclude-standard -- . ':!tests/mutants' ':!docs')
(cd $tree && find . -type f ! -path './build/*') | sed 's|^\./||' | while read -r file; do
	[ -e "$file" ] || rm "$tree/$file"
done
for file in $files; do
	cmp -s "$file" "$tree/$file" && continue
	mkdir -p "$tree/$(dirname "$file")"
	cp -p "$file" "$tree/$file"
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
		# A build ends by itself.
		case " $* " in *' --no-run '*) limit=0 ;; esac
		exec timeout "$limit" "$cargo" test --quiet "$@"
	)
}

# Without its tests' names: the output of a C program lists them all.
c_test() {
	CK_VERBOSITY=verbose LD_LIBRARY_PATH=$tree/build/stage/usr/lib timeout "$limit" "$tree/build/${1%%::*}"
}

build_test() {
	case $1 in
	c-tests/*) make -C $tree --no-print-directory CARGO_TARGET_DIR="$target" "build/${1%%::*}" ;;
	*) cargo_test "$1" --no-run ;;
	esac > $log/out 2>&1
}
# A test's name has to be there: nothing else would fail either. And where it
# passes in a program that dies, another one has failed.
passes() {
	case $1 in
	c-tests/*::*)
		c_test "$1" > $log/out 2>&1
		grep -aq ":P:[^:]*:${1#*::}:" $log/out
		;;
	c-tests/*) c_test "$1" > $log/out 2>&1 ;;
	*) cargo_test "$1" -- --exact "${1#*::}" > $log/out 2>&1 && grep -q '^test result: ok. 1 passed' $log/out ;;
	esac
}

say() { printf '%-14s %-16s %s\n' "$1" "$2" "$3"; }

# All tests pass without any mutant: each program is asked once for all of its own.
for id; do catcher "$id"; done | sort -u > $log/tests
red() { echo "$1: red without any mutant"; cat $log/out; exit 1; }
sed 's/::.*//' $log/tests | sort -u > $log/programs
while read -r program; do
	tests=$(sed -n "s|^$program\(::\(.*\)\)*\$|\2|p" $log/tests)
	build_test "$program" || red "$program"
	case $program in
	c-tests/*)
		passes "$program" || red "$program"
		for test in $tests; do grep -aq ":P:[^:]*:$test:" $log/out || red "$program::$test"; done
		;;
	*)
		n=$(echo "$tests" | wc -l)
		# shellcheck disable=SC2086
		cargo_test "$program" -- --exact $tests > $log/out 2>&1 && grep -q "^test result: ok. $n passed" $log/out || red "$program"
		;;
	esac
done < $log/programs

for id; do
	patch=tests/mutants/$id.patch
	test=$(catcher "$id")
	what=$(head -n 1 "$patch")
	if ! patch -s -f -p1 -d $tree < "$patch" > $log/"$id" 2>&1; then
		say "$id" 'does not apply' "$what"
	elif ! build_test "$test"; then
		cp $log/out $log/"$id"
		say "$id" 'does not build' "$what"
	elif passes "$test"; then
		say "$id" 'NOT CAUGHT' "$what ($test)"
	else
		cp $log/out $log/"$id"
		say "$id" caught "$what ($test)"
	fi
	sed -n 's|^+++ b/||p' "$patch" | while read -r file; do
		rm -f "$tree/$file.rej" "$tree/$file.orig"
		cp "$file" "$tree/$file"
	done
done
