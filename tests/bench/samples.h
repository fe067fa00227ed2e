/*
 * Samples: how long each of many things took, and what that comes to.
 *
 * They may lie in memory that processes share: whoever measures adds, whoever reports sorts. What
 * comes after the last place is counted, but not kept.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>

#define SAMPLES_MOST (1 << 18)

struct samples {
	uint64_t count, failed, sum_ns, max_ns;
	uint32_t ns[SAMPLES_MOST];
};

static inline void samples_clear(struct samples *s)
{
	s->count = s->failed = s->sum_ns = s->max_ns = 0;
}

static inline void samples_add(struct samples *s, long took)
{
	uint64_t ns = (uint64_t)took;

	if (s->count < SAMPLES_MOST)
		s->ns[s->count] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
	s->count++;
	s->sum_ns += ns;
	if (ns > s->max_ns)
		s->max_ns = ns;
}

static inline int samples_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Sorts: what samples_quantile() needs. */
static inline void samples_sort(struct samples *s)
{
	qsort(s->ns, s->count < SAMPLES_MOST ? s->count : SAMPLES_MOST, sizeof *s->ns,
		samples_compare);
}

/* @share 0.5: the median. 0 when there is none. */
static inline uint32_t samples_quantile(const struct samples *s, double share)
{
	uint64_t kept = s->count < SAMPLES_MOST ? s->count : SAMPLES_MOST;

	return kept == 0 ? 0 : s->ns[(uint64_t)((double)(kept - 1) * share)];
}

/* Adds what @from has kept. */
static inline void samples_merge(struct samples *to, const struct samples *from)
{
	for (uint64_t i = 0; i < from->count && i < SAMPLES_MOST; i++)
		if (to->count + i < SAMPLES_MOST)
			to->ns[to->count + i] = from->ns[i];
	to->count += from->count;
	to->failed += from->failed;
	to->sum_ns += from->sum_ns;
	if (from->max_ns > to->max_ns)
		to->max_ns = from->max_ns;
}
