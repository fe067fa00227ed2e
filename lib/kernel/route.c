#include "kernel/route.h"

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
	struct rtattr to_head;
	uint8_t to[16];
};

static void put_bytes(struct addr *a, const struct rtattr *attribute, size_t length)
{
	if (RTA_PAYLOAD(attribute) == length)
		memcpy(a->bytes + sizeof a->bytes - length, RTA_DATA(attribute), length);
}

/* The source address of a RTM_NEWROUTE message of @got bytes. */
static int read_reply(const struct nlmsghdr *head, unsigned got, int family, struct addr *laddr)
{
	size_t length = family == AF_INET ? 4 : 16;
	uint32_t device = 0;

	if (!NLMSG_OK(head, got))
		return -EPROTO;
	if (head->nlmsg_type == NLMSG_ERROR)
		return ((const struct nlmsgerr *)NLMSG_DATA(head))->error;
	if (head->nlmsg_type != RTM_NEWROUTE)
		return -EPROTO;
	memset(laddr, 0, sizeof *laddr);
	if (family == AF_INET)
		*laddr = addr_from_number((unsigned __int128)0xffff << 32);
	const struct rtattr *attribute = RTM_RTA((const struct rtmsg *)NLMSG_DATA(head));
	unsigned left = (unsigned)RTM_PAYLOAD(head);
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type == RTA_PREFSRC)
			put_bytes(laddr, attribute, length);
		else if (attribute->rta_type == RTA_OIF && RTA_PAYLOAD(attribute) == sizeof device)
			memcpy(&device, RTA_DATA(attribute), sizeof device);
	}
	if (addr_reach(laddr) == ADDR_LINK)
		laddr->scope = device;
	return addr_is_any(laddr) ? -ENETUNREACH : 0;
}

/* Asks by rtnetlink(7), which needs no port. -EAFNOSUPPORT and its like where that is forbidden. */
static int ask_netlink(const struct addr *faddr, int family, struct addr *laddr)
{
	size_t length = family == AF_INET ? 4 : 16;
	struct request request = {
		.head = {.nlmsg_len = (uint32_t)(offsetof(struct request, to) + length),
			.nlmsg_type = RTM_GETROUTE,
			.nlmsg_flags = NLM_F_REQUEST},
		.body = {.rtm_family = (uint8_t)family, .rtm_dst_len = (uint8_t)(length * 8)},
		.to_head = {.rta_len = (uint16_t)RTA_LENGTH(length), .rta_type = RTA_DST},
	};
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} reply;
	int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	memcpy(request.to, faddr->bytes + sizeof faddr->bytes - length, length);
	long got = syscall(SYS_sendto, fd, &request, request.head.nlmsg_len, 0, NULL, 0);
	/* The kernel answers within sendto(). */
	if (got >= 0)
		got = syscall(SYS_recvfrom, fd, &reply, sizeof reply, MSG_DONTWAIT, NULL, NULL);
	int error = got < 0 ? -errno : read_reply(&reply.head, (unsigned)got, family, laddr);
	syscall(SYS_close, fd);
	return error;
}

/* Asks by connecting a UDP socket there (nothing is sent), for which a port must be free. */
static int ask_socket(const struct addr *faddr, int family, struct addr *laddr)
{
	struct sockaddr_storage storage;
	/* Any port but 0 will do: no packet leaves a socket that is only connected. */
	socklen_t length = addr_to_sockaddr(faddr, 9, family, &storage);
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

int route_source(const struct addr *faddr, struct addr *laddr)
{
	int family = addr_is_v4(faddr) ? AF_INET : AF_INET6;
	int error = -EAFNOSUPPORT;

	/* A link-local destination is on the link of its scope, which only a socket tells shortly.
	 */
	if (faddr->scope == 0)
		error = ask_netlink(faddr, family, laddr);
	switch (error) {
	case -EAFNOSUPPORT: /* no netlink here, or forbidden by a sandbox */
	case -EPROTONOSUPPORT:
	case -EACCES:
	case -EPERM:
	case -EPROTO:
	case -EAGAIN:
		return ask_socket(faddr, family, laddr);
	default:
		return error;
	}
}
