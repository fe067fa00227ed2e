#include "ways.h"

#include <errno.h>
#include <netinet/in.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define WINDOW 500

static void set(int fd, int level, int name, uint32_t value)
{
	if (setsockopt(fd, level, name, &value, sizeof value) < 0) {
		perror("setsockopt");
		exit(1);
	}
}

static void choose_among(int fd, uint16_t first, uint16_t last)
{
	set(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (uint32_t)last << 16 | first);
}

static int bind_to(int fd, const struct route *r, uint16_t port)
{
	struct endpoint from = r->from;

	endpoint_set_port(&from, port);
	return bind(fd, (struct sockaddr *)&from.address, from.length) < 0 ? errno : 0;
}

static int call(int fd, const struct route *r)
{
	return connect(fd, (const struct sockaddr *)&r->to.address, r->to.length) < 0 ? errno : 0;
}

static int plain(int fd, const struct route *r, uint16_t port)
{
	return call(fd, r);
}

static int bind_first(int fd, const struct route *r, uint16_t port)
{
	int error = bind_to(fd, r, 0);

	return error ? error : call(fd, r);
}

static int no_port(int fd, const struct route *r, uint16_t port)
{
	set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind_first(fd, r, 0);
}

static int whole_range(int fd, const struct route *r, uint16_t port)
{
	choose_among(fd, r->first, r->last);
	return call(fd, r);
}

/* A workaround that has been published: a short search, if one of these ports is free. */
static int window(int fd, const struct route *r, uint16_t port)
{
	unsigned range = r->last - r->first + 1u, width = range < WINDOW ? range : WINDOW;
	unsigned first = r->first + (unsigned)random() % (range - width + 1);

	choose_among(fd, (uint16_t)first, (uint16_t)(first + width - 1));
	return call(fd, r);
}

static int late(int fd, const struct route *r, uint16_t port)
{
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	choose_among(fd, port, port);
	return no_port(fd, r, 0);
}

static int explicit_bind(int fd, const struct route *r, uint16_t port)
{
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	int error = bind_to(fd, r, port);
	return error ? error : call(fd, r);
}

/* What bind(address, 0) does once it has found a port. */
static int bind_alone(int fd, const struct route *r, uint16_t port)
{
	int error = bind_to(fd, r, port);

	return error ? error : call(fd, r);
}

static const struct way ways[] = {
	{"plain", plain, false, "late", ORDER_EVEN_FIRST},
	{"bind0", bind_first, false, "alone", ORDER_ODD_FIRST},
	{"no-port", no_port, false, "late", ORDER_EVEN_FIRST},
	{"range", whole_range, false, "late", ORDER_RANDOM},
	{"window", window, false, "late", ORDER_RANDOM},
	{"late", late, true, "late", ORDER_RISING},
	{"explicit", explicit_bind, true, "explicit", ORDER_RISING},
	{"alone", bind_alone, true, "alone", ORDER_ODD_FIRST},
};

const struct way *way_find(const char *name)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	return NULL;
}

static void shuffle(struct lot *l)
{
	for (uint32_t i = l->count; i > 1; i--) {
		uint32_t j = (uint32_t)random() % i;
		uint16_t port = l->ports[j];

		l->ports[j] = l->ports[i - 1];
		l->ports[i - 1] = port;
	}
}

void way_ports(const struct route *r, enum order order, struct lot *l)
{
	unsigned step = order == ORDER_EVEN_FIRST || order == ORDER_ODD_FIRST ? 2 : 1;
	unsigned parity = order == ORDER_ODD_FIRST;

	l->first = l->count = 0;
	for (unsigned lap = 0; lap < step; lap++)
		for (unsigned port = r->first; port <= r->last; port++)
			if (step == 1 || port % 2 == (parity ^ lap))
				lot_give(l, (uint16_t)port);
	if (order == ORDER_RANDOM)
		shuffle(l);
}
