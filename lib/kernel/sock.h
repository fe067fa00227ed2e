/*
 * What is asked of, and told to, one socket.
 *
 * Thin: each function is one system call (which is told where it is not so), none is a
 * cancellation point, none takes memory, all are async-signal-safe. Errors are
 * negative errno; errno itself may change.
 */
#pragma once

#include "base/addr.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* Linux 6.3 */
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct sock_kind {
	int family;   /* AF_INET, AF_INET6, others */
	int type;     /* SOCK_STREAM, ... */
	int protocol; /* IPPROTO_TCP, ... */
};

/* Three system calls. -ENOTSOCK, -EBADF. */
int sock_kind(int fd, struct sock_kind *kind);

/* The socket's local address and port; -EAFNOSUPPORT when it is not of an Internet family. */
int sock_local(int fd, struct addr *a, uint16_t *port);

/* True when SO_MARK or SO_BINDTODEVICE is set, so that routing may differ from other sockets'. */
bool sock_routed_apart(int fd);

/* SO_REUSEADDR=1. */
int sock_reuse_address(int fd);

/* IP_BIND_ADDRESS_NO_PORT=1: the next bind() with port 0 takes no port. */
int sock_bind_takes_no_port(int fd);

/* IP_LOCAL_PORT_RANGE: [port, port], or none when @port is 0. -ENOPROTOOPT before Linux 6.3. */
int sock_narrow_ports(int fd, uint16_t port);

/* bind() to @a and @port of a socket of @family. */
int sock_bind(int fd, int family, const struct addr *a, uint16_t port);
