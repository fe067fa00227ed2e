/*
 * arguments ADDRESS PORT: hands connect() and close() what they must refuse, and tells how they
 * did.
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
	return 0;
}
