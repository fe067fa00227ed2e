/*
 * Giving a UDP socket one tuple.
 *
 * The kernel does not keep UDP tuples unique: two sockets that share a port can have one, and the
 * older one goes deaf. So a port is taken in one of two ways:
 *
 * - alone: with SO_REUSEADDR and SO_REUSEPORT off the kernel gives the port only when no other
 * socket of this host's address has it, whatever its destination. Nothing needs to be looked at.
 * - shared: it has holders, others of ours with other destinations as a rule. Then the kernel is
 *   asked by sock_diag, before, who would receive a datagram of this tuple (nobody may), and after,
 *   whether it is this socket.
 *
 * Once connected, SO_REUSEPORT is on, so that others can share the port: the kernel lets sockets of
 * the same user only (udp_lib_lport_inuse() of net/ipv4/udp.c). SO_REUSEADDR would let anybody
 * join, and take the datagrams. Sockets that share a port so form a group, of 32,768 at most, among
 * which the kernel spreads datagrams; it passes over those that are connected to somebody else. A
 * port that a socket without a foreign address has, a server's perhaps with a group of its own, is
 * never shared.
 *
 * With late bind the kernel takes the port and connects in one call, and whatever arrived in
 * between is thrown away before the program can read it: nobody has been told of this tuple yet, so
 * it was meant for another one. A connected socket comes before one that is not (compute_score() of
 * net/ipv4/udp.c), so that no datagram of an existing flow can get here meanwhile.
 *
 * Without a pool the kernel chooses the address, within the call; and its destination may be
 * another one than the call was given. So both ends are looked at afterwards. A shared port is no
 * good then: who has the tuple that it came to, nobody has asked.
 */
#include "interpose/attempt.h"

#include "kernel/diag.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define UNSHARED_SECONDS 5 /* then it may be different again */
#define UNSETTLED_MOST	 8
#define UNUSABLE_SECONDS 60 /* then udp_diag may have been loaded */

static void tell_unusable(int error)
{
	static struct event_limit limit;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "no-udp-diag", &limit)) {
		event_error(&e, -error);
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

	if (usable > 0)
		return true;
	if (usable < 0 && aside_now() < atomic_load_explicit(&again, memory_order_relaxed))
		return false;
	int error = diag_answers(IPPROTO_UDP);
	if (error < 0)
		tell_unusable(error);
	/* No word of the kernel: there is no descriptor or memory now. */
	if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
		return false;
	atomic_store_explicit(&again, aside_now() + UNUSABLE_SECONDS, memory_order_relaxed);
	atomic_store_explicit(&known, error == 0 ? 1 : -1, memory_order_relaxed);
	return error == 0;
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

/*
 * After connecting: whether datagrams of the tuple arrive here, not at a stranger's socket. If the
 * kernel finds nobody, the socket is on another tuple than that.
 */
static bool is_heard(const struct attempt *a)
{
	bool own;

	return ask_receiver(a, &own) < 0 || own;
}

/* Whether other sockets may have the port: none, */
static void keep_alone(struct attempt *a)
{
	if (!a->alone) {
		sock_reuse_address(a->fd, false);
		sock_reuse_port(a->fd, false);
	}
	a->alone = true;
}

/* or those of the same user. */
static void share(struct attempt *a)
{
	if (!a->alone)
		sock_reuse_address(a->fd, false);
	sock_reuse_port(a->fd, true);
	a->alone = false;
}

/* What the socket shares from now on; the program's own choice stays. */
static void share_connected(struct attempt *a)
{
	if (a->alone)
		share(a);
	if (book_has_flag(a->record, RECORD_REUSE))
		sock_reuse_address(a->fd, true);
}

/* The socket is connected, or nobody's: its end of the call. */
static enum tried finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (error == 0) {
		share_connected(a);
		sock_drain(a->fd);
	} else {
		/* It has a port, and would take other flows' datagrams. */
		sock_disconnect(a->fd);
		tuple_lost(a->record, a->fd, a->flight);
		tuple_restore(a->record, a->fd);
	}
	return tuple_done(a, error, way);
}

/* What has become of the tuple that was claimed. */
enum settled {
	/* The socket has it; or has another one alone, and the claim has moved there. */
	SETTLED,
	/* The port was outside ip_local_port_range, and the kernel took another. */
	SETTLED_OTHER_PORT,
	/* It shares a port for a tuple that nobody has asked about. The attempt has that lane now,
	   and no claim. */
	SETTLED_UNASKED,
};

/*
 * Looks at both ends of a socket that has just been connected. Who took its port alone has every
 * tuple of it alone, so the claim moves to the one that it is; if that is claimed already, then by
 * a process that has it no more.
 */
static enum settled settle(struct attempt *a)
{
	struct addr local = a->laddr, peer = a->faddr;
	uint16_t lport = a->lport, fport = a->fport;

	if (sock_local(a->fd, &local, &lport) < 0 || sock_peer(a->fd, a->family, &peer, &fport) < 0)
		return SETTLED;
	if (a->lport != 0 && lport != a->lport)
		return SETTLED_OTHER_PORT;
	bool redirected = attempt_note_peer(a, &peer, fport);
	bool moved = !addr_equal(&local, &a->laddr);
	if (!redirected && !moved && a->claim != CLAIM_NONE)
		return SETTLED;
	if (moved && a->automatic && !a->address_given)
		attempt_note_source(a, &local);
	if (a->claim != CLAIM_NONE)
		tuple_give_back(a);
	a->laddr = local;
	tuple_set_lane(a);
	a->lane_hash = lane_hash_get(&library.lane_hashes, &library.table, &a->lane);
	if (!a->alone)
		return SETTLED_UNASKED;
	a->lport = lport;
	if (claim_take_port(&library.table, &a->lane, lport, flight_what(a->flight), &a->claim) < 0)
		a->claim = CLAIM_NONE;
	book_set_claim(a->record, a->claim);
	return SETTLED;
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

#define STRANGER_SLICES 64

/*
 * The noted ports are forgotten, a slice of them each second, so that those whose strangers have
 * gone are taken alone again within a minute or so. (Every process does it, in the same second the
 * same ones; to be told of a stranger once more costs a millisecond.)
 */
static void forget_strangers(void)
{
	static _Atomic uint64_t done;
	uint64_t now = aside_now();
	const unsigned words = 1024 / STRANGER_SLICES;

	if (atomic_exchange_explicit(&done, now, memory_order_relaxed) == now)
		return;
	for (unsigned w = 0; w < words; w++)
		atomic_store_explicit(
			&library.table.header->udp_strangers[now % STRANGER_SLICES * words + w], 0,
			memory_order_relaxed);
}

/* Takes the port alone, unless it is known to have holders, or shares it. As call_shared(). */
static int call_late(struct attempt *a)
{
	int error = EAGAIN;

	forget_strangers();
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
	int error = tuple_prepare_late(a, a->lport, a->lport);

	if (error < 0)
		return tuple_prepare_failed(a, error);
	error = call_late(a);
	if (error == EAGAIN) {
		tuple_keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	enum settled settled = error == 0 ? settle(a) : SETTLED;
	if (settled != SETTLED) {
		sock_disconnect(a->fd);
		if (settled == SETTLED_OTHER_PORT) {
			tuple_give_back(a);
			plan_set_ports(&library.plan);
		}
		/* What is foreseen may be wrong each time. The kernel's own way ends. */
		return ++a->unsettled < UNSETTLED_MOST ? TRIED_NEXT_PORT : TRIED_GIVE_UP;
	}
	return finish(a, error, TUPLEBIND_LATE);
}

/* bind() to the port, alone or else shared; *shared says which. 0 or -errno. */
static int bind_port(struct attempt *a, bool *shared)
{
	keep_alone(a);
	int error = tuple_bind_port(a, a->lport);
	*shared = error == -EADDRINUSE;
	/* Were it another tuple than the one asked about, there would be no way back. */
	if (!*shared || a->address_lost || attempt_source_varies(a) || a->several ||
		datagram_taken(a))
		return error;
	share(a);
	return tuple_bind_port(a, a->lport);
}

void datagram_foresee(struct attempt *a)
{
	struct addr peer;
	uint16_t fport;

	if (attempt_is_peer_due(a) &&
		sock_ask_peer(a->family, a->to, a->length, &peer, &fport) == 0)
		attempt_note_peer(a, &peer, fport);
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
	if (error == 0 && ((shared && !is_heard(a)) || settle(a) != SETTLED))
		error = EADDRNOTAVAIL;
	return finish(a, error, TUPLEBIND_EXPLICIT);
}

int datagram_search(struct attempt *a)
{
	keep_alone(a);
	int error = tuple_call_with_claim(a);
	if (error == 0) {
		settle(a);
		share_connected(a);
		sock_drain(a->fd);
	} else if (error != EAGAIN) {
		sock_disconnect(a->fd);
		tuple_restore(a->record, a->fd);
	}
	return error;
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
 * The kernel may have sent the socket, which has the claim @a->claim, to another destination than
 * it was told. Then it gets the claim of that tuple (@old, if it is where it was), unless another
 * socket has it: one of the two would go deaf. 0, or EADDRNOTAVAIL.
 */
static int follow(struct attempt *a, claim old)
{
	struct tuplebind_lane lane;
	struct addr peer;
	uint16_t fport;

	if (sock_peer(a->fd, a->family, &peer, &fport) < 0 || !attempt_note_peer(a, &peer, fport))
		return 0;
	if (a->claim != old && a->claim != CLAIM_NONE)
		tuple_give_back(a);
	a->claim = CLAIM_NONE;
	tuple_set_lane(a);
	if (claim_lane(&library.table, old, &lane) && memcmp(&lane, &a->lane, sizeof lane) == 0)
		a->claim = old;
	else if (claim_take_port(&library.table, &a->lane, a->lport, flight_what(a->flight),
			 &a->claim) == -EADDRNOTAVAIL ||
		 !is_heard(a))
		return EADDRNOTAVAIL;
	book_set_claim(a->record, a->claim);
	return 0;
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
	if (error == 0 && (error = follow(a, old)) != 0) {
		sock_disconnect(a->fd);
		*taken = true;
	}
	if (error != 0) {
		/* It is where it was, or nowhere. */
		if (a->claim != CLAIM_NONE)
			tuple_give_back(a);
		book_set_claim(a->record, old);
	} else if (a->claim == old) {
		/* So it keeps the claim. */
	} else if (a->leaving != NULL) {
		claim_give_back(&library.table, old);
	} else if (old != CLAIM_NONE) {
		reap_claim(&library.table, old);
	}
	flight_end(a->leaving);
	a->leaving = NULL;
	if (*taken)
		return -1;
	tuple_done(a, error,
		book_has_flag(a->record, RECORD_EXPLICIT) ? TUPLEBIND_EXPLICIT : TUPLEBIND_LATE);
	return error == 0 ? 0 : -1;
}

/*
 * The socket is sent to the same destination once more: nothing changes, unless the kernel makes
 * another tuple of it. 0 or -1; *taken: that is somebody else's, and the socket was taken off it.
 */
static int connect_same(struct attempt *a, claim old, bool *taken)
{
	*taken = false;
	if (attempt_call(a) < 0)
		return -1;
	if (!attempt_is_peer_due(a))
		return 0;
	tuple_take_off(a);
	a->claim = old;
	*taken = follow(a, old) != 0;
	if (*taken) {
		sock_disconnect(a->fd);
		if (a->claim != CLAIM_NONE)
			tuple_give_back(a);
		book_set_claim(a->record, old);
	} else if (a->claim != old && old != CLAIM_NONE) {
		reap_claim(&library.table, old);
	}
	flight_end(a->flight);
	return *taken ? -1 : 0;
}

/* Whether the address that the socket keeps is one that this destination may be reached from. */
static bool has_right_address(const struct attempt *a)
{
	if (book_has_flag(a->record, RECORD_ADDRESS))
		return true;
	if (pool_serves(&a->rule->pool, &a->faddr))
		return pool_has(&a->rule->pool, &a->faddr, &a->laddr);
	return !book_has_flag(a->record, RECORD_BOUND);
}

/* Keeps the socket's port, or finds that it cannot: *taken. As connect(). */
static int connect_with_port(struct attempt *a, claim old, bool *taken)
{
	struct tuplebind_lane lane;

	tuple_set_lane(a);
	if (claim_lane(&library.table, old, &lane) && memcmp(&lane, &a->lane, sizeof lane) == 0)
		return connect_same(a, old, taken);
	tuple_take_off(a);
	int result = keep_port(a, old, taken);
	int error = errno;
	flight_end(a->flight);
	errno = error;
	return result;
}

int datagram_connect_again(struct attempt *a)
{
	claim old = atomic_load_explicit(&a->record->claim, memory_order_acquire);
	bool explicit = book_has_flag(a->record, RECORD_EXPLICIT);
	enum tuplebind_counter unused;

	if (!library_table_sound() || !attempt_destination_served(a, &unused) ||
		addr_is_any(&a->faddr) || sock_local(a->fd, &a->laddr, &a->lport) < 0 ||
		a->lport == 0)
		return leave(a);
	bool taken = !has_right_address(a);
	if (taken && explicit &&
		walk_refuse_unusable(a, "the socket keeps the address of an earlier connect()") < 0)
		return -1;
	attempt_foresee(a);
	if (!taken || explicit) {
		int result = connect_with_port(a, old, &taken);

		if (!taken)
			return result;
		if (explicit) {
			errno = EADDRNOTAVAIL;
			return -1;
		}
	}
	/* Another port, then, as for a socket that is new. */
	sock_disconnect(a->fd);
	tuple_lost(a->record, a->fd, NULL);
	tuple_restore(a->record, a->fd);
	a->address_given = book_has_flag(a->record, RECORD_ADDRESS);
	return walk_connect(a);
}
