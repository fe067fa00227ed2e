/*
 * What could not be used, is left out for some seconds and then tried again, and what the
 * log has told of it.
 *
 * Things are hashes (base/aside.h: a short memory, good for hints). An outage is told when it
 * begins and when it is over, not each time it is met again. Lock-free, async-signal-safe, O(1);
 * all zero is empty.
 */
#pragma once

#include "base/aside.h"

#define OUTAGE_SECONDS 5

struct outages {
	struct aside aside, told;
	_Atomic uint64_t aside_until,
		told_until;	/* the second in which the last one is forgotten */
	_Atomic uint64_t lines; /* the minute, and how many were told in it */
};

/* Leaves @hash out for OUTAGE_SECONDS. */
void outage_put(struct outages *o, uint64_t hash);

/* True when something is left out at all, which costs no hash to know. */
bool outage_any(const struct outages *o);

bool outage_has(const struct outages *o, uint64_t hash);

/* True when the log should tell of the outage of @hash: it is new, and there were not too many
 * lines. */
bool outage_begins(struct outages *o, uint64_t hash);

/* True when some outage was told of that may be over now. */
bool outage_any_told(const struct outages *o);

/* It is over. True when the log should tell. */
bool outage_ends(struct outages *o, uint64_t hash);
