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
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78 /* Linux 4.15 */
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* What a socket is, as far as it matters here: Multipath TCP counts as TCP. */
enum sock_kind { KIND_OTHER, KIND_TCP4, KIND_TCP6, KIND_UDP4, KIND_UDP6 };

/* The kind that socket() makes of its arguments; type flags (SOCK_CLOEXEC, ...) do not matter. */
enum sock_kind sock_kind_of(int family, int type, int protocol);

static inline int sock_kind_family(enum sock_kind kind)
{
	return kind == KIND_TCP4 || kind == KIND_UDP4 ? AF_INET : AF_INET6;
}

static inline uint8_t sock_kind_protocol(enum sock_kind kind)
{
	return kind == KIND_UDP4 || kind == KIND_UDP6 ? IPPROTO_UDP : IPPROTO_TCP;
}

/* The kind of an open socket; KIND_OTHER for what is none. Three system calls. */
enum sock_kind sock_ask_kind(int fd);

/* The socket's local address and port; -EAFNOSUPPORT when it is not of an Internet family. */
int sock_local(int fd, struct addr *a, uint16_t *port);

/*
 * The foreign end that the socket really has, which need not be the one that connect() was given:
 * the ANY address becomes this host's, and a program of a control group (cgroup/connect4, connect6)
 * may send it elsewhere. Unlike getpeername(2) it also tells of a TCP socket that is still
 * connecting. -ENOTCONN when there is none.
 */
int sock_peer(int fd, int family, struct addr *a, uint16_t *port);

/*
 * Where a UDP socket of @family that connects to @to would be connected to. Asks by one, from which
 * nothing is sent. 0 or -errno. Four system calls.
 */
int sock_ask_peer(
	int family, const struct sockaddr *to, socklen_t length, struct addr *a, uint16_t *port);

/* True when SO_MARK is set, so that routing may differ from other sockets'. */
bool sock_is_marked(int fd);

/* The index of the interface the socket is bound to (SO_BINDTODEVICE), else 0. */
uint32_t sock_device(int fd);

/* The same set: binds the socket to an interface. */
int sock_use_device(int fd, uint32_t index);

/*
 * TCP Fast Open without a cookie: connect() takes the tuple and leaves the rest, the SYN as well,
 * to the first write (tcp_fastopen_defer_connect() of net/ipv4/tcp_fastopen.c). Two system calls;
 * -EOPNOTSUPP where net.ipv4.tcp_fastopen forbids it.
 */
int sock_put_off_syn(int fd);

/* SO_REUSEADDR. */
int sock_reuse_address(int fd, bool on);
bool sock_reuses_address(int fd);

/* SO_REUSEPORT. */
int sock_reuse_port(int fd, bool on);
bool sock_reuses_port(int fd);

/* IP_BIND_ADDRESS_NO_PORT: whether the next bind() with port 0 takes no port. */
int sock_bind_takes_no_port(int fd, bool on);

/* 1 or 0, or -errno where there is no such option. */
int sock_asks_no_port(int fd);

/* IP_LOCAL_PORT_RANGE: [first, last], or none when both are 0. -ENOPROTOOPT before Linux 6.3. */
int sock_narrow_ports(int fd, uint16_t first, uint16_t last);

/* IP_LOCAL_PORT_RANGE as the kernel has it, the last port in the upper half; 0 when it is not set.
 */
uint32_t sock_port_range(int fd);

/* True when IP_LOCAL_PORT_RANGE is set to anything. */
bool sock_ports_narrowed(int fd);

/*
 * bind() to @a and @port of a socket of @family.
 *
 * What the socket is like after a bind() that failed (__inet_bind() of net/ipv4/af_inet.c, and its
 * like for IPv6):
 *
 *   -EADDRINUSE    somebody else has the port; the address that the socket had is cleared
 *   -EADDRNOTAVAIL the address is not this host's; nothing has changed
 *   -EACCES        a privileged port, or a security module (SELinux, Landlock); nothing has changed
 *   -EPERM         a seccomp filter, or a control group's program, before; nothing has changed. Or
 *                  such a program after the port was taken: the address is cleared
 *   -EINVAL        it has a port, or is connected; nothing has changed
 *   -ENOMEM, -ENOBUFS  no memory for the port; the address is cleared
 *
 * A cleared address is ANY: the next connect() leaves from wherever routing says. With port 0 and
 * IP_BIND_ADDRESS_NO_PORT no port is looked for, and nothing is cleared.
 *
 * A bind() to an address marks it as chosen for as long as the socket lasts: after a connect() that
 * failed, and after AF_UNSPEC, the kernel no longer clears the address that it chose by itself.
 */
int sock_bind(int fd, int family, const struct addr *a, uint16_t port);

/*
 * The same to the ANY address. Without a port (0), and with IP_BIND_ADDRESS_NO_PORT, it takes an
 * address away again that was bound so.
 */
int sock_bind_any(int fd, int family, uint16_t port);

/* IPV6_V6ONLY: bind() to an IPv6 address sets it. It can be taken back while there is no port. */
bool sock_is_v6only(int fd);
int sock_allow_mapped(int fd);

/* IPV6_FREEBIND: bind() does not ask whether the address is this host's. */
int sock_freebind(int fd, bool on);
bool sock_binds_freely(int fd);

/* connect() to AF_UNSPEC: takes a UDP socket off its tuple. */
int sock_disconnect(int fd);

/* Throws away what a UDP socket has received so far (at most some thousand datagrams). */
void sock_drain(int fd);

/* True for a TCP socket in state CLOSE: it neither is connected nor goes on connecting. */
bool sock_is_closed(int fd);

/* SO_COOKIE: names the socket for as long as the system runs; 0: cannot be had. */
uint64_t sock_cookie(int fd);
