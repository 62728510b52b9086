/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An error that the library commits on the program's behalf: it writes to
 * memory that was freed. AddressSanitizer must say so. */

#include <stdlib.h>

#include <keel/keel.h>

int main(void)
{
	struct keel_pool_stats *volatile gone = malloc(sizeof(*gone));

	if (keel_init(NULL) != 0 || !gone)
		return 0;
	free(gone);
	keel_pool_get_stats(NULL, gone);
	keel_deinit();
	return 0;
}
