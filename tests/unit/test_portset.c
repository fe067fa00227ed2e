/*
 * Sets of ports and their lists.
 */
#include "base/portset.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int parse(struct portset *s, const char *list, struct fault *f)
{
	portset_clear(s);
	f->text[0] = '\0';
	return portset_parse(s, list, f);
}

Test(portset, lists)
{
	struct portset s;
	struct fault f;

	cr_assert_eq(parse(&s, "20000-20009, 50000 ,65535", &f), 0);
	cr_expect_eq(portset_count(&s), 12);
	cr_expect(portset_has(&s, 20000));
	cr_expect(portset_has(&s, 20009));
	cr_expect_not(portset_has(&s, 19999));
	cr_expect_not(portset_has(&s, 20010));
	cr_expect(portset_has(&s, 50000));
	cr_expect(portset_has(&s, 65535));
}

Test(portset, all_ports)
{
	struct portset s;
	struct fault f;

	cr_assert_eq(parse(&s, "1-65535", &f), 0);
	cr_expect_eq(portset_count(&s), 65535);
	cr_expect_not(portset_has(&s, 0));
	portset_add_range(&s, 0, 65535);
	cr_expect_eq(portset_count(&s), 65536);
}

Test(portset, overlaps_count_once)
{
	struct portset s;
	struct fault f;

	cr_assert_eq(parse(&s, "100-200,150-250,200", &f), 0);
	cr_expect_eq(portset_count(&s), 151);
}

Test(portset, remove)
{
	struct portset s, other;
	struct fault f;

	parse(&other, "110-119,300", &f);
	parse(&s, "100-199", &f);
	portset_remove(&s, &other);
	cr_expect_eq(portset_count(&s), 90);
	cr_expect_not(portset_has(&s, 110));
	cr_expect(portset_has(&s, 120));
}

Test(portset, bad_lists_name_the_bad_part)
{
	static const char *const bad[] = {"0", "0-10", "65536", "1-65536", "-5", "5-", "-", "x",
		"1-2-3", "1 - 2", "+1", "1.5", "auto", "00000000000000000000000000000000000000001"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char list[80], quoted[80];
		struct portset s;
		struct fault f;

		snprintf(list, sizeof list, "1000-2000,%s,3000", bad[i]);
		snprintf(quoted, sizeof quoted, "\"%.31s\"", bad[i]);
		cr_expect_eq(parse(&s, list, &f), -EINVAL, "%s", list);
		cr_expect(strncmp(f.text, quoted, strlen(quoted) - 1) == 0, "%s: %s", list, f.text);
		cr_expect_null(strchr(f.text, '\n'));
	}
}

Test(portset, empty_item_is_bad)
{
	struct portset s;
	struct fault f;

	cr_expect_eq(parse(&s, "1,,2", &f), -EINVAL);
	cr_expect_eq(parse(&s, " ", &f), -EINVAL);
	cr_expect_eq(parse(&s, "", &f), -EINVAL, "no port at all");
}

Test(portset, backward_range_is_told_as_such)
{
	struct portset s;
	struct fault f;

	cr_assert_eq(parse(&s, "2000-1000", &f), -EINVAL);
	cr_expect_not_null(strstr(f.text, "\"2000-1000\" ends before it begins"), "%s", f.text);
}
