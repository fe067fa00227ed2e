/*
 * Pools of local addresses: TUPLEBIND_ADDRS.
 *
 * A pool is a list of parts, ranges and interfaces, so that a /8 or an IPv6 /48 takes no more room
 * than one address. The addresses that go with a destination, those of its family and reach,
 * are counted 0..n-1 in the order in which the pool names them. Those of an interface are what it
 * has now (choose/interface.h); so a pool's count may change between two looks.
 */
#pragma once

#include "base/addr.h"
#include "base/parse.h"

#include <stdatomic.h>

struct interface;

struct pool_part {
	struct addr first;	     /* of a range */
	unsigned __int128 size;	     /* of a range */
	uint8_t prefix_bits;	     /* as it was written; 0: not as a prefix */
	struct interface *interface; /* NULL: a range */
	/* For source.c: */
	_Atomic uint64_t local_until; /* second; so long all of it is known to be this host's */
	_Atomic uint32_t failed;      /* addresses in a row that could not be bound */
};

struct pool {
	unsigned part_count;	 /* 0: auto, the kernel's routing chooses */
	struct pool_part *parts; /* owned; pool_free() */
};

/*
 * Reads a comma-separated list of addresses, first-last ranges, CIDR prefixes and interface names,
 * or "auto". Takes memory. Returns 0, -EINVAL or -ENOMEM with the fault told; pool_free() in any
 * case.
 */
int pool_parse(const char *list, struct pool *p, struct fault *f);

void pool_free(struct pool *p);

/*
 * How many addresses go with destination @faddr, of each part at most 2^44. Looks at the interfaces
 * anew if that is due. O(parts).
 */
uint64_t pool_count(const struct pool *p, const struct addr *faddr);

/* The same without the look. */
bool pool_serves(const struct pool *p, const struct addr *faddr);

/* Whether @laddr is one of the addresses that go with @faddr. O(parts), and of interfaces
 * O(addresses). */
bool pool_has(const struct pool *p, const struct addr *faddr, const struct addr *laddr);

/* One address of a pool, and where it stands. */
struct pool_place {
	struct pool_part *part;
	uint64_t index, count; /* within the part */
	struct addr addr;
};

/*
 * Number @index of the addresses that go with @faddr. Of a part with more addresses than can be
 * counted some only have a number, spread over all of it. False when there are not as many (any
 * more). O(parts).
 */
bool pool_at(
	const struct pool *p, const struct addr *faddr, uint64_t index, struct pool_place *place);

/*
 * Gives every address a score out of @seed and itself alone and returns the number of the highest
 * of those for which @usable says yes, or 0: so what is added to or taken from a pool moves no more
 * destinations than it must ("rendezvous hashing", Thaler and Ravishankar, 1998). O(addresses).
 */
uint64_t pool_favourite(const struct pool *p, const struct addr *faddr, uint64_t seed,
	bool (*usable)(void *context, const struct addr *a), void *context);
