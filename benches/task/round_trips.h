/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Counts round trips in slices of a millisecond or more. The median slice
 * counts: others may take a processor away for a while. The beginning does not:
 * processors that were idle are slow. */

#ifndef ROUND_TRIPS_H
#define ROUND_TRIPS_H

#include <pthread.h>

#include "../measure.h"

#define MAX_SLICES 4096
#define WARM_UP_NS 50000000ull

static struct {
	uint64_t begin, warm, end;
	int trips, slices;
	double rates[MAX_SLICES]; /* thousands a second */
} trips;

static inline void start_trips(int ms)
{
	trips.begin = now_ns();
	trips.warm = trips.begin + WARM_UP_NS;
	trips.end = trips.warm + (uint64_t)ms * 1000000;
	trips.trips = trips.slices = 0;
}

/* After each round trip. False: time is up. */
static inline bool another_trip(void)
{
	uint64_t now;

	if (++trips.trips % 16)
		return true;
	now = now_ns();
	if (now - trips.begin < 1000000)
		return true;
	if (trips.begin > trips.warm)
		trips.rates[trips.slices++] = trips.trips * 1e6 / (double)(now - trips.begin);
	trips.begin = now;
	trips.trips = 0;
	return now < trips.end && trips.slices < MAX_SLICES;
}

static inline double median_trips(void)
{
	qsort(trips.rates, (size_t)trips.slices, sizeof(double), by_value);
	return trips.slices ? trips.rates[trips.slices / 2] : 0;
}

/* <other> on a thread of its own, on the second core; <own> here. */
static inline bool in_both(const int cores[2], void *(*other)(void *), void (*own)(void))
{
	pthread_t thread;

	pin_to(cores[1]);
	if (pthread_create(&thread, NULL, other, NULL) != 0)
		return false;
	pin_to(cores[0]);
	own();
	return pthread_join(thread, NULL) == 0;
}

#endif
