/*
 * churn: workers that close a connection and open another, again and again, for a time.
 */
#include "client.h"

#include <unistd.h>

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
	long most = descriptors() / (options.threads ? options.workers : 1);
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

void churn_all(void)
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
