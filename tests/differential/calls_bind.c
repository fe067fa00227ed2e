/*
 * bind() and getsockname().
 */
#include "differential.h"

#include <limits.h>
#include <string.h>

static void to(int fd, const struct call *c)
{
	struct address a = call_address(c);

	CALL("bind", bind(fd, SOCKADDR(&a), a.length));
}

static void twice(int fd, const struct call *c)
{
	to(fd, c);
	to(fd, c);
}

static void of_length(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, 0);

	CALL("bind", bind(fd, SOCKADDR(&a), (socklen_t)c->length));
}

static void of_family(int fd, const struct call *c)
{
	struct address a = address_of(c->text != NULL ? c->text : place->any, 0);

	a.storage.ss_family = (sa_family_t)c->value;
	CALL("bind", bind(fd, SOCKADDR(&a), a.length));
}

static void null(int fd, const struct call *c)
{
	CALL("bind", bind(fd, NULL, (socklen_t)c->length));
}

static void low(int fd, const struct call *c)
{
	CALL("bind", bind(fd, NOWHERE_LOW, sizeof(struct sockaddr_in6)));
}

static void unmapped(int fd, const struct call *c)
{
	CALL("bind", bind(fd, nowhere(), (socklen_t)c->length));
}

static void half_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, 0);

	CALL("bind", bind(fd, at_the_edge(&a.storage, a.length), a.length + 1));
}

static void family_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, 0);

	CALL("bind", bind(fd, at_the_edge(&a.storage, 2), a.length));
}

static void just_mapped(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, 0);

	CALL("bind", bind(fd, at_the_edge(&a.storage, a.length), a.length));
}

static void then_listen(int fd, const struct call *c)
{
	to(fd, c);
	CALL("listen", listen(fd, 5));
}

static void then_connect(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	to(fd, c);
	CALL("connect", connect(fd, SOCKADDR(&a), a.length));
}

static void then_bind_a_port(int fd, const struct call *c)
{
	struct address a = call_address(c);

	to(fd, c);
	((struct sockaddr_in *)&a.storage)->sin_port = htons(OUR_PORT);
	CALL("bind", bind(fd, SOCKADDR(&a), a.length));
}

/* What is written, and that nothing is written past the room that was given. */
static void name_of_room(int fd, const struct call *c)
{
	unsigned char name[160];
	socklen_t length = (socklen_t)c->length;
	size_t room = c->length < 0 ? sizeof name : (size_t)c->length;
	bool kept = true;

	memset(name, 0xee, sizeof name);
	CALL("getsockname", getsockname(fd, (struct sockaddr *)name, &length));
	for (size_t i = room; i < sizeof name; i++)
		kept &= name[i] == 0xee;
	tell("length=%d", (int)length);
	tell("rest=%s", kept ? "untouched" : "written");
	tell("family=%02x%02x", name[0], name[1]);
	tell("port=%s", name[2] == 0 && name[3] == 0	     ? "0"
			: name[2] == 0xee && name[3] == 0xee ? "untouched"
							     : "some");
}

static void name_null(int fd, const struct call *c)
{
	socklen_t length = sizeof(struct sockaddr_in6);

	CALL("getsockname", getsockname(fd, NULL, &length));
	tell("length=%d", (int)length);
}

static void name_unmapped(int fd, const struct call *c)
{
	socklen_t length = sizeof(struct sockaddr_in6);

	CALL("getsockname", getsockname(fd, nowhere(), &length));
}

static void name_half_mapped(int fd, const struct call *c)
{
	static const char zero[4];
	socklen_t length = sizeof(struct sockaddr_in6);

	CALL("getsockname", getsockname(fd, at_the_edge(zero, sizeof zero), &length));
}

static void name_null_length(int fd, const struct call *c)
{
	struct sockaddr_storage name;

	CALL("getsockname", getsockname(fd, (struct sockaddr *)&name, NULL));
}

static void name_unmapped_length(int fd, const struct call *c)
{
	struct sockaddr_storage name;

	CALL("getsockname", getsockname(fd, (struct sockaddr *)&name, nowhere()));
}

static void name_read_only_length(int fd, const struct call *c)
{
	static const socklen_t length = sizeof(struct sockaddr_in6);
	struct sockaddr_storage name;

	CALL("getsockname", getsockname(fd, (struct sockaddr *)&name, (socklen_t *)&length));
}

const struct call calls_bind[] = {
	{"bind to loopback", to, TO(loopback)},
	{"bind to loopback twice", twice, TO(loopback)},
	{"bind to loopback, then a port", then_bind_a_port, TO(loopback)},
	{"bind to loopback, listen", then_listen, TO(loopback)},
	{"bind to loopback, connect", then_connect, TO(loopback)},
	{"bind to second, connect", then_connect, TO(second)},
	{"bind to wire, connect", then_connect, TO(wire)},
	{"bind to any", to, TO(any)},
	{"bind to any twice", twice, TO(any)},
	{"bind to any, listen", then_listen, TO(any)},
	{"bind to any, connect", then_connect, TO(any)},
	{"bind to any, then a port", then_bind_a_port, TO(any)},
	{"bind to a port", to, TO(loopback), .port = OUR_PORT},
	{"bind to a port, connect", then_connect, TO(loopback), .port = OUR_PORT},
	{"bind to a port of any", to, TO(any), .port = OUR_PORT},
	{"bind to a taken port", to, TO(loopback), .port = OPEN_PORT},
	{"bind to a low port", to, TO(loopback), .port = 81},
	{"bind to wire", to, TO(wire)},
	{"bind to foreign", to, TO(foreign)},
	{"bind to foreign, connect", then_connect, TO(foreign)},
	{"bind to multicast", to, TO(multicast)},
	{"bind to multicast, connect", then_connect, TO(multicast)},
	{"bind to broadcast", to, "255.255.255.255"},
	{"bind to the wire's broadcast", to, "10.9.0.255"},
	{"bind to IPv4", to, "127.0.0.1"},
	{"bind to IPv6", to, "::1"},
	{"bind to IPv4 any", to, "0.0.0.0"},
	{"bind to IPv6 any", to, "::"},
	{"bind to mapped", to, "::ffff:127.0.0.1"},
	{"bind to mapped any", to, "::ffff:0.0.0.0"},
	{"bind to mapped any, connect", then_connect, "::ffff:0.0.0.0"},
	{"bind to mapped, connect", then_connect, "::ffff:127.0.0.1"},
	{"bind to link-local", to, "fe80::1%wire"},
	{"bind to link-local without scope", to, "fe80::1"},
	{"bind to a path", to, "/nonexistent/socket"},
	{"bind to an abstract name", to, "@differential"},
	{"bind, length 0", of_length, .length = 0},
	{"bind, length 1", of_length, .length = 1},
	{"bind, length 2", of_length, .length = 2},
	{"bind, length 8", of_length, .length = 8},
	{"bind, length 15", of_length, .length = 15},
	{"bind, length 16", of_length, .length = 16},
	{"bind, length 23", of_length, .length = 23},
	{"bind, length 24", of_length, .length = 24},
	{"bind, length 27", of_length, .length = 27},
	{"bind, length 29", of_length, .length = 29},
	{"bind, length 128", of_length, .length = 128},
	{"bind, length 129", of_length, .length = 129},
	{"bind, length INT_MAX", of_length, .length = INT_MAX},
	{"bind, length -1", of_length, .length = -1},
	{"bind, AF_UNSPEC any", of_family, .value = AF_UNSPEC},
	{"bind, AF_UNSPEC loopback", of_family, "127.0.0.1", .value = AF_UNSPEC},
	{"bind, family 47", of_family, .value = 47},
	{"bind, family AF_UNIX", of_family, .value = AF_UNIX},
	{"bind, NULL", null, .length = sizeof(struct sockaddr_in6)},
	{"bind, NULL, length 0", null, .length = 0},
	{"bind, a member of NULL", low},
	{"bind, unmapped", unmapped, .length = sizeof(struct sockaddr_in6)},
	{"bind, unmapped, length 0", unmapped, .length = 0},
	{"bind, unmapped, length 2", unmapped, .length = 2},
	{"bind, half mapped", half_mapped},
	{"bind, family mapped", family_mapped},
	{"bind, just mapped", just_mapped},
	{"getsockname", name_of_room, .length = 128},
	{"getsockname, room 0", name_of_room, .length = 0},
	{"getsockname, room 1", name_of_room, .length = 1},
	{"getsockname, room 2", name_of_room, .length = 2},
	{"getsockname, room 4", name_of_room, .length = 4},
	{"getsockname, room 8", name_of_room, .length = 8},
	{"getsockname, room 16", name_of_room, .length = 16},
	{"getsockname, room 28", name_of_room, .length = 28},
	{"getsockname, room -1", name_of_room, .length = -1},
	{"getsockname, room INT_MIN", name_of_room, .length = INT_MIN},
	{"getsockname, NULL", name_null},
	{"getsockname, unmapped", name_unmapped},
	{"getsockname, half mapped", name_half_mapped},
	{"getsockname, NULL length", name_null_length},
	{"getsockname, unmapped length", name_unmapped_length},
	{"getsockname, read-only length", name_read_only_length},
	{NULL, NULL},
};
