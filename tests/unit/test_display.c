/*
 * How lanes, fills and times look to people.
 */
#include "tools/status/display.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

static struct tuplebind_lane lane_of(
	const char *laddr, const char *faddr, uint32_t scope, uint8_t protocol)
{
	struct tuplebind_lane lane = {.scope = scope, .fport = 443, .protocol = protocol};
	struct addr a;

	cr_assert_eq(addr_parse(laddr, &a), 0);
	memcpy(lane.laddr, a.bytes, sizeof lane.laddr);
	cr_assert_eq(addr_parse(faddr, &a), 0);
	memcpy(lane.faddr, a.bytes, sizeof lane.faddr);
	return lane;
}

static void expect_lane(struct tuplebind_lane lane, const char *text)
{
	struct text t;

	text_clear(&t);
	display_lane(&t, &lane);
	cr_expect_str_eq(t.bytes, text);
}

Test(display, lanes)
{
	expect_lane(lane_of("10.0.0.5", "192.0.2.1", 0, IPPROTO_TCP), "10.0.0.5 -> 192.0.2.1:443");
	expect_lane(lane_of("10.0.0.5", "192.0.2.1", 0, IPPROTO_UDP),
		"10.0.0.5 -> 192.0.2.1:443 (udp)");
	expect_lane(
		lane_of("fd00::1", "2001:db8::1", 0, IPPROTO_TCP), "fd00::1 -> [2001:db8::1]:443");
}

/* Two lanes that differ look different: metrics would have one series twice. */
Test(display, the_interface_shows)
{
	expect_lane(lane_of("fe80::1", "fe80::2", 3, IPPROTO_TCP), "fe80::1%3 -> [fe80::2%3]:443");
	expect_lane(
		lane_of("10.0.0.5", "192.0.2.1", 3, IPPROTO_TCP), "10.0.0.5%3 -> 192.0.2.1%3:443");
}

/* Full is what is full, to the last port; a bar has a mark from the first tenth of a percent on. */
Test(display, fills)
{
	static const struct {
		int permille;
		const char *share, *bar;
		enum display_level level;
	} fills[] = {
		{-1, "    -", "          ", DISPLAY_CALM},
		{0, "  0 %", "..........", DISPLAY_CALM},
		{1, "  0 %", "#.........", DISPLAY_CALM},
		{100, " 10 %", "#.........", DISPLAY_CALM},
		{101, " 10 %", "##........", DISPLAY_CALM},
		{799, " 79 %", "########..", DISPLAY_CALM},
		{800, " 80 %", "########..", DISPLAY_WARNING},
		{949, " 94 %", "##########", DISPLAY_WARNING},
		{999, " 99 %", "##########", DISPLAY_ALARM},
		{1000, "100 %", "##########", DISPLAY_ALARM},
	};

	for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
		char share[DISPLAY_SHARE_MAX], bar[DISPLAY_BAR + 1];

		display_share(share, fills[i].permille);
		display_bar(bar, fills[i].permille);
		cr_expect_str_eq(share, fills[i].share);
		cr_expect_str_eq(bar, fills[i].bar, "%d", fills[i].permille);
		cr_expect_eq(display_level(fills[i].permille), fills[i].level);
	}
}

Test(display, ages)
{
	static const struct {
		uint64_t seconds;
		const char *text;
	} ages[] = {
		{0, "0 s"},
		{119, "119 s"},
		{120, "2 min"},
		{7199, "119 min"},
		{7200, "2 h"},
		{172799, "47 h"},
		{172800, "2 d"},
		{UINT64_MAX, "213503982334601 d"},
	};

	for (size_t i = 0; i < sizeof ages / sizeof *ages; i++) {
		char text[DISPLAY_AGE_MAX];

		display_age(text, ages[i].seconds);
		cr_expect_str_eq(text, ages[i].text);
	}
}

Test(display, every_counter_has_words)
{
	for (int i = 0; i < TUPLEBIND_COUNTERS; i++)
		cr_expect(display_counter(i) != NULL && strlen(display_counter(i)) < 50, "%d", i);
}
