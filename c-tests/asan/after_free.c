/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A callout that is freed and then armed: the library writes to it on the
 * program's behalf, and AddressSanitizer must say so. */

#include <stdlib.h>

#include <keel/keel.h>

static void handler(void *arg)
{
	(void)arg;
}

int main(void)
{
	struct callout *volatile c = malloc(sizeof(*c));

	if (keel_init(NULL) != 0 || !c)
		return 0;
	callout_init(c, CALLOUT_MPSAFE);
	free(c);
	callout_reset(c, 1, handler, NULL);
	return 0;
}
