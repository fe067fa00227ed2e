#include "engine/udp.h"

#include "engine/foresee.h"
#include "engine/tuple.h"
#include "engine/undo.h"
#include "kernel/diag.h"
#include "table/reap.h"

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

bool udp_usable(struct engine *e)
{
	int usable = atomic_load_explicit(&e->udp_known, memory_order_relaxed);

	if (usable > 0)
		return true;
	if (usable < 0 &&
		aside_now() < atomic_load_explicit(&e->udp_asked_again, memory_order_relaxed))
		return false;
	int error = diag_answers(IPPROTO_UDP);
	if (error < 0)
		tell_unusable(error);
	/* No word of the kernel: there is no descriptor or memory now. */
	if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
		return false;
	atomic_store_explicit(
		&e->udp_asked_again, aside_now() + UNUSABLE_SECONDS, memory_order_relaxed);
	atomic_store_explicit(&e->udp_known, error == 0 ? 1 : -1, memory_order_relaxed);
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
	int state = diag_query_cookie(fd, &a->from.lane, a->held.lport, &cookie);
	diag_close(fd);
	*own = cookie != 0 && cookie == sock_cookie(a->call->fd);
	return state;
}

bool udp_taken(const struct attempt *a)
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
	if (!a->options.alone) {
		sock_reuse_address(a->call->fd, false);
		sock_reuse_port(a->call->fd, false);
	}
	a->options.alone = true;
}

/* or those of the same user. */
static void share(struct attempt *a)
{
	if (!a->options.alone)
		sock_reuse_address(a->call->fd, false);
	sock_reuse_port(a->call->fd, true);
	a->options.alone = false;
}

/* What the socket shares from now on; the program's own choice stays. */
static void share_connected(struct attempt *a)
{
	if (a->options.alone)
		share(a);
	if (state_has_flag(a->state, STATE_REUSE))
		sock_reuse_address(a->call->fd, true);
}

/* The socket is connected, or nobody's: its end of the call. */
static struct result finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (error == 0) {
		share_connected(a);
		sock_drain(a->call->fd);
	} else {
		/* It has a port, and would take other flows' datagrams. */
		sock_disconnect(a->call->fd);
		undo_tuple(a->state, a->call->fd, &a->engine->table, a->held.flight != NULL);
		undo_all(a->state, a->call->fd);
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
	struct addr local = a->from.addr, peer = a->to.addr;
	uint16_t lport = a->held.lport, fport = a->to.port;

	if (sock_local(a->call->fd, &local, &lport) < 0 ||
		sock_peer(a->call->fd, a->socket->family, &peer, &fport) < 0)
		return SETTLED;
	if (a->held.lport != 0 && lport != a->held.lport)
		return SETTLED_OTHER_PORT;
	bool redirected = foresee_note_peer(a, &peer, fport);
	bool moved = !addr_equal(&local, &a->from.addr);
	if (!redirected && !moved && a->held.claim != CLAIM_NONE)
		return SETTLED;
	if (moved && a->from.automatic && !a->socket->address_given)
		foresee_note_source(a, &local);
	if (a->held.claim != CLAIM_NONE)
		tuple_give_back(a);
	a->from.addr = local;
	tuple_set_lane(a);
	a->from.lane_hash =
		lane_hash_get(&a->engine->lane_hashes, &a->engine->table, &a->from.lane);
	if (!a->options.alone)
		return SETTLED_UNASKED;
	a->held.lport = lport;
	if (claim_take_port(&a->engine->table, &a->from.lane, lport, flight_what(a->held.flight),
		    &a->held.claim) < 0)
		a->held.claim = CLAIM_NONE;
	state_set_claim(a->state, a->held.claim);
	return SETTLED;
}

/* A port of an address, as a hash for a short memory. */
static uint64_t hash_port(const struct attempt *a)
{
	uint64_t words[3] = {0, 0, a->held.lport};

	memcpy(words, a->from.addr.bytes, sizeof a->from.addr.bytes);
	return hash_words(&a->engine->sources.key, words, 3);
}

/* Shares the port. 0, or the errno of the call: EAGAIN when that cannot be. */
static int call_shared(struct attempt *a)
{
	/* Nobody can share it: to be told so once more would cost a millisecond again. */
	if (aside_has(&a->engine->unshared, hash_port(a)) || udp_taken(a))
		return EAGAIN;
	share(a);
	int error = tuple_call(a);
	if (error == EAGAIN)
		aside_put(&a->engine->unshared, hash_port(a), UNSHARED_SECONDS);
	if (error != 0 || is_heard(a))
		return error;
	sock_disconnect(a->call->fd);
	return EAGAIN;
}

/* Whether no other claim has the port, and no socket that the table does not know was met on it. */
static bool seems_free(const struct attempt *a)
{
	return claim_udp_count(&a->engine->table, a->held.lport) <= 1 &&
	       !table_has_port(a->engine->table.header->udp_strangers, a->held.lport);
}

#define STRANGER_SLICES 64

/*
 * The noted ports are forgotten, a slice of them each second, so that those whose strangers have
 * gone are taken alone again within a minute or so. (Every process does it, in the same second the
 * same ones; to be told of a stranger once more costs a millisecond.)
 */
static void forget_strangers(struct engine *e)
{
	uint64_t now = aside_now();
	const unsigned words = 1024 / STRANGER_SLICES;

	if (atomic_exchange_explicit(&e->strangers_forgotten, now, memory_order_relaxed) == now)
		return;
	for (unsigned w = 0; w < words; w++)
		atomic_store_explicit(
			&e->table.header->udp_strangers[now % STRANGER_SLICES * words + w], 0,
			memory_order_relaxed);
}

/* Takes the port alone, unless it is known to have holders, or shares it. As call_shared(). */
static int call_late(struct attempt *a)
{
	int error = EAGAIN;

	forget_strangers(a->engine);
	if (seems_free(a)) {
		keep_alone(a);
		error = tuple_call(a);
		if (error == EAGAIN && seems_free(a))
			table_note_port(a->engine->table.header->udp_strangers, a->held.lport);
	}
	return error == EAGAIN ? call_shared(a) : error;
}

/*
 * Late bind. Where the port cannot be had the kernel answers EAGAIN (inet_autobind() of
 * net/ipv4/af_inet.c), after a walk through all of its UDP ports, for a millisecond
 * (udp_lib_get_port() of net/ipv4/udp.c): so it is not tried without need.
 */
static struct result try_late(struct attempt *a)
{
	int error = tuple_prepare_late(a, a->held.lport, a->held.lport);

	if (error < 0)
		return tuple_prepare_failed(a, error);
	error = call_late(a);
	if (error == EAGAIN) {
		tuple_keep_for_stranger(a);
		return result_of(TRIED_NEXT_PORT);
	}
	enum settled settled = error == 0 ? settle(a) : SETTLED;
	if (settled != SETTLED) {
		sock_disconnect(a->call->fd);
		if (settled == SETTLED_OTHER_PORT) {
			tuple_give_back(a);
			plan_set_ports(&a->engine->plan);
		}
		/* What is foreseen may be wrong each time. The kernel's own way ends. */
		return result_of(
			++a->from.unsettled < UNSETTLED_MOST ? TRIED_NEXT_PORT : TRIED_GIVE_UP);
	}
	return finish(a, error, TUPLEBIND_LATE);
}

/* bind() to the port, alone or else shared; *shared says which. 0 or -errno. */
static int bind_port(struct attempt *a, bool *shared)
{
	keep_alone(a);
	int error = tuple_bind_port(a, a->held.lport);
	*shared = error == -EADDRINUSE;
	/* Were it another tuple than the one asked about, there would be no way back. */
	if (!*shared || a->from.lost || foresee_source_varies(a) || a->to.several || udp_taken(a))
		return error;
	share(a);
	return tuple_bind_port(a, a->held.lport);
}

void udp_foresee(struct attempt *a)
{
	struct addr peer;
	uint16_t fport;

	if (foresee_is_peer_due(a) &&
		sock_ask_peer(a->socket->family, a->call->to, a->call->length, &peer, &fport) == 0)
		foresee_note_peer(a, &peer, fport);
}

/* Explicit bind: a socket once bound so cannot be moved to another port. */
static struct result try_explicit(struct attempt *a)
{
	bool shared;

	state_set_flag(a->state, STATE_TOUCHED);
	int error = bind_port(a, &shared);
	if (error < 0)
		return tuple_bind_failed(a, error);
	state_set_flag(a->state, STATE_EXPLICIT);
	error = tuple_call(a);
	/* A stranger came in between, within microseconds: better no connection than a deaf one. */
	if (error == 0 && ((shared && !is_heard(a)) || settle(a) != SETTLED))
		error = EADDRNOTAVAIL;
	return finish(a, error, TUPLEBIND_EXPLICIT);
}

int udp_search(struct attempt *a)
{
	keep_alone(a);
	int error = tuple_call(a);
	if (error == 0) {
		settle(a);
		share_connected(a);
		sock_drain(a->call->fd);
	} else if (error != EAGAIN) {
		sock_disconnect(a->call->fd);
		undo_all(a->state, a->call->fd);
	}
	return error;
}

struct result udp_try(struct attempt *a, enum stage stage)
{
	return stage == STAGE_LATE ? try_late(a) : try_explicit(a);
}

int udp_leave(struct attempt *a)
{
	int error = attempt_make(a);

	if (error == 0)
		state_give_back_ended(a->state, &a->engine->table);
	return error;
}

/*
 * The kernel may have sent the socket, which has the claim @a->held.claim, to another destination
 * than it was told. Then it gets the claim of that tuple (@old, if it is where it was), unless
 * another socket has it: one of the two would go deaf. 0, or EADDRNOTAVAIL.
 */
static int follow(struct attempt *a, claim old)
{
	struct tuplebind_lane lane;
	struct addr peer;
	uint16_t fport;

	if (sock_peer(a->call->fd, a->socket->family, &peer, &fport) < 0 ||
		!foresee_note_peer(a, &peer, fport))
		return 0;
	if (a->held.claim != old && a->held.claim != CLAIM_NONE)
		tuple_give_back(a);
	a->held.claim = CLAIM_NONE;
	tuple_set_lane(a);
	if (claim_lane(&a->engine->table, old, &lane) &&
		memcmp(&lane, &a->from.lane, sizeof lane) == 0)
		a->held.claim = old;
	else if (claim_take_port(&a->engine->table, &a->from.lane, a->held.lport,
			 flight_what(a->held.flight), &a->held.claim) == -EADDRNOTAVAIL ||
		 !is_heard(a))
		return EADDRNOTAVAIL;
	state_set_claim(a->state, a->held.claim);
	return 0;
}

/*
 * Connects with the port that the socket has, in the lane of its new destination. 0, or errno of
 * the call; *taken: that tuple is somebody else's, and the socket is where it was, or disconnected.
 */
static int keep_port(struct attempt *a, claim old, bool *taken)
{
	struct table *t = &a->engine->table;
	uint64_t token = atomic_load_explicit(&a->engine->token, memory_order_relaxed);
	int got = claim_take_port(
		t, &a->from.lane, a->held.lport, flight_what(a->held.flight), &a->held.claim);

	*taken = got == -EADDRNOTAVAIL;
	if (got == 0 && udp_taken(a)) {
		process_strayed(t);
		table_count(t, TUPLEBIND_RETRIES);
		*taken = true;
	}
	if (*taken)
		return EADDRNOTAVAIL;
	if (got < 0) {
		table_count(t, TUPLEBIND_TABLE_FULL);
		return udp_leave(a);
	}
	/* As at close(): the kernel lets go of the old tuple before the claim is given back. */
	a->held.leaving = old != CLAIM_NONE ? flight_with(t, token, old) : NULL;
	int error = tuple_call(a);
	if (error == 0 && (error = follow(a, old)) != 0) {
		sock_disconnect(a->call->fd);
		*taken = true;
	}
	if (error != 0) {
		/* It is where it was, or nowhere. */
		if (a->held.claim != CLAIM_NONE)
			tuple_give_back(a);
		state_set_claim(a->state, old);
	} else if (a->held.claim == old) {
		/* So it keeps the claim. */
	} else if (a->held.leaving != NULL) {
		claim_give_back(t, old);
	} else if (old != CLAIM_NONE) {
		reap_claim(t, old);
	}
	flight_end(a->held.leaving);
	a->held.leaving = NULL;
	if (!*taken)
		tuple_done(a, error,
			state_has_flag(a->state, STATE_EXPLICIT) ? TUPLEBIND_EXPLICIT
								 : TUPLEBIND_LATE);
	return error;
}

/*
 * The socket is sent to the same destination once more: nothing changes, unless the kernel makes
 * another tuple of it. 0, or errno of the call; *taken: that is somebody else's, and the socket was
 * taken off it.
 */
static int connect_same(struct attempt *a, claim old, bool *taken)
{
	int error = attempt_make(a);

	*taken = false;
	if (error != 0 || !foresee_is_peer_due(a))
		return error;
	tuple_begin_flight(a);
	a->held.claim = old;
	error = follow(a, old);
	*taken = error != 0;
	if (*taken) {
		sock_disconnect(a->call->fd);
		if (a->held.claim != CLAIM_NONE)
			tuple_give_back(a);
		state_set_claim(a->state, old);
	} else if (a->held.claim != old && old != CLAIM_NONE) {
		reap_claim(&a->engine->table, old);
	}
	tuple_end_flight(a);
	return error;
}

int udp_connect_with_port(struct attempt *a, claim old, bool *taken)
{
	struct tuplebind_lane lane;

	tuple_set_lane(a);
	if (claim_lane(&a->engine->table, old, &lane) &&
		memcmp(&lane, &a->from.lane, sizeof lane) == 0)
		return connect_same(a, old, taken);
	tuple_begin_flight(a);
	int error = keep_port(a, old, taken);
	tuple_end_flight(a);
	return error;
}
