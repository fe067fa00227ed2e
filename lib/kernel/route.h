/*
 * Which local address the kernel's routing would choose.
 */
#pragma once

#include "base/addr.h"

/*
 * Asks the kernel for the source address towards @faddr, by rtnetlink or, where that cannot be had,
 * by connecting a UDP socket there (nothing is sent). Four system calls, 4 us, one descriptor for
 * that time. Returns 0 with *laddr set (its scope too), or -errno: -ENETUNREACH and its like when
 * there is no route, -EMFILE when no descriptor is left. Async-signal-safe, no
 * cancellation point.
 */
int route_source(const struct addr *faddr, struct addr *laddr);
