#!/bin/sh
# cross.sh ARCH…: builds keel for other processors, and runs its C suite there under
# qemu. Compilers, foreign libraries and emulators are those of a Debian 13 of their own
# below build/cross, since rustup has no part in this and Debian's Rust has a standard
# library for each of its processors. An ARCH is one of Debian's: arm64, riscv64
# (the library is for 64 bits: its layouts are asserted, and elsewhere it does not compile).
set -eu
here=$PWD
tree=$here/build/cross/debian
mkdir -p build/cross
tools/deps.sh cross

fail() {
	echo "check-cross: $1" >&2
	exit 1
}

if [ "$(id -u)" -eq 0 ]; then
	root=
elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
	root='sudo -n'
else
	fail 'needs root (or sudo without a password) for a Debian tree of its own'
fi

# What an architecture is called by rustc, by gcc, by qemu.
name() {
	case $1 in
	arm64) triple=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu qemu=qemu-aarch64 ;;
	riscv64) triple=riscv64gc-unknown-linux-gnu gcc=riscv64-linux-gnu qemu=qemu-riscv64 ;;
	*) fail "not one that it knows: $1" ;;
	esac
}

# In the tree, with this system's /proc and /dev for as long as the command takes.
inside() {
	# shellcheck disable=SC2016
	$root unshare --mount sh -c '
		tree=$1
		shift
		mount --rbind /proc "$tree/proc" && mount --rbind /dev "$tree/dev" &&
			exec chroot "$tree" env -i LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
	' sh "$tree" "$@"
}

logged() {
	"$@" > build/cross/log 2>&1 || {
		tail -n 30 build/cross/log >&2
		fail "failed: $* (build/cross/log has all of it)"
	}
}

# Packages of some architectures' own.
packages() {
	for arch; do
		name "$arch"
		echo "gcc-$gcc libc6-dev:$arch libstd-rust-dev:$arch check:$arch"
	done
}

# --- the tree ---

if [ ! -e "$tree/keel-base" ]; then
	echo '  making a Debian 13 below build/cross'
	$root rm -rf "$tree"
	# From where this system has its packages, if it is a Debian.
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SITE)' 'Created-By: Packages' 2> /dev/null |
		sed -n 's/^Debian Debian //p' | head -n 1)
	# shellcheck disable=SC2086
	logged $root debootstrap --variant=minbase trixie "$tree" $mirror
	# No part of what is tested: documentation, and care for a power cut.
	printf 'force-unsafe-io\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n' |
		$root tee "$tree/etc/dpkg/dpkg.cfg.d/keel" > /dev/null
	echo 'APT::Install-Recommends "false";' | $root tee "$tree/etc/apt/apt.conf.d/keel" > /dev/null
	$root touch "$tree/keel-base"
fi

wanted="make gcc libc6-dev pkg-config perl-base cargo rustc qemu-user $(packages "$@" | tr '\n' ' ')"
if [ "$(cat "$tree/keel-packages" 2> /dev/null)" != "$wanted" ]; then
	echo "  installing compilers for $*"
	for arch; do inside dpkg --add-architecture "$arch"; done
	logged inside apt-get update -q
	# shellcheck disable=SC2086
	logged inside apt-get install -y -q $wanted
	echo "$wanted" | $root tee "$tree/keel-packages" > /dev/null
fi

# --- the sources ---

# The crates as this system's cargo gets them; the tree needs no registry.
logged "${CARGO:-cargo}" vendor --locked --versioned-dirs build/cross/vendor
$root mkdir -p "$tree/keel"
$root find "$tree/keel" -mindepth 1 -maxdepth 1 ! -name build ! -name target -exec rm -rf {} +
tar -cf - --exclude=./build --exclude=./target --exclude=./.git --exclude=./fuzz/target . | $root tar -xf - -C "$tree/keel" --no-same-owner
tar -cf - -C build/cross vendor | $root tar -xf - -C "$tree/keel" --no-same-owner
{
	printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n'
	for arch; do
		name "$arch"
		printf '[target.%s]\nlinker = "%s-gcc"\n' "$triple" "$gcc"
	done
} > build/cross/config.toml
$root mkdir -p "$tree/keel/.cargo"
$root cp build/cross/config.toml "$tree/keel/.cargo/config.toml"

# --- the suites ---

result=0
for arch; do
	name "$arch"
	# No library of another architecture suits, and qemu does what the kernel would.
	inside CK_TIMEOUT_MULTIPLIER=20 make -C /keel --no-print-directory check-c BUILD="build/$arch" RUST_ARGS="--target $triple" \
		CC="$gcc-gcc" AR="$gcc-ar" LD="$gcc-ld" OBJCOPY="$gcc-objcopy" \
		PKG_CONFIG="env PKG_CONFIG_LIBDIR=/usr/lib/$gcc/pkgconfig:/usr/share/pkgconfig pkg-config" \
		RUNNER="$qemu" SUITE="check-cross-$arch" V="${V:-0}" || result=1
	[ ! -e "$tree/keel/build/log/check-cross-$arch" ] || sed -n 's/^ok \(.*\)_fn # skip /    left out: \1: /p' "$tree/keel/build/log/check-cross-$arch" | sort -u
done
exit $result
