/*
 * Whether a tuple can be had by explicit bind, found out without the peer's knowing.
 *
 * sock_diag cannot tell. One in TIME_WAIT can be had if TCP timestamps were on between the two
 * (tcp_twsk_unique() of net/ipv4/tcp_ipv4.c). One that no socket has can be had if its destination
 * is the one that connect() is given, and its source the one that routing chooses (sock_peer()). A
 * connect() finds out; but a socket that was bound explicitly for it keeps its port, and if the
 * tuple is refused its program can be given no other.
 */
#pragma once

#include "base/addr.h"
#include "tuplebind/table.h"

#include <stdbool.h>

enum timewait {
	TIMEWAIT_REUSABLE,
	TIMEWAIT_REFUSED,
	TIMEWAIT_UNKNOWN, /* this kernel lets us not find out */
};

/*
 * Asks by a socket of its own, which is closed again; a tuple that was REUSABLE is in TIME_WAIT no
 * more then. @any: the kernel is to choose the local address, as it will for the program's socket.
 * @faddr and @fport: what the program's connect() is given, which a control group's program may
 * send to the lane's foreign end. Eight system calls, 6 us. TCP Fast Open must be allowed to
 * clients (net.ipv4.tcp_fastopen, as it is at its default). Async-signal-safe, no cancellation
 * point; errno may change.
 */
enum timewait timewait_probe(const struct tuplebind_lane *lane, uint16_t lport, bool any,
	const struct addr *faddr, uint16_t fport);
