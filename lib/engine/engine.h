/*
 * The engine: gives a program's socket a local address and a port that is unique for its tuple.
 *
 * It knows nothing of whose process it runs in. A front (lib/preload/ in the program itself) hands
 * it a call: a descriptor, a destination, where the socket's state is kept, and how the call itself
 * is made (engine/call.h). engine_connect() answers what became of it, and the error.
 *
 * One struct engine serves all connects that go by one plan and one table. Lock-free, takes no
 * memory, async-signal-safe once it has started; errno may change.
 */
#pragma once

#include "base/aside.h"
#include "choose/plan.h"
#include "choose/source.h"
#include "kernel/listeners.h"
#include "kernel/netns.h"
#include "kernel/sock.h"
#include "table/claim.h"
#include "table/lanehash.h"
#include "table/process.h"

#include <stdbool.h>

/* When a full lane was last looked through for claims without a holder, and may be again. */
struct looks {
	_Atomic uint64_t strays_seen, next, next_for_strays;
	_Atomic unsigned place; /* the slab where the last one stopped, roughly */
	_Atomic int blind;	/* the kernel could not be asked */
};

struct engine {
	_Atomic int active;   /* started, and the table is sound */
	_Atomic int refusing; /* the table cannot be used, and TUPLEBIND_UNUSABLE is fail */
	_Atomic int has_claimed;
	_Atomic uint64_t token; /* process_token() of the process it runs in; 0: front->enter() is
				   to set it */
	struct netns netns;	/* whose sockets are served */
	struct table table;
	struct plan plan;
	struct claim_walk walk;
	struct lane_hashes lane_hashes;
	struct source_memory sources;
	struct listeners listeners;
	struct looks looks;
	_Atomic uint64_t
		bind_forbidden_until;	  /* a policy refused bind(); second of CLOCK_MONOTONIC */
	_Atomic int udp_known;		  /* whether UDP can be looked after: 1 yes, -1 no */
	_Atomic uint64_t udp_asked_again; /* the second from which it may be different */
	_Atomic uint64_t strangers_forgotten; /* the second in which UDP strangers were, last */
	struct aside unshared;		      /* UDP ports whose holders share them with nobody */
	struct aside timewait_refused;	      /* lanes whose tuples in TIME_WAIT cannot be reused */
	struct aside timewait_allowed;	      /* lanes of which one could */
	struct aside timewait_mixed;	      /* lanes of which some can and some cannot */
	struct aside timewait_met;	      /* lanes in which late bind met one lately */
	struct aside peer_asked;	      /* destinations whose real one was asked for */
	struct aside source_varies; /* destinations for which the kernel chose another source */
	struct aside even_allowed;  /* destinations so full that even ports may be bound */
};

/*
 * Makes the engine's plan of @c, attaches its table and reads the kernel's ports. 0, or -errno with
 * the fault told; the plan is there even so when the settings were understood. Some milliseconds
 * when the table is made.
 */
int engine_prepare(struct engine *e, const struct config *c, struct fault *f);

/* Begins its walks: at start, and in a process that has a copy of another one's engine. */
void engine_start(struct engine *e);

/*
 * True while the table is what it was when it was attached. False: some process has written over
 * it; the log says so once, and everything is left to the kernel from then on, or refused.
 */
bool engine_table_sound(struct engine *e);

/* Whether the engine has started and its table is sound. */
static inline bool engine_active(const struct engine *e)
{
	/* Acquire pairs with the release at the end of starting. */
	return atomic_load_explicit(&e->active, memory_order_acquire);
}

/* True when the table cannot be used, and what would have been served is to be refused. */
static inline bool engine_refuses(const struct engine *e)
{
	return atomic_load_explicit(&e->refusing, memory_order_acquire);
}

/* True for the kinds of socket that the plan has taken over. */
static inline bool engine_serves(const struct engine *e, enum sock_kind kind)
{
	return kind != KIND_OTHER &&
	       e->plan.protocols &
		       (sock_kind_protocol(kind) == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_TCP);
}
