/*
 * One connect(), from beginning to end, and what came of it.
 *
 * connect.c and send.c begin it and decide whether a socket is ours to serve, walk.c goes through
 * the addresses, tuple.c gives the socket one tuple (stream.c for TCP, datagram.c for UDP) and
 * makes the program's call. search.c has the kernel look for a port where the table cannot know.
 *
 * A connection leaves from the address that the program bound; else from one of the pool that
 * serves the destination. It leaves from one that the kernel chooses only where there is neither,
 * or where no address of the pool can be used and TUPLEBIND_UNUSABLE=kernel; then the log says so.
 */
#pragma once

#include "base/event.h"
#include "base/probe.h"
#include "interpose/library.h"

/* A send that connects on the way (MSG_FASTOPEN), as the program called it. */
struct send {
	const struct msghdr *message; /* of sendmsg(); NULL: sendto() */
	const void *bytes;
	size_t length;
	int flags;
	ssize_t sent; /* what it returned */
};

struct attempt {
	int fd;
	const struct sockaddr *to;
	socklen_t length;
	struct send *send; /* NULL: connect() */
	enum sock_kind kind;
	int family;	   /* of the socket */
	uint8_t protocol;  /* IPPROTO_TCP, IPPROTO_UDP */
	struct addr faddr; /* of the tuple, as far as it is known; the call has @to */
	uint16_t fport;
	bool redirected; /* they are not those of @to: it was sent there lately */
	bool several;	 /* and elsewhere, too: nobody can tell where it will go */
	const struct rule *rule;
	bool address_given; /* the program bound an address, without a port */
	struct addr laddr;
	bool automatic;	 /* it is the one that the kernel would choose */
	bool freebind;	 /* IPV6_FREEBIND is needed to bind it */
	uint32_t device; /* index of the interface that the program bound it to, else 0 */
	struct record *record;
	bool plain;	    /* the program has done nothing to the socket (plain.h) */
	bool alone;	    /* UDP: SO_REUSEADDR and SO_REUSEPORT are known to be off */
	bool prepared;	    /* the socket has the options of late bind */
	bool address_bound; /* and laddr, or is left without */
	bool address_lost;  /* the address that the program bound is gone, and does not come back */
	unsigned refused;   /* explicit binds that a policy refused for the port */
	unsigned unsettled; /* UDP: calls that came to a tuple nobody had asked about */
	struct tuplebind_lane lane;
	uint64_t lane_hash;
	struct tuplebind_flight *flight;
	uint64_t takings;		  /* reap_takings() before the claim */
	struct tuplebind_flight *leaving; /* with the claim of the tuple that the call gives up */
	claim claim;
	uint16_t lport;
	bool unreachable; /* the call failed for want of a route from this address */
	bool passed;	  /* it is left to the kernel, and counted so */
	unsigned strays;  /* claims left standing for strangers */
};

/* What came of trying one tuple, or all tuples of an address. */
enum tried {
	TRIED_DONE,	    /* the call was made; errno is its error, 0 for none */
	TRIED_NEXT_PORT,    /* somebody has the tuple */
	TRIED_NEXT_ADDRESS, /* the address cannot be bound */
	TRIED_UNREACHABLE,  /* the destination is not to be reached from the address; errno says why
			     */
	TRIED_GIVE_UP,	    /* nothing will help: let the kernel do it */
	TRIED_LOST,	    /* the program's address is gone: it is to be told */
	TRIED_NO_LATE,	    /* this kernel has no late bind */
	TRIED_FULL,	    /* the address has no tuple left */
	TRIED_TABLE_FULL,   /* the table has no room for the lane */
};

/*
 * False: what the kernel answers with EFAULT or EINVAL, NULL and other pointers to nothing or a
 * length that no address has. Looking at it we would crash.
 */
bool attempt_readable(const struct sockaddr *to, socklen_t length);

/* Makes @a, begun with descriptor, destination and send, from first to last. As connect(). */
int attempt_run(struct attempt *a);

/* Makes the program's own call, by the next definition: connect() or the send. 0, or -1 and errno.
 */
int attempt_call(struct attempt *a);

/* Makes the program's own call without us, and counts why. As connect(). */
int attempt_pass(struct attempt *a, enum tuplebind_counter why);

/* Counts a call that is made without us, and why, and tells the log. */
void attempt_note_passed(const struct attempt *a, enum tuplebind_counter why);

/*
 * After a call without a claim that ended with @error: a TCP socket that has failed goes on to tell
 * a port that it has no more.
 */
void attempt_note_stale_port(const struct attempt *a, int error);

/* Puts what every event of a connect() has: descriptor, protocol, tuple as far as it is known. */
void attempt_describe(struct event *e, const struct attempt *a);

/*
 * True when the socket goes on connecting, or is connected, after its call ended with @error.
 *
 * What a TCP socket is like after a connect() that failed (tcp_v4_connect(),
 * __inet_stream_connect() and their like for IPv6):
 *
 *   EINPROGRESS, EALREADY, EINTR  it has its tuple, and goes on
 *   EAGAIN (a send)               the same; nothing could be sent yet
 *   EISCONN                       it is connected, or listens
 *   EADDRNOTAVAIL                 no port, or the tuple is somebody's. It is closed; a port of late
 * bind is gone, one of explicit bind stays; an address that was bound stays, one that the kernel
 * chose is cleared, unless one was ever bound ECONNREFUSED, ETIMEDOUT,      the same; getsockname()
 * goes on to tell a port of late bind that the EHOSTUNREACH, ENETUNREACH ... socket has no more
 *   EPERM, EACCES                 refused before anything was done (a filter, a security module),
 * or the same as above (netfilter, a route of type prohibit) EINVAL, EAFNOSUPPORT, EFAULT  nothing
 * has changed
 *
 * A UDP socket is where it was, but has a port if none was refused (EAGAIN). setsockopt() that
 * fails changes nothing.
 */
bool attempt_kept(const struct attempt *a, int error);

/*
 * What the kernel makes of a destination need not be what connect() is given: programs of control
 * groups (cgroup/connect4, connect6) send a service's address to one of its backends. So what a
 * call came to is looked at, and foreseen for the next one.
 *
 * attempt_foresee() sets the foreign end to where the destination was sent lately.
 */
void attempt_foresee(struct attempt *a);

/*
 * Whether it is time to ask where a call came to, or will: once a second for each destination, and
 * each time while some destination was sent elsewhere lately.
 */
bool attempt_is_peer_due(const struct attempt *a);

/* The call came to @peer and @fport: they become the foreign end. False: they are already. */
bool attempt_note_peer(struct attempt *a, const struct addr *peer, uint16_t fport);

/*
 * The same of the source: whether the kernel lately chose another one than was foreseen (equal-cost
 * routes, rules by port or protocol).
 */
bool attempt_source_varies(const struct attempt *a);
void attempt_note_source(const struct attempt *a, const struct addr *source);

/* Whether explicit binds were refused by a policy of the system (seccomp, Landlock, ...) lately. */
bool attempt_bind_forbidden(void);

/*
 * Whether a rule and the kernel's rules leave the destination to us; sets the rule, or the reason
 * why not.
 */
bool attempt_destination_served(struct attempt *a, enum tuplebind_counter *why);

/*
 * Whether the address is left to the kernel's connect(), which then chooses as routing and the
 * socket's own options say: which one that is only the socket itself can tell. (With explicit bind
 * and TCP it knows the port by then, which it does not otherwise: rules by the local port count.)
 */
bool tuple_leaves_address(const struct attempt *a);

/* Sets the lane of @a from its addresses and port. */
void tuple_set_lane(struct attempt *a);

/* Tries the tuples of the address @a->laddr, in the order of their stages. */
enum tried tuple_try_address(struct attempt *a);

/*
 * A socket that we bound explicitly and whose connect() failed keeps its port: it gets the
 * claim for it in the lane of its next destination, if nobody has it, and connects. As connect().
 */
int tuple_connect_bound(struct attempt *a);

/*
 * The socket holds its tuple no more: gives the claim back, makes the socket choose among all ports
 * again, and notes which port getsockname() goes on to tell. @flight: the claim's, NULL: it has
 * none.
 */
void tuple_lost(struct record *r, int fd, const struct tuplebind_flight *flight);

/* Makes the socket what it was before us, but for a TCP socket's SO_REUSEADDR. */
void tuple_restore(struct record *r, int fd);

/*
 * Takes away an address of a pool that we have bound to the socket, or that the kernel has chosen
 * since (sock_bind()). 0 or -errno.
 */
int tuple_clear_address(struct record *r, int fd);

/* Sees to it that the socket has a record, which says what was the program's. False: no room. */
bool tuple_note_touch(struct attempt *a);

/* The steps that TCP and UDP share, for tuple.c and datagram.c. */

/* Takes a place in which reap is told what claim is being made. */
void tuple_take_off(struct attempt *a);

/* Makes the call with the claim in the book and lands; 0 or the call's errno. */
int tuple_call_with_claim(struct attempt *a);

/*
 * Options of late bind once per socket, the address once per address, the ports @first to @last
 * each time. 0 or -errno: an option or the address was refused.
 */
int tuple_prepare_late(struct attempt *a, uint16_t first, uint16_t last);

/* What to do after that has failed with @error; gives the claim back. */
enum tried tuple_prepare_failed(struct attempt *a, int error);

/* bind() to the address of @a, or to the one that the kernel will choose, without a port. 0 or
 * -errno. */
int tuple_bind_address(struct attempt *a);

/*
 * bind() to the address of @a, or to the one that the kernel will choose, and @port. 0 or -errno.
 * After a failure the socket has the address again that the program bound, or a->address_lost is
 * set.
 */
int tuple_bind_port(struct attempt *a, uint16_t port);

/* What to do after that has failed with @error; takes care of the claim. */
enum tried tuple_bind_failed(struct attempt *a, int error);

/* The claim stays, for whoever has the tuple. */
void tuple_keep_for_stranger(struct attempt *a);

/* Gives the claim back, whether it is in the book already or not. */
void tuple_give_back(struct attempt *a);

/* Counts and logs a call that was made, and ends with its @error; or has the next address tried. */
enum tried tuple_done(struct attempt *a, int error, enum tuplebind_counter way);

/*
 * The same after a call for which the kernel had no objection to the tuple: a socket that is not
 * kept has lost it.
 */
enum tried tuple_finish(struct attempt *a, int error, enum tuplebind_counter way);

/*
 * After a call that succeeded or goes on: moves the claim to the tuple that the socket really has,
 * if it is another one. One system call, two when the foreign end is asked for.
 */
void stream_check(struct attempt *a);

/* Gives a TCP socket the tuple of the claim of @a, in this stage. */
enum tried stream_try(struct attempt *a, enum stage stage);

/* Tells the log that the kernel's port range is another one now. */
void stream_tell_ports_changed(const struct attempt *a);

/* Lets connects to the destination take even ports by explicit bind for some seconds. */
void stream_allow_even(const struct attempt *a);

/* Gives a UDP socket the tuple of the claim of @a, in this stage. */
enum tried datagram_try(struct attempt *a, enum stage stage);

/* Whether UDP sockets can be looked after on this system; if not, asks again every minute. */
bool datagram_usable(void);

/* Whether the UDP tuple of @a is somebody else's by the kernel. Says yes when it cannot know. */
bool datagram_taken(const struct attempt *a);

/* A connected UDP socket connects to another destination: its claim is kept or moved. As connect().
 */
int datagram_connect_again(struct attempt *a);

/* Asks where the destination will be, when that is due, by another socket. */
void datagram_foresee(struct attempt *a);

/* Makes the UDP socket's port nobody else's, for the kernel's search; 0, or errno of the call. */
int datagram_search(struct attempt *a);

/* Whether a call that ended with @error found no port, and has left the socket as it was. */
bool search_found_nothing(const struct attempt *a, int error);

/* Whether the rule's ports are those among which the kernel looks by itself. */
bool search_may_be_anywhere(const struct attempt *a);

/* How the kernel is to look for a port. */
enum search {
	SEARCH_PORTS, /* among the rule's ports; the table takes note */
	SEARCH_FREELY /* wherever it looks for this socket; the table does not know */
};

/*
 * Has the kernel look for a port on the address of @a, and makes the call. 0, or the call's errno:
 * EADDRNOTAVAIL, or EAGAIN for UDP, when it found none. -errno: the address could not be bound.
 */
int search_address(struct attempt *a, enum search how);

/* Tries all addresses, reaps, and does what is to be done when no tuple is left. As connect(). */
int walk_connect(struct attempt *a);

/*
 * The address that the program bound could not be kept: better no connection than from another one.
 * -1 and EADDRNOTAVAIL.
 */
int walk_refuse_lost(struct attempt *a);

/*
 * What chose the address cannot be used, and @reason says why: tells the log. 0: TUPLEBIND_UNUSABLE
 * has the kernel choose. -1 and errno: the program is refused.
 */
int walk_refuse_unusable(struct attempt *a, const char *reason);

/*
 * Leaves the port to the kernel, but not the address: the program's stays, else one of the pool is
 * bound. Counts why. As connect().
 */
int walk_leave_to_kernel(struct attempt *a, enum search how, enum tuplebind_counter why);
