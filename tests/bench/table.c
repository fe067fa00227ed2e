/*
 * table: what finding a free port costs without any socket, and what the table needs of memory.
 *
 *     table churn RIVAL PERCENT WORKERS processes|threads SECONDS
 *     table destinations COUNT BYTES
 *     table lanes BYTES
 *
 * churn: one lane of the default range, PERCENT of it taken. Each worker takes a port and gives
 * back the one it took some turns before; at 100 % all it gets is the answer that none is free.
 * RIVAL is tuplebind, ring or bitmap (rivals.h). Prints nanoseconds of one turn (of a worker) and
 * turns per second (of all) as JSON.
 *
 * destinations: one connection to each of COUNT destinations in a table of BYTES. lanes: as many
 * lanes with all ports taken as fit. Both print how many fit before a claim found no room.
 */
#include "rivals.h"
#include "table/claim.h"

#include "../helpers/endpoint.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST	     32768
#define LAST	     60999
#define PORTS	     (LAST - FIRST + 1)
#define HELD	     32	 /* by a worker at any time */
#define BATCH	     256 /* turns between two looks at the clock */
#define WORKERS_MOST 8

struct port {
	uint16_t port;
	claim claim;
};

static struct table table;
static struct portorder order;
static struct claim_walk walk;
static struct tuplebind_lane lane = {.protocol = IPPROTO_TCP, .fport = 80};

static struct shared {
	pthread_barrier_t start;
	struct {
		uint64_t turns, ns;
	} results[WORKERS_MOST];
	struct ring ring;
	struct bitmap bitmap;
} * shared;

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "table: %s\n", what);
	exit(1);
}

static void make_table(uint64_t size)
{
	struct netns ns;
	struct portset ports, none;
	struct fault f = {.text = ""};

	need(netns_current(&ns) == 0 && table_attach(&table, TABLE_PRIVATE, size, &ns, &f) == 0,
		f.text);
	portset_clear(&ports);
	portset_clear(&none);
	portset_add_range(&ports, FIRST, LAST);
	portorder_set(&order, &table.permutation, &ports, &none);
	claim_walk_start(&walk);
}

/* The rivals: taking gives false when none is free. */

static bool table_take(struct port *p)
{
	return claim_take(&table, &lane, &order, STAGE_LATE, &walk, 0, &p->claim, &p->port) == 0;
}

static void table_give(const struct port *p)
{
	claim_give_back(&table, p->claim);
}

static bool take_from_ring(struct port *p)
{
	return (p->port = ring_take(&shared->ring)) != 0;
}

static void give_to_ring(const struct port *p)
{
	ring_give(&shared->ring, p->port);
}

static bool take_from_bitmap(struct port *p)
{
	return (p->port = bitmap_take(&shared->bitmap)) != 0;
}

static void give_to_bitmap(const struct port *p)
{
	bitmap_give(&shared->bitmap, p->port);
}

static const struct rival {
	const char *name;
	bool (*take)(struct port *p);
	void (*give)(const struct port *p);
} rivals[] =
	{
		{"tuplebind", table_take, table_give},
		{"ring", take_from_ring, give_to_ring},
		{"bitmap", take_from_bitmap, give_to_bitmap},
},
  *rival;

static double seconds;
static unsigned percent, workers;

static void turns(struct port held[HELD])
{
	for (unsigned i = 0; i < BATCH; i++) {
		struct port *p = &held[i % HELD];

		if (percent == 100) {
			need(!rival->take(p), "a port was free");
			continue;
		}
		rival->give(p);
		need(rival->take(p), "no port was free");
	}
}

/* What a worker alone has used of its processor: others on the machine do not count. */
static long used_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return used.tv_sec * 1000000000 + used.tv_nsec;
}

/* A processor for each worker: two that take turns on one are in nobody's way. */
static void pin(long number)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned long)(number % sysconf(_SC_NPROCESSORS_ONLN)), &one);
	sched_setaffinity(0, sizeof one, &one);
}

static void work(long number)
{
	struct port held[HELD];

	pin(number);
	for (unsigned i = 0; percent < 100 && i < HELD; i++)
		need(rival->take(&held[i]), "no port was free");
	/* Once around: what is worked out at first sight has been. */
	for (unsigned i = 0; i < PORTS / BATCH; i++)
		turns(held);
	pthread_barrier_wait(&shared->start);
	long start = clock_ns(), used = used_ns(), now;
	do {
		turns(held);
		now = clock_ns();
		shared->results[number].turns += BATCH;
	} while (now < start + (long)(seconds * 1e9));
	shared->results[number].ns = (uint64_t)(workers == 1 ? used_ns() - used : now - start);
}

static void *work_in_thread(void *number)
{
	work((long)number);
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[WORKERS_MOST];

	for (long i = 0; i < workers; i++)
		need(pthread_create(&threads[i], NULL, work_in_thread, (void *)i) == 0, "thread");
	for (long i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
}

static void run_processes(void)
{
	int status;

	for (long i = 0; i < workers; i++) {
		pid_t child = fork();

		need(child >= 0, "fork");
		if (child == 0) {
			/* As the library does in a forked child. */
			claim_walk_start(&walk);
			table.stripe =
				&table.header->stripes[(uint64_t)getpid() % TUPLEBIND_STRIPES];
			work(i);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < workers; i++)
		need(wait(&status) > 0 && status == 0, "a worker has failed");
}

static void report(void)
{
	double ns = 0, per_second = 0;

	for (unsigned i = 0; i < workers; i++) {
		double turn = (double)shared->results[i].ns / (double)shared->results[i].turns;

		ns += turn / workers;
		per_second += 1e9 / turn;
	}
	printf("{\"ns\":%.2f,\"per_second\":%.0f}\n", ns, per_second);
}

static void churn(bool in_threads)
{
	pthread_barrierattr_t attributes;
	struct port p;

	shared = mmap(
		NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "mmap");
	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->start, &attributes, workers);
	make_table(TABLE_SIZE_DEFAULT);
	bitmap_start(&shared->bitmap);
	for (unsigned port = FIRST; port <= LAST; port++) {
		ring_give(&shared->ring, (uint16_t)port);
		bitmap_give(&shared->bitmap, (uint16_t)port);
	}
	for (unsigned i = 0; i < (uint64_t)PORTS * percent / 100; i++)
		need(rival->take(&p), "no port was free");
	in_threads ? run_threads() : run_processes();
	report();
}

static bool claim_in(unsigned destination)
{
	struct port p;

	memcpy(&lane.faddr[12], &destination, sizeof destination);
	return table_take(&p);
}

static void fit_destinations(unsigned count, uint64_t size)
{
	unsigned fit = 0;

	make_table(size);
	while (fit < count && claim_in(fit))
		fit++;
	printf("{\"fit\":%u,\"bytes\":%.1f}\n", fit, (double)table.size / fit);
}

static void fit_lanes(uint64_t size)
{
	unsigned long ports = 0;

	make_table(size);
	for (unsigned i = 0; claim_in((unsigned)(ports / PORTS)); i++)
		ports++;
	printf("{\"fit\":%lu,\"bytes\":%.3f}\n", ports, (double)table.size / (double)ports);
}

static void read_churn(char **words)
{
	for (size_t i = 0; i < sizeof rivals / sizeof *rivals; i++)
		if (strcmp(rivals[i].name, words[0]) == 0)
			rival = &rivals[i];
	percent = (unsigned)atoi(words[1]);
	workers = (unsigned)atoi(words[2]);
	seconds = atof(words[4]);
	need(rival != NULL && percent <= 100 && workers >= 1 && workers <= WORKERS_MOST,
		"there is no such rival, fill or number of workers");
	churn(strcmp(words[3], "threads") == 0);
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "churn") == 0)
		read_churn(argv + 2);
	else if (argc == 4 && strcmp(argv[1], "destinations") == 0)
		fit_destinations((unsigned)atol(argv[2]), strtoull(argv[3], NULL, 10));
	else if (argc == 3 && strcmp(argv[1], "lanes") == 0)
		fit_lanes(strtoull(argv[2], NULL, 10));
	else
		need(false, "usage: see the head of table.c");
	return 0;
}
