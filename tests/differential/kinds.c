/*
 * Descriptors that are no sockets, and sockets of other families and protocols than TCP and UDP:
 * all of them are none of the library's business.
 */
#include "differential.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int minus_one(void)
{
	errno = 0; /* the kind is there: -1 is what it is */
	return -1;
}

static int closed(void)
{
	int fd = tcp();

	close(fd);
	return fd;
}

static int closed_unseen(void)
{
	int fd = tcp();

	syscall(SYS_close, fd);
	return fd;
}

static int largest(void)
{
	return INT_MAX;
}

static int past_the_book(void)
{
	return 1 << 21;
}

static int pipe_end(int which)
{
	int ends[2];

	must(pipe(ends), "pipe");
	return ends[which];
}

static int pipe_reader(void)
{
	return pipe_end(0);
}

static int pipe_writer(void)
{
	return pipe_end(1);
}

static int null_file(void)
{
	return open("/dev/null", O_RDWR);
}

static int path_only(void)
{
	return open("/dev/null", O_PATH);
}

static int directory(void)
{
	return open("/", O_RDONLY | O_DIRECTORY);
}

static int memory_file(void)
{
	return memfd_create("differential", 0);
}

static int event(void)
{
	return eventfd(0, EFD_NONBLOCK);
}

static int epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
}

static int unix_stream(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int unix_datagram(void)
{
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
}

static int unix_packet(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET, 0);
}

static int unix_pair(void)
{
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), "socketpair");
	return ends[0];
}

static int unix_listener(void)
{
	int fd = unix_stream();

	do_bind(fd, "@differential-listener", 0);
	must(listen(fd, 5), "listen");
	return fd;
}

static int unix_connected(void)
{
	unix_listener();
	int fd = unix_stream();
	do_connect(fd, "@differential-listener", 0, 0);
	return fd;
}

static int unix_unnamed(void)
{
	int fd = unix_stream();
	sa_family_t family = AF_UNIX;

	/* Autobind: the kernel chooses a name. */
	must(bind(fd, (struct sockaddr *)&family, sizeof family), "bind");
	return fd;
}

static int netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
}

static int packet(void)
{
	return socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
}

static int vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
}

static int crypto(void)
{
	return socket(AF_ALG, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
}

static int raw(void)
{
	return socket(place->family, SOCK_RAW | SOCK_NONBLOCK, 253);
}

static int ping(void)
{
	return socket(place->family, SOCK_DGRAM | SOCK_NONBLOCK,
		place->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static int sctp(void)
{
	return socket(place->family, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_SCTP);
}

static int sctp_packet(void)
{
	return socket(place->family, SOCK_SEQPACKET | SOCK_NONBLOCK, IPPROTO_SCTP);
}

static int udplite(void)
{
	return socket(place->family, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDPLITE);
}

static int dccp(void)
{
	return socket(place->family, SOCK_DCCP, IPPROTO_DCCP);
}

static int bad_type(void)
{
	return socket(place->family, 77, 0);
}

static int bad_flags(void)
{
	return socket(place->family, SOCK_STREAM | 1 << 20, 0);
}

static int bad_protocol(void)
{
	return socket(place->family, SOCK_STREAM, IPPROTO_UDP);
}

static int negative_protocol(void)
{
	return socket(place->family, SOCK_STREAM, -1);
}

static int no_family(void)
{
	return socket(AF_UNSPEC, SOCK_STREAM, 0);
}

const struct kind kinds_any[] = {
	{"minus one", minus_one},
	{"closed", closed},
	{"closed unseen", closed_unseen},
	{"INT_MAX", largest},
	{"past the book", past_the_book},
	{"pipe, to read", pipe_reader},
	{"pipe, to write", pipe_writer},
	{"/dev/null", null_file},
	{"O_PATH", path_only},
	{"directory", directory},
	{"memfd", memory_file},
	{"eventfd", event},
	{"epoll", epoll},
	{"timerfd", timer},
	{"unix stream", unix_stream},
	{"unix datagram", unix_datagram},
	{"unix packet", unix_packet},
	{"unix pair", unix_pair},
	{"unix listener", unix_listener},
	{"unix connected", unix_connected},
	{"unix unnamed", unix_unnamed},
	{"netlink", netlink},
	{"packet", packet, .slow = true},
	{"vsock", vsock},
	{"crypto", crypto},
	{"raw", raw},
	{"ping", ping},
	{"sctp", sctp},
	{"sctp packet", sctp_packet},
	{"udplite", udplite},
	{"dccp", dccp},
	{"socket of no type", bad_type},
	{"socket of no flags", bad_flags},
	{"socket of a wrong protocol", bad_protocol},
	{"socket of a negative protocol", negative_protocol},
	{"socket of no family", no_family},
	{NULL, NULL},
};
