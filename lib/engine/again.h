/*
 * The connect() of a socket that has a tuple already, or a port that cannot be taken from it.
 */
#pragma once

#include "engine/attempt.h"

/*
 * A second connect() of a TCP socket that has its tuple: asks how the first one goes on, or tells
 * that it has failed. 0, or errno of the call.
 */
int again_tcp(struct attempt *a);

/*
 * A connected UDP socket connects to another destination: its claim is kept or moved. 0, or the
 * errno for the program; -EAGAIN: it has been taken off its tuple, and is to connect as a new one.
 */
int again_udp(struct attempt *a);

/*
 * A socket that we bound explicitly and whose connect() failed keeps its port, a->held.lport: it
 * gets the claim for it in the lane of its next destination, if nobody has it, and connects. 0, or
 * the errno for the program.
 */
int again_bound(struct attempt *a);

/* connect() to AF_UNSPEC takes a socket off its tuple. 0, or errno of the call. */
int again_unspecified(struct attempt *a);
