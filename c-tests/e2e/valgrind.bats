#!/usr/bin/env bats
# SPDX-License-Identifier: MIT OR Apache-2.0

@test "the proxy under valgrind serves 500 requests without a leak or an error" {
	PROXY="valgrind -q --fair-sched=yes --leak-check=full --show-leak-kinds=all --errors-for-leak-kinds=all --error-exitcode=99 $BUILD/proxy" \
		REQUESTS=500 run "$BATS_TEST_DIRNAME/sanitized.sh"
	echo "$output"
	[ "$status" -eq 0 ]
}
