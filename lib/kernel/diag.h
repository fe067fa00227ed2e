/*
 * What sockets the kernel has, by sock_diag(7).
 */
#pragma once

#include "base/addr.h"

#include "tuplebind/table.h"

/* What the kernel says of one tuple. */
enum diag_state {
	DIAG_ABSENT,  /* no socket has it */
	DIAG_HELD,    /* a socket that some process still has open */
	DIAG_ORPHAN,  /* closed by its process, the kernel is still finishing it */
	DIAG_TIMEWAIT,
};

/*
 * Looks for exactly one tuple of @lane with local port @lport. 3 us, plus 3 us for the
 * netlink socket that it opens and closes. Returns a diag_state, or -errno (sock_diag not
 * there, or forbidden). Async-signal-safe, no cancellation point.
 */
int diag_tuple(const struct tuplebind_lane *lane, uint16_t lport);

/* Called for each socket of a dump. */
typedef void diag_visit(void *context, const struct tuplebind_lane *lane, uint16_t lport,
	enum diag_state state);

/*
 * Visits all sockets of @protocol (IPPROTO_TCP, IPPROTO_UDP) that have a foreign
 * address, of the calling process's network namespace; @fport other than 0 only those
 * to that foreign port. O(sockets of the namespace): about 28 ms to walk 120,000. Returns 0
 * or -errno. No cancellation point.
 */
int diag_dump(int protocol, uint16_t fport, diag_visit *visit, void *context);
