/*
 * Which ports may be claimed, in the table's order, in up to three stages.
 *
 * Late bind first; where it cannot be had, explicit bind, odd ports before even ones
 * (the kernel's own connect() takes even ports first, and a port under an explicit bind
 * is lost to it). A stage is a set of ports, held as one mask for each of a
 * lane's 128 slabs. Masks are worked out when a slab is first looked at (2 us each,
 * once per process) because working out all at start would delay every program.
 *
 * Safe to use from any thread and from signal handlers. While portorder_set() changes
 * the sets under a reader, the reader may be given a port of the old sets.
 */
#pragma once

#include "base/portset.h"
#include "table/permutation.h"

#include <stdatomic.h>
#include <stdbool.h>

enum stage { STAGE_LATE, STAGE_ODD, STAGE_EVEN, STAGES };

struct portorder {
	const struct permutation *_Atomic permutation;
	_Atomic uint64_t sets[STAGES][1024];
	_Atomic uint16_t before[STAGES][1024]; /* ports of the set in the words before this one */
	_Atomic uint32_t counts[STAGES];
	_Atomic uint32_t version;		      /* of the sets; never 0 once they are set */
	_Atomic uint32_t ready[TUPLEBIND_LANE_SLABS]; /* of which version the masks are */
	_Atomic uint64_t masks[STAGES][TUPLEBIND_LANE_SLABS][TUPLEBIND_SLAB_WORDS];
};

/*
 * Sets the ports: @late for late bind, @explicit_ports for explicit bind. A port in
 * both counts as late. O(1024).
 */
void portorder_set(struct portorder *o, const struct permutation *p, const struct portset *late,
	const struct portset *explicit_ports);

static inline bool portorder_has(const struct portorder *o, enum stage stage)
{
	return atomic_load_explicit(&o->counts[stage], memory_order_relaxed) != 0;
}

/* Which of the ports 64 * @number and behind the stage has, as bits. One load. */
static inline uint64_t portorder_word(const struct portorder *o, enum stage stage, unsigned number)
{
	return atomic_load_explicit(&o->sets[stage][number % 1024], memory_order_relaxed);
}

/*
 * The port of a stage that the random number @random stands for, each about equally often; 0 when
 * the stage has none. About 100 instructions.
 */
uint16_t portorder_random(const struct portorder *o, enum stage stage, uint64_t random);

/* Works out the masks of slab @number; portorder_mask() calls it when it must. */
void portorder_work_out(struct portorder *o, unsigned number);

/* The mask of slab @number: eight words, claimable ports 1. */
static inline const _Atomic uint64_t *portorder_mask(
	struct portorder *o, enum stage stage, unsigned number)
{
	if (atomic_load_explicit(&o->ready[number], memory_order_acquire) !=
		atomic_load_explicit(&o->version, memory_order_relaxed))
		portorder_work_out(o, number);
	return o->masks[stage][number];
}
