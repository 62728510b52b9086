/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A goal's row in a table. */

#ifndef GOALS_H
#define GOALS_H

#include <math.h>
#include <stdio.h>

enum bound { AT_MOST, AT_LEAST };

/* <is> is NAN where it was not measured. */
static inline void want(const char *what, double is, enum bound bound, double goal)
{
	const char *sign = bound == AT_MOST ? "≤" : "≥";

	if (isnan(is))
		printf("| %s | – | %s %.2f | not measured |\n", what, sign, goal);
	else
		printf("| %s | %.2f | %s %.2f | %s |\n", what, is, sign, goal,
		       (bound == AT_MOST ? is <= goal : is >= goal) ? "met" : "missed");
}

#endif
