/*
 * meddling.so: another preload, before or behind tuplebind in the chain, that does things in the
 * calls.
 *
 * MEDDLING says what, before it passes the call on to the next definition:
 *
 *   talk   in socket(), connect() and close(): connects to MEDDLING_PORT on 127.0.0.1, and closes
 * that fork   in connect(): forks a child, which closes the descriptor and ends
 *
 * What it calls itself goes through the chain from its beginning, as it does for every library. A
 * call of its own that fails ends the program.
 *
 * talk_to() is for programs that load it with dlopen().
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT	     __attribute__((visibility("default")))
#define EXIT_MEDDLED 98

EXPORT int talk_to(int port);

static _Thread_local bool meddling;

static bool told_to(const char *what)
{
	const char *told = getenv("MEDDLING");

	return told != NULL && strcmp(told, what) == 0;
}

static int need(int result, const char *call)
{
	if (result < 0) {
		dprintf(STDERR_FILENO, "meddling: %s: %s\n", call, strerror(errno));
		_exit(EXIT_MEDDLED);
	}
	return result;
}

/* A new connection's descriptor. */
EXPORT int talk_to(int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)port),
	};
	struct linger reset = {.l_onoff = 1};
	int fd = need(socket(AF_INET, SOCK_STREAM, 0), "socket");

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	need(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
	return fd;
}

static void talk(void)
{
	const char *port = getenv("MEDDLING_PORT");
	int error = errno;

	if (meddling || !told_to("talk") || port == NULL)
		return;
	meddling = true;
	need(close(talk_to(atoi(port))), "close");
	meddling = false;
	errno = error;
}

static void fork_and_close(int fd)
{
	int error = errno, status;

	if (meddling || !told_to("fork"))
		return;
	pid_t pid = need(fork(), "fork");
	if (pid == 0)
		_exit(close(fd) < 0);
	need(waitpid(pid, &status, 0), "waitpid");
	need(-status, "the child's close");
	errno = error;
}

EXPORT int socket(int family, int type, int protocol)
{
	int (*next)(int, int, int) = dlsym(RTLD_NEXT, "socket");

	talk();
	return next(family, type, protocol);
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");

	talk();
	fork_and_close(fd);
	return next(fd, to, length);
}

EXPORT int close(int fd)
{
	int (*next)(int) = dlsym(RTLD_NEXT, "close");

	talk();
	return next(fd);
}
