#include "engine/addresses.h"

#include "engine/address.h"
#include "engine/tcp.h"
#include "engine/tuple.h"
#include "table/reap.h"

#include <errno.h>

/*
 * Reaping on the way of a connect(): this many claims are enough for now, it takes no longer than
 * this, and without a reason no more than one part in REAP_SHARE of the time.
 */
#define REAP_ENOUGH  256
#define REAP_LONGEST UINT64_C(500000000) /* ns */
#define REAP_ROUNDS  8
#define REAP_SHORT   UINT64_C(10000000)	 /* ns; a look this short may follow another */
#define REAP_PAUSE   UINT64_C(100000000) /* ns */
#define REAP_SHARE   20

#define ROUNDS_MOST   8	 /* of all addresses before they are called full */
#define SEARCHES_MOST 16 /* addresses on which the kernel searches in vain, within one call */

static void no_late_bind(struct engine *engine)
{
	struct event e;

	if (event_begin(&e, LOG_INFO, "no-late-bind")) {
		event_text(&e, "reason", "this kernel has none (Linux 6.3)");
		event_text(&e, "then", "explicit bind");
		event_end(&e);
	}
	atomic_store_explicit(&engine->plan.late, 0, memory_order_relaxed);
	plan_set_ports(&engine->plan);
}

static void start_walk(const struct attempt *a, struct source_walk *walk)
{
	walk->automatic = true; /* nothing of a pool, if the program has bound an address */
	if (!a->socket->address_given)
		source_walk_start(walk, &a->engine->sources, a->socket->rule,
			a->engine->plan.balance, &a->to.addr, a->socket->protocol, a->to.port);
}

/* The next address to try: the one that the program has bound, once, or the next of the walk. */
static bool next_address(struct attempt *a, struct source_walk *walk, bool first)
{
	if (a->socket->address_given)
		return first;
	bool more = source_walk_next(walk, &a->from.addr);
	a->from.automatic = walk->automatic;
	a->from.freebind = walk->freebind;
	return more;
}

/* Addresses from which the destination could not be reached, of one walk. */
struct misses {
	unsigned count;
	struct addr first;
	int error; /* of the first */
};

static void note_miss(
	struct misses *m, const struct attempt *a, struct source_walk *walk, int error)
{
	if (m->count++ == 0) {
		m->first = a->from.addr;
		m->error = error;
	}
	source_walk_unreachable(walk);
}

/*
 * The log tells of a miss when another address has proved that the destination can be reached, or
 * when the program is told.
 */
static void note_done(const struct misses *m, const struct attempt *a, struct source_walk *walk)
{
	if (a->socket->address_given)
		return;
	if (m->count != 0)
		source_walk_tell_unreachable(walk, &m->first, m->error);
	if (!a->from.unreachable)
		source_walk_worked(walk);
}

static struct result try_address(struct attempt *a)
{
	a->from.unreachable = false;
	struct result r = address_try(a);
	if (r.tried != TRIED_NO_LATE)
		return r;
	no_late_bind(a->engine);
	return address_try(a);
}

static struct tries try_each(struct attempt *a)
{
	struct source_walk walk;
	struct tries tries = {.done = false};
	struct misses misses = {.count = 0};

	start_walk(a, &walk);
	for (bool first = true; next_address(a, &walk, first); first = false) {
		struct result r = try_address(a);

		if (a->from.unreachable)
			note_miss(&misses, a, &walk, r.error);
		switch (r.tried) {
		case TRIED_DONE:
			note_done(&misses, a, &walk);
			tries.done = true;
			tries.error = r.error;
			return tries;
		case TRIED_FULL:
			tries.full = true;
			break;
		case TRIED_TABLE_FULL:
			tries.table_full = true;
			break;
		case TRIED_NEXT_ADDRESS:
			if (!a->socket->address_given)
				source_walk_failed(&walk);
			break;
		case TRIED_UNREACHABLE:
			if (misses.count == SOURCE_MISSES_MOST) {
				tries.done = true;
				tries.error = misses.error;
				return tries;
			}
			break;
		case TRIED_LOST:
			tries.lost = true;
			return tries;
		default:
			tries.give_up = true;
			return tries;
		}
	}
	return tries;
}

/*
 * One by one all addresses may look full while there is always a tuple free, at another one. (For
 * one address claim_take() sees to that, but it knows one stage.)
 */
struct tries addresses_try(struct attempt *a)
{
	struct tries tries = try_each(a);
	bool moving = true;

	for (int round = 1; round < ROUNDS_MOST && moving && tries_full(&tries); round++) {
		uint64_t count = claims_given_back(&a->engine->table);

		tries = try_each(a);
		moving = count != claims_given_back(&a->engine->table);
	}
	return tries;
}

int addresses_search(struct attempt *a, enum search how)
{
	struct source_walk walk;
	int error = -EADDRNOTAVAIL, searches = 0;

	start_walk(a, &walk);
	for (bool first = true; searches < SEARCHES_MOST && next_address(a, &walk, first);
		first = false) {
		a->from.unreachable = false;
		int got = search_address(a, how);

		if (got >= 0) {
			error = got;
			searches++;
			if (!search_found_nothing(a, got) && !a->from.unreachable)
				break;
		} else if (got != -EADDRNOTAVAIL) {
			/* A policy, or no memory: the next address would fare no better. */
			break;
		} else if (!a->socket->address_given) {
			source_walk_failed(&walk);
		}
	}
	return error;
}

/* Reaps the lanes of all addresses; true when claims were given back. *seen: the kernel could be
 * asked. */
static bool reap_each(struct attempt *a, uint64_t deadline, bool *seen)
{
	struct engine *e = a->engine;
	struct source_walk walk;
	struct reap reap;
	unsigned freed = 0;
	int error = reap_start(&reap, &e->table);

	if (error == -EBUSY)
		return reap_wait(&e->table, deadline);
	*seen = error == 0;
	if (error < 0)
		return false;
	/* The kernel would refuse them now, and the lane would be no less full for it. */
	reap.keep_orphans = true;
	start_walk(a, &walk);
	for (bool first = true; freed == 0 && next_address(a, &walk, first); first = false) {
		unsigned number = atomic_load_explicit(&e->looks.place, memory_order_relaxed);

		tuple_set_lane(a);
		freed = reap_lane(&reap, &a->from.lane, &number, REAP_ENOUGH, deadline);
		*seen &= reap.error == 0;
		atomic_store_explicit(&e->looks.place, number, memory_order_relaxed);
	}
	reap_end(&reap);
	return freed != 0;
}

/*
 * When no tuple is left: are some only taken because their holders died? Looked into at once when
 * something happened that may leave such claims, unless long looks in vain took half of the time
 * lately, and else now and then, so that most failing connects cost no more than the look at the
 * table.
 */
static bool may_look(const struct looks *l, uint64_t now, uint64_t strays)
{
	bool strayed = strays != atomic_load_explicit(&l->strays_seen, memory_order_relaxed);

	return now >=
	       atomic_load_explicit(strayed ? &l->next_for_strays : &l->next, memory_order_relaxed);
}

/* A look that helped may be followed by another at once. */
static void note_look(struct looks *l, uint64_t start, bool helped, uint64_t strays)
{
	uint64_t end = reap_now(), took = end - start;
	uint64_t pause = took * REAP_SHARE > REAP_PAUSE ? took * REAP_SHARE : REAP_PAUSE;

	atomic_store_explicit(&l->next, helped ? 0 : end + pause, memory_order_relaxed);
	atomic_store_explicit(&l->next_for_strays, helped || took < REAP_SHORT ? 0 : end + took,
		memory_order_relaxed);
	if (!helped)
		atomic_store_explicit(&l->strays_seen, strays, memory_order_relaxed);
}

struct tries addresses_reap(struct attempt *a, struct tries tries, bool *seen)
{
	struct engine *e = a->engine;
	uint64_t start = reap_now(), deadline = start + REAP_LONGEST;
	uint64_t strays = process_strays(&e->table);

	*seen = !atomic_load_explicit(&e->looks.blind, memory_order_relaxed);
	if (!may_look(&e->looks, start, strays))
		return tries;
	a->held.strays = 0;
	/* What comes back may be in TIME_WAIT, and on even ports: no other port is left. */
	tcp_allow_even(a);
	/*
	 * What one round gives back another process may take before us, or it cannot be had. What
	 * others gave back while we inspected it was left to the next look (claim_give_back()). And
	 * what this round found given back already was not so when the lane looked full: so
	 * whatever it says, the next try has the last word.
	 */
	bool again = true;
	for (int round = 0; round < REAP_ROUNDS && again && tries_full(&tries); round++) {
		uint64_t before = process_strays_told(&e->table);

		again = reap_each(a, deadline, seen) || process_strays_told(&e->table) != before;
		claim_walk_forget(&e->walk);
		tries = addresses_try(a);
	}
	/* What this look itself left standing for strangers is no news. */
	note_look(&e->looks, start, tries.done, strays + a->held.strays);
	atomic_store_explicit(&e->looks.blind, !*seen, memory_order_relaxed);
	return tries;
}
