/*
 * The data of one connect(), by how long each part of it lives.
 *
 *   call     what the front handed over; const
 *   socket   what the socket was when it was looked at (connect.c); const from then on
 *   to       the foreign end: that of the call, until the kernel is known to make another one of it
 *   options  which of the socket's options are known to be as a way of binding needs them
 *   from     the local address that is being tried, and what went wrong with those before it
 *   held     the claim of the port that is being tried, and the place in flight that goes with it
 *
 * A connection leaves from the address that the program bound; else from one of the pool that
 * serves the destination. It leaves from one that the kernel chooses only where there is neither,
 * or where no address of the pool can be used and TUPLEBIND_UNUSABLE=kernel; then the log says so.
 *
 * Files call downwards only: connect.c, again.c, first.c, leave.c, addresses.c, address.c and
 * search.c, tcp.c and udp.c, tuple.c, foresee.c, call.c; undo.c, state.c and engine.c below all.
 *
 * Errors of functions here: 0; positive, what the program's own call ended with (an errno);
 * negative, what went wrong before it could be made.
 */
#pragma once

#include "base/event.h"
#include "engine/call.h"
#include "engine/engine.h"
#include "engine/state.h"

/* What the socket is. */
struct facts {
	enum sock_kind kind;
	int family;
	uint8_t protocol;	 /* IPPROTO_TCP, IPPROTO_UDP */
	bool untouched;		 /* the program has done nothing to it */
	bool address_given;	 /* the program bound an address, without a port */
	uint32_t device;	 /* index of the interface that the program bound it to, else 0 */
	const struct rule *rule; /* for its destination */
};

struct foreign_end {
	struct addr addr;
	uint16_t port;
	bool redirected; /* they are not those of the call: it was sent there lately */
	bool several;	 /* and elsewhere, too: nobody can tell where it will go */
};

struct options {
	bool prepared; /* those of late bind are on */
	bool alone;    /* UDP: SO_REUSEADDR and SO_REUSEPORT are known to be off */
};

struct local_end {
	struct addr addr;
	bool automatic;		    /* it is the one that the kernel would choose */
	bool freebind;		    /* IPV6_FREEBIND is needed to bind it */
	bool bound;		    /* it is bound, or left for the kernel to choose */
	bool lost;		    /* the program's address is gone, and does not come back */
	bool unreachable;	    /* the call failed for want of a route from it */
	unsigned refused;	    /* explicit binds that a policy refused for the port */
	unsigned unsettled;	    /* UDP: calls that came to a tuple nobody had asked about */
	struct tuplebind_lane lane; /* from here to the foreign end */
	uint64_t lane_hash;
};

struct held {
	claim claim;
	uint16_t lport;
	uint64_t takings; /* reap_takings() before the claim */
	struct tuplebind_flight *flight;
	struct tuplebind_flight *leaving; /* with the claim of the tuple that the call gives up */
	unsigned strays;		  /* claims left standing for strangers */
};

struct attempt {
	const struct call *call;
	struct engine *engine;
	const struct facts *socket;
	struct state *state; /* NULL: nothing is known of the socket yet */
	struct foreign_end to;
	struct options options;
	struct local_end from;
	struct held held;
	enum became became;
};

/* What came of trying one tuple, or all tuples of an address. */
enum tried {
	TRIED_DONE,	    /* the call was made, and ended with the error */
	TRIED_NEXT_PORT,    /* somebody has the tuple */
	TRIED_NEXT_ADDRESS, /* the address cannot be bound */
	TRIED_UNREACHABLE,  /* the error: there is no route from the address to the destination */
	TRIED_GIVE_UP,	    /* nothing will help: let the kernel do it */
	TRIED_LOST,	    /* the program's address is gone: it is to be told */
	TRIED_NO_LATE,	    /* this kernel has no late bind */
	TRIED_FULL,	    /* the address has no tuple left */
	TRIED_TABLE_FULL,   /* the table has no room for the lane */
};

struct result {
	enum tried tried;
	int error; /* errno of the program's call, 0 for none */
};

static inline struct result result_of(enum tried tried)
{
	return (struct result){.tried = tried};
}

/* The protocol's words for "no port left": EAGAIN for UDP, EADDRNOTAVAIL for TCP. */
int attempt_no_port(const struct attempt *a);

/* Whether the call may come to a pool's addresses: the program has bound none. */
static inline bool attempt_has_pool(const struct attempt *a)
{
	return !a->socket->address_given && pool_serves(&a->socket->rule->pool, &a->to.addr);
}

/* Puts what every event of a connect() has: descriptor, protocol, tuple as far as it is known. */
void attempt_describe(struct event *e, const struct attempt *a);

/* Makes the program's own call. 0, or its errno. */
int attempt_make(const struct attempt *a);

/*
 * The same with a claim in flight: *@landed is called with @a when the thread is cancelled in the
 * call.
 */
int attempt_make_cancelled(struct attempt *a, void (*landed)(void *));

/*
 * Counts a call that is made without us, and why, and tells the log. True: nothing was known to
 * have been done to the socket until now.
 */
bool attempt_note_passed(struct attempt *a, enum tuplebind_counter why);

/* Tells the log that the kernel's port range is another one now. */
void attempt_tell_ports_changed(const struct attempt *a);

/*
 * After a call without a claim that ended with @error: a TCP socket that has failed goes on to tell
 * a port that it has no more.
 */
void attempt_note_stale_port(const struct attempt *a, int error);

/*
 * True when the socket goes on connecting, or is connected, after its call ended with @error.
 *
 * What a TCP socket is like after a connect() that failed (tcp_v4_connect(),
 * __inet_stream_connect() and their like for IPv6):
 *
 *   EINPROGRESS, EALREADY, EINTR       it has its tuple, and goes on
 *   EAGAIN (a send)                    the same; nothing could be sent yet
 *   EISCONN                            it is connected, or listens
 *   EADDRNOTAVAIL                      no port, or the tuple is somebody's. It is closed; a port of
 *                                      late bind is gone, one of explicit bind stays; an address
 *                                      that was bound stays, one that the kernel chose is cleared,
 *                                      unless one was ever bound
 *   ECONNREFUSED, ETIMEDOUT,           the same; getsockname() goes on to tell a port of late bind
 *   EHOSTUNREACH, ENETUNREACH ...      that the socket has no more
 *   EPERM, EACCES                      refused before anything was done (a filter, a security
 *                                      module), or the same as above (netfilter, a route of type
 *                                      prohibit)
 *   EINVAL, EAFNOSUPPORT, EFAULT       nothing has changed
 *
 * A UDP socket is where it was, but has a port if none was refused (EAGAIN). setsockopt() that
 * fails changes nothing.
 */
bool attempt_kept(const struct attempt *a, int error);
