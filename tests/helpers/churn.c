/*
 * churn ADDRESS PORT COUNT LAP: connections one after another, each closed by this side first.
 *
 * COUNT times: connects to ADDRESS and PORT, sends eight bytes of its own, must get them back,
 * and closes, which leaves the tuple in TIME_WAIT. COUNT 0: until SIGTERM. Goes on after failures.
 *
 * Prints one JSON object: done, failed (error: how often), and the mean microseconds of a connect()
 * of each lap of LAP connections.
 */
#include "endpoint.h"

#include <errno.h>
#include <sys/time.h>
#include <unistd.h>

#define ERRORS 256
#define LAPS 1024
#define ANSWER_SECONDS 10

/* 0, or the error. */
static int exchange(int fd, long token)
{
	struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	long back = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (write(fd, &token, sizeof token) != sizeof token ||
		recv(fd, &back, sizeof back, MSG_WAITALL) < 0)
		return errno;
	return back == token ? 0 : EBADMSG;
}

static int once(const struct endpoint *to, long *took)
{
	int fd = socket(to->address.ss_family, SOCK_STREAM, 0);

	if (fd < 0)
		return errno;
	long before = clock_ns();
	int error = connect(fd, (const struct sockaddr *)&to->address, to->length) < 0 ? errno : 0;
	*took = clock_ns() - before;
	if (error == 0)
		error = exchange(fd, before);
	close(fd);
	return error;
}

int main(int argc, char **argv)
{
	static long failed[ERRORS], lap_ns[LAPS];
	const char *comma = "";
	long done = 0, i;

	if (argc != 5) {
		fprintf(stderr, "usage: churn ADDRESS PORT COUNT LAP\n");
		return 2;
	}
	struct endpoint to = endpoint_read(argv[1], argv[2]);
	long count = atol(argv[3]), lap = atol(argv[4]);
	hold_term();
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; !term_came() && (count == 0 || i < count); i++) {
		long took = 0;
		int error = once(&to, &took);

		if (error != 0)
			failed[error < ERRORS ? error : 0]++;
		else
			done++;
		lap_ns[i / lap % LAPS] += took;
	}
	printf("{\"done\":%ld,\"failed\":{", done);
	for (int error = 0; error < ERRORS; error++) {
		if (failed[error] == 0)
			continue;
		printf("%s\"%s\":%ld", comma, strerrorname_np(error), failed[error]);
		comma = ",";
	}
	printf("},\"us\":[");
	for (long n = 0; n < i / lap && n < LAPS; n++)
		printf("%s%.1f", n ? "," : "", (double)lap_ns[n] / 1e3 / (double)lap);
	puts("]}");
	return 0;
}
