/*
 * The local addresses a connect() tries: all of the pool once, from where the balance
 * says; without a pool the one that routing chooses; not those that were set aside.
 */
#include "choose/source.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <string.h>

static struct source_memory *memory;
static struct rule rule;
static struct addr to;

static void setup(void)
{
	memory = fixture_shared(sizeof *memory);
	source_start(memory, 7);
	addr_parse("192.0.2.1", &to);
}

static void teardown(void)
{
	pool_free(&rule.pool);
}

TestSuite(source, .init = setup, .fini = teardown);

static void use_pool(const char *list)
{
	struct fault f;

	pool_free(&rule.pool);
	cr_assert_eq(pool_parse(list, &rule.pool, &f), 0, "%s", f.text);
}

/* The last bytes of the addresses of one walk, as text: "1 2 3 ". */
static const char *walk(enum balance balance)
{
	static char all[256];
	struct source_walk w;
	struct addr a;
	size_t length = 0;

	all[0] = '\0';
	source_walk_start(&w, memory, &rule, balance, &to, IPPROTO_TCP, 80);
	while (source_walk_next(&w, &a) && length < sizeof all - 8)
		length += (size_t)sprintf(all + length, "%u ", a.bytes[15]);
	return all;
}

/* The last byte of the first address. */
static unsigned first(enum balance balance)
{
	struct source_walk w;
	struct addr a = {.scope = 0};

	source_walk_start(&w, memory, &rule, balance, &to, IPPROTO_TCP, 80);
	cr_assert(source_walk_next(&w, &a));
	return a.bytes[15];
}

static void set_aside(const char *text)
{
	struct source_walk w;
	struct addr a, step;

	addr_parse(text, &a);
	source_walk_start(&w, memory, &rule, BALANCE_PACK, &to, IPPROTO_TCP, 80);
	while (source_walk_next(&w, &step))
		if (addr_equal(&step, &a))
			source_walk_failed(&w);
}

Test(source, pack_begins_with_the_first_always)
{
	use_pool("10.0.0.1-10.0.0.4");
	for (int i = 0; i < 10; i++)
		cr_expect_str_eq(walk(BALANCE_PACK), "1 2 3 4 ");
}

Test(source, rotate_is_even)
{
	unsigned counts[5] = {0};

	use_pool("10.0.0.0-10.0.0.4");
	for (int i = 0; i < 500; i++)
		counts[first(BALANCE_ROTATE)]++;
	for (int i = 0; i < 5; i++)
		cr_expect_eq(counts[i], 100);
}

/* Were there one turn for all, two destinations met alternately would see half of the pool each. */
Test(source, rotate_is_even_for_each_destination)
{
	unsigned counts[3][6] = {{0}};

	use_pool("10.0.0.0-10.0.0.5");
	for (int i = 0; i < 1800; i++) {
		to.bytes[15] = (uint8_t)(i % 3);
		counts[i % 3][first(BALANCE_ROTATE)]++;
	}
	for (int i = 0; i < 18; i++)
		cr_expect_eq(counts[i / 6][i % 6], 100);
}

Test(source, rotate_is_even_over_many_destinations_met_once)
{
	unsigned counts[7] = {0};

	use_pool("10.0.0.0-10.0.0.6");
	for (unsigned i = 0; i < 7000; i++) {
		to.bytes[14] = (uint8_t)(i / 256);
		to.bytes[15] = (uint8_t)i;
		counts[first(BALANCE_ROTATE)]++;
	}
	/* A destination whose place in the memory is another's by chance takes up that one's turn
	 * no more. */
	for (int i = 0; i < 7; i++)
		cr_expect_eq(counts[i], 1000);
}

Test(source, the_others_share_what_was_set_aside)
{
	unsigned counts[5] = {0};

	use_pool("10.0.0.0-10.0.0.4");
	set_aside("10.0.0.2");
	for (int i = 0; i < 400; i++)
		counts[first(BALANCE_ROTATE)]++;
	cr_expect_eq(counts[2], 0);
	for (int i = 0; i < 5; i++)
		cr_expect(i == 2 || counts[i] == 100, "%d: %u", i, counts[i]);
	memset(counts, 0, sizeof counts);
	for (int i = 0; i < 4000; i++)
		counts[first(BALANCE_RANDOM)]++;
	/* 1,000 each, give or take 27. */
	for (int i = 0; i < 5; i++)
		cr_expect(i == 2 || (counts[i] > 730 && counts[i] < 1270), "%d: %u", i, counts[i]);
}

/* What leaves the pool moves its own destinations and no others. */
Test(source, hash_keeps_the_destinations_of_those_that_stay)
{
	unsigned before[800], moved = 0, had = 0;

	use_pool("10.0.0.0-10.0.0.7");
	for (unsigned i = 0; i < 800; i++) {
		to.bytes[14] = (uint8_t)(i / 256);
		to.bytes[15] = (uint8_t)i;
		before[i] = first(BALANCE_HASH);
	}
	use_pool("10.0.0.4-10.0.0.7,10.0.0.0-10.0.0.2");
	for (unsigned i = 0; i < 800; i++) {
		to.bytes[14] = (uint8_t)(i / 256);
		to.bytes[15] = (uint8_t)i;
		moved += before[i] != 3 && first(BALANCE_HASH) != before[i];
		had += before[i] == 3;
	}
	cr_expect_eq(moved, 0);
	cr_expect_gt(had, 40);
}

Test(source, rotate_begins_where_it_was_told_to)
{
	use_pool("10.0.0.0-10.0.0.4");
	for (unsigned turn = 0; turn < 10; turn++) {
		source_start(memory, turn);
		cr_expect_eq(first(BALANCE_ROTATE), turn % 5);
	}
}

Test(source, rotate_takes_neighbours_in_turn)
{
	unsigned before, next;

	use_pool("10.0.0.0-10.0.0.4");
	before = first(BALANCE_ROTATE);
	for (int i = 0; i < 20; i++) {
		next = first(BALANCE_ROTATE);
		cr_expect_eq(next, (before + 1) % 5);
		before = next;
	}
}

Test(source, random_is_roughly_even)
{
	unsigned counts[4] = {0}, repeats = 0, before = 9;

	use_pool("10.0.0.0-10.0.0.3");
	for (int i = 0; i < 4000; i++) {
		unsigned now = first(BALANCE_RANDOM);

		counts[now]++;
		repeats += now == before;
		before = now;
	}
	/* 1,000 expected of each, give or take 27; ten times that is out of the question. */
	for (int i = 0; i < 4; i++) {
		cr_expect_gt(counts[i], 730);
		cr_expect_lt(counts[i], 1270);
	}
	cr_expect_gt(repeats, 730, "each is drawn anew");
	cr_expect_lt(repeats, 1270);
}

Test(source, hash_is_the_destinations_own)
{
	unsigned counts[8] = {0};

	use_pool("10.0.0.0-10.0.0.7");
	for (unsigned i = 0; i < 800; i++) {
		struct source_memory *mine = memory;
		unsigned here;

		to.bytes[14] = (uint8_t)(i / 256);
		to.bytes[15] = (uint8_t)i;
		here = first(BALANCE_HASH);
		counts[here]++;
		cr_assert_eq(first(BALANCE_HASH), here);
		/* Another process agrees. */
		memory = calloc(1, sizeof *memory);
		source_start(memory, i);
		cr_assert_eq(first(BALANCE_HASH), here);
		free(memory);
		memory = mine;
	}
	for (int i = 0; i < 8; i++)
		cr_expect_gt(counts[i], 40, "%u of 800", counts[i]);
}

Test(source, every_balance_goes_through_the_whole_pool_once)
{
	static const enum balance balances[] = {
		BALANCE_ROTATE, BALANCE_RANDOM, BALANCE_HASH, BALANCE_PACK};

	use_pool("10.0.0.1,10.0.0.5-10.0.0.6,10.0.0.9");
	for (size_t b = 0; b < sizeof balances / sizeof balances[0]; b++) {
		char twice[64];

		/* Some rotation of the pool's order. */
		for (int i = 0; i < 20; i++) {
			const char *got = walk(balances[b]);

			strcpy(twice, "1 5 6 9 1 5 6 9 ");
			cr_expect_eq(strlen(got), 8);
			cr_expect_not_null(strstr(twice, got), "%s", got);
		}
	}
}

Test(source, what_does_not_go_with_the_destination_is_left_out)
{
	use_pool("10.0.0.1,127.0.0.9,2001:db8::5,10.0.0.2");
	cr_expect_str_eq(walk(BALANCE_PACK), "1 2 ");
	addr_parse("127.0.0.1", &to);
	cr_expect_str_eq(walk(BALANCE_PACK), "9 ");
}

Test(source, what_was_set_aside_is_left_out)
{
	use_pool("10.0.0.1-10.0.0.4");
	set_aside("10.0.0.2");
	cr_expect_str_eq(walk(BALANCE_PACK), "1 3 4 ");
	set_aside("10.0.0.1");
	cr_expect_str_eq(walk(BALANCE_PACK), "3 4 ");
	set_aside("10.0.0.3");
	set_aside("10.0.0.4");
	cr_expect_str_eq(walk(BALANCE_PACK), "");
}

Test(source, a_pool_too_large_to_walk_through_ends)
{
	struct source_walk w;
	struct addr a;
	unsigned steps = 0;

	use_pool("10.0.0.0/8");
	source_walk_start(&w, memory, &rule, BALANCE_RANDOM, &to, IPPROTO_TCP, 80);
	while (source_walk_next(&w, &a))
		steps++;
	cr_expect_gt(steps, 1000);
	cr_expect_leq(steps, 65536);
}

/* The loopback address as destination: every machine has a route to it, from itself. */
static struct addr loopback;

static void go_to_loopback(const char *pool)
{
	addr_parse("127.0.0.1", &loopback);
	to = loopback;
	use_pool(pool);
}

/* Begins a walk and takes its first step. */
static struct addr first_step(struct source_walk *w)
{
	struct addr a = {.scope = 0};

	source_walk_start(w, memory, &rule, BALANCE_ROTATE, &to, IPPROTO_TCP, 80);
	cr_assert(source_walk_next(w, &a));
	return a;
}

Test(source, without_a_pool_routing_chooses)
{
	struct source_walk w;
	struct addr a;

	go_to_loopback("auto");
	for (int i = 0; i < 3; i++) {
		a = first_step(&w);
		cr_expect(addr_equal(&a, &loopback));
		cr_expect_not(source_walk_next(&w, &a), "there is one answer only");
	}
}

Test(source, without_an_address_that_goes_with_it_routing_chooses)
{
	struct source_walk w;
	struct addr a;

	go_to_loopback("10.0.0.1,2001:db8::5");
	a = first_step(&w);
	cr_expect(addr_equal(&a, &loopback));
}

/* Writes @laddr where the route is remembered, to be had for ever. */
static void rewrite_remembered(const struct addr *laddr)
{
	for (unsigned i = 0; i < SOURCE_ROUTES; i++) {
		struct source_route *r = &memory->routes[i];

		if (atomic_load(&r->sequence) == 0)
			continue;
		memcpy((void *)&r->words[2], laddr->bytes, 16);
		atomic_store(&r->words[5], UINT64_MAX);
	}
}

Test(source, a_route_is_remembered_until_it_fails)
{
	struct source_walk w;
	struct addr other, a;

	addr_parse("127.0.0.77", &other);
	go_to_loopback("auto");
	first_step(&w);
	rewrite_remembered(&other);
	a = first_step(&w);
	cr_expect(addr_equal(&a, &other), "remembered");
	source_walk_failed(&w);
	a = first_step(&w);
	cr_expect(addr_equal(&a, &loopback), "asked anew");
}

/* A writer that was interrupted for good, as in a child forked in the middle of it. */
Test(source, a_half_written_route_is_done_without)
{
	struct source_walk w;
	struct addr a;

	go_to_loopback("auto");
	for (unsigned i = 0; i < SOURCE_ROUTES; i++)
		atomic_store(&memory->routes[i].sequence, 1);
	a = first_step(&w);
	cr_expect(addr_equal(&a, &loopback));
}
