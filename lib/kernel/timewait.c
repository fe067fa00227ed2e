#include "kernel/timewait.h"

#include "kernel/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bind_local(
	int fd, const struct tuplebind_lane *lane, int family, uint16_t lport, bool any)
{
	struct addr laddr = {.scope = lane->scope};

	memcpy(laddr.bytes, lane->laddr, sizeof laddr.bytes);
	if (lane->scope != 0)
		sock_use_device(fd, lane->scope);
	if (family == AF_INET6)
		sock_freebind(fd, true);
	int error = sock_reuse_address(fd, true);
	if (error < 0)
		return error;
	return any ? sock_bind_any(fd, family, lport) : sock_bind(fd, family, &laddr, lport);
}

/* 0 or -errno; nothing is sent. */
static int take(int fd, const struct tuplebind_lane *lane, uint16_t lport, bool any,
	const struct addr *faddr, uint16_t fport, int family)
{
	struct sockaddr_storage to;
	socklen_t length = addr_to_sockaddr(faddr, fport, family, &to);
	int error = sock_put_off_syn(fd);

	if (error == 0)
		error = bind_local(fd, lane, family, lport, any);
	if (error < 0)
		return -EOPNOTSUPP; /* whatever it was, no word of the tuple */
	return syscall(SYS_connect, fd, &to, length) < 0 ? -errno : 0;
}

enum timewait timewait_probe(const struct tuplebind_lane *lane, uint16_t lport, bool any,
	const struct addr *faddr, uint16_t fport)
{
	int family = addr_is_v4(faddr) ? AF_INET : AF_INET6;
	int fd = (int)syscall(
		SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0)
		return TIMEWAIT_UNKNOWN;
	int error = take(fd, lane, lport, any, faddr, fport, family);
	syscall(SYS_close, fd);
	return error == 0		 ? TIMEWAIT_REUSABLE
	       : error == -EADDRNOTAVAIL ? TIMEWAIT_REFUSED
					 : TIMEWAIT_UNKNOWN;
}
