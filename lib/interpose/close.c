/*
 * close(), close_range(), closefrom(): the last close of a socket gives its claim back, after
 * the kernel has let the tuple go.
 */
#include "interpose/library.h"

#include "table/flight.h"

#include <errno.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <unistd.h>

/*
 * Whether a reap may have given the claim to somebody else, because its connection has ended.
 * Without a place in flight the count of takings proves nothing.
 */
static bool may_be_lost(int fd, const struct record *r, const struct tuplebind_flight *flight)
{
	if (flight != NULL && atomic_load_explicit(&r->takings, memory_order_relaxed) ==
				      reap_takings(&library.table))
		return false;
	return sock_is_closed(fd);
}

/*
 * The claim of a socket that is being closed stays in flight until it is given back. A reap in
 * between would see no socket; somebody else would make the claim, and we would give theirs back.
 * (Steps L1 and L2 of tests/model/claims.pml; close() goes on with L3 and L4.)
 */
static struct tuplebind_flight *take_off(int fd, struct record *r)
{
	uint64_t token = atomic_load_explicit(&library.token, memory_order_relaxed);
	claim c = r != NULL ? atomic_load_explicit(&r->claim, memory_order_acquire) : CLAIM_NONE;

	/* What is maybe shared is looked into before it is given back. */
	if (c == CLAIM_NONE || token == 0 || book_maybe_shared(r))
		return NULL;
	struct tuplebind_flight *flight = flight_begin(&library.table, token);
	if (flight != NULL)
		atomic_store_explicit(flight_what(flight), c, memory_order_seq_cst);
	if (!may_be_lost(fd, r, flight))
		return flight;
	book_set_flag(r, RECORD_SHARED);
	flight_end(flight);
	return NULL;
}

/* A thread may be cancelled before anything is done, or not at all: else the book would be wrong.
 */
EXPORT int close(int fd)
{
	int cancellation, before = errno;

	if (!library_active() || !book_has(fd) || !book_usable())
		return next()->close(fd);
	pthread_testcancel();
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellation);
	struct record *r = book_remove(fd);
	struct tuplebind_flight *flight = take_off(fd, r);
	errno = before;
	int result = next()->close(fd);
	int saved = errno;
	/* Whatever close() says, on Linux the descriptor is gone. */
	book_settle(&library.table, r);
	flight_end(flight);
	pthread_setcancelstate(cancellation, NULL);
	errno = saved;
	return result;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	if (next()->close_range == NULL) {
		errno = ENOSYS; /* a libc older than the call */
		return -1;
	}
	if (!library_active() || first > last || (flags & ~(int)CLOSE_RANGE_UNSHARE) ||
		!book_usable())
		return next()->close_range(first, last, flags);
	struct record *list = book_remove_range(first, last);
	int result = next()->close_range(first, last, flags);
	int saved = errno;
	book_settle_all(&library.table, list);
	errno = saved;
	return result;
}

EXPORT void closefrom(int first)
{
	struct record *list = NULL;
	bool keep = library_active() && book_usable();

	if (keep)
		list = book_remove_range(first < 0 ? 0 : (unsigned)first, BOOK_DESCRIPTORS - 1);
	if (next()->closefrom != NULL)
		next()->closefrom(first);
	if (keep)
		book_settle_all(&library.table, list);
}
