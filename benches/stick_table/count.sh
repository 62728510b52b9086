#!/bin/sh
# count.sh DIR: instructions per operation with 10 000 entries.
exec "$(dirname "$0")/../count.sh" "$1/stick_table" 'lookup hit create expire' \
	keel 'liburcu lfht' 'mutex + uthash' moka papaya dashmap
