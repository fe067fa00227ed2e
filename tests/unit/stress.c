/*
 * Many threads or processes on a table that is too small for them.
 *
 *     stress threads|processes|killed|reaped|enough [percent]
 *
 * Every worker takes claims and gives them back at random, in more lanes than the table has
 * room for, so that slabs are made, recycled and full all the time. Who has a claim
 * enters himself as the holder of its port, in memory all share: a port that has a holder
 * already was given out twice. With `killed' workers are killed at random while others go
 * on: what the dead held must stay held until it is given back for them, as reap would.
 * With `reaped' what a worker has is in flight, as in a connect() that takes long; threads, and
 * then processes that are killed at random, work while others reap without a pause: what the living
 * have must stay theirs, and in the end one reap must set all right. In the end all must have been
 * given back, and every lane be good for all of its ports. With `enough' each of as many threads as
 * a lane has ports takes one at a time: there is always one free, and each must get it.
 *
 * `percent' of the usual work is done (stress_percent.h). Exits 0, or 1 with a line on stderr for
 * each of the first failures.
 */
#include "fixture.h"
#include "stress_percent.h"
#include "table/process.h"
#include "table/reap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES	   16
#define LANE_PORTS 8 /* two slabs of a lane, four ports of each */
#define SLABS	   4
#define WORKERS	   6
#define HOLD	   3 /* claims a worker has at most */

#define ITERATIONS 400000 /* of one worker */
#define ROUNDS	   120	  /* of `killed' */
#define KILLS	   12	  /* of one round; each may put a slab out of use for the round */
#define KILL_SLABS (SLABS + KILLS)

/* One port of one lane. */
struct place {
	_Atomic uint32_t holder; /* number of a worker, 0: nobody */
	_Atomic uint64_t claim;	 /* for whoever buries the holder */
};

/* What workers share, apart from the table. */
struct shared {
	_Atomic uint32_t failures, stop;
	_Atomic uint32_t dying[WORKERS + KILLS + 1]; /* numbers of workers about to be killed */
	_Atomic uint64_t reaped;
	_Atomic uint64_t taken, lane_full, table_full;
	struct place places[LANES][LANE_PORTS];
};

static struct shared *shared;
static struct table table;
static struct portorder *ports;
static uint16_t port_numbers[LANE_PORTS];
static struct claim_walk *walk;
static bool flying; /* what is held is in flight */

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void fail(const char *format, ...)
{
	va_list args;
	char line[256];

	if (atomic_fetch_add(&shared->failures, 1) >= 10)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	fprintf(stderr, "%s\n", line);
}

/* What a worker has. */
struct held {
	unsigned lane, port;
	claim c;
	struct tuplebind_flight *flight;
};

struct worker {
	uint32_t number;
	uint64_t random;
	unsigned count;
	struct held held[HOLD];
	uint64_t taken, lane_full, table_full;
};

static unsigned place_of(uint16_t port)
{
	for (unsigned i = 0; i < LANE_PORTS; i++)
		if (port_numbers[i] == port)
			return i;
	fail("port %u is not one of the lane's", port);
	return 0;
}

static void enter_holder(
	struct worker *w, unsigned lane, unsigned port, claim c, struct tuplebind_flight *flight)
{
	struct place *place = &shared->places[lane][port];
	uint32_t holder = 0;

	/* From a dead one it comes by reap. */
	if (!atomic_compare_exchange_strong(&place->holder, &holder, w->number) &&
		(!atomic_load(&shared->dying[holder]) ||
			!atomic_compare_exchange_strong(&place->holder, &holder, w->number)))
		fail("port %u of lane %u was given to %u and is held by %u", port_numbers[port],
			lane, w->number, holder);
	atomic_store(&place->claim, c);
	w->held[w->count++] = (struct held){lane, port, c, flight};
}

/* One in four times a certain port is wanted. */
static int take(struct worker *w, const struct tuplebind_lane *lane, _Atomic uint64_t *flight,
	claim *c, uint16_t *port)
{
	uint64_t choice = fixture_random(&w->random);

	if (choice % 4 != 0)
		return claim_take_announced(&table, lane, slab_lane_hash(&table, lane), ports,
			STAGE_LATE, walk, 0, flight, c, port);
	*port = port_numbers[choice / 4 % LANE_PORTS];
	return claim_take_port(&table, lane, *port, flight, c);
}

static void take_one(struct worker *w)
{
	unsigned number = (unsigned)(fixture_random(&w->random) % LANES);
	struct tuplebind_lane lane = fixture_lane(number);
	uint16_t port;
	claim c;
	struct tuplebind_flight *flight = flying ? flight_begin(&table, process_own_token()) : NULL;
	int got = take(w, &lane, flight_what(flight), &c, &port);

	w->taken += got == 0;
	w->lane_full += got == -EADDRNOTAVAIL;
	w->table_full += got == -ENOSPC;
	if (got == 0)
		enter_holder(w, number, place_of(port), c, flight);
	else
		flight_end(flight);
	if (got != 0 && got != -EADDRNOTAVAIL && got != -ENOSPC)
		fail("taking a claim ends with %d", got);
}

/* The claim must be what it was when it was made. */
static void check_claim(const struct held *h)
{
	struct tuplebind_lane lane = fixture_lane(h->lane), told;

	if (!claim_lane(&table, h->c, &told) || memcmp(&lane, &told, sizeof lane) != 0)
		fail("a claim of lane %u is of another lane now", h->lane);
	else if (claim_port(&table, h->c) != port_numbers[h->port])
		fail("a claim is of another port now");
}

static void give_back_one(struct worker *w)
{
	unsigned i = (unsigned)(fixture_random(&w->random) % w->count);
	struct held h = w->held[i];
	struct place *place = &shared->places[h.lane][h.port];
	uint32_t self = w->number;

	w->held[i] = w->held[--w->count];
	check_claim(&h);
	atomic_store(&place->claim, CLAIM_NONE);
	if (!atomic_compare_exchange_strong(&place->holder, &self, 0))
		fail("port %u of lane %u has the holder %u, not %u", port_numbers[h.port], h.lane,
			self, w->number);
	/* One in eight as what is maybe shared is closed: without a flight. */
	if (flying && fixture_random(&w->random) % 8 == 0) {
		flight_end(h.flight);
		reap_claim(&table, h.c);
		return;
	}
	if (!claim_give_back(&table, h.c))
		fail("port %u of lane %u was not there to be given back", port_numbers[h.port],
			h.lane);
	flight_end(h.flight);
}

static void one_turn(struct worker *w)
{
	uint64_t choice = fixture_random(&w->random);

	if (w->count == 0 || (w->count < HOLD && choice % 2 == 0))
		take_one(w);
	else
		give_back_one(w);
	/* Claims are held for a while, now and then for a long one. */
	if (choice / 2 % 64 == 0)
		sched_yield();
}

static void finish(struct worker *w)
{
	while (w->count > 0)
		give_back_one(w);
	atomic_fetch_add(&shared->taken, w->taken);
	atomic_fetch_add(&shared->lane_full, w->lane_full);
	atomic_fetch_add(&shared->table_full, w->table_full);
}

/* Begins with an empty table of @slabs slabs, and nobody in it. */
static void begin(uint64_t slabs)
{
	struct portset set;

	memset(shared, 0, sizeof *shared);
	fixture_table(&table, slabs);
	portset_clear(&set);
	/* Neither in one slab nor in neighbours: each lane needs two. */
	fixture_positions(&set, &table, 3, LANE_PORTS / 2);
	fixture_positions(&set, &table, 77, LANE_PORTS / 2);
	for (unsigned port = 0, i = 0; port < 65536; port++)
		if (portset_has(&set, (uint16_t)port))
			port_numbers[i++] = (uint16_t)port;
	free(ports);
	ports = fixture_order_of(&table, &set);
}

static void end(void)
{
	free(ports);
	ports = NULL;
	table_detach(&table);
}

/* Takes all ports of a lane, each once, and gives them back. */
static void fill_lane(unsigned number)
{
	struct tuplebind_lane lane = fixture_lane(number);
	claim claims[LANE_PORTS], more;
	uint16_t port;
	unsigned count = 0;

	while (count < LANE_PORTS &&
		claim_take(&table, &lane, ports, STAGE_LATE, walk, 0, &claims[count], &port) == 0)
		count++;
	if (count < LANE_PORTS)
		fail("of lane %u only %u ports can be had in the end", number, count);
	else if (claim_take(&table, &lane, ports, STAGE_LATE, walk, 0, &more, &port) !=
		 -EADDRNOTAVAIL)
		fail("lane %u has more ports than there are", number);
	while (count > 0)
		if (!claim_give_back(&table, claims[--count]))
			fail("a claim of lane %u was not there to be given back", number);
}

static void check_all_is_free(void)
{
	if (fixture_claims(&table) != 0)
		fail("%u claims are left in the table", fixture_claims(&table));
	for (uint64_t i = 0; i < table.slab_count; i++)
		if (atomic_load(&table.slabs[i].owner) != 0)
			fail("slab %llu is being recycled by nobody", (unsigned long long)i);
	for (unsigned lane = 0; lane < LANES; lane++)
		fill_lane(lane);
}

/* A run in which nothing was ever short has tested little. */
static void check_stress(uint64_t least)
{
	uint64_t taken = atomic_load(&shared->taken);
	uint64_t lane_full = atomic_load(&shared->lane_full);
	uint64_t table_full = atomic_load(&shared->table_full);

	printf("%llu claims, %llu times no port free, %llu times no slab\n",
		(unsigned long long)taken, (unsigned long long)lane_full,
		(unsigned long long)table_full);
	/* Not once more by each child. */
	fflush(stdout);
	if (taken < least || lane_full == 0 || table_full == 0)
		fail("this was no stress");
}

/* Threads and processes. */

static unsigned long iterations;

static void work(uint32_t number)
{
	struct worker w = {.number = number, .random = number};

	for (unsigned long i = 0; i < iterations && atomic_load(&shared->failures) == 0; i++)
		one_turn(&w);
	finish(&w);
}

static void *thread_main(void *argument)
{
	work((uint32_t)(uintptr_t)argument);
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[WORKERS];

	for (uintptr_t i = 0; i < WORKERS; i++)
		fixture_need(pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)) == 0,
			"pthread_create");
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
}

static pid_t start_process(void (*child_work)(uint32_t), uint32_t number)
{
	pid_t child = fork();

	fixture_need(child >= 0, "fork");
	if (child == 0) {
		claim_walk_start(walk);
		child_work(number);
		_exit(0);
	}
	return child;
}

static void await_process(pid_t child)
{
	int status;

	fixture_need(waitpid(child, &status, 0) == child, "waitpid");
	if (status != 0)
		fail("a worker ended with status %#x", (unsigned)status);
}

static void run_processes(void)
{
	pid_t children[WORKERS];

	for (uint32_t i = 0; i < WORKERS; i++)
		children[i] = start_process(work, i + 1);
	for (unsigned i = 0; i < WORKERS; i++)
		await_process(children[i]);
}

static void reap_all(struct reap *r)
{
	for (uint64_t i = 0; i < table.slab_count; i++)
		if (reap_slab(r, &table.slabs[i], NULL) < 0)
			fail("sock_diag does not answer");
}

/* Once, when nobody does anything any more. */
static void reap_what_was_left(void)
{
	struct reap reap;

	fixture_need(reap_start(&reap, &table) == 0, "reap_start");
	reap_all(&reap);
	atomic_fetch_add(&shared->reaped, reap.freed);
	reap_end(&reap);
}

/* Reaps all the time. */
static void reap_until_stopped(uint32_t number)
{
	struct reap reap;
	int error = reap_start(&reap, &table);

	/* A reaper before this one was killed; or there is one already. */
	while (error == -EBUSY && atomic_load(&shared->stop) == 0) {
		sched_yield();
		error = reap_start(&reap, &table);
	}
	if (error < 0)
		return;
	while (atomic_load(&shared->stop) == 0)
		reap_all(&reap);
	atomic_fetch_add(&shared->reaped, reap.freed);
	reap_end(&reap);
}

static void *reaper_main(void *argument)
{
	reap_until_stopped(0);
	return NULL;
}

static void run_threads_and_reaper(void)
{
	pthread_t reaper;

	fixture_need(pthread_create(&reaper, NULL, reaper_main, NULL) == 0, "pthread_create");
	run_threads();
	atomic_store(&shared->stop, 1);
	pthread_join(reaper, NULL);
}

static void run_all(void (*run)(void), unsigned long percent)
{
	iterations = ITERATIONS / 100 * percent;
	begin(SLABS);
	run();
	check_stress(iterations);
	if (flying)
		reap_what_was_left();
	check_all_is_free();
}

/* Enough. */

static void *taker_main(void *argument)
{
	struct worker w = {.number = (uint32_t)(uintptr_t)argument};
	struct tuplebind_lane lane = fixture_lane(0);

	w.random = w.number;
	for (unsigned long i = 0; i < iterations && atomic_load(&shared->failures) == 0; i++) {
		uint16_t port;
		claim c;

		if (claim_take(&table, &lane, ports, STAGE_LATE, walk, 0, &c, &port) != 0) {
			fail("worker %u found no port free, and one was", w.number);
			break;
		}
		w.taken++;
		enter_holder(&w, 0, place_of(port), c, NULL);
		if (fixture_random(&w.random) % 64 == 0)
			sched_yield();
		give_back_one(&w);
	}
	finish(&w);
	return NULL;
}

static void run_enough(unsigned long percent)
{
	pthread_t threads[LANE_PORTS];

	iterations = ITERATIONS / 100 * percent;
	begin(SLABS);
	for (uintptr_t i = 0; i < LANE_PORTS; i++)
		fixture_need(pthread_create(&threads[i], NULL, taker_main, (void *)(i + 1)) == 0,
			"pthread_create");
	for (unsigned i = 0; i < LANE_PORTS; i++)
		pthread_join(threads[i], NULL);
	printf("%llu claims\n", (unsigned long long)atomic_load(&shared->taken));
	check_all_is_free();
}

/* Killed. */

static void work_until_stopped(uint32_t number)
{
	struct worker w = {.number = number, .random = number};

	while (atomic_load(&shared->stop) == 0)
		one_turn(&w);
	finish(&w);
}

/*
 * Gives back what the dead worker held, while others work. Where it died between taking a
 * claim and entering itself, or between taking itself out and giving back, the port
 * stays taken: nobody may get it.
 */
static void bury(uint32_t number)
{
	for (unsigned lane = 0; lane < LANES; lane++) {
		for (unsigned port = 0; port < LANE_PORTS; port++) {
			struct place *place = &shared->places[lane][port];
			claim c = atomic_load(&place->claim);

			if (atomic_load(&place->holder) != number || c == CLAIM_NONE)
				continue;
			atomic_store(&place->claim, CLAIM_NONE);
			atomic_store(&place->holder, 0);
			if (!claim_give_back(&table, c))
				fail("what dead worker %u held was not there", number);
		}
	}
}

/* What reap does for a table nobody is using. */
static void clear_what_the_dead_left(void)
{
	for (uint64_t i = 0; i < table.slab_count; i++) {
		for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
			atomic_store(&table.slabs[i].claims[w], 0);
		atomic_store(&table.slabs[i].owner, 0);
	}
}

static void check_no_survivor_holds(const uint32_t *numbers)
{
	for (unsigned lane = 0; lane < LANES; lane++)
		for (unsigned port = 0; port < LANE_PORTS; port++)
			for (unsigned i = 0; i < WORKERS; i++)
				if (atomic_load(&shared->places[lane][port].holder) == numbers[i])
					fail("worker %u has not given everything back", numbers[i]);
}

/* One in three reaps, if somebody is to. */
static void (*work_of(unsigned i))(uint32_t)
{
	return flying && i % 3 == 0 ? reap_until_stopped : work_until_stopped;
}

static void kill_round(uint64_t *random)
{
	pid_t children[WORKERS];
	uint32_t numbers[WORKERS], next = 1;

	for (unsigned i = 0; i < WORKERS; i++)
		children[i] = start_process(work_of(i), numbers[i] = next++);
	for (unsigned kills = 0; kills < KILLS; kills++) {
		unsigned i = (unsigned)(fixture_random(random) % WORKERS);

		usleep((unsigned)(fixture_random(random) % 2000));
		if (flying)
			atomic_store(&shared->dying[numbers[i]], 1);
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
		if (!flying)
			bury(numbers[i]);
		children[i] = start_process(work_of(i), numbers[i] = next++);
	}
	atomic_store(&shared->stop, 1);
	for (unsigned i = 0; i < WORKERS; i++)
		await_process(children[i]);
	check_no_survivor_holds(numbers);
}

static void run_killed(unsigned long percent)
{
	uint64_t random = 1, taken = 0, reaped = 0;
	unsigned long rounds = ROUNDS * percent / 100;

	for (unsigned long round = 0; round < (rounds > 0 ? rounds : 1); round++) {
		/* What the dead leave is not out of use for long if it is reaped. */
		begin(flying ? SLABS : KILL_SLABS);
		kill_round(&random);
		if (flying)
			reap_what_was_left();
		else
			clear_what_the_dead_left();
		check_all_is_free();
		reaped += atomic_load(&shared->reaped);
		taken += atomic_load(&shared->taken);
		if (atomic_load(&shared->failures) != 0)
			return;
		end();
	}
	printf("%llu claims by survivors, %llu reaped\n", (unsigned long long)taken,
		(unsigned long long)reaped);
	if (flying && reaped == 0)
		fail("this was no stress");
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	unsigned long percent = stress_percent(argc, argv);

	shared = fixture_shared(sizeof *shared);
	walk = fixture_walk();
	if (strcmp(how, "threads") == 0) {
		run_all(run_threads, percent);
	} else if (strcmp(how, "processes") == 0) {
		run_all(run_processes, percent);
	} else if (strcmp(how, "killed") == 0) {
		run_killed(percent);
	} else if (strcmp(how, "reaped") == 0) {
		flying = true;
		run_all(run_threads_and_reaper, percent / 10 + 1);
		if (atomic_load(&shared->failures) != 0)
			return 1;
		end();
		run_killed(percent / 4 + 1);
	} else if (strcmp(how, "enough") == 0) {
		run_enough(percent);
	} else {
		fprintf(stderr, "usage: stress threads|processes|killed|reaped|enough [percent]\n");
		return 2;
	}
	return atomic_load(&shared->failures) != 0;
}
