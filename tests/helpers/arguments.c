/*
 * arguments ADDRESS PORT: hands the taken-over calls what they must refuse, and tells how they did.
 *
 * ADDRESS is IPv4 and something listens on PORT. Prints one line per call: what was tried, result,
 * errno. The output must be the same with and without tuplebind.
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

/* What errno holds before each call, to see who writes to it. */
#define UNTOUCHED 4242

static struct sockaddr_in in;

static void tell(const char *what, int result)
{
	int error = errno;

	printf("%s: %d %s\n", what, result,
		error == UNTOUCHED ? "untouched" : strerrorname_np(error));
	fflush(stdout);
}

static void try_connect(const char *what, int fd, const void *to, socklen_t length)
{
	errno = UNTOUCHED;
	tell(what, connect(fd, to, length));
}

static void try_close(const char *what, int fd)
{
	errno = UNTOUCHED;
	tell(what, close(fd));
}

static void try_bind(const char *what, int fd, const void *to, socklen_t length)
{
	errno = UNTOUCHED;
	tell(what, bind(fd, to, length));
}

static void try_name(const char *what, int fd, void *name, socklen_t *length)
{
	errno = UNTOUCHED;
	tell(what, getsockname(fd, name, length));
}

static void try_send(const char *what, int fd, const void *to, socklen_t length, int flags)
{
	errno = UNTOUCHED;
	tell(what, (int)sendto(fd, "x", 1, flags | MSG_NOSIGNAL, to, length));
}

static int tcp(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd < 0)
		abort();
	return fd;
}

static void lengths(void)
{
	static const socklen_t lengths[] = {
		0, 1, 2, 3, 7, 8, 15, sizeof(struct sockaddr_storage) + 1, (socklen_t)-1};
	char what[64];

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		snprintf(what, sizeof what, "length %d", (int)lengths[i]);
		int fd = tcp(AF_INET);
		try_connect(what, fd, &in, lengths[i]);
		close(fd);
	}
	int fd = tcp(AF_INET6);
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = in.sin_port};
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6.sin6_addr);
	try_connect("v6 length 23", fd, &in6, 23);
	try_connect("v6 length 24, without scope", fd, &in6, 24);
	close(fd);
	fd = tcp(AF_INET);
	struct sockaddr_storage longer = {0};
	memcpy(&longer, &in, sizeof in);
	try_connect("longer than needed", fd, &longer, sizeof longer);
	close(fd);
}

static void addresses(void)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = in.sin_port};
	struct sockaddr_in odd = in;
	int fd = tcp(AF_INET);

	try_connect("null", fd, NULL, sizeof in);
	try_connect("null, length 0", fd, NULL, 0);
	try_connect("not mapped", fd, (void *)8, sizeof in);
	try_connect("v6 address on v4 socket", fd, &in6, sizeof in6);
	odd.sin_family = AF_MAX + 1;
	try_connect("no such family", fd, &odd, sizeof odd);
	odd.sin_family = AF_UNIX;
	try_connect("unix family on v4 socket", fd, &odd, sizeof odd);
	odd = in;
	odd.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	try_connect("broadcast", fd, &odd, sizeof odd);
	odd.sin_addr.s_addr = htonl(0xe0000001);
	try_connect("multicast", fd, &odd, sizeof odd);
	close(fd);

	fd = tcp(AF_INET);
	odd.sin_family = AF_UNSPEC;
	try_connect("unspecified family", fd, &odd, sizeof odd);
	close(fd);

	fd = tcp(AF_INET6);
	try_connect("v4 address on v6 socket", fd, &in, sizeof in);
	close(fd);

	int yes = 1;
	fd = tcp(AF_INET6);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6.sin6_addr);
	try_connect("mapped address on v6-only socket", fd, &in6, sizeof in6);
	close(fd);
}

static void descriptors(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
	int ends[2], fd;

	try_connect("descriptor -1", -1, &in, sizeof in);
	try_connect("descriptor 1234567, never open", 1234567, &in, sizeof in);
	fd = tcp(AF_INET);
	close(fd);
	try_connect("closed descriptor", fd, &in, sizeof in);
	try_close("closed again", fd);
	try_close("close -1", -1);
	if (pipe(ends) < 0)
		abort();
	try_connect("pipe", ends[0], &in, sizeof in);
	close(ends[0]);
	close(ends[1]);
	fd = open("/dev/null", O_RDONLY);
	try_connect("file", fd, &in, sizeof in);
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	try_connect("unix path missing", fd, &un, sizeof un);
	try_connect("v4 address on unix socket", fd, &in, sizeof in);
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	try_connect("udp", fd, &in, sizeof in);
	close(fd);
}

static void states(void)
{
	struct sockaddr_in nobody = in;
	int fd = tcp(AF_INET);

	try_connect("connected", fd, &in, sizeof in);
	try_connect("already connected", fd, &in, sizeof in);
	try_close("close", fd);
	fd = tcp(AF_INET);
	listen(fd, 1);
	try_connect("listening", fd, &in, sizeof in);
	close(fd);
	fd = tcp(AF_INET);
	nobody.sin_port = htons(1);
	try_connect("refused", fd, &nobody, sizeof nobody);
	try_connect("refused again", fd, &nobody, sizeof nobody);
	nobody.sin_port = 0;
	try_connect("port 0", fd, &nobody, sizeof nobody);
	try_connect("connected after refusals", fd, &in, sizeof in);
	close(fd);
}

/* bind() without a port, which is put off, and with one. */
static void binds(void)
{
	static const socklen_t lengths[] = {0, 1, 2, 8, 15, 128, 129, (socklen_t)-1};
	struct sockaddr_storage room = {0};
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
	int ends[2];

	memcpy(&room, &any, sizeof any);
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		int fd = tcp(AF_INET);
		try_bind("bind, some length", fd, &room, lengths[i]);
		close(fd);
		fd = tcp(AF_INET6);
		try_bind("bind a v4 address to a v6 socket", fd, &room, lengths[i]);
		close(fd);
	}
	int fd = tcp(AF_INET);
	try_bind("bind null", fd, NULL, sizeof any);
	try_bind("bind not mapped", fd, (void *)8, sizeof any);
	any.sin_family = AF_UNSPEC;
	try_bind("bind unspecified family", fd, &any, sizeof any);
	any.sin_family = AF_INET;
	try_bind("bind again", fd, &any, sizeof any);
	try_bind("bind a third time", fd, &any, sizeof any);
	close(fd);
	try_bind("bind closed descriptor", fd, &any, sizeof any);
	try_bind("bind descriptor -1", -1, &any, sizeof any);
	if (pipe(ends) < 0)
		abort();
	try_bind("bind pipe", ends[0], &any, sizeof any);
	close(ends[0]);
	close(ends[1]);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	try_bind("bind unix", fd, &un, sizeof un);
	try_bind("bind v4 address to unix", fd, &any, sizeof any);
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	try_bind("bind udp", fd, &any, sizeof any);
	try_bind("bind udp again", fd, &any, sizeof any);
	close(fd);
	fd = tcp(AF_INET);
	try_connect("connect", fd, &in, sizeof in);
	try_bind("bind connected", fd, &any, sizeof any);
	close(fd);
	fd = tcp(AF_INET);
	listen(fd, 1);
	try_bind("bind listening", fd, &any, sizeof any);
	close(fd);
}

/* getsockname() of a socket whose bind() was put off: nothing past the room given is written. */
static void names(void)
{
	static const socklen_t rooms[] = {0, 1, 2, 3, 4, 8, 16, 64};
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
	unsigned char name[80];
	socklen_t length;

	for (size_t i = 0; i < 2 * sizeof rooms / sizeof *rooms; i++) {
		int fd = tcp(i % 2 ? AF_INET6 : AF_INET);
		bool kept = true;

		if (i % 2)
			try_bind("bind any6", fd, &any6, sizeof any6);
		else
			try_bind("bind any", fd, &any, sizeof any);
		memset(name, 0xee, sizeof name);
		length = rooms[i / 2];
		try_name("getsockname", fd, name, &length);
		for (size_t j = rooms[i / 2]; j < sizeof name; j++)
			kept &= name[j] == 0xee;
		printf("length %d, port %s, rest %s\n", (int)length,
			rooms[i / 2] < 4 || name[2] || name[3] ? "there" : "missing",
			kept ? "untouched" : "written to");
		close(fd);
	}
	int fd = tcp(AF_INET);
	try_bind("bind any", fd, &any, sizeof any);
	try_name("getsockname null", fd, NULL, &length);
	try_name("getsockname null length", fd, name, NULL);
	try_name("getsockname, length not mapped", fd, name, (void *)(uintptr_t)0x10000);
	length = (socklen_t)-1;
	try_name("getsockname negative length", fd, name, &length);
	close(fd);
	length = sizeof name;
	try_name("getsockname closed", fd, name, &length);
	try_name("getsockname -1", -1, name, &length);
	fd = open("/dev/null", O_RDONLY);
	try_name("getsockname file", fd, name, &length);
	close(fd);
}

/* Sends that connect. */
static void sends(void)
{
	struct msghdr empty = {.msg_flags = 0};
	struct sockaddr_in odd = in;
	int fd = tcp(AF_INET);

	try_send("send unconnected", fd, NULL, 0, 0);
	try_send("send to, unconnected", fd, &in, sizeof in, 0);
	try_send("fastopen null", fd, NULL, sizeof in, MSG_FASTOPEN);
	try_send("fastopen null, length 0", fd, NULL, 0, MSG_FASTOPEN);
	try_send("fastopen not mapped", fd, (void *)8, sizeof in, MSG_FASTOPEN);
	try_send("fastopen short", fd, &in, 8, MSG_FASTOPEN);
	try_send("fastopen negative length", fd, &in, (socklen_t)-1, MSG_FASTOPEN);
	odd.sin_family = AF_UNSPEC;
	try_send("fastopen unspecified family", fd, &odd, sizeof odd, MSG_FASTOPEN);
	errno = UNTOUCHED;
	tell("fastopen sendmsg null", (int)sendmsg(fd, NULL, MSG_FASTOPEN | MSG_NOSIGNAL));
	errno = UNTOUCHED;
	tell("fastopen sendmsg empty", (int)sendmsg(fd, &empty, MSG_FASTOPEN | MSG_NOSIGNAL));
	close(fd);
	try_send("fastopen closed", fd, &in, sizeof in, MSG_FASTOPEN);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	try_send("fastopen udp", fd, &in, sizeof in, MSG_FASTOPEN);
	close(fd);
	fd = tcp(AF_INET);
	try_send("fastopen", fd, &in, sizeof in, MSG_FASTOPEN);
	try_send("send", fd, NULL, 0, 0);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	struct endpoint to = endpoint_read(argv[1], argv[2]);
	memcpy(&in, &to.address, sizeof in);
	lengths();
	addresses();
	descriptors();
	states();
	binds();
	names();
	sends();
	return 0;
}
