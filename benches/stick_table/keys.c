/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The keys of a table, and which of them are asked for. */

#define _GNU_SOURCE
#include "../measure.h"
#include "driver.h"

uint32_t *keys, *drawn[LAWS][2];

/* Each number has its own. */
static uint32_t key_of(uint32_t i)
{
	i *= 0x9e3779b1;
	i ^= i >> 15;
	return i * 0x85ebca77;
}

static void *allocate(size_t size)
{
	void *p = malloc(size);

	if (!p) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	return p;
}

/* The rank whose part of the sum holds a random point. */
static uint32_t by_zipf(const double *sum, uint32_t n)
{
	double point = (below(1u << 31) + 0.5) / (1u << 31) * sum[n - 1];
	uint32_t low = 0, high = n - 1;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (sum[middle] < point)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void draw_keys(uint32_t n)
{
	double *sum = allocate(n * sizeof(*sum));
	uint32_t *ranked = allocate(n * sizeof(*ranked));

	keys = realloc(keys, n * sizeof(*keys));
	for (uint32_t i = 0; keys && i < n; i++) {
		keys[i] = ranked[i] = key_of(i + 1);
		sum[i] = (i ? sum[i - 1] : 0) + pow(i + 1, -0.99);
	}
	/* who is asked for often has nothing to do with who came first */
	draw(keys, n, n);
	for (int law = 0; law < LAWS; law++)
		for (int thread = 0; thread < 2; thread++) {
			if (!drawn[law][thread])
				drawn[law][thread] = allocate(DRAWN * sizeof(uint32_t));
			for (uint32_t i = 0; i < DRAWN; i++)
				drawn[law][thread][i] = ranked[law == ZIPF ? by_zipf(sum, n) : below(n)];
		}
	free(sum);
	free(ranked);
}
