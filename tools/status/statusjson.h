/*
 * tuplebind status --json. What it prints without details is fixed, other programs rely on it;
 * with them each table has more keys behind those. docs/status-json.md tells all of them.
 */
#pragma once

#include "tools/status/snapshot.h"

/* Prints one line. @most: so many lanes, addresses and destinations of each table at most. */
void status_print_json(const struct snapshots *all, bool details, uint64_t most);
