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

#include "engine/state.h"

#include <stdbool.h>

/* A million is the most that a process can have by default (fs.nr_open). */
#define BOOK_DESCRIPTORS (1u << 26)

struct record {
	struct state state;
	_Atomic uint32_t descriptors;
	_Atomic uint32_t forks; /* the book's count when the socket was made */
	_Atomic uint32_t next;	/* in the list of unused records */
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

/* Whether another process may have the socket open as well. */
bool book_maybe_shared(const struct record *r);

/*
 * Closing: book_remove() before the descriptor is closed, book_settle() with its result
 * after, which gives back what has lost its last holder. Its claim is in flight, or marked
 * STATE_SHARED.
 */
struct record *book_remove(int fd);
void book_settle(struct table *t, struct record *r);

/* The same for all descriptors of a range, whose claims are not in flight; the result is a list for
 * book_settle_all(). */
struct record *book_remove_range(unsigned first, unsigned last);
void book_settle_all(struct table *t, struct record *list);
