/*
 * The hashes of the lanes that this process has met last.
 *
 * A lane's hash (slab_lane_hash()) takes 200 instructions, as hashes do that nobody can
 * foresee without the key; programs connect to a few destinations again and again. Each place is
 * read and written under a sequence number that is odd while it is written: who finds it odd, or
 * another lane there, hashes. Lock-free, async-signal-safe; all zero is empty.
 */
#pragma once

#include "table/slab.h"

#include <stdalign.h>

#define LANE_HASH_PLACES 64

struct lane_hash_place {
	alignas(64) _Atomic uint64_t sequence;
	_Atomic uint64_t lane[TUPLEBIND_LANE_WORDS];
	_Atomic uint64_t hash;
};
static_assert(sizeof(struct lane_hash_place) == 64, "a place is one cache line");

struct lane_hashes {
	struct lane_hash_place places[LANE_HASH_PLACES];
};

/* slab_lane_hash() of @lane; always of the same table. 30 instructions when it was met lately. */
uint64_t lane_hash_get(
	struct lane_hashes *h, const struct table *t, const struct tuplebind_lane *lane);
