/*
 * bind() to an address without a port is put off.
 *
 * The kernel would look for a port that no other socket has, whatever its destination: 4 to 7 ms
 * once half of them are in use, and as many connections in all as there are ports. Most programs
 * that do so only choose an address and connect next. So a TCP socket gets the address alone
 * (IP_BIND_ADDRESS_NO_PORT), and connect() its port, in the lane of that address. Who asks for the
 * port before, by getsockname(), makes the kernel choose one after all; listen() chooses by itself
 * when there is none.
 *
 * That a bind() was put off shows in the socket: it has an address, no port, and
 * IP_BIND_ADDRESS_NO_PORT is off. So another process that gets the socket knows, too. Only when the
 * address is ANY it does not show, and the book has to know.
 */
#include "preload/connect.h"

#include "base/random.h"
#include "engine/undo.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>

#define WINDOWS 4
#define WINDOW	500 /* ports; a few free ones are among them as long as one in a hundred is */

/* Whether a socket has no port because its bind() was put off. */
static bool is_put_off(int fd, const struct record *r)
{
	struct addr laddr;
	uint16_t port;

	/* The book would know; it has seen the socket made. */
	if (book_has(fd) && (r == NULL || !state_has_flag(&r->state, STATE_PUT_OFF)))
		return false;
	if (sock_local(fd, &laddr, &port) < 0 || port != 0)
		return false;
	if (r != NULL && state_has_flag(&r->state, STATE_PUT_OFF))
		return true;
	if (addr_is_any(&laddr) || sock_asks_no_port(fd) != 0)
		return false;
	enum sock_kind kind = sock_ask_kind(fd);
	return kind == KIND_TCP4 || kind == KIND_TCP6;
}

/* 0 or -errno. */
static int bind_name(int fd, const struct sockaddr_storage *name, socklen_t length)
{
	return next()->bind(fd, (const struct sockaddr *)name, length) < 0 ? -errno : 0;
}

/*
 * Has the kernel look for a port in some windows of its range, and then in all of it, which takes
 * milliseconds when many ports are in use. 0 or -errno.
 */
static int bind_in_range(int fd, const struct portorder *order, const struct sockaddr_storage *name,
	socklen_t length)
{
	int error = -EADDRINUSE;

	for (int i = 0; i < WINDOWS && error < 0; i++) {
		uint64_t random;

		random_bytes(&random, sizeof random);
		uint16_t first = portorder_random(order, STAGE_LATE, random);
		uint16_t last = first > UINT16_MAX - WINDOW ? UINT16_MAX : first + WINDOW;
		if (first == 0 || sock_narrow_ports(fd, first, last) < 0)
			break;
		error = bind_name(fd, name, length);
	}
	sock_narrow_ports(fd, 0, 0);
	return error < 0 ? bind_name(fd, name, length) : 0;
}

static int bind_to_port(int fd, struct sockaddr_storage *name, socklen_t length, uint16_t port)
{
	/* Both families have the port at the same place. */
	((struct sockaddr_in *)name)->sin_port = htons(port);
	return listeners_has(&library.engine.listeners, port) ? -EADDRINUSE
							      : bind_name(fd, name, length);
}

/* Or privileged; what else is refused no other port would help. */
static bool is_port_taken(int error)
{
	return error == -EADDRINUSE || error == -EACCES;
}

/* Tries the ports of a stage one by one, from a random one on. 0 or -errno. 3 us for each. */
static int bind_in_stage(int fd, const struct portorder *order, enum stage stage,
	struct sockaddr_storage *name, socklen_t length)
{
	int error = -EADDRINUSE;
	uint64_t random;

	random_bytes(&random, sizeof random);
	unsigned first = portorder_random(order, stage, random);
	for (unsigned i = 0; i <= UINT16_MAX && is_port_taken(error); i++) {
		uint16_t port = (uint16_t)(first + i);

		if (portorder_word(order, stage, port / 64) >> (port % 64) & 1)
			error = bind_to_port(fd, name, length, port);
	}
	return error;
}

/*
 * Where the settings name ports or a part of them, no other host may have those, and the kernel's
 * search knows nothing of it. 0 or -errno.
 */
static int bind_in_ports(
	int fd, const struct plan_ports *ports, struct sockaddr_storage *name, socklen_t length)
{
	int error = -EADDRINUSE;

	if (ports->wanted.automatic && ports->wanted.parts == 1)
		return bind_in_range(fd, &ports->order, name, length);
	for (enum stage stage = STAGE_LATE; stage < STAGES && is_port_taken(error); stage++)
		if (portorder_has(&ports->order, stage))
			error = bind_in_stage(fd, &ports->order, stage, name, length);
	return error;
}

/*
 * Chooses the port that the kernel would have chosen at once: one that no other socket has. 0, or
 * -errno: there is none, and the socket has its address again (a bind() that fails clears it:
 * sock_bind()).
 */
static int make_up_for(int fd, struct record *r)
{
	const struct plan_ports *ports = plan_general_rule(&library.engine.plan)->ports;
	struct sockaddr_storage name;
	socklen_t length = sizeof name;

	undo_all(r != NULL ? &r->state : NULL, fd);
	/* Whole, as the kernel has it: a scope, say, is part of the address. */
	if (next()->getsockname(fd, (struct sockaddr *)&name, &length) < 0)
		return -errno;
	/* What the program has set since its bind() comes back afterwards. */
	bool asks_no_port = sock_asks_no_port(fd) == 1;
	uint32_t range = sock_port_range(fd);
	sock_bind_takes_no_port(fd, false);
	int error = bind_in_ports(fd, ports, &name, length);
	if (error < 0) {
		((struct sockaddr_in *)&name)->sin_port = 0;
		sock_bind_takes_no_port(fd, true);
		bind_name(fd, &name, length);
		sock_bind_takes_no_port(fd, false);
	}
	if (asks_no_port)
		sock_bind_takes_no_port(fd, true);
	if (range != 0)
		sock_narrow_ports(fd, (uint16_t)range, (uint16_t)(range >> 16));
	return error;
}

static bool tcp_served(void)
{
	return library_active() && library.engine.plan.protocols & PROTOCOL_TCP;
}

EXPORT int getsockname(int fd, struct sockaddr *name, socklen_t *length)
{
	if (tcp_served()) {
		int saved = errno;
		enum sock_kind kind;
		struct record *r = book_find(fd, &kind);

		int error = is_put_off(fd, r) ? make_up_for(fd, r) : 0;
		/* bind() would have said so: there is no port to tell. */
		if (error == -EADDRINUSE) {
			errno = -error;
			return -1;
		}
		errno = saved;
	}
	return next()->getsockname(fd, name, length);
}

/* Whether a bind() without a port may be put off; *record is the socket's then. */
static bool may_put_off(int fd, enum sock_kind kind, struct record **record)
{
	if (kind == KIND_OTHER)
		kind = sock_ask_kind(fd);
	if (kind != KIND_TCP4 && kind != KIND_TCP6)
		return false;
	/* A program that has set these itself knows what it does. */
	if (sock_asks_no_port(fd) != 0 || sock_ports_narrowed(fd))
		return false;
	if (*record == NULL)
		*record = book_record(fd, kind);
	return *record != NULL;
}

static int bind_address(int fd, const struct sockaddr *to, socklen_t length, struct record *r)
{
	if (sock_bind_takes_no_port(fd, true) < 0)
		return next()->bind(fd, to, length);
	int result = next()->bind(fd, to, length);
	int error = errno;
	sock_bind_takes_no_port(fd, false);
	if (result == 0)
		state_set_flag(&r->state, STATE_PUT_OFF);
	errno = error;
	return result;
}

/* A connection that both sides have ended has left its tuple, and nobody has told us. */
static bool keeps_tuple(int fd, struct record *r)
{
	if (state_claim(&r->state) == CLAIM_NONE)
		return false;
	if (!sock_is_closed(fd))
		return true;
	undo_tuple(&r->state, fd, &library.engine.table, false);
	return false;
}

/*
 * Before the program binds a socket that the book knows: what is left of a connect() that failed
 * goes; and a second bind() is to be refused, as it would be had the first not been put off. False:
 * it has been connected, and will not connect once more, so there is nothing to be put off to.
 */
static bool make_way(int fd, struct record *r)
{
	bool connected = state_claim(&r->state) != CLAIM_NONE;

	if (is_put_off(fd, r)) {
		make_up_for(fd, r);
	} else if (state_has_flag(&r->state, STATE_TOUCHED) && !keeps_tuple(fd, r)) {
		sock_narrow_ports(fd, 0, 0);
		sock_bind_takes_no_port(fd, false);
		state_clear_flags(&r->state, STATE_TOUCHED | STATE_PUT_OFF);
	}
	return !connected;
}

/* What getsockname() tells from now is the program's. */
static void note_bound(struct record *r)
{
	if (r == NULL)
		return;
	atomic_store_explicit(&r->state.stale_port, 0, memory_order_relaxed);
	state_clear_flags(&r->state, STATE_ADDRESS | STATE_BOUND);
}

EXPORT int bind(int fd, const struct sockaddr *to, socklen_t length)
{
	enum sock_kind kind;
	struct addr laddr;
	uint16_t port;
	int saved = errno;

	book_note_changed(fd);
	if (!library_active() || !book_usable())
		return next()->bind(fd, to, length);
	struct record *r = book_find(fd, &kind);
	if (!tcp_served()) {
		int plain = next()->bind(fd, to, length);

		if (plain == 0)
			note_bound(r);
		return plain;
	}
	/* Whatever the address: AF_UNSPEC, say, is one of bind()'s as well. */
	bool can_connect = r == NULL || make_way(fd, r);
	bool put_off = can_connect && connect_readable(to, length) &&
		       addr_from_sockaddr(to, length, &laddr, &port) && port == 0 &&
		       may_put_off(fd, kind, &r);
	int result = put_off ? bind_address(fd, to, length, r) : next()->bind(fd, to, length);
	if (result == 0) {
		note_bound(r);
		errno = saved;
	}
	return result;
}
