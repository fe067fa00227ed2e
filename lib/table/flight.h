/*
 * Connects under way, so that reap can tell a claim that the kernel does not know yet from
 * one that it knows no more.
 *
 * A process may be stopped anywhere between setting a claim's bit and the moment the
 * kernel has the tuple. So it says in shared memory first in which lane it is going to
 * claim, then which claim it got, until connect() has returned. Reap leaves alone what
 * a living process has in flight. There are 4,096 places; who finds none free near its own
 * goes without (its claim may be reaped early, which costs somebody a retry).
 */
#pragma once

#include "table/claim.h"

/* Takes a place for a claim to come in a lane. @token: process_token() of this process. */
struct tuplebind_flight *flight_begin(struct table *t, uint64_t token, uint64_t lane_hash);

/* Says which claim it is, or (CLAIM_NONE) that another one of the lane is about to be made. */
void flight_carry(struct tuplebind_flight *f, uint64_t lane_hash, claim c);

/* The kernel has the tuple, or the claim was given back. */
void flight_end(struct tuplebind_flight *f);

/*
 * True when a living process has @c in flight, or a claim to come in its lane. O(places),
 * 5 us. Places of dead processes are cleared on the way.
 */
bool flight_has(struct table *t, uint64_t lane_hash, claim c);
