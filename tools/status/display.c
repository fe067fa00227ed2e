#include "tools/status/display.h"

#include <netinet/in.h>
#include <string.h>

#define WARNING_PERMILLE 800
#define ALARM_PERMILLE	 950

static struct addr address(const struct tuplebind_lane *lane, const uint8_t bytes[static 16])
{
	struct addr a = {.scope = lane->scope};

	memcpy(a.bytes, bytes, sizeof a.bytes);
	return a;
}

/* Of IPv4 as well the interface that the socket was bound to tells lanes apart. */
static void put_v4_scope(struct text *t, const struct addr *a)
{
	if (addr_is_v4(a) && a->scope != 0) {
		text_put(t, "%");
		text_put_number(t, a->scope);
	}
}

void display_laddr(struct text *t, const struct tuplebind_lane *lane)
{
	struct addr a = address(lane, lane->laddr);

	text_put_addr(t, &a);
	put_v4_scope(t, &a);
}

void display_faddr(struct text *t, const struct tuplebind_lane *lane)
{
	struct addr a = address(lane, lane->faddr);

	text_put_addr(t, &a);
	put_v4_scope(t, &a);
}

void display_endpoint(struct text *t, const struct tuplebind_lane *lane)
{
	struct addr a = address(lane, lane->faddr);
	bool v6 = !addr_is_v4(&a);

	text_put(t, v6 ? "[" : "");
	display_faddr(t, lane);
	text_put(t, v6 ? "]:" : ":");
	text_put_number(t, lane->fport);
}

void display_destination(struct text *t, const struct tuplebind_lane *lane)
{
	display_endpoint(t, lane);
	if (lane->protocol != IPPROTO_TCP) {
		text_put(t, " (");
		text_put(t, display_protocol(lane));
		text_put(t, ")");
	}
}

void display_lane(struct text *t, const struct tuplebind_lane *lane)
{
	display_laddr(t, lane);
	text_put(t, " -> ");
	display_destination(t, lane);
}

const char *display_protocol(const struct tuplebind_lane *lane)
{
	return lane->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

void display_share(char out[static DISPLAY_SHARE_MAX], int permille)
{
	if (permille < 0)
		snprintf(out, DISPLAY_SHARE_MAX, "%5s", "-");
	else
		snprintf(out, DISPLAY_SHARE_MAX, "%3d %%", permille / 10);
}

void display_bar(char out[static DISPLAY_BAR + 1], int permille)
{
	int marks = permille < 0 ? 0 : (permille + 99) / 100;

	if (marks > DISPLAY_BAR)
		marks = DISPLAY_BAR;
	memset(out, '#', (size_t)marks);
	memset(out + marks, permille < 0 ? ' ' : '.', (size_t)(DISPLAY_BAR - marks));
	out[DISPLAY_BAR] = '\0';
}

const char *display_plural(uint64_t count, const char *one, const char *many)
{
	return count == 1 ? one : many;
}

void display_age(char out[static DISPLAY_AGE_MAX], uint64_t seconds)
{
	static const struct {
		uint64_t seconds;
		const char *name;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	unsigned i = 0;

	/* Two of a unit at least, or it tells too little. */
	while (i < 3 && seconds < 2 * units[i].seconds)
		i++;
	snprintf(out, DISPLAY_AGE_MAX, "%llu %s", (unsigned long long)(seconds / units[i].seconds),
		units[i].name);
}

enum display_level display_level(int permille)
{
	return permille >= ALARM_PERMILLE     ? DISPLAY_ALARM
	       : permille >= WARNING_PERMILLE ? DISPLAY_WARNING
					      : DISPLAY_CALM;
}

enum display_level display_counter_level(int counter)
{
	switch (counter) {
	case TUPLEBIND_FULL:
		return DISPLAY_ALARM;
	case TUPLEBIND_TABLE_FULL:
	case TUPLEBIND_PASSED_HELPLESS:
	case TUPLEBIND_PASSED_FULL:
		return DISPLAY_WARNING;
	default:
		return DISPLAY_CALM;
	}
}

const char *display_counter(int counter)
{
	static const char *const texts[TUPLEBIND_COUNTERS] = {
		[TUPLEBIND_BOUND] = "connects that were given a tuple",
		[TUPLEBIND_LATE] = "of these by late bind",
		[TUPLEBIND_EXPLICIT] = "of these by explicit bind",
		[TUPLEBIND_TIMEWAIT_REUSED] = "of these on a tuple in TIME_WAIT",
		[TUPLEBIND_RETRIES] = "ports passed over: somebody else had them",
		[TUPLEBIND_FULL] = "connects that found no tuple left",
		[TUPLEBIND_PASSED] = "connects left to the kernel",
		[TUPLEBIND_REAPED] = "claims given back by reap",
		[TUPLEBIND_TABLE_FULL] = "no room in the table (TUPLEBIND_TABLE_SIZE)",
		[TUPLEBIND_PASSED_SKIPPED] = "a rule or TUPLEBIND_SKIP says so",
		[TUPLEBIND_PASSED_BOUND] = "the program has chosen a port itself",
		[TUPLEBIND_PASSED_SPECIAL] = "multicast, options only the kernel can follow",
		[TUPLEBIND_PASSED_NAMESPACE] = "sockets of another network namespace",
		[TUPLEBIND_PASSED_HELPLESS] = "no address could be bound",
		[TUPLEBIND_PASSED_FULL] = "no tuple left, and TUPLEBIND_FULL=kernel",
	};

	return texts[counter];
}
