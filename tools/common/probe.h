/*
 * What this kernel would let the library do, tried on sockets that nobody has to do with. No port
 * is taken and nothing is sent.
 */
#pragma once

#include "base/addr.h"

/*
 * Whether a socket of @protocol can be bound to an address: 0 or -errno, -EADDRNOTAVAIL when it is
 * not this host's. @freebind: with IPV6_FREEBIND.
 */
int probe_bind(const struct addr *a, bool freebind, uint8_t protocol);

/* Late bind, which Linux has since 6.3. */
bool probe_late_bind(void);
