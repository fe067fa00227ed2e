/*
 * client: opens connections in one of several ways and says what each cost.
 *
 *     client [OPTION]... ADDRESS PORT
 *
 * All ways, and tuplebind (the plain way under the preload), do the same work in the same loop.
 * What is opened stays open, in as many processes as the limit of descriptors needs, until stdin
 * ends; then all connections are reset, so that nothing of them remains.
 *
 *   --open N       opens N connections; of each of --buckets N parts a line is printed
 *   --own N        of each part only the first N are opened and timed the way that is measured, the
 *                  rest in a fast one that leaves the same behind: the slow ones take minutes
 *   --failing N    and then N more, which should fail; a line
 *   --churn S      instead, for S seconds: closes a connection drawn at random and opens another,
 *                  while --open N are open all in all (0: closes what it opened, by FIN, and
 *                  waits for the other side to do so), in each of --workers N processes
 *                  (--threads: threads); a line (churn.c)
 *
 *   --destinations N  to N ports from PORT on
 *   --addresses N     from N addresses from --from on, in ways that bind
 *
 * Lines are JSON: connections opened so far, nanoseconds of one (of its connect(), in a churn of
 * the whole step).
 */
#include "client.h"

#include <errno.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTORS_SPARE 64

struct options options = {.open = 1, .buckets = 1, .workers = 1, .destinations = 1, .addresses = 1};
struct shared *shared;

void need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void *share(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	need(memory != MAP_FAILED, "mmap");
	return memory;
}

void report(const char *what, struct samples *s, long took)
{
	samples_sort(s);
	printf("{\"what\":\"%s\",\"opened\":%ld,\"count\":%lu,\"failed\":%lu,\"median\":%u,"
	       "\"mean\":%lu,"
	       "\"p99\":%u,\"max\":%lu,\"seconds\":%.6f}\n",
		what, shared->opened, s->count, s->failed, samples_quantile(s, 0.5),
		s->count ? s->sum_ns / s->count : 0, samples_quantile(s, 0.99), s->max_ns,
		(double)took / 1e9);
	fflush(stdout);
}

/* One connection. */

int new_socket(bool reset)
{
	int fd = socket(
		options.route.to.address.ss_family, options.udp ? SOCK_DGRAM : SOCK_STREAM, 0);

	need(fd >= 0, "socket");
	if (reset && !options.udp)
		reset_at_close(fd);
	return fd;
}

/* Connections to several destinations, from several addresses, take turns. */
static long lanes(void)
{
	return options.destinations * options.addresses;
}

static void choose_lane(const struct route *first)
{
	long lane = shared->opened % lanes();

	endpoint_step(&options.route.to, &first->to, 0, lane % options.destinations);
	endpoint_step(&options.route.from, &first->from, lane / options.destinations, 0);
}

/* A port that is free in one lane is so in all: it is used up when all have had it. */
static uint16_t next_port(struct lot *l)
{
	if (lanes() == 1)
		return lot_take(l);
	if (shared->opened % lanes() == 0)
		shared->port = lot_take(l);
	return shared->port;
}

int connect_way(int fd, const struct way *way, struct lot *l, uint16_t *port)
{
	*port = way->knows ? next_port(l) : 0;
	/* An oracle that knows that there is none left asks the kernel for one that is taken. */
	if (way->knows && *port == 0)
		*port = options.route.first;
	return way->connect(fd, &options.route, *port);
}

int open_filling(struct lot *l, uint16_t *port)
{
	for (int tries = 0; tries < PORTS_MOST; tries++) {
		int fd = new_socket(true);

		if (connect_way(fd, options.filler, l, port) == 0)
			return fd;
		close(fd);
	}
	need(false, "filling");
	return -1;
}

/* Opens one the way that is measured. -1: it failed. */
static int open_timed(struct lot *l, struct samples *s)
{
	uint16_t port;
	int fd = new_socket(true);
	long before = clock_ns();
	int error = connect_way(fd, options.way, l, &port);
	long took = clock_ns() - before;

	if (error == 0) {
		samples_add(s, took);
		return fd;
	}
	s->failed++;
	close(fd);
	return -1;
}

/* Processes. */

long descriptors(void)
{
	struct rlimit limit;

	need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return (long)limit.rlim_cur - DESCRIPTORS_SPARE;
}

void in_child(void (*work)(long), long argument)
{
	pid_t child = fork();

	need(child >= 0, "fork");
	if (child > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_DFL);
	work(argument);
	need(write(shared->done[1], "", 1) == 1, "write");
	for (;;)
		pause();
}

void wait_for(long children)
{
	char byte;

	for (; children > 0; children--)
		need(read(shared->done[0], &byte, 1) == 1, "read");
}

static void child_died(int number)
{
	static const char message[] = "client: a process of it has ended\n";

	if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
		_exit(3);
	_exit(1);
}

/* Ends all children, and with them their connections. */
static void end_children(void)
{
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
}

/* Opening so and so many. */

/* Where the bucket ends in which the next connection is. */
static long bucket_end(void)
{
	long bucket = shared->opened * options.buckets / options.open + 1;

	return (bucket * options.open + options.buckets - 1) / options.buckets;
}

static void bucket_full(struct samples *s, long *start)
{
	report("bucket", s, clock_ns() - *start);
	samples_clear(s);
	shared->in_bucket = 0;
	*start = clock_ns();
}

/* Opens one, the way that is measured when it is its turn. False: it failed. */
static bool open_next(struct samples *s)
{
	uint16_t port;

	if (options.own != 0 && shared->in_bucket >= options.own)
		open_filling(&shared->lot, &port);
	else if (open_timed(&shared->lot, s) < 0)
		return false;
	shared->in_bucket++;
	shared->opened++;
	return true;
}

/* One process: opens as many as it has @room for. */
static void open_part(long room)
{
	struct samples *s = &shared->samples[0];
	struct route first = options.route;
	long end = bucket_end(), failures = 0, start = clock_ns();

	while (room > 0 && shared->opened < options.open && failures < FAILURES_MOST) {
		choose_lane(&first);
		if (!open_next(s)) {
			failures++;
			continue;
		}
		failures = 0;
		room--;
		if (shared->opened == end) {
			bucket_full(s, &start);
			end = bucket_end();
		}
	}
	shared->finished = shared->opened >= options.open || failures >= FAILURES_MOST;
	if (shared->finished && s->count + s->failed != 0)
		report("last", s, clock_ns() - start);
}

static void fail_part(long tries)
{
	struct samples *s = &shared->samples[0];

	samples_clear(s);
	for (long i = 0; i < tries; i++) {
		uint16_t port;
		int fd = new_socket(true);
		long before = clock_ns();
		int error = connect_way(fd, options.way, &shared->lot, &port);

		samples_add(s, clock_ns() - before);
		s->failed += error != 0;
		close(fd);
	}
	report("failing", s, 0);
}

static void open_all(void)
{
	while (!shared->finished) {
		in_child(open_part, descriptors());
		wait_for(1);
	}
	if (options.failing) {
		in_child(fail_part, options.failing);
		wait_for(1);
	}
}

/* The command line. */

static const struct way *read_way(const char *name)
{
	const struct way *way = way_find(name);

	if (way == NULL) {
		fprintf(stderr, "client: there is no way \"%s\"\n", name);
		exit(2);
	}
	return way;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: client [--way WAY] [--filler WAY] [--from ADDRESS] [--first PORT] "
		"[--last PORT] [--open N] [--buckets N] [--own N] [--failing N] [--churn S] "
		"[--workers N] [--threads] [--udp] [--destinations N] [--addresses N] ADDRESS "
		"PORT\n");
	exit(2);
}

static void read_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"way", required_argument, NULL, 'w'},
		{"filler", required_argument, NULL, 'F'},
		{"from", required_argument, NULL, 'f'},
		{"first", required_argument, NULL, 'a'},
		{"last", required_argument, NULL, 'z'},
		{"open", required_argument, NULL, 'o'},
		{"buckets", required_argument, NULL, 'b'},
		{"own", required_argument, NULL, 'n'},
		{"failing", required_argument, NULL, 'x'},
		{"churn", required_argument, NULL, 'c'},
		{"workers", required_argument, NULL, 'p'},
		{"threads", no_argument, NULL, 't'},
		{"udp", no_argument, NULL, 'u'},
		{"destinations", required_argument, NULL, 'd'},
		{"addresses", required_argument, NULL, 'A'},
		{NULL, 0, NULL, 0},
	};
	int option;

	options.way = read_way("plain");
	options.route = (struct route){.first = 32768, .last = 60999};
	options.route.from = endpoint_read("127.0.0.1", "0");
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (option) {
		case 'w':
			options.way = read_way(optarg);
			break;
		case 'F':
			options.filler = read_way(optarg);
			break;
		case 'f':
			options.route.from = endpoint_read(optarg, "0");
			break;
		case 'a':
			options.route.first = (uint16_t)atoi(optarg);
			break;
		case 'z':
			options.route.last = (uint16_t)atoi(optarg);
			break;
		case 'o':
			options.open = atol(optarg);
			break;
		case 'b':
			options.buckets = atol(optarg);
			break;
		case 'n':
			options.own = atol(optarg);
			break;
		case 'x':
			options.failing = atol(optarg);
			break;
		case 'c':
			options.churn = atof(optarg);
			break;
		case 'p':
			options.workers = atol(optarg);
			break;
		case 't':
			options.threads = true;
			break;
		case 'u':
			options.udp = true;
			break;
		case 'd':
			options.destinations = atol(optarg);
			break;
		case 'A':
			options.addresses = atol(optarg);
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2)
		usage();
	options.route.to = endpoint_read(argv[optind], argv[optind + 1]);
	if (options.filler == NULL)
		options.filler = read_way(options.way->filled_with);
}

int main(int argc, char **argv)
{
	char byte;

	read_options(argc, argv);
	setpgid(0, 0);
	signal(SIGCHLD, child_died);
	shared = share(sizeof *shared + (size_t)options.workers * sizeof *shared->samples);
	need(pipe(shared->done) == 0, "pipe");
	way_ports(&options.route, options.way->order, &shared->lot);
	options.churn > 0 ? churn_all() : open_all();
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	end_children();
	return 0;
}
