/*
 * Which ports have a listener, on whatever address, as of a second ago.
 *
 * RFC 6056, section 3.1: a port with a listener is not to be used for outgoing
 * connections. Late bind keeps to that by itself; explicit bind only does for listeners
 * on the same address. Asking for every bind would be too dear, so all ports are
 * asked for at once, at most once a second. Lock-free, async-signal-safe; all zero is
 * the start.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct listeners {
	_Atomic uint64_t asked; /* CLOCK_MONOTONIC second in which the kernel was asked, 0: never */
	_Atomic uint64_t ports[2][1024];
	_Atomic unsigned current; /* which of the two is read; the other is being written */
};

/*
 * True when a TCP socket listened on @port when the kernel was last asked. Asks, once a
 * second, by a dump of the namespace's listening sockets: 0.1 to 1 ms.
 */
bool listeners_has(struct listeners *l, uint16_t port);
