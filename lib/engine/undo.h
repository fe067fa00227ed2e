/*
 * Making a socket again what it was before us.
 */
#pragma once

#include "engine/state.h"

/*
 * The socket holds its tuple no more: gives the claim back, makes the socket choose among all ports
 * again, and notes which port getsockname() goes on to tell. @in_flight: the claim is.
 */
void undo_tuple(struct state *s, int fd, struct table *t, bool in_flight);

/*
 * Takes away an address of a pool that we have bound to the socket, or that the kernel has chosen
 * since (sock_bind()). 0 or -errno.
 */
int undo_address(struct state *s, int fd);

/* Makes the socket what it was before us, but for a TCP socket's SO_REUSEADDR. @s may be NULL. */
void undo_all(struct state *s, int fd);
