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
	DIAG_OPEN, /* UDP: a socket without a foreign address, which takes the tuple's datagrams */
};

/*
 * A netlink socket for diag_query(), to be closed with diag_close(). Returns its
 * descriptor or -errno (sock_diag not there, or forbidden; no descriptor left).
 */
int diag_open(void);
void diag_close(int fd);

/*
 * Looks for exactly one tuple, that of @lane with local port @lport. 3 us. Returns a diag_state,
 * or -errno: nothing is known then. Async-signal-safe, no cancellation point.
 *
 * DIAG_ABSENT says that no connected socket has this very tuple. It does not say that the port can
 * be had: another socket may be bound to it without being connected, and what connect() is told
 * need not be the tuple's destination (sock_peer()).
 *
 * For UDP the kernel says which socket would receive a datagram of that tuple: with several of the
 * same tuple the one that is served.
 */
int diag_query(int fd, const struct tuplebind_lane *lane, uint16_t lport);

/* The same; *cookie is the SO_COOKIE of the socket found, 0 when none was. */
int diag_query_cookie(int fd, const struct tuplebind_lane *lane, uint16_t lport, uint64_t *cookie);

/* The same with a netlink socket of its own: 3 us more. */
int diag_tuple(const struct tuplebind_lane *lane, uint16_t lport);

/* Called for each socket of a dump. */
typedef void diag_visit(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state);

/*
 * Whether the kernel answers for sockets of @protocol (IPPROTO_TCP, IPPROTO_UDP) at all: 0, or
 * -errno: no netlink here or forbidden, no descriptor left, -EPROTONOSUPPORT where tcp_diag or
 * udp_diag is missing. Of an exact question such a kernel says ENOENT, as of a socket that does not
 * exist; so diag_query() asks this first when it meets ENOENT, until the answer was yes once. Four
 * system calls, 5 us.
 */
int diag_answers(int protocol);

/*
 * Visits all sockets of @protocol (IPPROTO_TCP, IPPROTO_UDP) that have a foreign
 * address, of the calling process's network namespace; @fport other than 0 only those
 * to that foreign port. O(sockets of the namespace): about 28 ms to walk 120,000. Returns 0
 * or -errno, -EBUSY when another thread has the scratch memory (base/scratch.h), which @visit may
 * not use either. No cancellation point.
 */
int diag_dump(int protocol, uint16_t fport, diag_visit *visit, void *context);

/* Called with each port that has a listener, perhaps several times. */
typedef void diag_port(void *context, uint16_t port);

/*
 * Visits the ports of all listening TCP sockets of the namespace. As diag_dump().
 */
int diag_listeners(diag_port *visit, void *context);
