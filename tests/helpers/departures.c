/*
 * departures.so: a preload behind tuplebind's that looks from where connections leave.
 *
 * A connection leaves from the address that the program bound; else from one of the pool that
 * serves the destination. After each connect() the kernel is asked for the local address, and what
 * was chosen is worked out anew: binds of the program come by here (those of the library do not:
 * they are system calls), and the settings are read from the same variables. Each connection that
 * left from elsewhere is one line in the file DEPARTURES_FILE.
 *
 * Exempt, as documented: destinations that are skipped or left to the kernel, sockets whose port
 * the program has chosen without an address, UDP sockets with SO_REUSEPORT, sockets of another
 * network namespace.
 */
#include "choose/plan.h"
#include "kernel/netns.h"
#include "kernel/sock.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT	__attribute__((visibility("default")))
#define SOCKETS 65536

typedef int connect_call(int, const struct sockaddr *, socklen_t);
typedef ssize_t sendto_call(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
typedef ssize_t sendmsg_call(int, const struct msghdr *, int);

static connect_call *next_connect, *next_bind;
static int (*next_setsockopt)(int, int, int, const void *, socklen_t);
static sendto_call *next_sendto;
static sendmsg_call *next_sendmsg;

/* What the program has bound to a socket, by its cookie. */
static struct bound {
	uint64_t cookie;
	struct addr addr;
	bool port; /* and a port */
} bounds[SOCKETS];

static bool active;
static struct config config;
static struct plan plan;
static struct netns home;

__attribute__((constructor)) static void start(void)
{
	struct fault fault;

	*(void **)&next_connect = dlsym(RTLD_NEXT, "connect");
	*(void **)&next_bind = dlsym(RTLD_NEXT, "bind");
	*(void **)&next_setsockopt = dlsym(RTLD_NEXT, "setsockopt");
	*(void **)&next_sendto = dlsym(RTLD_NEXT, "sendto");
	*(void **)&next_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
	active = getenv("DEPARTURES_FILE") != NULL && config_read(&config, &fault) == 0 &&
		 !config.disabled && plan_make(&plan, &config, &fault) == 0 &&
		 netns_current(&home) == 0;
}

static struct bound *bound_of(int fd)
{
	uint64_t cookie = sock_cookie(fd);
	struct bound *b = &bounds[cookie % SOCKETS];

	if (b->cookie != cookie)
		*b = (struct bound){.cookie = cookie};
	return b;
}

EXPORT int bind(int fd, const struct sockaddr *to, socklen_t length)
{
	int result = next_bind(fd, to, length), saved = errno;
	struct addr addr;
	uint16_t port;

	if (result == 0 && active && sock_local(fd, &addr, &port) == 0) {
		struct bound *b = bound_of(fd);

		b->addr = addr;
		b->port = port != 0;
	}
	errno = saved;
	return result;
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
	int result = next_setsockopt(fd, level, option, value, size), saved = errno;

	/* In a group of the program's own, which is left alone. */
	if (result == 0 && active && level == SOL_SOCKET && option == SO_REUSEPORT)
		bound_of(fd)->port = sock_reuses_port(fd);
	errno = saved;
	return result;
}

static void put_line(const char *what, const struct addr *laddr, uint16_t lport,
	const struct addr *faddr, uint16_t fport)
{
	struct text line;

	text_clear(&line);
	text_put(&line, what);
	text_put(&line, ": left from ");
	text_put_endpoint(&line, laddr, lport);
	text_put(&line, " to ");
	text_put_endpoint(&line, faddr, fport);
	text_put(&line, ", process ");
	text_put_number(&line, (uint64_t)getpid());
	text_put(&line, "\n");
	int file = (int)syscall(
		SYS_openat, AT_FDCWD, getenv("DEPARTURES_FILE"), O_WRONLY | O_APPEND | O_CLOEXEC);
	if (file < 0)
		return;
	if (syscall(SYS_write, file, line.bytes, line.length) < 0)
		abort();
	syscall(SYS_close, file);
}

/* Bound to hear by, never to send from: the kernel chooses the source. (A network's own broadcast
 * address, of the tests' networks, ends on 255.) */
static bool is_for_many(const struct addr *a)
{
	return addr_is_multicast(a) || addr_is_broadcast(a) ||
	       (addr_is_v4(a) && a->bytes[15] == 255);
}

static void put_bound(const struct addr *bound, const struct addr *laddr, uint16_t lport,
	const struct addr *faddr, uint16_t fport)
{
	struct text what;

	text_clear(&what);
	text_put(&what, "not the address that was bound, ");
	text_put_addr(&what, bound);
	put_line(what.bytes, laddr, lport, faddr, fport);
}

static void look(int fd, const struct addr *faddr, uint16_t fport)
{
	enum sock_kind kind = sock_ask_kind(fd);
	bool udp = sock_kind_protocol(kind) == IPPROTO_UDP;
	struct bound *b = bound_of(fd);
	const struct rule *rule;
	enum tuplebind_counter unused;
	struct addr laddr;
	uint16_t lport;

	if (kind == KIND_OTHER || sock_local(fd, &laddr, &lport) < 0 ||
		!netns_has_socket(&home, fd))
		return;
	if (!addr_is_any(&b->addr) && b->cookie != 0) {
		if (!addr_same(&b->addr, &laddr) && !is_for_many(&b->addr))
			put_bound(&b->addr, &laddr, lport, faddr, fport);
		return;
	}
	if (b->port || !(config.protocols & (udp ? PROTOCOL_UDP : PROTOCOL_TCP)))
		return;
	if (!plan_serves(&plan, faddr, fport, &rule, &unused) || addr_is_any(faddr) ||
		pool_count(&rule->pool, faddr) == 0)
		return;
	if (!pool_has(&rule->pool, faddr, &laddr))
		put_line("not an address of the pool", &laddr, lport, faddr, fport);
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct addr faddr, before;
	uint16_t fport, lport = 0;
	/* Of a UDP socket that has sent already the kernel has chosen the port. */
	bool own_port =
		active && sock_local(fd, &before, &lport) == 0 && lport != 0 &&
		addr_is_any(&before) &&
		(sock_kind_protocol(sock_ask_kind(fd)) == IPPROTO_UDP || bound_of(fd)->port);
	int result = next_connect(fd, to, length), saved = errno;

	if (active && !own_port && (result == 0 || saved == EINPROGRESS) && to != NULL &&
		addr_from_sockaddr(to, length, &faddr, &fport))
		look(fd, &faddr, fport);
	errno = saved;
	return result;
}

/* A send that connects on the way (MSG_FASTOPEN). */
static void look_at_send(
	int fd, ssize_t sent, int flags, const struct sockaddr *to, socklen_t length)
{
	struct addr faddr;
	uint16_t fport;
	int saved = errno;

	if (active && flags & MSG_FASTOPEN && (sent >= 0 || saved == EINPROGRESS) && to != NULL &&
		addr_from_sockaddr(to, length, &faddr, &fport) && !bound_of(fd)->port)
		look(fd, &faddr, fport);
	errno = saved;
}

EXPORT ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to,
	socklen_t length)
{
	ssize_t sent = next_sendto(fd, bytes, size, flags, to, length);

	look_at_send(fd, sent, flags, to, length);
	return sent;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t sent = next_sendmsg(fd, message, flags);

	if (flags & MSG_FASTOPEN && sent >= 0)
		look_at_send(fd, sent, flags, message->msg_name, message->msg_namelen);
	return sent;
}
