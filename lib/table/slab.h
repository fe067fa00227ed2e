/*
 * Slabs: finding, making and recycling them, without locks.
 *
 * The table is one array of slabs, open-addressed: a slab is looked for from its
 * home on, at most SLAB_WINDOW slabs far, up to the first that is FREE. A FREE slab
 * never becomes FREE again, so whoever looks for a slab and whoever makes it walk the
 * same way.
 *
 * Who uses a slab sets a bit in it, then looks whether the tag still is the one
 * found (table/claim.c). Who wants to turn an unused slab into another takes it over first:
 *
 *   1. owner: 0 -> own process id. Only so that two do not try at once, and so
 *      that reap can tell whose work was left undone.
 *   2. every word of claims: 0 -> all ones, word by word. A claim set before makes
 *      this fail, and all is put back; a claim tried after finds its bit taken. So once
 *      all words are ours nobody has, and nobody gets, a claim here.
 *   3. lane and number, then tag: old -> fingerprint | generation + 1 | TENTATIVE.
 *   4. claims: all ones -> 0, but for the bit of the first claim of whoever makes the slab;
 *      owner -> 0. So the slab cannot be taken from him before he has made a claim. (He had that
 *      claim in flight before step 3.)
 *
 * Two processes may propose the same slab at two places at once. A TENTATIVE slab is
 * not claimed in until somebody, its maker or anybody who meets it, has settled it:
 *
 *   5. Look through the whole window, and again, until one look that began after a
 *      tentative slab was seen finds no other of its fingerprint. Then TENTATIVE ->
 *      LIVE. If others are found, a LIVE one wins, else the first on the way; the
 *      rest go TENTATIVE -> DEAD.
 *
 * Of two makers the one whose tag came later sees the earlier one in its look, so both
 * cannot be settled. All steps are single atomic operations that fail if the world
 * moved on, and whoever dies between two of them leaves a slab that another process
 * settles, or (steps 1 to 4) one slab that is out of use until reap restores it.
 * tests/model/slabs.pml has the same steps as S1 to S5, for all ways they can meet, and they are
 * named where the code takes them.
 */
#pragma once

#include "base/addr.h"
#include "table/claimbit.h"

#define SLAB_WINDOW 512

/* What is looked for: one slab of one lane, with the lane's hash taken once. */
struct slab_key {
	uint64_t fingerprint; /* in its place in the tag, other bits 0 */
	uint64_t home;	      /* index where looking begins */
};

/*
 * The lane from @laddr to @faddr and @fport of a socket that is bound to interface @device, 0: to
 * none.
 */
struct tuplebind_lane slab_lane(uint8_t protocol, const struct addr *laddr,
	const struct addr *faddr, uint16_t fport, uint32_t device);

/* The hash that stands for a lane in this table. */
uint64_t slab_lane_hash(const struct table *t, const struct tuplebind_lane *lane);

/* Slabs next to each other in number are so in memory, eight by eight: a lane is walked faster. */
#define SLAB_GROUP 8

/* Where the slabs of a group have their homes, one behind the other. */
static inline uint64_t slab_group_home(const struct table *t, uint64_t lane_hash, unsigned group)
{
	/* An odd constant: the multiplier of a linear congruential generator. */
	uint64_t place = hash_mix(lane_hash ^ (group + 1) * UINT64_C(0xd1342543de82ef95));

	return (uint64_t)((unsigned __int128)place * t->slab_count >> 64);
}

/* The key of slab @number (0..127) of the lane, when the home of its group is known. */
static inline struct slab_key slab_key_in_group(
	uint64_t lane_hash, unsigned number, uint64_t group_home)
{
	/* An odd constant: 2^64 over the golden ratio (Knuth, TAOCP 6.4). */
	uint64_t fingerprint = hash_mix(lane_hash + number * UINT64_C(0x9e3779b97f4a7c15));

	return (struct slab_key){
		.fingerprint = fingerprint & TUPLEBIND_TAG_FINGERPRINT,
		.home = group_home + number % SLAB_GROUP,
	};
}

/* Derives the key of slab @number of the lane. */
static inline struct slab_key slab_key(const struct table *t, uint64_t lane_hash, unsigned number)
{
	return slab_key_in_group(
		lane_hash, number, slab_group_home(t, lane_hash, number / SLAB_GROUP));
}

static inline unsigned slab_state(uint64_t tag)
{
	return tag & TUPLEBIND_SLAB_STATE_MASK;
}

static inline bool slab_is(uint64_t tag, struct slab_key key)
{
	return (tag & TUPLEBIND_TAG_FINGERPRINT) == key.fingerprint;
}

/* The slab @step steps from home. */
static inline struct tuplebind_slab *slab_at(
	const struct table *t, struct slab_key key, unsigned step)
{
	uint64_t index = key.home + step;

	while (index >= t->slab_count)
		index -= t->slab_count;
	return &t->slabs[index];
}

static inline unsigned slab_window(const struct table *t)
{
	return t->slab_count < SLAB_WINDOW ? (unsigned)t->slab_count : SLAB_WINDOW;
}

/*
 * The LIVE slab of @key, its tag in *tag, or NULL. Usually one or two cache
 * lines are read, at most SLAB_WINDOW.
 */
static inline struct tuplebind_slab *slab_find(
	const struct table *t, struct slab_key key, uint64_t *tag)
{
	for (unsigned step = 0, end = slab_window(t); step < end; step++) {
		struct tuplebind_slab *slab = slab_at(t, key, step);
		/* slabs.pml: C0. Pairs with its settling: claims are as that left them. */
		uint64_t seen = atomic_load_explicit(&slab->tag, memory_order_acquire);

		if (seen == TUPLEBIND_SLAB_FREE)
			return NULL;
		if (slab_is(seen, key) && slab_state(seen) == TUPLEBIND_SLAB_LIVE) {
			*tag = seen;
			return slab;
		}
	}
	return NULL;
}

/* The claim that a slab is made with: else others could take the slab again before it is made. */
struct slab_first {
	unsigned bit;
	_Atomic uint64_t *flight; /* where to announce it; NULL: nowhere */
	claim claim;		  /* of the slab returned, if that was made here, else CLAIM_NONE */
};

/*
 * Makes the slab of @key after slab_find() found none, or finds that another process
 * has. NULL: no slab within the window could be had (the table is full there).
 */
struct tuplebind_slab *slab_obtain(struct table *t, const struct tuplebind_lane *lane,
	struct slab_key key, unsigned number, struct slab_first *first, uint64_t *tag);

/*
 * Reads a LIVE slab's lane and number, for readers of the whole table. False when the
 * slab is not LIVE, or changed meanwhile.
 */
bool slab_read(const struct tuplebind_slab *slab, struct tuplebind_lane *lane, unsigned *number);
