/*
 * Destinations as TUPLEBIND_SKIP and TUPLEBIND_RULES name them.
 *
 *     DEST = addr[/len][:port] | [v6[/len]][:port]
 *
 * An IPv6 address needs its brackets only when a port follows.
 */
#pragma once

#include "base/addr.h"
#include "base/parse.h"

struct dest {
	struct addr prefix;
	unsigned bits; /* of the sixteen-byte form */
	uint16_t port; /* 0: any */
};

/* Reads one DEST. Returns 0 or -EINVAL with the fault told. */
int dest_parse(const char *text, struct dest *d, struct fault *f);

/* Reads "ADDR/LEN" or "ADDR" (as the longest prefix); no port. Returns 0 or -EINVAL. */
int dest_parse_prefix(const char *text, struct dest *d);
