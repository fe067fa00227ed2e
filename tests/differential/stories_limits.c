/*
 * Where something runs out, and descriptors in number.
 */
#include "differential.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void limit(int resource, rlim_t most)
{
	struct rlimit limits = {.rlim_cur = most, .rlim_max = most};

	must(setrlimit(resource, &limits), "setrlimit");
}

/* So many descriptors are left when the life begins. */
static void few_descriptors(const struct story *s)
{
	limit(RLIMIT_NOFILE, 3 + (rlim_t)s->value);
	for (int i = 0; i < 4; i++) {
		int fd = socket(place->family, i % 2 ? SOCK_DGRAM : SOCK_STREAM, 0);

		tell_result("socket", fd);
		if (fd >= 0) {
			struct address to = address_of(place->loopback, OPEN_PORT);
			CALL("connect", connect(fd, SOCKADDR(&to), to.length));
			CALL("dup", dup(fd));
			CALL("fcntl", fcntl(fd, F_DUPFD, 0));
			CALL("dup2", dup2(fd, 3 + s->value));
			CALL("dup2", dup2(fd, 2 + s->value));
			tell_descriptor(fd);
		}
	}
	tell_open();
	CALL("close_range", close_range(3, ~0U, 0));
	tell_ordinary();
}

/* None is left when a socket that is there connects. */
static void no_descriptor(const struct story *s)
{
	struct address to = address_of(place->loopback, OPEN_PORT);
	int stream = tcp(), datagram = udp(), bound = tcp();

	limit(RLIMIT_NOFILE, s->value ? 0 : 6);
	do_bind(bound, place->loopback, 0);
	CALL("connect", connect(stream, SOCKADDR(&to), to.length));
	CALL("connect", connect(datagram, SOCKADDR(&to), to.length));
	CALL("connect", connect(bound, SOCKADDR(&to), to.length));
	CALL("socket", socket(place->family, SOCK_STREAM, 0));
	tell_descriptor(stream);
	tell_descriptor(datagram);
	tell_descriptor(bound);
	CALL("dup", dup(stream));
	CALL("dup2", dup2(stream, datagram));
	CALL("close", close(stream));
	CALL("close", close(bound));
	CALL("close", close(datagram));
	tell_open();
}

/* Whatever the library maps it cannot. */
static void no_memory(const struct story *s)
{
	limit(RLIMIT_AS, 1 << 20);
	tell_result("mmap",
		mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	tell_ordinary();
	for (int i = 0; i < 3; i++)
		CALL("dup2", dup2(socket(place->family, SOCK_STREAM, 0), 500 + i));
	int fd = fcntl(500, F_DUPFD, 900);
	struct address to = address_of(place->loopback, OPEN_PORT);
	CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	CALL("close_range", close_range(3, ~0U, 0));
	tell_open();
}

static void no_file_size(const struct story *s)
{
	limit(RLIMIT_FSIZE, 0);
	tell_ordinary();
}

/* A number far beyond: another chunk of what the library keeps, or more than it keeps. */
static void high_descriptor(const struct story *s)
{
	struct rlimit limits;
	struct address to = address_of(place->loopback, OPEN_PORT);

	getrlimit(RLIMIT_NOFILE, &limits);
	limits.rlim_cur = limits.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limits);
	int fd = tcp();
	CALL("dup2", dup2(fd, s->value));
	CALL("fcntl", fcntl(fd, F_DUPFD_CLOEXEC, s->value));
	CALL("close", close(fd));
	CALL("connect", connect(s->value, SOCKADDR(&to), to.length));
	CALL("getfd", fcntl(s->value, F_GETFD));
	CALL("close_range", close_range((unsigned)s->value, (unsigned)s->value + 3, 0));
	CALL("getfd", fcntl(s->value, F_GETFD));
	CALL("getfd", fcntl(s->value + 1, F_GETFD));
}

static void many(int count)
{
	for (int i = 0; i < count; i++) {
		int fd = i % 3 == 2 ? udp() : tcp();
		if (i % 3 != 1)
			do_connect(fd, place->loopback, OPEN_PORT, 0);
	}
}

static void close_ranges(const struct story *s)
{
	static const unsigned ranges[][3] = {{5, 7, 0}, {9, 8, 0}, {6, 11, 0}, {~0U, ~0U, 0},
		{INT_MAX, ~0U, 0}, {(unsigned)INT_MAX + 1, ~0U, 0}, {12, 14, CLOSE_RANGE_CLOEXEC},
		{0, 0, 8}, {15, 15, CLOSE_RANGE_UNSHARE}, {18, 17, CLOSE_RANGE_CLOEXEC},
		{20, 2000, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC}, {25, 1 << 30, 0},
		{0, ~0U, CLOSE_RANGE_CLOEXEC}, {3, ~0U, 0}, {0, ~0U, 0}};

	many(30);
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
		CALL("close_range", close_range(ranges[i][0], ranges[i][1], (int)ranges[i][2]));
		tell_open();
		for (int fd = 12; fd < 15; fd++)
			CALL("getfd", fcntl(fd, F_GETFD));
		many(2);
	}
}

static void close_froms(const struct story *s)
{
	static const int firsts[] = {2000, 20, 11, 12, 3, INT_MAX, 0, -1, INT_MIN};

	many(30);
	for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
		errno = UNTOUCHED;
		closefrom(firsts[i]);
		tell_result("closefrom", 0);
		tell_open();
		many(2);
	}
}

/* The same few numbers, again and again, by every way that a number is taken and freed. */
static void numbers_again(const struct story *s)
{
	for (int i = 0; i < 20; i++) {
		int fd = i % 4 == 3 ? udp() : tcp(), other = tcp();

		do_connect(i % 2 ? fd : other, place->loopback, OPEN_PORT, 0);
		CALL("dup2", dup2(other, fd));
		if (i % 3 == 0)
			syscall(SYS_close, other);
		else
			CALL("close", close(other));
		tell_descriptor(fd);
		if (i % 5 == 0)
			syscall(SYS_close, fd);
		else
			CALL("close_range", close_range((unsigned)fd, (unsigned)fd, 0));
		tell_open();
	}
}

const struct story stories_limits[] = {
	{"descriptors, 0 left", few_descriptors, 0},
	{"descriptors, 1 left", few_descriptors, 1},
	{"descriptors, 2 left", few_descriptors, 2},
	{"descriptors, 3 left", few_descriptors, 3},
	{"descriptors, 5 left", few_descriptors, 5},
	{"descriptors, none for a connect", no_descriptor},
	{"descriptors, limit 0", no_descriptor, 1},
	{"descriptors, 1000", high_descriptor, 1000},
	{"descriptors, 4095", high_descriptor, 4095},
	{"descriptors, 4096", high_descriptor, 4096},
	{"descriptors, 20000", high_descriptor, 20000},
	{"descriptors, 2 million", high_descriptor, 2000000},
	{"descriptors, ranges closed", close_ranges},
	{"descriptors, closed from", close_froms},
	{"descriptors, numbers used again", numbers_again},
	{"no memory", no_memory},
	{"no file size", no_file_size},
	{NULL, NULL},
};
