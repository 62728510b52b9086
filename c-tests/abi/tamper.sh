#!/bin/sh
# tamper.sh: changes a copy of what is installed in one way each, and sees tools/abi.sh say so,
# by the records that have to differ and no others.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$STAGE
export STAGE="$work/stage"
lib=$STAGE/usr/lib/libkeel.so.$VERSION
result=0
types=
if [ "$(uname -m)" = x86_64 ] && command -v abidw > /dev/null; then types=' 1.0.abi'; fi

fresh() {
	rm -rf "$STAGE"
	cp -r "$stage" "$STAGE"
}

# change FILE WHAT INTO: one line of a header
change() {
	header=$STAGE/usr/include/keel/$1
	sed "s/$2/$3/" "$header" > "$work/changed"
	if cmp -s "$header" "$work/changed"; then echo "# $1 has no line like $2"; fi
	cp "$work/changed" "$header"
}

# linked SED: the library with another map
linked() {
	sed "$1" keel.map > "$work/map"
	${CC:-cc} -shared -o "$lib" -Wl,--whole-archive "$STAGE/usr/lib/libkeel.a" -Wl,--no-whole-archive \
		-Wl,--version-script="$work/map" -Wl,-soname,"libkeel.so.${VERSION%%.*}"
}

# differ WHAT RECORD…: they do after what was done to the copy
differ() {
	what=$1
	shift
	tools/abi.sh check abi > "$work/out" 2>&1
	fired=$(sed -n 's|^not ok abi/\([^:]*\):.*|\1|p' "$work/out" | tr '\n' ' ')
	if [ "$fired" = "$*${*:+ }" ]; then
		echo "ok seen: $what ($*)"
	else
		cat "$work/out"
		echo "not ok seen: $what: '$fired' instead of '$*'"
		result=1
	fi
}

fresh
differ nothing

fresh
change runtime.h 'unsigned int maxsock;' 'unsigned long maxsock;'
differ 'a larger field' sizes.txt $types

fresh
change pool.h 'unsigned int minavail;' 'unsigned int needed;'
differ 'a field of another name' sizes.txt

fresh
change fd.h 'void (\*iocb)(int fd);' 'int (*iocb)(int fd);'
differ 'a field of another type' $types

fresh
change task.h '^void task_wakeup(' 'int task_wakeup('
differ 'another result' symbols.txt $types

fresh
change stick_table.h 'int type, const char \*sa, const char \*sa2' 'long type, const char *sa, const char *sa2'
differ 'another argument' symbols.txt $types

fresh
change task.h 'TASK_WOKEN_IO 0x00000400' 'TASK_WOKEN_IO 0x00000800'
differ 'another value of a constant' constants.txt

fresh
linked '/ task_kill;/d'
differ 'a function that is gone' symbols.txt $types

fresh
linked 's/KEEL_1.0 {/KEEL_1.1 {/'
differ 'another version' symbols.txt
exit $result
