#include "table/inspect.h"

#include "base/aside.h"
#include "table/process.h"

/* Another inspection takes 20 us, about what it takes to find out that its process lives. */
#define TRIES 4

/* Who takes longer for one was killed in a pid namespace that we cannot look into, or stopped. */
#define INSPECTOR_SECONDS 10

/* The second in which an inspection began stands where a claim has what its slab's tag ends on. */
#define SECOND_SHIFT (CLAIM_BIT_BITS + CLAIM_INDEX_BITS)
#define SECOND_MASK  ((UINT64_C(1) << CLAIM_CHECK_BITS) - 1)

static struct tuplebind_flight *place_of(struct table *t, claim c)
{
	return &t->header->inspections[claim_inspection(c)];
}

/*
 * Whether the place is somebody's still. Of an owner whom we cannot see it is believed for some
 * seconds only: else one killed in another pid namespace would keep it, and so would bytes that
 * were written over the table.
 */
static bool is_at_work(const struct table *t, struct tuplebind_flight *place, uint64_t owner)
{
	if (owner == 0 || process_token_alive(owner))
		return owner != 0;
	uint64_t what = atomic_load_explicit(&place->what, memory_order_relaxed);
	uint64_t age = (aside_now() - (what >> SECOND_SHIFT)) & SECOND_MASK;

	return age < INSPECTOR_SECONDS && process_may_live(t, owner);
}

/* Steps I1 and I2 of tests/model/claims.pml. */
bool inspect_begin(struct table *t, uint64_t token, claim c)
{
	struct tuplebind_flight *place = place_of(t, c);

	for (int i = 0; i < TRIES; i++) {
		uint64_t owner = atomic_load_explicit(&place->owner, memory_order_relaxed);

		if (is_at_work(t, place, owner))
			continue;
		/* claims.pml: I1. Acquire pairs with the release in inspect_end(). */
		if (atomic_compare_exchange_strong_explicit(&place->owner, &owner, token,
			    memory_order_acquire, memory_order_relaxed)) {
			/* claims.pml: I2. seq_cst: before the look at the flights. Pairs with
			 * claim_inspected(), asked after a flight was announced. */
			atomic_store_explicit(&place->what,
				claim_place(c) | (aside_now() & SECOND_MASK) << SECOND_SHIFT,
				memory_order_seq_cst);
			return true;
		}
	}
	return false;
}

void inspect_end(struct table *t, claim c)
{
	struct tuplebind_flight *place = place_of(t, c);

	/* claims.pml: I8. Release: who sees it ended sees what it did. */
	atomic_store_explicit(&place->what, 0, memory_order_release);
	/* claims.pml: I9 */
	atomic_store_explicit(&place->owner, 0, memory_order_release);
}
