#include "kernel/sock.h"

#include <errno.h>
#include <sys/socket.h>

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
	return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

int sock_kind(int fd, struct sock_kind *kind)
{
	int error = get_int(fd, SOL_SOCKET, SO_DOMAIN, &kind->family);

	if (error == 0)
		error = get_int(fd, SOL_SOCKET, SO_TYPE, &kind->type);
	if (error == 0)
		error = get_int(fd, SOL_SOCKET, SO_PROTOCOL, &kind->protocol);
	return error;
}

int sock_local(int fd, struct addr *a, uint16_t *port)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof storage;

	if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&storage, length, a, port) ? 0 : -EAFNOSUPPORT;
}

bool sock_routed_apart(int fd)
{
	int value = 0;

	if (get_int(fd, SOL_SOCKET, SO_MARK, &value) == 0 && value != 0)
		return true;
	return get_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &value) == 0 && value != 0;
}

int sock_reuse_address(int fd)
{
	return set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

int sock_bind_takes_no_port(int fd)
{
	return set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
}

int sock_narrow_ports(int fd, uint16_t port)
{
	return set_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (int)((uint32_t)port << 16 | port));
}

int sock_bind(int fd, int family, const struct addr *a, uint16_t port)
{
	struct sockaddr_storage storage;
	socklen_t length = addr_to_sockaddr(a, port, family, &storage);

	if (length == 0)
		return -EAFNOSUPPORT;
	return bind(fd, (struct sockaddr *)&storage, length) < 0 ? -errno : 0;
}
