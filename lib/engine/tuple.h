/*
 * Giving a socket a tuple of an address: the steps that TCP and UDP share.
 *
 * A claim is taken first; nothing is done to the socket before. A tuple that the kernel refuses
 * stays claimed (somebody has it; reap finds out when that ends) and the next one is tried. The
 * claim is in the socket's state before the kernel sees the tuple, so that a thread cancelled in
 * connect() leaks nothing.
 */
#pragma once

#include "engine/attempt.h"
#include "table/flight.h"

/*
 * Whether the address is left to the kernel's connect(), which then chooses as routing and the
 * socket's own options say: which one that is only the socket itself can tell. (With explicit bind
 * and TCP it knows the port by then, which it does not otherwise: rules by the local port count.)
 */
bool tuple_leaves_address(const struct attempt *a);

/* Sets the lane of @a from its two ends. */
void tuple_set_lane(struct attempt *a);

/* Takes a place in which reap is told what claim is being made (table/flight.h), and gives it up.
 */
void tuple_begin_flight(struct attempt *a);
void tuple_end_flight(struct attempt *a);

/* Sees to it that the socket has a state, which says what was the program's. False: no room. */
bool tuple_note_touch(struct attempt *a);

/* Makes the call with the claim in the state and in flight; 0 or the call's errno. */
int tuple_call(struct attempt *a);

/*
 * Options of late bind once per socket, the address once per address, the ports @first to @last
 * each time. 0 or -errno: an option or the address was refused.
 */
int tuple_prepare_late(struct attempt *a, uint16_t first, uint16_t last);

/* What to do after that has failed with @error; gives the claim back. */
struct result tuple_prepare_failed(struct attempt *a, int error);

/* bind() to the address of @a, or to the one that the kernel will choose, without a port. 0 or
 * -errno. */
int tuple_bind_address(struct attempt *a);

/*
 * bind() to the address of @a, or to the one that the kernel will choose, and @port. 0 or -errno.
 * After a failure the socket has the address again that the program bound, or a->from.lost is set.
 */
int tuple_bind_port(struct attempt *a, uint16_t port);

/* What to do after that has failed with @error; takes care of the claim. */
struct result tuple_bind_failed(struct attempt *a, int error);

/* Whether explicit binds were refused by a policy of the system (seccomp, Landlock, ...) lately. */
bool tuple_bind_forbidden(const struct attempt *a);

/* The claim stays, for whoever has the tuple. */
void tuple_keep_for_stranger(struct attempt *a);

/* Gives the claim back, whether it is in the state already or not. */
void tuple_give_back(struct attempt *a);

/* Counts and logs a call that was made, and ends with its @error; or has the next address tried. */
struct result tuple_done(struct attempt *a, int error, enum tuplebind_counter way);

/*
 * The same after a call for which the kernel had no objection to the tuple: a socket that is not
 * kept has lost it.
 */
struct result tuple_finish(struct attempt *a, int error, enum tuplebind_counter way);
