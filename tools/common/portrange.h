/*
 * The ends of a set of ports, as people name it: "32768-60999".
 */
#pragma once

#include "base/portset.h"

/* The least port of a set; 65535 of an empty one. */
static inline unsigned ports_first(const struct portset *s)
{
	unsigned port = 0;

	while (port < UINT16_MAX && !portset_has(s, (uint16_t)port))
		port++;
	return port;
}

/* The greatest; 0 of an empty one. */
static inline unsigned ports_last(const struct portset *s)
{
	unsigned port = UINT16_MAX;

	while (port > 0 && !portset_has(s, (uint16_t)port))
		port--;
	return port;
}
