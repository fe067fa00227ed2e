/* An address and a port from the command line, and other small things of the test programs. */
#pragma once

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct endpoint {
	struct sockaddr_storage address;
	socklen_t length;
};

static inline void endpoint_set_port(struct endpoint *e, uint16_t port)
{
	((struct sockaddr_in *)&e->address)->sin_port = htons(port); /* at the same place in both */
}

/* @e becomes the endpoint so many IPv4 addresses and ports behind @first. */
static inline void endpoint_step(
	struct endpoint *e, const struct endpoint *first, long addresses, long ports)
{
	const struct sockaddr_in *from = (const struct sockaddr_in *)&first->address;

	*e = *first;
	endpoint_set_port(e, (uint16_t)(ntohs(from->sin_port) + ports));
	if (addresses != 0)
		((struct sockaddr_in *)&e->address)->sin_addr.s_addr =
			htonl(ntohl(from->sin_addr.s_addr) + (uint32_t)addresses);
}

static inline struct endpoint endpoint_read(const char *address, const char *port)
{
	struct endpoint e;
	struct addrinfo *found;
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};

	if (getaddrinfo(address, port, &hints, &found) != 0) {
		fprintf(stderr, "%s and %s are not an address and a port\n", address, port);
		exit(2);
	}
	memcpy(&e.address, found->ai_addr, found->ai_addrlen);
	e.length = found->ai_addrlen;
	freeaddrinfo(found);
	return e;
}

/* Closing such a socket, or dying with it, resets the connection: nothing of it remains. */
static inline void reset_at_close(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static inline long clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

/* SIGTERM is looked for between two calls: none is interrupted by it. */
static inline void hold_term(void)
{
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
}

static inline bool term_came(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM);
}
