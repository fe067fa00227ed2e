/*
 * What a program can see of a descriptor, as words "what=value".
 *
 * getsockopt(), getpeername(), poll() are not taken over; getsockname() is, and is called as a
 * program would: last of all, for it may choose the port.
 */
#include "differential.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

static const struct {
	const char *name;
	int level, option;
} options[] = {
	{"domain", SOL_SOCKET, SO_DOMAIN},
	{"type", SOL_SOCKET, SO_TYPE},
	{"protocol", SOL_SOCKET, SO_PROTOCOL},
	{"reuseaddr", SOL_SOCKET, SO_REUSEADDR},
	{"reuseport", SOL_SOCKET, SO_REUSEPORT},
	{"keepalive", SOL_SOCKET, SO_KEEPALIVE},
	{"broadcast", SOL_SOCKET, SO_BROADCAST},
	{"mark", SOL_SOCKET, SO_MARK},
	{"priority", SOL_SOCKET, SO_PRIORITY},
	{"device", SOL_SOCKET, SO_BINDTOIFINDEX},
	{"dontroute", SOL_SOCKET, SO_DONTROUTE},
	{"accepts", SOL_SOCKET, SO_ACCEPTCONN},
	{"tos", IPPROTO_IP, IP_TOS},
	{"ttl", IPPROTO_IP, IP_TTL},
	{"freebind", IPPROTO_IP, IP_FREEBIND},
	{"freebind6", IPPROTO_IPV6, IPV6_FREEBIND},
	{"transparent", IPPROTO_IP, IP_TRANSPARENT},
	{"noport", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
	{"range", IPPROTO_IP, IP_LOCAL_PORT_RANGE},
	{"v6only", IPPROTO_IPV6, IPV6_V6ONLY},
	{"nodelay", IPPROTO_TCP, TCP_NODELAY},
	{"fastopen", IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
};

void tell_address(const char *what, const struct sockaddr_storage *name, socklen_t length)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)name;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)name;
	char text[INET6_ADDRSTRLEN] = "?";

	if (length < sizeof(sa_family_t) ||
		(name->ss_family != AF_INET && name->ss_family != AF_INET6)) {
		tell("%s=family%d/%d", what, length < sizeof(sa_family_t) ? -1 : name->ss_family,
			(int)length);
		return;
	}
	int port = ntohs(in->sin_port);
	bool known = port == 0 || port == OPEN_PORT || port == NOBODY || port == OUR_PORT ||
		     port == LISTENER;
	bool v6 = name->ss_family == AF_INET6;
	inet_ntop(name->ss_family, v6 ? (const void *)&in6->sin6_addr : &in->sin_addr, text,
		sizeof text);
	tell("%s=%s%s:", what, text, v6 && in6->sin6_scope_id != 0 ? "%" : "");
	if (known)
		tell("+%d/%d", port, (int)length);
	else
		tell("+%s/%d", port >= FIRST_PORT && port <= LAST_PORT ? "chosen" : "outside",
			(int)length);
}

static void tell_options(int fd)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		int value = 0;
		socklen_t length = sizeof value;

		if (getsockopt(fd, options[i].level, options[i].option, &value, &length) < 0)
			continue;
		/* Which port it is differs from run to run. */
		bool one_port = options[i].option == IP_LOCAL_PORT_RANGE && value != 0 &&
				(uint16_t)value == (unsigned)value >> 16;
		if (one_port)
			tell("range=one-port");
		else
			tell("%s=%d", options[i].name, value);
	}
}

static void tell_state(int fd)
{
	struct tcp_info info = {.tcpi_state = 0};
	socklen_t length = sizeof info;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
		tell("state=%d", info.tcpi_state);
}

static void tell_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};

	if (poll(&p, 1, 0) >= 0)
		tell("poll=%x", p.revents);
}

static bool is_ping(int fd)
{
	int protocol = 0;
	socklen_t length = sizeof protocol;

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 &&
	       (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6);
}

static void tell_name(const char *what, int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;

	memset(&name, 0, sizeof name);
	errno = UNTOUCHED;
	int result = ask(fd, (struct sockaddr *)&name, &length), error = errno;
	/* A ping socket's port is an identifier, from no range. */
	if (is_ping(fd))
		((struct sockaddr_in *)&name)->sin_port = htons(FIRST_PORT);
	errno = error;
	if (result < 0 || errno != UNTOUCHED)
		tell_result(what, result);
	else
		tell_address(what, &name, length);
}

void tell_descriptor(int fd)
{
	CALL("fd", fcntl(fd, F_GETFD));
	CALL("fl", fcntl(fd, F_GETFL));
	tell_options(fd);
	tell_state(fd);
	tell_poll(fd);
	tell_name("peer", fd, getpeername);
	tell_name("name", fd, getsockname);
	int error = 0;
	socklen_t length = sizeof error;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0)
		tell("error=%s", error == 0 ? "0" : strerrorname_np(error));
}

/* By the system call: what a program would see, however the library answers. */
void tell_open(void)
{
	tell("open=");
	for (int fd = 0; fd < END_DESCRIPTORS;
		fd = fd == LOW_DESCRIPTORS ? HIGH_DESCRIPTORS : fd + 1)
		if (syscall(SYS_fcntl, fd, F_GETFD) >= 0)
			tell("+%d,", fd);
}
