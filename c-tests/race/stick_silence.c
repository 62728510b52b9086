/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* STK-1, STK-2, STK-4: the expiry task is at work on a crowd when one more
 * entry is created, the last one for a while. It has to leave, though nobody
 * touches the table any more. Round after round, at another moment each.
 * SHOWS: INV-97, INV-98, STK-1, STK-2, STK-4 */

#include "stick.h"

#define CROWD   400
#define SECONDS 3

int main(void)
{
	unsigned int rounds = 0;
	uint64_t end;

	servers_start();
	watchdog();
	table_start(200000, 1);
	end = keel_now_ns() + SECONDS * 1000000000ull;
	while (keel_now_ns() < end) {
		unsigned int crowd = 1 + dice(CROWD), before;

		for (unsigned int i = 0; i < crowd; i++)
			stktable_release(&table, stktable_get_entry(&table, NUM(i)));
		/* now it begins */
		before = keel_stktable_current(&table);
		while (before && keel_stktable_current(&table) == before)
			;
		spin(dice(40));
		stktable_release(&table, stktable_get_entry(&table, NUM(0xffff0000u + rounds)));
		empties(5000);
		rounds++;
		atomic_fetch_add(&progress, 1);
	}
	stktable_deinit(&table);
	servers_stop();
	printf("ok silence: %u rounds\n", rounds);
	return 0;
}
