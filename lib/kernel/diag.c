#include "kernel/diag.h"

#include "base/scratch.h"
#include "kernel/netlink.h"
#include "kernel/sock.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * All but LISTEN and CLOSE, which have no foreign address. SYN_RECV sockets are servers'. What
 * comes after CLOSING is not TCP's: bound sockets, that is, which may have had a connection.
 */
#define CONNECTED_STATES (((2u << TCP_CLOSING) - 1) & ~(1u << TCP_LISTEN | 1u << TCP_CLOSE))

struct request {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
};

/* Raw system calls throughout: libc's are cancellation points, close() is taken over. */
int diag_open(void)
{
	int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

void diag_close(int fd)
{
	syscall(SYS_close, fd);
}

static int send_bytes(int fd, const struct iovec *parts, size_t count)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct msghdr message = {
		.msg_name = &kernel,
		.msg_namelen = sizeof kernel,
		.msg_iov = (struct iovec *)parts,
		.msg_iovlen = count,
	};

	return syscall(SYS_sendmsg, fd, &message, 0) < 0 ? -errno : 0;
}

static long receive(int fd, void *buffer, size_t size, int flags)
{
	long got;

	do {
		got = syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static enum diag_state state_of(const struct inet_diag_msg *m)
{
	if (m->idiag_state == TCP_TIME_WAIT)
		return DIAG_TIMEWAIT;
	return m->idiag_inode == 0 ? DIAG_ORPHAN : DIAG_HELD;
}

/*
 * Writes both ends of a tuple. For UDP the kernel looks up a datagram, and has source and
 * destination the other way round (udp_dump_one() of net/ipv4/udp_diag.c).
 */
static void put_ends(
	struct inet_diag_sockid *id, const struct tuplebind_lane *lane, uint16_t lport, bool v4)
{
	bool turned = lane->protocol == IPPROTO_UDP;
	size_t from = v4 ? 12 : 0, length = v4 ? 4 : 16;

	memcpy(turned ? id->idiag_dst : id->idiag_src, lane->laddr + from, length);
	memcpy(turned ? id->idiag_src : id->idiag_dst, lane->faddr + from, length);
	id->idiag_sport = htons(turned ? lane->fport : lport);
	id->idiag_dport = htons(turned ? lport : lane->fport);
	id->idiag_if = lane->scope;
	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
}

/* Asks, and has the first message of the answer. 0, or -errno. */
static int exchange(int fd, const struct request *request, struct nlmsghdr *reply, size_t size)
{
	int error = send_bytes(
		fd, &(struct iovec){.iov_base = (void *)request, .iov_len = sizeof *request}, 1);

	if (error < 0)
		return error;
	/* The kernel answers within sendmsg(). */
	long got = receive(fd, reply, size, MSG_DONTWAIT);
	if (got < 0)
		return (int)got;
	return NLMSG_OK(reply, (unsigned)got) ? 0 : -EPROTO;
}

/*
 * ENOENT may also mean that the module for the protocol is missing. A dump of sockets in no state
 * at all tells: it is empty, or refused with the same error.
 */
static int ask_module(int fd, int protocol)
{
	struct request request = {
		.head = {.nlmsg_len = sizeof request,
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.sdiag_family = AF_INET, .sdiag_protocol = (uint8_t)protocol},
	};
	union {
		struct nlmsghdr head;
		char bytes[256];
	} reply;
	int error = exchange(fd, &request, &reply.head, sizeof reply);

	if (error < 0)
		return error;
	if (reply.head.nlmsg_type == NLMSG_DONE)
		error = netlink_end(&reply.head);
	else
		error = reply.head.nlmsg_type == NLMSG_ERROR ? netlink_error(&reply.head) : -EPROTO;
	return error == -ENOENT ? -EPROTONOSUPPORT : error;
}

/* Whether ENOENT means that there is no such socket: it is not asked again once it was so. */
static int is_module_there(int fd, uint8_t protocol)
{
	static _Atomic int tcp, udp;
	_Atomic int *known = protocol == IPPROTO_UDP ? &udp : &tcp;

	if (atomic_load_explicit(known, memory_order_relaxed))
		return 0;
	int error = ask_module(fd, protocol);
	if (error == 0)
		atomic_store_explicit(known, 1, memory_order_relaxed);
	return error;
}

int diag_answers(int protocol)
{
	int fd = diag_open();

	if (fd < 0)
		return fd;
	int error = ask_module(fd, protocol);
	diag_close(fd);
	return error;
}

/* What the socket that the kernel found for a tuple to @fport says of it. */
static enum diag_state state_found(const struct inet_diag_msg *m, uint8_t protocol, uint16_t fport)
{
	bool connected = m->id.idiag_dport == htons(fport) && m->idiag_state != TCP_LISTEN;

	if (protocol == IPPROTO_UDP)
		return connected ? DIAG_HELD : DIAG_OPEN;
	/* Where no connection matches, the kernel offers a listener of that port. */
	return connected ? state_of(m) : DIAG_ABSENT;
}

int diag_query(int fd, const struct tuplebind_lane *lane, uint16_t lport)
{
	uint64_t unused;

	return diag_query_cookie(fd, lane, lport, &unused);
}

int diag_query_cookie(int fd, const struct tuplebind_lane *lane, uint16_t lport, uint64_t *cookie)
{
	struct addr laddr = {.scope = 0};
	struct request request = {
		.head = {.nlmsg_len = sizeof request,
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST},
		.body = {.sdiag_protocol = lane->protocol, .idiag_states = UINT32_MAX},
	};
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} reply;

	*cookie = 0;
	memcpy(laddr.bytes, lane->laddr, sizeof laddr.bytes);
	bool v4 = addr_is_v4(&laddr);
	request.body.sdiag_family = v4 ? AF_INET : AF_INET6;
	put_ends(&request.body.id, lane, lport, v4);
	int error = exchange(fd, &request, &reply.head, sizeof reply);
	if (error < 0)
		return error;
	if (reply.head.nlmsg_type == NLMSG_ERROR) {
		error = netlink_error(&reply.head);
		if (error == -ENOENT)
			error = is_module_there(fd, lane->protocol);
		return error == 0 ? DIAG_ABSENT : error;
	}
	if (!netlink_holds(&reply.head, sizeof(struct inet_diag_msg)))
		return -EPROTO;
	const struct inet_diag_msg *m = NLMSG_DATA(&reply.head);
	*cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];
	return (int)state_found(m, lane->protocol, lane->fport);
}

int diag_tuple(const struct tuplebind_lane *lane, uint16_t lport)
{
	int fd = diag_open();

	if (fd < 0)
		return fd;
	int state = diag_query(fd, lane, lport);
	diag_close(fd);
	return state;
}

static bool lane_of(const struct inet_diag_msg *m, int protocol, struct tuplebind_lane *lane)
{
	struct addr laddr, faddr;
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	uint16_t unused;

	*lane = (struct tuplebind_lane){
		.fport = ntohs(m->id.idiag_dport), .protocol = (uint8_t)protocol};
	if (m->idiag_family == AF_INET) {
		memcpy(&v4.sin_addr, m->id.idiag_src, 4);
		addr_from_sockaddr((struct sockaddr *)&v4, sizeof v4, &laddr, &unused);
		memcpy(&v4.sin_addr, m->id.idiag_dst, 4);
		addr_from_sockaddr((struct sockaddr *)&v4, sizeof v4, &faddr, &unused);
	} else {
		memcpy(laddr.bytes, m->id.idiag_src, 16);
		memcpy(faddr.bytes, m->id.idiag_dst, 16);
	}
	memcpy(lane->laddr, laddr.bytes, 16);
	memcpy(lane->faddr, faddr.bytes, 16);
	lane->scope = m->id.idiag_if;
	return lane->fport != 0;
}

/* What a dump asks for, and what is done with each socket of it. */
struct dump {
	int protocol;
	uint32_t states;
	uint16_t fport; /* 0: any */
	diag_visit *visit;
	diag_port *visit_port;
	void *context;
};

static void dump_message(const struct dump *d, const struct inet_diag_msg *m)
{
	struct tuplebind_lane lane;

	if (d->visit_port != NULL)
		d->visit_port(d->context, ntohs(m->id.idiag_sport));
	else if (lane_of(m, d->protocol, &lane))
		/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): one of the two is there */
		d->visit(d->context, &lane, ntohs(m->id.idiag_sport), state_of(m));
}

/*
 * One family's dump. The filter is a two-step program: destination port >= fport, then
 * <= fport; a jump past the end refuses the socket.
 */
static int dump_family(int fd, int family, const struct dump *d, char buffer[static SCRATCH_SIZE])
{
	struct request request = {
		.head = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.sdiag_family = (uint8_t)family,
			.sdiag_protocol = (uint8_t)d->protocol,
			.idiag_states = d->states},
	};
	struct inet_diag_bc_op filter[4] = {
		{.code = INET_DIAG_BC_D_GE, .yes = 2 * sizeof *filter, .no = sizeof filter + 4},
		{.no = d->fport},
		{.code = INET_DIAG_BC_D_LE,
			.yes = 2 * sizeof *filter,
			.no = 2 * sizeof *filter + 4},
		{.no = d->fport},
	};
	struct nlattr attribute = {
		.nla_len = sizeof attribute + sizeof filter, .nla_type = INET_DIAG_REQ_BYTECODE};
	struct iovec parts[] = {
		{.iov_base = &request, .iov_len = sizeof request},
		{.iov_base = &attribute, .iov_len = sizeof attribute},
		{.iov_base = filter, .iov_len = sizeof filter},
	};
	static const size_t with_filter = 3, without = 1;

	request.head.nlmsg_len = sizeof request + (d->fport ? sizeof attribute + sizeof filter : 0);
	int error = send_bytes(fd, parts, d->fport ? with_filter : without);
	if (error < 0)
		return error;
	for (;;) {
		long got = receive(fd, buffer, SCRATCH_SIZE, 0);

		if (got <= 0)
			return got < 0 ? (int)got : -EPROTO;
		unsigned left = (unsigned)got;
		for (const struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, left);
			h = netlink_next(h, &left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return netlink_end(h);
			if (h->nlmsg_type == NLMSG_ERROR)
				return netlink_error(h);
			if (!netlink_holds(h, sizeof(struct inet_diag_msg)))
				return -EPROTO;
			dump_message(d, NLMSG_DATA(h));
		}
	}
}

static int dump(const struct dump *d)
{
	int fd = diag_open();

	if (fd < 0)
		return fd;
	char *buffer = scratch_take();
	int error = buffer == NULL ? -EBUSY : dump_family(fd, AF_INET, d, buffer);
	if (error == 0)
		error = dump_family(fd, AF_INET6, d, buffer);
	if (buffer != NULL)
		scratch_put();
	diag_close(fd);
	return error;
}

int diag_dump(int protocol, uint16_t fport, diag_visit *visit, void *context)
{
	return dump(&(struct dump){.protocol = protocol,
		.states = CONNECTED_STATES,
		.fport = fport,
		.visit = visit,
		.context = context});
}

int diag_listeners(diag_port *visit, void *context)
{
	return dump(&(struct dump){.protocol = IPPROTO_TCP,
		.states = 1u << TCP_LISTEN,
		.visit_port = visit,
		.context = context});
}
