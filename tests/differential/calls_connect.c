/*
 * connect(): destinations of every sort, and arguments that are none.
 */
#include "differential.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

static void to(int fd, const struct call *c)
{
	struct address a = call_address(c);

	CALL("connect", connect(fd, SOCKADDR(&a), a.length));
}

static void to_void(int fd, const struct call *c)
{
	set_nonblocking(fd);
	to(fd, c);
}

static void to_void_twice(int fd, const struct call *c)
{
	to_void(fd, c);
	to(fd, c);
}

static void twice(int fd, const struct call *c)
{
	to(fd, c);
	to(fd, c);
}

/* A length of its own, of a destination that is right otherwise. */
static void of_length(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, SOCKADDR(&a), (socklen_t)c->length));
}

static void one_short(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, SOCKADDR(&a), a.length - 1));
}

static void one_too_long(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, SOCKADDR(&a), a.length + 1));
}

static void without_scope(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, SOCKADDR(&a), 24));
}

static void of_family(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	a.storage.ss_family = (sa_family_t)c->value;
	CALL("connect", connect(fd, SOCKADDR(&a), a.length));
}

static void null(int fd, const struct call *c)
{
	CALL("connect", connect(fd, NULL, (socklen_t)c->length));
}

static void low(int fd, const struct call *c)
{
	CALL("connect", connect(fd, NOWHERE_LOW, sizeof(struct sockaddr_in6)));
}

static void unmapped(int fd, const struct call *c)
{
	CALL("connect", connect(fd, nowhere(), (socklen_t)c->length));
}

static void kernel_memory(int fd, const struct call *c)
{
	CALL("connect", connect(fd, (void *)(UINTPTR_MAX - 4095), sizeof(struct sockaddr_in6)));
}

/* All that is needed is there, all that is announced is not. */
static void half_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, at_the_edge(&a.storage, a.length), a.length + 1));
}

static void family_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, at_the_edge(&a.storage, 4), a.length));
}

static void just_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fd, at_the_edge(&a.storage, a.length), a.length));
}

static void unaligned(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);
	char room[sizeof a.storage + 1];

	memcpy(room + 1, &a.storage, a.length);
	CALL("connect", connect(fd, (struct sockaddr *)(room + 1), a.length));
}

static void nobody(int fd, const struct call *c)
{
	struct sockaddr_storage none = {.ss_family = AF_UNSPEC};

	CALL("connect", connect(fd, (struct sockaddr *)&none, (socklen_t)c->length));
}

/* A scope id that is none, or none that fits. */
static void scoped(int fd, const struct call *c)
{
	struct address a = call_address(c);

	if (a.storage.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a.storage)->sin6_scope_id = (uint32_t)c->value;
	CALL("connect", connect(fd, SOCKADDR(&a), a.length));
}

const struct call calls_connect[] = {
	{"connect to loopback", to, TO(loopback), .port = OPEN_PORT},
	{"connect to loopback twice", twice, TO(loopback), .port = OPEN_PORT},
	{"connect to second", to, TO(second), .port = OPEN_PORT},
	{"connect to wire", to, TO(wire), .port = OPEN_PORT},
	{"connect to nobody's port", to, TO(loopback), .port = NOBODY},
	{"connect to nobody's port twice", twice, TO(loopback), .port = NOBODY},
	{"connect to port 0", to, TO(loopback)},
	{"connect to void", to_void, TO(void_), .port = OPEN_PORT},
	{"connect to void twice", to_void_twice, TO(void_), .port = OPEN_PORT},
	{"connect to unreachable", to, TO(unreachable), .port = OPEN_PORT},
	{"connect to prohibited", to, TO(prohibited), .port = OPEN_PORT},
	{"connect to blackhole", to, TO(blackhole), .port = OPEN_PORT},
	{"connect to unrouted", to, TO(unrouted), .port = OPEN_PORT},
	{"connect to any", to, TO(any), .port = OPEN_PORT},
	{"connect to any, port 0", to, TO(any)},
	{"connect to multicast", to, TO(multicast), .port = OPEN_PORT},
	{"connect to broadcast", to, "255.255.255.255", .port = OPEN_PORT},
	{"connect to the wire's broadcast", to, "10.9.0.255", .port = OPEN_PORT},
	{"connect to class E", to_void, "240.0.0.1", .port = OPEN_PORT},
	{"connect to 0.1.2.3", to_void, "0.1.2.3", .port = OPEN_PORT},
	{"connect to IPv4", to, "127.0.0.1", .port = OPEN_PORT},
	{"connect to IPv6", to, "::1", .port = OPEN_PORT},
	{"connect to mapped", to, "::ffff:127.0.0.1", .port = OPEN_PORT},
	{"connect to mapped any", to, "::ffff:0.0.0.0", .port = OPEN_PORT},
	{"connect to mapped multicast", to, "::ffff:224.0.0.1", .port = OPEN_PORT},
	{"connect to mapped nobody's port", to, "::ffff:127.0.0.1", .port = NOBODY},
	{"connect to compatible", to, "::7f00:1", .port = OPEN_PORT},
	{"connect to link-local", to_void, "fe80::99%wire", .port = OPEN_PORT},
	{"connect to link-local without scope", to, "fe80::99", .port = OPEN_PORT},
	{"connect to link-local with wrong scope", scoped, "fe80::99", .port = OPEN_PORT,
		.value = 12345},
	{"connect to loopback with scope 1", scoped, TO(loopback), .port = OPEN_PORT, .value = 1},
	{"connect to loopback with wrong scope", scoped, TO(loopback), .port = OPEN_PORT,
		.value = 12345},
	{"connect to a path", to, "/nonexistent/socket"},
	{"connect to an abstract name", to, "@nonexistent"},
	{"connect, length 0", of_length, .length = 0},
	{"connect, length 1", of_length, .length = 1},
	{"connect, length 2", of_length, .length = 2},
	{"connect, length 4", of_length, .length = 4},
	{"connect, length 8", of_length, .length = 8},
	{"connect, length 15", of_length, .length = 15},
	{"connect, length 23", of_length, .length = 23},
	{"connect, length 128", of_length, .length = 128},
	{"connect, length 129", of_length, .length = 129},
	{"connect, length INT_MAX", of_length, .length = INT_MAX},
	{"connect, length -1", of_length, .length = -1},
	{"connect, one short", one_short},
	{"connect, one too long", one_too_long},
	{"connect, without scope", without_scope},
	{"connect, family 47", of_family, .value = 47},
	{"connect, family of the other kind", of_family, .value = AF_UNIX},
	{"connect, family of all ones", of_family, .value = 0xffff},
	{"connect, NULL", null, .length = sizeof(struct sockaddr_in6)},
	{"connect, NULL, length 0", null, .length = 0},
	{"connect, NULL, length -1", null, .length = -1},
	{"connect, a member of NULL", low},
	{"connect, unmapped", unmapped, .length = sizeof(struct sockaddr_in6)},
	{"connect, unmapped, length 0", unmapped, .length = 0},
	{"connect, unmapped, length 1", unmapped, .length = 1},
	{"connect, unmapped, length 2", unmapped, .length = 2},
	{"connect, unmapped, length -1", unmapped, .length = -1},
	{"connect, kernel's memory", kernel_memory},
	{"connect, half mapped", half_mapped},
	{"connect, family mapped", family_mapped},
	{"connect, just mapped", just_mapped},
	{"connect, unaligned", unaligned},
	{"connect to AF_UNSPEC", nobody, .length = sizeof(struct sockaddr)},
	{"connect to AF_UNSPEC, length 2", nobody, .length = 2},
	{"connect to AF_UNSPEC, length 1", nobody, .length = 1},
	{"connect to AF_UNSPEC, length 128", nobody, .length = 128},
	{NULL, NULL},
};
