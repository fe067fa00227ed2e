#include "kernel/netns.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof cookie;

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		return 0;
	return cookie;
}

int netns_current(struct netns *ns)
{
	struct stat st;
	int fd = (int)syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ns->cookie = 0;
	if (fd >= 0) {
		ns->cookie = cookie_of(fd);
		syscall(SYS_close, fd);
	}
	if (stat("/proc/thread-self/ns/net", &st) == 0)
		ns->inode = st.st_ino;
	else if (ns->cookie != 0)
		ns->inode = ns->cookie;
	else
		return -errno;
	return 0;
}

bool netns_is_here(const struct netns *ns)
{
	struct netns here = {.inode = 0};

	if (netns_current(&here) < 0)
		return false;
	/* Each may be missing now and then: without a descriptor left, without /proc. */
	return here.cookie != 0 && ns->cookie != 0 ? here.cookie == ns->cookie
						   : here.inode == ns->inode;
}

bool netns_has_socket(const struct netns *ns, int fd)
{
	uint64_t cookie;

	if (ns->cookie == 0)
		return true;
	cookie = cookie_of(fd);
	return cookie == 0 || cookie == ns->cookie;
}
