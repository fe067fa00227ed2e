/*
 * Threads on what each process keeps for itself: the book of descriptors, the routes that
 * were asked for, the order of ports, the addresses of interfaces.
 *
 *     stress_private book|routes|ports|interfaces [percent]
 *
 * For ThreadSanitizer, and for invariants that do not need it: a record has one owner,
 * a route that is read is one that was written, a port comes of one of two sets, an address of
 * an interface is one that it had.
 */
#include "fixture.h"

/* For the look that is due once a second only. */
#include "choose/interface.c"
#include "choose/source.h"
#include "preload/book.h"
#include "stress_percent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4

static struct table table;
static unsigned long turns;
static _Atomic uint32_t failures;

static void expect(bool good, const char *what)
{
	if (!good && atomic_fetch_add(&failures, 1) < 10)
		fprintf(stderr, "%s\n", what);
}

static void run(void *(*work)(void *))
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		fixture_need(
			pthread_create(&threads[i], NULL, work, (void *)i) == 0, "pthread_create");
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* The book. */

/* One that all threads use, and nobody closes. */
#define COMMON_FD 5

static void use_own(int fd, int other)
{
	struct record *r, *again;
	enum sock_kind kind;

	book_note_socket(&table, fd, KIND_TCP4);
	r = book_record(fd, KIND_TCP4);
	expect(r != NULL, "no record");
	book_duplicate(&table, fd, other);
	again = book_find(other, &kind);
	expect(again == r && kind == KIND_TCP4, "the duplicate leads elsewhere");
	expect(atomic_load(&r->descriptors) == 2, "the record has not two descriptors");
	expect(book_remove(fd) == NULL, "the record is gone with the first of two");
	book_settle(&table, book_remove(other));
	expect(!book_has(fd) && !book_has(other), "something is left");
}

static void *use_book(void *argument)
{
	int base = 100 + 1000 * (int)(uintptr_t)argument;

	for (unsigned long i = 0; i < turns; i++) {
		enum sock_kind kind;
		struct record *r = book_record(COMMON_FD, KIND_TCP6);

		expect(r != NULL && book_find(COMMON_FD, &kind) == r, "two records of one");
		use_own(base + (int)(i % 900), base + 901);
		if (i % 100 == 0)
			book_forked();
	}
	return NULL;
}

static void stress_book(void)
{
	book_start(book_start_copy);
	run(use_book);
	expect(atomic_load(&book_record(COMMON_FD, KIND_TCP6)->descriptors) == 1,
		"the common descriptor is counted twice");
	book_settle(&table, book_remove(COMMON_FD));
}

/* Routes. On the loopback each address of 127/8 is its own best source, or 127.0.0.1 is. */

static struct source_memory *memory;

static void *use_routes(void *argument)
{
	static struct rule automatic;
	uint64_t random = (uintptr_t)argument;

	for (unsigned long i = 0; i < turns; i++) {
		struct source_walk w;
		struct addr to, from;

		addr_parse("127.0.0.1", &to);
		/* As many destinations as there are places: they push each other out. */
		to.bytes[14] = (uint8_t)(fixture_random(&random) % 8);
		to.bytes[15] = (uint8_t)(fixture_random(&random) | 1);
		source_walk_start(&w, memory, &automatic, BALANCE_ROTATE, &to, IPPROTO_TCP, 80);
		if (!source_walk_next(&w, &from))
			continue; /* no descriptor left to ask with */
		expect(addr_is_v4(&from) && from.bytes[12] == 127 && from.scope == 0,
			"a route that nobody wrote");
		if (i % 50 == 0)
			source_walk_failed(&w);
	}
	return NULL;
}

static void stress_routes(void)
{
	memory = fixture_shared(sizeof *memory);
	source_start(memory, 0);
	run(use_routes);
}

/* Ports. */

static struct portorder *order;
static struct portset low, high;

static void *use_ports(void *argument)
{
	struct tuplebind_lane lane = fixture_lane((unsigned)(uintptr_t)argument);
	struct claim_walk *walk = fixture_walk();
	struct portset none;

	portset_clear(&none);
	for (unsigned long i = 0; i < turns; i++) {
		uint16_t port;
		claim c;

		if (argument == NULL && i % 16 == 0)
			portorder_set(order, &table.permutation, i % 32 ? &low : &high, &none);
		if (claim_take(&table, &lane, order, STAGE_LATE, walk, 0, &c, &port) < 0)
			continue;
		expect(portset_has(&low, port) || portset_has(&high, port),
			"a port of neither set");
		expect(claim_give_back(&table, c), "a claim that was not there");
	}
	free(walk);
	return NULL;
}

static void stress_ports(void)
{
	portset_add_range(&low, 1000, 1999);
	portset_add_range(&high, 1500, 2499);
	order = fixture_order_of(&table, &low);
	run(use_ports);
	free(order);
	expect(fixture_claims(&table) == 0, "claims are left");
}

/* Interfaces. One thread looks, and finds now the loopback's addresses, now more, now none. */

static struct interface *interface;
static struct addr home;

static void change_and_look(unsigned long turn)
{
	unsigned side = (unsigned)(atomic_load(&interface->version) + 1) % 2;
	unsigned count = (unsigned)(turn % 3 * (turn % 500));

	if (!make_room(interface, count, side))
		abort();
	for (unsigned n = 0; n < count; n++) {
		interface->found[n] = home;
		interface->found[n].bytes[15] = (uint8_t)(n % 251 + 1);
		/* So that half of an address would be seen: all of its bytes are of one turn. */
		memset(interface->found[n].bytes + 13, interface->found[n].bytes[15], 2);
	}
	write_block(atomic_load(&interface->blocks[side]), interface->found, count);
	atomic_fetch_add_explicit(&interface->version, 1, memory_order_release);
}

static void *use_interface(void *argument)
{
	struct addr a;

	for (unsigned long i = 0; i < turns; i++) {
		if (argument == NULL) {
			change_and_look(i);
			continue;
		}
		uint64_t count = interface_count(interface, &home);

		expect(count < 1000, "a count that there never was");
		if (!interface_at(interface, &home, count ? i % count : 0, &a))
			continue;
		expect(addr_is_v4(&a) && a.bytes[12] == 127 && a.bytes[13] == a.bytes[15] &&
				a.bytes[14] == a.bytes[15] && a.scope == 0,
			"an address that there never was");
	}
	return NULL;
}

static void stress_interfaces(void)
{
	struct fault f;

	addr_parse("127.0.0.1", &home);
	interface = interface_get("lo", &f);
	fixture_need(interface != NULL, f.text);
	/* What it really has goes. */
	change_and_look(1);
	run(use_interface);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	unsigned long percent = stress_percent(argc, argv);

	fixture_table(&table, 0);
	if (strcmp(how, "book") == 0) {
		turns = 8000 * percent;
		stress_book();
	} else if (strcmp(how, "routes") == 0) {
		turns = 2000 * percent;
		stress_routes();
	} else if (strcmp(how, "ports") == 0) {
		turns = 2000 * percent;
		stress_ports();
	} else if (strcmp(how, "interfaces") == 0) {
		turns = 2000 * percent;
		stress_interfaces();
	} else {
		fprintf(stderr, "usage: stress_private book|routes|ports|interfaces [percent]\n");
		return 2;
	}
	return atomic_load(&failures) != 0;
}
