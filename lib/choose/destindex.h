/*
 * The first of many destinations that matches, found without looking at each.
 *
 * Destinations are sorted into forms: a family, a prefix length, with or without a port. In
 * each form at most one key can match an address, so one look into a hash table per form is
 * enough ("tuple space search", Srinivasan, Suri and Varghese, 1999). Forms are
 * tried in the order of their first destination, and no further than the best match so far.
 * Real lists have a handful of forms, however long they are.
 *
 * Made once at start (this takes memory), looked at without locks; async-signal-safe.
 */
#pragma once

#include "choose/dest.h"

struct dest_form;

struct dest_index {
	unsigned count, room;
	struct dest *dests; /* in the order of dest_index_add() */
	unsigned form_count;
	struct dest_form *forms;
	unsigned slots; /* a power of two */
	uint32_t *numbers;
};

/* Adds a destination, whose number is how many there were before. 0 or -ENOMEM. */
int dest_index_add(struct dest_index *x, const struct dest *d);

/* Makes it ready for dest_index_find(), after the last has been added. 0 or -ENOMEM. */
int dest_index_make(struct dest_index *x);

void dest_index_free(struct dest_index *x);

/*
 * The number of the first destination that matches, or their count when none does. O(forms): some
 * 10 ns each, of at most 324.
 */
unsigned dest_index_find(const struct dest_index *x, const struct addr *faddr, uint16_t fport);
