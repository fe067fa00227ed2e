/*
 * The local addresses a connect() is to try, in order.
 *
 * From a pool: all of its addresses that go with the destination, beginning where the
 * balance says. Without a pool, or when the pool has none of the destination's family
 * and reach: the one address that routing would choose, asked of the kernel once a
 * second for each destination. Addresses that could not be bound are set aside for
 * some seconds. Lock-free, takes no memory, async-signal-safe.
 */
#pragma once

#include "base/aside.h"
#include "base/hash.h"
#include "choose/plan.h"

#define SOURCE_ROUTES 1024 /* destinations remembered */

/*
 * A remembered route, read and written under a sequence number that is odd while it is
 * written; who finds it odd does without.
 */
struct source_route {
	_Atomic uint64_t sequence;
	_Atomic uint64_t words[6]; /* faddr, laddr, both scopes, expiry */
	uint64_t unused;
};

/* One per process. */
struct source_memory {
	struct hash_key key;
	_Atomic uint64_t turn; /* where rotate and random go on */
	struct source_route routes[SOURCE_ROUTES];
	struct aside aside; /* addresses that could not be bound */
};

/*
 * Keys the memory and sets where in a pool the process begins: at start, and in a forked child.
 * Programs that make one connection each spread evenly if every one has the next @turn.
 */
void source_start(struct source_memory *m, uint64_t turn);

/* Walks the addresses for one connect(). */
struct source_walk {
	struct source_memory *memory;
	const struct pool *pool;
	struct addr faddr;
	uint64_t count, next, left;
	bool automatic;
};

/* Begins a walk. O(ranges of the pool), no system call. */
void source_walk_start(struct source_walk *w, struct source_memory *m, const struct rule *r,
	enum balance balance, const struct addr *faddr);

/*
 * The next address to try. Returns false when there is none left. Costs a system call
 * or four when a route is to be asked for.
 */
bool source_walk_next(struct source_walk *w, struct addr *laddr);

/* Tells that the address of the last step could not be bound: it is left out for a while. */
void source_walk_failed(struct source_walk *w, const struct addr *laddr);
