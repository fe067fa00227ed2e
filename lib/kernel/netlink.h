/*
 * What a netlink message says, before anything in it is believed.
 *
 * It is the kernel that answers, or what stands in for it in a sandbox or under a tracer. So a
 * message holds what it says it holds, or it is none: nothing behind its end is read.
 */
#pragma once

#include <errno.h>
#include <linux/netlink.h>
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
