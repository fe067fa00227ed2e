/*
 * storm [--reset] [--go-on] MOST ADDRESS PORT [ADDRESS PORT]...: connects and closes at full speed, at random.
 *
 * Holds a random number of connections, up to MOST, to the destinations; how many it wants changes all
 * the time. Half of them end in TIME_WAIT (this side closes first and waits for the other), half by a
 * reset. --reset: all by a reset, with the process too, so that the kernel keeps nothing of
 * them. The first connect() that fails ends it with exit code 1 (--go-on: is counted), what takes too
 * long with SIGALRM.
 *
 * Says "ready" first. SIGTERM makes it stop where it is: it prints one JSON object (connects, held,
 * failed, error), keeps what it has and waits for stdin to end. A failure is printed likewise.
 */
#include "endpoint.h"

#include <errno.h>
#include <unistd.h>

#define MOST 16384
#define DESTINATIONS 64
#define HANG_SECONDS 20

static struct endpoint destinations[DESTINATIONS];
static int destination_count, fds[MOST];
static long connects, held, failed;
static bool reset, go_on;

static void tell(const char *error)
{
	printf("{\"connects\":%ld,\"held\":%ld,\"failed\":%ld,\"error\":\"%s\"}\n", connects, held,
		failed, error);
	fflush(stdout);
}

static void open_one(void)
{
	const struct endpoint *to = &destinations[random() % destination_count];
	int fd = socket(to->address.ss_family, SOCK_STREAM, 0);

	if (reset)
		reset_at_close(fd);
	if (connect(fd, (const struct sockaddr *)&to->address, to->length) < 0) {
		failed++;
		if (!go_on) {
			tell(strerrorname_np(errno));
			exit(1);
		}
		close(fd);
		return;
	}
	fds[held++] = fd;
	connects++;
}

static void close_one(void)
{
	long which = random() % held;
	int fd = fds[which];
	char byte;

	fds[which] = fds[--held];
	if (reset || random() % 2) {
		reset_at_close(fd);
	} else {
		/* So that no more tuples are taken than connections are held. */
		shutdown(fd, SHUT_WR);
		while (read(fd, &byte, 1) > 0)
			;
	}
	close(fd);
}

int main(int argc, char **argv)
{
	int first = 1;
	char byte;

	for (; first < argc && argv[first][0] == '-'; first++) {
		reset |= strcmp(argv[first], "--reset") == 0;
		go_on |= strcmp(argv[first], "--go-on") == 0;
	}
	long most = argc > first ? atol(argv[first]) : 0, wanted = 0;
	if (most < 1 || most > MOST || (argc - first) % 2 != 1 || argc - first < 3) {
		fprintf(stderr, "usage: storm [--reset] [--go-on] MOST ADDRESS PORT [ADDRESS PORT]...\n");
		return 2;
	}
	for (int i = first + 1; i < argc && destination_count < DESTINATIONS; i += 2)
		destinations[destination_count++] = endpoint_read(argv[i], argv[i + 1]);
	hold_term();
	srandom((unsigned)getpid());
	puts("ready");
	fflush(stdout);
	while (!term_came()) {
		if (random() % most == 0 || wanted == 0)
			wanted = 1 + random() % most;
		/* Set again each time: whatever hangs is found out. */
		alarm(HANG_SECONDS);
		if (held < wanted)
			open_one();
		else
			close_one();
	}
	alarm(0);
	tell("none");
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
