/*
 * Connects under way, so that reap can tell a claim that the kernel does not know yet from
 * one that it knows no more.
 *
 * A process may be stopped anywhere between setting a claim's bit and the moment the
 * kernel has the tuple. So it writes into shared memory which claim it is about to make, before
 * it makes it, and takes that away when connect() has returned. Reap leaves alone what
 * a living process has in flight. There are 4,096 places; who finds none of the 64 next to its own
 * free goes without (its claim may be reaped early, which costs somebody a retry). Steps F1 to F6
 * of tests/model/claims.pml.
 */
#pragma once

#include "table/claim.h"

/* Takes a place. @token: process_token() of this process. NULL: none was free. */
struct tuplebind_flight *flight_begin(struct table *t, uint64_t token);

/*
 * Takes a place with a claim that the caller has already and is about to give back. NULL: none was
 * free, or somebody inspects the claim; then it is for reap_claim() to give it back.
 */
struct tuplebind_flight *flight_with(struct table *t, uint64_t token, claim c);

/* Where claim_take_announced() is to write; NULL without a place. */
static inline _Atomic uint64_t *flight_what(struct tuplebind_flight *f)
{
	return f != NULL ? &f->what : NULL;
}

/* The kernel has the tuple, or the claim was given back. @f may be NULL. */
void flight_end(struct tuplebind_flight *f);

/*
 * True when a living process has @c, or another claim of the same bit, in flight. O(places), 4 us.
 * Places of dead processes are freed on the way.
 */
bool flight_has(struct table *t, claim c);
