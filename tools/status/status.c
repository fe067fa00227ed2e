/*
 * tuplebind status: what is taken, by whom, and why connects failed, table by table.
 *
 * The text fits 80 columns; marked in colour is what somebody who looks for trouble looks for. Only
 * on a terminal: elsewhere no byte but the text goes out.
 */
#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/status/display.h"
#include "tools/status/statusjson.h"
#include "tools/subcommands.h"

#include <bsd/libutil.h>
#include <bsd/stdlib.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES_DEFAULT	10
#define LANES_MAX	1000000
#define LANES_NOT_GIVEN UINT64_MAX
#define WIDTH		80

struct request {
	bool json, details, all_users;
	uint64_t lanes;
	const char *ports;
};

static const struct option_row rows[] = {
	{"lanes", "N", "how many of each to show, the fullest first (default 10);\n0: none",
		option_number, offsetof(struct request, lanes), .max = LANES_MAX},
	OPTION_TEXT(struct request, ports, "ports", "LIST",
		"the ports a lane can have, as TUPLEBIND_PORTS has them. Default:\n"
		"what the attached processes were started with, else what the\n"
		"kernel offers"),
	OPTION_SWITCH(struct request, json, "json", "one JSON object, for programs"),
	OPTION_SWITCH(struct request, details, "details",
		"with --json: all that is known, all lanes (docs/status-json.md)"),
	OPTION_SWITCH(
		struct request, all_users, "all-users", "those of other users as well, for root"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "status",
	.usage = "usage: tuplebind status [--json [--details]] [--lanes N] [--ports LIST]\n"
		 "                        [--all-users]\n"
		 "\n"
		 "Shows this user's tuple tables: what is taken, by lane, by local address and by\n"
		 "destination, which processes are attached, and what became of their connects. A\n"
		 "lane is all tuples from one local address to one destination; a claim is a port\n"
		 "taken.\n"
		 "\n",
	.notes = "\nColours on a terminal only, and not with NO_COLOR set or TERM=dumb.\n",
	.column = 16,
	.groups = {{rows, 0}},
};

static void put_level(enum display_level level)
{
	static const char *const colours[] = {COLOUR_GREEN, COLOUR_YELLOW, COLOUR_BOLD_RED};

	colours_put(colours[level]);
}

static unsigned long long number(uint64_t value)
{
	return value;
}

static void print_heading(const char *text)
{
	printf("\n");
	colours_put(COLOUR_BOLD);
	printf("%s", text);
	colours_put(COLOUR_PLAIN);
	printf("\n");
}

static void print_more(uint64_t count, uint64_t shown)
{
	if (count > shown)
		printf("            and %llu more\n", number(count - shown));
}

static void print_head(const struct snapshot *s)
{
	char size[8], age[DISPLAY_AGE_MAX];
	uint64_t used = s->slabs > 0 ? s->slabs_used * 100 / s->slabs : 0;

	humanize_number(size, sizeof size, (int64_t)s->size, "B", HN_AUTOSCALE, 0);
	display_age(age, s->age);
	colours_put(COLOUR_BOLD);
	printf("%s", s->name);
	colours_put(COLOUR_PLAIN);
	printf("\n  %s, ", size);
	put_level(display_level((int)used * 10));
	printf("%llu %% used", number(used));
	colours_put(COLOUR_PLAIN);
	printf(", made %s ago; network namespace %llu%s\n", age, number(s->netns),
		s->here ? " (this one)" : "");
	printf("  %llu %s, %llu %s, %zu %s", number(s->lanes.count),
		display_plural(s->lanes.count, "lane", "lanes"), number(s->claims),
		display_plural(s->claims, "claim", "claims"), s->process_count,
		display_plural(s->process_count, "process", "processes"));
	static const char *const from[] = {
		[CAPACITY_KERNEL] = "the kernel's",
		[CAPACITY_PROCESSES] = "TUPLEBIND_PORTS",
		[CAPACITY_GIVEN] = "--ports",
	};
	if (s->capacity.source != CAPACITY_UNKNOWN)
		printf("; %u ports (%s)", s->capacity.count, from[s->capacity.source]);
	printf("\n");
}

/* Claims and fill of a sum; the line goes on. */
static void print_fill(const struct snapshot *s, const struct snapshot_sum *sum)
{
	char share[DISPLAY_SHARE_MAX], bar[DISPLAY_BAR + 1];
	int permille = snapshot_permille(s, sum);

	display_share(share, permille);
	display_bar(bar, permille);
	printf("  %8llu  ", number(sum->claims));
	put_level(display_level(permille));
	printf("%s %s", share, bar);
	colours_put(COLOUR_PLAIN);
	printf("  ");
}

#define FILL_WIDTH 29

/* What does not fit behind @width columns has the next line, right-justified as far as it goes. */
static void break_line(size_t width, size_t length)
{
	if (width + length > WIDTH)
		printf("\n%*s", length < WIDTH ? (int)(WIDTH - length) : 0, "");
}

static void print_outside(const struct snapshot_sum *sum)
{
	if (sum->outside > 0)
		printf("%*s%llu of them on ports that do not count\n", 12, "",
			number(sum->outside));
}

/* Two long IPv6 addresses have a line each. */
static void print_lane(const struct snapshot *s, const struct snapshot_sum *sum)
{
	struct text laddr, destination;

	text_clear(&laddr);
	text_clear(&destination);
	display_laddr(&laddr, &sum->lane);
	display_destination(&destination, &sum->lane);
	print_fill(s, sum);
	printf("%s", laddr.bytes);
	break_line(FILL_WIDTH + laddr.length, 4 + destination.length);
	printf(" -> %s\n", destination.bytes);
	print_outside(sum);
}

static void print_lanes(const struct snapshot *s, uint64_t most)
{
	print_heading("    claims  of its ports      lane");
	for (size_t i = 0; i < s->lanes.count && i < most; i++)
		print_lane(s, &s->lanes.items[i]);
	print_more(s->lanes.count, most);
}

static void print_laddrs(const struct snapshot *s, uint64_t most)
{
	struct text line;
	char share[DISPLAY_SHARE_MAX];

	print_heading("    claims    lanes  fullest  local address");
	for (size_t i = 0; i < s->laddrs.count && i < most; i++) {
		const struct snapshot_sum *sum = &s->laddrs.items[i];
		int permille = snapshot_permille_fullest(s, sum);

		text_clear(&line);
		display_laddr(&line, &sum->lane);
		display_share(share, permille);
		printf("  %8llu %8llu    ", number(sum->claims), number(sum->lanes));
		put_level(display_level(permille));
		printf("%s", share);
		colours_put(COLOUR_PLAIN);
		printf("  %s\n", line.bytes);
	}
	print_more(s->laddrs.count, most);
}

static void print_destinations(const struct snapshot *s, uint64_t most)
{
	struct text line;

	print_heading("    claims  of its lanes       lanes  destination");
	for (size_t i = 0; i < s->destinations.count && i < most; i++) {
		const struct snapshot_sum *sum = &s->destinations.items[i];

		text_clear(&line);
		display_destination(&line, &sum->lane);
		print_fill(s, sum);
		printf("%5llu  ", number(sum->lanes));
		break_line(FILL_WIDTH + 7, line.length);
		printf("%s\n", line.bytes);
	}
	print_more(s->destinations.count, most);
}

static void print_processes(const struct snapshot *s, uint64_t most)
{
	uint64_t now = (uint64_t)time(NULL);

	print_heading("       pid   runs for  descriptors  process");
	for (size_t i = 0; i < s->process_count && i < most; i++) {
		const struct snapshot_process *p = &s->processes[i];
		char age[DISPLAY_AGE_MAX] = "-", files[24] = "-";

		if (p->since > 0)
			display_age(age, now > p->since ? now - p->since : 0);
		if (p->files > 0)
			snprintf(files, sizeof files, "%llu", number(p->files));
		printf("  %8u %10s  %11s  %s%s\n", p->pid, age, files, p->name,
			p->foreign ? " (of another pid namespace)" : "");
	}
	print_more(s->process_count, most);
}

static void print_counter(const struct snapshot *s, int counter, const char *indent, int width)
{
	uint64_t value = s->counters[counter];
	enum display_level level = value > 0 ? display_counter_level(counter) : DISPLAY_CALM;

	printf("  %8llu  %s", number(value), indent);
	if (level != DISPLAY_CALM)
		put_level(level);
	printf("%-*s", width, snapshot_counters[counter]);
	if (level != DISPLAY_CALM)
		colours_put(COLOUR_PLAIN);
	printf("  %s\n", display_counter(counter));
}

static void print_counters(const struct snapshot *s)
{
	static const int order[] = {TUPLEBIND_BOUND, TUPLEBIND_LATE, TUPLEBIND_EXPLICIT,
		TUPLEBIND_TIMEWAIT_REUSED, TUPLEBIND_RETRIES, TUPLEBIND_FULL, TUPLEBIND_REAPED,
		TUPLEBIND_PASSED};

	print_heading("     count  since the table was made");
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		print_counter(s, order[i], "", 15);
	/* Of the reasons those that there were: most programs know none. */
	for (int i = TUPLEBIND_TABLE_FULL; i < TUPLEBIND_COUNTERS; i++)
		if (s->counters[i] > 0)
			print_counter(s, i, "  ", 13);
}

static void print_table(const struct snapshot *s, uint64_t most)
{
	print_head(s);
	if (most > 0 && s->lanes.count > 0) {
		print_lanes(s, most);
		print_laddrs(s, most);
		print_destinations(s, most);
	}
	if (most > 0 && s->process_count > 0)
		print_processes(s, most);
	print_counters(s);
}

static void print_text(const struct snapshots *all, uint64_t most)
{
	colours_start();
	for (size_t i = 0; i < all->count; i++) {
		printf("%s", i > 0 ? "\n" : "");
		print_table(&all->tables[i], most);
	}
	if (all->count == 0 && all->fault_count == 0)
		printf("no tables: no program has run under tuplebind as this user\n");
	/* Nobody else could look at them. */
	if (all->others > 0 && place_user() == 0)
		printf("%snot shown: %zu %s of other users (--all-users)\n",
			all->count > 0 ? "\n" : "", all->others,
			display_plural(all->others, "table", "tables"));
}

int status_main(int argc, char **argv)
{
	struct request r = {.lanes = LANES_NOT_GIVEN};
	struct snapshots all;
	int code;

	if (!options_read(&options, &r, argc, argv, &code))
		return code;
	if (r.details && !r.json)
		return command_usage("status", "--details goes with --json");
	if ((code = snapshots_take_told(&all, "status", r.ports, r.all_users)) != 0)
		return code;
	if (r.json)
		status_print_json(&all, r.details, r.lanes);
	else
		print_text(&all, r.lanes != LANES_NOT_GIVEN ? r.lanes : LANES_DEFAULT);
	/* One table that cannot be read, of another version perhaps, does not spoil the others. */
	code = all.count == 0 && all.fault_count > 0 ? EXIT_TUPLEBIND : EXIT_SUCCESS;
	snapshots_free(&all);
	int error = command_flush("status");
	return error != 0 ? error : code;
}
