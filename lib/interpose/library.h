/*
 * The preloaded library's one instance.
 *
 * Every taken-over call first asks library_active(): before the library has started, or
 * when it may not or cannot work, the call goes straight to the next definition
 * (interpose/next.h).
 */
#pragma once

#include "choose/plan.h"
#include "choose/source.h"
#include "interpose/book.h"
#include "interpose/next.h"
#include "kernel/listeners.h"
#include "kernel/netns.h"
#include "table/lanehash.h"
#include "table/process.h"
#include "table/reap.h"

#include <stdbool.h>

struct library {
	_Atomic int active;
	_Atomic int refusing; /* the table cannot be used, and TUPLEBIND_UNUSABLE is fail */
	struct netns netns;
	struct table table;
	struct plan plan;
	struct process_self self;
	_Atomic int has_claimed;
	_Atomic uint64_t token; /* process_token() of this process; 0: not looked up yet */
	struct claim_walk walk;
	struct lane_hashes lane_hashes;
	struct source_memory sources;
	struct listeners listeners;
	struct aside unshared;	       /* UDP ports whose holders share them with nobody */
	struct aside timewait_refused; /* lanes whose tuples in TIME_WAIT cannot be reused */
	struct aside timewait_allowed; /* lanes of which one could */
	struct aside timewait_mixed;   /* lanes of which some can and some cannot */
	struct aside timewait_met;     /* lanes in which late bind met one lately */
	struct aside peer_asked;       /* destinations whose real one was asked for */
	struct aside source_varies;    /* destinations for which the kernel chose another source */
	struct aside
		even_allowed; /* destinations so full that even ports may be bound explicitly */
};

extern struct library library;

static inline bool library_active(void)
{
	/* Acquire pairs with the release at the end of starting. */
	return atomic_load_explicit(&library.active, memory_order_acquire);
}

/* True when the table cannot be used, and what would have been served is to be refused. */
static inline bool library_refuses(void)
{
	return atomic_load_explicit(&library.refusing, memory_order_acquire);
}

/* True for the kinds of socket that the plan has taken over. */
static inline bool library_serves(enum sock_kind kind)
{
	return kind != KIND_OTHER &&
	       library.plan.protocols &
		       (sock_kind_protocol(kind) == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_TCP);
}

/*
 * True while the table is what it was when it was attached. False: some process has written over
 * it; the library says so once and leaves everything to the kernel from then on.
 */
bool library_table_sound(void);

/* Goes on in a forked child: new places in the lanes, no entry among the processes yet. */
void library_start_child(void);
