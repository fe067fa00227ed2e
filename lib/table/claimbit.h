/*
 * The bits of claims: which one of which slab a claim is, and how it is cleared.
 *
 * Below both slabs, which are made with a claim in them, and the taking and giving back of claims
 * (table/claim.h).
 */
#pragma once

#include "table/table.h"

/*
 * A claim in one word: where its bit is and what its slab's tag ends on, so that
 * giving back a claim whose slab has gone to another lane does nothing. 0: none.
 */
typedef uint64_t claim;

#define CLAIM_NONE UINT64_C(0)

/*
 * Bits of a claim, from the lowest: 9 of position in the slab, 30 of slab index, 24 of
 * the tag above its state (8 of generation, 16 of fingerprint), 1 to make it not 0.
 */
#define CLAIM_BIT_BITS	 9
#define CLAIM_INDEX_BITS 30
#define CLAIM_CHECK_BITS 24
#define CLAIM_VALID	 (UINT64_C(1) << 63)

/*
 * The bit that a claim is about, whatever the slab's tag: what all claims have in common that set
 * or clear this bit.
 */
static inline uint64_t claim_place(claim c)
{
	return c & (CLAIM_VALID | ((UINT64_C(1) << (CLAIM_BIT_BITS + CLAIM_INDEX_BITS)) - 1));
}

/* Which of the header's inspections is that of a claim (table/inspect.h). */
static inline unsigned claim_inspection(claim c)
{
	return (unsigned)((c ^ c >> CLAIM_BIT_BITS) % TUPLEBIND_INSPECTIONS);
}

/*
 * Whether somebody inspects the claim, or another one of its bit. To be asked after a flight with
 * it was announced: if not, no inspection begun later will take it away.
 */
static inline bool claim_inspected(const struct table *t, claim c)
{
	/* seq_cst: after the announcement; pairs with inspect_begin(). */
	return claim_place(atomic_load_explicit(&t->header->inspections[claim_inspection(c)].what,
		       memory_order_seq_cst)) == claim_place(c);
}

/* Where in its slab the bit is, of TUPLEBIND_SLAB_PORTS. */
static inline unsigned claim_bit(claim c)
{
	return c & (TUPLEBIND_SLAB_PORTS - 1);
}

/* The index of its slab; may be larger than the table. */
static inline uint64_t claim_index(claim c)
{
	return c >> CLAIM_BIT_BITS & ((UINT64_C(1) << CLAIM_INDEX_BITS) - 1);
}

/* The bit in its word of the slab, which is word claim_bit() / 64. */
static inline uint64_t claim_mask(claim c)
{
	return UINT64_C(1) << (claim_bit(c) % 64);
}

/* The claim that bit @bit of a slab with this tag stands for, whether set or not. */
claim claim_make(
	const struct table *t, const struct tuplebind_slab *slab, uint64_t tag, unsigned bit);

/* The slab of a claim, or NULL when it has another tag by now. */
struct tuplebind_slab *claim_slab(const struct table *t, claim c);

/* Whether the claim's bit is set; whose, the slab's tag says. */
bool claim_is_set(const struct tuplebind_slab *slab, claim c);

/* Clears the bit of a claim that stands for no port: no count changes. False: it was not set. */
bool claim_clear(struct table *t, struct tuplebind_slab *slab, claim c);

/*
 * Clears the bit that the caller, who has @c in flight, has set in a slab that came to be another
 * one: unless the claim that others take it for is being inspected.
 */
void claim_undo(struct table *t, struct tuplebind_slab *slab, claim c);
