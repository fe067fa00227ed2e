/*
 * Pools: every form of TUPLEBIND_ADDRS, in the order given, and only what goes with the
 * destination. Interfaces: the loopback, which every machine has.
 */
#include "choose/pool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static struct pool pool;

static void teardown(void)
{
	pool_free(&pool);
}

TestSuite(pool, .fini = teardown);

static struct addr address(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse(text, &a), 0, "%s", text);
	return a;
}

static void parse(const char *list)
{
	struct fault f = {.text = ""};

	pool_free(&pool);
	cr_assert_eq(pool_parse(list, &pool, &f), 0, "%s: %s", list, f.text);
}

/* Number @index of the addresses that go with @to. */
static const char *at(const char *to, uint64_t index)
{
	static char text[ADDR_TEXT_MAX];
	struct addr to_addr = address(to);
	struct pool_place place;

	if (!pool_at(&pool, &to_addr, index, &place))
		return "none";
	addr_format(&place.addr, text);
	return text;
}

static uint64_t count(const char *to)
{
	struct addr a = address(to);

	return pool_count(&pool, &a);
}

Test(pool, addresses_in_their_order)
{
	parse("10.0.0.9, 10.0.0.3 ,10.0.0.7");
	cr_expect_eq(count("192.0.2.1"), 3);
	cr_expect_str_eq(at("192.0.2.1", 0), "10.0.0.9");
	cr_expect_str_eq(at("192.0.2.1", 1), "10.0.0.3");
	cr_expect_str_eq(at("192.0.2.1", 2), "10.0.0.7");
}

Test(pool, ranges)
{
	parse("10.0.0.250-10.0.1.5");
	cr_expect_eq(count("192.0.2.1"), 12);
	cr_expect_str_eq(at("192.0.2.1", 0), "10.0.0.250");
	cr_expect_str_eq(at("192.0.2.1", 6), "10.0.1.0");
	cr_expect_str_eq(at("192.0.2.1", 11), "10.0.1.5");
	parse("2001:db8::fffe-2001:db8::1:1");
	cr_expect_eq(count("2001:db8::1"), 4);
	cr_expect_str_eq(at("2001:db8::1", 3), "2001:db8::1:1");
	parse("10.0.0.1-10.0.0.1");
	cr_expect_eq(count("192.0.2.1"), 1);
}

Test(pool, prefixes)
{
	parse("10.0.0.21/28");
	cr_expect_eq(count("192.0.2.1"), 16);
	cr_expect_str_eq(at("192.0.2.1", 0), "10.0.0.16");
	cr_expect_str_eq(at("192.0.2.1", 15), "10.0.0.31");
	parse("10.0.0.1/32");
	cr_expect_eq(count("192.0.2.1"), 1);
	parse("10.0.0.0/8");
	cr_expect_eq(count("192.0.2.1"), 1 << 24);
	cr_expect_str_eq(at("192.0.2.1", (1 << 24) - 1), "10.255.255.255");
	parse("2001:db8::/120");
	cr_expect_eq(count("2001:db8::1"), 256);
	cr_expect_str_eq(at("2001:db8::1", 255), "2001:db8::ff");
}

Test(pool, prefixes_with_more_addresses_than_can_be_counted)
{
	parse("2001:db8::/64");
	cr_expect_gt(count("2001:db8::1"), UINT64_C(1) << 40);
	parse("2000::/3");
	cr_expect_gt(count("2001:db8::1"), UINT64_C(1) << 40);
	parse("2001::/16,2002::/16,2003::/16,2004::/16,2005::/16,2006::/16");
	cr_expect_gt(count("2001:db8::1"), UINT64_C(1) << 40, "nor does their sum wrap");
}

Test(pool, the_range_of_all_addresses_is_not_empty)
{
	parse("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	cr_expect_gt(count("2001:db8::1"), UINT64_C(1) << 40);
}

Test(pool, only_the_destinations_family_and_reach)
{
	parse("10.0.0.1,2001:db8::1,127.0.0.5,::1,10.0.0.2,fe80::7%lo");
	cr_expect_eq(count("192.0.2.1"), 2);
	cr_expect_str_eq(at("192.0.2.1", 1), "10.0.0.2");
	cr_expect_eq(count("2001:db8::99"), 1);
	cr_expect_str_eq(at("2001:db8::99", 0), "2001:db8::1");
	cr_expect_eq(count("127.0.0.1"), 1);
	cr_expect_str_eq(at("127.0.0.1", 0), "127.0.0.5");
	cr_expect_eq(count("::1"), 1);
}

Test(pool, link_local_addresses_go_with_their_interface)
{
	struct addr to = address("fe80::99");
	struct pool_place place;

	parse("fe80::7%lo");
	cr_expect_eq(pool_count(&pool, &to), 0);
	to.scope = if_nametoindex("lo");
	cr_assert_eq(pool_count(&pool, &to), 1);
	cr_assert(pool_at(&pool, &to, 0, &place));
	cr_expect_eq(place.addr.scope, to.scope);
	to.scope++;
	cr_expect_eq(pool_count(&pool, &to), 0);
}

Test(pool, interface)
{
	bool found = false;

	parse("lo");
	for (uint64_t i = 0; i < count("127.0.0.1"); i++)
		found |= strcmp(at("127.0.0.1", i), "127.0.0.1") == 0;
	cr_expect(found);
	cr_expect_eq(count("192.0.2.1"), 0);
}

Test(pool, automatic)
{
	parse("auto");
	cr_expect_eq(pool.part_count, 0);
	cr_expect_eq(count("192.0.2.1"), 0);
}

Test(pool, bad_items_are_named)
{
	static const char *const bad[] = {"0.0.0.0", "::", "224.0.0.1", "10.0.0", "10.0.0.256",
		"10.0.0.1/33", "10.0.0.1/", "2001:db8::/129", "10.0.0.5-10.0.0.4",
		"10.0.0.5-2001:db8::1", "10.0.0.5-", "-10.0.0.5", "10.0.0.5-10",
		"no-such-interface", "fe80::1%nosuch0", "10.0.0.1%lo", "2001:db8::1%lo",
		"10.0.0.1:80", "[::1]", "10.0.0.1 10.0.0.2", "auto"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char list[160];
		struct fault f = {.text = ""};

		snprintf(list, sizeof list, "10.9.9.9,%s", bad[i]);
		pool_free(&pool);
		cr_expect_eq(pool_parse(list, &pool, &f), -EINVAL, "%s", list);
		cr_expect_not_null(strstr(f.text, bad[i]), "%s: %s", list, f.text);
		cr_expect_null(strchr(f.text, '\n'));
	}
}

Test(pool, empty_items)
{
	static const char *const bad[] = {"", " ", ",", "10.0.0.1,,10.0.0.2"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct fault f = {.text = ""};

		pool_free(&pool);
		cr_expect_eq(pool_parse(bad[i], &pool, &f), -EINVAL, "\"%s\"", bad[i]);
		cr_expect_neq(f.text[0], '\0');
	}
	parse("10.0.0.1,");
}

Test(pool, item_that_is_too_long)
{
	char list[400];
	struct fault f = {.text = ""};

	memset(list, 'x', sizeof list - 1);
	list[sizeof list - 1] = '\0';
	cr_expect_eq(pool_parse(list, &pool, &f), -EINVAL);
	pool_free(&pool);
	for (unsigned length = 1; length < sizeof list; length++) {
		list[sizeof list - 1 - length] = '\0';
		list[(sizeof list - 1 - length) / 2] = length % 2 ? '-' : '%';
		cr_expect_eq(pool_parse(list, &pool, &f), -EINVAL, "%s", list);
		pool_free(&pool);
	}
}
