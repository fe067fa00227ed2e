/*
 * The local addresses a connect() is to try, in order.
 *
 * From a pool: all of its addresses that go with the destination, beginning where the
 * balance says. Without a pool, or when the pool has none of the destination's family
 * and reach: the one address that routing would choose, asked of the kernel once a
 * second for each destination.
 *
 * An address that could not be bound is set aside for some seconds, one from which a destination
 * could not be reached for that destination; the log says so when it begins and when it is over.
 * Lock-free, takes no memory, async-signal-safe.
 */
#pragma once

#include "base/hash.h"
#include "choose/outage.h"
#include "choose/plan.h"

#define SOURCE_ROUTES 1024 /* destinations remembered */
#define SOURCE_TURNS  1024 /* the same, for rotate */
#define SOURCE_PEERS  256  /* destinations that are sent elsewhere */

/* Addresses that cannot reach a destination: after so many it is the destination, not they. */
#define SOURCE_MISSES_MOST 64

/*
 * A remembered route, read and written under a sequence number that is odd while it is
 * written; who finds it odd does without.
 */
struct source_route {
	_Atomic uint64_t sequence;
	_Atomic uint64_t words[7]; /* faddr, laddr, both scopes, expiry, protocol and port */
};

/* One per process. */
struct source_memory {
	struct hash_key key;
	_Atomic uint64_t first_turn;	      /* where in a pool the process began */
	_Atomic uint64_t turn;		      /* steps of rotate and random so far */
	_Atomic uint64_t turns[SOURCE_TURNS]; /* of a destination: upper half of its hash, turn */
	struct source_route routes[SOURCE_ROUTES];
	struct source_route peers[SOURCE_PEERS]; /* scopes: ports */
	_Atomic uint64_t peers_until;		 /* the second in which the last one is forgotten */
	struct outages outages; /* of addresses, of pairs with a destination, of large parts */
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
	enum balance balance;
	struct addr faddr;
	uint8_t protocol;
	uint16_t fport;
	uint64_t count, next, left;
	unsigned passed;	 /* parts that were passed over as a whole */
	struct pool_place place; /* of the last step */
	bool freebind;		 /* its address is on no interface, but known to be this host's */
	bool automatic;
};

/*
 * Begins a walk for a connection of @protocol to @faddr and @fport. O(parts of the pool), with
 * balance hash O(addresses) up to 1,024 of them; no system call, but once a second for each
 * interface of the pool.
 */
void source_walk_start(struct source_walk *w, struct source_memory *m, const struct rule *r,
	enum balance balance, const struct addr *faddr, uint8_t protocol, uint16_t fport);

/*
 * The next address to try. Returns false when there is none left. Costs a system call
 * or four when a route is to be asked for.
 */
bool source_walk_next(struct source_walk *w, struct addr *laddr);

/*
 * Tells that the kernel has chosen @laddr for a socket to @faddr, where another address was
 * foreseen: it knows more of the socket than can be asked about. Foreseen for a second.
 */
void source_learn(struct source_memory *m, const struct addr *faddr, uint8_t protocol,
	uint16_t fport, const struct addr *laddr);

/*
 * Tells that connect() to @asked and @asked_port came to @peer and @fport instead; whether that was
 * so of any destination in the last minute; and of this one (false: it was not, or is forgotten),
 * *several: to other peers as well. The pointers may be the same. O(1).
 */
void source_learn_peer(struct source_memory *m, const struct addr *asked, uint16_t asked_port,
	const struct addr *peer, uint16_t fport);
bool source_knows_peers(const struct source_memory *m);
bool source_peer(struct source_memory *m, const struct addr *asked, uint16_t asked_port,
	struct addr *peer, uint16_t *fport, bool *several);

/* Tells that the address of the last step could not be bound: it is left out for a while. */
void source_walk_failed(struct source_walk *w);

/* Tells that the destination cannot be reached from it: it is left out for that one for a while. */
void source_walk_unreachable(struct source_walk *w);

/* Tells the log, once, of an address that was told unreachable with errno @error. */
void source_walk_tell_unreachable(struct source_walk *w, const struct addr *laddr, int error);

/* Tells that the address of the last step was given to a socket. */
void source_walk_pool_worked(struct source_walk *w);

static inline void source_walk_worked(struct source_walk *w)
{
	/* What routing chooses is never set aside. */
	if (!w->automatic)
		source_walk_pool_worked(w);
}
