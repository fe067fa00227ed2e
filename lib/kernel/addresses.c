#include "kernel/addresses.h"

#include "kernel/netlink.h"

#include <bsd/string.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12 /* Linux 4.20 */
#endif

struct request {
	struct nlmsghdr head;
	struct ifaddrmsg body;
};

struct listing {
	uint32_t device;
	struct addr *out;
	unsigned room;
	int count;
};

/* The index of an interface; if_nametoindex() makes a socket by the call that we take over. */
static int device_index(int fd, const char *interface, uint32_t *index)
{
	struct ifreq request = {.ifr_ifindex = 0};

	if (strlcpy(request.ifr_name, interface, sizeof request.ifr_name) >=
		sizeof request.ifr_name)
		return -ENODEV;
	if (syscall(SYS_ioctl, fd, SIOCGIFINDEX, &request) < 0)
		return -errno;
	*index = (uint32_t)request.ifr_ifindex;
	return 0;
}

/* Where the link has two ends, IFA_ADDRESS is the other one's. */
static const struct rtattr *own_address(const struct nlmsghdr *head)
{
	const struct rtattr *attribute = IFA_RTA((const struct ifaddrmsg *)NLMSG_DATA(head));
	const struct rtattr *found = NULL;
	unsigned left = (unsigned)IFA_PAYLOAD(head);

	for (; RTA_OK(attribute, left); attribute = netlink_next_attribute(attribute, &left))
		if (attribute->rta_type == IFA_LOCAL ||
			(attribute->rta_type == IFA_ADDRESS && found == NULL))
			found = attribute;
	return found;
}

/*
 * Not yet checked for uniqueness, or found to be somebody else's; or past its preferred lifetime,
 * which the kernel gives to new connections only where there is no other.
 */
static bool is_unfit(const struct ifaddrmsg *m)
{
	bool tentative = m->ifa_flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) &&
			 !(m->ifa_flags & IFA_F_OPTIMISTIC);

	return tentative || m->ifa_flags & IFA_F_DEPRECATED;
}

static void take_address(struct listing *l, const struct nlmsghdr *head)
{
	const struct ifaddrmsg *m = NLMSG_DATA(head);
	const struct rtattr *attribute;

	if (!netlink_holds(head, sizeof *m) || m->ifa_index != l->device ||
		(m->ifa_family != AF_INET && m->ifa_family != AF_INET6) || is_unfit(m))
		return;
	size_t length = m->ifa_family == AF_INET ? 4 : 16;
	struct addr a =
		addr_from_number(m->ifa_family == AF_INET ? (unsigned __int128)0xffff << 32 : 0);
	attribute = own_address(head);
	if (attribute == NULL || RTA_PAYLOAD(attribute) != length)
		return;
	memcpy(a.bytes + sizeof a.bytes - length, RTA_DATA(attribute), length);
	if (!addr_is_v4(&a) && addr_reach(&a) == ADDR_LINK)
		a.scope = l->device;
	if (l->count < (int)l->room)
		l->out[l->count] = a;
	l->count++;
}

/* Takes the messages of one datagram. 1 when they were the last ones, 0, or -errno. */
static int take_messages(struct listing *l, const char *buffer, unsigned got)
{
	const struct nlmsghdr *head = (const struct nlmsghdr *)buffer;

	for (; NLMSG_OK(head, got); head = netlink_next(head, &got)) {
		if (head->nlmsg_type == NLMSG_DONE)
			return netlink_end(head) ?: 1;
		if (head->nlmsg_type == NLMSG_ERROR)
			return netlink_error(head);
		if (head->nlmsg_type == RTM_NEWADDR)
			take_address(l, head);
	}
	return 0;
}

static int list(int fd, struct listing *l, struct addresses_buffer *buffer)
{
	struct request request = {
		.head = {.nlmsg_len = sizeof request,
			.nlmsg_type = RTM_GETADDR,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.ifa_family = AF_UNSPEC, .ifa_index = l->device},
	};
	int strict = 1, done = 0;

	/* Then the kernel looks at ifa_index; where it does not, we do. */
	syscall(SYS_setsockopt, fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &strict, sizeof strict);
	if (syscall(SYS_sendto, fd, &request, sizeof request, 0, NULL, 0) < 0)
		return -errno;
	while (done == 0) {
		long got = syscall(SYS_recvfrom, fd, buffer->bytes, sizeof buffer->bytes,
			MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);

		/* The kernel goes on with its list within recvfrom(): there is nothing to wait for.
		 */
		if (got <= 0 || got > (long)sizeof buffer->bytes)
			return got < 0 ? -errno : -EPROTO;
		done = take_messages(l, buffer->bytes, (unsigned)got);
	}
	return done < 0 ? done : l->count;
}

int addresses_of(
	const char *interface, struct addr *out, unsigned room, struct addresses_buffer *buffer)
{
	struct listing l = {.out = out, .room = room};
	int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	int result = device_index(fd, interface, &l.device);
	if (result == 0)
		result = list(fd, &l, buffer);
	syscall(SYS_close, fd);
	return result;
}
