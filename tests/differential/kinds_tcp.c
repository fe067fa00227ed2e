/*
 * TCP sockets in every state that a program can bring them to.
 */
#include "differential.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static int stream(int flags, int protocol)
{
	return socket(place->family, SOCK_STREAM | flags, protocol);
}

static int tcp_nonblocking(void)
{
	return stream(SOCK_NONBLOCK, IPPROTO_TCP);
}

static int tcp_cloexec(void)
{
	return stream(SOCK_CLOEXEC, 0);
}

static int mptcp(void)
{
	return stream(0, IPPROTO_MPTCP);
}

static int tcp_reuseaddr(void)
{
	return with_option(tcp(), SOL_SOCKET, SO_REUSEADDR, 1);
}

static int tcp_reuseport(void)
{
	return with_option(tcp(), SOL_SOCKET, SO_REUSEPORT, 1);
}

static int tcp_marked(void)
{
	return with_option(tcp(), SOL_SOCKET, SO_MARK, 7);
}

static int tcp_on_lo(void)
{
	return with_device(tcp(), "lo");
}

static int tcp_on_wire(void)
{
	/* Most destinations are not reached through it. */
	return with_device(tcp_nonblocking(), DEVICE);
}

static int tcp_freebind(void)
{
	return with_option(tcp(), IPPROTO_IP, IP_FREEBIND, 1);
}

static int tcp_transparent(void)
{
	return with_option(tcp(), IPPROTO_IP, IP_TRANSPARENT, 1);
}

static int tcp_no_port(void)
{
	return with_option(tcp(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
}

static int tcp_no_port_bound(void)
{
	int fd = tcp_no_port();

	do_bind(fd, place->loopback, 0);
	return fd;
}

static int tcp_range(void)
{
	return with_option(tcp(), IPPROTO_IP, IP_LOCAL_PORT_RANGE, 50999 << 16 | 50000);
}

static int tcp_fastopen(void)
{
	return with_option(tcp(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
}

static int tcp_v6only(void)
{
	return with_option(tcp(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
}

static int tcp_bound(const char *to, int port)
{
	int fd = tcp();

	do_bind(fd, to, port);
	return fd;
}

static int tcp_bound_to_loopback(void)
{
	return tcp_bound(place->loopback, 0);
}

static int tcp_bound_to_any(void)
{
	return tcp_bound(place->any, 0);
}

static int tcp_bound_to_wire(void)
{
	return tcp_bound(place->wire, 0);
}

static int tcp_bound_and_asked(void)
{
	int fd = tcp_bound_to_loopback();
	struct sockaddr_storage name;
	socklen_t length = sizeof name;

	getsockname(fd, (struct sockaddr *)&name, &length);
	return fd;
}

static int tcp_bound_to_port(void)
{
	int fd = tcp_reuseaddr();

	do_bind(fd, place->loopback, OUR_PORT);
	return fd;
}

static int tcp_listening(void)
{
	int fd = tcp_reuseaddr();

	do_bind(fd, place->any, LISTENER);
	must(listen(fd, 5), "listen");
	return fd;
}

static int tcp_listening_unbound(void)
{
	int fd = tcp();

	must(listen(fd, 5), "listen");
	return fd;
}

static int tcp_connected_to(const char *to, int port, int error)
{
	int fd = tcp();

	set_impatient(fd);
	do_connect(fd, to, port, error);
	return fd;
}

static int tcp_connected(void)
{
	return tcp_connected_to(place->loopback, OPEN_PORT, 0);
}

static int tcp_connected_to_wire(void)
{
	return tcp_connected_to(place->wire, OPEN_PORT, 0);
}

static int tcp_connected_bound(void)
{
	int fd = tcp_bound_to_loopback();

	do_connect(fd, place->loopback, OPEN_PORT, 0);
	return fd;
}

static int tcp_connected_nonblocking(void)
{
	int fd = tcp_nonblocking();

	do_connect(fd, place->loopback, OPEN_PORT, EINPROGRESS);
	return fd;
}

static int tcp_connecting(void)
{
	int fd = tcp_nonblocking();

	do_connect(fd, place->void_, OPEN_PORT, EINPROGRESS);
	return fd;
}

static int tcp_refused(void)
{
	return tcp_connected_to(place->loopback, NOBODY, ECONNREFUSED);
}

static int tcp_refused_nonblocking(void)
{
	int fd = tcp_nonblocking();

	do_connect(fd, place->loopback, NOBODY, EINPROGRESS);
	return fd;
}

static int tcp_unrouted(void)
{
	return tcp_connected_to(place->unrouted, OPEN_PORT, ENETUNREACH);
}

static int tcp_disconnected(void)
{
	return disconnected(tcp_connected());
}

static int tcp_disconnected_bound(void)
{
	return disconnected(tcp_connected_bound());
}

static int tcp_shut(int how)
{
	int fd = tcp_connected();

	must(shutdown(fd, how), "shutdown");
	return fd;
}

static int tcp_shut_for_reading(void)
{
	return tcp_shut(SHUT_RD);
}

/* The two ends of a connection, both of this process: what one does the other has seen at once. */
static void ends(int fds[2])
{
	int listener = tcp_listening();

	fds[0] = tcp_connected_to(place->loopback, LISTENER, 0);
	fds[1] = must(accept(listener, NULL, NULL), "accept");
	close(listener);
}

/* The peer's answer may be a while in coming. */
static void shut(int fd)
{
	struct tcp_info info = {.tcpi_state = TCP_FIN_WAIT1};
	struct timespec pause = {.tv_nsec = 100000};
	socklen_t length = sizeof info;

	must(shutdown(fd, SHUT_WR), "shutdown");
	while (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
		(info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_LAST_ACK ||
			info.tcpi_state == TCP_CLOSING))
		nanosleep(&pause, NULL);
}

static int tcp_end(int which, int first)
{
	int fds[2];

	ends(fds);
	shut(fds[first]);
	return fds[which];
}

static int tcp_accepted(void)
{
	int fds[2];

	ends(fds);
	return fds[1];
}

static int tcp_shut_for_writing(void)
{
	return tcp_end(0, 0);
}

static int tcp_ended_by_peer(void)
{
	return tcp_end(0, 1);
}

static int tcp_ended_by_both(void)
{
	int fds[2];

	ends(fds);
	shut(fds[0]);
	shut(fds[1]);
	return fds[0];
}

static int tcp_reset(void)
{
	struct linger none = {.l_onoff = 1};
	int fds[2];

	ends(fds);
	must(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &none, sizeof none), "setsockopt");
	close(fds[1]);
	return fds[0];
}

static int tcp_duplicate(void)
{
	return dup(tcp_connected());
}

static int tcp_duplicate_of_new(void)
{
	return dup(tcp());
}

const struct kind kinds_tcp[] = {
	{"tcp", tcp},
	{"tcp, non-blocking", tcp_nonblocking},
	{"tcp, close-on-exec", tcp_cloexec},
	{"mptcp", mptcp},
	{"tcp, SO_REUSEADDR", tcp_reuseaddr},
	{"tcp, SO_REUSEPORT", tcp_reuseport},
	{"tcp, SO_MARK", tcp_marked},
	{"tcp on lo", tcp_on_lo},
	{"tcp on wire", tcp_on_wire},
	{"tcp, IP_FREEBIND", tcp_freebind},
	{"tcp, IP_TRANSPARENT", tcp_transparent},
	{"tcp, IP_BIND_ADDRESS_NO_PORT", tcp_no_port},
	{"tcp, bound without port by itself", tcp_no_port_bound},
	{"tcp, IP_LOCAL_PORT_RANGE", tcp_range},
	{"tcp, TCP_FASTOPEN_CONNECT", tcp_fastopen},
	{"tcp, IPV6_V6ONLY", tcp_v6only},
	{"tcp, bound to loopback", tcp_bound_to_loopback},
	{"tcp, bound to any", tcp_bound_to_any},
	{"tcp, bound to wire", tcp_bound_to_wire},
	{"tcp, bound and asked", tcp_bound_and_asked},
	{"tcp, bound to a port", tcp_bound_to_port},
	{"tcp, listening", tcp_listening},
	{"tcp, listening unbound", tcp_listening_unbound},
	{"tcp, connected", tcp_connected},
	{"tcp, connected to wire", tcp_connected_to_wire},
	{"tcp, bound and connected", tcp_connected_bound},
	{"tcp, connected non-blocking", tcp_connected_nonblocking},
	{"tcp, connecting", tcp_connecting},
	{"tcp, refused", tcp_refused},
	{"tcp, refused non-blocking", tcp_refused_nonblocking},
	{"tcp, unrouted", tcp_unrouted},
	{"tcp, disconnected", tcp_disconnected},
	{"tcp, bound and disconnected", tcp_disconnected_bound},
	{"tcp, accepted", tcp_accepted},
	{"tcp, shut for reading", tcp_shut_for_reading},
	{"tcp, shut for writing", tcp_shut_for_writing},
	{"tcp, ended by peer", tcp_ended_by_peer},
	{"tcp, ended by both", tcp_ended_by_both},
	{"tcp, reset", tcp_reset},
	{"tcp, a duplicate", tcp_duplicate},
	{"tcp, a duplicate of a new one", tcp_duplicate_of_new},
	{NULL, NULL},
};
