#include "table/lanehash.h"

#include <string.h>

/* Quick, and known to everybody: who makes lanes meet here has them hashed in full, no more. */
static unsigned place_of(const uint64_t lane[static TUPLEBIND_LANE_WORDS])
{
	/* The lower halves of the addresses, and the rest. An odd constant: 2^64 over the golden
	 * ratio. */
	uint64_t mixed = (lane[1] + 3 * lane[3] + lane[4]) * UINT64_C(0x9e3779b97f4a7c15);

	return (unsigned)(mixed >> 32) % LANE_HASH_PLACES;
}

uint64_t lane_hash_get(
	struct lane_hashes *h, const struct table *t, const struct tuplebind_lane *lane)
{
	uint64_t words[TUPLEBIND_LANE_WORDS], different = 0;

	memcpy(words, lane, sizeof words);
	struct lane_hash_place *place = &h->places[place_of(words)];
	/* Acquire pairs with the release at the end of writing. */
	uint64_t sequence = atomic_load_explicit(&place->sequence, memory_order_acquire);
#pragma GCC unroll 5
	for (unsigned w = 0; w < TUPLEBIND_LANE_WORDS; w++)
		different |= words[w] ^ atomic_load_explicit(&place->lane[w], memory_order_relaxed);
	uint64_t hash = atomic_load_explicit(&place->hash, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (different == 0 && sequence != 0 && sequence % 2 == 0 &&
		atomic_load_explicit(&place->sequence, memory_order_relaxed) == sequence)
		return hash;

	hash = slab_lane_hash(t, lane);
	if (sequence % 2 != 0 ||
		!atomic_compare_exchange_strong_explicit(&place->sequence, &sequence, sequence + 1,
			memory_order_acquire, memory_order_relaxed))
		return hash;
	atomic_thread_fence(memory_order_release);
	for (unsigned w = 0; w < TUPLEBIND_LANE_WORDS; w++)
		atomic_store_explicit(&place->lane[w], words[w], memory_order_relaxed);
	atomic_store_explicit(&place->hash, hash, memory_order_relaxed);
	atomic_store_explicit(&place->sequence, sequence + 2, memory_order_release);
	return hash;
}
