/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What stands between two calls that are not to overlap. */

#ifndef FINISH_H
#define FINISH_H

/* Waits until all earlier loads are done, as other work between two calls
 * would have it. */
static inline void finish(void)
{
#ifdef __x86_64__
	__asm__ volatile("lfence" : : : "memory");
#else
	__sync_synchronize();
#endif
}

#endif
