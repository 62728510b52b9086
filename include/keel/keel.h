/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All of keel. Each of these headers also stands alone. */
#ifndef KEEL_KEEL_H
#define KEEL_KEEL_H

#include <keel/callout.h>
#include <keel/fd.h>
#include <keel/freq_ctr.h>
#include <keel/pool.h>
#include <keel/runtime.h>
#include <keel/stick_table.h>
#include <keel/task.h>
#include <keel/ticks.h>

#endif /* KEEL_KEEL_H */
