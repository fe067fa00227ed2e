/*
 * Having the kernel look for a port, from an address that was chosen.
 *
 * For what the table cannot know: claims that fill a lane and cannot be looked into, a destination
 * that the kernel sends elsewhere, no room in the table. The kernel looks within a window
 * (IP_LOCAL_PORT_RANGE) as within its whole range: for some 70 ns a port even when none is free. So
 * the rule's ports are offered to it in their contiguous runs, and a small part of a long run
 * first, which is enough as long as one port in a hundred is free. Where the kernel has no such
 * option, it looks within its own range, if that is what the rule says.
 *
 * What it gives is the kernel's word: for TCP the claim of the tuple becomes the socket's, whoever
 * has made it. A UDP socket takes the port for itself alone.
 */
#pragma once

#include "engine/attempt.h"

/* How the kernel is to look for a port. */
enum search {
	SEARCH_PORTS, /* among the rule's ports; the table takes note */
	SEARCH_FREELY /* wherever it looks for this socket; the table does not know */
};

/* Whether a call that ended with @error found no port, and has left the socket as it was. */
static inline bool search_found_nothing(const struct attempt *a, int error)
{
	/* (A send that connects may say EAGAIN as well, and goes on.) */
	return error == attempt_no_port(a);
}

/* Whether the rule's ports are those among which the kernel looks by itself. */
bool search_may_be_anywhere(const struct attempt *a);

/*
 * Has the kernel look for a port on the address of @a, and makes the call. 0, or the call's errno:
 * EADDRNOTAVAIL, or EAGAIN for UDP, when it found none. -errno: the address could not be bound.
 */
int search_address(struct attempt *a, enum search how);
