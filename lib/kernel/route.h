/*
 * Which local address the kernel's routing would choose, and whether one can be used.
 */
#pragma once

#include "base/addr.h"

/*
 * Asks the kernel for the source address of connections of @protocol towards @faddr and @fport, of
 * sockets to which nothing was done, by rtnetlink or, where that cannot be had, by connecting a UDP
 * socket there (nothing is sent). Four system calls, 4 us, one descriptor for that time. Returns 0
 * with *laddr set (its scope too), or -errno: -ENETUNREACH and its like when there is no route,
 * -EMFILE when no descriptor is left. Async-signal-safe, no cancellation point.
 */
int route_source(const struct addr *faddr, uint8_t protocol, uint16_t fport, struct addr *laddr);

/*
 * Asks by rtnetlink whether there is a route from @laddr to @faddr. Returns 0, or -errno as a
 * connect() between them would fail; 0 as well where it cannot be asked. Four system calls.
 */
int route_check(const struct addr *laddr, const struct addr *faddr);

/*
 * Whether @a is this host's by its routing table: as an address of an interface, or by a route of
 * type local (AnyIP). *bits becomes the length of the prefix of that route. Where it cannot be
 * asked, false. Four system calls.
 */
bool route_is_local(const struct addr *a, unsigned *bits);
