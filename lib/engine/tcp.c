#include "engine/tcp.h"

#include "engine/foresee.h"
#include "engine/tuple.h"
#include "kernel/diag.h"
#include "kernel/timewait.h"

#include <errno.h>

#define TIMEWAIT_SECONDS 60 /* TCP_TIMEWAIT_LEN of the kernel */
#define MIXED_SECONDS	 3600
#define EVEN_SECONDS	 5 /* then it may be different again */
#define MET_SECONDS	 1

/*
 * The kernel ignores a port outside ip_local_port_range and takes another one; where it chooses the
 * address, that may be another one than routing said a second ago, or would say of another port;
 * and the destination may be another one than connect() was given. It is the authority.
 */
void tcp_check(struct attempt *a)
{
	struct addr local, peer;
	uint16_t port, fport;

	if (!state_holds(a->state, a->held.claim) || sock_local(a->call->fd, &local, &port) < 0 ||
		port == 0)
		return;
	bool moved = !addr_equal(&local, &a->from.addr);
	bool changed = a->held.lport != 0 && port != a->held.lport;
	bool elsewhere = foresee_is_peer_due(a) &&
			 sock_peer(a->call->fd, a->socket->family, &peer, &fport) == 0 &&
			 foresee_note_peer(a, &peer, fport);
	if (a->held.claim != CLAIM_NONE && !moved && !changed && !elsewhere)
		return;
	if (moved && a->from.automatic && !a->socket->address_given)
		foresee_note_source(a, &local);
	if (a->held.claim != CLAIM_NONE)
		tuple_give_back(a);
	a->from.addr = local;
	a->held.lport = port;
	tuple_set_lane(a);
	if (claim_adopt(&a->engine->table, &a->from.lane, port, flight_what(a->held.flight),
		    &a->held.claim) < 0)
		a->held.claim = CLAIM_NONE;
	state_set_claim(a->state, a->held.claim);
	if (changed) {
		attempt_tell_ports_changed(a);
		plan_set_ports(&a->engine->plan);
	}
}

/* Somebody else has the tuple. */
static struct result strangers(struct attempt *a)
{
	tuple_keep_for_stranger(a);
	return result_of(TRIED_NEXT_PORT);
}

/*
 * Explicit bind, on a tuple that the kernel was seen not to have, or to have in TIME_WAIT: a socket
 * once bound so cannot be moved to another port.
 */
static struct result bind_and_connect(struct attempt *a, bool timewait)
{
	if (listeners_has(&a->engine->listeners, a->held.lport))
		return strangers(a);
	state_set_flag(a->state, STATE_TOUCHED);
	int error = sock_reuse_address(a->call->fd, true);
	if (error == 0)
		error = tuple_bind_port(a, a->held.lport);
	if (error < 0)
		return tuple_bind_failed(a, error);
	state_set_flag(a->state, STATE_EXPLICIT);
	/* The port is lost to late bind, in all lanes, while this socket lasts. */
	table_note_port(a->engine->table.header->explicit_ports, a->held.lport);
	error = tuple_call(a);
	if (attempt_kept(a, error)) {
		if (timewait)
			table_count(&a->engine->table, TUPLEBIND_TIMEWAIT_REUSED);
		tcp_check(a);
	}
	/* Unlike what was probed, if it could be: another peer of the same address. */
	if (timewait && error == EADDRNOTAVAIL) {
		aside_put(&a->engine->timewait_refused, a->from.lane_hash, TIMEWAIT_SECONDS);
		if (aside_has(&a->engine->timewait_allowed, a->from.lane_hash))
			aside_put(&a->engine->timewait_mixed, a->from.lane_hash, MIXED_SECONDS);
	}
	return tuple_finish(a, error, TUPLEBIND_EXPLICIT);
}

static enum timewait ask(const struct attempt *a)
{
	struct addr asked;
	uint16_t fport;

	if (!addr_from_sockaddr(a->call->to, a->call->length, &asked, &fport))
		return TIMEWAIT_UNKNOWN;
	return timewait_probe(&a->from.lane, a->held.lport, tuple_leaves_address(a), &asked, fport);
}

/*
 * Whether a child that another thread has made meanwhile, by fork() or for posix_spawn(), has what
 * asked, so that the tuple is not free yet. Six microseconds in a program with threads.
 */
static bool is_left_in_a_child(const struct attempt *a)
{
	if (!a->call->front->may_fork())
		return false;
	int state = diag_tuple(&a->from.lane, a->held.lport);
	return state == DIAG_HELD || state == DIAG_ORPHAN;
}

/* Finds out, and notes it for the lane. */
static enum timewait probe(const struct attempt *a)
{
	enum timewait answer = ask(a);

	if (answer != TIMEWAIT_UNKNOWN)
		aside_put(answer == TIMEWAIT_REUSABLE ? &a->engine->timewait_allowed
						      : &a->engine->timewait_refused,
			a->from.lane_hash, TIMEWAIT_SECONDS);
	return answer;
}

/*
 * A tuple in TIME_WAIT, to be used again by explicit bind. Whether that goes is the peer's doing,
 * so what one of a lane comes to holds for the others for a while, unless several peers have that
 * address: then each is probed. Where it cannot be found out the socket itself has to try.
 */
static struct result reuse_timewait(struct attempt *a)
{
	bool mixed = a->to.redirected || aside_has(&a->engine->timewait_mixed, a->from.lane_hash);
	bool refused = !mixed && aside_has(&a->engine->timewait_refused, a->from.lane_hash);
	bool allowed = !mixed && aside_has(&a->engine->timewait_allowed, a->from.lane_hash);
	enum timewait answer = refused ? TIMEWAIT_REFUSED : allowed ? TIMEWAIT_UNKNOWN : probe(a);

	if (answer == TIMEWAIT_REFUSED)
		return strangers(a);
	if (answer == TIMEWAIT_REUSABLE && (!mixed || is_left_in_a_child(a))) {
		/* Free now; but a child forked meanwhile may have what probed it. */
		tuple_give_back(a);
		return result_of(TRIED_NEXT_PORT);
	}
	return bind_and_connect(a, true);
}

/*
 * A tuple that no socket seems to have. @needed: there is no other way than explicit bind, so where
 * it cannot be found out the socket itself has to try.
 */
static struct result bind_absent(struct attempt *a, bool needed)
{
	enum timewait answer = ask(a);

	if (answer == TIMEWAIT_REUSABLE && is_left_in_a_child(a))
		answer = TIMEWAIT_REFUSED;
	if (answer == TIMEWAIT_REUSABLE || (answer == TIMEWAIT_UNKNOWN && needed))
		return bind_and_connect(a, false);
	return strangers(a);
}

static struct result try_explicit(struct attempt *a)
{
	int state = diag_tuple(&a->from.lane, a->held.lport);

	if (state == DIAG_TIMEWAIT)
		return reuse_timewait(a);
	if (state == DIAG_HELD || state == DIAG_ORPHAN)
		return strangers(a);
	return bind_absent(a, true);
}

void tcp_allow_even(const struct attempt *a)
{
	aside_put(&a->engine->even_allowed, foresee_hash(a), EVEN_SECONDS);
}

static bool even_allowed(const struct attempt *a)
{
	return aside_has(&a->engine->even_allowed, foresee_hash(a));
}

/* Late bind goes on where explicit bind is forbidden. */
static struct result unless_forbidden(const struct attempt *a, struct result r)
{
	return r.tried == TRIED_GIVE_UP && tuple_bind_forbidden(a) ? result_of(TRIED_NEXT_PORT) : r;
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
 * left takes them (addresses_reap()).
 */
static struct result late_refused(struct attempt *a, int state)
{
	bool even = even_allowed(a);

	/* What cannot be taken back is not for a tuple that is only guessed. */
	if ((a->held.lport % 2 != 0 || even) && !a->to.several && !tuple_bind_forbidden(a)) {
		if (state == DIAG_TIMEWAIT)
			return unless_forbidden(a, reuse_timewait(a));
		if (state == DIAG_ABSENT &&
			(even || state_has_flag(a->state, STATE_PUT_OFF) ||
				table_has_port(
					a->engine->table.header->explicit_ports, a->held.lport)))
			return unless_forbidden(a, bind_absent(a, false));
	}
	return strangers(a);
}

/*
 * A busy lane comes by its ports again while they are in TIME_WAIT. There the kernel is asked first
 * for a second, which saves a connect() in vain; then it is tried whether late bind may reuse them
 * by now (net.ipv4.tcp_tw_reuse).
 */
static struct result try_late(struct attempt *a)
{
	if (aside_has(&a->engine->timewait_met, a->from.lane_hash)) {
		int state = diag_tuple(&a->from.lane, a->held.lport);

		if (state == DIAG_TIMEWAIT)
			return late_refused(a, state);
	}
	int error = tuple_prepare_late(a, a->held.lport, a->held.lport);
	if (error < 0)
		return tuple_prepare_failed(a, error);
	error = tuple_call(a);
	if (error != EADDRNOTAVAIL) {
		if (attempt_kept(a, error))
			tcp_check(a);
		return tuple_finish(a, error, TUPLEBIND_LATE);
	}
	int state = diag_tuple(&a->from.lane, a->held.lport);
	if (state == DIAG_TIMEWAIT)
		aside_put(&a->engine->timewait_met, a->from.lane_hash, MET_SECONDS);
	return late_refused(a, state);
}

struct result tcp_try(struct attempt *a, enum stage stage)
{
	return stage == STAGE_LATE ? try_late(a) : try_explicit(a);
}
