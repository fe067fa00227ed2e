/*
 * close(), close_range(), closefrom(): the last close of a socket gives its claim back, after
 * the kernel has let the tuple go.
 */
#include "preload/library.h"

#include "table/flight.h"
#include "table/reap.h"

#include <errno.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <unistd.h>

/*
 * Whether a reap may have given the claim to somebody else, because its connection has ended. Asked
 * when it is in flight again.
 */
static bool may_be_lost(int fd, const struct record *r)
{
	/* claims.pml: L2c */
	if (atomic_load_explicit(&r->state.takings, memory_order_relaxed) ==
		reap_takings(&library.engine.table))
		return false;
	/* claims.pml: L1 */
	return sock_is_closed(fd);
}

/*
 * The claim of a socket that is being closed stays in flight until it is given back: a reap in
 * between would see no socket, somebody else would make the claim, and we would give theirs back.
 * What cannot fly is looked into instead when it is closed: what another process may have as well,
 * what is being inspected, and a connection that has ended, whose tuple reap may have given to
 * somebody else long ago. (It takes off first: if the socket has its tuple after that, nobody
 * took the claim before.) Steps L1 to L2c of tests/model/claims.pml; close() goes on with L3 and
 * L4.
 */
static struct tuplebind_flight *take_off(int fd, struct record *r)
{
	uint64_t token = atomic_load_explicit(&library.engine.token, memory_order_relaxed);
	claim c = r != NULL ? state_claim(&r->state) : CLAIM_NONE;

	if (c == CLAIM_NONE || book_maybe_shared(r))
		return NULL;
	struct tuplebind_flight *flight =
		token == 0 ? NULL : flight_with(&library.engine.table, token, c);
	if (flight != NULL && !may_be_lost(fd, r))
		return flight;
	state_set_flag(&r->state, STATE_SHARED);
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
	/* claims.pml: L3 */
	int result = next()->close(fd);
	int saved = errno;
	/* Whatever close() says, on Linux the descriptor is gone. */
	book_settle(&library.engine.table, r);
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
	book_settle_all(&library.engine.table, list);
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
		book_settle_all(&library.engine.table, list);
}
