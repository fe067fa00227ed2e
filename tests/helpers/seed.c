/*
 * seed: the experiment of FreeBSD bug 174087.
 *
 *     seed [--reuseaddr] [--processes N] [--hold] ADDRESS PORT COUNT
 *
 * Opens up to COUNT connections to ADDRESS and PORT and keeps them open. Stops at the first
 * error; after EADDRNOTAVAIL it tries 200 times more, to see what a failing
 * connect() costs. As one process may not open enough
 * descriptors, processes follow one another: each opens as many as its limit allows,
 * and all stay until the end. --processes N runs N such rows at once.
 *
 * Prints one JSON object: opened, by half of COUNT the mean microseconds of a connect(), the
 * error that ended it and what a failing connect() took. --hold: then waits for stdin to end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define FAILING_TRIES 200
#define DESCRIPTORS_SPARE 64

/* In memory shared by all processes of the run. */
struct result {
	_Atomic long opened, finished;
	_Atomic long sum_ns[2], count[2]; /* connects while less, and more, than half was open */
	_Atomic long failing_ns, failing_count;
	_Atomic int error;
};

static struct options {
	bool reuseaddr, hold;
	long processes, count;
	struct sockaddr_storage to;
	socklen_t length;
} options = {.processes = 1};

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_one(long *took)
{
	int one = 1;
	int fd = socket(options.to.ss_family, SOCK_STREAM, 0);

	if (fd < 0)
		return -errno;
	if (options.reuseaddr)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	long before = now_ns();
	int error = connect(fd, (struct sockaddr *)&options.to, options.length) < 0 ? -errno : 0;
	*took = now_ns() - before;
	if (error < 0)
		close(fd);
	return error;
}

static void measure_failing(struct result *r)
{
	for (int i = 0; i < FAILING_TRIES; i++) {
		long took;

		if (open_one(&took) == -EADDRNOTAVAIL) {
			r->failing_ns += took;
			r->failing_count++;
		}
	}
}

/* Opens at most @most. True: the experiment goes on in the next process. */
static bool open_many(struct result *r, long most)
{
	for (long i = 0; i < most; i++) {
		long took, opened = r->opened;

		if (opened >= options.count)
			return false;
		int error = open_one(&took);
		if (error < 0) {
			r->error = -error;
			if (error == -EADDRNOTAVAIL)
				measure_failing(r);
			return false;
		}
		int half = opened >= options.count / 2;
		r->sum_ns[half] += took;
		r->count[half]++;
		r->opened++;
	}
	return true;
}

static long descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return (long)limit.rlim_cur - DESCRIPTORS_SPARE;
}

/*
 * One process of a row: waits for its turn, opens what it can, lets the next one go on.
 * Returns in the next process; this one stays to hold what it has opened.
 */
static void row_step(struct result *r)
{
	int turn[2];
	char go;

	/* A fork shares descriptors, so the next process is made before any is opened. */
	if (pipe(turn) < 0)
		exit(1);
	pid_t next = fork();
	if (next < 0)
		exit(1);
	if (next == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(turn[1]);
		if (read(turn[0], &go, 1) != 1 || go != 'g')
			_exit(0);
		close(turn[0]);
		return;
	}
	close(turn[0]);
	bool more = open_many(r, descriptors());
	if (!more)
		r->finished++;
	if (write(turn[1], more ? "g" : "s", 1) != 1)
		exit(1);
	for (;;)
		pause();
}

static void print(const struct result *r)
{
	printf("{\"opened\":%ld,\"error\":\"%s\",\"us_first_half\":%.2f,\"us_second_half\":%.2f,\"us_failing\":%.2f}\n",
		r->opened,
		r->error == 0		    ? "none" :
		r->error == EADDRNOTAVAIL   ? "EADDRNOTAVAIL" :
		r->error == EADDRINUSE	    ? "EADDRINUSE" :
					      strerror(r->error),
		r->count[0] ? (double)r->sum_ns[0] / 1e3 / (double)r->count[0] : 0,
		r->count[1] ? (double)r->sum_ns[1] / 1e3 / (double)r->count[1] : 0,
		r->failing_count ? (double)r->failing_ns / 1e3 / (double)r->failing_count : 0);
	fflush(stdout);
}

static void read_destination(const char *address, const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&options.to;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&options.to;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)atoi(port));
		options.length = sizeof *in;
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)atoi(port));
		options.length = sizeof *in6;
	} else {
		fprintf(stderr, "seed: %s is not an address\n", address);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"reuseaddr", no_argument, NULL, 'r'},
		{"processes", required_argument, NULL, 'p'},
		{"hold", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;
	char byte;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'r')
			options.reuseaddr = true;
		else if (option == 'p')
			options.processes = atol(optarg);
		else if (option == 'h')
			options.hold = true;
		else
			return 2;
	}
	if (argc - optind != 3) {
		fprintf(stderr, "usage: seed [--reuseaddr] [--processes N] [--hold] ADDRESS PORT COUNT\n");
		return 2;
	}
	read_destination(argv[optind], argv[optind + 1]);
	options.count = atol(argv[optind + 2]);

	struct result *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r == MAP_FAILED)
		return 1;
	for (long i = 0; i < options.processes; i++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				row_step(r);
		}
	}
	while (r->finished < options.processes)
		usleep(1000);
	print(r);
	while (options.hold && read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
