/*
 * What a table holds at one time, in plain numbers: for status, top and metrics.
 *
 * A table is read without attaching to it and without mapping it, and taken for what it is, memory
 * that any process of its user may have overwritten: nothing in it makes a reader crash, loop or
 * write. A slab counts only if its lane is the one that its place and tag stand for, so what was
 * scribbled over is left out. Programs go on meanwhile, so the numbers of one snapshot may be some
 * microseconds apart.
 *
 * Costs a copy of the file (8 MB: some 5 ms) and memory for the lanes with claims, about 80 bytes
 * for each of their slabs.
 */
#pragma once

#include "tools/common/tablefile.h"
#include "tools/status/capacity.h"

#include "table/table.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Claims summed up: of one lane, of all lanes of a local address, or of all of a destination. What
 * the sum does not tell apart is 0 in @lane: of a local address all but laddr and scope, of a
 * destination laddr alone.
 */
struct snapshot_sum {
	struct tuplebind_lane lane;
	uint64_t claims;
	uint64_t outside; /* of these, on ports that the capacity does not count */
	uint64_t lanes;	  /* with claims */
	uint64_t fullest; /* the most that one of the lanes has on ports that count */
};

/* The one with most claims first. */
struct snapshot_sums {
	struct snapshot_sum *items;
	size_t count;
};

struct snapshot_process {
	uint32_t pid;
	bool foreign;	/* of another pid namespace: the id means nothing here */
	char name[17];	/* nothing but what prints plainly */
	uint64_t since; /* seconds since the epoch, 0: unknown */
	uint64_t files; /* open descriptors, 0: unknown (before Linux 6.2, or another user's) */
};

struct snapshot {
	char name[TABLEFILE_NAME]; /* nothing but what prints plainly */
	/* What no other table has: the file's name behind "tuplebind.", with %XX for all but A-Z
	 * a-z 0-9 _ - and dots. */
	char id[3 * NAME_MAX + 1];
	uint64_t netns;
	bool here; /* of this process's network namespace */
	uint64_t size, slabs, slabs_used;
	uint64_t created; /* seconds since the epoch */
	uint64_t age;	  /* seconds; 0 as well when the clock was set back */
	uint64_t strays;  /* times that claims may have lost their holder */
	uint64_t claims;
	uint64_t counters[TUPLEBIND_COUNTERS];
	struct capacity capacity;
	struct snapshot_sums lanes, laddrs, destinations;
	struct snapshot_process *processes; /* the one with most descriptors first */
	size_t process_count;
};

/* The tables of this user, or of all users. */
struct snapshots {
	struct snapshot *tables;
	size_t count;
	size_t others;	      /* tables of other users that were not asked for */
	struct fault *faults; /* files that look like tables and could not be read */
	size_t fault_count;
};

/*
 * Reads the tables of this user, or of @all_users, those of this network namespace first. Others'
 * are read each in a process of its own (tools/common/apart.h), and of each their million fullest
 * lanes at most. Returns 0, or -errno with the fault told when there is not even a list; a single
 * table that cannot be read is among the faults. Free with snapshots_free(), also on error.
 */
int snapshots_take(
	struct snapshots *all, const struct capacity_base *base, bool all_users, struct fault *f);
void snapshots_free(struct snapshots *all);

/*
 * The same for a subcommand: @ports is what its --ports says (NULL: nothing), and what is wrong is
 * told in its name. Returns 0 or an exit code, then there is nothing to be freed.
 */
int snapshots_take_told(
	struct snapshots *all, const char *subcommand, const char *ports, bool all_users);

/* Sorts all sums of a table by lane, so that snapshot_find() finds in them; it finds nothing else.
 */
void snapshot_sort_by_lane(struct snapshot *s);

/* The sum of a lane, NULL: there is none. O(log n). */
const struct snapshot_sum *snapshot_find(
	const struct snapshot_sums *sums, const struct tuplebind_lane *lane);

/* In the order of enum tuplebind_counter: the name of each counter. */
extern const char *const snapshot_counters[TUPLEBIND_COUNTERS];

/* Counters before this one count connects; from it on why connects were passed. */
#define SNAPSHOT_REASONS TUPLEBIND_PASSED_SKIPPED

/*
 * How full a sum is, in thousandths, rounded down: claims on ports that count, of the ports of its
 * lanes. -1: the capacity is not known.
 */
int snapshot_permille(const struct snapshot *s, const struct snapshot_sum *sum);

/* The same for the fullest lane of the sum. */
int snapshot_permille_fullest(const struct snapshot *s, const struct snapshot_sum *sum);
