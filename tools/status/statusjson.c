#include "tools/status/statusjson.h"

#include "tools/common/json.h"
#include "tools/status/display.h"

#include "version.h"

static void write_processes(struct json *j, const struct snapshot *s, bool details)
{
	json_open(j, "processes", '[');
	for (size_t i = 0; i < s->process_count; i++) {
		const struct snapshot_process *p = &s->processes[i];

		json_open(j, NULL, '{');
		json_number(j, "pid", p->pid);
		json_text(j, "name", p->name);
		if (details) {
			json_bool(j, "foreign", p->foreign);
			json_number(j, "since", p->since);
			json_number(j, "files", p->files);
		}
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void write_counters(
	struct json *j, const struct snapshot *s, const char *name, int first, int end)
{
	json_open(j, name, '{');
	for (int i = first; i < end; i++)
		json_number(j, snapshot_counters[i], s->counters[i]);
	json_close(j, '}');
}

/* Which of a sum's addresses mean something, and what else is told of it. */
enum parts { PART_LADDR = 1, PART_DESTINATION = 2 };

static void write_sum(
	struct json *j, const struct snapshot *s, const struct snapshot_sum *sum, enum parts parts)
{
	const struct tuplebind_lane *lane = &sum->lane;
	struct text line;

	json_open(j, NULL, '{');
	if (parts & PART_LADDR) {
		text_clear(&line);
		display_laddr(&line, lane);
		json_text(j, "laddr", line.bytes);
	}
	if (parts & PART_DESTINATION) {
		text_clear(&line);
		display_faddr(&line, lane);
		json_text(j, "faddr", line.bytes);
		json_number(j, "fport", lane->fport);
		json_text(j, "protocol", display_protocol(lane));
	}
	json_number(j, "scope", lane->scope);
	json_number(j, "claims", sum->claims);
	json_number(j, "outside", sum->outside);
	if (parts != (PART_LADDR | PART_DESTINATION)) {
		json_number(j, "lanes", sum->lanes);
		json_number(j, "fullest", sum->fullest);
	}
	if (s->capacity.source != CAPACITY_UNKNOWN && (parts & PART_DESTINATION))
		json_number(j, "capacity", sum->lanes * s->capacity.count);
	json_close(j, '}');
}

static void write_sums(struct json *j, const struct snapshot *s, const char *name,
	const struct snapshot_sums *sums, enum parts parts, uint64_t most)
{
	json_open(j, name, '[');
	for (size_t i = 0; i < sums->count && i < most; i++)
		write_sum(j, s, &sums->items[i], parts);
	json_close(j, ']');
}

static void write_details(struct json *j, const struct snapshot *s, uint64_t most)
{
	write_counters(j, s, "passed_by", SNAPSHOT_REASONS, TUPLEBIND_COUNTERS);
	json_bool(j, "here", s->here);
	json_number(j, "created", s->created);
	json_number(j, "age", s->age);
	json_number(j, "slabs", s->slabs);
	json_number(j, "slabs_used", s->slabs_used);
	json_number(j, "strays", s->strays);
	json_number(j, "ports", s->capacity.count);
	json_text(j, "ports_from", capacity_source_text(s->capacity.source));
	json_number(j, "local_address_count", s->laddrs.count);
	json_number(j, "destination_count", s->destinations.count);
	write_sums(j, s, "fullest_lanes", &s->lanes, PART_LADDR | PART_DESTINATION, most);
	write_sums(j, s, "local_addresses", &s->laddrs, PART_LADDR, most);
	write_sums(j, s, "destinations", &s->destinations, PART_DESTINATION, most);
}

static void write_table(struct json *j, const struct snapshot *s, bool details, uint64_t most)
{
	json_open(j, NULL, '{');
	json_text(j, "name", s->name);
	json_number(j, "netns", s->netns);
	json_number(j, "size", s->size);
	json_number(j, "lanes", s->lanes.count);
	json_number(j, "claims", s->claims);
	write_processes(j, s, details);
	write_counters(j, s, "counters", 0, SNAPSHOT_REASONS);
	if (details)
		write_details(j, s, most);
	json_close(j, '}');
}

void status_print_json(const struct snapshots *all, bool details, uint64_t most)
{
	struct json j = {stdout, false};

	json_open(&j, NULL, '{');
	json_text(&j, "version", TUPLEBIND_VERSION);
	json_open(&j, "tables", '[');
	for (size_t i = 0; i < all->count; i++)
		write_table(&j, &all->tables[i], details, most);
	json_close(&j, ']');
	json_close(&j, '}');
	putchar('\n');
}
