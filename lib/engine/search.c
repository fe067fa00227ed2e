#include "engine/search.h"

#include "base/random.h"
#include "engine/tcp.h"
#include "engine/tuple.h"
#include "engine/udp.h"
#include "engine/undo.h"

#include <errno.h>
#include <netinet/in.h>

#define WINDOW	      512
#define TCP_RUNS_MOST 4096
#define UDP_RUNS_MOST 64
#define BINDS_MOST    64

/* Ports from @first to @last, all of a set, and neither one less nor one more is. */
struct run {
	unsigned first, last;
};

/* The first port at or behind @port that is, or is not, among those for late bind; 65536: none. */
static unsigned find_port(const struct portorder *o, unsigned port, bool allowed)
{
	while (port <= UINT16_MAX) {
		uint64_t word = portorder_word(o, STAGE_LATE, port / 64);
		uint64_t rest = (allowed ? word : ~word) >> (port % 64);

		if (rest != 0)
			return port + (unsigned)__builtin_ctzll(rest);
		port += 64 - port % 64;
	}
	return UINT16_MAX + 1;
}

/* The first run at or behind *from; false when there is none. *from: where to look for the next. */
static bool next_run(const struct portorder *o, unsigned *from, struct run *run)
{
	run->first = find_port(o, *from, true);
	if (run->first > UINT16_MAX)
		return false;
	*from = find_port(o, run->first, false);
	run->last = *from - 1;
	return true;
}

/* 0, or errno of the call; -errno when the socket could not be prepared. */
static int call_within(struct attempt *a, unsigned first, unsigned last)
{
	int error = tuple_prepare_late(a, (uint16_t)first, (uint16_t)last);

	if (error < 0)
		return error;
	return a->socket->protocol == IPPROTO_UDP ? udp_search(a) : tuple_call(a);
}

static int call_in_run(struct attempt *a, const struct run *run)
{
	uint64_t random;

	if (run->last - run->first > 4 * WINDOW) {
		random_bytes(&random, sizeof random);
		unsigned first =
			run->first + (unsigned)(random % (run->last - run->first - WINDOW));
		int error = call_within(a, first, first + WINDOW - 1);

		if (!search_found_nothing(a, error))
			return error;
	}
	return call_within(a, run->first, run->last);
}

/* Without the option: the kernel's range, whatever that is. */
static int call_anywhere(struct attempt *a)
{
	state_set_flag(a->state, STATE_TOUCHED);
	int error = a->socket->address_given ? 0 : sock_bind_takes_no_port(a->call->fd, true);
	if (error == 0 && !a->socket->address_given)
		error = tuple_bind_address(a);
	if (error < 0)
		return error;
	return a->socket->protocol == IPPROTO_UDP ? udp_search(a) : tuple_call(a);
}

/* Binds a port that no other socket has, drawn from the rule's. 0, or -errno: -EADDRINUSE: none. */
static int bind_alone(struct attempt *a)
{
	const struct portorder *order = &a->socket->rule->ports->order;
	int error = -EADDRINUSE;
	uint64_t random;

	for (int i = 0; i < BINDS_MOST && error == -EADDRINUSE && !a->from.lost; i++) {
		random_bytes(&random, sizeof random);
		a->held.lport = portorder_random(
			order, i < BINDS_MOST / 2 ? STAGE_ODD : STAGE_EVEN, random);
		if (a->held.lport != 0 && !listeners_has(&a->engine->listeners, a->held.lport))
			error = tuple_bind_port(a, a->held.lport);
	}
	return error;
}

/*
 * Without the option, and among certain ports: by a bind that shares with nobody. What is bound so
 * is free whatever the destination comes to. (When nearly all ports are in use for something this
 * finds none, though a tuple may be free.)
 */
static int call_alone(struct attempt *a)
{
	if (tuple_bind_forbidden(a))
		return EADDRNOTAVAIL;
	state_set_flag(a->state, STATE_TOUCHED);
	int error = sock_reuse_address(a->call->fd, false);
	if (error == 0)
		error = bind_alone(a);
	/* Bound or not: other destinations' sockets share the port from now on. */
	sock_reuse_address(a->call->fd, true);
	if (error < 0) {
		a->held.lport = 0;
		return error == -EADDRINUSE && !a->from.lost ? EADDRNOTAVAIL : error;
	}
	state_set_flag(a->state, STATE_EXPLICIT);
	table_note_port(a->engine->table.header->explicit_ports, a->held.lport);
	return tuple_call(a);
}

bool search_may_be_anywhere(const struct attempt *a)
{
	const struct ports *wanted = &a->socket->rule->ports->wanted;

	return wanted->automatic && wanted->parts == 1;
}

/*
 * From a random port on, since a part (auto/8:3) has as many runs as ports, and not all are tried:
 * to be told that one is taken costs 3 us, and a millisecond for UDP.
 */
static int call_in_ports(struct attempt *a)
{
	const struct portorder *order = &a->socket->rule->ports->order;
	int error = attempt_no_port(a);
	unsigned runs = a->socket->protocol == IPPROTO_UDP ? UDP_RUNS_MOST : TCP_RUNS_MOST;
	bool wrapped = false;
	uint64_t random;
	struct run run;

	if (!plan_has_late(&a->engine->plan))
		return search_may_be_anywhere(a)	    ? call_anywhere(a)
		       : a->socket->protocol == IPPROTO_TCP ? call_alone(a)
							    : error;
	random_bytes(&random, sizeof random);
	unsigned start = portorder_random(order, STAGE_LATE, random), from = start;
	while (search_found_nothing(a, error) && runs > 0) {
		if (next_run(order, &from, &run) && !(wrapped && run.first >= start)) {
			error = call_in_run(a, &run);
			runs--;
		} else if (wrapped) {
			break;
		} else {
			wrapped = true;
			from = 0;
		}
	}
	return error;
}

/* The kernel has given the socket a tuple: the table is to know. */
static void settle(struct attempt *a, int error)
{
	if (error != 0 && !attempt_kept(a, error))
		return;
	a->held.lport = 0;
	if (a->socket->protocol == IPPROTO_TCP)
		tcp_check(a);
}

/* What is left to the kernel is counted already, and has no claim. */
static void finish(struct attempt *a, int error)
{
	bool explicit = state_has_flag(a->state, STATE_EXPLICIT);

	if (a->became != BECAME_PASSED)
		tuple_finish(a, error, explicit ? TUPLEBIND_EXPLICIT : TUPLEBIND_LATE);
	else if (!attempt_kept(a, error))
		undo_tuple(a->state, a->call->fd, &a->engine->table, a->held.flight != NULL);
}

static int search_ports(struct attempt *a)
{
	a->held.claim = CLAIM_NONE;
	a->held.lport = 0;
	tuple_set_lane(a);
	tuple_begin_flight(a);
	int error = call_in_ports(a);
	if (error >= 0 && !search_found_nothing(a, error)) {
		if (a->became != BECAME_PASSED)
			settle(a, error);
		finish(a, error);
	}
	tuple_end_flight(a);
	return error;
}

/* The program's own options stay as they are: it may have set a range itself. */
static int search_freely(struct attempt *a)
{
	if (!a->socket->address_given) {
		/* Where that is refused bind() takes a port as well: one that no other socket has.
		 */
		sock_bind_takes_no_port(a->call->fd, true);
		int error = tuple_bind_address(a);
		sock_bind_takes_no_port(a->call->fd, state_has_flag(a->state, STATE_NO_PORT));
		if (error < 0)
			return error;
	}
	int error = attempt_make(a);
	attempt_note_stale_port(a, error);
	return error;
}

int search_address(struct attempt *a, enum search how)
{
	a->options.prepared = false;
	a->from.bound = false;
	if (!tuple_note_touch(a))
		return -ENOMEM;
	return how == SEARCH_PORTS ? search_ports(a) : search_freely(a);
}
