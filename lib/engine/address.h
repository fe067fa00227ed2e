/*
 * All tuples of one local address, in the order of their stages: claims a port, gives it to the
 * socket, goes on with the next while somebody else has it.
 */
#pragma once

#include "engine/attempt.h"

/* Tries the tuples of the address a->from.addr. Never TRIED_NEXT_PORT. */
struct result address_try(struct attempt *a);
