#include "table/inspect.h"

#include "table/process.h"

/* Another inspection takes 20 us, about what it takes to find out that its process lives. */
#define TRIES 4

static struct tuplebind_flight *place_of(struct table *t, claim c)
{
	return &t->header->inspections[claim_inspection(c)];
}

/* Steps I1 and I2 of tests/model/claims.pml. */
bool inspect_begin(struct table *t, uint64_t token, claim c)
{
	struct tuplebind_flight *place = place_of(t, c);

	for (int i = 0; i < TRIES; i++) {
		uint64_t owner = atomic_load_explicit(&place->owner, memory_order_relaxed);

		if (owner != 0 && process_may_live(t, owner))
			continue;
		/* claims.pml: I1. Acquire pairs with the release in inspect_end(). */
		if (atomic_compare_exchange_strong_explicit(&place->owner, &owner, token,
			    memory_order_acquire, memory_order_relaxed)) {
			/* claims.pml: I2. seq_cst: before the look at the flights. Pairs with
			 * claim_inspected(), asked after a flight was announced. */
			atomic_store_explicit(&place->what, claim_place(c), memory_order_seq_cst);
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
