/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory that is lost: LeakSanitizer must say so. */

#include <stdlib.h>
#include <string.h>

static char *volatile kept;

int main(void)
{
	kept = malloc(100);
	if (kept)
		memset(kept, 1, 100);
	kept = NULL;
	return 0;
}
