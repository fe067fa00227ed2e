/*
 * Destinations as TUPLEBIND_SKIP and TUPLEBIND_RULES name them: the grammar, and what
 * matches.
 */
#include "choose/destindex.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static bool matches(const char *text, const char *address, uint16_t port)
{
	struct dest_index index = {0};
	struct dest d;
	struct addr a;
	struct fault f = {.text = ""};
	unsigned found;

	cr_assert_eq(dest_parse(text, &d, &f), 0, "%s: %s", text, f.text);
	cr_assert_eq(addr_parse(address, &a), 0, "%s", address);
	cr_assert_eq(dest_index_add(&index, &d), 0);
	cr_assert_eq(dest_index_make(&index), 0);
	found = dest_index_find(&index, &a, port);
	dest_index_free(&index);
	return found == 0;
}

Test(dest, one_address)
{
	cr_expect(matches("10.0.0.1", "10.0.0.1", 80));
	cr_expect(matches("10.0.0.1", "10.0.0.1", 1));
	cr_expect_not(matches("10.0.0.1", "10.0.0.2", 80));
	cr_expect(matches("2001:db8::1", "2001:db8::1", 80));
	cr_expect_not(matches("2001:db8::1", "2001:db8::2", 80));
	cr_expect(matches("[2001:db8::1]", "2001:db8::1", 80));
}

Test(dest, ports)
{
	cr_expect(matches("10.0.0.1:80", "10.0.0.1", 80));
	cr_expect_not(matches("10.0.0.1:80", "10.0.0.1", 81));
	cr_expect(matches("[2001:db8::1]:443", "2001:db8::1", 443));
	cr_expect_not(matches("[2001:db8::1]:443", "2001:db8::1", 80));
	cr_expect(matches("10.0.0.1:65535", "10.0.0.1", 65535));
}

Test(dest, prefixes)
{
	cr_expect(matches("10.0.0.0/8", "10.255.255.255", 80));
	cr_expect_not(matches("10.0.0.0/8", "11.0.0.0", 80));
	cr_expect(matches("10.1.2.3/8", "10.9.9.9", 80), "bits behind the prefix do not matter");
	cr_expect(matches("10.0.0.0/8:80", "10.1.1.1", 80));
	cr_expect_not(matches("10.0.0.0/8:80", "10.1.1.1", 81));
	cr_expect(matches("192.0.2.8/31", "192.0.2.9", 80));
	cr_expect_not(matches("192.0.2.8/31", "192.0.2.10", 80));
	cr_expect(matches("192.0.2.8/32", "192.0.2.8", 80));
	cr_expect(matches("2001:db8::/32", "2001:db8:ffff::1", 80));
	cr_expect_not(matches("2001:db8::/32", "2001:db9::1", 80));
	cr_expect(matches("[2001:db8::/32]:443", "2001:db8::1", 443));
	cr_expect(matches("::1/128", "::1", 443));
}

Test(dest, everything_of_a_family_is_of_that_family)
{
	cr_expect(matches("0.0.0.0/0", "192.0.2.1", 80));
	cr_expect_not(matches("0.0.0.0/0", "2001:db8::1", 80));
	cr_expect(matches("::/0", "2001:db8::1", 80));
	cr_expect_not(matches("::/0", "192.0.2.1", 80));
	cr_expect(matches("[::/0]:80", "::1", 80));
}

Test(dest, mapped_form_is_the_v4_address)
{
	cr_expect(matches("10.0.0.1", "::ffff:10.0.0.1", 80));
	cr_expect(matches("::ffff:10.0.0.1", "10.0.0.1", 80));
	cr_expect(matches("[::ffff:10.0.0.1]:80", "10.0.0.1", 80));
}

Test(dest, bad_ones_are_named)
{
	static const char *const bad[] = {"", ":", ":80", "10.0.0", "10.0.0.256", "10.0.0.1/",
		"10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/8/8", "10.0.0.1/8x",
		"10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:http", "10.0.0.1:80:80",
		"10.0.0.1:80/8", "10.0.0.1 :80", "10.0.0.1: 80", "localhost", "localhost:80",
		"[::1", "::1]", "[::1]80", "[::1]:", "[::1]:0", "[::1]:65536", "[::1]/64",
		"[::1/129]", "[::1/]", "[]", "[]:80", "[[::1]]", "::1/129", "fe80::1%lo", "*",
		"any", "skip", "10.0.0.1-10.0.0.5"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct dest d;
		struct fault f = {.text = ""};

		cr_expect_eq(dest_parse(bad[i], &d, &f), -EINVAL, "\"%s\"", bad[i]);
		cr_expect_eq(f.text[0], '"', "%s: %s", bad[i], f.text);
		cr_expect_eq(
			strncmp(f.text + 1, bad[i], strlen(bad[i])), 0, "%s: %s", bad[i], f.text);
		cr_expect_null(strchr(f.text, '\n'));
	}
}

Test(dest, too_long_is_refused)
{
	char text[300];
	struct dest d;
	struct fault f = {.text = ""};

	memset(text, '1', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	cr_expect_eq(dest_parse(text, &d, &f), -EINVAL);
	cr_expect_not_null(strstr(f.text, "too long"));
	text[0] = '[';
	text[90] = '\0';
	cr_expect_eq(dest_parse(text, &d, &f), -EINVAL);
}
