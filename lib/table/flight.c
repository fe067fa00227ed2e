#include "table/flight.h"

#include "table/process.h"

#include <pthread.h>

#define TRIES 8

struct tuplebind_flight *flight_begin(struct table *t, uint64_t token)
{
	/* A thread comes back to its own place, which no other thread's cache line holds. */
	uint64_t place = hash_mix((uint64_t)pthread_self() ^ token);

	for (int i = 0; i < TRIES; i++) {
		struct tuplebind_flight *f =
			&t->header->flights[(place + (uint64_t)i) % TUPLEBIND_FLIGHTS];
		uint64_t nobody = 0;

		if (atomic_compare_exchange_strong_explicit(
			    &f->owner, &nobody, token, memory_order_acquire, memory_order_relaxed))
			return f;
	}
	return NULL;
}

void flight_end(struct tuplebind_flight *f)
{
	if (f == NULL)
		return;
	atomic_store_explicit(&f->what, 0, memory_order_release);
	atomic_store_explicit(&f->owner, 0, memory_order_release);
}

/*
 * A dead process's place is freed. What it says stays, and means nothing without an owner: two may
 * be freeing it at once, and a new owner may have written into it already.
 */
static bool in_flight(const struct table *t, struct tuplebind_flight *f)
{
	uint64_t owner = atomic_load_explicit(&f->owner, memory_order_acquire);

	if (process_may_live(t, owner))
		return true;
	if (owner != 0)
		atomic_compare_exchange_strong_explicit(
			&f->owner, &owner, 0, memory_order_release, memory_order_relaxed);
	return false;
}

bool flight_has(struct table *t, claim c)
{
	for (unsigned i = 0; i < TUPLEBIND_FLIGHTS; i++) {
		struct tuplebind_flight *f = &t->header->flights[i];

		if (atomic_load_explicit(&f->what, memory_order_seq_cst) == c && in_flight(t, f))
			return true;
	}
	return false;
}
