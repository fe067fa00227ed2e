/*
 * UDP sockets in every state that a program can bring them to.
 */
#include "differential.h"

#include <unistd.h>

static int udp_nonblocking(void)
{
	return socket(place->family, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP);
}

static int udp_reuseaddr(void)
{
	return with_option(udp(), SOL_SOCKET, SO_REUSEADDR, 1);
}

static int udp_reuseport(void)
{
	return with_option(udp(), SOL_SOCKET, SO_REUSEPORT, 1);
}

static int udp_broadcast(void)
{
	return with_option(udp(), SOL_SOCKET, SO_BROADCAST, 1);
}

static int udp_marked(void)
{
	return with_option(udp(), SOL_SOCKET, SO_MARK, 7);
}

static int udp_on_lo(void)
{
	return with_device(udp(), "lo");
}

static int udp_bound(const char *to, int port)
{
	int fd = udp();

	do_bind(fd, to, port);
	return fd;
}

static int udp_bound_to_any(void)
{
	return udp_bound(place->any, 0);
}

static int udp_bound_to_loopback(void)
{
	return udp_bound(place->loopback, 0);
}

static int udp_bound_to_port(void)
{
	return udp_bound(place->loopback, OUR_PORT);
}

static int udp_connected_to(const char *to, int port)
{
	int fd = udp();

	set_impatient(fd);
	do_connect(fd, to, port, 0);
	return fd;
}

static int udp_connected(void)
{
	return udp_connected_to(place->loopback, OPEN_PORT);
}

static int udp_disconnected(void)
{
	return disconnected(udp_connected());
}

static int udp_sent(void)
{
	struct address to = address_of(place->loopback, OPEN_PORT);
	int fd = udp();

	must((int)sendto(fd, "x", 1, 0, SOCKADDR(&to), to.length), "sendto");
	return fd;
}

/* An error waits for the next call. */
static int udp_refused(void)
{
	int fd = udp_connected_to(place->loopback, NOBODY);

	must((int)sendto(fd, "x", 1, 0, NULL, 0), "sendto");
	return fd;
}

static int udp_shut(void)
{
	int fd = udp_connected();

	must(shutdown(fd, SHUT_RDWR), "shutdown");
	return fd;
}

static int udp_duplicate(void)
{
	return dup(udp_connected());
}

const struct kind kinds_udp[] = {
	{"udp", udp},
	{"udp, non-blocking", udp_nonblocking},
	{"udp, SO_REUSEADDR", udp_reuseaddr},
	{"udp, SO_REUSEPORT", udp_reuseport},
	{"udp, SO_BROADCAST", udp_broadcast},
	{"udp, SO_MARK", udp_marked},
	{"udp on lo", udp_on_lo},
	{"udp, bound to any", udp_bound_to_any},
	{"udp, bound to loopback", udp_bound_to_loopback},
	{"udp, bound to a port", udp_bound_to_port},
	{"udp, connected", udp_connected},
	{"udp, disconnected", udp_disconnected},
	{"udp, sent", udp_sent},
	{"udp, refused", udp_refused},
	{"udp, shut", udp_shut},
	{"udp, a duplicate", udp_duplicate},
	{NULL, NULL},
};
