/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is said about sizes holds on every processor, of 32 bits too. */
#include <keel/keel.h>

#define HOLDS(name, what) struct name { int holds[(what) ? 1 : -1]; }

HOLDS(callout_size, sizeof(struct callout) == 128);
HOLDS(freq_ctr_size, sizeof(struct freq_ctr) == 12);
HOLDS(fdtab_alignment, sizeof(struct fdtab) % 64 == 0);
HOLDS(data_alignment, __alignof__(union stktable_data) == 4);
HOLDS(data_size, sizeof(union stktable_data) == 12);

int main(void)
{
    return 0;
}
