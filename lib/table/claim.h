/*
 * Claims: one local port of one lane, taken and given back.
 *
 * A claim is taken with one atomic OR and given back with one atomic AND on a word of
 * its slab. A claim that was given out is not given out again until it was given back,
 * whatever other processes do or wherever they die, short of scribbling over the table;
 * the kernel's own check stands behind that (DESIGN: it is the authority).
 */
#pragma once

#include "table/claimbit.h"
#include "table/portorder.h"
#include "table/slab.h"

/* Where this process stands in its lanes; one per process, all zero but for the secret. */
struct claim_walk {
	_Atomic uint64_t secret;
	_Atomic uint32_t steps[1024];
	/*
	 * What was found full: a hash of lane, stage and ports above the lower half of the count of
	 * claims given back in the table then. As long as that stands still the lane stays full.
	 */
	_Atomic uint64_t full[256];
	_Atomic uint32_t forgotten; /* counts claim_walk_forget() */
};

/* Gives the process its own places in all lanes: at start and in a forked child. */
void claim_walk_start(struct claim_walk *w);

/*
 * Moves the place in a lane of UDP to a random one of the stage's ports, so that the next port does
 * not follow from ports before it even for somebody who has seen the whole order of the table go
 * by. (RFC 6056, algorithm 1.) Each port is as likely as any other, but of four draws the
 * first is taken that has no UDP claim in any lane: a port that need not be shared costs a third.
 * One getrandom(2) and a look at the sets of ports: less than a microsecond.
 */
void claim_walk_scatter(const struct table *t, struct claim_walk *w, uint64_t lane_hash,
	const struct portorder *ports, enum stage stage);

/* How many claims, of any lane of UDP, have the port, as a hint; 255: not known. One load. */
unsigned claim_udp_count(const struct table *t, uint16_t port);

/*
 * How many claims were given back in the table so far, each counted after it was: as long as that
 * stands still, what was full is. 16 loads.
 */
uint64_t claims_given_back(const struct table *t);

/* Lets the next walks look at the lanes themselves, whatever was found full before. */
void claim_walk_forget(struct claim_walk *w);

/*
 * Claims the next free port of @lane that is in @stage of @ports and is not @avoid (0:
 * avoid none), in the order of RFC 6056's algorithm 4: the walk starts at a keyed hash
 * of the lane plus a counter shared by a few lanes, over the table's permutation. Lock-free and
 * async-signal-safe. Cost: one or two slabs as a rule; all 128 of the lane (a few
 * microseconds) when it is nearly full, up to 16 times when it looks full while claims are given
 * back in the table; less than one when it was found full before and nothing was given back since.
 *
 * Returns 0 with *out and *port set; -EADDRNOTAVAIL when every port of the stage is
 * claimed; -ENOSPC when the table had no room for a slab that might have held one.
 */
int claim_take(struct table *t, const struct tuplebind_lane *lane, struct portorder *ports,
	enum stage stage, struct claim_walk *w, uint16_t avoid, claim *out, uint16_t *port);

/*
 * The same for who has the lane's hash (slab_lane_hash()), and writes into *flight which claim it
 * is about to make, before it makes it (table/flight.h). NULL: does not.
 */
int claim_take_announced(struct table *t, const struct tuplebind_lane *lane, uint64_t lane_hash,
	struct portorder *ports, enum stage stage, struct claim_walk *w, uint16_t avoid,
	_Atomic uint64_t *flight, claim *out, uint16_t *port);

/*
 * Claims one given port of @lane, announced likewise. Returns 0, -EADDRNOTAVAIL (taken) or
 * -ENOSPC.
 */
int claim_take_port(struct table *t, const struct tuplebind_lane *lane, uint16_t port,
	_Atomic uint64_t *flight, claim *out);

/*
 * The same for a tuple that the kernel has just given to the caller's TCP socket, so that whoever
 * has claimed it does not have it: a claim that is there already becomes the caller's.
 * -EADDRNOTAVAIL when it is being inspected, or was given back at the same time.
 */
int claim_adopt(struct table *t, const struct tuplebind_lane *lane, uint16_t port,
	_Atomic uint64_t *flight, claim *out);

/*
 * Gives back a claim that the caller holds, has in flight, and had in flight without a break since
 * he made it or last saw that the kernel had its tuple. (What is not so is left to reap_claim().) A
 * claim that is being inspected is left to reap. False: it was not there any more. One atomic AND.
 */
bool claim_give_back(struct table *t, claim c);

/* Takes away a claim that the caller inspects. False: it was not there. */
bool claim_take_away(struct table *t, struct tuplebind_slab *slab, claim c);

/* The lane of a claim. False: the claim is not there any more. */
bool claim_lane(const struct table *t, claim c, struct tuplebind_lane *lane);

/* The port of a claim of this table. */
uint16_t claim_port(const struct table *t, claim c);
