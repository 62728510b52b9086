#!/bin/sh
# uninstall.sh: what `make install` puts somewhere, `make uninstall` removes.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=0

# The outer make's variables are not this one's.
unset MAKEFLAGS MAKELEVEL MFLAGS
for target in install uninstall; do
	if ! make -s $target DESTDIR="$work" PREFIX=/opt/keel > "$work.log" 2>&1; then
		cat "$work.log"
		echo "not ok make $target"
		result=1
	fi
	case $target in
	install) count=$(find "$work" -type f | wc -l) ;;
	uninstall) count=$(find "$work" -type f -o -type l | wc -l) ;;
	esac
	if [ $target = install ] && [ "$count" -ge 4 ] && grep -qx 'prefix=/opt/keel' "$work/opt/keel/lib/pkgconfig/keel.pc"; then
		echo 'ok make install fills DESTDIR'
	elif [ $target = uninstall ] && [ "$count" -eq 0 ]; then
		echo 'ok make uninstall empties it again'
	else
		find "$work"
		echo "not ok make $target"
		result=1
	fi
done
rm -f "$work.log"
exit $result
