/*
 * The ways to connect a socket that tuplebind is measured against, and the ports they know to be
 * free.
 *
 * Those that know a port are the best that raw system calls can do: no library, no table shared
 * with anybody, the port is at hand. "late" is the oracle of the measures.
 */
#pragma once

#include "../helpers/endpoint.h"

#define PORTS_MOST 65536

/* Free ports, taken and given back in turn: the longest unused one is the next. */
struct lot {
	uint32_t first, count;
	uint16_t ports[PORTS_MOST];
};

static inline uint16_t lot_take(struct lot *l)
{
	uint16_t port = 0;

	if (l->count != 0) {
		port = l->ports[l->first];
		l->first = (l->first + 1) % PORTS_MOST;
		l->count--;
	}
	return port;
}

static inline void lot_give(struct lot *l, uint16_t port)
{
	l->ports[(l->first + l->count++) % PORTS_MOST] = port;
}

/* What is connected: from which address and range of ports, to where. */
struct route {
	struct endpoint from, to; /* from: the address, port 0 */
	uint16_t first, last;
};

/* In which order ports are filled that the way does not choose itself: as it would. */
enum order { ORDER_RISING, ORDER_EVEN_FIRST, ORDER_ODD_FIRST, ORDER_RANDOM };

struct way {
	const char *name;
	/* Connects @fd: 0 or errno. @port: one that is free, for ways that know it. */
	int (*connect)(int fd, const struct route *r, uint16_t port);
	bool knows;		 /* the way needs to be told a free port */
	const char *filled_with; /* the way that leaves the same behind, port by port */
	enum order order;
};

/* NULL: there is no such way. */
const struct way *way_find(const char *name);

/* Writes the ports of the range in the order to @l. */
void way_ports(const struct route *r, enum order order, struct lot *l);
