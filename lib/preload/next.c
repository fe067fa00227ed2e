#include "preload/next.h"

#include <dlfcn.h>
#include <stdatomic.h>

static struct next found;
static _Atomic int complete;

/* dlsym() gives an object pointer; this is POSIX's way to a function from it. */
static void find(void *place, const char *name)
{
	*(void **)place = dlsym(RTLD_NEXT, name);
}

const struct next *next(void)
{
	/* Two threads may find at once: both store the same addresses. */
	if (!atomic_load_explicit(&complete, memory_order_acquire)) {
		find(&found.socket, "socket");
		find(&found.bind, "bind");
		find(&found.getsockname, "getsockname");
		find(&found.setsockopt, "setsockopt");
		find(&found.connect, "connect");
		find(&found.sendto, "sendto");
		find(&found.sendmsg, "sendmsg");
		find(&found.sendmmsg, "sendmmsg");
		find(&found.close, "close");
		find(&found.close_range, "close_range");
		find(&found.closefrom, "closefrom");
		find(&found.dup, "dup");
		find(&found.dup2, "dup2");
		find(&found.dup3, "dup3");
		find(&found.fcntl, "fcntl");
		find(&found.fcntl64, "fcntl64");
		find(&found.fork_, "_Fork");
		find(&found.setns, "setns");
		find(&found.unshare, "unshare");
		find(&found.mlockall, "mlockall");
		atomic_store_explicit(&complete, 1, memory_order_release);
	}
	return &found;
}
