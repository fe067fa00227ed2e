/*
 * sink ADDRESS PORT [ADDRESS PORT]...: a server that takes connections and does nothing else.
 *
 * It listens and never accepts, so the kernel completes the connections and no descriptor is
 * spent on them. Says "ready" on stdout when all sockets listen, ends when stdin does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void listen_on(const char *address, const char *port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int v6 = strchr(address, ':') != NULL, one = 1;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		fail("socket");
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&in6.sin6_addr : &in.sin_addr) != 1) {
		errno = EINVAL;
		fail(address);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in, v6 ? sizeof in6 : sizeof in) < 0)
		fail("bind");
	/* Cut to net.core.somaxconn by the kernel: raise that before. */
	if (listen(fd, 1 << 30) < 0)
		fail("listen");
}

int main(int argc, char **argv)
{
	char byte;

	for (int i = 1; i + 1 < argc; i += 2)
		listen_on(argv[i], argv[i + 1]);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
