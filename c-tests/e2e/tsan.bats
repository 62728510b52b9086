#!/usr/bin/env bats
# SPDX-License-Identifier: MIT OR Apache-2.0
# For a BUILD that was made with ThreadSanitizer.

@test "the proxy under ThreadSanitizer serves 50,000 requests without a report" {
	PROXY="$BUILD/proxy" REQUESTS=50000 OPTIONS="--threads 4" run "$BATS_TEST_DIRNAME/sanitized.sh"
	echo "$output"
	[ "$status" -eq 0 ]
}
