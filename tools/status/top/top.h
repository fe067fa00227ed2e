/*
 * tuplebind-top: the tables live, in the terminal.
 *
 * One table is shown at a time, in one of four views. Everything that is drawn comes from the last
 * two snapshots (tools/status/snapshot.h): numbers from the last, rates from what changed between
 * them.
 */
#pragma once

#include "tools/status/snapshot.h"

#include "base/text.h"

#include <stdbool.h>

enum view { VIEW_LANES, VIEW_LADDRS, VIEW_DESTINATIONS, VIEW_PROCESSES, VIEWS };
enum sorting { SORT_CLAIMS, SORT_RATE, SORT_ADDRESS, SORT_DESTINATION, SORTINGS };

/* One line of a view: a sum of claims or, in the last view, a process. */
struct row {
	const struct snapshot_sum *sum;
	const struct snapshot_process *process;
	double rate; /* claims (of a process: descriptors) more than before, per second */
};

struct top {
	/* What is seen. */
	struct capacity_base base;
	bool all_users;
	struct snapshots now, before;
	double seconds;	    /* between the two; 0: there is only one */
	struct fault fault; /* why there is no new snapshot, "" else */

	/* What of it is shown. */
	char table_name[TABLE_NAME_MAX + 1]; /* empty at first */
	uint64_t table_netns;
	enum view view;
	enum sorting sorting;
	char filter[64];
	bool paused, help, typing, quit;
	size_t first; /* row at the top of the list */

	/* The rows of that, made anew by rows_make(). */
	struct row *rows;
	size_t row_count;
	size_t page; /* rows that fit the screen, set when it is drawn */
};

/* The table that is shown, one of top->now or top->before; NULL: there is none. */
const struct snapshot *top_table(const struct top *top, const struct snapshots *of);

/* Chooses a table when the one that was shown is gone; this namespace's first. */
void top_choose_table(struct top *top);
void top_next_table(struct top *top);

/*
 * Makes the rows of the chosen table, view, filter and sorting. Without memory there are none.
 * O(n log n) of the table's lanes.
 */
void rows_make(struct top *top);

/* The text by which a row is filtered, and which stands at its end. */
void row_text(const struct top *top, const struct row *row, struct text *t);

void screen_draw(struct top *top);

/* What a key does; ncurses' codes. */
void keys_press(struct top *top, int key);
