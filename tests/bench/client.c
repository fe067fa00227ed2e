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
 *                  rest in a fast one that leaves the same behind: bind(address, 0) would take
 * minutes
 *   --failing N    and then N more, which should fail; a line
 *   --churn S      instead, for S seconds: closes a connection drawn at random and opens another,
 *                  while --open N are open all in all (0: closes what it opened, by FIN, and waits
 * for the other side to do so), in each of --workers N processes (--threads: threads); a line
 *
 * Lines are JSON: connections opened so far, nanoseconds of one (connect, in a churn the whole
 * step).
 */
#include "samples.h"
#include "ways.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTORS_SPARE 64
#define FAILURES_MOST	  1000 /* one after another: the end */

static struct options {
	const struct way *way, *filler;
	struct route route;
	long open, buckets, own, failing, workers, destinations;
	double churn;
	bool threads, udp;
} options = {.open = 1, .buckets = 1, .workers = 1, .destinations = 1};

/* In memory shared by all processes of the run, the samples of the workers behind it. */
static struct shared {
	pthread_barrier_t start; /* of the workers */
	long opened, in_bucket;
	bool finished;
	int done[2]; /* a pipe: a byte for each process that has done its work */
	struct lot lot;
	struct samples samples[];
} * shared;

static void need(bool good, const char *what)
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

/* A line about @s, which began at @start. */
static void report(const char *what, struct samples *s, long took)
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

static int new_socket(bool reset)
{
	int fd = socket(
		options.route.to.address.ss_family, options.udp ? SOCK_DGRAM : SOCK_STREAM, 0);

	need(fd >= 0, "socket");
	if (reset && !options.udp)
		reset_at_close(fd);
	return fd;
}

/* Connects @fd; 0 or errno. A port from @l is used up, whether it was free or not. */
static int connect_way(int fd, const struct way *way, struct lot *l, uint16_t *port)
{
	*port = way->knows ? lot_take(l) : 0;
	/* An oracle that knows that there is none left asks the kernel for one that is taken. */
	if (way->knows && *port == 0)
		*port = options.route.first;
	return way->connect(fd, &options.route, *port);
}

/* Opens one that stays, in a fast way, for who has no part in what is measured. */
static int open_filling(struct lot *l, uint16_t *port)
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

static long descriptors(void)
{
	struct rlimit limit;

	need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return (long)limit.rlim_cur - DESCRIPTORS_SPARE;
}

/* A child that runs @work and then holds what it has opened. */
static void in_child(void (*work)(long), long argument)
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

static void wait_for(long children)
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
	uint16_t first = endpoint_port(&options.route.to);
	long end = bucket_end(), failures = 0, start = clock_ns();

	while (room > 0 && shared->opened < options.open && failures < FAILURES_MOST) {
		/* Several destinations take turns. */
		endpoint_set_port(&options.route.to,
			(uint16_t)(first + shared->opened % options.destinations));
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

/* Churn. */

struct worker {
	uint64_t random;
	long count;
	int *fds;
	uint16_t *ports;
	struct lot *lot;
	struct samples *samples;
	pthread_t thread;
};

static void hold_part(long count)
{
	uint16_t port;

	for (; count > 0; count--)
		open_filling(&shared->lot, &port);
}

/* How many connections each worker holds; the rest are held by a process of their own. */
static long worker_share(void)
{
	long most = descriptors() / (options.threads ? options.workers : 1) - DESCRIPTORS_SPARE;
	long even = options.open / options.workers;

	return even < most ? even : most;
}

/* A worker's part of the ports that will be taken, and of those that will be free. */
static struct lot *worker_lot(long number, long count)
{
	const struct lot *all = &shared->lot;
	struct lot *mine = calloc(1, sizeof *mine);
	long taken = count * options.workers;

	need(mine != NULL, "calloc");
	for (long i = 0; i < all->count; i++)
		if ((i < taken ? i / count : i % options.workers) == number)
			lot_give(mine, all->ports[(all->first + i) % PORTS_MOST]);
	return mine;
}

static struct worker *worker_new(long number)
{
	struct worker *w = calloc(1, sizeof *w);

	need(w != NULL, "calloc");
	w->random = 88172645463325252u + (uint64_t)number;
	w->count = worker_share();
	w->fds = calloc((size_t)w->count + 1, sizeof *w->fds);
	w->ports = calloc((size_t)w->count + 1, sizeof *w->ports);
	need(w->fds != NULL && w->ports != NULL, "calloc");
	w->lot = worker_lot(number, w->count);
	w->samples = &shared->samples[number];
	for (long i = 0; i < w->count; i++)
		w->fds[i] = open_filling(w->lot, &w->ports[i]);
	return w;
}

/* The descriptor of a new connection, *port its port if it is known, or -1. */
static int churn_open(struct worker *w, uint16_t *port, long *took)
{
	for (int failures = 0; failures < FAILURES_MOST; failures++) {
		int fd = new_socket(w->count != 0);
		long before = clock_ns();
		int error = connect_way(fd, options.way, w->lot, port);

		*took = clock_ns() - before;
		if (error == 0)
			return fd;
		close(fd);
		if (*port != 0)
			lot_give(w->lot, *port);
		w->samples->failed++;
	}
	return -1;
}

/* Closes one drawn at random, opens another in its place. */
static void churn_held(struct worker *w)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
	uint64_t victim = (w->random >> 32) % (uint64_t)w->count;
	long start = clock_ns(), took;

	close(w->fds[victim]);
	lot_give(w->lot, w->ports[victim]);
	w->fds[victim] = churn_open(w, &w->ports[victim], &took);
	need(w->fds[victim] >= 0, "connecting");
	samples_add(w->samples, clock_ns() - start);
}

/*
 * Opens one and closes it first: the TIME_WAIT is here. Waits until the other side has closed as
 * well, or the TIME_WAIT would not have begun when the port's turn comes again.
 */
static void churn_timewait(struct worker *w)
{
	uint16_t port;
	char byte;
	long took;
	int fd = churn_open(w, &port, &took);

	if (fd < 0)
		return;
	samples_add(w->samples, took);
	shutdown(fd, SHUT_WR);
	while (read(fd, &byte, 1) > 0)
		;
	close(fd);
	if (port != 0)
		lot_give(w->lot, port);
}

static void *churn(void *argument)
{
	struct worker *w = argument;

	pthread_barrier_wait(&shared->start);
	long end = clock_ns() + (long)(options.churn * 1e9);
	while (clock_ns() < end)
		w->count != 0 ? churn_held(w) : churn_timewait(w);
	return NULL;
}

static void churn_process(long number)
{
	churn(worker_new(number));
}

static void churn_threads(long count)
{
	struct worker **workers = calloc((size_t)count, sizeof *workers);

	need(workers != NULL, "calloc");
	for (long i = 0; i < count; i++)
		workers[i] = worker_new(i);
	for (long i = 0; i < count; i++)
		need(pthread_create(&workers[i]->thread, NULL, churn, workers[i]) == 0, "thread");
	for (long i = 0; i < count; i++)
		pthread_join(workers[i]->thread, NULL);
}

static void churn_all(void)
{
	pthread_barrierattr_t attributes;
	long rest = options.open - worker_share() * options.workers;
	long processes = options.threads ? 1 : options.workers;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	need(pthread_barrier_init(&shared->start, &attributes, (unsigned)options.workers) == 0,
		"pthread_barrier_init");
	if (rest > 0) {
		in_child(hold_part, rest);
		wait_for(1);
	}
	for (long i = 0; i < processes; i++)
		in_child(options.threads ? churn_threads : churn_process,
			options.threads ? options.workers : i);
	wait_for(processes);
	for (long i = 1; i < options.workers; i++)
		samples_merge(&shared->samples[0], &shared->samples[i]);
	shared->opened = options.open;
	report("churn", &shared->samples[0], (long)(options.churn * 1e9));
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
		"[--workers N] [--threads] [--udp] [--destinations N] ADDRESS PORT\n");
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
