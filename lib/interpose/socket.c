/*
 * socket(): remembers which descriptors are new TCP sockets, which saves connect()
 * from asking, and tells it that no other process has them.
 */
#include "interpose/library.h"

#include "kernel/sock.h"

#include <errno.h>

static int family_served(int family, int type, int protocol)
{
	if ((family != AF_INET && family != AF_INET6) ||
		(type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != SOCK_STREAM)
		return 0;
	return protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP ? family : 0;
}

EXPORT int socket(int family, int type, int protocol)
{
	int fd = next()->socket(family, type, protocol);

	if (fd < 0 || !library_active())
		return fd;
	int served = family_served(family, type, protocol);
	if ((served != 0 || book_has(fd)) && book_usable()) {
		int saved = errno;

		book_note_socket(&library.table, fd, served);
		errno = saved;
	}
	return fd;
}
