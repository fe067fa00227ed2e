/*
 * Giving a TCP socket one tuple.
 *
 * Late bind where the kernel lets us: connect() takes the port, and it goes on sharing it with
 * other destinations' sockets. Explicit bind for what that refuses and can be had all the same:
 * tuples in TIME_WAIT, ports under explicit binds of ours. A socket that was bound explicitly keeps
 * its port, so it is found out first whether the tuple can be had (kernel/timewait.h). That
 * sock_diag knows nobody on it is no ground: the tuple's source and destination are what the kernel
 * makes of them in connect().
 */
#pragma once

#include "engine/attempt.h"

/* Gives the socket the tuple of the claim of @a, in this stage; takes care of the claim. */
struct result tcp_try(struct attempt *a, enum stage stage);

/*
 * After a call that succeeded or goes on: moves the claim to the tuple that the socket really has,
 * if it is another one. One system call, two when the foreign end is asked for.
 */
void tcp_check(struct attempt *a);

/* Lets connects to the destination take even ports by explicit bind for some seconds. */
void tcp_allow_even(const struct attempt *a);
