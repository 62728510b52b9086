/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The engines from C++, one file each; this one runs them. */
#include "keel.hh"

bool failed;

int main(int, char **argv)
{
	const struct {
		const char *name;
		void (*run)();
	} tests[] = {
		{ "pools", pools },         { "tasks", tasks },         { "descriptors", descriptors },
		{ "tables", tables },       { "callouts", callouts },   { "compat/haproxy.h", haproxy },
		{ "compat/freebsd.h", freebsd },
	};
	bool any = false;

	for (const auto &test : tests) {
		failed = false;
		test.run();
		std::printf("%s %s: %s\n", failed ? "not ok" : "ok", test.name, argv[0]);
		any = any || failed;
	}
	return any;
}
