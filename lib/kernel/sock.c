#include "kernel/sock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

static int get_int(int fd, int level, int name, int *value)
{
	socklen_t length = sizeof *value;

	return getsockopt(fd, level, name, value, &length) < 0 ? -errno : 0;
}

static int set_int(int fd, int level, int name, int value)
{
	return syscall(SYS_setsockopt, fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* Whether an option is set to anything; what cannot be read counts as not. */
static bool is_set(int fd, int level, int name)
{
	int value = 0;

	return get_int(fd, level, name, &value) == 0 && value != 0;
}

enum sock_kind sock_kind_of(int family, int type, int protocol)
{
	int plain_type = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (family != AF_INET && family != AF_INET6)
		return KIND_OTHER;
	if (plain_type == SOCK_STREAM &&
		(protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP))
		return family == AF_INET ? KIND_TCP4 : KIND_TCP6;
	if (plain_type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP))
		return family == AF_INET ? KIND_UDP4 : KIND_UDP6;
	return KIND_OTHER;
}

enum sock_kind sock_ask_kind(int fd)
{
	int family, type, protocol;

	if (get_int(fd, SOL_SOCKET, SO_DOMAIN, &family) < 0 ||
		get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0 ||
		get_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) < 0)
		return KIND_OTHER;
	return sock_kind_of(family, type, protocol);
}

int sock_peer(int fd, int family, struct addr *a, uint16_t *port)
{
	struct sockaddr_storage storage;
	/* More than the address is long would be EINVAL. */
	socklen_t length =
		family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	/* getpeername() has no answer while a TCP socket is connecting; this has. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &storage, &length) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&storage, length, a, port) ? 0 : -EAFNOSUPPORT;
}

int sock_ask_peer(
	int family, const struct sockaddr *to, socklen_t length, struct addr *a, uint16_t *port)
{
	int fd = (int)syscall(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int error =
		syscall(SYS_connect, fd, to, length) < 0 ? -errno : sock_peer(fd, family, a, port);
	syscall(SYS_close, fd);
	return error;
}

int sock_local(int fd, struct addr *a, uint16_t *port)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof storage;

	/* The system call: getsockname() is taken over. */
	if (syscall(SYS_getsockname, fd, &storage, &length) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&storage, length, a, port) ? 0 : -EAFNOSUPPORT;
}

bool sock_is_marked(int fd)
{
	return is_set(fd, SOL_SOCKET, SO_MARK);
}

uint32_t sock_device(int fd)
{
	int index = 0;

	return get_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index) < 0 ? 0 : (uint32_t)index;
}

int sock_use_device(int fd, uint32_t index)
{
	return set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, (int)index);
}

int sock_put_off_syn(int fd)
{
	int error = set_int(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);

	return error < 0 ? error : set_int(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
}

int sock_reuse_address(int fd, bool on)
{
	return set_int(fd, SOL_SOCKET, SO_REUSEADDR, on);
}

bool sock_reuses_address(int fd)
{
	return is_set(fd, SOL_SOCKET, SO_REUSEADDR);
}

int sock_reuse_port(int fd, bool on)
{
	return set_int(fd, SOL_SOCKET, SO_REUSEPORT, on);
}

bool sock_reuses_port(int fd)
{
	return is_set(fd, SOL_SOCKET, SO_REUSEPORT);
}

int sock_bind_takes_no_port(int fd, bool on)
{
	return set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, on);
}

int sock_asks_no_port(int fd)
{
	int value = 0, error = get_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &value);

	return error < 0 ? error : value != 0;
}

int sock_narrow_ports(int fd, uint16_t first, uint16_t last)
{
	return set_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (int)((uint32_t)last << 16 | first));
}

uint32_t sock_port_range(int fd)
{
	int value = 0;

	return get_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &value) < 0 ? 0 : (uint32_t)value;
}

bool sock_ports_narrowed(int fd)
{
	return sock_port_range(fd) != 0;
}

int sock_bind(int fd, int family, const struct addr *a, uint16_t port)
{
	struct sockaddr_storage storage;
	socklen_t length = addr_to_sockaddr(a, port, family, &storage);

	if (length == 0)
		return -EAFNOSUPPORT;
	return syscall(SYS_bind, fd, &storage, length) < 0 ? -errno : 0;
}

int sock_bind_any(int fd, int family, uint16_t port)
{
	struct addr any = {.scope = 0};

	if (family == AF_INET)
		any = addr_from_number((unsigned __int128)0xffff << 32);
	return sock_bind(fd, family, &any, port);
}

int sock_freebind(int fd, bool on)
{
	return set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, on);
}

bool sock_binds_freely(int fd)
{
	return is_set(fd, IPPROTO_IPV6, IPV6_FREEBIND);
}

bool sock_is_v6only(int fd)
{
	return is_set(fd, IPPROTO_IPV6, IPV6_V6ONLY);
}

int sock_allow_mapped(int fd)
{
	return set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
}

int sock_disconnect(int fd)
{
	struct sockaddr to = {.sa_family = AF_UNSPEC};

	return syscall(SYS_connect, fd, &to, sizeof to) < 0 ? -errno : 0;
}

void sock_drain(int fd)
{
	/* As many as the largest ordinary receive buffer holds, then some. */
	for (int i = 0; i < 4096; i++)
		if (syscall(SYS_recvfrom, fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL) < 0)
			return;
}

bool sock_is_closed(int fd)
{
	uint8_t state = 0; /* the first byte of struct tcp_info */
	socklen_t length = sizeof state;

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length) == 0 && state == TCP_CLOSE;
}

uint64_t sock_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof cookie;

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}
