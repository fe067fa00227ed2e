/*
 * Giving a UDP socket one tuple.
 *
 * The kernel does not keep UDP tuples unique: two sockets that share a port can have one, and the
 * older one goes deaf. So a port is taken in one of two ways:
 *
 * - alone: with SO_REUSEADDR and SO_REUSEPORT off the kernel gives the port only when no other
 *   socket of this host's address has it, whatever its destination. Nothing needs to be looked at.
 * - shared: it has holders, others of ours with other destinations as a rule. Then the kernel is
 *   asked by sock_diag, before, who would receive a datagram of this tuple (nobody may), and after,
 *   whether it is this socket.
 *
 * Once connected, SO_REUSEPORT is on, so that others can share the port: the kernel lets sockets of
 * the same user only (udp_lib_lport_inuse() of net/ipv4/udp.c). SO_REUSEADDR would let anybody
 * join, and take the datagrams. Sockets that share a port so form a group, of 32,768 at most, among
 * which the kernel spreads datagrams; it passes over those that are connected to somebody else. A
 * port that a socket without a foreign address has, a server's perhaps with a group of its own, is
 * never shared.
 *
 * With late bind the kernel takes the port and connects in one call, and whatever arrived in
 * between is thrown away before the program can read it: nobody has been told of this tuple yet, so
 * it was meant for another one. A connected socket comes before one that is not (compute_score() of
 * net/ipv4/udp.c), so that no datagram of an existing flow can get here meanwhile.
 *
 * Without a pool the kernel chooses the address, within the call; and its destination may be
 * another one than the call was given. So both ends are looked at afterwards. A shared port is no
 * good then: who has the tuple that it came to, nobody has asked.
 */
#pragma once

#include "engine/attempt.h"

/* Whether UDP sockets can be looked after on this system; if not, asks again every minute. */
bool udp_usable(struct engine *e);

/* Gives the socket the tuple of the claim of @a, in this stage; takes care of the claim. */
struct result udp_try(struct attempt *a, enum stage stage);

/* Whether the tuple of @a is somebody else's by the kernel. Says yes when it cannot know. */
bool udp_taken(const struct attempt *a);

/* Asks where the destination will be, when that is due, by another socket. */
void udp_foresee(struct attempt *a);

/* Makes the socket's port nobody else's, for the kernel's search; 0, or errno of the call. */
int udp_search(struct attempt *a);

/*
 * Connects a socket that has a port, and the claim @old for its present tuple, to another
 * destination with that port: the claim is kept or moved. 0, or errno of the call; *taken: the new
 * tuple is somebody else's (EADDRNOTAVAIL), and the socket is where it was, or has none.
 */
int udp_connect_with_port(struct attempt *a, claim old, bool *taken);

/* The call as it is: the socket has left its tuple if it has gone elsewhere. 0, or its errno. */
int udp_leave(struct attempt *a);
