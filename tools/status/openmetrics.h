/*
 * Snapshots as OpenMetrics 1.0 text, which Prometheus and node_exporter read. docs/metrics.md tells
 * what each metric means.
 *
 * How many lines there are is bounded, whatever programs do: of lanes, local addresses and
 * destinations the fullest, of tables OPENMETRICS_TABLES.
 */
#pragma once

#include "tools/status/snapshot.h"

#include <stdio.h>

#define OPENMETRICS_TYPE   "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define OPENMETRICS_TABLES 256

/* At most so many of each, of every table. */
struct openmetrics_limits {
	uint64_t lanes, addresses, destinations;
};

/* Writes it all, up to "# EOF". Sorts the sums by how full they are. */
void openmetrics_write(FILE *to, struct snapshots *all, const struct openmetrics_limits *limits);
