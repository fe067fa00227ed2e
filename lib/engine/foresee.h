/*
 * Both ends of a tuple are what the kernel makes of a call, not what it was given: programs of
 * control groups (cgroup/connect4, connect6) send a service's address to one of its backends, and
 * without a pool routing chooses the source, by what only the socket knows. So what a call came to
 * is looked at, and foreseen for the next one.
 */
#pragma once

#include "engine/attempt.h"

/* Sets the foreign end to where the destination was sent lately. */
void foresee(struct attempt *a);

/*
 * Whether it is time to ask where a call came to, or will: once a second for each destination, and
 * each time while some destination was sent elsewhere lately.
 */
bool foresee_is_peer_due(const struct attempt *a);

/* The call came to @peer and @fport: they become the foreign end. False: they are already. */
bool foresee_note_peer(struct attempt *a, const struct addr *peer, uint16_t fport);

/*
 * The same of the source: whether the kernel lately chose another one than was foreseen (equal-cost
 * routes, rules by port or protocol).
 */
bool foresee_source_varies(const struct attempt *a);
void foresee_note_source(const struct attempt *a, const struct addr *source);

/* The destination as a hash, for a short memory. */
uint64_t foresee_hash(const struct attempt *a);
