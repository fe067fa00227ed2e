#include "tools/status/statusjson.h"

#include "tools/status/display.h"

#include "version.h"

#include <stdarg.h>
#include <stdio.h>

static void number(const char *before, const char *name, uint64_t value)
{
	printf("%s\"%s\":%llu", before, name, (unsigned long long)value);
}

static void text(const char *before, const char *name, const char *value)
{
	printf("%s\"%s\":\"%s\"", before, name, value);
}

static void print_processes(const struct snapshot *s, bool details)
{
	printf(",\"processes\":[");
	for (size_t i = 0; i < s->process_count; i++) {
		const struct snapshot_process *p = &s->processes[i];

		number(i > 0 ? ",{" : "{", "pid", p->pid);
		text(",", "name", p->name);
		if (details) {
			printf(",\"foreign\":%s", p->foreign ? "true" : "false");
			number(",", "since", p->since);
			number(",", "files", p->files);
		}
		printf("}");
	}
	printf("]");
}

static void print_counters(const struct snapshot *s, const char *name, int first, int end)
{
	printf(",\"%s\":{", name);
	for (int i = first; i < end; i++)
		number(i > first ? "," : "", snapshot_counters[i], s->counters[i]);
	printf("}");
}

/* Which of a sum's addresses mean something, and what else is told of it. */
enum parts { PART_LADDR = 1, PART_DESTINATION = 2 };

static void print_sum(const struct snapshot *s, const struct snapshot_sum *sum, enum parts parts)
{
	const struct tuplebind_lane *lane = &sum->lane;
	struct text line;

	text_clear(&line);
	printf("{");
	if (parts & PART_LADDR) {
		display_laddr(&line, lane);
		text("", "laddr", line.bytes);
	}
	if (parts & PART_DESTINATION) {
		text_clear(&line);
		display_faddr(&line, lane);
		text(parts & PART_LADDR ? "," : "", "faddr", line.bytes);
		number(",", "fport", lane->fport);
		text(",", "protocol", display_protocol(lane));
	}
	number(",", "scope", lane->scope);
	number(",", "claims", sum->claims);
	number(",", "outside", sum->outside);
	if (parts != (PART_LADDR | PART_DESTINATION)) {
		number(",", "lanes", sum->lanes);
		number(",", "fullest", sum->fullest);
	}
	if (s->capacity.source != CAPACITY_UNKNOWN && (parts & PART_DESTINATION))
		number(",", "capacity", sum->lanes * s->capacity.count);
	printf("}");
}

static void print_sums(const struct snapshot *s, const char *name, const struct snapshot_sums *sums,
	enum parts parts, uint64_t most)
{
	printf(",\"%s\":[", name);
	for (size_t i = 0; i < sums->count && i < most; i++) {
		printf("%s", i > 0 ? "," : "");
		print_sum(s, &sums->items[i], parts);
	}
	printf("]");
}

static void print_details(const struct snapshot *s, uint64_t most)
{
	print_counters(s, "passed_by", SNAPSHOT_REASONS, TUPLEBIND_COUNTERS);
	printf(",\"here\":%s", s->here ? "true" : "false");
	number(",", "created", s->created);
	number(",", "age", s->age);
	number(",", "slabs", s->slabs);
	number(",", "slabs_used", s->slabs_used);
	number(",", "strays", s->strays);
	number(",", "ports", s->capacity.count);
	text(",", "ports_from", capacity_source_text(s->capacity.source));
	number(",", "local_address_count", s->laddrs.count);
	number(",", "destination_count", s->destinations.count);
	print_sums(s, "fullest_lanes", &s->lanes, PART_LADDR | PART_DESTINATION, most);
	print_sums(s, "local_addresses", &s->laddrs, PART_LADDR, most);
	print_sums(s, "destinations", &s->destinations, PART_DESTINATION, most);
}

static void print_table(const struct snapshot *s, bool details, uint64_t most)
{
	text("{", "name", s->name);
	number(",", "netns", s->netns);
	number(",", "size", s->size);
	number(",", "lanes", s->lanes.count);
	number(",", "claims", s->claims);
	print_processes(s, details);
	print_counters(s, "counters", 0, SNAPSHOT_REASONS);
	if (details)
		print_details(s, most);
	printf("}");
}

void status_print_json(const struct snapshots *all, bool details, uint64_t most)
{
	printf("{\"version\":\"%s\",\"tables\":[", TUPLEBIND_VERSION);
	for (size_t i = 0; i < all->count; i++) {
		printf("%s", i > 0 ? "," : "");
		print_table(&all->tables[i], details, most);
	}
	printf("]}\n");
}
