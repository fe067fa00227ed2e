#include "base/aside.h"

#include <time.h>

uint64_t aside_now(void)
{
	struct timespec now;

	/* The coarse clock's tick, some milliseconds, is precise enough for seconds. */
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec;
}

void aside_put(struct aside *a, uint64_t hash, unsigned seconds)
{
	atomic_store_explicit(&a->places[hash % ASIDE_PLACES],
		(hash >> 32) << 32 | (uint32_t)(aside_now() + seconds), memory_order_relaxed);
}

bool aside_has(const struct aside *a, uint64_t hash)
{
	uint64_t place =
		atomic_load_explicit(&a->places[hash % ASIDE_PLACES], memory_order_relaxed);

	return place >> 32 == hash >> 32 && aside_now() < (uint32_t)place;
}
