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
#include "interpose/attempt.h"

#include "base/random.h"
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
	if (book_has(fd) && (r == NULL || !book_has_flag(r, RECORD_PUT_OFF)))
		return false;
	if (sock_local(fd, &laddr, &port) < 0 || port != 0)
		return false;
	if (r != NULL && book_has_flag(r, RECORD_PUT_OFF))
		return true;
	if (addr_is_any(&laddr) || sock_asks_no_port(fd) != 0)
		return false;
	enum sock_kind kind = sock_ask_kind(fd);
	return kind == KIND_TCP4 || kind == KIND_TCP6;
}

/*
 * Has the kernel look for a port in some windows of its range. False: it found none, or has no such
 * option.
 */
static bool bind_in_window(int fd, const struct sockaddr *name, socklen_t length)
{
	const struct portorder *order = &plan_general_rule(&library.plan)->ports->order;
	bool bound = false;

	for (int i = 0; i < WINDOWS && !bound; i++) {
		uint64_t random;

		random_bytes(&random, sizeof random);
		uint16_t first = portorder_random(order, STAGE_LATE, random);
		uint16_t last = first > UINT16_MAX - WINDOW ? UINT16_MAX : first + WINDOW;
		if (first == 0 || sock_narrow_ports(fd, first, last) < 0)
			return false;
		bound = next()->bind(fd, name, length) == 0;
	}
	sock_narrow_ports(fd, 0, 0);
	return bound;
}

/*
 * Has the kernel choose the port that it would have chosen at once: one that no other socket has.
 * The whole range would take it milliseconds when many ports are in use, so some parts of it come
 * first.
 */
static void make_up_for(int fd, struct record *r)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;

	tuple_restore(r, fd);
	/* What the program has set since its bind() comes back afterwards. */
	bool asks_no_port = sock_asks_no_port(fd) == 1;
	uint32_t range = sock_port_range(fd);
	sock_bind_takes_no_port(fd, false);
	/* Whole, as the kernel has it: a scope, say, is part of the address. */
	if (next()->getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
		!bind_in_window(fd, (struct sockaddr *)&name, length))
		next()->bind(fd, (struct sockaddr *)&name, length);
	if (asks_no_port)
		sock_bind_takes_no_port(fd, true);
	if (range != 0)
		sock_narrow_ports(fd, (uint16_t)range, (uint16_t)(range >> 16));
}

static bool tcp_served(void)
{
	return library_active() && library.plan.protocols & PROTOCOL_TCP;
}

EXPORT int getsockname(int fd, struct sockaddr *name, socklen_t *length)
{
	if (tcp_served()) {
		int saved = errno;
		enum sock_kind kind;
		struct record *r = book_find(fd, &kind);

		if (is_put_off(fd, r))
			make_up_for(fd, r);
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
		book_set_flag(r, RECORD_PUT_OFF);
	errno = error;
	return result;
}

/* A connection that both sides have ended has left its tuple, and nobody has told us. */
static bool keeps_tuple(int fd, struct record *r)
{
	if (atomic_load_explicit(&r->claim, memory_order_acquire) == CLAIM_NONE)
		return false;
	if (!sock_is_closed(fd))
		return true;
	tuple_lost(r, fd, NULL);
	return false;
}

/*
 * Before the program binds a socket that the book knows: what is left of a connect() that failed
 * goes; and a second bind() is to be refused, as it would be had the first not been put off. False:
 * it has been connected, and will not connect once more, so there is nothing to be put off to.
 */
static bool make_way(int fd, struct record *r)
{
	bool connected = atomic_load_explicit(&r->claim, memory_order_acquire) != CLAIM_NONE;

	if (is_put_off(fd, r)) {
		make_up_for(fd, r);
	} else if (book_has_flag(r, RECORD_TOUCHED) && !keeps_tuple(fd, r)) {
		sock_narrow_ports(fd, 0, 0);
		sock_bind_takes_no_port(fd, false);
		book_clear_flags(r, RECORD_TOUCHED | RECORD_PUT_OFF);
	}
	return !connected;
}

EXPORT int bind(int fd, const struct sockaddr *to, socklen_t length)
{
	enum sock_kind kind;
	struct addr laddr;
	uint16_t port;
	int saved = errno;

	book_note_changed(fd);
	if (!tcp_served() || !book_usable())
		return next()->bind(fd, to, length);
	struct record *r = book_find(fd, &kind);
	/* Whatever the address: AF_UNSPEC, say, is one of bind()'s as well. */
	bool can_connect = r == NULL || make_way(fd, r);
	bool put_off = can_connect && attempt_readable(to, length) &&
		       addr_from_sockaddr(to, length, &laddr, &port) && port == 0 &&
		       may_put_off(fd, kind, &r);
	int result = put_off ? bind_address(fd, to, length, r) : next()->bind(fd, to, length);
	if (result == 0) {
		/* What getsockname() tells from now is the program's. */
		if (r != NULL) {
			atomic_store_explicit(&r->stale_port, 0, memory_order_relaxed);
			book_clear_flags(r, RECORD_ADDRESS | RECORD_BOUND);
		}
		errno = saved;
	}
	return result;
}
