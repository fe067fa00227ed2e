/*
 * What sockets the kernel has, by sock_diag(7).
 */
#pragma once

#include "base/addr.h"

#include "tuplebind/table.h"

/* What the kernel says of one tuple. */
enum diag_state {
	DIAG_ABSENT, /* no socket has it */
	DIAG_HELD,   /* a socket that some process still has open */
	DIAG_ORPHAN, /* closed by its process, the kernel is still finishing it */
	DIAG_TIMEWAIT,
};

/*
 * A netlink socket for diag_query(), to be closed with diag_close(). Returns its
 * descriptor or -errno (sock_diag not there, or forbidden; no descriptor left).
 */
int diag_open(void);
void diag_close(int fd);

/*
 * Looks for exactly one tuple, that of @lane with local port @lport. 3 us. Returns a diag_state,
 * or -errno. Async-signal-safe, no cancellation point.
 */
int diag_query(int fd, const struct tuplebind_lane *lane, uint16_t lport);

/* The same with a netlink socket of its own: 3 us more. */
int diag_tuple(const struct tuplebind_lane *lane, uint16_t lport);

/* Called for each socket of a dump. */
typedef void diag_visit(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state);

/*
 * Visits all sockets of @protocol (IPPROTO_TCP, IPPROTO_UDP) that have a foreign
 * address, of the calling process's network namespace; @fport other than 0 only those
 * to that foreign port. O(sockets of the namespace): about 28 ms to walk 120,000. Returns 0
 * or -errno. No cancellation point.
 */
int diag_dump(int protocol, uint16_t fport, diag_visit *visit, void *context);

/* Called with each port that has a listener, perhaps several times. */
typedef void diag_port(void *context, uint16_t port);

/*
 * Visits the ports of all listening TCP sockets of the namespace. Returns 0 or -errno. No
 * cancellation point.
 */
int diag_listeners(diag_port *visit, void *context);
