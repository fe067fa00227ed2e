#include "table/claimbit.h"

#include "table/process.h"

#define CHECK_MASK ((UINT64_C(1) << CLAIM_CHECK_BITS) - 1)

static_assert(1 << CLAIM_BIT_BITS == TUPLEBIND_SLAB_PORTS, "a claim can name every bit of a slab");
static_assert(TABLE_SIZE_MAX / sizeof(struct tuplebind_slab) <= UINT64_C(1) << CLAIM_INDEX_BITS,
	"a claim can name every slab");

static uint64_t check_of(uint64_t tag)
{
	return tag >> 2 & CHECK_MASK;
}

claim claim_make(
	const struct table *t, const struct tuplebind_slab *slab, uint64_t tag, unsigned bit)
{
	uint64_t index = (uint64_t)(slab - t->slabs);

	return CLAIM_VALID | check_of(tag) << (CLAIM_INDEX_BITS + CLAIM_BIT_BITS) |
	       index << CLAIM_BIT_BITS | bit;
}

struct tuplebind_slab *claim_slab(const struct table *t, claim c)
{
	uint64_t index = claim_index(c);

	if (!(c & CLAIM_VALID) || index >= t->slab_count)
		return NULL;
	struct tuplebind_slab *slab = &t->slabs[index];
	/* slabs.pml: G1 */
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);
	/* A slab with a claim in it keeps its tag: another one means that reap was here. */
	return check_of(tag) == (c >> (CLAIM_INDEX_BITS + CLAIM_BIT_BITS) & CHECK_MASK) ? slab
											: NULL;
}

bool claim_is_set(const struct tuplebind_slab *slab, claim c)
{
	/* Acquire pairs with the release of whoever set it: what he has in flight is seen. */
	return atomic_load_explicit(&slab->claims[claim_bit(c) / 64], memory_order_acquire) &
	       claim_mask(c);
}

bool claim_clear(struct table *t, struct tuplebind_slab *slab, claim c)
{
	/* slabs.pml: G3. Release pairs with the acquire of who claims it or takes the slab over. */
	bool was_there = atomic_fetch_and_explicit(&slab->claims[claim_bit(c) / 64], ~claim_mask(c),
				 memory_order_release) &
			 claim_mask(c);
	table_note_cleared(t);
	return was_there;
}

void claim_undo(struct table *t, struct tuplebind_slab *slab, claim c)
{
	/* slabs.pml: G2. An inspector takes it for a claim of what the slab has become. */
	if (claim_inspected(t, c))
		process_strayed(t);
	else
		claim_clear(t, slab, c);
}
