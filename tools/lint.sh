#!/bin/sh
# lint.sh [--rules] [DIR]: formatting, clippy, and the rules of the house that
# no compiler knows. --rules: those alone. One TAP line a rule.
set -u
rules_only=
if [ "${1:-}" = --rules ]; then rules_only=yes; shift; fi
cd "${1:-.}" || exit 1
cargo=${CARGO:-cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# rule NAME ADVICE: standard input lists what breaks the rule.
rule() {
	if grep . > "$work/wrong"; then
		sed 's/^/    /' "$work/wrong"
		echo "not ok $1: $2"
		# A variable would be lost: pipes run this in a subshell.
		: > "$work/failed"
	else
		echo "ok $1"
	fi
}

# What a command has to say, where it fails.
complaint() {
	"$@" > "$work/out" 2>&1 || { cat "$work/out"; echo "$* failed"; }
}

if [ -z "$rules_only" ]; then
	complaint "$cargo" fmt --check | rule fmt "run 'cargo fmt'"
	complaint "$cargo" clippy --quiet --all-targets -- -D warnings | rule clippy 'see above'
	complaint "$cargo" clippy --quiet --release --lib --features c-abi -- -D warnings | rule clippy-c-abi 'see above'
fi

# The shipped code of src/, as file:line:text: no comments, no test modules
# (which close their file).
find src -name '*.rs' ! -name tests.rs | sort | while read -r file; do
	awk -v file="$file" '
		/^#\[cfg\((all\(|any\()?test[,)]/ { exit }
		/^[ \t]*\/\// { next }
		{ sub(/[ \t]\/\/ .*/, ""); print file ":" FNR ":" $0 }' "$file"
done > "$work/code"

# What libc calls back, as a thread's entry, is no export: src/sys/ may have it.
{
	grep -E 'no_mangle|export_name' "$work/code" | grep -v '^src/abi/'
	grep -E 'extern "C" fn +[A-Za-z_]' "$work/code" | grep -vE '^src/(abi|sys)/'
} | rule exports-in-abi 'extern "C" functions belong in src/abi/, callbacks for libc in src/sys/'
grep -E 'extern( "C")? *\{' "$work/code" | grep -v '^src/sys/' |
	rule imports-in-sys 'C functions are imported in src/sys/ alone'
grep -E '\blibc::|\buse libc\b' "$work/code" | grep -v '^src/sys/' |
	grep -vE '^src/abi/.*\blibc::([A-Z]+|[a-z_0-9]+_t)\b' |
	rule libc-in-sys 'libc is called in src/sys/ alone; src/abi/ may name its types'
grep -E '\b(core|std)::sync\b|\b(loom|shuttle)::' "$work/code" | grep -v '^src/sync/' |
	rule atomics-in-sync "take crate::sync's"
grep -E '\b(std|alloc)::' "$work/code" | grep -vE '^src/sync/' |
	rule no-std 'the library is no_std, and its memory comes from crate::sys::memory'

# Chains of conditions with let came with Rust 1.88, and no lint of 1.85's knows.
{
	cat "$work/code"
	[ ! -d tests ] || grep -n '' tests/*.rs
} | awk '
	{ text = $0; sub(/^[^:]*:[0-9]*:/, "", text) }
	text ~ /&& let / || (open && text ~ /^[ \t]*&& /)
	{ open = text ~ /(if|while) let / && text !~ /[{;]$/ }' |
	rule let-chains 'Cargo.toml promises Rust 1.85: no let among other conditions'

# Which module may name which: arrows go one way.
may_use() {
	case $1 in
	sys | sync) echo 'sync sys' ;;
	wheel) echo 'wheel sync sys' ;;
	pool | fd | callout) echo "$1 wheel sync sys" ;;
	task) echo 'task pool wheel sync sys' ;;
	stick_table) echo 'stick_table task pool wheel sync sys' ;;
	runtime) echo 'runtime callout stick_table fd task pool wheel sync sys' ;;
	abi) echo 'abi runtime callout stick_table fd task pool wheel sync sys' ;;
	*) echo "$1" ;;
	esac
}
for module in $(find src -mindepth 1 -maxdepth 1 | sed -e 's|src/||' -e 's|\.rs$||' | grep -vx lib | sort); do
	allowed=" $(may_use "$module") "
	# One line a file, so that `use crate::{…}` of several lines is seen whole.
	for file in $(find "src/$module" "src/$module.rs" -name '*.rs' 2> /dev/null); do
		grep "^$file:" "$work/code" | cut -d: -f3- | tr '\n' ' ' | perl -ne '
			while (/\bcrate::(?:(\w+)|(\{(?:[^{}]|(?2))*\}))/g) {
				if (defined $1) { print "$1\n"; next }
				(my $list = substr $2, 1, -1) =~ s/(\{(?:[^{}]|(?1))*\})//g;
				print "$1\n" while $list =~ /(?:^|,)\s*(\w+)/g;
			}' | sort -u | while read -r used; do
			case $allowed in
			*" $used "*) ;;
			*) [ -e "src/$used" ] || [ -e "src/$used.rs" ] && echo "$file uses crate::$used" ;;
			esac
		done
	done
done | rule arrows 'abi -> runtime -> engines -> wheel, sync, sys; task uses pool, no other engine another'

# Every exported function says who may call it.
find src/abi -name '*.rs' | sort | xargs perl -ne '
	if (m{^\s*///(.*)}) { $doc .= $1 }
	elsif (/^\s*#\[/) { $exported = 1 if /no_mangle/ }
	else {
		if ($exported && /\bfn\s+(\w+)/) {
			print "$ARGV:$.: $1\n" unless $doc =~
				/\*(any thread|registered threads|owner thread only|before keel_run\(\) only|async-signal-safe)\*/
		}
		$doc = ""; $exported = 0;
	}
	close ARGV if eof' |
	rule thread-rule 'an export says *any thread*, *registered threads*, *owner thread only*, *before keel_run() only* or *async-signal-safe*'

sources=$(find src tests benches build.rs examples c-tests -type f \( -name '*.rs' -o -name '*.[ch]' -o -name '*.bats' \) 2> /dev/null)
# shellcheck disable=SC2086
grep -nE '\b(todo|unimplemented)!|#\[ignore|\b(TODO|FIXME|XXX)\b' $sources |
	rule nothing-unfinished 'finish it, or leave it out and say so'

# A workflow is a way to call make, in a step or as a matrix' target.
if [ -d .github/workflows ]; then
	targets=" $(sed -n 's/^\([a-z0-9-]*\):.*## .*/\1/p' Makefile | tr '\n' ' ')"
	for file in .github/workflows/*.yml; do
		awk '
			/^ *target:$/ { list = 1; next }
			list && /^ *- / { print $2; next }
			{ list = 0 }
			/^ *- run: make / { for (i = 4; i <= NF; i++) if ($i !~ /=|\$|\{|\}|matrix/) print $i }' "$file" |
			while read -r target; do
				case $targets in
				*" $target "*) ;;
				*) echo "$file: make $target" ;;
				esac
			done
	done
fi | rule workflows 'the Makefile has no such target'

# This pattern must not find itself.
find . -type f ! -path './.git/*' ! -path './target/*' ! -path './build/*' ! -name .git ! -name Cargo.lock -print0 |
	xargs -0 grep -InE '(^|[^[:alnum:]_.])/([h]ome|[r]oot|[w]ork)/|/tmp/[t]arget' |
	rule no-machine-paths 'the tree knows no place but itself'

[ ! -e "$work/failed" ]
