/*
 * Giving a UDP socket one tuple.
 *
 * The kernel does not keep UDP tuples unique: two sockets with SO_REUSEADDR can have one, and the
 * older one goes deaf. So a port is taken in one of two ways:
 *
 * - alone: with SO_REUSEADDR off the kernel gives the port only when no other socket of this
 *   host's address has it, whatever its destination. Nothing needs to be looked at.
 * - shared: it has holders, others of ours with other destinations as a rule. Then the kernel is
 *   asked by sock_diag, before, who would receive a datagram of this tuple (nobody may), and after,
 *   whether it is this socket.
 *
 * Once connected, SO_REUSEADDR is on, so that others can share the port. With late bind the kernel
 * takes the port and connects in one call, and whatever arrived in between is thrown away
 * before the program can read it: nobody has been told of this tuple yet, so it was meant for
 * another one. A connected socket comes before one that is not (compute_score() of
 * net/ipv4/udp.c), so that no datagram of an existing flow can get here meanwhile.
 */
#include "interpose/attempt.h"

#include "kernel/diag.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define UNSHARED_SECONDS 5  /* then it may be different again */
#define UNUSABLE_SECONDS 60 /* then udp_diag may have been loaded */

static void tell_unusable(void)
{
	struct event e;

	if (event_begin(&e, LOG_WARN, "no-udp-diag")) {
		event_text(&e, "reason", "the kernel tells nothing of UDP sockets");
		event_text(&e, "then", "UDP is left to it");
		event_text(&e, "fix", "modprobe udp_diag");
		event_end(&e);
	}
}

bool datagram_usable(void)
{
	static _Atomic int known;      /* 1: yes, -1: no */
	static _Atomic uint64_t again; /* second in which it may be different */
	int usable = atomic_load_explicit(&known, memory_order_relaxed);

	if (usable == 0 ||
		(usable < 0 && aside_now() >= atomic_load_explicit(&again, memory_order_relaxed))) {
		atomic_store_explicit(&again, aside_now() + UNUSABLE_SECONDS, memory_order_relaxed);
		usable = diag_sees_udp() ? 1 : -1;
		if (usable < 0 && atomic_exchange_explicit(&known, -1, memory_order_relaxed) == 0)
			tell_unusable();
		atomic_store_explicit(&known, usable, memory_order_relaxed);
	}
	return usable > 0;
}

/* Who would receive a datagram of the tuple, by diag_query(); *own: it is this socket. */
static int ask_receiver(const struct attempt *a, bool *own)
{
	uint64_t cookie = 0;
	int fd = diag_open();

	*own = false;
	if (fd < 0)
		return fd;
	int state = diag_query_cookie(fd, &a->lane, a->lport, &cookie);
	diag_close(fd);
	*own = cookie != 0 && cookie == sock_cookie(a->fd);
	return state;
}

bool datagram_taken(const struct attempt *a)
{
	bool own;

	/* A socket that was bound explicitly before receives what comes to its port. */
	return ask_receiver(a, &own) != DIAG_ABSENT && !own;
}

/* After connecting: whether datagrams of the tuple arrive here, not at a stranger's socket. */
static bool is_heard(const struct attempt *a)
{
	bool own;

	return ask_receiver(a, &own) != DIAG_HELD || own;
}

/* SO_REUSEADDR off, or on: whether other sockets may have the port. */
static void keep_alone(struct attempt *a)
{
	if (!a->alone)
		sock_reuse_address(a->fd, false);
	a->alone = true;
}

static void share(struct attempt *a)
{
	sock_reuse_address(a->fd, true);
	a->alone = false;
}

/* The socket is connected, or nobody's: its end of the call. */
static enum tried finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (error == 0) {
		if (a->alone)
			share(a);
		sock_drain(a->fd);
	} else {
		/* It has a port, and would take other flows' datagrams. */
		sock_disconnect(a->fd);
		tuple_lost(a->record, a->fd, a->flight);
		tuple_restore(a->record, a->fd);
	}
	return tuple_done(a, error, way);
}

/* The kernel ignores a port outside ip_local_port_range: what it took is not the one claimed. */
static bool has_port(const struct attempt *a)
{
	struct addr unused;
	uint16_t port;

	return sock_local(a->fd, &unused, &port) == 0 && port == a->lport;
}

/* A port of an address, as a hash for a short memory. */
static uint64_t hash_port(const struct attempt *a)
{
	uint64_t words[3] = {0, 0, a->lport};

	memcpy(words, a->laddr.bytes, sizeof a->laddr.bytes);
	return hash_words(&library.sources.key, words, 3);
}

/* Shares the port. 0, or the errno of the call: EAGAIN when that cannot be. */
static int call_shared(struct attempt *a)
{
	/* Nobody can share it: to be told so once more would cost a millisecond again. */
	if (aside_has(&library.unshared, hash_port(a)) || datagram_taken(a))
		return EAGAIN;
	share(a);
	int error = tuple_call_with_claim(a);
	if (error == EAGAIN)
		aside_put(&library.unshared, hash_port(a), UNSHARED_SECONDS);
	if (error != 0 || is_heard(a))
		return error;
	sock_disconnect(a->fd);
	return EAGAIN;
}

/* Whether no other claim has the port, and no socket that the table does not know was met on it. */
static bool seems_free(const struct attempt *a)
{
	return claim_udp_count(&library.table, a->lport) <= 1 &&
	       !table_has_port(library.table.header->udp_strangers, a->lport);
}

/* Takes the port alone, unless it is known to have holders, or shares it. As call_shared(). */
static int call_late(struct attempt *a)
{
	int error = EAGAIN;

	if (seems_free(a)) {
		keep_alone(a);
		error = tuple_call_with_claim(a);
		if (error == EAGAIN && seems_free(a))
			table_note_port(library.table.header->udp_strangers, a->lport);
	}
	return error == EAGAIN ? call_shared(a) : error;
}

/*
 * Late bind. Where the port cannot be had the kernel answers EAGAIN (inet_autobind() of
 * net/ipv4/af_inet.c), after a walk through all of its UDP ports, for a millisecond
 * (udp_lib_get_port() of net/ipv4/udp.c): so it is not tried without need.
 */
static enum tried try_late(struct attempt *a)
{
	int error = tuple_prepare_late(a);

	if (error < 0)
		return tuple_bind_failed(a, error);
	error = call_late(a);
	if (error == EAGAIN) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	if (error == 0 && !has_port(a)) {
		sock_disconnect(a->fd);
		tuple_give_back(a);
		plan_set_ports(&library.plan);
		return TRIED_NEXT_PORT;
	}
	return finish(a, error, TUPLEBIND_LATE);
}

/* bind() to the port, alone or else shared; *shared says which. 0 or -errno. */
static int bind_port(struct attempt *a, bool *shared)
{
	keep_alone(a);
	int error = tuple_bind(a, a->lport);
	*shared = error == -EADDRINUSE;
	if (!*shared || datagram_taken(a))
		return error;
	share(a);
	return tuple_bind(a, a->lport);
}

/* Explicit bind: a socket once bound so cannot be moved to another port. */
static enum tried try_explicit(struct attempt *a)
{
	bool shared;

	book_set_flag(a->record, RECORD_TOUCHED);
	int error = bind_port(a, &shared);
	if (error < 0)
		return tuple_bind_failed(a, error);
	book_set_flag(a->record, RECORD_EXPLICIT);
	error = tuple_call_with_claim(a);
	/* A stranger came in between, within microseconds: better no connection than a deaf one. */
	if (error == 0 && shared && !is_heard(a))
		error = EADDRNOTAVAIL;
	return finish(a, error, TUPLEBIND_EXPLICIT);
}

enum tried datagram_try(struct attempt *a, enum stage stage)
{
	return stage == STAGE_LATE ? try_late(a) : try_explicit(a);
}

/* The call as it is; the socket has left its tuple if it has gone elsewhere. */
static int leave(struct attempt *a)
{
	int result = attempt_call(a);

	if (result == 0)
		book_give_back_ended(&library.table, a->record);
	return result;
}

/*
 * Connects with the port that the socket has, in the lane of its new destination. *taken: that
 * tuple is somebody else's, and nothing was done.
 */
static int keep_port(struct attempt *a, claim old, bool *taken)
{
	uint64_t token = atomic_load_explicit(&library.token, memory_order_relaxed);
	int got = claim_take_port(
		&library.table, &a->lane, a->lport, flight_what(a->flight), &a->claim);

	*taken = got == -EADDRNOTAVAIL;
	if (got == 0 && datagram_taken(a)) {
		process_strayed(&library.table);
		table_count(&library.table, TUPLEBIND_RETRIES);
		*taken = true;
	}
	if (*taken)
		return -1;
	if (got < 0) {
		table_count(&library.table, TUPLEBIND_TABLE_FULL);
		return leave(a);
	}
	/* As at close(): the kernel lets go of the old tuple before the claim is given back. */
	a->leaving = old != CLAIM_NONE ? flight_with(&library.table, token, old) : NULL;
	int error = tuple_call_with_claim(a);
	if (error != 0) {
		/* It is where it was. */
		tuple_give_back(a);
		book_set_claim(a->record, old);
	} else if (a->leaving != NULL) {
		claim_give_back(&library.table, old);
	} else if (old != CLAIM_NONE) {
		reap_claim(&library.table, old);
	}
	flight_end(a->leaving);
	a->leaving = NULL;
	tuple_done(a, error,
		book_has_flag(a->record, RECORD_EXPLICIT) ? TUPLEBIND_EXPLICIT : TUPLEBIND_LATE);
	return error == 0 ? 0 : -1;
}

int datagram_connect_again(struct attempt *a)
{
	claim old = atomic_load_explicit(&a->record->claim, memory_order_acquire);
	struct tuplebind_lane lane;
	enum tuplebind_counter unused;
	bool taken;

	if (!library_table_sound() || !attempt_destination_served(a, &unused) ||
		addr_is_any(&a->faddr) || sock_local(a->fd, &a->laddr, &a->lport) < 0 ||
		a->lport == 0)
		return leave(a);
	tuple_set_lane(a);
	if (claim_lane(&library.table, old, &lane) && memcmp(&lane, &a->lane, sizeof lane) == 0)
		return attempt_call(a);
	tuple_take_off(a);
	int result = keep_port(a, old, &taken);
	int error = errno;
	flight_end(a->flight);
	errno = taken ? EADDRNOTAVAIL : error;
	if (!taken || book_has_flag(a->record, RECORD_EXPLICIT))
		return result;
	/* Another port, then, as for a socket that is new. */
	sock_disconnect(a->fd);
	tuple_lost(a->record, a->fd, NULL);
	tuple_restore(a->record, a->fd);
	a->address_given = book_has_flag(a->record, RECORD_ADDRESS);
	return walk_connect(a);
}
