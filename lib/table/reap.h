/*
 * Reap: giving back claims whose socket the kernel no longer has.
 *
 * A claim outlives its socket when its process was killed, ran another program, or closed
 * the socket where the library could not see it; and a claim that stands for somebody else's
 * tuple outlives that. Reap asks the kernel for the exact tuple of a claim, after that
 * holds the claim still (table/inspect.h), looks whether a living process has it in flight
 * (table/flight.h), asks the kernel once more, and gives it back only if neither has it. In this
 * order: a flight that has landed when the flights were looked at is known to the kernel then.
 *
 * A socket without a process (closed, the kernel is still finishing it) has no holder: its claim is
 * given back, as close() would have, unless the tuple is wanted for another
 * connection right now, which the kernel would refuse (reap_lane()).
 */
#pragma once

#include "table/flight.h"

struct reap {
	struct table *table;
	uint64_t token;	   /* of this process */
	int diag;	   /* from diag_open() */
	bool keep_orphans; /* leave claims of tuples the kernel is still finishing */
	uint64_t freed, kept;
	unsigned cleared; /* bits in slabs that are nobody's, so far */
	int error;	  /* of sock_diag, the last one: it did not tell all */
};

/* Begins a reap: one at a time per table. 0, -EBUSY while another process is at it, or -errno. */
int reap_start(struct reap *r, struct table *t);
void reap_end(struct reap *r);

/*
 * How many claims were taken away by who inspected them. Who reads the same before he makes a claim
 * and again when he has put it in flight anew (flight_with()), to close its socket, knows that it
 * is his still: what was taken before that was counted, and is no longer being inspected; what is
 * inspected after it has a flight.
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
 * caller has just seen the kernel to have; NULL: none). Also takes up a slab whose recycler died,
 * and bits that dead claimers left in a slab that is no lane's. 3 to 15 us for each claim that is
 * asked about. Returns how many it gave back, or -errno.
 */
int reap_slab(struct reap *r, struct tuplebind_slab *slab, const uint64_t *seen);

/*
 * Gives back a claim that the caller had and that may have become somebody else's, or that another
 * process may hold as well, if nobody holds it. Not to be in flight with it. False: it was left to
 * reap, which process_strayed() was told. 20 us. Async-signal-safe.
 */
bool reap_claim(struct table *t, claim c);

/*
 * Reaps one lane until @enough claims were given back, the lane is through, or @deadline
 * (CLOCK_MONOTONIC nanoseconds) has passed; begins at slab *number and leaves there where to go on.
 * Returns how many it gave back. Async-signal-safe, takes no memory.
 */
unsigned reap_lane(struct reap *r, const struct tuplebind_lane *lane, unsigned *number,
	unsigned enough, uint64_t deadline);
