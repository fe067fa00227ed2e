/*
 * ring ADDRESS PORT: connects one socket through io_uring and one through libc.
 *
 * Says the local addresses and ports of both, or "no io_uring: ERROR" where the kernel has none
 * for us. Closes them when stdin ends.
 */
#include "endpoint.h"

#include <errno.h>
#include <liburing.h>
#include <unistd.h>

static void fail(const char *what, int error)
{
	printf("%s: %s\n", what, strerrorname_np(error));
	exit(1);
}

static void connect_by_ring(int fd, const struct endpoint *to)
{
	struct io_uring ring;
	struct io_uring_cqe *done;
	int error = io_uring_queue_init(1, &ring, 0);

	if (error < 0)
		fail("no io_uring", -error);
	io_uring_prep_connect(
		io_uring_get_sqe(&ring), fd, (struct sockaddr *)&to->address, to->length);
	error = io_uring_submit_and_wait(&ring, 1);
	if (error >= 0)
		error = io_uring_peek_cqe(&ring, &done);
	if (error == 0)
		error = done->res;
	if (error < 0)
		fail("io_uring connect", -error);
	io_uring_queue_exit(&ring);
}

static void say_name(int fd, char separator)
{
	struct sockaddr_in name;
	socklen_t length = sizeof name;

	getsockname(fd, (struct sockaddr *)&name, &length);
	printf("%s %u%c", inet_ntoa(name.sin_addr), ntohs(name.sin_port), separator);
}

int main(int argc, char **argv)
{
	struct endpoint to = endpoint_read(argv[1], argv[2]);
	int by_ring = socket(AF_INET, SOCK_STREAM, 0), by_libc = socket(AF_INET, SOCK_STREAM, 0);
	char byte;

	connect_by_ring(by_ring, &to);
	if (connect(by_libc, (struct sockaddr *)&to.address, to.length) < 0)
		fail("connect", errno);
	say_name(by_ring, ' ');
	say_name(by_libc, '\n');
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	close(by_ring);
	close(by_libc);
	return 0;
}
