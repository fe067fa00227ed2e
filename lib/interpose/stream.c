/*
 * Giving a TCP socket one tuple.
 *
 * Late bind where the kernel lets us: connect() takes the port, and it goes on sharing it with
 * other destinations' sockets. Explicit bind for what that refuses and can be had all the same:
 * tuples in TIME_WAIT, ports under explicit binds of ours. A socket that was bound explicitly keeps
 * its port, so it is found out first whether the tuple can be had (kernel/timewait.h). That
 * sock_diag knows nobody on it is no ground: the tuple's source and destination are what the kernel
 * makes of them in connect().
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
#define PEER_SECONDS	 1
#define VARIES_SECONDS	 60

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

static uint64_t hash_destination(const struct attempt *a)
{
	uint64_t words[3] = {0, 0, a->fport};

	memcpy(words, a->faddr.bytes, sizeof a->faddr.bytes);
	return hash_words(&library.sources.key, words, 3);
}

void attempt_foresee(struct attempt *a)
{
	a->redirected |= source_peer(
		&library.sources, &a->faddr, a->fport, &a->faddr, &a->fport, &a->several);
}

bool attempt_note_peer(struct attempt *a, const struct addr *peer, uint16_t fport)
{
	struct addr asked;
	uint16_t asked_port;

	if (fport == a->fport && addr_same(peer, &a->faddr))
		return false;
	addr_from_sockaddr(a->to, a->length, &asked, &asked_port);
	source_learn_peer(&library.sources, &asked, asked_port, peer, fport);
	a->redirected = true;
	a->faddr = *peer;
	a->fport = fport;
	return true;
}

bool attempt_source_varies(const struct attempt *a)
{
	return aside_has(&library.source_varies, hash_destination(a));
}

void attempt_note_source(const struct attempt *a, const struct addr *source)
{
	aside_put(&library.source_varies, hash_destination(a), VARIES_SECONDS);
	source_learn(&library.sources, &a->faddr, a->protocol, a->fport, source);
}

bool attempt_is_peer_due(const struct attempt *a)
{
	if (source_knows_peers(&library.sources))
		return true;
	uint64_t hash = hash_destination(a);
	if (aside_has(&library.peer_asked, hash))
		return false;
	aside_put(&library.peer_asked, hash, PEER_SECONDS);
	return true;
}

/*
 * The kernel ignores a port outside ip_local_port_range and takes another one; where it chooses the
 * address, that may be another one than routing said a second ago, or would say of another port;
 * and the destination may be another one than connect() was given. It is the authority.
 */
void stream_check(struct attempt *a)
{
	struct addr local, peer;
	uint16_t port, fport;

	if (!book_holds(a->record, a->claim) || sock_local(a->fd, &local, &port) < 0 || port == 0)
		return;
	bool moved = !addr_equal(&local, &a->laddr);
	bool changed = a->lport != 0 && port != a->lport;
	bool elsewhere = attempt_is_peer_due(a) &&
			 sock_peer(a->fd, a->family, &peer, &fport) == 0 &&
			 attempt_note_peer(a, &peer, fport);
	if (a->claim != CLAIM_NONE && !moved && !changed && !elsewhere)
		return;
	if (moved && a->automatic && !a->address_given)
		attempt_note_source(a, &local);
	if (a->claim != CLAIM_NONE)
		tuple_give_back(a);
	a->laddr = local;
	a->lport = port;
	tuple_set_lane(a);
	if (claim_adopt(&library.table, &a->lane, port, flight_what(a->flight), &a->claim) < 0)
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
		error = tuple_bind_port(a, a->lport);
	if (error < 0)
		return tuple_bind_failed(a, error);
	book_set_flag(a->record, RECORD_EXPLICIT);
	/* The port is lost to late bind, in all lanes, while this socket lasts. */
	table_note_port(library.table.header->explicit_ports, a->lport);
	error = tuple_call_with_claim(a);
	if (attempt_kept(a, error)) {
		if (timewait)
			table_count(&library.table, TUPLEBIND_TIMEWAIT_REUSED);
		stream_check(a);
	}
	/* Unlike what was probed, if it could be: another peer of the same address. */
	if (timewait && error == EADDRNOTAVAIL) {
		aside_put(&library.timewait_refused, a->lane_hash, TIMEWAIT_SECONDS);
		if (aside_has(&library.timewait_allowed, a->lane_hash))
			aside_put(&library.timewait_mixed, a->lane_hash, MIXED_SECONDS);
	}
	return tuple_finish(a, error, TUPLEBIND_EXPLICIT);
}

static enum timewait ask(const struct attempt *a)
{
	struct addr asked;
	uint16_t fport;

	if (!addr_from_sockaddr(a->to, a->length, &asked, &fport))
		return TIMEWAIT_UNKNOWN;
	return timewait_probe(&a->lane, a->lport, tuple_leaves_address(a), &asked, fport);
}

/* glibc's, since 2.32; where there is none any process may have threads. */
/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): glibc's name */
extern char __libc_single_threaded __attribute__((weak));

/*
 * Whether a child that another thread has made meanwhile, by fork() or for posix_spawn(), has what
 * asked, so that the tuple is not free yet. Six microseconds in a program with threads.
 */
static bool is_left_in_a_child(const struct attempt *a)
{
	if (&__libc_single_threaded != NULL && __libc_single_threaded)
		return false;
	int state = diag_tuple(&a->lane, a->lport);
	return state == DIAG_HELD || state == DIAG_ORPHAN;
}

/* Finds out, and notes it for the lane. */
static enum timewait probe(const struct attempt *a)
{
	enum timewait answer = ask(a);

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
	bool mixed = a->redirected || aside_has(&library.timewait_mixed, a->lane_hash);
	bool refused = !mixed && aside_has(&library.timewait_refused, a->lane_hash);
	bool allowed = !mixed && aside_has(&library.timewait_allowed, a->lane_hash);
	enum timewait answer = refused ? TIMEWAIT_REFUSED : allowed ? TIMEWAIT_UNKNOWN : probe(a);

	if (answer == TIMEWAIT_REFUSED) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	if (answer == TIMEWAIT_REUSABLE && (!mixed || is_left_in_a_child(a))) {
		/* Free now; but a child forked meanwhile may have what probed it. */
		tuple_give_back(a);
		return TRIED_NEXT_PORT;
	}
	return bind_and_connect(a, true);
}

/*
 * A tuple that no socket seems to have. @needed: there is no other way than explicit bind, so where
 * it cannot be found out the socket itself has to try.
 */
static enum tried bind_absent(struct attempt *a, bool needed)
{
	enum timewait answer = ask(a);

	if (answer == TIMEWAIT_REUSABLE && is_left_in_a_child(a))
		answer = TIMEWAIT_REFUSED;
	if (answer == TIMEWAIT_REUSABLE || (answer == TIMEWAIT_UNKNOWN && needed))
		return bind_and_connect(a, false);
	tuple_keep_for_stranger(a);
	return TRIED_NEXT_PORT;
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
	return bind_absent(a, true);
}

void stream_allow_even(const struct attempt *a)
{
	aside_put(&library.even_allowed, hash_destination(a), EVEN_SECONDS);
}

static bool even_allowed(const struct attempt *a)
{
	return aside_has(&library.even_allowed, hash_destination(a));
}

/* Late bind goes on where explicit bind is forbidden. */
static enum tried unless_forbidden(enum tried tried)
{
	return tried == TRIED_GIVE_UP && attempt_bind_forbidden() ? TRIED_NEXT_PORT : tried;
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

	/* What cannot be taken back is not for a tuple that is only guessed. */
	if ((a->lport % 2 != 0 || even) && !a->several && !attempt_bind_forbidden()) {
		if (state == DIAG_TIMEWAIT)
			return unless_forbidden(reuse_timewait(a));
		if (state == DIAG_ABSENT &&
			(even || book_has_flag(a->record, RECORD_PUT_OFF) ||
				table_has_port(library.table.header->explicit_ports, a->lport)))
			return unless_forbidden(bind_absent(a, false));
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
	int error = tuple_prepare_late(a, a->lport, a->lport);
	if (error < 0)
		return tuple_prepare_failed(a, error);
	error = tuple_call_with_claim(a);
	if (error != EADDRNOTAVAIL) {
		if (attempt_kept(a, error))
			stream_check(a);
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
