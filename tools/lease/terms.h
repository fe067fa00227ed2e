/*
 * The terms of a lease: TUPLEBIND_LEASE, _LEASE_TTL, _LEASE_WAIT and _LEASE_CA as the user has set
 * them, TUPLEBIND_LEASE_PARTS, which tuplebind run takes off TUPLEBIND_PORTS, and what of the other
 * variables concerns it.
 */
#pragma once

#include "choose/config.h"
#include "tools/lease/slices.h"
#include "tools/lease/url.h"

struct terms {
	struct config config;
	struct slices slices;
	struct lease_url url;
	unsigned ttl, wait; /* seconds */
	char *ca;	    /* NULL: the system's certificates; owned */
};

/*
 * Reads and checks all of it, and takes the lease's own variables out of the environment: a
 * tuplebind within this one is not to lease once more. Returns 0 or -errno with the fault told;
 * terms_free() in any case.
 */
int terms_read(struct terms *s, struct fault *f);
void terms_free(struct terms *s);
