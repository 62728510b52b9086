#!/bin/sh
# deps.sh run|check|bench|fuzz|cross|soak|coverage: sees that the programs which `make run`, `make check`,
# `make bench` and so on need are there. Installs Debian's packages where it may,
# else says which. What is only wanted, a benchmark's peer for instance, may lack.
set -u
wants=
case ${1:-} in
run) needs='gcc make cargo pkg-config wrk curl' ;;
check)
	needs='gcc g++ make cargo rustfmt clippy pkg-config wrk curl perl check libuv bats nginx valgrind'
	wants='abidiff'
	;;
bench)
	needs='gcc make cargo pkg-config'
	wants='libev libevent libuv libdpdk liburcu uthash jemalloc mimalloc tcmalloc strace'
	;;
fuzz) needs='gcc g++ make cargo pkg-config' ;;
cross) needs='cargo debootstrap debian-archive-keyring' ;;
soak) needs='gcc make cargo pkg-config curl perl nginx' ;;
coverage) needs='gcc make cargo pkg-config perl check libuv llvm' ;;
*)
	echo "usage: deps.sh run|check|bench|fuzz|cross|soak|coverage" >&2
	exit 2
	;;
esac

# Daemons live where a user's PATH may not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
is_there() {
	case $1 in
	cargo) command -v "${CARGO:-cargo}" ;;
	check | libevent | libuv | libdpdk | liburcu) ${PKG_CONFIG:-pkg-config} --exists "$1" ;;
	libev) echo '#include <ev.h>' | ${CC:-cc} -E -x c - ;;
	debian-archive-keyring) [ -e /usr/share/keyrings/$1.gpg ] ;;
	uthash) echo '#include <uthash.h>' | ${CC:-cc} -E -x c - ;;
	rustfmt) "${CARGO:-cargo}" fmt --version ;;
	clippy) "${CARGO:-cargo}" clippy --version ;;
	llvm) "$(dirname "$0")/llvm.sh" ;;
	jemalloc) shared libjemalloc.so.2 ;;
	mimalloc) shared libmimalloc.so.2 || shared libmimalloc.so.3 ;;
	tcmalloc) shared libtcmalloc_minimal.so.4 ;;
	*) command -v "$1" ;;
	esac > /dev/null 2>&1
}
# One that LD_PRELOAD finds: else the loader complains.
shared() { [ -z "$(LD_PRELOAD=$1 env 2>&1 > /dev/null)" ]; }
# The first of these that apt knows.
first_of() {
	for name; do
		if apt-cache show "$name" > /dev/null 2>&1; then break; fi
	done
	echo "$name"
}
package() {
	case $1 in
	nginx) echo nginx-light ;;
	gcc) echo 'gcc libc6-dev' ;;
	clippy) echo rust-clippy ;;
	abidiff) echo abigail-tools ;;
	libuv) echo libuv1-dev ;;
	llvm) echo "llvm-$("$(dirname "$0")/llvm.sh" version)" ;;
	jemalloc) echo libjemalloc2 ;;
	mimalloc) first_of libmimalloc3 libmimalloc2.0 ;;
	tcmalloc) first_of libtcmalloc-minimal4t64 libtcmalloc-minimal4 ;;
	libev | libevent | libdpdk | liburcu | uthash) echo "$1-dev" ;;
	*) echo "$1" ;;
	esac
}

# An old cargo cannot read this edition; Debian 12's is 0.66.

cargo_advice='keel needs cargo 1.85 or newer: install the stable Rust toolchain (rustup, or a distribution that has it), put its cargo first in PATH, and run this again'
recent() {
	echo "$1" | sed 's/^[^0-9]*//' | awk -F. '
		{ exit !($1 > 1 || ($1 == 1 && $2 + 0 >= 85)) }'
}
cargo_is_recent() { recent "$("${CARGO:-cargo}" --version 2> /dev/null)"; }

missing() {
	for need in $needs $wants; do is_there "$need" || echo "$need"; done
}

lacking=$(missing)
if [ -n "$lacking" ]; then
	if [ "$(id -u)" -eq 0 ]; then
		sudo=
	elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
		sudo='sudo -n'
	else
		sudo=no
	fi
	command -v apt-get > /dev/null || sudo=no
	if [ "$sudo" != no ]; then $sudo apt-get update -qq > /dev/null 2>&1; fi

	# No use installing a cargo that is too old.
	old_cargo=
	if ! is_there cargo && ! recent "$(apt-cache policy cargo 2> /dev/null | sed -n 's/.*Candidate: //p')"; then
		old_cargo=yes
	fi
	packages=$(for need in $lacking; do [ "$need$old_cargo" = cargoyes ] || package "$need"; done | tr '\n' ' ')
	if [ "$sudo" = no ] || [ -n "$old_cargo" ]; then
		if [ -n "$packages" ]; then echo "lacking $(echo $lacking): as root, apt-get install $packages" >&2; fi
		if [ -n "$old_cargo" ]; then echo "$cargo_advice" >&2; fi
	else
		echo "installing $packages"
		# nginx and others are only wanted as programs: start no service.
		# shellcheck disable=SC2086
		if ! log=$($sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $packages 2>&1); then
			echo "$log" | tail -n 20 >&2
		fi
		lacking=$(missing)
		if [ -n "$lacking" ]; then echo "still lacking after apt-get: $(echo $lacking)" >&2; fi
	fi
	for need in $needs; do is_there "$need" || exit 1; done
fi

if ! cargo_is_recent; then
	echo "cargo is $("${CARGO:-cargo}" --version 2> /dev/null). $cargo_advice" >&2
	exit 1
fi

# No distribution's package; `cargo install` writes to the user's home, which is asked first.
if [ "$1" = fuzz ] && ! "${CARGO:-cargo}" fuzz --version > /dev/null 2>&1; then
	echo "lacking cargo-fuzz: cargo install cargo-fuzz (and its bin directory in PATH)" >&2
	exit 1
fi
