/*
 * The small grammars: numbers, sizes, switches, words, lists. Each bad value stands
 * in a list of its own kind and is tried by itself.
 */
#include "base/parse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

Test(parse, numbers)
{
	uint64_t value;

	cr_expect_eq(parse_number("0", 0, 10, &value), 0);
	cr_expect_eq(value, 0);
	cr_expect_eq(parse_number("65535", 1, 65535, &value), 0);
	cr_expect_eq(value, 65535);
	cr_expect_eq(parse_number("007", 7, 7, &value), 0);
	cr_expect_eq(value, 7);
	cr_expect_eq(parse_number("9223372036854775807", 0, INT64_MAX, &value), 0);
	cr_expect_eq(value, INT64_MAX);
}

Test(parse, numbers_refused)
{
	static const char *const bad[] = {"", " ", "-1", "+1", " 1", "1 ", "1x", "0x10", "1e3",
		"1.0", "0", "65536", "18446744073709551617", "99999999999999999999999999",
		"\xc2\xb2"};
	uint64_t value = 77;

	for (size_t i = 0; i < COUNT(bad); i++)
		cr_expect_eq(parse_number(bad[i], 1, 65535, &value), -EINVAL, "\"%s\"", bad[i]);
	cr_expect_eq(value, 77, "nothing is written");
}

Test(parse, sizes)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {{"1", 1}, {"1000", 1000}, {"1K", 1024}, {"1k", 1024}, {"8M", 8 << 20},
		{"8m", 8 << 20}, {"16G", UINT64_C(16) << 30}, {"1g", 1 << 30},
		{"17179869184", UINT64_C(16) << 30}};
	uint64_t value;

	for (size_t i = 0; i < COUNT(good); i++) {
		cr_expect_eq(parse_size(good[i].text, 1, UINT64_C(16) << 30, &value), 0, "%s",
			good[i].text);
		cr_expect_eq(value, good[i].value, "%s", good[i].text);
	}
}

Test(parse, sizes_refused)
{
	static const char *const bad[] = {"", "K", "0", "0K", "-1K", "+1K", "1 K", " 1K", "1K ",
		"1KB", "1T", "1KK", "1.5M", "17G", "16385M", "17179869185", "18014398509481985K",
		"17592186044417G", "16777217K", "99999999999999999999G",
		"000000000000000000000000000000000000001K"};
	uint64_t value = 77;

	for (size_t i = 0; i < COUNT(bad); i++)
		cr_expect_eq(parse_size(bad[i], 1, UINT64_C(16) << 30, &value), -EINVAL, "\"%s\"",
			bad[i]);
	cr_expect_eq(value, 77, "nothing is written");
}

Test(parse, size_below_the_least_is_refused_with_suffix_too)
{
	uint64_t value;

	cr_expect_eq(parse_size("255K", 256 << 10, 1 << 30, &value), -EINVAL);
	cr_expect_eq(parse_size("256K", 256 << 10, 1 << 30, &value), 0);
	cr_expect_eq(parse_size("262143", 256 << 10, 1 << 30, &value), -EINVAL);
}

Test(parse, flags)
{
	static const char *const bad[] = {"2", "yes", "true", "on", "01", " 1", "1 ", "-"};
	bool value = false;

	cr_expect_eq(parse_flag("1", &value), 0);
	cr_expect(value);
	cr_expect_eq(parse_flag("0", &value), 0);
	cr_expect_not(value);
	value = true;
	cr_expect_eq(parse_flag("", &value), 0);
	cr_expect_not(value);
	for (size_t i = 0; i < COUNT(bad); i++)
		cr_expect_eq(parse_flag(bad[i], &value), -EINVAL, "\"%s\"", bad[i]);
}

Test(parse, words)
{
	static const char *const words[] = {"off", "error", "warn", NULL};

	cr_expect_eq(parse_word("off", words), 0);
	cr_expect_eq(parse_word("warn", words), 2);
	cr_expect_eq(parse_word("", words), -EINVAL);
	cr_expect_eq(parse_word("of", words), -EINVAL);
	cr_expect_eq(parse_word("offf", words), -EINVAL);
	cr_expect_eq(parse_word("Off", words), -EINVAL);
}

/* All items of @list, with '|' behind each. */
static const char *items(const char *list, char separator)
{
	static char all[256];
	char item[64];

	all[0] = '\0';
	while (parse_next(&list, separator, item, sizeof item) == 1) {
		strcat(all, item);
		strcat(all, "|");
	}
	return all;
}

Test(parse, lists)
{
	cr_expect_str_eq(items("", ','), "");
	cr_expect_str_eq(items("a", ','), "a|");
	cr_expect_str_eq(items("a,b,c", ','), "a|b|c|");
	cr_expect_str_eq(items(" a ,\tb\n, c d ", ','), "a|b|c d|");
	cr_expect_str_eq(items(",a,,b", ','), "|a||b|");
	cr_expect_str_eq(items("a,", ','), "a|", "a separator may end the list");
	cr_expect_str_eq(items(" ", ','), "|");
}

Test(parse, brackets_hide_separators)
{
	cr_expect_str_eq(items("[a,b],c", ','), "[a,b]|c|");
	cr_expect_str_eq(items("[::1]:80;b", ';'), "[::1]:80|b|");
	cr_expect_str_eq(items("[a,[b,c],d],e", ','), "[a,[b,c],d]|e|");
	cr_expect_str_eq(items("a],b", ','), "a]|b|", "a bracket that closes nothing");
	cr_expect_str_eq(items("[a,b", ','), "[a,b|", "a bracket that is never closed");
}

Test(parse, item_that_does_not_fit_is_cut_and_told)
{
	const char *list = "abcdef,gh";
	char item[4];

	cr_expect_eq(parse_next(&list, ',', item, sizeof item), -E2BIG);
	cr_expect_str_eq(item, "abc");
	cr_expect_eq(parse_next(&list, ',', item, sizeof item), 1, "and the list goes on");
	cr_expect_str_eq(item, "gh");
	cr_expect_eq(parse_next(&list, ',', item, sizeof item), 0);
}

Test(parse, fault_is_cut_to_its_room)
{
	char longer[1024];
	struct fault f;

	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	cr_expect_eq(fault_set(&f, "%s and %d", "one", 2), -EINVAL);
	cr_expect_str_eq(f.text, "one and 2");
	cr_expect_eq(fault_set(&f, "%s", longer), -EINVAL);
	cr_expect_eq(strlen(f.text), sizeof f.text - 1);
}

Test(parse, fault_is_one_plain_line)
{
	struct fault f;

	fault_set(&f, "\"%s\" is no port", "80\n\033[2J\x7f\xc3\xa9");
	cr_expect_str_eq(f.text, "\"80??[2J?\xc3\xa9\" is no port");
}
