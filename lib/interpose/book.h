/*
 * The book: which descriptor of this process is which socket, and what it has claimed.
 *
 * An entry per descriptor, found by its number. A socket that only has been made
 * needs no more than the entry; one that was connected or duplicated has a record, which
 * counts the descriptors that lead to it, so that a claim is given back when the last of
 * them is closed, and only then. A socket that another process may hold as well (there was
 * a fork, or it came from elsewhere) is "maybe shared": whether the last close was the
 * last, only the kernel can say.
 *
 * The book is in private memory: a forked child has a copy of it, and everything in
 * it is maybe shared from then on, on both sides. A vfork child runs in the parent's memory and
 * must not touch it: book_usable() tells.
 *
 * All of this is lock-free and async-signal-safe. Room for records is mapped as
 * needed and never given back. Descriptors past BOOK_DESCRIPTORS are not
 * kept; their claims are left to reap.
 */
#pragma once

#include "kernel/sock.h"
#include "table/claim.h"

#include <stdbool.h>

/* A million is the most that a process can have by default (fs.nr_open). */
#define BOOK_DESCRIPTORS (1u << 26)

enum record_flag {
	RECORD_SHARED = 1,    /* maybe shared, whatever the forks say */
	RECORD_EXPLICIT = 2,  /* we bound a port to the socket, and it cannot be unbound */
	RECORD_ADDRESS = 4,   /* the program bound an address to it */
	RECORD_TOUCHED = 8,   /* options and address of the socket are ours */
	RECORD_PUT_OFF = 16,  /* the program's bind() without a port was put off (bind.c) */
	RECORD_REUSE = 32,    /* UDP: the program had set SO_REUSEADDR itself */
	RECORD_FREEBIND = 64, /* IPV6_FREEBIND is on, and was not the program's */
	RECORD_BOUND = 128,   /* we bound an address to it */
	RECORD_NO_PORT = 256, /* the program had set IP_BIND_ADDRESS_NO_PORT itself */
};

struct record {
	_Atomic claim claim;
	_Atomic uint64_t takings; /* reap_takings() before the claim was made */
	_Atomic uint32_t descriptors;
	_Atomic uint32_t flags;
	_Atomic uint32_t forks;	     /* the book's count when the claim was made */
	_Atomic uint32_t next;	     /* in the list of unused records */
	_Atomic uint32_t stale_port; /* that getsockname() tells though the socket has lost it */
	enum sock_kind kind;	     /* KIND_OTHER: not known */
	uint32_t number;
	struct record *after; /* in a list for book_settle_all() */
};

/*
 * Starts the book; @start_copy is called in a child that has a copy of it and no other way to know
 * (a fork without handlers), and is to call book_start_copy(). Maps a page.
 */
void book_start(void (*start_copy)(void));

/* In a forked child: goes on with the copy. */
void book_start_copy(void);

/* False where book_start_copy() is not needed (any more); true if that cannot be told. */
bool book_is_copy(void);

/* Before and after a fork, in the parent: what is open now is maybe shared. */
void book_forked(void);

/*
 * False in a child that runs in its parent's memory (vfork()): leave it alone. In any other child
 * the copy is started first. One system call.
 */
bool book_usable(void);

/* True when something is noted for @fd. Reads one word. */
bool book_has(int fd);

/*
 * Notes a new socket of @kind, or with KIND_OTHER that @fd is something else. What the book had for
 * @fd was closed behind its back.
 */
void book_note_socket(struct table *t, int fd, enum sock_kind kind);

/*
 * True when nothing that matters here has been done to the socket since it was made, by this
 * process, and no other one can have it: it need not be asked.
 */
bool book_is_pristine(int fd);

/* Something has: bind(), an option that decides about addresses and ports, a connect() without us.
 */
void book_note_changed(int fd);

/* The descriptor is being sent to another process, which may hold the socket from now on. */
void book_note_passed(int fd);

/* The record of @fd, or NULL when it has none; *kind is KIND_OTHER when the book does not know. */
struct record *book_find(int fd, enum sock_kind *kind);

/*
 * The record of @fd, made if it has none (maybe shared then, unless the book saw the
 * socket made). NULL when there is no room.
 */
struct record *book_record(int fd, enum sock_kind kind);

/* After @to became a duplicate of @from; @to was closed by that if it was open. */
void book_duplicate(struct table *t, int from, int to);

static inline void book_set_flag(struct record *r, enum record_flag flag)
{
	atomic_fetch_or_explicit(&r->flags, (uint32_t)flag, memory_order_relaxed);
}

static inline void book_clear_flags(struct record *r, uint32_t flags)
{
	atomic_fetch_and_explicit(&r->flags, ~flags, memory_order_relaxed);
}

static inline bool book_has_flag(const struct record *r, enum record_flag flag)
{
	return atomic_load_explicit(&r->flags, memory_order_relaxed) & (uint32_t)flag;
}

/* Whether another process may have the socket open as well. */
bool book_maybe_shared(const struct record *r);

/* Sets and gives back what a record holds, which is in flight (claim_give_back()). */
void book_set_claim(struct record *r, claim c);
void book_give_back(struct table *t, struct record *r);

/*
 * Whether the record still stands for a claim that the caller has put there. If not, another thread
 * has closed the descriptor meanwhile, and the record may be another socket's by now.
 */
bool book_holds(const struct record *r, claim c);

/*
 * The same for a claim that is not in flight and whose tuple the kernel has let go, perhaps long
 * ago: reap may have given it to somebody else, whose it stays. 20 us.
 */
void book_give_back_ended(struct table *t, struct record *r);

/*
 * Closing: book_remove() before the descriptor is closed, book_settle() with its result
 * after, which gives back what has lost its last holder. Its claim is in flight, or marked
 * RECORD_SHARED.
 */
struct record *book_remove(int fd);
void book_settle(struct table *t, struct record *r);

/* The same for all descriptors of a range, whose claims are not in flight; the result is a list for
 * book_settle_all(). */
struct record *book_remove_range(unsigned first, unsigned last);
void book_settle_all(struct table *t, struct record *list);
