/*
 * echo ADDRESS PORT [ADDRESS PORT]...: a server that sends back what it gets and closes after
 * its client has.
 *
 * Says "ready" on stdout when all sockets listen, ends when stdin does. It is here for clients that
 * close first: the TIME_WAIT is theirs.
 */
#include "endpoint.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 256
#define BUFFER 4096

static int poller;

static void fail(const char *what)
{
	fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The event says what to do: a listener is negative. */
static void watch(int fd, int as)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = as};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll_ctl");
}

static void listen_on(const char *address, const char *port)
{
	struct endpoint e = endpoint_read(address, port);
	int fd = socket(e.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&e.address, e.length) < 0 || listen(fd, 1 << 30) < 0)
		fail(address);
	watch(fd, -fd);
}

static void take_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		watch(fd, fd);
}

static void answer(int fd)
{
	char buffer[BUFFER];
	ssize_t got = read(fd, buffer, sizeof buffer);

	if (got <= 0 || write(fd, buffer, (size_t)got) != got)
		close(fd);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];

	poller = epoll_create1(0);
	for (int i = 1; i + 1 < argc; i += 2)
		listen_on(argv[i], argv[i + 1]);
	watch(STDIN_FILENO, STDIN_FILENO);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd == STDIN_FILENO)
				return 0;
			if (fd < 0)
				take_all(-fd);
			else
				answer(fd);
		}
	}
}
