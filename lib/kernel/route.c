#include "kernel/route.h"

#include "kernel/netlink.h"
#include "kernel/sock.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct request {
	struct nlmsghdr head;
	struct rtmsg body;
	char attributes[2 * RTA_SPACE(16) + 2 * RTA_SPACE(2)];
};

static void put_attribute(struct request *r, uint16_t type, const struct addr *a)
{
	size_t length = r->body.rtm_family == AF_INET ? 4 : 16;
	struct rtattr *attribute = (struct rtattr *)((char *)r + r->head.nlmsg_len);

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(length);
	memcpy(RTA_DATA(attribute), a->bytes + sizeof a->bytes - length, length);
	r->head.nlmsg_len += (uint32_t)RTA_SPACE(length);
}

static void put_number(struct request *r, uint16_t type, const void *value, size_t length)
{
	struct rtattr *attribute = (struct rtattr *)((char *)r + r->head.nlmsg_len);

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(length);
	memcpy(RTA_DATA(attribute), value, length);
	r->head.nlmsg_len += (uint32_t)RTA_SPACE(length);
}

static void put_bytes(struct addr *a, const struct rtattr *attribute, size_t length)
{
	if (RTA_PAYLOAD(attribute) == length)
		memcpy(a->bytes + sizeof a->bytes - length, RTA_DATA(attribute), length);
}

/* What a RTM_NEWROUTE message says. */
struct answer {
	uint8_t type, bits; /* of the route */
	struct addr source; /* ANY: it names none */
};

static int read_reply(const struct nlmsghdr *head, unsigned got, int family, struct answer *answer)
{
	const struct rtmsg *route = NLMSG_DATA(head);
	size_t length = family == AF_INET ? 4 : 16;
	uint32_t device = 0;

	if (!NLMSG_OK(head, got))
		return -EPROTO;
	if (head->nlmsg_type == NLMSG_ERROR)
		return netlink_error(head);
	if (head->nlmsg_type != RTM_NEWROUTE || !netlink_holds(head, sizeof *route))
		return -EPROTO;
	*answer = (struct answer){.type = route->rtm_type, .bits = route->rtm_dst_len};
	if (family == AF_INET)
		answer->source = addr_from_number((unsigned __int128)0xffff << 32);
	const struct rtattr *attribute = RTM_RTA(route);
	unsigned left = (unsigned)RTM_PAYLOAD(head);
	for (; RTA_OK(attribute, left); attribute = netlink_next_attribute(attribute, &left)) {
		if (attribute->rta_type == RTA_PREFSRC)
			put_bytes(&answer->source, attribute, length);
		else if (attribute->rta_type == RTA_OIF && RTA_PAYLOAD(attribute) == sizeof device)
			memcpy(&device, RTA_DATA(attribute), sizeof device);
	}
	if (addr_reach(&answer->source) == ADDR_LINK)
		answer->source.scope = device;
	return 0;
}

/* What a route is asked for with. */
struct question {
	const struct addr *faddr, *from; /* from: NULL: any */
	uint8_t protocol;		 /* 0: of whatever protocol, and port */
	uint16_t fport;
	unsigned flags;
};

/* Rules may go by protocol and port; kernels before 4.17 have no such rules, and pass over these.
 */
static void put_rest(struct request *r, const struct question *q)
{
	uint16_t port = htons(q->fport);

	if (q->from != NULL)
		put_attribute(r, RTA_SRC, q->from);
	if (q->protocol == 0)
		return;
	put_number(r, RTA_IP_PROTO, &q->protocol, sizeof q->protocol);
	put_number(r, RTA_DPORT, &port, sizeof port);
}

/*
 * Asks by rtnetlink(7), which needs no port. -EAFNOSUPPORT and its like where that is forbidden.
 */
static int ask_netlink(const struct question *q, struct answer *answer)
{
	const struct addr *faddr = q->faddr;

	int family = addr_is_v4(faddr) ? AF_INET : AF_INET6;
	uint8_t bits = family == AF_INET ? 32 : 128;
	struct request request = {
		.head = {.nlmsg_len = offsetof(struct request, attributes),
			.nlmsg_type = RTM_GETROUTE,
			.nlmsg_flags = NLM_F_REQUEST},
		.body = {.rtm_family = (uint8_t)family,
			.rtm_dst_len = bits,
			.rtm_src_len = q->from != NULL ? bits : 0,
			.rtm_flags = q->flags},
	};
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} reply;
	int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	put_attribute(&request, RTA_DST, faddr);
	put_rest(&request, q);
	long got = syscall(SYS_sendto, fd, &request, request.head.nlmsg_len, 0, NULL, 0);
	/* The kernel answers within sendto(). */
	if (got >= 0)
		got = syscall(SYS_recvfrom, fd, &reply, sizeof reply, MSG_DONTWAIT, NULL, NULL);
	int error = got < 0 ? -errno : read_reply(&reply.head, (unsigned)got, family, answer);
	syscall(SYS_close, fd);
	return error;
}

/* Asks by connecting a UDP socket there (nothing is sent), for which a port must be free. */
static int ask_socket(const struct addr *faddr, uint16_t fport, int family, struct addr *laddr)
{
	struct sockaddr_storage storage;
	/* No packet leaves a socket that is only connected. */
	socklen_t length = addr_to_sockaddr(faddr, fport, family, &storage);
	uint16_t port;
	int error;

	int fd = (int)syscall(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_connect, fd, &storage, length) < 0)
		error = -errno;
	else
		error = sock_local(fd, laddr, &port);
	syscall(SYS_close, fd);
	return error;
}

/* Whether @error says that rtnetlink cannot be had, rather than that there is no route. */
static bool is_no_answer(int error)
{
	switch (error) {
	case -EAFNOSUPPORT: /* no netlink here, or forbidden by a sandbox */
	case -EPROTONOSUPPORT:
	case -EACCES:
	case -EPERM:
	case -EPROTO:
	case -EAGAIN:
		return true;
	default:
		return false;
	}
}

int route_source(const struct addr *faddr, uint8_t protocol, uint16_t fport, struct addr *laddr)
{
	struct answer answer = {.bits = 0};
	int error = -EAFNOSUPPORT;

	/* A link-local destination is on the link of its scope, which only a socket tells shortly.
	 */
	if (faddr->scope == 0)
		error = ask_netlink(
			&(struct question){.faddr = faddr, .protocol = protocol, .fport = fport},
			&answer);
	if (is_no_answer(error))
		return ask_socket(faddr, fport, addr_is_v4(faddr) ? AF_INET : AF_INET6, laddr);
	if (error == 0)
		*laddr = answer.source;
	return error == 0 && addr_is_any(laddr) ? -ENETUNREACH : error;
}

int route_check(const struct addr *laddr, const struct addr *faddr)
{
	struct answer unused;
	const struct question q = {.faddr = faddr, .from = laddr};
	int error = faddr->scope == 0 ? ask_netlink(&q, &unused) : 0;

	switch (error) {
	case -ENETUNREACH:
	case -EHOSTUNREACH:
	case -EACCES: /* a route of type prohibit */
	case -EINVAL: /* of type blackhole */
		return error;
	default:
		return 0;
	}
}

bool route_is_local(const struct addr *a, unsigned *bits)
{
	struct answer answer = {.bits = 0};

	/* The route itself, whose prefix may be longer or shorter, not the one to this address
	 * alone. */
	if (ask_netlink(&(struct question){.faddr = a, .flags = RTM_F_FIB_MATCH}, &answer) < 0 ||
		answer.type != RTN_LOCAL)
		return false;
	*bits = answer.bits;
	return true;
}
