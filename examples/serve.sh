#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# `make serve`: leaves the proxy running in the foreground, and says how to try it. BUILD and ORIGIN as in run.sh;
# LISTEN and ADMIN choose the addresses (default: free ports on the loopback).
set -u
. "$(dirname "$0")/lib.sh"

start_origin
start_proxy --listen "${LISTEN:-127.0.0.1:0}" ${ADMIN:+--admin "$ADMIN"}
cat <<END
The proxy forwards $proxy to $origin. Try:

    curl -i http://$proxy/
    curl telnet://$admin      and type: help

Ctrl-C stops it softly, twice at once.
END
trap 'kill -TERM "$proxy_pid" 2>/dev/null' INT TERM
tail -n +1 -f "$logs/proxy" --pid="$proxy_pid" &
while kill -0 "$proxy_pid" 2>/dev/null; do
	wait "$proxy_pid"
	status=$?
done
proxy_pid=''
exit "${status:-0}"
