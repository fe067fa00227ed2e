/*
 * PORTS as the variables name them: lists, auto, and parts of both.
 */
#include "choose/ports.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct portset offered;

static void setup(void)
{
	portset_clear(&offered);
	portset_add_range(&offered, 32768, 60999);
}

TestSuite(ports, .init = setup);

static struct portset meant(const char *text)
{
	struct fault f = {.text = ""};
	struct portset wanted;
	struct ports p;

	cr_assert_eq(ports_parse(text, &p, &f), 0, "%s: %s", text, f.text);
	ports_resolve(&p, &offered, &wanted);
	return wanted;
}

static unsigned count(const char *text)
{
	struct portset s = meant(text);

	return portset_count(&s);
}

Test(ports, lists)
{
	struct portset s = meant("20000-20009, 50000 ,65535");

	cr_expect_eq(portset_count(&s), 12);
	cr_expect(portset_has(&s, 20000));
	cr_expect(portset_has(&s, 20009));
	cr_expect(portset_has(&s, 50000));
	cr_expect(portset_has(&s, 65535));
	s = meant("1-65535");
	cr_expect_eq(portset_count(&s), 65535);
	cr_expect_not(portset_has(&s, 0));
}

Test(ports, automatic_is_what_the_kernel_offers)
{
	struct portset s = meant("auto");

	cr_expect_eq(memcmp(&s, &offered, sizeof s), 0);
}

/* Together everything, none twice, each as large as the others give or take one. */
static void check_parts(const char *list, unsigned parts)
{
	struct portset whole = meant(list);
	unsigned least = UINT16_MAX, most = 0;

	for (unsigned part = 1; part <= parts; part++) {
		char text[64];

		snprintf(text, sizeof text, "%s/%u:%u", list, parts, part);
		struct portset s = meant(text), outside = s;
		unsigned size = portset_count(&s);

		portset_remove(&outside, &whole);
		cr_expect_eq(
			portset_count(&outside), 0, "%s: not there, or in an earlier part", text);
		portset_remove(&whole, &s);
		least = size < least ? size : least;
		most = size > most ? size : most;
	}
	cr_expect_eq(portset_count(&whole), 0, "%s: in no part of %u", list, parts);
	cr_expect_leq(most - least, 1, "%s in %u: %u to %u", list, parts, least, most);
}

Test(ports, parts)
{
	static const unsigned numbers[] = {1, 2, 3, 7, 8, 10, 16, 100, 1024};

	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		check_parts("auto", numbers[i]);
		check_parts("20000-39999", numbers[i]);
	}
	cr_expect_eq(count("auto/8:3"), 3529);
	cr_expect_eq(count("auto/1:1"), 28232);
}

Test(ports, parts_of_unlike_ranges_do_not_overlap)
{
	struct portset here = meant("auto/8:3"), there = meant("33000-61999,20000/8:4");

	portset_keep(&here, &there);
	cr_expect_eq(portset_count(&here), 0);
}

static const char *told(const char *text)
{
	static struct fault f;
	struct ports p;

	f.text[0] = '\0';
	cr_expect_eq(ports_parse(text, &p, &f), -EINVAL, "%s", text);
	cr_expect_null(strchr(f.text, '\n'));
	return f.text;
}

Test(ports, bad_lists_name_the_bad_item)
{
	static const char *const bad[] = {"0", "0-10", "65536", "1-65536", "-5", "5-", "-", "x",
		"1-2-3", "1 - 2", "+1", "1.5", "auto", "00000000000000000000000000000000000000001"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char list[80], quoted[80];
		const char *text;

		snprintf(list, sizeof list, "1000-2000,%s,3000", bad[i]);
		snprintf(quoted, sizeof quoted, "\"%.31s\"", bad[i]);
		text = told(list);
		cr_expect(strncmp(text, quoted, strlen(quoted) - 1) == 0, "%s: %s", list, text);
	}
	cr_expect_not_null(strstr(told("2000-1000"), "\"2000-1000\" ends before it begins"));
	told("1,,2");
	told(" ");
	told("");
}

Test(ports, bad_parts_are_named)
{
	static const char *const bad[] = {"/", "/8", "/8:", "/:3", "/8:0", "/8:9", "/0:0", "/0:1",
		"/1025:1", "/8:3:1", "/8:3/2:1", "/-8:3", "/8:+3", "/ 8:3", "/8:3,5",
		"/99999999999999999999:1", "/x:y"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char text[80], quoted[80];

		snprintf(text, sizeof text, "auto%s", bad[i]);
		snprintf(quoted, sizeof quoted, "\"%s\"", bad[i]);
		cr_expect_not_null(strstr(told(text), quoted), "%s: %s", text, told(text));
		snprintf(text, sizeof text, "20000-30000%s", bad[i]);
		cr_expect_not_null(strstr(told(text), quoted), "%s: %s", text, told(text));
	}
	cr_expect_not_null(
		strstr(told("20000-20003/8:7"), "no port"), "a list that has no port of it");
}

Test(ports, list_that_is_too_long)
{
	static char list[6000];

	for (size_t i = 0; i + 6 < sizeof list; i += 6)
		memcpy(list + i, "20000,", 6);
	cr_expect_not_null(strstr(told(list), "too long"));
}
