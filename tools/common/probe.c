#include "tools/common/probe.h"

#include "kernel/sock.h"

#include <errno.h>
#include <unistd.h>

int probe_bind(const struct addr *a, bool freebind, uint8_t protocol)
{
	int family = addr_is_v4(a) ? AF_INET : AF_INET6;
	int fd = socket(
		family, (protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int error = sock_bind_takes_no_port(fd, true);
	if (error == 0 && freebind)
		error = sock_freebind(fd, true);
	if (error == 0)
		error = sock_bind(fd, family, a, 0);
	close(fd);
	return error;
}

bool probe_late_bind(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && sock_narrow_ports(fd, 1, 1) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}
