#include "engine/tuple.h"

#include "base/probe.h"
#include "engine/undo.h"
#include "kernel/route.h"
#include "table/reap.h"

#include <errno.h>
#include <netinet/in.h>

static void end_flights(void *attempt)
{
	struct attempt *a = attempt;

	flight_end(a->held.flight);
	flight_end(a->held.leaving);
}

/* Step C4 of tests/model/claims.pml. */
int tuple_call(struct attempt *a)
{
	atomic_store_explicit(&a->state->takings, a->held.takings, memory_order_relaxed);
	state_set_claim(a->state, a->held.claim);
	/* claims.pml: C4 */
	return attempt_make_cancelled(a, end_flights);
}

void tuple_begin_flight(struct attempt *a)
{
	struct engine *e = a->engine;

	if (atomic_load_explicit(&e->token, memory_order_relaxed) == 0)
		a->call->front->enter(a->call);
	atomic_store_explicit(&e->has_claimed, 1, memory_order_relaxed);
	a->from.lane_hash = lane_hash_get(&e->lane_hashes, &e->table, &a->from.lane);
	/* claims.pml: C0 */
	a->held.takings = reap_takings(&e->table);
	a->held.flight =
		flight_begin(&e->table, atomic_load_explicit(&e->token, memory_order_relaxed));
}

void tuple_end_flight(struct attempt *a)
{
	flight_end(a->held.flight);
	a->held.flight = NULL;
}

void tuple_give_back(struct attempt *a)
{
	if (a->state != NULL)
		state_set_claim(a->state, CLAIM_NONE);
	/* Without a place in flight it may have been reaped meanwhile: it is looked into. */
	if (a->held.flight != NULL)
		claim_give_back(&a->engine->table, a->held.claim);
	else
		reap_claim(&a->engine->table, a->held.claim);
}

void tuple_keep_for_stranger(struct attempt *a)
{
	state_set_claim(a->state, CLAIM_NONE);
	process_strayed(&a->engine->table);
	a->held.strays++;
	table_count(&a->engine->table, TUPLEBIND_RETRIES);
	PROBE(retry, a->call->fd, &a->from.lane, a->held.lport);
	struct event e;
	if (event_begin(&e, LOG_DEBUG, "retry")) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "taken by somebody else");
		event_end(&e);
	}
}

/*
 * Whether the call failed for want of a route from this address of the pool, so that another one
 * may do. A destination that does not answer (a router says so, or nobody does) is not such a case,
 * though the error may be the same: the kernel is asked.
 */
static bool cannot_reach(const struct attempt *a, int error)
{
	bool may_be =
		error == ENETUNREACH || error == EHOSTUNREACH || error == EACCES || error == EINVAL;

	return may_be && attempt_has_pool(a) && route_check(&a->from.addr, &a->to.addr) < 0;
}

struct result tuple_done(struct attempt *a, int error, enum tuplebind_counter way)
{
	a->from.unreachable = cannot_reach(a, error);
	/* After an explicit bind the address cannot be changed: the program is told. */
	if (a->from.unreachable && way == TUPLEBIND_LATE) {
		a->options.prepared = false;
		return (struct result){TRIED_UNREACHABLE, error};
	}
	a->became = BECAME_GIVEN;
	table_count(&a->engine->table, TUPLEBIND_BOUND);
	table_count(&a->engine->table, way);
	struct event e;
	if (event_begin(
		    &e, LOG_DEBUG, error == 0 || attempt_kept(a, error) ? "connected" : "failed")) {
		attempt_describe(&e, a);
		event_text(&e, "bind", way == TUPLEBIND_LATE ? "late" : "explicit");
		event_error(&e, error);
		event_end(&e);
	}
	return (struct result){TRIED_DONE, error};
}

struct result tuple_finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (!state_holds(a->state, a->held.claim)) {
		/* Closed by another thread meanwhile. The kernel has let go of the socket now. */
		tuple_end_flight(a);
		reap_claim(&a->engine->table, a->held.claim);
	} else if (!attempt_kept(a, error)) {
		/* Refused, timed out, no route: the socket holds its tuple no more. */
		undo_tuple(a->state, a->call->fd, &a->engine->table, a->held.flight != NULL);
	} else {
		atomic_store_explicit(&a->state->stale_port, 0, memory_order_relaxed);
		state_clear_flags(a->state, STATE_PUT_OFF);
	}
	return tuple_done(a, error, way);
}

bool tuple_leaves_address(const struct attempt *a)
{
	return a->from.automatic && !a->socket->address_given;
}

/* bind() to the address and @port, 0: none yet. 0 or -errno. */
static int bind_to(struct attempt *a, uint16_t port)
{
	bool on = state_has_flag(a->state, STATE_FREEBIND);

	if (tuple_leaves_address(a))
		return sock_bind_any(a->call->fd, a->socket->family, port);
	/* The program's own choice stays. */
	if (a->from.freebind && !on && !sock_binds_freely(a->call->fd)) {
		sock_freebind(a->call->fd, true);
		state_set_flag(a->state, STATE_FREEBIND);
	} else if (!a->from.freebind && on) {
		sock_freebind(a->call->fd, false);
		state_clear_flags(a->state, STATE_FREEBIND);
	}
	int error = sock_bind(a->call->fd, a->socket->family, &a->from.addr, port);
	if (error == 0)
		state_set_flag(a->state, STATE_BOUND);
	return error;
}

int tuple_bind_address(struct attempt *a)
{
	if (tuple_leaves_address(a))
		return undo_address(a->state, a->call->fd);
	/*
	 * To an IPv6 address bind() makes the socket one for IPv6 only, which the program has not
	 * asked for: a UDP socket may be connected to a v4-mapped address next.
	 */
	bool for_both = a->socket->family == AF_INET6 && !addr_is_v4(&a->from.addr) &&
			!sock_is_v6only(a->call->fd);
	int error = bind_to(a, 0);

	if (error == 0 && for_both)
		sock_allow_mapped(a->call->fd);
	/* No port was asked for: another one would not help. */
	return error == -EADDRINUSE ? -EPERM : error;
}

static bool has_address(const struct attempt *a)
{
	struct addr laddr;
	uint16_t port;

	return sock_local(a->call->fd, &laddr, &port) == 0 && addr_equal(&laddr, &a->from.addr);
}

/*
 * After a bind() that failed the socket may have no address (sock_bind()). One of a pool is bound
 * again when it is needed; the program's is bound again now, and looked for.
 */
static void recover_address(struct attempt *a)
{
	a->from.bound = false;
	if (!a->socket->address_given || has_address(a))
		return;
	sock_bind_takes_no_port(a->call->fd, true);
	bind_to(a, 0);
	a->from.lost = !has_address(a);
}

int tuple_bind_port(struct attempt *a, uint16_t port)
{
	int error = bind_to(a, port);

	if (error < 0)
		recover_address(a);
	return error;
}

#define FORBIDDEN_SECONDS 60 /* then bind() is tried again */

/* More ports that are refused one by one, where an address without a port is not: they all are. */
#define REFUSED_MOST 8

/* Below it the kernel refuses ports to those without CAP_NET_BIND_SERVICE, by default. */
#define PRIVILEGED_PORTS 1024

bool tuple_bind_forbidden(const struct attempt *a)
{
	return aside_now() <
	       atomic_load_explicit(&a->engine->bind_forbidden_until, memory_order_relaxed);
}

static void note_forbidden(const struct attempt *a, int error)
{
	static struct event_limit limit;
	struct event e;

	atomic_store_explicit(&a->engine->bind_forbidden_until, aside_now() + FORBIDDEN_SECONDS,
		memory_order_relaxed);
	if (event_begin_limited(&e, LOG_WARN, "bind-forbidden", &limit)) {
		attempt_describe(&e, a);
		event_error(&e, -error);
		event_text(&e, "reason",
			"a policy forbids bind(): seccomp, SELinux, Landlock or a control group");
		event_text(&e, "then", "only what needs no bind()");
		event_text(&e, "fix", "allow bind()");
		event_end(&e);
	}
}

struct result tuple_prepare_failed(struct attempt *a, int error)
{
	tuple_give_back(a);
	switch (error) {
	case -EADDRNOTAVAIL:
		return result_of(TRIED_NEXT_ADDRESS);
	case -ENOPROTOOPT:
		return result_of(TRIED_NO_LATE);
	case -EACCES:
	case -EPERM:
		note_forbidden(a, error);
		return result_of(TRIED_GIVE_UP);
	default:
		return result_of(TRIED_GIVE_UP);
	}
}

/*
 * Whether this port alone was refused, not bind() as such: then the address can still be bound
 * without a port.
 */
static bool is_port_refused(struct attempt *a)
{
	if (a->held.lport < PRIVILEGED_PORTS)
		return true;
	if (++a->from.refused > REFUSED_MOST || sock_bind_takes_no_port(a->call->fd, true) < 0)
		return false;
	return bind_to(a, 0) == 0;
}

struct result tuple_bind_failed(struct attempt *a, int error)
{
	if (a->from.lost) {
		tuple_give_back(a);
		return result_of(TRIED_LOST);
	}
	switch (error) {
	case -EADDRINUSE: /* a listener, or a socket without SO_REUSEADDR */
		tuple_keep_for_stranger(a);
		return result_of(TRIED_NEXT_PORT);
	case -EACCES: /* a privileged port, or a policy */
	case -EPERM:
		if (is_port_refused(a)) {
			tuple_keep_for_stranger(a);
			return result_of(TRIED_NEXT_PORT);
		}
		break;
	default:
		break;
	}
	return tuple_prepare_failed(a, error);
}

int tuple_prepare_late(struct attempt *a, uint16_t first, uint16_t last)
{
	bool leave_address = tuple_leaves_address(a);
	int error = 0;

	state_set_flag(a->state, STATE_TOUCHED);
	if (!a->options.prepared) {
		/* How long a UDP socket shares its port is udp.c's to decide. */
		if (a->socket->protocol == IPPROTO_TCP)
			error = sock_reuse_address(a->call->fd, true);
		if (error == 0 && !leave_address)
			error = sock_bind_takes_no_port(a->call->fd, true);
		a->options.prepared = error == 0;
	}
	if (error == 0)
		error = sock_narrow_ports(a->call->fd, first, last);
	if (error == 0 && !a->from.bound && !a->socket->address_given)
		error = tuple_bind_address(a);
	a->from.bound |= error == 0;
	return error;
}

void tuple_set_lane(struct attempt *a)
{
	a->from.lane = slab_lane(
		a->socket->protocol, &a->from.addr, &a->to.addr, a->to.port, a->socket->device);
}

/*
 * The first touch of this socket comes with a state for it, which says what was the program's. No
 * room for one: it cannot be served.
 */
bool tuple_note_touch(struct attempt *a)
{
	if (a->state == NULL)
		a->state = a->call->front->state(a->call);
	if (a->state == NULL || state_has_flag(a->state, STATE_TOUCHED))
		return a->state != NULL;
	/* A duplicate of a socket that was not seen made comes with a state that does not know. */
	a->state->kind = a->socket->kind;
	state_clear_flags(a->state, STATE_ADDRESS | STATE_REUSE | STATE_NO_PORT);
	if (a->socket->address_given)
		state_set_flag(a->state, STATE_ADDRESS);
	if (a->socket->protocol == IPPROTO_UDP) {
		a->options.alone = a->socket->untouched || !sock_reuses_address(a->call->fd);
		if (!a->options.alone)
			state_set_flag(a->state, STATE_REUSE);
	}
	if (!a->socket->untouched && sock_asks_no_port(a->call->fd) == 1)
		state_set_flag(a->state, STATE_NO_PORT);
	return true;
}
