#include "engine/again.h"

#include "engine/foresee.h"
#include "engine/leave.h"
#include "engine/tcp.h"
#include "engine/tuple.h"
#include "engine/udp.h"
#include "engine/undo.h"

#include <errno.h>
#include <netinet/in.h>

int again_tcp(struct attempt *a)
{
	claim held = state_claim(a->state);
	int error = attempt_make(a);

	if (!attempt_kept(a, error) && state_holds(a->state, held))
		undo_tuple(a->state, a->call->fd, &a->engine->table, false);
	return error;
}

int again_unspecified(struct attempt *a)
{
	struct state *s = a->state;
	int error = attempt_make(a);

	if (error == 0 && s != NULL) {
		undo_tuple(s, a->call->fd, &a->engine->table, false);
		/* A UDP socket that is sent from now is bound by the kernel, from all ports. */
		if (engine_serves(a->engine, a->socket->kind) &&
			sock_kind_protocol(a->socket->kind) == IPPROTO_UDP)
			undo_all(s, a->call->fd);
	}
	return error;
}

static const char keeps_address[] = "the socket keeps the address of an earlier connect()";

/* Whether the address that the socket keeps is one that this destination may be reached from. */
static bool has_right_address(const struct attempt *a)
{
	const struct pool *pool = &a->socket->rule->pool;

	if (state_has_flag(a->state, STATE_ADDRESS))
		return true;
	if (pool_serves(pool, &a->to.addr))
		return pool_has(pool, &a->to.addr, &a->from.addr);
	return !state_has_flag(a->state, STATE_BOUND);
}

int again_udp(struct attempt *a)
{
	claim old = state_claim(a->state);
	bool explicit = state_has_flag(a->state, STATE_EXPLICIT);
	bool taken = false;

	if (addr_is_any(&a->to.addr) ||
		sock_local(a->call->fd, &a->from.addr, &a->held.lport) < 0 || a->held.lport == 0)
		return udp_leave(a);
	bool right = has_right_address(a);
	if (!right && explicit) {
		int error = refuse_unusable(a, keeps_address);

		if (error != 0)
			return error;
	}
	foresee(a);
	if (right || explicit) {
		int error = udp_connect_with_port(a, old, &taken);

		if (!taken || explicit)
			return error;
	}
	/* Another port, then, as for a socket that is new. */
	sock_disconnect(a->call->fd);
	undo_tuple(a->state, a->call->fd, &a->engine->table, false);
	undo_all(a->state, a->call->fd);
	return -EAGAIN;
}

/* The claim of the port that the socket has, from the address that it has or is likely to have. */
static int connect_with_port(struct attempt *a)
{
	bool udp = a->socket->protocol == IPPROTO_UDP;
	int got = claim_take_port(&a->engine->table, &a->from.lane, a->held.lport,
		flight_what(a->held.flight), &a->held.claim);
	bool theirs = got == -EADDRNOTAVAIL;

	if (got == 0 && udp && udp_taken(a)) {
		tuple_keep_for_stranger(a);
		theirs = true;
	}
	/* Of two TCP sockets the kernel refuses the second; a UDP socket would go deaf. */
	if (theirs && udp) {
		a->became = BECAME_REFUSED;
		return EADDRNOTAVAIL;
	}
	if (got < 0) {
		/* It may take minutes, and nothing is in flight. */
		tuple_end_flight(a);
		return attempt_make(a);
	}
	int error = tuple_call(a);
	if (!udp && attempt_kept(a, error))
		tcp_check(a);
	tuple_finish(a, error, TUPLEBIND_EXPLICIT);
	return error;
}

int again_bound(struct attempt *a)
{
	const struct pool *pool = &a->socket->rule->pool;
	struct source_walk walk;
	/* It may be none of the addresses that this destination is to be reached from. */
	bool right = a->socket->address_given ||
		     (pool_serves(pool, &a->to.addr) ? pool_has(pool, &a->to.addr, &a->from.addr)
						     : addr_is_any(&a->from.addr));
	int error = right ? 0 : refuse_unusable(a, keeps_address);

	if (error != 0)
		return error;
	foresee(a);
	if (a->socket->protocol == IPPROTO_UDP)
		udp_foresee(a);
	/* Where the kernel chooses the address, the one it is likely to choose. */
	if (addr_is_any(&a->from.addr)) {
		a->from.automatic = true;
		source_walk_start(&walk, &a->engine->sources, a->socket->rule,
			a->engine->plan.balance, &a->to.addr, a->socket->protocol, a->to.port);
		if (!source_walk_next(&walk, &a->from.addr))
			return attempt_make(a);
	}
	tuple_set_lane(a);
	tuple_begin_flight(a);
	error = connect_with_port(a);
	tuple_end_flight(a);
	return error;
}
