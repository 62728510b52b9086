#!/bin/sh
# pkgconfig.sh: a program built with pkg-config's words alone runs, against the
# shared library and against the static one, and the version is one version.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

check() {
	name=$1
	shift
	if "$@" > "$work/out" 2>&1; then
		echo "ok $name"
	else
		cat "$work/out"
		echo "not ok $name"
		result=1
	fi
}

cat > "$work/t.c" << 'EOF'
#include <keel/keel.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char version[32];

    snprintf(version, sizeof(version), "%d.%d.%d", KEEL_VERSION_MAJOR, KEEL_VERSION_MINOR, KEEL_VERSION_PATCH);
    printf("header %s, library %s, package %s\n", version, keel_version(), argv[1]);
    return argc != 2 || strcmp(version, argv[1]) || strcmp(keel_version(), argv[1]);
}
EOF

flags() { ${PKG_CONFIG:-pkg-config} "$@" keel; }

check 'pkg-config knows the version' test "$(flags --modversion)" = "$VERSION"
# shellcheck disable=SC2046
check 'links with libkeel.so' ${CC:-cc} $(flags --cflags) "$work/t.c" -o "$work/shared" $(flags --libs)
check 'header, library and package have one version' "$work/shared" "$VERSION"
check 'the shared program needs libkeel.so' sh -c "readelf -d $work/shared | grep -q 'NEEDED.*libkeel.so'"
# shellcheck disable=SC2046
check 'links statically' ${CC:-cc} -static $(flags --cflags) "$work/t.c" -o "$work/static" $(flags --static --libs)
check 'the static program runs' "$work/static" "$VERSION"
exit $result
