/*
 * What is known of one of the program's sockets between two calls: the claim that it holds, and
 * what was done to it.
 *
 * The front keeps it where it finds it again by the descriptor (preload/book.h). Each field that
 * changes is atomic, since the program may use a socket from several threads and signal handlers.
 */
#pragma once

#include "kernel/sock.h"
#include "table/claim.h"

#include <stdatomic.h>
#include <stdbool.h>

enum state_flag {
	STATE_SHARED = 1,    /* another process may have the socket as well, whatever forks say */
	STATE_EXPLICIT = 2,  /* we bound a port to it, and it cannot be unbound */
	STATE_ADDRESS = 4,   /* the program bound an address to it */
	STATE_TOUCHED = 8,   /* options and address of the socket are ours */
	STATE_PUT_OFF = 16,  /* the program's bind() without a port was put off (preload/bind.c) */
	STATE_REUSE = 32,    /* UDP: the program had set SO_REUSEADDR itself */
	STATE_FREEBIND = 64, /* IPV6_FREEBIND is on, and was not the program's */
	STATE_BOUND = 128,   /* we bound an address to it */
	STATE_NO_PORT = 256, /* the program had set IP_BIND_ADDRESS_NO_PORT itself */
};

struct state {
	_Atomic claim claim;
	_Atomic uint64_t takings; /* reap_takings() before the claim was made */
	_Atomic uint32_t flags;
	_Atomic uint32_t stale_port; /* that getsockname() tells though the socket has lost it */
	enum sock_kind kind;	     /* KIND_OTHER: not known */
};

/* Nothing is known of the socket but its kind, and these flags. */
void state_begin(struct state *s, enum sock_kind kind, uint32_t flags);

static inline void state_set_flag(struct state *s, enum state_flag flag)
{
	atomic_fetch_or_explicit(&s->flags, (uint32_t)flag, memory_order_relaxed);
}

static inline void state_clear_flags(struct state *s, uint32_t flags)
{
	atomic_fetch_and_explicit(&s->flags, ~flags, memory_order_relaxed);
}

static inline bool state_has_flag(const struct state *s, enum state_flag flag)
{
	return atomic_load_explicit(&s->flags, memory_order_relaxed) & (uint32_t)flag;
}

static inline claim state_claim(const struct state *s)
{
	return atomic_load_explicit(&s->claim, memory_order_acquire);
}

static inline void state_set_claim(struct state *s, claim c)
{
	atomic_store_explicit(&s->claim, c, memory_order_release);
}

/*
 * Whether the state still stands for a claim that the caller has put there. If not, another thread
 * has closed the descriptor meanwhile, and the state may be another socket's by now.
 */
static inline bool state_holds(const struct state *s, claim c)
{
	return state_claim(s) == c;
}

/* Takes the claim out; CLAIM_NONE: it has none. */
static inline claim state_take_claim(struct state *s)
{
	return atomic_exchange_explicit(&s->claim, CLAIM_NONE, memory_order_acq_rel);
}

/* Gives back a claim that is in flight (claim_give_back()). */
void state_give_back(struct state *s, struct table *t);

/*
 * The same for a claim that is not in flight and whose tuple the kernel has let go, perhaps long
 * ago: reap may have given it to somebody else, whose it stays. 20 us.
 */
void state_give_back_ended(struct state *s, struct table *t);
