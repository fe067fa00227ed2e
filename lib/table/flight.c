#include "table/flight.h"

#include "table/process.h"

#include <pthread.h>

#define TRIES 64 /* places near its own; more than one only with very many connects at once */

struct tuplebind_flight *flight_begin(struct table *t, uint64_t token)
{
	/* A thread comes back to its own place, which no other thread's cache line holds. */
	uint64_t place = hash_mix((uint64_t)pthread_self() ^ token);

	for (int i = 0; i < TRIES; i++) {
		struct tuplebind_flight *f =
			&t->header->flights[(place + (uint64_t)i) % TUPLEBIND_FLIGHTS];
		uint64_t nobody = 0;

		/* claims.pml: F1 */
		if (atomic_compare_exchange_strong_explicit(
			    &f->owner, &nobody, token, memory_order_acquire, memory_order_relaxed))
			return f;
	}
	return NULL;
}

struct tuplebind_flight *flight_with(struct table *t, uint64_t token, claim c)
{
	struct tuplebind_flight *f = flight_begin(t, token);

	if (f == NULL)
		return NULL;
	/* claims.pml: L2. seq_cst: before the look for an inspection; pairs with flight_has(). */
	atomic_store_explicit(&f->what, c, memory_order_seq_cst);
	/* claims.pml: L2b slabs.pml: G0 */
	if (!claim_inspected(t, c))
		return f;
	flight_end(f);
	return NULL;
}

void flight_end(struct tuplebind_flight *f)
{
	if (f == NULL)
		return;
	/* claims.pml: F2 */
	atomic_store_explicit(&f->what, 0, memory_order_release);
	/* claims.pml: F3 */
	atomic_store_explicit(&f->owner, 0, memory_order_release);
}

/*
 * A dead process's place is freed. What it says stays, and means nothing without an owner: two may
 * be freeing it at once, and a new owner may have written into it already.
 */
static bool in_flight(const struct table *t, struct tuplebind_flight *f)
{
	/* claims.pml: F5 */
	uint64_t owner = atomic_load_explicit(&f->owner, memory_order_acquire);

	if (process_may_live(t, owner))
		return true;
	/* claims.pml: F6 */
	if (owner != 0)
		atomic_compare_exchange_strong_explicit(
			&f->owner, &owner, 0, memory_order_release, memory_order_relaxed);
	return false;
}

bool flight_has(struct table *t, claim c)
{
	uint64_t place = claim_place(c);

	for (unsigned i = 0; i < TUPLEBIND_FLIGHTS; i++) {
		struct tuplebind_flight *f = &t->header->flights[i];

		/* claims.pml: F4 */
		if (claim_place(atomic_load_explicit(&f->what, memory_order_seq_cst)) == place &&
			in_flight(t, f))
			return true;
	}
	return false;
}
