/*
 * sendto(), sendmsg() and sendmmsg(), those that connect (MSG_FASTOPEN) and all others.
 */
#include "differential.h"

#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#define SIGNALLESS MSG_NOSIGNAL

static char hello[] = "hello";

static void bytes(int fd, const struct call *c)
{
	CALL("sendto", sendto(fd, "hello", 5, c->flags | SIGNALLESS, NULL, 0));
}

static void to(int fd, const struct call *c)
{
	struct address a = call_address(c);

	CALL("sendto", sendto(fd, "hello", 5, c->flags | SIGNALLESS, SOCKADDR(&a), a.length));
}

static void to_void(int fd, const struct call *c)
{
	set_nonblocking(fd);
	to(fd, c);
}

static void of_length(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("sendto",
		sendto(fd, "x", 1, c->flags | SIGNALLESS, SOCKADDR(&a), (socklen_t)c->length));
}

static void to_null(int fd, const struct call *c)
{
	CALL("sendto", sendto(fd, "x", 1, c->flags | SIGNALLESS, NULL, (socklen_t)c->length));
}

static void to_unmapped(int fd, const struct call *c)
{
	CALL("sendto",
		sendto(fd, "x", 1, c->flags | SIGNALLESS, nowhere(), sizeof(struct sockaddr_in6)));
}

static void to_nobody(int fd, const struct call *c)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	CALL("sendto", sendto(fd, "x", 1, c->flags | SIGNALLESS, &none, sizeof none));
}

static void nothing(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("sendto", sendto(fd, NULL, 0, c->flags | SIGNALLESS, SOCKADDR(&a), a.length));
}

static void unmapped_bytes(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);

	CALL("sendto", sendto(fd, nowhere(), 5, c->flags | SIGNALLESS, SOCKADDR(&a), a.length));
}

/* A message in two parts, to a destination or, port 0, to none. */
static void message(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, c->port);
	struct iovec parts[2] = {{hello, 3}, {hello + 3, 2}};
	struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2, .msg_flags = 0x7fff};

	if (c->port != 0) {
		m.msg_name = &a.storage;
		m.msg_namelen = a.length;
	}
	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
	tell("flags=%x", m.msg_flags);
}

static void message_null(int fd, const struct call *c)
{
	CALL("sendmsg", sendmsg(fd, NULL, c->flags | SIGNALLESS));
}

static void message_unmapped(int fd, const struct call *c)
{
	CALL("sendmsg", sendmsg(fd, nowhere(), c->flags | SIGNALLESS));
}

static void message_empty(int fd, const struct call *c)
{
	struct msghdr m = {.msg_flags = 0};

	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

static void message_to_unmapped(int fd, const struct call *c)
{
	struct msghdr m = {.msg_name = nowhere(), .msg_namelen = sizeof(struct sockaddr_in6)};

	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

static void message_parts(int fd, const struct call *c)
{
	struct iovec part = {hello, 1};
	struct msghdr m = {.msg_iov = c->value ? &part : NULL, .msg_iovlen = (size_t)c->length};

	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

static void message_unmapped_parts(int fd, const struct call *c)
{
	struct address a = address_of(place->loopback, OPEN_PORT);
	struct msghdr m = {.msg_name = &a.storage,
		.msg_namelen = a.length,
		.msg_iov = nowhere(),
		.msg_iovlen = 1};

	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

/* Ancillary data: one header of this level, type and length, with an int or two in it. */
static void message_with(
	int fd, const struct call *c, int level, int type, int first, size_t length)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = {.header = {.cmsg_len = length, .cmsg_level = level, .cmsg_type = type}};
	struct iovec part = {hello, 1};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof control};

	memcpy(CMSG_DATA(&control.header), &first, sizeof first);
	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

static void message_with_descriptor(int fd, const struct call *c)
{
	message_with(fd, c, SOL_SOCKET, SCM_RIGHTS, c->value, CMSG_LEN(sizeof(int)));
}

static void message_with_itself(int fd, const struct call *c)
{
	message_with(fd, c, SOL_SOCKET, SCM_RIGHTS, fd, CMSG_LEN(sizeof(int)));
}

static void message_with_length(int fd, const struct call *c)
{
	message_with(fd, c, SOL_SOCKET, SCM_RIGHTS, 1, (size_t)c->length);
}

static void message_with_ttl(int fd, const struct call *c)
{
	message_with(fd, c, IPPROTO_IP, IP_TTL, 5, CMSG_LEN(sizeof(int)));
}

static void message_control_unmapped(int fd, const struct call *c)
{
	struct iovec part = {hello, 1};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = nowhere(),
		.msg_controllen = (size_t)c->length};

	CALL("sendmsg", sendmsg(fd, &m, c->flags | SIGNALLESS));
}

/* So many messages at once, the second one with a descriptor. */
static void messages(int fd, const struct call *c)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	struct address a = address_of(place->loopback, c->port);
	struct iovec part = {hello, 5};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}},
		{.msg_hdr = {.msg_iov = &part,
			 .msg_iovlen = 1,
			 .msg_control = &control,
			 .msg_controllen = sizeof control}}};

	memcpy(CMSG_DATA(&control.header), &c->value, sizeof c->value);
	if (c->port != 0) {
		m[0].msg_hdr.msg_name = &a.storage;
		m[0].msg_hdr.msg_namelen = a.length;
	}
	CALL("sendmmsg", sendmmsg(fd, m, (unsigned)c->length, c->flags | SIGNALLESS));
	tell("lengths=%u,%u", m[0].msg_len, m[1].msg_len);
}

static void messages_null(int fd, const struct call *c)
{
	CALL("sendmmsg", sendmmsg(fd, NULL, (unsigned)c->length, c->flags | SIGNALLESS));
}

static void messages_unmapped(int fd, const struct call *c)
{
	CALL("sendmmsg", sendmmsg(fd, nowhere(), (unsigned)c->length, c->flags | SIGNALLESS));
}

#define FAST .flags = MSG_FASTOPEN

const struct call calls_send[] = {
	{"send", bytes},
	{"send, MSG_OOB", bytes, .flags = MSG_OOB},
	{"send, MSG_DONTWAIT", bytes, .flags = MSG_DONTWAIT},
	{"send, MSG_MORE", bytes, .flags = MSG_MORE},
	{"send, MSG_DONTROUTE", bytes, .flags = MSG_DONTROUTE},
	{"send, MSG_ERRQUEUE", bytes, .flags = MSG_ERRQUEUE},
	{"send, all flags but MSG_FASTOPEN", bytes, .flags = ~MSG_FASTOPEN & ~MSG_OOB & ~MSG_MORE},
	{"send to loopback", to, TO(loopback), .port = OPEN_PORT},
	{"send to nobody's port", to, TO(loopback), .port = NOBODY},
	{"send to port 0", to, TO(loopback)},
	{"send to unreachable", to, TO(unreachable), .port = OPEN_PORT},
	{"send to broadcast", to, "255.255.255.255", .port = OPEN_PORT},
	{"send to multicast", to, TO(multicast), .port = OPEN_PORT},
	{"send to IPv4", to, "127.0.0.1", .port = OPEN_PORT},
	{"send to IPv6", to, "::1", .port = OPEN_PORT},
	{"send to a path", to, "/nonexistent/socket"},
	{"send to, length 2", of_length, .length = 2},
	{"send to, length 8", of_length, .length = 8},
	{"send to, length -1", of_length, .length = -1},
	{"send to NULL, length 16", to_null, .length = 16},
	{"send to unmapped", to_unmapped},
	{"send to AF_UNSPEC", to_nobody},
	{"send nothing", nothing},
	{"send unmapped bytes", unmapped_bytes},
	{"fastopen", bytes, FAST},
	{"fastopen to loopback", to, TO(loopback), .port = OPEN_PORT, FAST},
	{"fastopen to loopback, MSG_DONTWAIT", to, TO(loopback), .port = OPEN_PORT,
		.flags = MSG_FASTOPEN | MSG_DONTWAIT},
	{"fastopen to loopback, MSG_OOB", to, TO(loopback), .port = OPEN_PORT,
		.flags = MSG_FASTOPEN | MSG_OOB},
	{"fastopen to loopback, MSG_ZEROCOPY", to, TO(loopback), .port = OPEN_PORT,
		.flags = MSG_FASTOPEN | MSG_ZEROCOPY},
	{"fastopen to loopback, all flags", to, TO(loopback), .port = OPEN_PORT,
		.flags = ~MSG_OOB & ~MSG_MORE},
	{"fastopen to nobody's port", to, TO(loopback), .port = NOBODY, FAST},
	{"fastopen to port 0", to, TO(loopback), FAST},
	{"fastopen to void", to_void, TO(void_), .port = OPEN_PORT, FAST},
	{"fastopen to unreachable", to, TO(unreachable), .port = OPEN_PORT, FAST},
	{"fastopen to any", to, TO(any), .port = OPEN_PORT, FAST},
	{"fastopen to multicast", to, TO(multicast), .port = OPEN_PORT, FAST},
	{"fastopen to IPv4", to, "127.0.0.1", .port = OPEN_PORT, FAST},
	{"fastopen to IPv6", to, "::1", .port = OPEN_PORT, FAST},
	{"fastopen to mapped", to, "::ffff:127.0.0.1", .port = OPEN_PORT, FAST},
	{"fastopen to, length 0", of_length, .length = 0, FAST},
	{"fastopen to, length 2", of_length, .length = 2, FAST},
	{"fastopen to, length 8", of_length, .length = 8, FAST},
	{"fastopen to, length 128", of_length, .length = 128, FAST},
	{"fastopen to, length 129", of_length, .length = 129, FAST},
	{"fastopen to, length -1", of_length, .length = -1, FAST},
	{"fastopen to NULL, length 16", to_null, .length = 16, FAST},
	{"fastopen to unmapped", to_unmapped, FAST},
	{"fastopen to AF_UNSPEC", to_nobody, FAST},
	{"fastopen nothing", nothing, FAST},
	{"fastopen unmapped bytes", unmapped_bytes, FAST},
	{"message", message},
	{"message to loopback", message, .port = OPEN_PORT},
	{"message to nobody's port", message, .port = NOBODY},
	{"message, fastopen", message, FAST},
	{"message, fastopen to loopback", message, .port = OPEN_PORT, FAST},
	{"message, fastopen to nobody's port", message, .port = NOBODY, FAST},
	{"message, NULL", message_null},
	{"message, NULL, fastopen", message_null, FAST},
	{"message, unmapped", message_unmapped},
	{"message, unmapped, fastopen", message_unmapped, FAST},
	{"message, empty", message_empty},
	{"message, empty, fastopen", message_empty, FAST},
	{"message to unmapped", message_to_unmapped},
	{"message to unmapped, fastopen", message_to_unmapped, FAST},
	{"message, no parts", message_parts, .length = 0, .value = 1},
	{"message, NULL parts", message_parts, .length = 1},
	{"message, too many parts", message_parts, .length = IOV_MAX + 1, .value = 1},
	{"message, -1 parts", message_parts, .length = -1, .value = 1},
	{"message, unmapped parts", message_unmapped_parts},
	{"message, unmapped parts, fastopen", message_unmapped_parts, FAST},
	{"messages", messages, .length = 1},
	{"messages, two", messages, .length = 2, .value = 1},
	{"messages, two, a closed descriptor", messages, .length = 2, .value = 999},
	{"messages, none", messages, .length = 0},
	{"messages to loopback", messages, .length = 1, .port = OPEN_PORT},
	{"messages, NULL", messages_null, .length = 1},
	{"messages, NULL, none", messages_null, .length = 0},
	{"messages, unmapped", messages_unmapped, .length = 1},
	{"messages, unmapped, very many", messages_unmapped, .length = -1},
	{"message with a descriptor", message_with_descriptor, .value = 1},
	{"message with descriptor -1", message_with_descriptor, .value = -1},
	{"message with a closed descriptor", message_with_descriptor, .value = 999},
	{"message with its own descriptor", message_with_itself},
	{"message with ancillary data of length 0", message_with_length, .length = 0},
	{"message with ancillary data of length 1", message_with_length, .length = 1},
	{"message with ancillary data of no descriptor", message_with_length,
		.length = CMSG_LEN(0)},
	{"message with ancillary data too long", message_with_length, .length = 4096},
	{"message with a TTL", message_with_ttl},
	{"message with unmapped ancillary data", message_control_unmapped, .length = 32},
	{"message with unmapped ancillary data of length 0", message_control_unmapped, .length = 0},
	{"message with unmapped ancillary data, fastopen", message_control_unmapped, .length = 32,
		FAST},
	{NULL, NULL},
};
