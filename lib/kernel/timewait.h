/*
 * Whether a tuple in TIME_WAIT can be used again, found out without the peer's knowing.
 *
 * It can if TCP timestamps were on between the two (tcp_twsk_unique() of net/ipv4/tcp_ipv4.c),
 * which sock_diag does not tell. A connect() would; but a socket that was bound explicitly for it
 * keeps its port, and if the tuple is refused its program can be given no other.
 */
#pragma once

#include "tuplebind/table.h"

enum timewait {
	TIMEWAIT_REUSABLE,
	TIMEWAIT_REFUSED,
	TIMEWAIT_UNKNOWN, /* this kernel lets us not find out */
};

/*
 * Asks by a socket of its own, which is closed again; a tuple that was REUSABLE is in TIME_WAIT no
 * more then. Eight system calls, 6 us. TCP Fast Open must be allowed to clients
 * (net.ipv4.tcp_fastopen, as it is at its default). Async-signal-safe, no cancellation point; errno
 * may change.
 */
enum timewait timewait_probe(const struct tuplebind_lane *lane, uint16_t lport);
