/*
 * Addresses: the one form, to and from text and sockaddr.
 *
 * What libc writes must be read, and what we write must be what libc writes, but for
 * the one form in which libc shows an IPv4 address inside an IPv6 one (::a.b.c.d).
 */
#include "base/addr.h"
#include "fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

static struct addr parsed(const char *text)
{
	struct addr a;

	cr_assert_eq(addr_parse(text, &a), 0, "%s is an address", text);
	return a;
}

static const char *formatted(const struct addr *a)
{
	static char text[ADDR_TEXT_MAX];
	int length = addr_format(a, text);

	cr_assert_eq((size_t)length, strlen(text), "%s", text);
	return text;
}

/* Random addresses rarely have runs of zero groups: half of the groups are made zero. */
static struct addr random_v6(uint64_t *seed)
{
	struct addr a = {.scope = 0};
	uint64_t zero = fixture_random(seed);

	for (int i = 0; i < 16; i++)
		a.bytes[i] = zero >> (i / 2) & 1 ? 0 : (uint8_t)fixture_random(seed);
	return a;
}

/* libc writes ::/96 with dots. */
static bool libc_writes_dots(const struct addr *a)
{
	static const uint8_t zero[12];

	return memcmp(a->bytes, zero, sizeof zero) == 0;
}

Test(addr, v4_text_is_that_of_libc)
{
	uint64_t seed = 1;
	unsigned wrong = 0;

	for (int i = 0; i < 100000; i++) {
		uint32_t number = (uint32_t)fixture_random(&seed);
		char expected[INET_ADDRSTRLEN], text[ADDR_TEXT_MAX];
		struct addr a;

		inet_ntop(AF_INET, &number, expected, sizeof expected);
		wrong += addr_parse(expected, &a) != 0 || !addr_is_v4(&a) || a.scope != 0 ||
			 memcmp(a.bytes + 12, &number, 4) != 0 ||
			 addr_format(&a, text) != (int)strlen(expected) ||
			 strcmp(text, expected) != 0;
	}
	cr_assert_eq(wrong, 0);
}

Test(addr, v6_text_is_that_of_libc)
{
	uint64_t seed = 2;
	unsigned wrong = 0;

#ifndef __GLIBC__
	cr_skip_test("this libc does not write addresses as RFC 5952 has it");
#endif
	for (int i = 0; i < 100000; i++) {
		struct addr a = random_v6(&seed), back;
		char expected[INET6_ADDRSTRLEN], text[ADDR_TEXT_MAX];

		if (addr_is_v4(&a) || libc_writes_dots(&a))
			continue;
		inet_ntop(AF_INET6, a.bytes, expected, sizeof expected);
		wrong += addr_format(&a, text) != (int)strlen(expected) ||
			 strcmp(text, expected) != 0 || addr_parse(text, &back) != 0 ||
			 !addr_equal(&a, &back);
	}
	cr_assert_eq(wrong, 0);
}

Test(addr, text_of_addresses_that_are_mostly_zero)
{
	static const char *const texts[] = {"::", "::1", "1::", "::ffff:0:0", "1::2",
		"0:1::", "::1:0", "1:0:2:0:3:0:4:0", "1:2:3:4:5:6:7:8", "2001:db8::1:0:0:1",
		"1:0:0:2::3", "::2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0",
		"255.255.255.255"};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct addr a = parsed(texts[i]), back;
		char expected[INET6_ADDRSTRLEN];

		if (addr_is_v4(&a))
			inet_ntop(AF_INET, a.bytes + 12, expected, sizeof expected);
		else
			inet_ntop(AF_INET6, a.bytes, expected, sizeof expected);
		if (!libc_writes_dots(&a))
			cr_expect_str_eq(formatted(&a), expected);
		back = parsed(formatted(&a));
		cr_expect(addr_equal(&a, &back), "%s", texts[i]);
	}
}

Test(addr, longest_text_fits)
{
	struct addr a = parsed("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff");

	a.scope = UINT32_MAX;
	cr_assert_str_eq(formatted(&a), "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295");
}

Test(addr, what_is_not_an_address_is_refused)
{
	static const char *const bad[] = {"", " ", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1",
		"1.2.3.4 ", " 1.2.3.4", "01.2.3.4x", "localhost", ":", ":::", "1::2::3",
		"12345::", "1:2:3:4:5:6:7:8:9", "fe80::1%lo", "[::1]", "1.2.3.4/8", "0x7f.1"};
	struct addr a;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_expect_eq(addr_parse(bad[i], &a), -EINVAL, "\"%s\"", bad[i]);
}

Test(addr, mapped_text_is_the_v4_address)
{
	struct addr mapped = parsed("::ffff:192.0.2.1"), plain = parsed("192.0.2.1");

	cr_assert(addr_equal(&mapped, &plain));
	cr_assert_str_eq(formatted(&mapped), "192.0.2.1");
}

Test(addr, kinds)
{
	struct {
		const char *text;
		bool any, multicast, broadcast;
		enum addr_reach reach;
	} cases[] = {
		{"0.0.0.0", true, false, false, ADDR_GLOBAL},
		{"::", true, false, false, ADDR_GLOBAL},
		{"127.0.0.1", false, false, false, ADDR_LOOPBACK},
		{"127.255.255.255", false, false, false, ADDR_LOOPBACK},
		{"128.0.0.1", false, false, false, ADDR_GLOBAL},
		{"126.255.255.255", false, false, false, ADDR_GLOBAL},
		{"::1", false, false, false, ADDR_LOOPBACK},
		{"::2", false, false, false, ADDR_GLOBAL},
		{"223.255.255.255", false, false, false, ADDR_GLOBAL},
		{"224.0.0.1", false, true, false, ADDR_GLOBAL},
		{"239.255.255.255", false, true, false, ADDR_GLOBAL},
		{"240.0.0.1", false, false, false, ADDR_GLOBAL},
		{"255.255.255.255", false, false, true, ADDR_GLOBAL},
		{"255.255.255.254", false, false, false, ADDR_GLOBAL},
		{"ff02::1", false, true, false, ADDR_GLOBAL},
		{"fe7f::1", false, false, false, ADDR_GLOBAL},
		{"fe80::1", false, false, false, ADDR_LINK},
		{"febf::1", false, false, false, ADDR_LINK},
		{"fec0::1", false, false, false, ADDR_GLOBAL},
		{"2001:db8::1", false, false, false, ADDR_GLOBAL},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct addr a = parsed(cases[i].text);

		cr_expect_eq(addr_is_any(&a), cases[i].any, "%s", cases[i].text);
		cr_expect_eq(addr_is_multicast(&a), cases[i].multicast, "%s", cases[i].text);
		cr_expect_eq(addr_is_broadcast(&a), cases[i].broadcast, "%s", cases[i].text);
		cr_expect_eq(addr_reach(&a), cases[i].reach, "%s", cases[i].text);
	}
}

Test(addr, loopback_of_the_same_family)
{
	struct addr a = parsed("192.0.2.1"), b = parsed("fe80::1");

	b.scope = 7;
	addr_loopback(&a);
	addr_loopback(&b);
	cr_expect_str_eq(formatted(&a), "127.0.0.1");
	cr_expect_str_eq(formatted(&b), "::1");
}

Test(addr, equal_means_scope_too)
{
	struct addr a = parsed("fe80::1"), b = a;

	cr_assert(addr_equal(&a, &b));
	b.scope = 2;
	cr_assert_not(addr_equal(&a, &b));
}

static bool round_trip(const struct addr *a, uint16_t port, int family)
{
	struct sockaddr_storage storage;
	struct addr back;
	uint16_t back_port;
	socklen_t length = addr_to_sockaddr(a, port, family, &storage);

	return storage.ss_family == family &&
	       addr_from_sockaddr((struct sockaddr *)&storage, length, &back, &back_port) &&
	       addr_equal(a, &back) && port == back_port;
}

Test(addr, sockaddr_round_trips)
{
	uint64_t seed = 3;
	unsigned wrong = 0;

	for (int i = 0; i < 10000; i++) {
		struct addr a = random_v6(&seed);
		uint16_t port = (uint16_t)fixture_random(&seed);

		wrong += !round_trip(&a, port, AF_INET6);
		memset(a.bytes, 0, 10);
		a.bytes[10] = a.bytes[11] = 0xff;
		wrong += !round_trip(&a, port, AF_INET) || !round_trip(&a, port, AF_INET6);
	}
	cr_assert_eq(wrong, 0);
}

Test(addr, v6_does_not_go_into_a_v4_sockaddr)
{
	struct addr a = parsed("2001:db8::1");
	struct sockaddr_storage storage;

	cr_assert_eq(addr_to_sockaddr(&a, 80, AF_INET, &storage), 0);
}

Test(addr, mapped_sockaddr_is_the_v4_address)
{
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_scope_id = 3};
	struct addr a, plain = parsed("192.0.2.1");
	uint16_t port;

	inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr);
	cr_assert(addr_from_sockaddr((struct sockaddr *)&in6, sizeof in6, &a, &port));
	cr_assert(addr_equal(&a, &plain), "an IPv4 address has no scope");
	cr_assert_eq(port, 80);
}

Test(addr, scope_is_kept_where_it_means_something)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_scope_id = 3};
	struct addr a;
	uint16_t port;

	inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr);
	cr_assert(addr_from_sockaddr((struct sockaddr *)&in6, sizeof in6, &a, &port));
	cr_expect_eq(a.scope, 3);
	inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
	cr_assert(addr_from_sockaddr((struct sockaddr *)&in6, sizeof in6, &a, &port));
	cr_expect_eq(a.scope, 0);
}

/* Copies so that reading past @length is seen by a sanitizer. */
static bool from_short(const void *sa, socklen_t length, struct addr *a, uint16_t *port)
{
	char *copy = malloc(length + 1);
	bool good;

	memcpy(copy, sa, length);
	good = addr_from_sockaddr((struct sockaddr *)copy, length, a, port);
	free(copy);
	return good;
}

Test(addr, short_sockaddrs)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	const socklen_t v6_enough = offsetof(struct sockaddr_in6, sin6_scope_id);
	const struct addr before = parsed("192.0.2.99");
	struct addr a = before;
	uint16_t port = 7;

	for (socklen_t length = 0; length < sizeof in; length++)
		cr_expect_not(from_short(&in, length, &a, &port), "%u bytes", length);
	for (socklen_t length = 0; length < v6_enough; length++)
		cr_expect_not(from_short(&in6, length, &a, &port), "%u bytes", length);
	cr_expect(addr_equal(&a, &before), "nothing is written");
	cr_expect_eq(port, 7, "nothing is written");
	cr_expect(from_short(&in, sizeof in, &a, &port));
	for (socklen_t length = v6_enough; length <= sizeof in6; length++)
		cr_expect(from_short(&in6, length, &a, &port), "%u bytes", length);
}

Test(addr, sockaddrs_of_other_families_are_refused)
{
	struct sockaddr_storage storage = {.ss_family = AF_UNIX};
	struct addr a;
	uint16_t port;

	cr_expect_not(addr_from_sockaddr((struct sockaddr *)&storage, sizeof storage, &a, &port));
	storage.ss_family = AF_UNSPEC;
	cr_expect_not(addr_from_sockaddr((struct sockaddr *)&storage, sizeof storage, &a, &port));
	cr_expect_not(addr_from_sockaddr(NULL, sizeof storage, &a, &port));
}

Test(addr, unaligned_sockaddr)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
	char bytes[sizeof in6 + 1];
	struct addr a;
	uint16_t port;

	memcpy(bytes + 1, &in6, sizeof in6);
	cr_assert(addr_from_sockaddr((struct sockaddr *)(bytes + 1), sizeof in6, &a, &port));
	cr_assert_eq(port, 443);
}

Test(addr, numbers_count_across_bytes)
{
	struct addr a = parsed("10.0.0.255");
	struct addr next = addr_from_number(addr_number(&a) + 1);

	cr_expect_str_eq(formatted(&next), "10.0.1.0");
	a = parsed("2001:db8::ffff:ffff:ffff:ffff");
	next = addr_from_number(addr_number(&a) + 1);
	cr_expect_str_eq(formatted(&next), "2001:db8:0:1::");
}

Test(addr, numbers_round_trip)
{
	uint64_t seed = 4;
	unsigned wrong = 0;

	for (int i = 0; i < 10000; i++) {
		struct addr a = random_v6(&seed), back = addr_from_number(addr_number(&a));

		wrong += !addr_equal(&a, &back);
	}
	cr_assert_eq(wrong, 0);
}
