/*
 * One connect(), from beginning to end, and what came of it.
 *
 * connect.c decides whether a socket is ours to serve, walk.c goes through the addresses, tuple.c
 * gives the socket one tuple and calls the next connect().
 */
#pragma once

#include "base/log.h"
#include "interpose/library.h"

struct attempt {
	int fd;
	const struct sockaddr *to;
	socklen_t length;
	int family; /* of the socket */
	struct addr faddr;
	uint16_t fport;
	const struct rule *rule;
	bool address_given; /* the program bound an address, without a port */
	struct addr laddr;
	struct record *record;
	bool touched;  /* the socket was given options or an address by us */
	bool prepared; /* ... the options of late bind */
	struct tuplebind_lane lane;
	uint64_t lane_hash;
	struct tuplebind_flight *flight;
	claim claim;
	uint16_t lport;
	unsigned strays; /* claims left standing for strangers */
};

/* What came of trying one tuple, or all tuples of an address. */
enum tried {
	TRIED_DONE,	    /* connect() was called; errno is its error, 0 for none */
	TRIED_NEXT_PORT,    /* somebody has the tuple */
	TRIED_NEXT_ADDRESS, /* the address cannot be bound */
	TRIED_GIVE_UP,	    /* nothing will help: let the kernel do it */
	TRIED_NO_LATE,	    /* this kernel has no late bind */
	TRIED_FULL,	    /* the address has no tuple left */
	TRIED_TABLE_FULL,   /* the table has no room for the lane */
};

/* Logs @what with the attempt's descriptor and tuple, and @error unless 0. */
void attempt_say(enum log_level level, const char *what, const struct attempt *a, int error);

/* True for errors after which a socket goes on connecting, or is connected; and for 0. */
bool tuple_kept(int error);

/* Sets the lane of @a from its addresses and port. */
void tuple_set_lane(struct attempt *a);

/* Tries the tuples of the address @a->laddr, in the order of their stages. */
enum tried tuple_try_address(struct attempt *a);

/* Lets connects to the destination take even ports by explicit bind for some seconds. */
void tuple_allow_even(const struct attempt *a);

/*
 * A socket that we bound explicitly and whose connect() failed keeps its port: it gets the
 * claim for it in the lane of its next destination, if nobody has it, and connects. As connect().
 */
int tuple_connect_bound(struct attempt *a);

/*
 * The socket holds its tuple no more: gives the claim back, and notes which port
 * getsockname() goes on to tell.
 */
void tuple_lost(struct record *r, int fd);

/* Tries all addresses, reaps, and does what is to be done when no tuple is left. As connect(). */
int walk_connect(struct attempt *a);
