#!/bin/sh
# lint-test.sh: plants one breach of each rule in a copy of the tree, and sees
# that rule, and no other, fire.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$(cd "$(dirname "$0")" && pwd)
result=0

# breach RULE FILE TEXT
breach() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	cp -r src build.rs Makefile "$work/tree/"
	mkdir -p "$work/tree/$(dirname "$2")"
	printf '%b\n' "$3" > "$work/tree/$2"
	fired=$("$tools/lint.sh" --rules "$work/tree" | sed -n 's/^not ok \([a-z-]*\):.*/\1/p' | tr '\n' ' ')
	if [ "$fired" = "$1 " ]; then
		echo "ok lint sees: $1 ($2)"
	else
		echo "not ok lint sees: $1 ($2): fired '$fired'"
		result=1
	fi
}

# harmless FILE TEXT
harmless() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	cp -r src build.rs Makefile "$work/tree/"
	mkdir -p "$work/tree/$(dirname "$1")"
	printf '%b\n' "$2" > "$work/tree/$1"
	if "$tools/lint.sh" --rules "$work/tree" > "$work/out"; then
		echo "ok lint lets pass: $2"
	else
		cat "$work/out"
		echo "not ok lint lets pass: $2"
		result=1
	fi
}

breach exports-in-abi src/pool/x.rs 'pub extern "C" fn f() {}'
breach exports-in-abi src/fd/x.rs '#[unsafe(no_mangle)]\npub static A: u32 = 0;'
breach exports-in-abi src/sys/x.rs '#[unsafe(no_mangle)]\nextern "C" fn f() {}'
breach imports-in-sys src/pool/x.rs 'unsafe extern "C" {'
breach libc-in-sys src/task/x.rs 'use libc::c_int;'
breach libc-in-sys src/abi/x.rs 'fn f() { libc::close(0); }'
breach let-chains src/pool/bad.rs 'fn f(a: Option<u8>) {\n    if let Some(b) = a\n        && b > 0\n    {}\n}'
breach atomics-in-sync src/wheel/x.rs 'use core::sync::atomic::AtomicU32;'
breach atomics-in-sync src/wheel/x.rs 'use loom::cell::Cell;'
breach atomics-in-sync src/wheel/x.rs 'use shuttle::thread;'
breach no-std src/wheel/x.rs 'use std::vec::Vec;'
breach arrows src/pool/x.rs 'use crate::task::Task;'
breach arrows src/fd/x.rs 'use crate::{\n    sync::{Mutex, Inbox},\n    pool::Pool,\n};'
breach arrows src/wheel/x.rs 'use crate::runtime::Runtime;'
breach arrows src/sys/x.rs 'use crate::pool::Pool;'
breach arrows src/runtime/x.rs 'use crate::abi::pool;'
breach thread-rule src/abi/x.rs '/// Says nothing.\n#[unsafe(no_mangle)]\npub unsafe extern "C" fn f() {}'
breach thread-rule src/abi/x.rs '/// Any thread, but not in the fixed words.\n#[unsafe(no_mangle)]\n#[inline(never)]\npub unsafe extern "C" fn f() {}'
breach nothing-unfinished src/pool/x.rs "fn f() { to""do!() }"
breach nothing-unfinished tests/x.rs "#[ign""ore]"
breach workflows .github/workflows/x.yml 'jobs:\n  a:\n    steps:\n      - run: make chekc'
breach workflows .github/workflows/x.yml '        target:\n          - lint\n          - soaked HOURS=1'
breach no-machine-paths docs/x.md 'See /ho''me/me/keel.'

harmless src/sys/x.rs 'extern "C" fn entry(arg: *mut c_void) -> *mut c_void {'
harmless src/pool/x.rs 'type F = unsafe extern "C" fn(fd: i32);'
harmless src/pool/x.rs '/// Unlike libc::malloc, or crate::task.'
harmless src/abi/x.rs 'pub fn f(_: *mut libc::FILE, _: libc::pid_t) {}'
harmless src/abi/x.rs '/// Opens it.\n///\n/// *any thread*\n#[unsafe(no_mangle)]\npub unsafe extern "C" fn f() {}'
harmless src/task/x.rs 'use crate::{pool::Pool, sync::{atomic, Mutex}};'
harmless .github/workflows/x.yml '      - run: make check V=1'
harmless src/fd/x.rs '#[cfg(test)]\nmod tests {\n    use std::vec::Vec;\n    extern "C" fn f() {}\n}'
exit $result
