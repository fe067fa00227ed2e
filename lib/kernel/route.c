#include "kernel/route.h"

#include "kernel/sock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int route_source(const struct addr *faddr, struct addr *laddr)
{
	struct sockaddr_storage storage;
	int family = addr_is_v4(faddr) ? AF_INET : AF_INET6;
	/* Any port but 0 will do: no packet leaves a socket that is only connected. */
	socklen_t length = addr_to_sockaddr(faddr, 9, family, &storage);
	uint16_t port;
	int error;

	int fd = (int)syscall(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_connect, fd, &storage, length) < 0)
		error = -errno;
	else
		error = sock_local(fd, laddr, &port);
	syscall(SYS_close, fd);
	return error;
}
