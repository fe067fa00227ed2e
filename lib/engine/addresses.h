/*
 * Going through the local addresses of one connect(): the one that the program has bound, or those
 * of the pool that serves the destination, or the one that routing would choose.
 */
#pragma once

#include "engine/search.h"

/* What all addresses came to. */
struct tries {
	bool done, give_up, lost, full, table_full;
	int error; /* done: the call's errno, or 0 */
};

/* Whether nothing but a lack of tuples stood in the way. */
static inline bool tries_full(const struct tries *t)
{
	return t->full && !t->done && !t->give_up && !t->lost && !t->table_full;
}

/*
 * Tries all tuples of all addresses; again as long as all look full while claims are given back in
 * the table, eight times at most.
 */
struct tries addresses_try(struct attempt *a);

/*
 * Has the kernel look for a port on the addresses, in turn, 16 of them at most. 0 or errno of the
 * call; -errno: no address could be bound.
 */
int addresses_search(struct attempt *a, enum search how);

/*
 * Where the lanes of all addresses are full: gives claims back that have no holder any more, and
 * tries again, until that has given a tuple or gives nothing any more, or half a second has passed.
 * Not more often than a part of the time that it takes. *seen: the kernel could be asked, now or
 * not long ago, whether the claims have holders.
 */
struct tries addresses_reap(struct attempt *a, struct tries tries, bool *seen);
