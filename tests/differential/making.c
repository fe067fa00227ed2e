/*
 * What the cases are made of: the place, addresses, sockets.
 */
#include "differential.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct address address_of(const char *text, int port)
{
	struct address a = {.length = 0};
	struct sockaddr_in *in = (struct sockaddr_in *)&a.storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a.storage;
	struct sockaddr_un *un = (struct sockaddr_un *)&a.storage;
	char plain[128];

	snprintf(plain, sizeof plain, "%s", text);
	char *scope = strchr(plain, '%');
	if (scope != NULL)
		*scope++ = '\0';
	if (inet_pton(AF_INET, plain, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		a.length = sizeof *in;
	} else if (inet_pton(AF_INET6, plain, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		in6->sin6_scope_id = scope != NULL ? if_nametoindex(scope) : 0;
		a.length = sizeof *in6;
	} else {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof un->sun_path, "%s", text);
		a.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text));
		if (*text == '@')
			un->sun_path[0] = '\0';
	}
	return a;
}

struct address call_address(const struct call *c)
{
	const char *text = c->text;

	if (text == NULL)
		memcpy(&text, (const char *)place + c->to, sizeof text);
	return address_of(text, c->port);
}

/* Two pages, the second of which is gone. */
static char *edge(void)
{
	static char *pages;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (pages == NULL) {
		pages = mmap(
			NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) < 0)
			abort();
	}
	return pages + page;
}

void *nowhere(void)
{
	return edge() + 64;
}

void *at_the_edge(const void *bytes, size_t size)
{
	return memcpy(edge() - size, bytes, size);
}

int must(int result, const char *what)
{
	if (result < 0) {
		tell("%s must not fail: %s", what, strerror(errno));
		_exit(1);
	}
	return result;
}

void set_option(int fd, int level, int option, int value)
{
	must(setsockopt(fd, level, option, &value, sizeof value), "setsockopt");
}

void set_impatient(int fd)
{
	struct timeval soon = {.tv_usec = 100000};
	struct linger none = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
}

void set_nonblocking(int fd)
{
	int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);

	if (flags >= 0)
		syscall(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
}

int tcp(void)
{
	return must(socket(place->family, SOCK_STREAM, 0), "socket");
}

int udp(void)
{
	return must(socket(place->family, SOCK_DGRAM, 0), "socket");
}

void do_connect(int fd, const char *to, int port, int error)
{
	struct address a = address_of(to, port);
	int result = connect(fd, SOCKADDR(&a), a.length);

	if (result < 0 ? errno != error : error != 0)
		tell("connect to %s:%d was to give %d: %s", to, port, error, strerror(errno));
}

void do_bind(int fd, const char *to, int port)
{
	struct address a = address_of(to, port);

	must(bind(fd, SOCKADDR(&a), a.length), "bind");
}

int with_option(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof value) < 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int with_device(int fd, const char *device)
{
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int disconnected(int fd)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	must(connect(fd, &nobody, sizeof nobody), "connect to AF_UNSPEC");
	return fd;
}

void tell_ordinary(void)
{
	struct address to = address_of(place->loopback, OPEN_PORT);
	struct address from = address_of(place->loopback, 0);
	int fd = socket(place->family, SOCK_STREAM, 0),
	    other = socket(place->family, SOCK_DGRAM, 0);

	tell_result("socket", fd);
	CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	tell_descriptor(fd);
	CALL("send", sendto(fd, "x", 1, MSG_NOSIGNAL, NULL, 0));
	CALL("dup", dup2(fd, 60));
	CALL("close", close(fd));
	CALL("close", close(60));
	CALL("close", close(60));
	CALL("connect", connect(other, SOCKADDR(&to), to.length));
	tell_descriptor(other);
	CALL("close", close(other));
	fd = socket(place->family, SOCK_STREAM, 0);
	CALL("bind", bind(fd, SOCKADDR(&from), from.length));
	CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	tell_descriptor(fd);
	CALL("close_range", close_range((unsigned)fd, (unsigned)fd, 0));
	tell_open();
}
