/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The crimes once more, with the inline fast paths: they hide none (INV-22). */

#define _GNU_SOURCE
#define KEEL_INLINE
#include "test_pool.c"
