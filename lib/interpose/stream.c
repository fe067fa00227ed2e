/*
 * Giving a TCP socket one tuple.
 *
 * Late bind where the kernel lets us: connect() takes the port, and it goes on sharing it with
 * other destinations' sockets. Explicit bind for what that refuses and can be had all the same:
 * tuples in TIME_WAIT, ports under explicit binds of ours. A socket that was bound explicitly keeps
 * its port, so sock_diag is asked first whether the kernel knows of somebody on the tuple, and of
 * one in TIME_WAIT it is found out whether it may be used again (kernel/timewait.h).
 */
#include "interpose/attempt.h"

#include "kernel/diag.h"
#include "kernel/sock.h"
#include "kernel/timewait.h"

#include <errno.h>
#include <string.h>

#define TIMEWAIT_SECONDS 60 /* TCP_TIMEWAIT_LEN of the kernel */
#define MIXED_SECONDS	 3600
#define EVEN_SECONDS	 5 /* then it may be different again */
#define MET_SECONDS	 1

void stream_tell_ports_changed(const struct attempt *a)
{
	static struct event_limit limit;
	struct event e;

	if (event_begin_limited(&e, LOG_INFO, "ports-changed", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "the kernel's port range has changed, read anew");
		event_end(&e);
	}
}

/*
 * The kernel ignores a port outside ip_local_port_range and takes another one; and where it chooses
 * the address, that may be another one than routing said a second ago. It is the authority: the
 * claim moves to the tuple the socket has, and the range is read anew.
 */
static void check_tuple(struct attempt *a)
{
	struct addr local;
	uint16_t port;

	if (!book_holds(a->record, a->claim) || sock_local(a->fd, &local, &port) < 0 || port == 0 ||
		(port == a->lport && addr_equal(&local, &a->laddr)))
		return;
	tuple_give_back(a);
	bool changed = port != a->lport;
	a->laddr = local;
	a->lport = port;
	tuple_set_lane(a);
	if (claim_take_port(&library.table, &a->lane, port, flight_what(a->flight), &a->claim) < 0)
		a->claim = CLAIM_NONE;
	book_set_claim(a->record, a->claim);
	if (changed) {
		stream_tell_ports_changed(a);
		plan_set_ports(&library.plan);
	}
}

/*
 * Explicit bind, on a tuple that the kernel was seen not to have, or to have in TIME_WAIT: a socket
 * once bound so cannot be moved to another port.
 */
static enum tried bind_and_connect(struct attempt *a, bool timewait)
{
	if (listeners_has(&library.listeners, a->lport)) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	book_set_flag(a->record, RECORD_TOUCHED);
	int error = sock_reuse_address(a->fd, true);
	if (error == 0)
		error = tuple_bind(a, a->lport);
	if (error < 0)
		return tuple_bind_failed(a, error);
	book_set_flag(a->record, RECORD_EXPLICIT);
	/* The port is lost to late bind, in all lanes, while this socket lasts. */
	table_note_port(library.table.header->explicit_ports, a->lport);
	error = tuple_call_with_claim(a);
	if (timewait && attempt_kept(a, error))
		table_count(&library.table, TUPLEBIND_TIMEWAIT_REUSED);
	/* Unlike what was probed, if it could be: another peer of the same address. */
	if (timewait && error == EADDRNOTAVAIL) {
		aside_put(&library.timewait_refused, a->lane_hash, TIMEWAIT_SECONDS);
		if (aside_has(&library.timewait_allowed, a->lane_hash))
			aside_put(&library.timewait_mixed, a->lane_hash, MIXED_SECONDS);
	}
	return tuple_finish(a, error, TUPLEBIND_EXPLICIT);
}

/* Finds out, and notes it for the lane. */
static enum timewait probe(const struct attempt *a)
{
	enum timewait answer = timewait_probe(&a->lane, a->lport);

	if (answer != TIMEWAIT_UNKNOWN)
		aside_put(answer == TIMEWAIT_REUSABLE ? &library.timewait_allowed
						      : &library.timewait_refused,
			a->lane_hash, TIMEWAIT_SECONDS);
	return answer;
}

/*
 * A tuple in TIME_WAIT, to be used again by explicit bind. Whether that goes is the peer's doing,
 * so what one of a lane comes to holds for the others for a while, unless several peers have that
 * address: then each is probed. Where it cannot be found out the socket itself has to try.
 */
static enum tried reuse_timewait(struct attempt *a)
{
	bool mixed = aside_has(&library.timewait_mixed, a->lane_hash);
	bool refused = !mixed && aside_has(&library.timewait_refused, a->lane_hash);
	bool allowed = !mixed && aside_has(&library.timewait_allowed, a->lane_hash);
	enum timewait answer = refused ? TIMEWAIT_REFUSED : allowed ? TIMEWAIT_UNKNOWN : probe(a);

	if (answer == TIMEWAIT_REFUSED) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	if (answer == TIMEWAIT_REUSABLE && !mixed) {
		/* Free now; but a child forked meanwhile may have what probed it. */
		tuple_give_back(a);
		return TRIED_NEXT_PORT;
	}
	return bind_and_connect(a, true);
}

static enum tried try_explicit(struct attempt *a)
{
	int state = diag_tuple(&a->lane, a->lport);

	if (state == DIAG_TIMEWAIT)
		return reuse_timewait(a);
	if (state == DIAG_HELD || state == DIAG_ORPHAN) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	return bind_and_connect(a, false);
}

static uint64_t hash_destination(const struct attempt *a)
{
	uint64_t words[3] = {0, 0, a->fport};

	memcpy(words, a->faddr.bytes, sizeof a->faddr.bytes);
	return hash_words(&library.sources.key, words, 3);
}

void stream_allow_even(const struct attempt *a)
{
	aside_put(&library.even_allowed, hash_destination(a), EVEN_SECONDS);
}

static bool even_allowed(const struct attempt *a)
{
	return aside_has(&library.even_allowed, hash_destination(a));
}

/*
 * Late bind could not have the tuple, or would not: @state says why. It may be had by explicit bind
 * all the same, after a NO_PORT bind that has left no port. In TIME_WAIT it can be reused at once
 * (KERNEL: as long as TCP timestamps are on). If no socket has it, something else holds the port:
 * an explicit bind of ours to another destination, with which it can be shared, or somebody else's,
 * which is not to be disturbed without need. A program that called bind() itself would have got the
 * port if that is on another address: it does. And so does a lane that has no other port left: who
 * has the port under an explicit bind is served as before, and with SO_REUSEADDR on both sides the
 * kernel lets it be shared.
 *
 * Even ports are kept for the kernel's own connect(), which takes them first: were all under
 * explicit binds, no other program of the host could connect. Only a lane that has no other port
 * left takes them (walk.c).
 */
static enum tried late_refused(struct attempt *a, int state)
{
	bool even = even_allowed(a);

	if (a->lport % 2 != 0 || even) {
		if (state == DIAG_TIMEWAIT)
			return reuse_timewait(a);
		if (state == DIAG_ABSENT &&
			(even || book_has_flag(a->record, RECORD_PUT_OFF) ||
				table_has_port(library.table.header->explicit_ports, a->lport)))
			return bind_and_connect(a, false);
	}
	tuple_keep_for_stranger(a);
	return TRIED_NEXT_PORT;
}

/*
 * A busy lane comes by its ports again while they are in TIME_WAIT. There the kernel is asked first
 * for a second, which saves a connect() in vain; then it is tried whether late bind may reuse them
 * by now (net.ipv4.tcp_tw_reuse).
 */
static enum tried try_late(struct attempt *a)
{
	if (aside_has(&library.timewait_met, a->lane_hash)) {
		int state = diag_tuple(&a->lane, a->lport);

		if (state == DIAG_TIMEWAIT)
			return late_refused(a, state);
	}
	int error = tuple_prepare_late(a);
	if (error < 0)
		return tuple_bind_failed(a, error);
	error = tuple_call_with_claim(a);
	if (error != EADDRNOTAVAIL) {
		if (attempt_kept(a, error))
			check_tuple(a);
		return tuple_finish(a, error, TUPLEBIND_LATE);
	}
	int state = diag_tuple(&a->lane, a->lport);
	if (state == DIAG_TIMEWAIT)
		aside_put(&library.timewait_met, a->lane_hash, MET_SECONDS);
	return late_refused(a, state);
}

enum tried stream_try(struct attempt *a, enum stage stage)
{
	return stage == STAGE_LATE ? try_late(a) : try_explicit(a);
}
