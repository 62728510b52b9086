/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All of keel. Each of these headers also stands alone. */
#ifndef KEEL_KEEL_H
#define KEEL_KEEL_H

#include <keel/ticks.h>

#endif /* KEEL_KEEL_H */
