/*
 * What a netlink message says, before anything in it is believed.
 *
 * It is the kernel that answers, or what stands in for it in a sandbox or under a tracer. So a
 * message holds what it says it holds, or it is none: nothing behind its end is read.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* True when the message, within what was received (NLMSG_OK), holds @size bytes behind its head. */
static inline bool netlink_holds(const struct nlmsghdr *head, size_t size)
{
	return head->nlmsg_len >= NLMSG_LENGTH(size);
}

/* The number that a message begins with; 0 when it has none. */
static inline int netlink_number(const struct nlmsghdr *head)
{
	int number = 0;

	if (netlink_holds(head, sizeof number))
		memcpy(&number, NLMSG_DATA(head), sizeof number);
	return number;
}

/* What a NLMSG_ERROR says: a negative errno, -EPROTO if that is none. */
static inline int netlink_error(const struct nlmsghdr *head)
{
	int error = netlink_number(head);

	return error < 0 && error >= -4095 ? error : -EPROTO;
}

/* What the NLMSG_DONE that ends a list says: 0, or a negative errno if the list was broken off. */
static inline int netlink_end(const struct nlmsghdr *head)
{
	return netlink_number(head) == 0 ? 0 : netlink_error(head);
}

/*
 * What stands behind a message or an attribute that is within *left bytes. (NLMSG_NEXT and RTA_NEXT
 * take the padding off as well, which the last one may not have: their number of bytes left, when
 * it is unsigned as all others here, then comes round to four billion.)
 */
static inline size_t netlink_step(size_t length, unsigned *left)
{
	unsigned step = NLMSG_ALIGN(length) < *left ? (unsigned)NLMSG_ALIGN(length) : *left;

	*left -= step;
	return step;
}

static inline const struct nlmsghdr *netlink_next(const struct nlmsghdr *head, unsigned *left)
{
	return (const struct nlmsghdr *)((const char *)head + netlink_step(head->nlmsg_len, left));
}

static inline const struct rtattr *netlink_next_attribute(const struct rtattr *a, unsigned *left)
{
	static_assert(NLMSG_ALIGNTO == RTA_ALIGNTO, "messages and attributes are padded alike");
	return (const struct rtattr *)((const char *)a + netlink_step(a->rta_len, left));
}
