#!/bin/sh
# exports.sh MAP: the names that a version script exports, one a line.
set -eu
sed -e 's|/\*.*\*/||' -e 's/#.*//' "$1" | tr ';{}' '\n\n\n' | sed 's/[[:space:]]//g' |
	awk '/:$/ { global = ($0 == "global:"); next } global && /^[A-Za-z_][A-Za-z_0-9]*$/'
