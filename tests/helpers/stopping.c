/*
 * stopping.so: another preload, behind tuplebind in the chain: stops the process in connect().
 *
 * At the first connect() to the port in STOPPING_PORT that tuplebind passes on, the process stops itself
 * (SIGSTOP): the tuple is claimed by then, and the kernel does not know of it yet.
 */
#include <dlfcn.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	const char *port = getenv("STOPPING_PORT");
	static bool stopped;

	if (!stopped && port != NULL && to->sa_family == AF_INET &&
		((const struct sockaddr_in *)to)->sin_port == htons((uint16_t)atoi(port))) {
		stopped = true;
		raise(SIGSTOP);
	}
	return next(fd, to, length);
}
