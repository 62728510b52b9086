/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tests of pools once more, with the inline fast paths. */

#define KEEL_INLINE
#include "test_pool.c"
