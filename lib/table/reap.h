/*
 * Reap: giving back claims whose socket the kernel no longer has.
 *
 * A claim outlives its socket when its process was killed, ran another program, or closed
 * the socket where the library could not see it; and a claim that stands for somebody else's
 * tuple outlives that. Reap asks the kernel for the exact tuple of a claim, after that
 * looks whether a living process has the claim in flight (table/flight.h), and gives it
 * back only if neither is so. In this order: a claim made after the kernel was asked is in
 * flight when the flights are looked at.
 *
 * A socket without a process (closed, the kernel is still finishing it) has no holder: its claim is
 * given back, as close() would have, unless the tuple is wanted for another
 * connection right now, which the kernel would refuse (reap_lane()).
 */
#pragma once

#include "table/flight.h"

struct reap {
	struct table *table;
	int diag;	   /* from diag_open() */
	bool keep_orphans; /* leave claims of tuples the kernel is still finishing */
	uint64_t freed, kept;
};

/* Begins a reap: one at a time per table. 0, -EBUSY while another process is at it, or -errno. */
int reap_start(struct reap *r, struct table *t);
void reap_end(struct reap *r);

/*
 * How often reaps have come close to taking a claim. Who reads the same before he makes a claim and
 * again when he has put it in flight anew, to close its socket, knows that it is his still: a reap
 * counts before it looks at the flights (all seq_cst), so it was counted or will see this one.
 */
static inline uint64_t reap_takings(const struct table *t)
{
	return atomic_load_explicit(&t->header->takings, memory_order_seq_cst);
}

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t reap_now(void);

/* Waits for the reap that another process is at, until @deadline at most. True: it is over. */
bool reap_wait(struct table *t, uint64_t deadline);

/*
 * Reaps the claims of one slab, but for those with their bit in @seen (eight words, which the
 * caller has just seen the kernel to have; NULL: none). Also takes up a slab whose recycler died. 3
 * to 8 us for each claim that is asked about. Returns how many it gave back, or -errno.
 */
int reap_slab(struct reap *r, struct tuplebind_slab *slab, const uint64_t *seen);

/*
 * Reaps one lane until @enough claims were given back, the lane is through, or @deadline
 * (CLOCK_MONOTONIC nanoseconds) has passed; begins at slab *number and leaves there where to go on.
 * Returns how many it gave back. Async-signal-safe, takes no memory.
 */
unsigned reap_lane(struct reap *r, const struct tuplebind_lane *lane, unsigned *number,
	unsigned enough, uint64_t deadline);
