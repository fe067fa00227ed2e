/*
 * Giving a socket a tuple of an address: the steps that TCP (stream.c) and UDP (datagram.c) share.
 *
 * A claim is taken first; nothing is done to the socket before. A tuple that the kernel
 * refuses stays claimed (somebody has it; reap finds out when that ends) and the next one
 * is tried. The claim is in the book before the kernel sees the tuple, so that a thread
 * cancelled in connect() leaks nothing.
 */
#include "interpose/attempt.h"

#include "kernel/route.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <unistd.h>

void attempt_describe(struct event *e, const struct attempt *a)
{
	event_number(e, "fd", (uint64_t)a->fd);
	event_text(e, "protocol", a->protocol == IPPROTO_UDP ? "udp" : "tcp");
	if (a->lport != 0)
		event_endpoint(e, "local", &a->laddr, a->lport);
	event_endpoint(e, "foreign", &a->faddr, a->fport);
}

bool attempt_kept(const struct attempt *a, int error)
{
	switch (error) {
	case 0:
	case EINPROGRESS:
	case EINTR:
	case EALREADY:
	case EISCONN:
	case EAGAIN:
		return true;
	default:
		/* A send may fail for reasons of its own (EFAULT, EPIPE, ENOBUFS). */
		return a->send != NULL && error != EADDRNOTAVAIL && !sock_is_closed(a->fd);
	}
}

static void landed(void *attempt)
{
	struct attempt *a = attempt;

	flight_end(a->flight);
	flight_end(a->leaving);
}

/*
 * Makes the program's call (step C4 of tests/model/claims.pml); returns 0 or its errno. The thread
 * may be cancelled in there: what runs then is landed(), and the book knows of the claim already.
 */
int tuple_call_with_claim(struct attempt *a)
{
	int error;

	atomic_store_explicit(&a->record->takings, a->takings, memory_order_relaxed);
	book_set_claim(a->record, a->claim);
	pthread_cleanup_push(landed, a);
	/* claims.pml: C4 */
	error = attempt_call(a) < 0 ? errno : 0;
	pthread_cleanup_pop(0);
	return error;
}

/* A forked child is entered among the processes when it first connects. */
static void enter_process(void)
{
	if (atomic_load_explicit(&library.token, memory_order_relaxed) != 0)
		return;
	if (library.self.entry == NULL)
		process_enter(&library.table, &library.self);
	atomic_store_explicit(&library.token, process_token(getpid()), memory_order_relaxed);
}

void tuple_take_off(struct attempt *a)
{
	enter_process();
	atomic_store_explicit(&library.has_claimed, 1, memory_order_relaxed);
	a->lane_hash = lane_hash_get(&library.lane_hashes, &library.table, &a->lane);
	/* claims.pml: C0 */
	a->takings = reap_takings(&library.table);
	a->flight = flight_begin(
		&library.table, atomic_load_explicit(&library.token, memory_order_relaxed));
}

/* Who found no place to fly from cannot tell whether the claim was reaped: it is looked into. */
static void give_back(const struct attempt *a)
{
	if (a->flight != NULL)
		claim_give_back(&library.table, a->claim);
	else
		reap_claim(&library.table, a->claim);
}

void tuple_give_back(struct attempt *a)
{
	book_set_claim(a->record, CLAIM_NONE);
	give_back(a);
}

void tuple_keep_for_stranger(struct attempt *a)
{
	book_set_claim(a->record, CLAIM_NONE);
	process_strayed(&library.table);
	a->strays++;
	table_count(&library.table, TUPLEBIND_RETRIES);
	PROBE(retry, a->fd, &a->lane, a->lport);
	struct event e;
	if (event_begin(&e, LOG_DEBUG, "retry")) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "taken by somebody else");
		event_end(&e);
	}
}

void tuple_lost(struct record *r, int fd, const struct tuplebind_flight *flight)
{
	struct addr unused;
	uint16_t port;

	/* claims.pml: C6 */
	if (flight != NULL)
		book_give_back(&library.table, r);
	else
		book_give_back_ended(&library.table, r);
	if (book_has_flag(r, RECORD_TOUCHED))
		sock_narrow_ports(fd, 0, 0);
	if (sock_local(fd, &unused, &port) == 0)
		atomic_store_explicit(&r->stale_port, port, memory_order_relaxed);
}

int tuple_clear_address(struct record *r, int fd)
{
	if (r == NULL || !book_has_flag(r, RECORD_BOUND) || book_has_flag(r, RECORD_ADDRESS))
		return 0;
	int error = sock_bind_takes_no_port(fd, true);
	if (error < 0)
		return error;
	error = sock_bind_any(fd, sock_kind_family(r->kind), 0);
	sock_bind_takes_no_port(fd, book_has_flag(r, RECORD_NO_PORT));
	return error;
}

void tuple_restore(struct record *r, int fd)
{
	if (r == NULL)
		return;
	if (book_has_flag(r, RECORD_TOUCHED))
		sock_narrow_ports(fd, 0, 0);
	if (book_has_flag(r, RECORD_FREEBIND))
		sock_freebind(fd, false);
	tuple_clear_address(r, fd);
	if (book_has_flag(r, RECORD_TOUCHED) && sock_kind_protocol(r->kind) == IPPROTO_UDP) {
		sock_reuse_port(fd, false);
		sock_reuse_address(fd, book_has_flag(r, RECORD_REUSE));
	}
	if (book_has_flag(r, RECORD_TOUCHED))
		sock_bind_takes_no_port(fd, book_has_flag(r, RECORD_NO_PORT));
	book_clear_flags(r, RECORD_TOUCHED | RECORD_FREEBIND);
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

	return may_be && !a->address_given && pool_serves(&a->rule->pool, &a->faddr) &&
	       route_check(&a->laddr, &a->faddr) < 0;
}

enum tried tuple_done(struct attempt *a, int error, enum tuplebind_counter way)
{
	a->unreachable = cannot_reach(a, error);
	/* After an explicit bind the address cannot be changed: the program is told. */
	if (a->unreachable && way == TUPLEBIND_LATE) {
		a->prepared = false;
		errno = error;
		return TRIED_UNREACHABLE;
	}
	table_count(&library.table, TUPLEBIND_BOUND);
	table_count(&library.table, way);
	struct event e;
	if (event_begin(
		    &e, LOG_DEBUG, error == 0 || attempt_kept(a, error) ? "connected" : "failed")) {
		attempt_describe(&e, a);
		event_text(&e, "bind", way == TUPLEBIND_LATE ? "late" : "explicit");
		event_error(&e, error);
		event_end(&e);
	}
	errno = error;
	return TRIED_DONE;
}

enum tried tuple_finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (!book_holds(a->record, a->claim)) {
		/* Closed by another thread meanwhile. The kernel has let go of the socket now. */
		flight_end(a->flight);
		a->flight = NULL;
		reap_claim(&library.table, a->claim);
	} else if (!attempt_kept(a, error)) {
		/* Refused, timed out, no route: the socket holds its tuple no more. */
		tuple_lost(a->record, a->fd, a->flight);
	} else {
		atomic_store_explicit(&a->record->stale_port, 0, memory_order_relaxed);
		book_clear_flags(a->record, RECORD_PUT_OFF);
	}
	return tuple_done(a, error, way);
}

bool tuple_leaves_address(const struct attempt *a)
{
	return a->automatic && !a->address_given;
}

/* bind() to the address and @port, 0: none yet. 0 or -errno. */
static int bind_to(struct attempt *a, uint16_t port)
{
	bool on = book_has_flag(a->record, RECORD_FREEBIND);

	if (tuple_leaves_address(a))
		return sock_bind_any(a->fd, a->family, port);
	/* The program's own choice stays. */
	if (a->freebind && !on && !sock_binds_freely(a->fd)) {
		sock_freebind(a->fd, true);
		book_set_flag(a->record, RECORD_FREEBIND);
	} else if (!a->freebind && on) {
		sock_freebind(a->fd, false);
		book_clear_flags(a->record, RECORD_FREEBIND);
	}
	int error = sock_bind(a->fd, a->family, &a->laddr, port);
	if (error == 0)
		book_set_flag(a->record, RECORD_BOUND);
	return error;
}

int tuple_bind_address(struct attempt *a)
{
	if (tuple_leaves_address(a))
		return tuple_clear_address(a->record, a->fd);
	/*
	 * To an IPv6 address bind() makes the socket one for IPv6 only, which the program has not
	 * asked for: a UDP socket may be connected to a v4-mapped address next.
	 */
	bool for_both = a->family == AF_INET6 && !addr_is_v4(&a->laddr) && !sock_is_v6only(a->fd);
	int error = bind_to(a, 0);

	if (error == 0 && for_both)
		sock_allow_mapped(a->fd);
	/* No port was asked for: another one would not help. */
	return error == -EADDRINUSE ? -EPERM : error;
}

static bool has_address(const struct attempt *a)
{
	struct addr laddr;
	uint16_t port;

	return sock_local(a->fd, &laddr, &port) == 0 && addr_equal(&laddr, &a->laddr);
}

/*
 * After a bind() that failed the socket may have no address (sock_bind()). One of a pool is bound
 * again when it is needed; the program's is bound again now, and looked for.
 */
static void recover_address(struct attempt *a)
{
	a->address_bound = false;
	if (!a->address_given || has_address(a))
		return;
	sock_bind_takes_no_port(a->fd, true);
	bind_to(a, 0);
	a->address_lost = !has_address(a);
}

int tuple_bind_port(struct attempt *a, uint16_t port)
{
	int error = bind_to(a, port);

	if (error < 0)
		recover_address(a);
	return error;
}

/* When a policy has refused bind(), until it is tried again: a second of CLOCK_MONOTONIC. */
static _Atomic uint64_t forbidden_until;

#define FORBIDDEN_SECONDS 60

/* More ports that are refused one by one, where an address without a port is not: they all are. */
#define REFUSED_MOST 8

/* Below it the kernel refuses ports to those without CAP_NET_BIND_SERVICE, by default. */
#define PRIVILEGED_PORTS 1024

bool attempt_bind_forbidden(void)
{
	return aside_now() < atomic_load_explicit(&forbidden_until, memory_order_relaxed);
}

static void note_forbidden(const struct attempt *a, int error)
{
	static struct event_limit limit;
	struct event e;

	atomic_store_explicit(
		&forbidden_until, aside_now() + FORBIDDEN_SECONDS, memory_order_relaxed);
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

enum tried tuple_prepare_failed(struct attempt *a, int error)
{
	tuple_give_back(a);
	switch (error) {
	case -EADDRNOTAVAIL:
		return TRIED_NEXT_ADDRESS;
	case -ENOPROTOOPT:
		return TRIED_NO_LATE;
	case -EACCES:
	case -EPERM:
		note_forbidden(a, error);
		return TRIED_GIVE_UP;
	default:
		return TRIED_GIVE_UP;
	}
}

/*
 * Whether this port alone was refused, not bind() as such: then the address can still be bound
 * without a port.
 */
static bool is_port_refused(struct attempt *a)
{
	if (a->lport < PRIVILEGED_PORTS)
		return true;
	if (++a->refused > REFUSED_MOST || sock_bind_takes_no_port(a->fd, true) < 0)
		return false;
	return bind_to(a, 0) == 0;
}

enum tried tuple_bind_failed(struct attempt *a, int error)
{
	if (a->address_lost) {
		tuple_give_back(a);
		return TRIED_LOST;
	}
	switch (error) {
	case -EADDRINUSE: /* a listener, or a socket without SO_REUSEADDR */
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	case -EACCES: /* a privileged port, or a policy */
	case -EPERM:
		if (is_port_refused(a)) {
			tuple_keep_for_stranger(a);
			return TRIED_NEXT_PORT;
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

	book_set_flag(a->record, RECORD_TOUCHED);
	if (!a->prepared) {
		/* How long a UDP socket shares its port is datagram.c's to decide. */
		if (a->protocol == IPPROTO_TCP)
			error = sock_reuse_address(a->fd, true);
		if (error == 0 && !leave_address)
			error = sock_bind_takes_no_port(a->fd, true);
		a->prepared = error == 0;
	}
	if (error == 0)
		error = sock_narrow_ports(a->fd, first, last);
	if (error == 0 && !a->address_bound && !a->address_given)
		error = tuple_bind_address(a);
	a->address_bound |= error == 0;
	return error;
}

void tuple_set_lane(struct attempt *a)
{
	a->lane = slab_lane(a->protocol, &a->laddr, &a->faddr, a->fport, a->device);
}

/* A socket connected to its own address and port would talk to itself. */
static uint16_t port_to_avoid(const struct attempt *a)
{
	return addr_equal(&a->laddr, &a->faddr) ? a->fport : 0;
}

/*
 * The first touch of this socket comes with a record for it, which says what was the program's. No
 * room for one: it cannot be served.
 */
bool tuple_note_touch(struct attempt *a)
{
	if (a->record == NULL)
		a->record = book_record(a->fd, a->kind);
	if (a->record == NULL || book_has_flag(a->record, RECORD_TOUCHED))
		return a->record != NULL;
	/* A duplicate of a socket that was not seen made comes with a record that does not know. */
	a->record->kind = a->kind;
	book_clear_flags(a->record, RECORD_ADDRESS | RECORD_REUSE | RECORD_NO_PORT);
	if (a->address_given)
		book_set_flag(a->record, RECORD_ADDRESS);
	if (a->protocol == IPPROTO_UDP) {
		a->alone = a->plain || !sock_reuses_address(a->fd);
		if (!a->alone)
			book_set_flag(a->record, RECORD_REUSE);
	}
	if (!a->plain && sock_asks_no_port(a->fd) == 1)
		book_set_flag(a->record, RECORD_NO_PORT);
	return true;
}

static enum tried try_tuple(struct attempt *a, enum stage stage)
{
	return a->protocol == IPPROTO_UDP ? datagram_try(a, stage) : stream_try(a, stage);
}

static enum tried try_tuples(struct attempt *a)
{
	bool table_full = false, forbidden = false;

	for (enum stage stage = STAGE_LATE; stage < STAGES; stage++) {
		if (stage != STAGE_LATE && attempt_bind_forbidden()) {
			forbidden |= portorder_has(&a->rule->ports->order, stage);
			continue;
		}
		/* Nothing waits in TIME_WAIT: UDP ports need not be slow to repeat. */
		if (a->protocol == IPPROTO_UDP)
			claim_walk_scatter(&library.table, &library.walk, a->lane_hash,
				&a->rule->ports->order, stage);
		for (;;) {
			int got = claim_take_announced(&library.table, &a->lane, a->lane_hash,
				&a->rule->ports->order, stage, &library.walk, port_to_avoid(a),
				flight_what(a->flight), &a->claim, &a->lport);

			if (got < 0) {
				table_full |= got == -ENOSPC;
				break;
			}
			PROBE(claim, a->fd, &a->lane, a->lport, a->claim);
			if (!tuple_note_touch(a)) {
				give_back(a);
				return TRIED_GIVE_UP;
			}
			enum tried tried = try_tuple(a, stage);
			if (tried != TRIED_NEXT_PORT)
				return tried;
		}
	}
	a->lport = 0;
	/* Without late bind nothing has been tried. */
	if (forbidden && !portorder_has(&a->rule->ports->order, STAGE_LATE))
		return TRIED_GIVE_UP;
	return table_full ? TRIED_TABLE_FULL : TRIED_FULL;
}

enum tried tuple_try_address(struct attempt *a)
{
	a->address_bound = false;
	tuple_set_lane(a);
	tuple_take_off(a);
	enum tried tried = try_tuples(a);
	int error = errno;
	flight_end(a->flight);
	errno = error;
	return tried;
}

int tuple_connect_bound(struct attempt *a)
{
	struct source_walk walk;

	attempt_foresee(a);
	if (a->protocol == IPPROTO_UDP)
		datagram_foresee(a);
	/* Where the kernel chooses the address, the one it is likely to choose. */
	if (addr_is_any(&a->laddr)) {
		a->automatic = true;
		source_walk_start(&walk, &library.sources, a->rule, library.plan.balance, &a->faddr,
			a->protocol, a->fport);
		if (!source_walk_next(&walk, &a->laddr))
			return attempt_call(a);
	}
	tuple_set_lane(a);
	tuple_take_off(a);
	int got = claim_take_port(
		&library.table, &a->lane, a->lport, flight_what(a->flight), &a->claim);
	bool theirs = got == -EADDRNOTAVAIL;
	if (got == 0 && a->protocol == IPPROTO_UDP && datagram_taken(a)) {
		tuple_keep_for_stranger(a);
		theirs = true;
	}
	/* Of two TCP sockets the kernel refuses the second; of two UDP sockets one would go deaf.
	 */
	if (theirs && a->protocol == IPPROTO_UDP) {
		flight_end(a->flight);
		errno = EADDRNOTAVAIL;
		return -1;
	}
	if (got < 0) {
		flight_end(a->flight);
		return attempt_call(a);
	}
	int error = tuple_call_with_claim(a);
	if (a->protocol == IPPROTO_TCP && attempt_kept(a, error))
		stream_check(a);
	tuple_finish(a, error, TUPLEBIND_EXPLICIT);
	flight_end(a->flight);
	errno = error;
	return error == 0 ? 0 : -1;
}
