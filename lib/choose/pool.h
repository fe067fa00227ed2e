/*
 * Pools of local addresses: TUPLEBIND_ADDRS.
 *
 * A pool is a list of ranges, so that a /8 or an IPv6 /64 takes no more room than one
 * address. The addresses that go with a destination, those of its family and reach,
 * are counted 0..n-1 in the order in which the pool names them.
 */
#pragma once

#include "base/addr.h"
#include "base/parse.h"

struct pool_range {
	struct addr first;
	uint64_t count;
};

struct pool {
	unsigned range_count;	   /* 0: auto, the kernel's routing chooses */
	struct pool_range *ranges; /* owned; pool_free() */
};

/*
 * Reads a comma-separated list of addresses, first-last ranges, CIDR prefixes and
 * interface names (all addresses the interface has now), or "auto". Takes memory. Returns 0,
 * -EINVAL or -ENOMEM with the fault told; pool_free() in any case.
 */
int pool_parse(const char *list, struct pool *p, struct fault *f);

void pool_free(struct pool *p);

/* How many addresses go with destination @faddr. O(ranges). */
uint64_t pool_count(const struct pool *p, const struct addr *faddr);

/* Number @index of the addresses that go with @faddr. O(ranges). */
struct addr pool_at(const struct pool *p, const struct addr *faddr, uint64_t index);
