/*
 * Netlink messages: what they hold, and errors that are none. What the readers make of whole
 * answers, tests/fuzz/kernel.c tries.
 */
#include "kernel/netlink.h"

#include <criterion/criterion.h>

static struct {
	struct nlmsghdr head;
	int number;
	char more[16];
} message;

static struct nlmsghdr *with(unsigned length, int number)
{
	message.head.nlmsg_len = length;
	message.number = number;
	return &message.head;
}

Test(netlink, a_message_holds_what_its_length_says)
{
	cr_expect(netlink_holds(with(NLMSG_HDRLEN + 20, 0), 20));
	cr_expect_not(netlink_holds(with(NLMSG_HDRLEN + 19, 0), 20));
	cr_expect_not(netlink_holds(with(NLMSG_HDRLEN, 0), 1));
	cr_expect(netlink_holds(with(NLMSG_HDRLEN, 0), 0));
}

Test(netlink, an_error_is_negative)
{
	cr_expect_eq(netlink_error(with(NLMSG_HDRLEN + 20, -ENOENT)), -ENOENT);
	/* An acknowledgement that nobody asked for is no answer either. */
	cr_expect_eq(netlink_error(with(NLMSG_HDRLEN + 20, 0)), -EPROTO);
	cr_expect_eq(netlink_error(with(NLMSG_HDRLEN + 20, 2)), -EPROTO);
	cr_expect_eq(netlink_error(with(NLMSG_HDRLEN + 20, -5000)), -EPROTO);
	cr_expect_eq(netlink_error(with(NLMSG_HDRLEN + 3, -ENOENT)), -EPROTO);
}

Test(netlink, a_list_that_was_broken_off)
{
	cr_expect_eq(netlink_end(with(NLMSG_HDRLEN + 4, 0)), 0);
	cr_expect_eq(netlink_end(with(NLMSG_HDRLEN, -ENOMEM)), 0, "without a number it is the end");
	cr_expect_eq(netlink_end(with(NLMSG_HDRLEN + 4, -ENOMEM)), -ENOMEM);
	cr_expect_eq(netlink_end(with(NLMSG_HDRLEN + 4, 1)), -EPROTO);
}

/* Two messages of 17 bytes, the last without its padding. */
Test(netlink, the_last_message_need_not_be_padded)
{
	_Alignas(struct nlmsghdr) char bytes[64] = {0};
	struct nlmsghdr *first = (struct nlmsghdr *)bytes;
	struct nlmsghdr *second = (struct nlmsghdr *)(bytes + 20);
	unsigned left = 20 + 17;

	first->nlmsg_len = second->nlmsg_len = 17;
	cr_expect(NLMSG_OK(first, left));
	cr_expect_eq(netlink_next(first, &left), second);
	cr_expect_eq(left, 17);
	cr_expect(NLMSG_OK(second, left));
	netlink_next(second, &left);
	cr_expect_eq(left, 0);
}

Test(netlink, nor_need_the_last_attribute)
{
	struct rtattr a[2] = {{.rta_len = 5}};
	unsigned left = 5;

	cr_expect(RTA_OK(&a[0], left));
	netlink_next_attribute(&a[0], &left);
	cr_expect_eq(left, 0);
}
