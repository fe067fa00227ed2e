/*
 * The addresses that a network interface has now.
 */
#pragma once

#include "base/addr.h"

#include <stddef.h>

/* What addresses_of() works in: too large for the small stack that a signal handler may have. */
struct addresses_buffer {
	_Alignas(8) char bytes[8192];
};

/*
 * Asks rtnetlink(7) for all addresses of @interface that new connections are to use (not those
 * whose uniqueness is still being checked, or has proved untrue, nor deprecated ones), in the
 * kernel's order, link-local ones with their scope, and writes up to @room of them. Returns how
 * many there are, which may be more than @room, or -errno: -ENODEV when there is no such interface.
 * Some 10 us and 1 us for every ten addresses, one descriptor for that time; takes no memory but
 * @buffer. Async-signal-safe, no cancellation point.
 */
int addresses_of(
	const char *interface, struct addr *out, unsigned room, struct addresses_buffer *buffer);
