#include "tools/status/openmetrics.h"

#include "tools/status/display.h"

#include "version.h"

#include <stdlib.h>

struct output {
	FILE *to;
	const struct openmetrics_limits *limits;
};

static void write_family(struct output *o, const char *name, const char *type, const char *help)
{
	fprintf(o->to, "# TYPE tuplebind_%s %s\n# HELP tuplebind_%s %s.\n", name, type, name, help);
}

static void write_value(struct output *o, const char *name, const struct snapshot *s,
	const char *suffix, const char *label, uint64_t value)
{
	fprintf(o->to, "tuplebind_%s%s{table=\"%s\"%s} %llu\n", name, suffix, s->id, label,
		(unsigned long long)value);
}

/* Of each table one number. */

static const struct {
	const char *name, *help;
} gauges[] = {
	{"table_size_bytes", "Size of the table"},
	{"table_slabs", "Room in the table, in slabs of 512 ports of one lane"},
	{"table_slabs_used", "Slabs with claims"},
	{"table_created_timestamp_seconds", "When the table was made"},
	{"lanes", "Lanes with claims"},
	{"local_addresses", "Local addresses with claims"},
	{"destinations", "Destinations with claims"},
	{"claims", "Ports taken, over all lanes"},
	{"processes", "Attached processes"},
};

/* In the same order. */
static uint64_t gauge_of(const struct snapshot *s, size_t gauge)
{
	const uint64_t values[] = {s->size, s->slabs, s->slabs_used, s->created, s->lanes.count,
		s->laddrs.count, s->destinations.count, s->claims, s->process_count};

	return values[gauge];
}

static void write_gauges(struct output *o, const struct snapshots *all)
{
	for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
		write_family(o, gauges[i].name, "gauge", gauges[i].help);
		for (size_t k = 0; k < all->count; k++)
			write_value(o, gauges[i].name, &all->tables[k], "", "",
				gauge_of(&all->tables[k], i));
	}
}

/* Counters. */

static void write_counters(struct output *o, const struct snapshots *all)
{
	for (int i = 0; i < SNAPSHOT_REASONS; i++) {
		write_family(o, snapshot_counters[i], "counter", display_counter(i));
		for (size_t k = 0; k < all->count; k++)
			write_value(o, snapshot_counters[i], &all->tables[k], "_total", "",
				all->tables[k].counters[i]);
	}
	write_family(o, "passed_by", "counter", "Connects left to the kernel, by reason");
	for (size_t k = 0; k < all->count; k++) {
		for (int i = SNAPSHOT_REASONS; i < TUPLEBIND_COUNTERS; i++) {
			char label[40];

			snprintf(label, sizeof label, ",reason=\"%s\"", snapshot_counters[i]);
			write_value(o, "passed_by", &all->tables[k], "_total", label,
				all->tables[k].counters[i]);
		}
	}
	write_family(o, "strays", "counter", "Times that claims may have lost their holder");
	for (size_t k = 0; k < all->count; k++)
		write_value(o, "strays", &all->tables[k], "_total", "", all->tables[k].strays);
}

/* Sums. */

enum kind { LANE, ADDRESS, DESTINATION };

static const char *const kind_names[] = {"lane", "local_address", "destination"};

static struct snapshot_sums *sums_of(struct snapshot *s, enum kind kind)
{
	return kind == LANE ? &s->lanes : kind == ADDRESS ? &s->laddrs : &s->destinations;
}

static uint64_t limit_of(const struct output *o, enum kind kind)
{
	return kind == LANE	 ? o->limits->lanes
	       : kind == ADDRESS ? o->limits->addresses
				 : o->limits->destinations;
}

static int fill_of(const struct snapshot *s, const struct snapshot_sum *sum, enum kind kind)
{
	return kind == ADDRESS ? snapshot_permille_fullest(s, sum) : snapshot_permille(s, sum);
}

struct order {
	const struct snapshot *s;
	enum kind kind;
};

static int fuller(const void *a, const void *b, void *context)
{
	const struct order *order = context;
	const struct snapshot_sum *one = a, *other = b;
	int by_fill = fill_of(order->s, other, order->kind) - fill_of(order->s, one, order->kind);

	return by_fill != 0 ? by_fill
			    : (one->claims < other->claims) - (one->claims > other->claims);
}

static void write_labels(
	struct output *o, const struct snapshot *s, const struct snapshot_sum *sum, enum kind kind)
{
	struct text t;

	fprintf(o->to, "{table=\"%s\"", s->id);
	if (kind != DESTINATION) {
		text_clear(&t);
		display_laddr(&t, &sum->lane);
		fprintf(o->to, ",laddr=\"%s\"", t.bytes);
	}
	if (kind != ADDRESS) {
		text_clear(&t);
		display_endpoint(&t, &sum->lane);
		fprintf(o->to, ",destination=\"%s\",protocol=\"%s\"", t.bytes,
			display_protocol(&sum->lane));
	}
	fprintf(o->to, "} ");
}

enum number { CLAIMS, LANES, FILL };

static void write_sum(struct output *o, const struct snapshot *s, const struct snapshot_sum *sum,
	enum kind kind, enum number number, const char *name)
{
	int fill = fill_of(s, sum, kind);

	if (number == FILL && fill < 0)
		return;
	fprintf(o->to, "tuplebind_%s", name);
	write_labels(o, s, sum, kind);
	if (number == FILL)
		fprintf(o->to, "%d.%03d\n", fill / 1000, fill % 1000);
	else
		fprintf(o->to, "%llu\n",
			(unsigned long long)(number == CLAIMS ? sum->claims : sum->lanes));
}

static void write_sums(struct output *o, struct snapshots *all, enum kind kind, enum number number,
	const char *suffix, const char *help)
{
	char name[64];

	snprintf(name, sizeof name, "%s_%s", kind_names[kind], suffix);
	write_family(o, name, "gauge", help);
	for (size_t k = 0; k < all->count; k++) {
		const struct snapshot_sums *sums = sums_of(&all->tables[k], kind);

		for (size_t i = 0; i < sums->count && i < limit_of(o, kind); i++)
			write_sum(o, &all->tables[k], &sums->items[i], kind, number, name);
	}
}

static void sort_sums(struct snapshots *all)
{
	for (size_t k = 0; k < all->count; k++) {
		struct snapshot *s = &all->tables[k];

		for (enum kind kind = LANE; kind <= DESTINATION; kind++) {
			struct snapshot_sums *sums = sums_of(s, kind);
			struct order order = {s, kind};

			if (sums->count > 1)
				qsort_r(sums->items, sums->count, sizeof *sums->items, fuller,
					&order);
		}
	}
}

static void write_ports(struct output *o, const struct snapshots *all)
{
	write_family(o, "ports", "gauge", "Ports that a lane can have, where that is known");
	for (size_t k = 0; k < all->count; k++) {
		const struct capacity *c = &all->tables[k].capacity;
		char label[40];

		snprintf(label, sizeof label, ",from=\"%s\"", capacity_source_text(c->source));
		if (c->source != CAPACITY_UNKNOWN)
			write_value(o, "ports", &all->tables[k], "", label, c->count);
	}
}

void openmetrics_write(FILE *to, struct snapshots *all, const struct openmetrics_limits *limits)
{
	struct output o = {to, limits};
	struct snapshots listed = *all;

	if (listed.count > OPENMETRICS_TABLES)
		listed.count = OPENMETRICS_TABLES;
	/* Not of the type info, which node_exporter does not know and then reads nothing at all. */
	write_family(&o, "build_info", "gauge", "The version");
	fprintf(to, "tuplebind_build_info{version=\"" TUPLEBIND_VERSION "\"} 1\n");
	write_family(&o, "tables", "gauge", "Tables that could be read");
	fprintf(to, "tuplebind_tables %zu\n", all->count);
	write_family(&o, "tables_unreadable", "gauge", "Files that look like tables and are none");
	fprintf(to, "tuplebind_tables_unreadable %zu\n", all->fault_count);
	write_gauges(&o, &listed);
	write_ports(&o, &listed);
	write_counters(&o, &listed);
	sort_sums(&listed);
	write_sums(&o, &listed, LANE, CLAIMS, "claims", "Ports taken of a lane");
	write_sums(&o, &listed, LANE, FILL, "fill_ratio", "How full a lane is");
	write_sums(&o, &listed, ADDRESS, CLAIMS, "claims", "Ports taken of a local address");
	write_sums(&o, &listed, ADDRESS, LANES, "lanes", "Lanes of a local address");
	write_sums(&o, &listed, ADDRESS, FILL, "fill_ratio",
		"How full the fullest lane of a local address is");
	write_sums(&o, &listed, DESTINATION, CLAIMS, "claims", "Ports taken towards a destination");
	write_sums(&o, &listed, DESTINATION, LANES, "lanes", "Lanes to a destination");
	write_sums(&o, &listed, DESTINATION, FILL, "fill_ratio",
		"How full the lanes to a destination are together");
	fprintf(to, "# EOF\n");
}
